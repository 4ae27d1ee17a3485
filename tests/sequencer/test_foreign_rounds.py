"""Foreign events: late, duplicated, damaged, in the future; and what the reference publishes on top of our state."""

from __future__ import annotations

import orjson
import pytest

from springline.ledger.event_ids import new_event_id
from springline.ledger.request import EventOutcome, RefusalReason
from springline.paths import canonical_ulid_event
from springline.published import manifest as checkpoints
from springline.published import merge
from springline.published.head import read_manifest
from springline.storage.faults import FaultyStore, Kind
from springline.storage.memory import MemoryStore
from tests.support.reference import compact
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import (
    SCOPE,
    ask,
    body_of,
    event_id,
    finished,
    linear_run,
    planned,
    scoped,
    seed_event,
    started,
    triggered,
)
from tests.support.yardstick import check_state, head_of, in_order

RUN = linear_run("f", ["a", "b"])


def seed_run(store: MemoryStore, first: int = 0) -> list[str]:
    """Put the six events of a run into the ledger, in the order of their ids from `first` on; return their paths."""
    return [seed_event(store, body_of(first + n, data)) for n, data in enumerate(RUN)]


async def test_events_in_any_order_are_folded_in_the_order_of_ids() -> None:
    store = MemoryStore()
    paths = seed_run(store)
    run = Run(store)
    for path in (paths[3], paths[0], paths[5], paths[1], paths[4], paths[2]):
        answer = await run.ingest(path)
        assert (answer.accepted, answer.known, answer.refused) == (1, 0, [])
    assert run.kinds == ["delta", "refold", "delta", "refold", "refold", "refold"]
    assert len(await check_state(store)) == 6
    assert run.folded is not None
    assert run.folded.refolded_events == 6
    assert run.folded.outcomes == {EventOutcome.APPLIED: 1}


async def test_many_late_events_are_refolded_once() -> None:
    store = MemoryStore()
    paths = seed_run(store)
    run = Run(store)
    await run.ingest(paths[5])
    answer = await run.ingest(*paths)
    assert (answer.accepted, answer.late, answer.known) == (5, 5, 1)
    assert run.kinds == ["delta", "refold"]
    await check_state(store)


async def test_known_events_need_no_round() -> None:
    store = MemoryStore()
    paths = seed_run(store)
    run = Run(store)
    await run.ingest(*paths)
    before = dict(store.objects)
    answer = await Run(store, 1).ingest(*paths, *paths)
    assert (answer.accepted, answer.known) == (0, 6)
    assert answer.manifest_id == "00000000000000000001"
    assert dict(store.objects) == before


async def test_every_kind_of_trouble_is_recorded_and_holds_up_no_other_event() -> None:
    store = MemoryStore()
    paths = seed_run(store)
    run = Run(store)
    await run.ingest(paths[0])
    seed_event(store, body_of(0, triggered("another")))
    soon = new_event_id(None, run.now_ms + 600_000, 0)
    rival = orjson.dumps(orjson.loads(body_of(9, triggered("x"))) | {"tenant_id": "rival"})
    bad = {
        paths[0]: RefusalReason.OTHER_BODY,
        seed_event(store, b"{", event_id(8)): RefusalReason.UNREADABLE,
        seed_event(store, rival): RefusalReason.OTHER_SCOPE,
        canonical_ulid_event(event_id(20)): RefusalReason.MISSING,
        paths[1].replace(event_id(1), "evt-1"): RefusalReason.NOT_A_ULID,
        paths[1].replace("2025-", "2024-"): RefusalReason.WRONG_PATH,
        "elsewhere": RefusalReason.NOT_A_LEDGER_PATH,
    }
    unknown = orjson.dumps(orjson.loads(body_of(30, triggered("x"))) | {"data": {"type": "of_the_future"}})
    future = seed_event(store, b"whatever", soon)
    answer = await run.ingest(*bad, future, paths[1], seed_event(store, unknown))
    assert {one.path: one.reason for one in answer.refused} == bad
    assert (answer.accepted, answer.deferred, answer.refused_total) == (2, [future], len(bad))
    for one in answer.refused:
        assert one.record_path is not None
        record = orjson.loads(store.objects[SCOPE.full(one.record_path)].data)  # type: ignore[arg-type]
        assert (record["path"], record["reason"]) == (one.path, one.reason)
    assert run.folded is not None
    assert run.folded.outcomes == {EventOutcome.APPLIED: 1, EventOutcome.UNKNOWN: 1}
    store.seed(SCOPE.full(canonical_ulid_event(event_id(0))), body_of(0, RUN[0]))
    assert len(await check_state(store)) == 3


