"""Writing deltas and bases: safe to repeat at any fault, the same bytes each time, damaged ones replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from springline import paths
from springline.ledger.envelope import parse_event
from springline.paths import ObjectPath
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_event
from springline.projection.schema import OWN_TABLES, REFERENCE_TABLES, TABLES, Key
from springline.projection.state import State
from springline.published.bases import write_base
from springline.published.deltas import (
    DeltaRows,
    merged_rows,
    read_delta,
    rows_of_changes,
    rows_of_keys,
    write_delta,
)
from springline.published.manifest import BaseSnapshot, Delta, EventRange
from springline.storage.damage import DamagedObject
from springline.storage.faults import Decision, FaultyStore, OperationKind, plan
from springline.storage.memory import MemoryStore
from springline.storage.port import IfVersion, ObjectStore, Precondition, PutResult, StoreError
from tests.sequencer.projections import Publisher, bodies_of_runs, golden_rows
from tests.support.sequencer_world import CONFIG, NOW_MS, SCOPE, event_id, scoped

RANGE = EventRange(event_id(0), event_id(5), 6)
DELTA_ID, SNAPSHOT_ID = event_id(100), event_id(200)


def folded(runs: int = 2) -> tuple[State, Digest]:
    state = State(CONFIG)
    state.tracking = True
    for body in bodies_of_runs(runs):
        fold_event(state, parse_event(body))
    digest = Digest()
    digest.apply(state.changes())
    return state, digest


async def a_delta(store: ObjectStore) -> Delta:
    state, digest = folded()
    content = rows_of_changes(state.changes())
    return await write_delta(store, DELTA_ID, content, digest, events=RANGE, created_ms=NOW_MS)


async def a_base(store: ObjectStore) -> BaseSnapshot:
    state, digest = folded()
    return await write_base(store, SNAPSHOT_ID, state, digest, published_ms=NOW_MS)


Write = Callable[[ObjectStore], Awaitable[Delta | BaseSnapshot]]
WRITES: list[Write] = [a_delta, a_base]


async def test_a_delta_says_what_changed(store: ObjectStore) -> None:
    state, digest = folded()
    state.accept()
    delta = await a_delta(store)
    read = await read_delta(store, delta)
    assert {name: sorted(rows, key=TABLES[name].key_of) for name, rows in read.rows.items()} == {
        name: rows for name, rows in golden_rows(state).items() if rows
    }
    assert delta.springline is not None
    assert {name: len(rows) for name, rows in read.rows.items()} == {
        name: getattr(delta.row_counts, name) for name in read.rows if name in REFERENCE_TABLES
    } | delta.springline.rows
    assert delta.rows == sum(digest.rows(name) for name in TABLES)
    assert (delta.deletion_count, delta.event_range, delta.created_at) == (0, RANGE, "2025-01-15T00:13:20Z")
    assert {file.table for file in delta.files()} == {name for name in TABLES if digest.rows(name)}
    only = await read_delta(store, delta, tables=["runs"])
    assert set(only.rows) == {"runs"}


async def test_a_delta_of_nothing_has_deletions_and_buckets(store: ObjectStore) -> None:
    delta = await write_delta(store, DELTA_ID, DeltaRows(), Digest(), events=RANGE, created_ms=NOW_MS)
    assert list(delta.tables.files()) == []
    assert delta.deletions is not None
    assert delta.buckets is not None
    assert (await read_delta(store, delta)).size == delta.rows == 0


async def test_deletions_travel_with_a_delta(store: ObjectStore) -> None:
    deleted: dict[str, list[Key]] = {
        "tasks": [("r", "b"), ("r", "a")],
        "run_key_conflicts": [("k:1", event_id(1))],
        "runs": ["r"],
    }
    delta = await write_delta(store, DELTA_ID, DeltaRows(deleted=deleted), Digest(), events=RANGE, created_ms=NOW_MS)
    read = await read_delta(store, delta)
    assert read.deleted == {name: sorted(keys) for name, keys in deleted.items()}
    assert (delta.deletion_count, delta.rows, read.size) == (4, 4, 4)
    assert set((await read_delta(store, delta, tables=["runs"])).deleted) == {"runs"}


async def test_a_base_has_every_table(store: ObjectStore) -> None:
    base = await a_base(store)
    state, _ = folded()
    ours = [name for name in OWN_TABLES if state.count(name)]
    assert [file.table for file in base.files()] == [*REFERENCE_TABLES, *ours]
    assert ours
    assert set(base.tables.catalog_run_index_by_org) == {CONFIG.tenant}
    assert (base.snapshot_id, base.delete_channel_version) == (SNAPSHOT_ID, 1)
    empty = await write_base(store, event_id(300), State(CONFIG), Digest(), published_ms=NOW_MS)
    assert [file.table for file in empty.files()] == list(REFERENCE_TABLES)
    for file in (*base.files(), *empty.files()):
        assert await store.get(paths.relative_path(file.path)) is not None


@pytest.mark.parametrize("write", WRITES)
async def test_files_are_reproducible_and_written_once(write: Write) -> None:
    store = FaultyStore(MemoryStore())
    first = await write(scoped(store))
    before = dict(store.inner.objects)  # type: ignore[attr-defined]
    assert await write(scoped(store)) == first
    assert dict(store.inner.objects) == before  # type: ignore[attr-defined]
    again = MemoryStore()
    assert await write(scoped(again)) == first
    assert {path: one.data for path, one in again.objects.items()} == {path: one.data for path, one in before.items()}
    assert store.count(OperationKind.LIST) == 0


@pytest.mark.parametrize("write", WRITES)
async def test_puts_are_made_together(write: Write) -> None:
    store = FaultyStore(MemoryStore(), latency=0.05)
    await write(scoped(store))
    assert store.count() == store.count(OperationKind.PUT) > 5
    assert store.steps["main"] < store.count() / 2


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("decision", [Decision.FAIL_BEFORE, Decision.FAIL_AFTER, Decision.LOSE, Decision.LATE])
async def test_any_fault_is_cured_by_repeating(write: Write, decision: Decision) -> None:
    good = MemoryStore()
    expected = await write(scoped(good))
    puts = len(good.objects)
    for index in range(puts):
        memory = MemoryStore()
        store = FaultyStore(memory, hook=plan({index: decision}))
        try:
            assert await write(scoped(store)) == expected
        except StoreError:
            assert await write(scoped(store)) == expected
        await store.deliver_late()
        assert {path: one.data for path, one in memory.objects.items()} == {
            path: one.data for path, one in good.objects.items()
        }


@pytest.mark.parametrize("write", WRITES)
async def test_other_bytes_at_our_names_are_replaced(write: Write) -> None:
    """A name says by its hash what must be there."""
    good = MemoryStore()
    expected = await write(scoped(good))
    for path in list(good.objects):
        store = MemoryStore()
        store.seed(path, b"damaged")
        assert await write(scoped(store)) == expected
        assert store.objects[path].data == good.objects[path].data


@pytest.mark.parametrize("write", WRITES)
async def test_bytes_that_somebody_changes_all_the_time_are_named(write: Write) -> None:
    class Contested(FaultyStore):
        async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
            if isinstance(precondition, IfVersion):
                memory.seed(path, b"somebody else's")
            return await super().put(path, data, precondition)

    good = MemoryStore()
    await write(scoped(good))
    for path in list(good.objects):
        memory = MemoryStore()
        memory.seed(path, b"damaged")
        with pytest.raises(DamagedObject, match="holds other bytes") as caught:
            await write(scoped(Contested(memory)))
        assert SCOPE.full(ObjectPath(caught.value.path)) == path


async def test_merged_deltas_hold_the_rows_as_they_are_now(store: ObjectStore) -> None:
    publisher = Publisher(store)
    bodies = bodies_of_runs(4)
    await publisher.publish(bodies[:9], base=True)
    await publisher.publish(bodies[9:14])
    await publisher.publish(bodies[14:17])
    for body in bodies[17:]:
        fold_event(publisher.state, parse_event(body))
    changes = publisher.state.changes()
    deltas = publisher.manifest.l0_deltas
    merged = await merged_rows(store, publisher.state, deltas, changes)
    known = {delta.delta_id: (await read_delta(store, delta)).keys() for delta in deltas}
    unread = FaultyStore(MemoryStore())
    from_memory = await merged_rows(unread, publisher.state, deltas, changes, known)
    assert unread.count() == 0
    one_known = dict(list(known.items())[:1])
    for other in (from_memory, await merged_rows(store, publisher.state, deltas, changes, one_known)):
        assert other.keys() == merged.keys()
        assert all(sorted(other.rows[name]) == sorted(merged.rows[name]) for name in merged.rows)
    union = rows_of_changes(changes).keys()
    for keys in known.values():
        for name, its_keys in keys.items():
            union.setdefault(name, set()).update(its_keys)
    assert merged.keys() == union
    assert all(
        publisher.state.row(name, TABLES[name].key_of(row)) == row for name in merged.rows for row in merged.rows[name]
    )


async def test_a_row_that_came_and_went_is_deleted() -> None:
    state, _ = folded()
    gone = rows_of_keys(state, {"runs": ["run-0", "no such run"], "tasks": [("run-0", "extract"), ("run-0", "x")]})
    assert [TABLES["runs"].key_of(row) for row in gone.rows["runs"]] == ["run-0"]
    assert gone.deleted == {"runs": ["no such run"], "tasks": [("run-0", "x")]}
    assert gone.size == 4


async def test_the_event_loop_lives_while_files_are_encoded() -> None:
    """Heartbeats of an activity run on the loop: it must not stand still for as long as a table takes."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.ensure_future(tick())
    await a_base(scoped(MemoryStore()))
    ticking.cancel()
    assert ticks > 100
