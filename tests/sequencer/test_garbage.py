"""Garbage: what is needed stays whatever happens, and what is not goes, later and by its version."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline import paths
from springline.paths import ObjectPath, StateLayer
from springline.published import index as pure
from springline.published.events import events_between
from springline.published.files import Artifact
from springline.published.index_files import read_index
from springline.published.load import load_state
from springline.published.manifest import Adopted, ForeignRevisions, Manifest, encode
from springline.sequencer.garbage import mark_garbage, sweep_garbage
from springline.sequencer.garbage.reach import files_of
from springline.sequencer.garbage.report import Kind, Marked, read_report
from springline.sequencer.garbage.sweep import NAMELESS_MS, QUARANTINE_MS
from springline.sequencer.messages import GarbageOrder, GarbageReport, WorkspaceRef
from springline.sequencer.rounds import find_round
from springline.storage.damage import DamagedObject
from springline.storage.faults import Decision, FaultyStore, plan
from springline.storage.faults import OperationKind as Op
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore, StoreError
from tests.sequencer.projections import Publisher, bodies_of_runs
from tests.support.sequencer_world import CONFIG, NOW_MS, SCOPE, event_id, scoped

LATER = NOW_MS + QUARANTINE_MS
MUCH_LATER = NOW_MS + NAMELESS_MS
DELTA, BASE = event_id(9_000), event_id(9_001)
H12 = "0123456789ab"


@pytest.fixture(autouse=True)
def _small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let packs, segments and nodes be small, so that few events make all of them."""
    monkeypatch.setattr(pure, "PACK_EVENTS", 4)
    monkeypatch.setattr(pure, "SEGMENT_EVENTS", 8)
    monkeypatch.setattr(pure, "NODE_SEGMENTS", 2)


def order(report: str = "r1", now_ms: int = NOW_MS, keep: int = 2) -> GarbageOrder:
    workspace = WorkspaceRef(tenant="acme", workspace="prod")
    return GarbageOrder(workspace=workspace, now_ms=now_ms, report_id=report, keep_revisions=keep)


async def published(store: ObjectStore, rounds: int = 12) -> Publisher:
    """Publish rounds of three events: every fourth a base, with merges in between."""
    publisher = Publisher(store)
    bodies = bodies_of_runs(rounds)
    for number in range(rounds):
        cut = bodies[3 * number : 3 * number + 3]
        await publisher.publish(cut, base=number % 4 == 0, merge=int(number % 4 == 2))
    return publisher


def relative(store: MemoryStore) -> set[str]:
    return {SCOPE.relative(path) for path in store.objects}


def put(store: MemoryStore, path: str, data: bytes = b"somebody's") -> str:
    store.seed(SCOPE.full(ObjectPath(path)), data)
    return path


async def marked(store: ObjectStore, report: str = "r1") -> dict[str, Marked]:
    found = await read_report(store, paths.orchestration_garbage(report))
    assert found is not None
    return {one.path: one for one in found.objects}


async def check_readable(store: ObjectStore, manifests: list[Manifest]) -> None:
    """Load revisions with all that they hold, and read every event that they name."""
    for manifest in manifests:
        ours = manifest.springline
        assert ours is not None
        await load_state(store, manifest, CONFIG, verify=True)
        index = await read_index(store, ours.events.index)
        assert sum([len(batch) async for batch in events_between(store, index, None)]) == ours.events.count
        for checkpoint in ours.checkpoints:
            stored = await store.get(ObjectPath(checkpoint.manifest_path))
            assert stored is not None
            await load_state(store, msgspec.json.decode(stored.data, type=Manifest), CONFIG, verify=True)


async def test_what_is_superseded_goes_after_a_quarantine(store: ObjectStore) -> None:
    publisher = await published(store)
    report = await mark_garbage(store, order())
    objects = await marked(store)
    superseded = {path for path, one in objects.items() if one.kind is Kind.SUPERSEDED}
    assert report.marked == len(objects) > len(superseded) > 20
    assert paths.orchestration_manifest(paths.orchestration_manifest_id(2)) in superseded
    assert not superseded & {
        paths.orchestration_manifest(paths.orchestration_manifest_id(n)) for n in (1, 5, 9, 11, 12)
    }
    assert all(one.since_ms == NOW_MS for one in objects.values())
    early = await sweep_garbage(store, order(now_ms=LATER - 1))
    assert (early.deleted, early.kept) == (0, report.marked)
    swept = await sweep_garbage(store, order(now_ms=LATER))
    assert (swept.deleted, swept.emptied) == (len(superseded), 0)
    assert swept.deleted_bytes == sum(objects[path].size for path in superseded)
    assert swept.kept == report.marked - swept.deleted
    for path in objects:
        assert (await store.get(ObjectPath(path)) is None) is (path in superseded)
    await check_readable(store, publisher.manifests[-2:])
    assert (await sweep_garbage(store, order(now_ms=LATER))).deleted == 0


