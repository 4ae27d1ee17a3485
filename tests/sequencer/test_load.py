"""Loading and advancing: every way to a revision's state gives the same state, and no damage goes unnamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.ledger.envelope import parse_event
from springline.paths import ObjectPath
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_event
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.published.bases import write_base
from springline.published.files import TablePaths
from springline.published.load import LoadedState, advance, deltas_between, load_state, read_rows
from springline.published.manifest import BaseSnapshot, Delta, Manifest
from springline.storage.damage import DamagedObject
from springline.storage.faults import Decision, FaultyStore, OperationKind, on
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore, StoreRetry
from tests.sequencer.projections import Publisher, bodies_of_runs, golden_rows
from tests.support.sequencer_world import CONFIG, NOW_MS, SCOPE, event_id, scoped

RUN_EVENTS = 6


def files_of(manifest: Manifest) -> Iterator[str]:
    """Yield the paths of all files that loading a manifest reads."""
    layers: list[BaseSnapshot | Delta] = [manifest.base_snapshot, *manifest.l0_deltas]
    for layer in layers:
        yield from (file.path for file in layer.files())
        yield from (file.path for file in layer.all_buckets())
    for delta in manifest.l0_deltas:
        yield from (file.path for file in delta.all_deletions())


async def several_revisions(store: ObjectStore) -> Publisher:
    """Publish bases, deltas and merged deltas: the last revision has a base and two deltas."""
    publisher = Publisher(store)
    bodies = bodies_of_runs(8)
    steps: list[dict[str, Any]] = [{"base": True}, {}, {}, {"merge": 1}, {}, {"base": True}, {}, {}]
    for number, step in enumerate(steps):
        cut = bodies[number * RUN_EVENTS : (number + 1) * RUN_EVENTS]
        await publisher.publish(cut, **step)
    return publisher


def check_loaded(loaded: LoadedState, publisher: Publisher) -> None:
    assert golden_rows(loaded.state) == golden_rows(publisher.state)
    assert loaded.digest == publisher.digest
    assert loaded.digest.buckets_changed() == {}
    assert loaded.state.last_event_id == publisher.state.last_event_id


async def test_a_loaded_state_is_the_published_one(store: ObjectStore) -> None:
    publisher = await several_revisions(store)
    loaded = await load_state(store, publisher.manifest, CONFIG, verify=True)
    check_loaded(loaded, publisher)
    more = [parse_event(body) for body in bodies_of_runs(1, first=900)]
    for event in more:
        assert fold_event(loaded.state, event) == fold_event(publisher.state, event)
    assert golden_rows(loaded.state) == golden_rows(publisher.state)


async def test_rows_can_be_had_without_a_state(store: ObjectStore) -> None:
    publisher = await several_revisions(store)
    rows = await read_rows(store, publisher.manifest, tables=["runs", "catalog_run_index"])
    expected = golden_rows(publisher.state)
    assert sorted(rows["runs"].values()) == expected["runs"]
    assert {name for name in TABLES if rows[name]} <= {"runs", "catalog_run_index"}


async def test_what_the_reference_would_publish_is_loaded_by_its_rules(store: ObjectStore) -> None:
    publisher = await several_revisions(store)
    foreign = msgspec.structs.replace(publisher.manifest, springline=None)
    loaded = await load_state(store, foreign, CONFIG)
    check_loaded(loaded, publisher)
    bare = msgspec.structs.replace(
        foreign,
        schema_version=1,
        base_snapshot=msgspec.structs.replace(
            foreign.base_snapshot,
            tables=msgspec.structs.replace(
                foreign.base_snapshot.tables, runs=next(foreign.base_snapshot.tables.files()).path
            ),
        ),
    )
    check_loaded(await load_state(store, bare, CONFIG), publisher)


async def test_the_frontier_of_retention_comes_back() -> None:
    store = scoped(MemoryStore())
    publisher = await several_revisions(store)
    assert publisher.manifest.springline is not None
    section = msgspec.structs.replace(publisher.manifest.springline, retention_frontier_ms=17)
    manifest = msgspec.structs.replace(publisher.manifest, springline=section)
    assert (await load_state(store, manifest, CONFIG)).state.frontier_ms == 17


async def test_loading_lists_nothing_and_reads_together() -> None:
    store = FaultyStore(MemoryStore(), latency=0.002)
    publisher = await several_revisions(scoped(store))
    store.forget()
    await load_state(scoped(store), publisher.manifest, CONFIG)
    files = list(files_of(publisher.manifest))
    assert store.count(OperationKind.GET) == store.count() == len(files)
    assert store.steps["main"] <= 3


async def test_every_damaged_file_is_named() -> None:
    store = MemoryStore()
    publisher = await several_revisions(scoped(store))
    files = list(files_of(publisher.manifest))
    assert len(files) > 25
    for path in files:
        full = SCOPE.full(ObjectPath(path))
        good = store.objects[full].data
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 1
        for bad in (bytes(flipped), good[:-1], b"", good + b"\0", None):
            store.remove(full) if bad is None else store.seed(full, bad)
            with pytest.raises(DamagedObject) as caught:
                await load_state(scoped(store), publisher.manifest, CONFIG)
            assert caught.value.path == path
            assert "rebuild" in caught.value.remedy
            store.seed(full, good)
    await load_state(scoped(store), publisher.manifest, CONFIG)


async def test_a_file_whose_hash_nobody_knows_is_still_looked_at() -> None:
    store = MemoryStore()
    publisher = await several_revisions(scoped(store))
    bare = msgspec.structs.replace(
        publisher.manifest,
        springline=None,
        l0_deltas=[],
        l0_count=0,
        base_snapshot=msgspec.structs.replace(publisher.manifest.base_snapshot, tables=TablePaths(runs="runs.parquet")),
    )
    with pytest.raises(DamagedObject, match=r"runs\.parquet is missing"):
        await load_state(scoped(store), bare, CONFIG)
    store.seed(SCOPE.full(ObjectPath("runs.parquet")), b"PAR1 no table PAR1")
    with pytest.raises(DamagedObject, match=r"runs\.parquet cannot be read"):
        await load_state(scoped(store), bare, CONFIG)


async def test_files_that_give_another_state_than_recorded_are_found() -> None:
    store = scoped(MemoryStore())
    publisher = await several_revisions(store)
    ours = publisher.manifest.springline
    assert ours is not None
    tables = dict(ours.digest.tables)
    tables["runs"] = msgspec.structs.replace(tables["runs"], rows=tables["runs"].rows + 1)
    wrong = msgspec.structs.replace(ours, digest=msgspec.structs.replace(ours.digest, tables=tables))
    with pytest.raises(DamagedObject, match=r"runs has \d+ rows, not \d+"):
        await load_state(store, msgspec.structs.replace(publisher.manifest, springline=wrong), CONFIG)
    tables["runs"] = msgspec.structs.replace(ours.digest.tables["runs"], sum="0" * 32)
    wrong = msgspec.structs.replace(ours, digest=msgspec.structs.replace(ours.digest, tables=tables))
    with pytest.raises(DamagedObject, match="runs do not add up"):
        await load_state(store, msgspec.structs.replace(publisher.manifest, springline=wrong), CONFIG)


async def test_verifying_looks_at_the_rows_themselves() -> None:
    store = scoped(MemoryStore())
    publisher = Publisher(store)
    await publisher.publish(bodies_of_runs(1), base=True)
    other = State(CONFIG)
    for body in bodies_of_runs(1, tasks=("extract", "store")):
        fold_event(other, parse_event(body))
    base = await write_base(store, event_id(5000), other, publisher.digest, published_ms=NOW_MS)
    manifest = msgspec.structs.replace(publisher.manifest, base_snapshot=base)
    await load_state(store, manifest, CONFIG)
    with pytest.raises(DamagedObject, match="rows of tasks are others"):
        await load_state(store, manifest, CONFIG, verify=True)


async def test_a_fault_of_the_store_passes_through() -> None:
    store = FaultyStore(MemoryStore())
    publisher = await several_revisions(scoped(store))
    for nth in range(len(list(files_of(publisher.manifest)))):
        store.hook = on(lambda operation: operation.kind is OperationKind.GET, Decision.FAIL_BEFORE, nth=nth)
        with pytest.raises(StoreRetry):
            await load_state(scoped(store), publisher.manifest, CONFIG)


steps = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from(["append", "append", "merge1", "merge2", "base", "no bridge"])),
    min_size=2,
    max_size=6,
)


@settings(max_examples=12, deadline=None)
@given(steps)
async def test_a_state_advances_from_any_revision_to_any_later_one(rounds: list[tuple[int, str]]) -> None:
    store = scoped(MemoryStore())
    publisher = Publisher(store)
    bodies = bodies_of_runs(15)
    states: list[dict[str, object]] = []
    at = 0
    for size, form in rounds:
        base = form in ("base", "no bridge") or at == 0
        merge = 0 if base or not form.startswith("merge") else int(form[-1])
        if merge > (len(publisher.manifest.l0_deltas) if publisher.manifests else 0):
            merge = 0
        await publisher.publish(bodies[at : at + size], base=base, merge=merge, bridge=form != "no bridge")
        at += size
        states.append(dict(golden_rows(publisher.state)))
    for start, known in enumerate(publisher.manifests):
        for end, wanted in enumerate(publisher.manifests):
            loaded = await load_state(store, known, CONFIG)
            came = await advance(store, loaded.state, loaded.digest, known, wanted) is not None
            blocked = any(form == "no bridge" for _, form in rounds[start + 1 : end + 1]) or end < start
            assert came is not blocked
            if came:
                assert golden_rows(loaded.state) == states[end]
                assert wanted.springline is not None
                assert loaded.digest.whole() == wanted.springline.digest.whole
                assert loaded.state.last_event_id == wanted.watermarks.last_committed_event_id


async def test_an_advanced_state_can_be_folded_on() -> None:
    store = scoped(MemoryStore())
    publisher = await several_revisions(store)
    loaded = await load_state(store, publisher.manifests[1], CONFIG)
    loaded.state.tracking = True
    assert await advance(store, loaded.state, loaded.digest, publisher.manifests[1], publisher.manifest)
    assert loaded.state.changes() == {}
    before = golden_rows(loaded.state)
    for body in bodies_of_runs(1, first=900):
        assert fold_event(loaded.state, parse_event(body)) == fold_event(publisher.state, parse_event(body))
    assert loaded.state.changes() == publisher.state.changes()
    loaded.state.rollback()
    assert golden_rows(loaded.state) == before


async def test_advancing_reads_only_what_is_new() -> None:
    store = FaultyStore(MemoryStore())
    publisher = await several_revisions(scoped(store))
    known = publisher.manifests[-2]
    loaded = await load_state(scoped(store), known, CONFIG)
    store.forget()
    assert await advance(scoped(store), loaded.state, loaded.digest, known, publisher.manifest)
    delta = publisher.manifest.l0_deltas[-1]
    assert store.count() == store.count(OperationKind.GET) == len(list(delta.files())) + len(delta.all_deletions())
    store.forget()
    assert await advance(scoped(store), loaded.state, loaded.digest, publisher.manifest, publisher.manifest) == 0
    assert store.count() == 0


async def test_too_far_back_or_a_missing_predecessor_is_loaded_anew() -> None:
    store = MemoryStore()
    publisher = await several_revisions(scoped(store))
    known, wanted = publisher.manifests[0], publisher.manifest
    deltas = await deltas_between(scoped(store), known, wanted)
    assert deltas is not None
    assert await deltas_between(scoped(store), known, wanted, most=1) is None
    assert wanted.previous_manifest_path is not None
    path = SCOPE.full(ObjectPath(wanted.previous_manifest_path))
    store.seed(path, store.objects[path].data[:100])
    assert await deltas_between(scoped(store), known, wanted) is None
    store.remove(path)
    assert await deltas_between(scoped(store), known, wanted) is None


async def test_another_lineage_is_loaded_anew() -> None:
    store = scoped(MemoryStore())
    publisher = await several_revisions(store)
    known, wanted = publisher.manifests[-2], publisher.manifest
    foreign = msgspec.structs.replace(wanted, springline=None)
    assert await deltas_between(store, known, foreign) is None
    assert await deltas_between(store, foreign, wanted) is None
    ours = wanted.springline
    assert ours is not None
    config = msgspec.structs.replace(ours.config, fingerprint="0" * 64)
    other = msgspec.structs.replace(wanted, springline=msgspec.structs.replace(ours, config=config))
    assert await deltas_between(store, known, other) is None
    twin = msgspec.structs.replace(known, revision_ulid=event_id(7777))
    assert await deltas_between(store, twin, wanted) is not None, "the base is the same; the digest decides"
    assert await deltas_between(store, twin, known) is None


async def test_a_wrong_lineage_is_seen_by_its_digest() -> None:
    """A delta that both know the name of, but that is not what the state in memory has."""
    store = scoped(MemoryStore())
    publisher = await several_revisions(store)
    known, wanted = publisher.manifests[-3], publisher.manifest
    loaded = await load_state(store, known, CONFIG)
    skipped: list[Delta] = wanted.l0_deltas[:1]
    pretending = msgspec.structs.replace(known, l0_deltas=skipped, l0_count=1)
    assert await advance(store, loaded.state, loaded.digest, pretending, wanted) is None


async def test_a_failed_read_leaves_the_state_as_it_was() -> None:
    store = FaultyStore(MemoryStore())
    publisher = await several_revisions(scoped(store))
    known = publisher.manifests[-3]
    loaded = await load_state(scoped(store), known, CONFIG)
    before, digest = golden_rows(loaded.state), loaded.digest.copy()
    store.hook = on(lambda operation: operation.kind is OperationKind.GET, Decision.FAIL_BEFORE, nth=3)
    with pytest.raises(StoreRetry):
        await advance(scoped(store), loaded.state, loaded.digest, known, publisher.manifest)
    assert golden_rows(loaded.state) == before
    assert loaded.digest == digest == Digest.of({name: loaded.state.rows(name) for name in TABLES})
    assert await advance(scoped(store), loaded.state, loaded.digest, known, publisher.manifest)
