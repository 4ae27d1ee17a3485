"""One state for one set of events: any order, any batches, duplicates, merges, crashes and restarts.

See docs/protocol.md#state-of-a-set.
"""

from __future__ import annotations

import asyncio
from itertools import islice, permutations
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.ledgers import realistic_ledger
from springline.ledger.envelope import parse_event
from springline.paths import Scope, canonical_ulid_event
from springline.projection.config import FoldConfig
from springline.projection.schema import OWN_TABLES, REFERENCE_TABLES
from springline.published import merge
from springline.published.head import read_head
from springline.published.load import load_state
from springline.published.manifest import decode_manifest
from springline.storage.faults import Decision, FaultyStore, ProcessDied, plan
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from springline.ulids import is_canonical_ulid
from tests.support.ledgers import SECRET, TENANT, WORKSPACE, adversarial_ledger, bodies_of
from tests.support.sequencer_world import CONFIG, SCOPE, body_of, linear_run
from tests.support.sequencing import Sequencing, in_order

ADVERSARIAL = FoldConfig(TENANT, WORKSPACE, SECRET)
RETAINING = FoldConfig(TENANT, WORKSPACE, SECRET, retention_days=10)


def seeded(bodies: list[bytes], scope: Scope) -> tuple[MemoryStore, list[str]]:
    """Return a store with the events as another implementation would have left them, and their paths."""
    store = MemoryStore()
    paths = []
    for body in bodies:
        path = canonical_ulid_event(parse_event(body).event_id)
        store.seed(scope.full(path), body)
        paths.append(str(path))
    return store, paths


async def loaded_digest(store: MemoryStore, scope: Scope, config: FoldConfig) -> str:
    """Return the digest of what a cold reader loads, every row of it digested anew."""
    view = ScopedStore(store, scope)
    head = await read_head(view)
    assert head is not None
    loaded = await load_state(view, head.manifest, config, verify=True)
    return loaded.digest.whole()


def batches(rnd: Random, paths: list[str]) -> list[list[str]]:
    """Return the paths shuffled, some of them twice, in batches of any size."""
    listed = paths + rnd.sample(paths, k=len(paths) // 5)
    if rnd.random() < 0.8:
        rnd.shuffle(listed)
    cuts = sorted(rnd.sample(range(1, len(listed)), k=min(len(listed) - 1, rnd.randint(0, 7)))) if listed[1:] else []
    return [listed[start:end] for start, end in zip([0, *cuts], [*cuts, len(listed)], strict=True)]


@pytest.mark.usefixtures("small_merges")
@pytest.mark.parametrize("config", [ADVERSARIAL, RETAINING], ids=["keeps all", "prunes"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), events=st.integers(1, 120), crashes=st.integers(0, 4))
def test_every_way_gives_the_in_order_fold(config: FoldConfig, seed: int, events: int, crashes: int) -> None:
    asyncio.run(any_way(config, seed, events, crashes))


async def any_way(config: FoldConfig, seed: int, events: int, crashes: int) -> None:
    rnd = Random(seed)
    days = 90.0 if config.retention_days is not None else 0.02
    bodies = [
        one for one in bodies_of(adversarial_ledger(rnd, events, days)) if is_canonical_ulid(parse_event(one).event_id)
    ]
    if not bodies:
        return
    scope = Scope(config.tenant, config.workspace)
    store, paths = seeded(bodies, scope)
    sequencing = Sequencing(ScopedStore(store, scope), config)
    for batch in batches(rnd, paths):
        for _ in range(rnd.randint(0, crashes)):
            dying = FaultyStore(store, hook=plan({rnd.randint(0, 40): rnd.choice(_DEATHS)}))
            sequencing.process(ScopedStore(dying, scope))
            try:
                await sequencing.ingest(batch)
            except ProcessDied:
                dying.hook = None
                for late in dying.late:
                    await late.deliver()
            sequencing.process(ScopedStore(store, scope))
        await sequencing.ingest(batch)
    expected = in_order(bodies, config)
    assert await loaded_digest(store, scope, config) == expected.whole()


async def forward(seed: int) -> None:
    """Take a pipeline's events in as they come, in batches, each by a process that remembers nothing."""
    bodies = realistic_ledger(seed, 400)
    store, paths = seeded(bodies, SCOPE)
    sequencing = Sequencing(ScopedStore(store, SCOPE), CONFIG)
    for start in range(0, len(paths), 40):
        sequencing.process()
        await sequencing.ingest(paths[start : start + 40])
    assert "delta" in sequencing.kinds
    assert await loaded_digest(store, SCOPE, CONFIG) == in_order(bodies, CONFIG).whole()


def test_batches_as_they_come_to_a_worker_that_remembers_nothing() -> None:
    asyncio.run(forward(11))


_DEATHS = [Decision.DIE_BEFORE, Decision.DIE_AFTER, Decision.DIE_LATE]

RUN = [body_of(number, data) for number, data in enumerate(linear_run("r", ["a", "b"]))]
"""Six events: run, plan, and both tasks started and finished."""
SPLITS = [[1, 5], [2, 2, 2]]


async def _in_order_of(order: tuple[int, ...], sizes: list[int]) -> str:
    store, paths = seeded(RUN, SCOPE)
    sequencing = Sequencing(ScopedStore(store, SCOPE), CONFIG)
    at = 0
    for size in sizes:
        await sequencing.ingest([paths[place] for place in order[at : at + size]])
        at += size
    assert sequencing.digest is not None
    return sequencing.digest


def all_splits(length: int) -> list[list[int]]:
    """Return every way to cut a sequence into batches."""
    if length == 0:
        return [[]]
    return [[first, *rest] for first in range(1, length + 1) for rest in all_splits(length - first)]


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_every_fifth_permutation_of_a_run(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "MIN_BASE_ROWS", 8)
    expected = in_order(RUN, CONFIG).state()

    async def orders() -> set[str]:
        return {await _in_order_of(order, sizes) for order in islice(permutations(range(6)), None, None, 5)}

    assert asyncio.run(orders()) == {expected}


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("base_rows", [4, 8, 12, 20_000])
def test_all_permutations_all_splits_all_boundaries(base_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "MIN_BASE_ROWS", base_rows)
    expected = in_order(RUN, CONFIG).state()

    async def all_of_them() -> set[str]:
        return {await _in_order_of(order, sizes) for order in permutations(range(6)) for sizes in all_splits(6)}

    assert asyncio.run(all_of_them()) == {expected}


def test_the_ways_are_not_all_alike() -> None:
    """The other tests mean something only if bases, refolds and deltas really come about."""

    async def kinds() -> list[str]:
        store, paths = seeded(RUN, SCOPE)
        sequencing = Sequencing(ScopedStore(store, SCOPE), CONFIG)
        for path in [paths[0], paths[2], paths[1]]:
            await sequencing.ingest([path])
        head = await read_head(ScopedStore(store, SCOPE))
        assert head is not None
        assert decode_manifest(store.objects[SCOPE.full(head.manifest_path)].data, "x").springline is not None
        return sequencing.kinds

    assert asyncio.run(kinds()) == ["delta", "delta", "refold"]
    assert (len(REFERENCE_TABLES), len(OWN_TABLES)) == (17, 10)
