"""Damage that was once published, folded or answered: each is refused by name, and nothing is changed by it."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest

from springline.errors import Code, InvariantViolated
from springline.paths import (
    ObjectPath,
    canonical_ulid_event,
    orchestration_pointer,
    orchestration_request,
    orchestration_round,
)
from springline.projection.schema import TABLES
from springline.published.reader import PublishedReader
from springline.rebuild.messages import Compared, RebuildMode, StateSwitched
from springline.rebuild.restore import RestoreOutcome, restore_events
from springline.rebuild.sources import from_index, from_listing, from_rounds
from springline.storage.damage import DamagedObject
from springline.storage.memory import MemoryStore
from tests.damage.workspaces import pending_folded
from tests.support.ledger_workspaces import appended
from tests.support.rebuild_driver import Incomplete, Rebuild
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import CONFIG, SCOPE, ask, request_id, scoped, triggered
from tests.support.yardstick import check_state

POINTER = SCOPE.full(orchestration_pointer())
RUNS = [f"r-{number}" for number in range(6)]


def _changed(before: Mapping[ObjectPath, object], store: MemoryStore) -> list[ObjectPath]:
    """Return what is other than before, but for what a rebuild leaves that nobody names."""
    paths = before.keys() | store.objects.keys()
    changed = [path for path in paths if before.get(path) != store.objects.get(path)]
    return [path for path in changed if "/rebuild" not in path and (path in before or "/segments/" not in path)]


async def _largest_segment(store: MemoryStore) -> ObjectPath:
    """Return the largest segment of the published index."""
    found = (await from_index(scoped(store))).segment_paths
    return SCOPE.full(max(found, key=lambda path: len(store.objects[SCOPE.full(path)].data)))


async def _list_and_rebuild(store: MemoryStore) -> StateSwitched | Compared:
    listed = await from_listing(scoped(store))
    return await Rebuild(store, CONFIG).run({"event_paths": listed.event_paths}, RebuildMode.FULL)


async def test_a_damaged_segment_does_not_hide_that_one_of_its_events_is_gone() -> None:
    store, _ = await appended(RUNS)
    segment = await _largest_segment(store)
    gone = segment.split("/")[-1].split("_")[0]
    event = SCOPE.full(canonical_ulid_event(gone))
    body = store.objects[event].data
    store.remove(event)
    store.seed(segment, store.objects[segment].data[:-7] + b"damaged")
    before = dict(store.objects)
    with pytest.raises(Incomplete) as refused:
        await _list_and_rebuild(store)
    assert refused.value.gaps == [gone]
    assert not _changed(before, store)
    (restored,) = await restore_events(scoped(store), [gone], replace=False)
    assert restored.outcome is RestoreOutcome.RESTORED
    assert store.objects[event].data == body
    assert isinstance(await _list_and_rebuild(store), StateSwitched)
    assert len(await check_state(store)) == 6 * len(RUNS)


async def test_an_event_of_a_damaged_segment_that_no_record_has_either_is_a_named_hole() -> None:
    store, _ = await appended(RUNS)
    segment = await _largest_segment(store)
    gone = segment.split("/")[-1].split("_")[0]
    (record,) = [path for path in store.objects if "/rounds/" in path and gone.encode() in store.objects[path].data]
    store.seed(segment, b"")
    store.remove(record)
    before = dict(store.objects)
    with pytest.raises(Incomplete) as refused:
        await _list_and_rebuild(store)
    assert [SCOPE.full(ObjectPath(gap)) for gap in refused.value.gaps] == [segment, record]
    assert not _changed(before, store)


@pytest.mark.parametrize("gone", [[11], [11, 12], [20], [19, 20], [1], [1, 2, 3]], ids=str)
async def test_without_pointer_and_records_nothing_is_published_and_no_number_given_away(gone: list[int]) -> None:
    store, _ = await appended([*RUNS, "r-6"])
    whole = store.copy()
    store.remove(POINTER)
    for number in gone:
        store.remove(SCOPE.full(orchestration_round(number)))
    before = dict(store.objects)
    with pytest.raises(DamagedObject) as refused:
        await Run(store, 2).append(ask(900, triggered("next")))
    assert refused.value.path == orchestration_pointer()
    with pytest.raises(DamagedObject) as named:
        await from_rounds(scoped(store))
    assert named.value.path in {orchestration_round(number) for number in gone}
    with pytest.raises(DamagedObject):
        await PublishedReader(store).snapshot(SCOPE, list(TABLES))
    assert not _changed(before, store)
    for number in gone:
        path = SCOPE.full(orchestration_round(number))
        store.seed(path, whole.objects[path].data)
    found = await from_rounds(scoped(store))
    await Rebuild(store, CONFIG).run(
        {"event_paths": found.event_paths, "as_of_round": found.as_of_round}, RebuildMode.FULL
    )
    (answer,) = await Run(store, 2).append(ask(900, triggered("next")))
    assert answer.refusal is None
    assert len(await check_state(store)) == 6 * 7 + 1


async def test_a_record_in_the_midst_is_not_the_end_of_those_that_are_pending() -> None:
    """An older pointer is back, and the record behind it is gone: the rounds that come then are still there."""
    store, run = await appended(RUNS[:2])
    older = store.objects[POINTER].data
    for number in range(3):
        await run.append(ask(50 + number, triggered(f"more-{number}")))
    store.seed(POINTER, older)
    store.remove(SCOPE.full(orchestration_round(13)))
    before = dict(store.objects)
    with pytest.raises(DamagedObject) as refused:
        await Run(store, 2).append(ask(900, triggered("next")))
    assert refused.value.path == orchestration_pointer()
    assert not _changed(before, store)


@pytest.mark.parametrize("older_format", [False, True])
async def test_a_character_of_a_kept_record_that_was_changed_stops_the_round(older_format: bool) -> None:
    store, run = await appended(["r"])
    head = await run._ready()
    admitted = await run.step("admit", run.admit_order(head, [ask(70, triggered("pending"))]))
    path = SCOPE.full(orchestration_round(7))
    data = store.objects[path].data
    if older_format:
        data = data[: data.rindex(b',"checksum"')] + b"}"
    altered = data.replace(b"plan-pending", b"plan-Pending", 1)
    assert altered != data
    store.seed(path, altered)
    before = dict(store.objects)
    for ask_again in (ask(70, triggered("pending")), ask(71, triggered("another"))):
        with pytest.raises(DamagedObject) as refused:
            await Run(store, 2).append(ask_again)
        assert refused.value.path == orchestration_round(7)
    assert not _changed(before, store)
    store.seed(path, data)
    assert admitted.round is not None
    if older_format:
        (answer,) = await Run(store, 2).append(ask(71, triggered("another")))
        assert answer.refusal is None
        assert len(await check_state(store)) == 8


@pytest.mark.parametrize("place", range(0, 300, 7))
async def test_a_bit_of_a_request_s_marker_that_was_changed_refuses_its_request(place: int) -> None:
    store, _ = await appended(["r"])
    path = SCOPE.full(orchestration_request(request_id(1)))
    data = store.objects[path].data
    place %= len(data)
    store.seed(path, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    before = dict(store.objects)
    run = Run(store, 2)
    (answer,) = await run.append(ask(1, triggered("r")))
    assert answer.refusal is not None
    assert answer.refusal.code is Code.STORED_DAMAGED
    assert orchestration_request(request_id(1)) in answer.refusal.message
    assert not _changed(before, store)
    (other,) = await run.append(ask(900, triggered("another")))
    assert other.refusal is None


@pytest.mark.parametrize("rounds", [1, 2, 6])
async def test_a_lost_pointer_is_damage_and_no_empty_workspace(rounds: int) -> None:
    store, run = MemoryStore(), None
    run = Run(store)
    for number in range(rounds):
        await run.append(ask(number + 1, triggered(f"r-{number}")))
    store.remove(POINTER)
    before = dict(store.objects)
    for work in (PublishedReader(store).snapshot(SCOPE, ["runs"]), PublishedReader(store).head(SCOPE)):
        with pytest.raises(DamagedObject) as refused:
            await work
        assert refused.value.path == orchestration_pointer()
    with pytest.raises(InvariantViolated, match=r"manifest\.pointer\.json"):
        await Run(store, 2).append(ask(900, triggered("next")))
    assert not _changed(before, store)
    found = await from_rounds(scoped(store))
    await Rebuild(store, CONFIG).run({"event_paths": found.event_paths}, RebuildMode.FULL)
    assert len(await check_state(store)) == rounds


async def test_before_anything_was_published_there_is_nothing_and_no_damage() -> None:
    store = MemoryStore()
    assert not len((await PublishedReader(store).snapshot(SCOPE, ["runs"]))["runs"])
    run = Run(store)
    head = await run._ready()
    await run.step("admit", run.admit_order(head, [ask(1, triggered("r"))]))
    assert not len((await PublishedReader(store).snapshot(SCOPE, ["runs"]))["runs"])
    (answer,) = await Run(store, 2).append(ask(2, triggered("s")))
    assert answer.refusal is None
    assert len(await check_state(store)) == 2


@pytest.mark.parametrize("back", [2, 3, 5])
async def test_an_older_pointer_is_damage(back: int) -> None:
    store = MemoryStore()
    run, pointers = Run(store), list[bytes]()
    for number in range(8):
        await run.append(ask(number + 1, triggered(f"r-{number}")))
        pointers.append(store.objects[POINTER].data)
    store.seed(POINTER, pointers[-1 - back])
    with pytest.raises(DamagedObject, match="judged on the later") as refused:
        await PublishedReader(store).snapshot(SCOPE, ["runs"])
    assert refused.value.path == orchestration_pointer()
    with pytest.raises(DamagedObject, match="judged on the later"):
        await Run(store, 2).append(ask(900, triggered("next")))


async def test_a_pointer_that_is_one_revision_old_is_moved_again() -> None:
    """That is the moment before the last round was published, to the byte."""
    store = MemoryStore()
    run, pointers = Run(store), list[bytes]()
    for number in range(4):
        await run.append(ask(number + 1, triggered(f"r-{number}")))
        pointers.append(store.objects[POINTER].data)
    store.seed(POINTER, pointers[-2])
    (answer,) = await Run(store, 2).append(ask(900, triggered("next")))
    assert answer.refusal is None
    assert len(await check_state(store)) == 5


async def test_the_record_of_a_round_that_was_folded_and_not_published_is_missed() -> None:
    made = await pending_folded()
    store = made.store()
    path = max(path for path in store.objects if "/rounds/" in path)
    record = store.objects[path].data
    store.remove(path)
    before = dict(store.objects)
    with pytest.raises(DamagedObject) as refused:
        await Run(store, 2).append(ask(900, triggered("next")))
    assert SCOPE.full(ObjectPath(refused.value.path)) == path
    with pytest.raises(DamagedObject):
        await _list_and_rebuild(store)
    assert not before.keys() & _changed(before, store)
    (pending,) = set(made.accepted) - set(made.visible)
    (one,) = await restore_events(scoped(store), [orjson.loads(pending)["event_id"]], replace=True)
    assert (one.outcome, SCOPE.full(ObjectPath(one.unread or ""))) == (RestoreOutcome.UNCLEAR, path)
    store.seed(path, record)
    (answer,) = await Run(store, 2).append(ask(900, triggered("next")))
    assert answer.refusal is None
    assert len(await check_state(store)) == len(made.accepted) + 1
