"""Switching a rebuilt state in: whatever is broken, what comes meanwhile is there, and ids go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from springline.errors import Code, Refused
from springline.paths import ObjectPath, orchestration_manifest, orchestration_pointer
from springline.published import head as manifests
from springline.rebuild.messages import Compared, RebuildMode, StateSwitched, Switched
from springline.rebuild.sources import from_rounds
from springline.storage.faults import FaultyStore, Kind
from springline.storage.memory import MemoryStore
from tests.support.ledger_workspaces import appended, digest, foreign, listed, listed_in_segments, planned
from tests.support.rebuild_driver import Incomplete, Rebuild
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import CONFIG, NOW_MS, SCOPE, ask, body_of, scoped, seed_event, triggered
from tests.support.yardstick import check_state, head_of

POINTER = SCOPE.full(orchestration_pointer())


async def full(store: MemoryStore, manifest: object, **options: object) -> Switched:
    state = await Rebuild(store, CONFIG, shards=3, **options).run(manifest, RebuildMode.FULL)  # type: ignore[arg-type]
    assert isinstance(state, StateSwitched)
    assert state.kind == "visible"
    assert state.switched is not None
    return state.switched


async def test_full_replaces_the_state_by_the_same_one_and_ids_go_on() -> None:
    store, run = await appended(["r", "s"])
    before, head = await digest(store), (await head_of(store)).manifest
    switched = await full(store, await listed(store))
    assert (switched.digest, switched.later_events, switched.folded) == (before, 0, 12)
    assert await digest(store) == before
    after = (await head_of(store)).manifest
    assert int(after.manifest_id) == int(head.manifest_id) + 1
    assert after.l0_deltas == []
    assert after.previous_manifest_path == orchestration_manifest(head.manifest_id)
    await run.settle()
    (answer,) = await run.append(ask(99, triggered("t")))
    assert answer.refusal is None
    assert len(await check_state(store)) == 13


async def test_a_damaged_segment_of_the_same_events_is_written_anew() -> None:
    """The segment that a slice makes has the name of the damaged one, for it holds the same events."""
    store, run = await appended([])
    await run.append(*(ask(number, triggered(f"s-{number}")) for number in range(300)))
    before = await digest(store)
    manifest = await listed(store)
    (segment,) = [path for path in store.objects if "/segments/" in path]
    body = store.objects[segment].data
    store.seed(segment, body[:-9])
    assert (await full(store, manifest)).digest == before
    assert store.objects[segment].data == body
    assert await digest(store) == before


@pytest.mark.parametrize("part", ["/manifests/", "/l0/"])
async def test_the_next_append_does_not_need_what_was_damaged_and_replaced(part: str) -> None:
    """The process that folds still holds the state from before, and looks for a way forward from there."""
    store, run = await appended(["r"])
    manifest = await listed(store)
    for path in [path for path in store.objects if part in path]:
        store.seed(path, store.objects[path].data[:100])
    await full(store, manifest)
    await run.settle()
    (answer,) = await run.append(ask(99, triggered("t")))
    assert answer.refusal is None
    await check_state(store)


async def _no_pointer(store: MemoryStore) -> None:
    store.remove(POINTER)


async def _garbage_for_a_pointer(store: MemoryStore) -> None:
    store.seed(POINTER, b"\x00 nonsense")


async def _no_manifest(store: MemoryStore) -> None:
    path = (await head_of(store)).manifest_path
    store.remove(SCOPE.full(path))


async def _no_projections(store: MemoryStore) -> None:
    for path in [path for path in store.objects if "/state/orchestration/" in path and path.endswith(".parquet")]:
        store.remove(path)


async def _truncated_projections(store: MemoryStore) -> None:
    for path in [path for path in store.objects if path.endswith((".parquet", ".json.zst")) or "buckets" in path]:
        store.seed(path, store.objects[path].data[:-3])


async def _no_index(store: MemoryStore) -> None:
    for path in [path for path in store.objects if "/index/" in path]:
        store.remove(path)


async def _nothing_but_rounds_and_events(store: MemoryStore) -> None:
    for path in [path for path in store.objects if "/ledger/" not in path and "/rounds/" not in path]:
        store.remove(path)


DISASTERS = [
    _no_pointer,
    _garbage_for_a_pointer,
    _no_manifest,
    _no_projections,
    _truncated_projections,
    _no_index,
    _nothing_but_rounds_and_events,
]


@pytest.mark.parametrize("disaster", DISASTERS, ids=lambda one: one.__name__.strip("_").replace("_", " "))
async def test_full_heals(disaster: Callable[[MemoryStore], Awaitable[None]]) -> None:
    store, _ = await appended(["r", "s", "t"])
    before, manifest, head = await digest(store), await listed(store), (await head_of(store)).manifest
    await disaster(store)
    switched = await full(store, manifest)
    assert switched.digest == before
    assert await digest(store) == before
    after = (await head_of(store)).manifest
    if disaster is not _nothing_but_rounds_and_events:
        assert int(after.manifest_id) > int(head.manifest_id)
    run = Run(store, 1)
    await run.settle()
    (again,) = await run.append(ask(1, triggered("r")))
    assert again.replayed or disaster is _nothing_but_rounds_and_events
    (fresh,) = await run.append(ask(77, triggered("u")))
    assert fresh.refusal is None
    await check_state(store)


async def test_what_is_accepted_after_the_list_was_made_is_there() -> None:
    store, run = await appended(["r"])
    manifest = await listed(store)
    await run.append(ask(50, triggered("later")))
    switched = await full(store, manifest)
    assert switched.later_events == 1
    assert len(await check_state(store)) == 7


async def test_what_is_accepted_while_the_rebuild_goes_on_is_there_even_if_it_is_late() -> None:
    store, run = await appended(["r"])
    late = seed_event(store, body_of(1, triggered("early"), at_ms=NOW_MS - 5_000))
    rebuild = Rebuild(store, CONFIG, shards=2)
    ready = await rebuild.prepare(await listed(store), RebuildMode.FULL)
    await run.append(ask(60, triggered("own")))
    outcome = await run.ingest(late)
    assert outcome.late == 1
    state = await rebuild.switch(ready)
    assert state.switched is not None
    assert state.switched.later_events == 2
    assert len(await check_state(store)) == 8


async def test_what_is_accepted_after_the_list_was_made_is_there_even_if_it_is_late() -> None:
    store, run = await appended(["r"])
    early = seed_event(store, body_of(1, triggered("early"), at_ms=NOW_MS - 5_000))
    earlier = seed_event(store, body_of(2, triggered("earlier"), at_ms=NOW_MS - 6_000))
    manifest, bare = await planned(store), await listed(store)
    assert (await run.ingest(early)).late == 1
    await run.append(ask(60, triggered("own")))
    before = await digest(store)
    with pytest.raises(Incomplete) as caught:
        await full(store, bare)
    assert caught.value.gaps == [early.rsplit("/", 1)[-1].removesuffix(".json")]
    rebuild = Rebuild(store, CONFIG, shards=2)
    ready = await rebuild.prepare(manifest, RebuildMode.FULL)
    assert (await run.ingest(earlier)).late == 1
    state = await rebuild.switch(ready)
    assert state.switched is not None
    assert state.switched.later_events == 3
    assert state.switched.digest != before
    assert len(await check_state(store)) == 9
    await run.settle()
    (answer,) = await run.append(ask(61, triggered("after")))
    assert answer.refusal is None
    await check_state(store)


async def test_what_the_list_should_have_held_is_a_gap_whatever_came_later() -> None:
    store, run = await appended(["r"])
    late = seed_event(store, body_of(1, triggered("early"), at_ms=NOW_MS - 5_000))
    manifest = await planned(store)
    paths = manifest["event_paths"]
    assert isinstance(paths, list)
    left_out = paths.pop(2)
    await run.ingest(late)
    with pytest.raises(Incomplete) as caught:
        await full(store, manifest)
    assert caught.value.gaps == [left_out.rsplit("/", 1)[-1].removesuffix(".json")]


async def test_a_list_from_before_the_pointer_was_lost_may_know_of_more_rounds_than_are_published() -> None:
    store, run = await appended(["r"])
    found = await from_rounds(scoped(store))
    assert found.as_of_round == 6
    before = await digest(store)
    store.remove(POINTER)
    manifest = {"event_paths": found.event_paths, "as_of_round": 1_000}
    assert (await full(store, manifest)).digest == before
    await run.settle()
    (answer,) = await run.append(ask(61, triggered("after")))
    assert answer.refusal is None
    assert len(await check_state(store)) == 7


async def test_a_round_that_is_recorded_and_nothing_else_becomes_visible_with_its_marker() -> None:
    store, run = await appended(["r"])
    manifest = await listed(store)
    head = await run._ready()
    admitted = await run.step("admit", run.admit_order(head, [ask(70, triggered("pending"))]))
    assert admitted.kind == "admitted"
    switched = await full(store, manifest)
    assert switched.later_events == 1
    again = Run(store, 2)
    (answer,) = await again.append(ask(70, triggered("pending")))
    assert answer.replayed
    assert len(await check_state(store)) == 7


async def test_catch_up_folds_what_is_listed_above_the_watermark_and_passes_over_the_rest() -> None:
    store, run = await appended(["r"])
    paths = foreign(store, 100, 40, at_ms=NOW_MS + 600_000)
    everything = {"event_paths": [*(await listed(store))["event_paths"], *paths]}
    rebuild = Rebuild(store, CONFIG, shards=3)
    state = await rebuild.run(everything, RebuildMode.CATCH_UP)
    assert isinstance(state, StateSwitched)
    assert state.switched is not None
    assert state.switched.folded == 40
    assert len(await check_state(store)) == 46
    again = await Rebuild(store, CONFIG).run(everything, RebuildMode.CATCH_UP)
    assert isinstance(again, StateSwitched)
    assert again.switched is not None
    assert (again.switched.folded, again.switched.digest) == (0, state.switched.digest)
    await run.settle()
    (answer,) = await run.append(ask(80, triggered("on")))
    assert answer.refusal is None


async def test_catch_up_goes_in_steps_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("springline.rebuild.switch.CAUGHT_UP_AT_ONCE", 7)
    store, _ = await appended(["r"])
    paths = foreign(store, 100, 40, at_ms=NOW_MS + 600_000)
    state = await Rebuild(store, CONFIG, shards=2).run({"event_paths": paths}, RebuildMode.CATCH_UP)
    assert isinstance(state, StateSwitched)
    assert state.switched is not None
    assert state.switched.folded == 40
    assert len(await check_state(store)) == 46


async def test_catch_up_and_appends_between_plan_and_switch() -> None:
    store, run = await appended(["r"])
    paths = foreign(store, 100, 20, at_ms=NOW_MS + 70_000)
    rebuild = Rebuild(store, CONFIG, shards=2)
    ready = await rebuild.prepare({"event_paths": paths}, RebuildMode.CATCH_UP)
    run.now_ms += 60_000
    # Its ids lie above those that are listed, so these come late now.
    (answer,) = await run.append(ask(90, triggered("meanwhile")))
    assert answer.events[0].event_id > paths[-1].rsplit("/", 1)[-1]
    state = await rebuild.switch(ready)
    assert state.switched is not None
    assert state.switched.folded == 20
    assert len(await check_state(store)) == 27


async def test_verify_says_equal_and_publishes_nothing() -> None:
    store, run = await appended(["r", "s"])
    manifest = await listed(store)
    await run.append(ask(50, triggered("later")))
    pointer = store.objects[POINTER].data
    compared = await Rebuild(store, CONFIG, shards=3).run(manifest, RebuildMode.VERIFY)
    assert isinstance(compared, Compared)
    assert compared.equal
    assert compared.published_digest == compared.rebuilt_digest == await digest(store)
    assert store.objects[POINTER].data == pointer


async def test_verify_counts_what_came_late_after_the_list_was_made() -> None:
    store, run = await appended(["r", "s"])
    late = seed_event(store, body_of(1, triggered("early"), at_ms=NOW_MS - 5_000))
    manifest, bare = await planned(store), await listed(store)
    await run.append(ask(50, triggered("later")))
    await run.ingest(late)
    pointer = store.objects[POINTER].data
    compared = await Rebuild(store, CONFIG, shards=3).run(manifest, RebuildMode.VERIFY)
    assert isinstance(compared, Compared)
    assert compared.equal
    assert compared.published_digest == compared.rebuilt_digest == await digest(store)
    unequal = await Rebuild(store, CONFIG, shards=3).run(bare, RebuildMode.VERIFY)
    assert isinstance(unequal, Compared)
    assert not unequal.equal
    assert store.objects[POINTER].data == pointer


async def test_verify_does_not_judge_what_is_nowhere_to_be_had() -> None:
    store, run = await appended(["r"])
    late = seed_event(store, body_of(1, triggered("early"), at_ms=NOW_MS - 5_000))
    manifest = await planned(store)
    await run.ingest(late)
    ingested = sorted(path for path in store.objects if "/rounds/" in path)[-1]
    store.seed(ingested, _emptied(store.objects[ingested].data, 7))
    store.remove(SCOPE.full(ObjectPath(late)))
    compared = await Rebuild(store, CONFIG).run(manifest, RebuildMode.VERIFY)
    assert isinstance(compared, Compared)
    assert not compared.equal
    assert compared.problem is not None
    assert late in compared.problem


async def test_verify_names_what_differs() -> None:
    store, _ = await appended(["r", "s"])
    paths = foreign(store, 100, 2, at_ms=NOW_MS + 600_000)
    everything = {"event_paths": [*(await listed(store))["event_paths"], *paths]}
    compared = await Rebuild(store, CONFIG, shards=3).run(everything, RebuildMode.VERIFY)
    assert isinstance(compared, Compared)
    assert not compared.equal
    assert {one.table for one in compared.differences} >= {"runs"}
    assert ["f-100"] in [one.key for one in compared.differences if one.table == "runs"]


async def test_events_that_are_not_listed_are_named() -> None:
    store, _ = await appended(["r", "s"])
    manifest = await listed(store)
    left_out = manifest["event_paths"].pop(3)
    before = store.objects[POINTER].data
    with pytest.raises(Incomplete) as caught:
        await full(store, manifest)
    assert caught.value.gaps == [left_out.rsplit("/", 1)[-1].removesuffix(".json")]
    assert store.objects[POINTER].data == before


@pytest.mark.parametrize("damage", ["gone", "truncated", "other event", "other body"])
async def test_an_object_that_is_missing_or_altered_is_named(damage: str) -> None:
    store, _ = await appended(["r", "s"])
    manifest = await listed(store)
    path = SCOPE.full(manifest["event_paths"][4])
    body = store.objects[path].data
    if damage == "gone":
        store.remove(path)
    elif damage == "truncated":
        store.seed(path, body[:-20])
    elif damage == "other event":
        store.seed(path, store.objects[SCOPE.full(manifest["event_paths"][5])].data)
    else:
        altered = body.replace(b'"worker-1"', b'"worker-2"')
        assert altered != body
        store.seed(path, altered)
    before = store.objects[POINTER].data
    with pytest.raises(Incomplete) as caught:
        await full(store, manifest)
    assert caught.value.bad == [manifest["event_paths"][4]]
    assert store.objects[POINTER].data == before
    store.seed(path, body)
    assert (await full(store, manifest)).digest == await digest(store)


async def test_an_accepted_event_that_only_its_round_knows_is_not_lost_with_the_pointer() -> None:
    store, _ = await appended(["r"])
    manifest = await listed(store)
    before = await digest(store)
    manifest["event_paths"].pop()
    store.remove(POINTER)
    assert (await full(store, manifest)).later_events == 1
    assert await digest(store) == before


async def test_an_accepted_event_that_is_nowhere_is_refused_by_name() -> None:
    store, _ = await appended(["r"])
    manifest = await listed(store)
    gone = manifest["event_paths"].pop()
    store.remove(POINTER)
    store.remove(SCOPE.full(gone))
    rounds = sorted(path for path in store.objects if "/rounds/" in path)
    store.seed(rounds[-1], _emptied(store.objects[rounds[-1]].data))
    with pytest.raises(Refused) as caught:
        await full(store, manifest)
    assert caught.value.refusal.code is Code.LEDGER_INCOMPLETE
    assert gone in caught.value.refusal.message
    assert POINTER not in store.objects
    switched = await full(store, manifest, allow_missing=True)
    assert switched.events == 5


def _emptied(data: bytes, number: int = 6) -> bytes:
    from msgspec.structs import replace

    from springline.sequencer.rounds import RoundEvent, decode_round, encode_round

    record = decode_round(data, number).record
    events = [RoundEvent(one.event_id, one.sha256, "") for one in record.events]
    return encode_round(replace(record, events=events, requests=[]))


async def test_many_orphans_are_leapt_over() -> None:
    store, run = await appended(["r"])
    manifest, head = await listed(store), (await head_of(store)).manifest
    first = int(head.manifest_id) + 1
    for number in range(first, first + 3_000):
        store.seed(SCOPE.full(orchestration_manifest(f"{number:020}")), b"an orphan")
    watched = FaultyStore(store)
    found = await manifests.free_number(scoped(watched), first)
    assert found == first + 3_000
    assert watched.count(Kind.HEAD) < 40
    await full(store, manifest)
    await run.settle()
    await run.append(ask(55, triggered("behind orphans")))
    assert len(await check_state(store)) == 7


async def test_switching_again_or_elsewhere_at_once_changes_nothing() -> None:
    store, _ = await appended(["r", "s"])
    manifest = await listed(store)
    first, second = await full(store, manifest), await full(store, manifest)
    assert first.digest == second.digest
    await check_state(store)


async def test_the_future_cannot_be_listed() -> None:
    store, _ = await appended(["r"])
    paths = foreign(store, 1, 1, at_ms=NOW_MS + 30 * 24 * 3_600_000)
    with pytest.raises(Refused) as caught:
        await full(store, {"event_paths": paths})
    assert caught.value.refusal.field == "event_paths"
    assert "minutes ahead" in caught.value.refusal.message


async def test_nothing_is_listed() -> None:
    store, _ = await appended(["r", "s"])
    manifest = await listed(store)
    for mode in RebuildMode:
        watched = FaultyStore(store)
        await Rebuild(watched, CONFIG, shards=3).run(manifest, mode)
        assert watched.count(Kind.LIST) == 0


async def test_an_event_that_is_listed_twice_does_not_make_up_for_one_that_is_not() -> None:
    store, run = await appended(["r"])
    for number in range(100, 400):
        await run.append(ask(number, triggered(f"s-{number}")))
    both = await listed_in_segments(store)
    assert both["segment_paths"]
    everything = await listed(store)
    # One event stands in a segment and is listed by its object, too; another one of the tail is not listed.
    left_out = both["event_paths"].pop(0)
    twice = {**both, "event_paths": [*both["event_paths"], everything["event_paths"][5]]}
    with pytest.raises(Incomplete) as caught:
        await full(store, twice)
    assert caught.value.gaps == [left_out.rsplit("/", 1)[-1].removesuffix(".json")]