async def test_marking_twice_gives_the_first_answer() -> None:
    store = MemoryStore()
    await published(scoped(store))
    first = await mark_garbage(scoped(store), order())
    before = dict(store.objects)
    assert await mark_garbage(scoped(store), order(now_ms=LATER)) == first
    assert dict(store.objects) == before


async def test_what_nobody_names_goes_after_days_and_another_revision() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store)
    nameless = {
        put(memory, paths.orchestration_table(StateLayer.L0, DELTA, "runs", H12)),
        put(memory, paths.orchestration_deletions(DELTA, H12)),
        put(memory, paths.orchestration_buckets(StateLayer.BASE, BASE, H12)),
        put(memory, paths.orchestration_run_index(StateLayer.BASE, BASE, "acme", H12)),
        put(memory, paths.ledger_segment(event_id(0), event_id(3), H12)),
        put(memory, paths.ledger_index(event_id(0), event_id(3), H12)),
        put(memory, paths.ledger_index_node(event_id(0), event_id(3), H12)),
    }
    old_orphan = paths.orchestration_manifest(paths.orchestration_manifest_id(0))
    nameless.add(put(memory, old_orphan))
    await mark_garbage(store, order(keep=100))
    objects = await marked(store)
    packs = {path for path in objects if paths.parse_ledger_segment(path) is not None}
    assert {path for path, one in objects.items() if one.kind is Kind.NAMELESS} == nameless | packs
    assert not (await sweep_garbage(store, order(now_ms=MUCH_LATER - 1, keep=100))).deleted
    assert not (await sweep_garbage(store, order(now_ms=MUCH_LATER, keep=100))).deleted, "nothing was published since"
    await publisher.publish(bodies_of_runs(1, first=500))
    again = await mark_garbage(store, order("r2", MUCH_LATER - QUARANTINE_MS, keep=100))
    assert again.marked >= len(nameless)
    assert (await marked(store, "r2"))[old_orphan].since_ms == NOW_MS, "the first report knew it already"
    await publisher.publish(bodies_of_runs(1, first=600))
    await sweep_garbage(store, order("r2", MUCH_LATER, keep=100))
    assert not nameless & relative(memory)
    await check_readable(store, publisher.manifests)


def logs(memory: MemoryStore, *run_ids: str) -> list[str]:
    return [put(memory, paths.log_chunk(run_id, "extract", 1, number)) for run_id in run_ids for number in (1, 2)]


async def test_logs_go_days_after_retention_has_removed_their_run() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = Publisher(store, dataclasses.replace(CONFIG, retention_days=30))
    await publisher.publish(bodies_of_runs(4))
    gone = logs(memory, "run-900", "run-901")
    stay = [
        *logs(memory, "run-0", "run-3"),
        put(memory, "logs/run-900/note.txt"),
        put(memory, "logs/run-900/a/attempt-1.log"),
    ]
    await mark_garbage(store, order())
    assert {path for path, one in (await marked(store)).items() if one.kind is Kind.NAMELESS} >= set(gone)
    await publisher.publish(bodies_of_runs(1, first=901))
    assert not (await sweep_garbage(store, order(now_ms=MUCH_LATER - 1))).deleted, "its run may have just begun"
    await sweep_garbage(store, order(now_ms=MUCH_LATER))
    # One has a row meanwhile.
    assert relative(memory) & {*gone, *stay} == {*stay, *gone[2:]}


@pytest.mark.parametrize("days", [None, 0])
async def test_without_retention_all_logs_stay(days: int | None) -> None:
    memory = MemoryStore()
    store = scoped(memory)
    await Publisher(store, dataclasses.replace(CONFIG, retention_days=days)).publish(bodies_of_runs(1))
    stay = logs(memory, "run-900")
    await mark_garbage(store, order())
    assert not set(stay) & (await marked(store)).keys()


