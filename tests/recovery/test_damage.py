"""A damaged object is named to whom it concerns and holds up nobody else."""

from __future__ import annotations

from activities.messages import TableRef
from springline import paths
from springline.errors import Code
from springline.storage.memory import MemoryStore
from springline.storage.port import IfAbsent
from tests.support.commit_rounds import Rounds
from tests.support.rows import SCOPE, TABLE_ID, adding, create_rows_table


async def test_a_damaged_marker_refuses_its_own_key_and_nobody_elses() -> None:
    store = MemoryStore()
    entry = await create_rows_table(store)
    process = Rounds(store, TableRef(tenant=SCOPE.tenant, workspace=SCOPE.workspace, table_id=TABLE_ID), entry.root)
    hurt = await process.stage(adding("hurt"), read_version=0)
    well = await process.stage(adding("well"), read_version=0)
    marker = paths.delta_marker(TABLE_ID, hurt.idempotency_key)
    await process.store.put(marker, b"{", IfAbsent())
    refused, committed = await process.commit(hurt, well)
    assert refused.refusal is not None
    assert refused.refusal.code is Code.STORED_DAMAGED
    assert marker in refused.refusal.message
    assert refused.refusal.value == hurt.idempotency_key
    assert committed.result is not None
    assert committed.result.version == 1
    log = await process.store.get(process.table.log_path(1))
    assert log is not None
    assert b"hurt" not in log.data
