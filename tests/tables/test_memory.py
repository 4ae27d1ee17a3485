"""What a process remembers of tables is bounded in bytes over all of them, and never mixes two."""

from __future__ import annotations

import uuid_utils

from springline.caches import Recent, Shelf
from springline.commit.registry import Registry, RegistryMemory
from springline.commit.table import CommitTable, Reserved, TableMemory, TableVersions, VersionMemory
from springline.delta.table_request import Claim, TableEntry
from springline.paths import Scope, name_claim, table_entry
from springline.storage.memory import MemoryStore
from springline.storage.port import IfAbsent
from springline.storage.scoped import ScopedStore


def test_shelves_of_one_memory_share_its_bound_and_no_names() -> None:
    shared: Recent[bytes] = Recent(entries=1_000, weight=100)
    shelves = [Shelf(shared, f"table-{number}") for number in range(50)]
    for number, shelf in enumerate(shelves):
        shelf.put("state", bytes([number]), weight=10)
        assert shelf.get("state") == bytes([number])
        assert shared.weight <= 100
    assert [shelf.get("state") for shelf in shelves[:40]] == [None] * 40
    assert [shelf.get("state") for shelf in shelves[40:]] == [bytes([number]) for number in range(40, 50)]
    shelves[49].drop("state")
    assert (shelves[49].get("state"), shelves[48].get("state"), shared.weight) == (None, bytes([48]), 90)


def test_versions_with_a_schema_weigh_what_it_weighs() -> None:
    memory = VersionMemory(2 * 100_000)
    store = MemoryStore()
    facts = [TableVersions(store, f"tables/{number}", memory, f"table-{number}") for number in range(200)]
    heavy = b'{"metaData":{"schemaString":"' + b"x" * 9_000 + b'"}}'
    for one in facts:
        for version in range(5):
            learned = one.learn(version, heavy if version == 0 else b'{"commitInfo":{"operation":"WRITE"}}')
            assert (learned.metadata is not None) is (version == 0)
        assert memory.versions.weight <= 100_000
    assert memory.versions.weight > 80_000


async def test_facts_beyond_what_fits_are_read_again() -> None:
    store = MemoryStore()
    table = CommitTable(store, "t", "tables/t", memory=TableMemory(4_000))
    for version in range(50):
        await store.put(table.log_path(version), b'{"commitInfo":{"operation":"WRITE"}}', IfAbsent())
    found = await table.versions.read(range(50))
    assert [facts.version for facts in found] == list(range(50))
    assert all(facts.operation == "WRITE" for facts in found)


def test_a_process_with_many_tables_remembers_a_bounded_part() -> None:
    memory = TableMemory(1_000_000)
    store = MemoryStore()
    for number in range(500):
        table = CommitTable(store, f"t{number}", f"tables/t{number}", memory=memory, owner=f"t{number}")
        reserved = Reserved.__new__(Reserved)
        table.reservations.put("commit", reserved, weight=50_000)
        assert table.reservations.get("commit") is reserved
    assert memory.weight <= 1_000_000


async def test_registries_share_a_bound_and_no_tables() -> None:
    memory = RegistryMemory(40_000)
    stores = [MemoryStore() for _ in range(100)]
    ids = [str(uuid_utils.uuid7()) for _ in stores]
    for number, (store, table_id) in enumerate(zip(stores, ids, strict=True)):
        entry = TableEntry(table_id=table_id, name="flights", root=f"tables/{number}", created_at_ms=number)
        claim = Claim(table_id=table_id, value="flights")
        scoped = ScopedStore(store, Scope(f"tenant-{number}", "prod"))
        await scoped.put(table_entry(table_id), entry.model_dump_json().encode(), IfAbsent())
        await scoped.put(name_claim("flights"), claim.model_dump_json().encode(), IfAbsent())
    for _ in range(2):
        for number, store in enumerate(stores):
            scoped = ScopedStore(store, Scope(f"tenant-{number}", "prod"))
            entry = await Registry(scoped, memory, f"tenant-{number}").entry("flights")
            assert (entry.table_id, entry.root) == (ids[number], f"tables/{number}")
            assert memory.weight <= 40_000