async def test_a_new_version_begins_anew() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store)
    path = put(memory, paths.orchestration_deletions(DELTA, H12))
    await mark_garbage(store, order())
    put(memory, path, b"written again")
    await publisher.publish(bodies_of_runs(1, first=500))
    await sweep_garbage(store, order(now_ms=MUCH_LATER))
    assert path in relative(memory), "not the version that was marked"
    await mark_garbage(store, order("r2", MUCH_LATER))
    assert (await marked(store, "r2"))[path].since_ms == MUCH_LATER


async def test_what_is_not_ours_to_judge_stays() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store)
    strange = {
        put(memory, f"{paths.orchestration_layer_prefix(StateLayer.L0)}/notes.txt"),
        put(memory, f"{paths.ledger_segments_prefix()}/README"),
        put(memory, paths.shard_segment("s", 1, 2)),
        put(memory, paths.shard_index_head("s")),
        put(memory, f"{paths.orchestration_manifests_prefix()}/x.json"),
        put(memory, paths.orchestration_manifest(paths.orchestration_manifest_id(99))),
        put(memory, paths.orchestration_legacy_manifest()),
        put(memory, paths.orchestration_rebuild("x")),
        put(memory, paths.orchestration_refused("x")),
        put(memory, paths.orchestration_request("x")),
        put(memory, f"{paths.orchestration_garbage_prefix()}/deeper/x.json"),
        put(memory, paths.rebuild_report("0" * 26, "x")),
        put(memory, paths.orchestration_round(99)),
        *(path for path in relative(memory) if paths.parse_ledger_event(path) is not None),
    }
    await mark_garbage(store, order(keep=1))
    assert not strange & (await marked(store)).keys()
    await publisher.publish(bodies_of_runs(1, first=500))
    await sweep_garbage(store, order(now_ms=MUCH_LATER, keep=1))
    assert strange <= relative(memory)


async def test_a_workspace_of_the_reference_is_left_alone() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    assert await mark_garbage(store, order()) == GarbageReport(report_path=paths.orchestration_garbage("r1"))
    publisher = await published(store)
    for path, stored in list(memory.objects.items()):
        if paths.parse_orchestration_manifest(SCOPE.relative(path)) is not None:
            manifest = msgspec.json.decode(stored.data, type=Manifest)
            memory.seed(path, encode(msgspec.structs.replace(manifest, springline=None)))
    before = relative(memory)
    assert (await mark_garbage(store, order())).marked == 0
    assert relative(memory) == before
    assert len(publisher.manifests) == 12


async def test_under_the_reference_everything_back_to_our_last_revision_stays() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store)
    ours = publisher.manifest
    for _ in range(5):
        await publisher.publish_foreign()
    await mark_garbage(store, order(keep=1))
    await sweep_garbage(store, order(now_ms=LATER, keep=1))
    await check_readable(store, [ours])
    for number in range(12, 18):
        assert paths.orchestration_manifest(paths.orchestration_manifest_id(number)) in relative(memory)
    assert paths.orchestration_manifest(paths.orchestration_manifest_id(11)) not in relative(memory)


async def test_what_is_still_to_be_taken_in_or_was_taken_over_stays() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store, 4)
    taken_over = publisher.manifests[1]
    head = await publisher.publish_foreign()
    await publisher.publish_foreign()
    foreign = [
        ForeignRevisions(
            paths.orchestration_manifest(paths.orchestration_manifest_id(6)),
            paths.orchestration_manifest(paths.orchestration_manifest_id(4)),
        )
    ]
    adopted = Adopted(manifest_path=paths.orchestration_manifest(taken_over.manifest_id))
    assert publisher.manifests[3].springline is not None
    section = msgspec.structs.replace(
        publisher.manifests[3].springline, foreign=foreign, adopted=adopted, checkpoints=[]
    )
    for number in range(7, 12):
        manifest = msgspec.structs.replace(
            publisher.manifests[3],
            manifest_id=paths.orchestration_manifest_id(number),
            previous_manifest_path=paths.orchestration_manifest(paths.orchestration_manifest_id(number - 1)),
            springline=section,
        )
        await publisher.put(paths.orchestration_manifest(manifest.manifest_id), manifest)
    await mark_garbage(store, order(keep=2))
    await sweep_garbage(store, order(now_ms=LATER, keep=2))
    left = {path for path in relative(memory) if paths.parse_orchestration_manifest(path) is not None}
    assert left == {paths.orchestration_manifest(paths.orchestration_manifest_id(n)) for n in (1, 2, 5, 6, 10, 11)}, (
        "1 is a checkpoint of 2"
    )
    assert head.springline is None
    await load_state(store, taken_over, CONFIG, verify=True)


