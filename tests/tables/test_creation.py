"""Creating tables: what is written, who is refused, and every crash and race on the way."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from springline import paths
from springline.commit.registry import Registry
from springline.delta.registry import TableEntry
from springline.delta.table_request import CreateTable
from springline.errors import Code, InvariantViolated, Refused
from springline.storage.faults import Decision, FaultyStore, ProcessDied
from springline.storage.memory import MemoryStore
from springline.storage.operations import Kind, Operation
from springline.storage.port import StoreRetry, StoreUnknown
from tests.support.checksums import without_checksum
from tests.support.tables import (
    ID_A,
    ID_B,
    ID_C,
    LATER_MS,
    NOW_MS,
    SCOPE,
    adopt,
    create,
    deltalake_table,
    flights,
    load,
    refusal_of,
    relative_objects,
    save,
    scoped,
)

FOLDER = "warehouse/flights"
ROOT = f"/{SCOPE.tables}/{FOLDER}"


async def test_what_a_creation_writes() -> None:
    store = MemoryStore()
    entry = await create(store, flights(properties={"owner": "me"}))
    root = f"/tables/acme/prod/{ID_A}"
    assert entry == TableEntry(
        table_id=ID_A, name="flights", root=root, created_at_ms=NOW_MS, properties={"owner": "me"}
    )
    objects = relative_objects(store)
    assert set(objects) == {
        paths.root_claim(root),
        paths.delta_log(root, 0),
        paths.table_entry(ID_A),
        paths.delta_coordinator(ID_A),
        paths.name_claim("flights"),
    }
    coordinator = paths.delta_coordinator(ID_A)
    assert without_checksum(objects[coordinator], coordinator) == b'{"latest_version":0,"inflight":null}'
    for claim, value in ((paths.root_claim(root), root), (paths.name_claim("flights"), "flights")):
        assert json.loads(without_checksum(objects[claim], claim)) == {"table_id": ID_A, "value": value}


async def test_the_order_of_the_puts_and_no_listing() -> None:
    store = FaultyStore(MemoryStore())
    await create(store, flights())
    root = f"/tables/acme/prod/{ID_A}"
    puts = [SCOPE.relative(one.operation.path) for one in store.trace if one.operation.kind is Kind.PUT]
    assert puts == [
        paths.root_claim(root),
        paths.delta_log(root, 0),
        paths.table_entry(ID_A),
        paths.delta_coordinator(ID_A),
        paths.name_claim("flights"),
    ]
    assert store.count(Kind.LIST) == 0


async def test_deltalake_reads_it_at_its_location(tmp_path: Path) -> None:
    store = MemoryStore(name="lake")
    spec = flights(location=f"memory://lake{ROOT}/", partition_columns=["day"])
    entry = await create(store, spec)
    assert entry.root == ROOT
    table = DeltaTable(save(store, ROOT, tmp_path))
    assert table.version() == 0
    assert table.metadata().name == "flights"
    assert table.metadata().partition_columns == ["day"]


async def test_a_repeated_creation_is_answered_with_the_same_table_and_writes_nothing() -> None:
    store = MemoryStore()
    first = await create(store, flights(location=ROOT))
    before = dict(store.objects)
    assert await create(store, flights(location=ROOT)) == first
    assert await create(store, flights(location=ROOT), now_ms=LATER_MS) == first
    assert dict(store.objects) == before


@pytest.mark.parametrize(
    ("spec", "code", "field"),
    [
        (flights("flights"), Code.NAME_TAKEN, "name"),
        (flights("flights", ROOT), Code.NAME_TAKEN, "name"),
        (flights("other", ROOT), Code.ROOT_TAKEN, "location"),
        (flights("other", f"{ROOT}/"), Code.ROOT_TAKEN, "location"),
        (flights("other", FOLDER), Code.ROOT_TAKEN, "location"),
        (flights("other", f"{FOLDER}/inner"), Code.ROOT_TAKEN, "location"),
        (flights("other", f"{ROOT}/inner"), Code.ROOT_TAKEN, "location"),
        (flights("other", f"{ROOT}/inner/deeper"), Code.ROOT_TAKEN, "location"),
        (flights("other", "delta/staging"), Code.INVALID_PATH, "location"),
        (flights("other", "ledger"), Code.INVALID_PATH, "location"),
        (flights("other", "tables"), Code.INVALID_PATH, "location"),
        (flights("other", f"tables/{ID_B}/inner"), Code.INVALID_PATH, "location"),
        (flights("other", "a/_delta_log"), Code.INVALID_PATH, "location"),
        (flights("other", "a//b"), Code.INVALID_PATH, "location"),
        (flights("other", "a/../b"), Code.INVALID_PATH, "location"),
        (flights("other", "a%2Fb"), Code.INVALID_PATH, "location"),
        (flights("other", "  "), Code.INVALID_PATH, "location"),
        (flights("other", "/".join("x" * 33)), Code.INVALID_PATH, "location"),
        (flights("no/name"), Code.INVALID_REQUEST, "name"),
        (flights("other", properties={"delta.enableRowTracking": "true"}), Code.UNSUPPORTED_FEATURE, "properties"),
    ],
)
async def test_what_is_refused_writes_nothing(spec: CreateTable, code: Code, field: str) -> None:
    store = MemoryStore()
    await create(store, flights("flights", ROOT))
    before = dict(store.objects)
    refusal = await refusal_of(create(store, spec, ID_B))
    assert (refusal.code, refusal.field) == (code, field)
    assert dict(store.objects) == before


async def test_a_folder_that_holds_a_delta_table_is_not_created_over(tmp_path: Path) -> None:
    store = MemoryStore()
    load(store, ROOT, deltalake_table(tmp_path, 2))
    before = dict(store.objects)
    refusal = await refusal_of(create(store, flights(location=ROOT)))
    assert refusal.code is Code.ROOT_TAKEN
    assert "adopt" in (refusal.remedy or "")
    store.remove(SCOPE.full(paths.delta_log(ROOT, 0)))
    store.seed(SCOPE.full(paths.delta_last_checkpoint(ROOT)), b'{"version":1,"size":2}')
    assert (await refusal_of(create(store, flights(location=ROOT)))).code is Code.ROOT_TAKEN
    assert paths.root_claim(ROOT) not in relative_objects(store)
    assert len(store.objects) == len(before)


async def test_a_default_location_given_in_full_keeps_the_id_it_names() -> None:
    store = MemoryStore()
    entry = await create(store, flights(location=f"tables/{ID_C}"), ID_A)
    assert (entry.table_id, entry.root) == (ID_C, f"tables/{ID_C}")


def dying_at(index: int, decision: Decision) -> Callable[[MemoryStore], FaultyStore]:
    def wrap(inner: MemoryStore) -> FaultyStore:
        async def hook(operation: Operation) -> Decision:
            return decision if operation.index == index else Decision.PROCEED

        return FaultyStore(inner, hook=hook)

    return wrap


async def operations_of(spec: CreateTable) -> int:
    store = FaultyStore(MemoryStore())
    await create(store, spec)
    return len(store.trace)


def check_complete(store: MemoryStore, entry: TableEntry, spec: CreateTable) -> None:
    """Check the invariant of a finished creation: one entry at the root, everything there, everything agreeing."""
    objects = relative_objects(store)
    assert json.loads(objects[paths.root_claim(entry.root)])["table_id"] == entry.table_id
    assert json.loads(objects[paths.name_claim(spec.name)])["table_id"] == entry.table_id
    assert TableEntry.model_validate_json(objects[paths.table_entry(entry.table_id)]) == entry
    coordinator = paths.delta_coordinator(entry.table_id)
    assert without_checksum(objects[coordinator], coordinator) == b'{"latest_version":0,"inflight":null}'
    zero = [json.loads(line) for line in objects[paths.delta_log(entry.root, 0)].splitlines()]
    assert zero[2]["metaData"]["id"] == entry.table_id
    entries = [path for path in objects if path.startswith("delta/tables/")]
    at_root = [path for path in entries if json.loads(objects[path])["root"] == entry.root]
    assert len(at_root) == 1


@pytest.mark.parametrize("location", [None, ROOT])
@pytest.mark.parametrize("decision", [Decision.DIE_BEFORE, Decision.DIE_AFTER, Decision.DIE_LATE])
async def test_a_crash_at_every_operation_is_completed_by_the_same_workflow(
    location: str | None, decision: Decision
) -> None:
    spec = flights(location=location)
    for index in range(await operations_of(spec)):
        memory = MemoryStore()
        store = dying_at(index, decision)(memory)
        with pytest.raises(ProcessDied):
            await create(store, spec)
        for late_first in (True, False):
            twin = memory.copy()
            if late_first and store.late:
                for write in store.late:
                    assert write.operation.data is not None
                    twin.seed(write.operation.path, write.operation.data)
            entry = await create(twin, spec)
            assert entry.table_id == ID_A
            check_complete(twin, entry, spec)


@pytest.mark.parametrize("decision", [Decision.FAIL_BEFORE, Decision.FAIL_AFTER, Decision.LOSE, Decision.LATE])
async def test_a_fault_at_every_operation_is_survived_or_retried(decision: Decision) -> None:
    spec = flights(location=ROOT)
    for index in range(await operations_of(spec)):
        memory = MemoryStore()
        store = dying_at(index, decision)(memory)
        for _ in range(3):
            try:
                entry = await create(store, spec)
            except (StoreRetry, StoreUnknown):
                continue
            break
        else:
            raise AssertionError(f"operation {index}, {decision}: never finished")
        await store.deliver_late()
        check_complete(memory, entry, spec)


@pytest.mark.parametrize("decision", [Decision.DIE_BEFORE, Decision.DIE_AFTER])
async def test_a_dead_creation_blocks_neither_its_root_nor_its_name(decision: Decision) -> None:
    """Nobody retries the dead workflow; another one asks for the same table, then for its root under another name."""
    spec = flights(location=ROOT)
    for index in range(await operations_of(spec)):
        memory = MemoryStore()
        with pytest.raises(ProcessDied):
            await create(dying_at(index, decision)(memory), spec)
        finished = paths.name_claim("flights") in relative_objects(memory)
        if finished:
            assert (await refusal_of(create(memory, spec, ID_B))).code is Code.NAME_TAKEN
            continue
        twin = memory.copy()
        entry = await create(twin, spec, ID_B, LATER_MS)
        check_complete(twin, entry, spec)
        claimed = paths.root_claim(ROOT) in relative_objects(memory)
        assert entry.table_id == (ID_A if claimed else ID_B)

        elsewhere = memory.copy()
        check_complete(elsewhere, await create(elsewhere, flights(), ID_B), flights())

        renamed = flights("renamed", ROOT)
        twin = memory.copy()
        if paths.delta_log(ROOT, 0) not in relative_objects(memory):
            check_complete(twin, await create(twin, renamed, ID_B), renamed)
        elif paths.table_entry(ID_A) in relative_objects(memory):
            assert (await refusal_of(create(twin, renamed, ID_B))).code is Code.ROOT_TAKEN
            assert (await adopt(twin, "flights", ROOT, ID_B)).table_id == ID_A
        else:
            assert (await refusal_of(create(twin, renamed, ID_B))).code is Code.ROOT_TAKEN
            entry = await adopt(twin, "renamed", ROOT, ID_B)
            check_complete(twin, entry, renamed)
            assert entry.table_id == ID_A


class Turns:
    """Lets two processes run in a chosen order of storage operations: one letter of `order` is one operation."""

    def __init__(self, order: str) -> None:
        self.order = list(order)
        self.waiting: dict[str, deque[asyncio.Event]] = {"a": deque(), "b": deque()}
        self.done: set[str] = set()

    async def __call__(self, operation: Operation) -> Decision:
        event = asyncio.Event()
        self.waiting[operation.actor].append(event)
        self.go()
        await event.wait()
        return Decision.PROCEED

    def go(self) -> None:
        while self.order and self.order[0] in self.done:
            self.order.pop(0)
        turn = self.order[0] if self.order else next((name for name in "ab" if self.waiting[name]), "a")
        if self.waiting[turn]:
            if self.order:
                self.order.pop(0)
            self.waiting[turn].popleft().set()
            self.go()

    def finish(self, name: str) -> None:
        self.done.add(name)
        self.go()


async def race(one: CreateTable, two: CreateTable, order: str) -> tuple[MemoryStore, list[TableEntry | Refused]]:
    memory = MemoryStore()
    turns = Turns(order)
    store = FaultyStore(memory, hook=turns)

    async def run(actor: str, spec: CreateTable, table_id: str) -> TableEntry | Refused:
        try:
            return await create(store.actor(actor), spec, table_id)
        except Refused as refused:
            return refused
        finally:
            turns.finish(actor)

    return memory, list(await asyncio.gather(run("a", one, ID_A), run("b", two, ID_B)))


def orders(switches: int = 3, length: int = 14) -> list[str]:
    """Return every order of two processes with at most `switches` switches, in steps of whole operations."""
    found = set()
    for cuts in itertools.combinations(range(1, length), switches):
        marks = [0, *cuts, 60]
        for first in ("ab", "ba"):
            found.add(
                "".join(
                    first[index % 2] * (end - start) for index, (start, end) in enumerate(itertools.pairwise(marks))
                )
            )
    return sorted(found)


@pytest.mark.parametrize(
    ("one", "two", "both"),
    [
        (flights("flights", ROOT), flights("flights", ROOT), True),
        (flights("flights", ROOT), flights("other", ROOT), False),
        (flights("flights", ROOT), flights("flights", ROOT, partition_columns=["day"]), False),
        (flights("flights", "a"), flights("flights", "b"), False),
        (flights("flights"), flights("flights"), False),
    ],
)
async def test_two_racing_creators_leave_one_table_for_each_root_and_name(
    one: CreateTable, two: CreateTable, both: bool
) -> None:
    checked = 0
    for order in orders():
        memory, results = await race(one, two, order)
        won = [(spec, entry) for spec, entry in zip((one, two), results, strict=True) if isinstance(entry, TableEntry)]
        lost = [error.refusal.code for error in results if isinstance(error, Refused)]
        assert len(won) >= 1, order
        for spec, entry in won:
            check_complete(memory, entry, spec)
        if len(won) == 2:
            assert both and won[0][1] == won[1][1], order
        else:
            assert lost[0] in (Code.ROOT_TAKEN, Code.NAME_TAKEN), order
        named = await Registry(scoped(memory)).entry(won[0][0].name)
        assert named == won[0][1]
        checked += 1
    assert checked > 300


async def test_the_loser_of_a_name_keeps_a_table_it_can_use_by_its_id() -> None:
    memory = MemoryStore()
    registry = Registry(scoped(memory))

    async def hook(operation: Operation) -> Decision:
        if operation.kind is Kind.PUT and operation.path == SCOPE.full(paths.name_claim("flights")):
            await create(memory, flights("flights", "b"), ID_B)
        return Decision.PROCEED

    refusal = await refusal_of(create(FaultyStore(memory, hook=hook), flights("flights", "a"), ID_A))
    assert refusal.code is Code.NAME_TAKEN
    assert ID_B in refusal.message
    assert ID_A in (refusal.remedy or "")
    assert (await registry.entry(ID_A)).root == f"/{SCOPE.tables}/a"
    assert (await registry.entry("flights")).table_id == ID_B


async def test_damaged_records_stop_everything() -> None:
    store = MemoryStore()
    store.seed(SCOPE.full(paths.root_claim(ROOT)), b"nonsense")
    with pytest.raises(InvariantViolated, match="registry record"):
        await create(store, flights(location=ROOT))
    store = MemoryStore()
    await create(store, flights(location=ROOT))
    wrong = {"table_id": ID_A, "name": "flights", "root": "elsewhere", "created_at_ms": 1}
    store.seed(SCOPE.full(paths.table_entry(ID_A)), json.dumps(wrong).encode())
    with pytest.raises(InvariantViolated, match="elsewhere"):
        await create(store, flights(location=ROOT))


async def test_a_late_repeat_does_not_write_version_0_again_after_log_clean_up() -> None:
    store = MemoryStore()
    entry = await create(store, flights(location=ROOT))
    store.remove(SCOPE.full(paths.delta_log(ROOT, 0)))
    store.seed(SCOPE.full(paths.delta_last_checkpoint(ROOT)), b'{"version":9,"size":2}')
    assert await create(store, flights(location=ROOT)) == entry
    assert paths.delta_log(ROOT, 0) not in relative_objects(store)
