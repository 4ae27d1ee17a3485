"""What a rebuild takes in is recorded before it is published, so that no single object alone tells of it."""

from __future__ import annotations

import pytest

from springline.paths import ObjectPath, orchestration_pointer
from springline.rebuild.messages import RebuildMode, StateSwitched
from springline.rebuild.sources import from_listing, from_rounds
from springline.sequencer.rounds import RoundRecord, find_round
from springline.storage.faults import Decision, FaultyStore, Kind, Operation, ProcessDied
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore
from tests.support.ledger_workspaces import appended, digest, foreign, listed
from tests.support.rebuild_driver import Rebuild
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import CONFIG, NOW_MS, SCOPE, ask, scoped, triggered
from tests.support.yardstick import check_state

POINTER = SCOPE.full(orchestration_pointer())
LATER_MS = NOW_MS + 600_000


async def records(store: MemoryStore) -> list[RoundRecord]:
    """Return the records of all rounds."""
    last = sum("/rounds/" in path for path in store.objects)
    found = [await find_round(scoped(store), number) for number in range(1, last + 1)]
    return [one.record for one in found if one is not None]


async def rebuild_all(store: ObjectStore, mode: RebuildMode) -> StateSwitched:
    found = await from_listing(scoped(store))
    state = await Rebuild(store, CONFIG).run({"event_paths": found.event_paths}, mode)
    assert isinstance(state, StateSwitched)
    return state


def lose_all_but_rounds_and_events(store: MemoryStore) -> None:
    for path in list(store.objects):
        if "/rounds/" not in path and "/orchestration/20" not in path:
            store.remove(path)


@pytest.mark.parametrize("mode", [RebuildMode.FULL, RebuildMode.CATCH_UP])
async def test_the_records_of_rounds_alone_tell_what_a_rebuild_has_taken_in(mode: RebuildMode) -> None:
    store, _ = await appended(["r"])
    foreign(store, 100, 5, at_ms=LATER_MS)
    await rebuild_all(store, mode)
    before = await digest(store)
    taken_in = (await records(store))[-1]
    assert (taken_in.number, taken_in.kind, len(taken_in.events)) == (7, "foreign", 5)
    assert all(event.is_whole for event in taken_in.events) == (mode is RebuildMode.CATCH_UP)
    lose_all_but_rounds_and_events(store)
    found = await from_rounds(scoped(store))
    assert found.events == 11
    await Rebuild(store, CONFIG).run({"event_paths": found.event_paths}, RebuildMode.FULL)
    assert await digest(store) == before
    (answer,) = await Run(store, 2).append(ask(90, triggered("next")))
    assert answer.refusal is None
    assert len(await check_state(store)) == 12


async def test_what_was_accepted_before_is_not_recorded_again() -> None:
    store, run = await appended(["r", "s"])
    manifest = await listed(store)
    await run.append(ask(90, triggered("later")))
    await run.step("admit", run.admit_order(await run._ready(), [ask(91, triggered("pending"))]))
    await Rebuild(store, CONFIG, shards=3).run(manifest, RebuildMode.FULL)
    await rebuild_all(store, RebuildMode.FULL)
    await rebuild_all(store, RebuildMode.CATCH_UP)
    assert [record.kind for record in await records(store)] == ["own"] * 14


@pytest.mark.parametrize("mode", [RebuildMode.FULL, RebuildMode.CATCH_UP])
async def test_what_is_recorded_is_taken_in_whatever_becomes_of_the_rebuild(
    mode: RebuildMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("springline.rebuild.recording.RECORD_EVENTS", 4)
    monkeypatch.setattr("springline.rebuild.recording.BATCH", 3)
    store, _ = await appended(["r"])
    foreign(store, 100, 9, at_ms=LATER_MS)

    async def dies(operation: Operation) -> Decision:
        moves = operation.kind is Kind.PUT and operation.path == POINTER
        return Decision.DIE_BEFORE if moves else Decision.PROCEED

    with pytest.raises(ProcessDied):
        await rebuild_all(FaultyStore(store, hook=dies), mode)
    recorded = [len(record.events) for record in (await records(store))[6:]]
    assert recorded == ([4, 4, 1] if mode is RebuildMode.FULL else [9])
    (answer,) = await Run(store, 2).append(ask(90, triggered("next")))
    assert answer.refusal is None
    assert len(await check_state(store)) == 16
    assert await rebuild_all(store, mode)
    assert len(await records(store)) == 6 + len(recorded) + 1


async def test_a_rebuild_that_is_repeated_goes_on_behind_what_it_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("springline.rebuild.recording.RECORD_EVENTS", 4)
    store, _ = await appended(["r"])
    paths = foreign(store, 100, 10, at_ms=LATER_MS)
    rounds = {SCOPE.full(ObjectPath(f"state/orchestration/rounds/{number:020}.json")) for number in (8, 9)}

    async def dies(operation: Operation) -> Decision:
        records_more = operation.kind is Kind.PUT and operation.path in rounds
        return Decision.DIE_BEFORE if records_more else Decision.PROCEED

    with pytest.raises(ProcessDied):
        await rebuild_all(FaultyStore(store, hook=dies), RebuildMode.FULL)
    await rebuild_all(store, RebuildMode.FULL)
    assert [len(record.events) for record in (await records(store))[6:]] == [4, 4, 2]
    assert len(await check_state(store)) == 6 + len(paths)


@pytest.mark.parametrize("mode", [RebuildMode.FULL, RebuildMode.CATCH_UP])
async def test_an_append_that_takes_the_number_first_makes_the_rebuild_look_again(mode: RebuildMode) -> None:
    store, _ = await appended(["r"])
    foreign(store, 100, 3, at_ms=LATER_MS)
    began: list[bool] = []

    async def meanwhile(operation: Operation) -> Decision:
        if operation.kind is Kind.PUT and "/rounds/" in operation.path and not began:
            began.append(True)
            (answer,) = await Run(store, 2).append(ask(90, triggered("meanwhile")))
            assert answer.refusal is None
        return Decision.PROCEED

    await rebuild_all(FaultyStore(store, hook=meanwhile), mode)
    assert began
    assert len(await check_state(store)) == 10
    assert [record.kind for record in await records(store)] == ["own"] * 7 + ["foreign"]