async def test_young_revisions_stay_whatever_their_number() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    await published(store)
    await mark_garbage(store, order(keep=1), keep_since_ms=NOW_MS + 7_000)
    await sweep_garbage(store, order(now_ms=LATER, keep=1), keep_since_ms=NOW_MS + 7_000)
    left = {path for path in relative(memory) if paths.parse_orchestration_manifest(path) is not None}
    assert left == {paths.orchestration_manifest(paths.orchestration_manifest_id(n)) for n in (1, 5, *range(7, 13))}


async def test_what_came_to_be_needed_since_it_was_marked_stays() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store)
    ahead = Publisher(scoped(memory.copy()))
    ahead.__dict__.update({name: value for name, value in vars(publisher).items() if name != "store"})
    twin = memory.copy()
    ahead.store = scoped(twin)
    manifest = await ahead.publish(bodies_of_runs(1, first=500), base=True)
    for path, stored in twin.objects.items():
        if path not in memory.objects and paths.parse_orchestration_manifest(SCOPE.relative(path)) is None:
            memory.seed(path, stored.data)
    await mark_garbage(store, order(keep=100))
    assert any(paths.parse_orchestration_file(path) is not None for path in await marked(store))
    publisher.manifests.pop()
    await publisher.put(paths.orchestration_manifest(manifest.manifest_id), manifest)
    await sweep_garbage(store, order(now_ms=MUCH_LATER, keep=100))
    await check_readable(store, [manifest])


async def test_a_pointer_that_moves_during_a_sweep_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("springline.sequencer.garbage.sweep._BATCH", 1)
    memory = MemoryStore()
    publisher = await published(scoped(memory))
    await mark_garbage(scoped(memory), order(keep=1))
    first = publisher.manifests[1]
    moved = msgspec.structs.replace(first, manifest_id=paths.orchestration_manifest_id(13), previous_manifest_path=None)
    deleted = 0

    async def move_the_pointer(operation: object) -> Decision:
        nonlocal deleted
        if getattr(operation, "kind", None) is Op.DELETE:
            deleted += 1
            if deleted == 1:
                await publisher.put(paths.orchestration_manifest(moved.manifest_id), moved)
        return Decision.PROCEED

    store = FaultyStore(memory, hook=move_the_pointer)
    at_risk = files_of(first) & (await marked(scoped(memory))).keys()
    assert len(at_risk) > 3
    await sweep_garbage(scoped(store), order(now_ms=LATER, keep=1))
    assert len(at_risk & relative(memory)) >= len(at_risk) - 1, "all but what was on its way"


@pytest.mark.parametrize("damage", [b"", None])
async def test_nothing_goes_while_something_needed_cannot_be_read(damage: bytes | None) -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store)
    await mark_garbage(store, order())
    ours = publisher.manifest.springline
    assert ours is not None
    index = ours.events.index
    assert index is not None
    full = SCOPE.full(ObjectPath(index.path))
    memory.remove(full) if damage is None else memory.seed(full, damage)
    before = relative(memory)
    for step in (mark_garbage(store, order("r2")), sweep_garbage(store, order(now_ms=LATER))):
        with pytest.raises(DamagedObject) as caught:
            await step
        assert caught.value.path == index.path
    assert relative(memory) == before


async def test_a_report_that_is_missing_or_damaged_is_named() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    await published(store)
    with pytest.raises(DamagedObject, match="is missing"):
        await sweep_garbage(store, order())
    put(memory, paths.orchestration_garbage("r1"), b"{}")
    with pytest.raises(DamagedObject, match="no garbage report"):
        await sweep_garbage(store, order())
    await mark_garbage(store, order("r2"))
    await mark_garbage(store, order("r3"))
    assert paths.orchestration_garbage("r1") in await marked(store, "r3")
    assert paths.orchestration_garbage("r2") not in await marked(store, "r3"), "the last one tells the age of garbage"