async def test_a_deferred_event_is_taken_in_when_it_is_due() -> None:
    store = MemoryStore()
    run = Run(store)
    path = seed_event(store, body_of(1, triggered("r"), at_ms=run.now_ms + 400_000))
    assert (await run.ingest(path)).deferred == [path]
    assert run.kinds == []
    run.now_ms += 100_000
    assert (await run.ingest(path)).accepted == 1
    (own,) = await run.append(ask(1, planned("r", "a")))
    assert own.events[0].event_id > event_id(1, at_ms=run.now_ms)
    assert len(await check_state(store)) == 2


@pytest.mark.parametrize("altered", [None, b"{}"])
async def test_objects_of_accepted_events_may_vanish_or_change(altered: bytes | None) -> None:
    """The rounds' records have their bytes until they are packed."""
    store = MemoryStore()
    paths = seed_run(store)
    run = Run(store, cold=True)
    for path in (paths[0], paths[2], paths[5]):
        await run.ingest(path)
    for path in (paths[0], paths[2]):
        store.remove(SCOPE.full(path))  # type: ignore[arg-type]
        if altered is not None:
            seed_event(store, altered, path[-31:-5])
    for path in (paths[1], paths[3], paths[4]):
        assert (await run.ingest(path)).late == 1
    many = [body_of(100 + n, triggered(f"m{n}")) for n in range(260)]
    await run.ingest(*[seed_event(store, body) for body in many])
    # All is packed now: nothing depends on the objects any more.
    assert len(await check_state(store)) == 266
    assert (await head_of(store)).manifest.springline.digest.state == in_order(  # type: ignore[union-attr]
        [*(body_of(n, data) for n, data in enumerate(RUN)), *many]
    )


async def test_a_late_event_refolds_from_the_newest_checkpoint_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "MIN_BASE_ROWS", 4)
    monkeypatch.setattr(merge, "BASE_SHARE", 100)
    store = MemoryStore()
    payloads = [data for r in "pqrst" for data in linear_run(r, ["a", "b"])]
    bodies = [body_of(10 * n, data) for n, data in enumerate(payloads)]
    run = Run(store)
    for body in bodies:
        await run.ingest(seed_event(store, body))
    before = (await head_of(store)).manifest.springline
    assert before is not None
    assert len(before.checkpoints) == checkpoints.MOST
    late = body_of(255, triggered("late"))
    await run.ingest(seed_event(store, late))
    assert run.kinds[-1] == "refold"
    assert run.folded is not None
    assert run.folded.refolded_events < 20
    after = (await head_of(store)).manifest.springline
    assert after is not None
    limit = orjson.loads(late)["event_id"]
    assert [one for one in after.checkpoints[:-1] if one.watermark is not None and one.watermark > limit] == []
    assert after.checkpoints[:-1] == [one for one in before.checkpoints if (one.watermark or "") < limit]
    assert len(await check_state(store)) == 31


@pytest.mark.parametrize("cold", [False, True])
async def test_what_the_reference_published_is_taken_in_on_top_of_our_state(cold: bool) -> None:
    store = MemoryStore()
    run = Run(store, cold=cold)
    await run.append(ask(1, triggered("r"), planned("r", "a")))
    paths = seed_run(store)
    assert await compact(store, [event_id(n) for n in range(3)])
    assert await compact(store, [event_id(n) for n in range(3, 6)])
    (answer,) = await run.append(ask(2, started("r", "a")))
    assert answer.refusal is None
    head = await head_of(store)
    assert head.is_ours
    assert int(head.manifest.manifest_id) > 3
    assert len(head.manifest.springline.foreign) == 1  # type: ignore[union-attr]
    opened = await Run(store, 1).settle()
    assert opened.foreign == []
    bodies = await check_state(store)
    assert len(bodies) == 9
    assert set(paths) == {canonical_ulid_event(event_id(n)) for n in range(6)}


