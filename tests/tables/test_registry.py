from __future__ import annotations

import pytest

from springline import paths
from springline.bounds import shown
from springline.commit.registry import Registry
from springline.errors import Code, InvariantViolated
from springline.storage.faults import FaultyStore
from springline.storage.memory import MemoryStore
from tests.support.tables import ID_A, ID_B, SCOPE, create, flights, refusal_of, scoped


async def test_a_table_is_found_by_id_and_by_name_and_then_remembered() -> None:
    memory = MemoryStore()
    entry = await create(memory, flights())
    store = FaultyStore(memory)
    registry = Registry(scoped(store))
    assert await registry.entry("flights") == entry
    asked = len(store.trace)
    assert await registry.entry("flights") == entry
    assert await registry.entry(ID_A) == entry
    assert await registry.root_of(ID_A) == entry.root
    assert len(store.trace) == asked


@pytest.mark.parametrize("asked", ["flights", ID_A, "", "no/such name", ID_A.upper(), "x" * 3000])
async def test_an_unknown_table_is_refused_and_asked_for_again(asked: str) -> None:
    memory = MemoryStore()
    registry = Registry(scoped(memory))
    refusal = await refusal_of(registry.entry(asked))
    assert (refusal.code, refusal.field, refusal.value) == (Code.TABLE_NOT_FOUND, "table", shown(asked))
    entry = await create(memory, flights())
    if asked in ("flights", ID_A):
        assert await registry.entry(asked) == entry
    else:
        await refusal_of(registry.entry(asked))


async def test_another_workspace_does_not_see_it() -> None:
    memory = MemoryStore()
    await create(memory, flights())
    from springline.storage.scoped import ScopedStore

    other = Registry(ScopedStore(memory, paths.Scope("acme", "test")))
    assert (await refusal_of(other.entry("flights"))).code is Code.TABLE_NOT_FOUND
    assert (await refusal_of(other.root_of(ID_A))).code is Code.TABLE_NOT_FOUND


async def test_a_coordinator_without_an_entry_has_the_default_root() -> None:
    memory = MemoryStore()
    registry = Registry(scoped(memory))
    assert (await refusal_of(registry.root_of(ID_B))).code is Code.TABLE_NOT_FOUND
    assert (await refusal_of(registry.root_of("nonsense"))).code is Code.TABLE_NOT_FOUND
    memory.seed(SCOPE.full(paths.delta_coordinator(ID_B)), b'{"latest_version":-1,"inflight":null}')
    assert await registry.root_of(ID_B) == f"tables/{ID_B}"
    assert (await refusal_of(registry.entry(ID_B))).code is Code.TABLE_NOT_FOUND


async def test_damaged_and_contradicting_records_are_reported() -> None:
    memory = MemoryStore()
    await create(memory, flights())
    memory.seed(SCOPE.full(paths.table_entry(ID_A)), b'{"table_id": 7}')
    with pytest.raises(InvariantViolated, match=ID_A):
        await Registry(scoped(memory)).entry(ID_A)
    memory.remove(SCOPE.full(paths.table_entry(ID_A)))
    with pytest.raises(InvariantViolated, match=paths.table_entry(ID_A)):
        await Registry(scoped(memory)).entry("flights")