async def test_a_report_holds_so_many_and_the_next_goes_on() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store)
    rounds = 0
    while True:
        rounds += 1
        now_ms = NOW_MS + 2 * rounds * QUARANTINE_MS
        report = await mark_garbage(store, order(f"r{rounds}", now_ms), most=7)
        found = await read_report(store, ObjectPath(report.report_path))
        assert found is not None
        superseded = [one for one in found.objects if one.kind is Kind.SUPERSEDED]
        swept = await sweep_garbage(store, order(f"r{rounds}", now_ms + QUARANTINE_MS))
        assert swept.deleted == len(superseded)
        if all(paths.parse_orchestration_garbage(one.path) is not None for one in superseded):
            assert not found.complete, "what no revision names is more than a report holds, and waits for days"
            break
    assert rounds > 4
    await check_readable(store, publisher.manifests[-2:])


async def test_records_of_folded_rounds_lose_their_texts_and_keep_their_ids() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store)
    unfolded = put(memory, paths.orchestration_round(14), b"x" * 2_000)
    await mark_garbage(store, order())
    records = {path for path, one in (await marked(store)).items() if one.kind is Kind.RECORD}
    assert records == {paths.orchestration_round(number) for number in range(1, 13)}
    before = [await find_round(store, number) for number in range(1, 13)]
    await publisher.publish(bodies_of_runs(1, first=500))
    assert (await sweep_garbage(store, order(now_ms=MUCH_LATER - 1))).emptied == 0
    swept = await sweep_garbage(store, order(now_ms=MUCH_LATER))
    assert swept.emptied == 12
    for number, old in enumerate(before, start=1):
        new = await find_round(store, number)
        assert old is not None
        assert new is not None
        assert [(one.event_id, one.sha256) for one in new.record.events] == [
            (one.event_id, one.sha256) for one in old.record.events
        ]
        assert all(one.body == "" for one in new.record.events)
        assert (new.record.writer, new.record.number) == ("tests", number)
    assert memory.objects[SCOPE.full(ObjectPath(unfolded))].data == b"x" * 2_000
    assert (await sweep_garbage(store, order(now_ms=MUCH_LATER))).emptied == 0
    await mark_garbage(store, order("r2", MUCH_LATER))
    report = await read_report(store, paths.orchestration_garbage("r2"))
    assert report is not None
    assert report.records_done == 12
    assert {one.path for one in report.objects if one.kind is Kind.RECORD} == {paths.orchestration_round(13)}
    watched = FaultyStore(memory)
    await mark_garbage(scoped(watched), order("r3", MUCH_LATER))
    assert watched.count(Op.LIST) == 9


async def test_a_record_that_changed_since_stays_as_it_is() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store)
    await mark_garbage(store, order())
    path = SCOPE.full(paths.orchestration_round(3))
    memory.seed(path, memory.objects[path].data)
    memory.seed(SCOPE.full(paths.orchestration_round(4)), b"damaged" * 100)
    await publisher.publish(bodies_of_runs(1, first=500))
    assert (await sweep_garbage(store, order(now_ms=MUCH_LATER))).emptied == 10


WORK = "0" * 26