async def test_what_is_known_already_is_closed_by_the_next_round() -> None:
    store = MemoryStore()
    paths = seed_run(store)
    run = Run(store)
    await run.ingest(*paths)
    assert await compact(store, [event_id(n) for n in range(6)])
    run.head = None
    await run.append(ask(1, triggered("r")))
    head = await head_of(store)
    assert head.is_ours
    assert head.manifest.springline.foreign == []  # type: ignore[union-attr]
    assert len(await check_state(store)) == 7


async def test_a_witness_that_cannot_be_taken_in_is_recorded_and_closes_all_the_same() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r")))
    assert await compact(store, [event_id(50)])
    head = await Run(store, 1).settle()
    assert head.foreign == []
    assert len(await check_state(store)) == 1
    assert any("/refused/" in path for path in store.objects)


async def test_a_deferred_witness_keeps_the_revisions_open() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r")))
    far = run.now_ms + 900_000
    seed_event(store, body_of(1, triggered("far"), at_ms=far))
    assert await compact(store, [event_id(1, at_ms=far)])
    run.head = None
    await run.append(ask(2, triggered("s")))
    assert run.opened is not None
    answer = await run.ingest(*run.opened.foreign_paths)
    assert len(answer.deferred) == 1
    later = Run(store, 1)
    assert len((await later.step("open", None)).foreign_paths) == 1
    later.now_ms = far
    head = await later.settle()
    assert head.foreign == []
    assert len(await check_state(store)) == 3


async def test_a_workspace_of_the_reference_is_taken_over_as_it_is() -> None:
    theirs = MemoryStore()
    await Run(theirs).ingest(*seed_run(theirs))
    made = await read_manifest(scoped(theirs), (await head_of(theirs)).manifest_path)
    assert made is not None
    store = MemoryStore()
    for path, stored in theirs.objects.items():
        if "/l0/" in path or "/ledger/" in path:
            store.seed(path, stored.data)
    assert await compact(store, [event_id(n) for n in range(6)], manifest=made.manifest)
    below = seed_event(store, body_of(3, finished("f", "a")))
    run = Run(store)
    (answer_of_own,) = await run.append(ask(1, triggered("r")))
    assert run.kinds == ["base"]
    head = await head_of(store)
    ours = head.manifest.springline
    assert ours is not None
    assert ours.adopted is not None
    assert ours.adopted.watermark == event_id(5)
    assert ours.events.count == 1
    answer = await run.ingest(below)
    assert [one.reason for one in answer.refused] == [RefusalReason.BELOW_ADOPTED]
    late = seed_event(store, body_of(7, triggered("late")))
    assert (await run.ingest(late)).late == 1
    assert run.kinds[-1] == "refold"
    await check_state(store)
    digest = (await head_of(store)).manifest.springline.digest.state  # type: ignore[union-attr]
    (own,) = answer_of_own.events
    events = [*(body_of(n, data) for n, data in enumerate(RUN)), body_of(7, triggered("late"))]
    assert digest == in_order([*events, store.objects[SCOPE.full(own.ledger_path)].data])  # type: ignore[arg-type]


async def test_a_round_begun_before_the_reference_came_is_finished_below_its_events() -> None:
    """The record stands, and nothing is published: all of the reference's revisions are taken in on top."""
    store = MemoryStore()
    run = Run(store)
    opened = await run.step("open", None)
    run.head, run.next_round = opened.head, 1
    assert run.head is not None
    assert (await run.step("admit", run.admit_order(run.head, [ask(1, triggered("r"))]))).kind == "admitted"
    seed_run(store)
    assert await compact(store, [event_id(n) for n in range(4)])
    assert await compact(store, [event_id(n) for n in range(4, 6)])
    head = await Run(store, 1).settle()
    assert (head.events, head.rounds_folded, head.foreign) == (7, 2, [])
    ours = (await head_of(store)).manifest.springline
    assert ours is not None
    assert ours.adopted is None
    assert len(await check_state(store)) == 7


async def test_nothing_is_listed() -> None:
    inner = MemoryStore()
    paths = seed_run(inner)
    store = FaultyStore(inner)
    run = Run(store, cold=True)
    for path in reversed(paths):
        await run.ingest(path)
    assert await compact(inner, [event_id(0)])
    run.head = None
    await run.append(ask(1, triggered("r")))
    await run.settle()
    assert (store.count(Kind.LIST), store.count(Kind.HEAD)) == (0, 0)
    await check_state(inner)
