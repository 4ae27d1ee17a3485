"""The law that sharded rebuilds rest on: folding shards apart and merging them is folding everything.

See docs/protocol.md#state-of-a-set.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.ledgers import realistic_ledger
from springline.ledger.envelope import parse_event
from springline.ledger.events import TaskCompletionRecorded, TaskFinished
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import EventOutcome
from springline.projection.schema import PARTITION_STATUS, TABLES, Row
from springline.projection.sharding import Links, RoutedEvent, RoutedPayload, links_of, owner_of, routed_of, shard_of
from springline.projection.state import State
from springline.rebuild.assemble import merge_partition
from tests.support.ledgers import SECRET, TENANT, WORKSPACE, adversarial_ledger, bodies_of, ledgers

CONFIG = FoldConfig(TENANT, WORKSPACE, SECRET)
_KEY = tuple(PARTITION_STATUS.index(name) for name in PARTITION_STATUS.key)


def whole(bodies: list[bytes]) -> State:
    state = State(CONFIG)
    state.fold_all(map(parse_event, bodies))
    return state


def sharded(bodies: list[bytes], shards: int, *, forget: str | None = None) -> tuple[Digest, int]:
    """Fold apart and merge; return the digest, and how many events were not in shard 0.

    `forget`: the rule of oddness to leave out, to see that it is needed.
    """
    events = [parse_event(body) for body in bodies]
    routed = [routed_of(event) for event in events]
    half = len(routed) // 2
    links = links_of(routed[:half])
    links.merge(links_of(routed[half:]))
    placed = Links()
    assert [placed.place(event) for event in events] == [owner_of(one) for one in routed]
    assert placed == links
    odd = frozenset(_without(forget, routed, links))
    rows: dict[str, list[Row]] = {name: [] for name in TABLES}
    partitions: dict[tuple[str, ...], tuple[Row, str]] = {}
    apart = 0
    for number in range(shards):
        state = State(CONFIG)
        materialized: dict[tuple[str, ...], str] = {}
        for event, one in zip(events, routed, strict=True):
            if shard_of(one, odd, shards) != number:
                continue
            apart += number > 0
            data = event.data
            if state.fold(event) is EventOutcome.APPLIED and isinstance(data, TaskFinished | TaskCompletionRecorded):
                partition = data.partition_key
                if partition is None and data.output is not None:
                    partition = data.output.delta_partition
                if data.outcome == "succeeded" and data.asset_key is not None and partition is not None:
                    materialized[data.asset_key, partition] = event.event_id
        for name in TABLES:
            if name != PARTITION_STATUS.name:
                rows[name] += state.rows(name)
        for row in state.rows(PARTITION_STATUS.name):
            key = tuple(str(row[place]) for place in _KEY)
            new = (row, materialized.get(key, ""))
            partitions[key] = merge_partition(partitions[key], new) if key in partitions else new
    rows[PARTITION_STATUS.name] = [row for row, _ in partitions.values()]
    for name, table in TABLES.items() if forget is None else ():
        keys = [table.key_of(row) for row in rows[name]]
        assert len(keys) == len(set(keys)), f"two shards have a row of {name}"
    return Digest.of(rows), apart


def _without(forget: str | None, routed: list[RoutedEvent], links: Links) -> set[str]:
    if forget is None:
        return links.odd
    if forget == "claims":
        keys = (one for one in routed if not one.idempotency_key.startswith("run:"))
        return links_of(keys).odd
    assert forget == "keys"
    return links_of(RoutedEvent(one.event_id, f"plan:{owner_of(one)}", one.data) for one in routed).odd


@pytest.mark.parametrize("rule", ["claims", "keys"])
def test_each_rule_is_needed(rule: str) -> None:
    for seed in range(200):
        bodies = bodies_of(adversarial_ledger(Random(seed), 60))
        state = whole(bodies)
        merged, _ = sharded(bodies, 3, forget=rule)
        if merged.diff(Digest.of({name: state.rows(name) for name in TABLES})):
            return
    pytest.fail(f"nothing shows that {rule} matter")


@settings(max_examples=300, deadline=None)
@given(ledgers(80), st.integers(1, 7))
def test_shards_merge_to_the_whole(events: list[dict[str, object]], shards: int) -> None:
    bodies = bodies_of(events)
    state = whole(bodies)
    merged, _ = sharded(bodies, shards)
    assert merged.diff(Digest.of({name: state.rows(name) for name in TABLES})) == {}


@pytest.mark.parametrize("seed", range(12))
def test_long_adversarial_histories_too(seed: int) -> None:
    bodies = bodies_of(adversarial_ledger(Random(seed), 1_500))
    state = whole(bodies)
    merged, _ = sharded(bodies, 5)
    assert merged.diff(Digest.of({name: state.rows(name) for name in TABLES})) == {}


@pytest.mark.parametrize("seed", [3, 4])
def test_an_orderly_ledger_splits_and_merges(seed: int) -> None:
    bodies = realistic_ledger(seed, 4_000)
    assert CONFIG.tenant == "acme"
    assert CONFIG.workspace == "prod"
    routed = [routed_of(parse_event(body)) for body in bodies]
    odd = frozenset(links_of(routed).odd)
    counts = Counter(shard_of(one, odd, 4) for one in routed)
    assert min(counts[number] for number in range(4)) > len(bodies) / 8, counts
    merged, apart = sharded(bodies, 4)
    state = whole(bodies)
    assert merged.diff(Digest.of({name: state.rows(name) for name in TABLES})) == {}
    assert apart > len(bodies) / 2


def routed(key: str, kind: str, **ids: str) -> RoutedEvent:
    return RoutedEvent("01JHMP8000000000000000000A", key, RoutedPayload(kind, **ids))


STARTED = "task_started"


@pytest.mark.parametrize(
    ("events", "odd"),
    [
        ([routed("started:r1:a:1", STARTED, run_id="r1")], set()),
        ([routed("started:r:1:a:1", STARTED, run_id="r:1")], {"r", "r:1"}),
        ([routed("mine", STARTED, run_id="r1")], {"r1"}),
        ([routed("started:r2:a:1", STARTED, run_id="r1")], {"r1", "r2"}),
        ([routed("finished:r2:a:1", "schedule_ticked")], {"r2"}),
        ([routed("run:k", "run_triggered", run_id="r1"), routed("run:k2", "run_triggered", run_id="r2")], set()),
        ([routed("run:k", "run_triggered", run_id="r1"), routed("run:k", "run_triggered", run_id="r2")], {"r1", "r2"}),
        ([routed("run:k", "run_triggered", run_id="r1"), routed("run:k", "run_requested")], {"r1"}),
        ([routed("dispatch_ack:dispatch:r1:a:1", "dispatch_enqueued", dispatch_id="dispatch:r1:a:1")], set()),
        (
            [routed("dispatch_ack:dispatch:r1:a:1", "dispatch_enqueued", run_id="r2", dispatch_id="dispatch:r1:a:1")],
            {"r1", "r2"},
        ),
        ([routed("dispatch_req:x", "dispatch_requested", run_id="r1", dispatch_id="x")], {"r1"}),
        ([routed("timer_fired:timer:retry:r1:a:1:5", "timer_fired", timer_id="timer:retry:r1:a:1:5")], set()),
        (
            [routed("timer_req:timer:retry:r1:a:1:5", "timer_requested", run_id="r2", timer_id="timer:retry:r1:a:1:5")],
            {"r1", "r2"},
        ),
        ([routed("timer_req:timer:cron:s:5", "timer_requested", timer_id="timer:cron:s:5")], set()),
        ([routed("timer_req:timer:cron:s:5", "timer_requested", run_id="r1", timer_id="timer:cron:s:5")], {"r1"}),
        ([routed("timer_req:odd", "timer_requested", run_id="r1", timer_id="odd")], {"r1"}),
    ],
)
def test_what_makes_a_run_odd(events: list[RoutedEvent], odd: set[str]) -> None:
    for order in (events, events[::-1]):
        assert links_of(order).odd == odd
        apart = Links()
        for event in order:
            apart.merge(links_of([event]))
        assert apart.odd == odd


@pytest.mark.parametrize(
    ("event", "owner"),
    [
        (routed("k", STARTED, run_id="r1"), "r1"),
        (routed("k", "dispatch_enqueued", dispatch_id="dispatch:r1:a:1"), "r1"),
        (routed("k", "dispatch_enqueued", dispatch_id="other"), None),
        (routed("k", "timer_fired", timer_id="timer:heartbeat:r1:a:1:5"), "r1"),
        (routed("k", "timer_fired", timer_id="timer:cron:s:5"), None),
        (routed("k", "timer_fired", timer_id="x"), None),
        (routed("k", "schedule_ticked"), None),
        (routed("k", "backfill_created"), None),
        (routed("k", "unknown"), None),
    ],
)
def test_whose_an_event_is(event: RoutedEvent, owner: str | None) -> None:
    assert owner_of(event) == owner