async def test_what_a_rebuild_is_making_stays() -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = await published(store)
    assert publisher.manifest.springline is not None
    segment = put(memory, paths.ledger_segment(event_id(0), event_id(3), H12))
    table = put(memory, paths.orchestration_table(StateLayer.BASE, BASE, "runs", H12))
    pinned_index = put(
        memory,
        paths.ledger_index(event_id(0), event_id(3), H12),
        pure.encode_index(pure.EventsIndex(count=1, tail=[(event_id(0), "0" * 64)])),
    )
    loose = put(memory, paths.ledger_segment(event_id(0), event_id(4), H12))
    put(
        memory,
        paths.rebuild_slice_receipt(WORK, 1),
        orjson.dumps({"a": [{"path": segment}], "b": {"index": pinned_index}}),
    )
    put(memory, paths.rebuild_base(WORK, BASE), orjson.dumps({"tables": {"runs": Artifact(table, "0" * 64, 1).path}}))
    await mark_garbage(store, order())
    await publisher.publish(bodies_of_runs(1, first=500))
    put(memory, paths.rebuild_shard_receipt(WORK, H12, 0), b"{}")
    await mark_garbage(store, order("r2", MUCH_LATER))
    objects = await marked(store, "r2")
    assert objects[segment].since_ms == NOW_MS
    in_work = [one for path, one in objects.items() if paths.rebuild_work_of(path) is not None]
    assert [one.since_ms for one in in_work] == [MUCH_LATER] * 3, "a folder is as young as what came last"
    await publisher.publish(bodies_of_runs(1, first=600))
    await sweep_garbage(store, order("r2", MUCH_LATER + QUARANTINE_MS))
    assert loose not in relative(memory)
    assert {segment, table, pinned_index} <= relative(memory)
    assert sum(paths.rebuild_work_of(path) is not None for path in relative(memory)) == 3
    last = 2 * MUCH_LATER
    await mark_garbage(store, order("r3", last))
    await publisher.publish(bodies_of_runs(1, first=700))
    await sweep_garbage(store, order("r3", last + QUARANTINE_MS))
    assert not any(paths.rebuild_work_of(path) is not None for path in relative(memory))
    assert segment in relative(memory), "its turn comes once nothing names it"
    await publisher.publish(bodies_of_runs(1, first=800))
    await sweep_garbage(store, order("r3", last + QUARANTINE_MS))
    assert not {segment, table, pinned_index} & relative(memory)


@settings(max_examples=6, deadline=None)
@given(st.lists(st.sampled_from(["append", "merge", "base"]), min_size=2, max_size=8), st.integers(1, 4))
async def test_kept_revisions_stay_whole(forms: list[str], keep: int) -> None:
    memory = MemoryStore()
    store = scoped(memory)
    publisher = Publisher(store)
    bodies = bodies_of_runs(8)
    for number, form in enumerate(forms):
        cut = bodies[4 * number : 4 * number + 4]
        merge = int(form == "merge" and bool(publisher.manifests) and bool(publisher.manifest.l0_deltas))
        await publisher.publish(cut, base=form == "base", merge=merge)
        now_ms = NOW_MS + number * QUARANTINE_MS
        report = f"r{number}"
        await mark_garbage(store, order(report, now_ms, keep))
        await sweep_garbage(store, order(report, now_ms + QUARANTINE_MS, keep), nameless_ms=0)
        await check_readable(store, publisher.manifests[-keep:])
    again = await mark_garbage(store, order("last", NOW_MS + 100 * QUARANTINE_MS, keep))
    left = (await marked(store, "last")).values() if again.marked else []
    assert {one.kind for one in left} <= {Kind.NAMELESS, Kind.RECORD, Kind.SUPERSEDED}


@pytest.mark.parametrize("decision", [Decision.FAIL_BEFORE, Decision.FAIL_AFTER, Decision.LOSE])
@pytest.mark.parametrize("step", [mark_garbage, sweep_garbage])
async def test_any_fault_is_cured_by_repeating(decision: Decision, step: Callable[..., object]) -> None:
    template = MemoryStore()
    publisher = await published(scoped(template), 6)
    if step is sweep_garbage:
        await mark_garbage(scoped(template), order())
    good = template.copy()
    watched = FaultyStore(good)
    now_ms = NOW_MS if step is mark_garbage else LATER
    await step(scoped(watched), order(now_ms=now_ms))  # type: ignore[misc]
    operations = len(watched.trace)
    failures = 0
    for index in range(0, operations, 3):
        memory = template.copy()
        store = FaultyStore(memory, hook=plan({index: decision}))
        try:
            await step(scoped(store), order(now_ms=now_ms))  # type: ignore[misc]
        except StoreError:
            failures += 1
            await step(scoped(store), order(now_ms=now_ms))  # type: ignore[misc]
        assert {path: one.data for path, one in memory.objects.items()} == {
            path: one.data for path, one in good.objects.items()
        }
    assert failures > 5
    assert len(publisher.manifests) == 6


def test_nobody_else_lists() -> None:
    """Lists are for inventories: of the sequencer's modules only those of garbage collection ask for one."""
    folder = Path(__file__).parents[2] / "springline" / "sequencer"
    listing = {
        module.relative_to(folder).as_posix()
        for module in folder.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "list"
    }
    assert listing == {"garbage/mark.py", "garbage/pins.py"}
