"""The activities of tables: create, adopt, checkpoint. Each is safe to repeat and to run twice at once."""

from __future__ import annotations

from activities.interceptor import step
from activities.messages import CheckpointStart, TableOrder
from springline import names
from springline.commit.checkpoint import write_checkpoint
from springline.commit.tables import Registry, adopt_table, create_table
from springline.delta.checkpoints import CheckpointResult
from springline.delta.table_request import TableEntry
from springline.errors import Code, refused
from springline.paths import Scope
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore


class TableActivities:
    """Work on tables as a whole, over one store. `store` is the whole bucket; each table sees its workspace only."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @step(names.CREATE_TABLE, names.METRIC_STEP_SECONDS)
    async def create_table(self, order: TableOrder) -> TableEntry:
        """Create and register a table; a refusal is final, a fault of the store is tried again."""
        scope = Scope(order.start.tenant, order.start.workspace)
        spec = order.start.create
        if spec is None:
            raise _no_request(order)
        return await create_table(ScopedStore(self._store, scope), scope, spec, order.table_id, order.now_ms)

    @step(names.ADOPT_TABLE, names.METRIC_STEP_SECONDS)
    async def adopt_table(self, order: TableOrder) -> TableEntry:
        """Register the Delta table at a location; a refusal is final, a fault of the store is tried again."""
        scope = Scope(order.start.tenant, order.start.workspace)
        spec = order.start.adopt
        if spec is None:
            raise _no_request(order)
        return await adopt_table(ScopedStore(self._store, scope), scope, spec, order.table_id, order.now_ms)

    @step(names.CHECKPOINT, names.METRIC_STEP_SECONDS)
    async def checkpoint(self, start: CheckpointStart) -> CheckpointResult:
        """Write a checkpoint of the table's latest version, unless it has one."""
        table = start.table
        store = ScopedStore(self._store, Scope(table.tenant, table.workspace))
        return await write_checkpoint(store, await Registry(store).root_of(table.table_id))


def _no_request(order: TableOrder) -> Exception:
    kind = order.start.kind.value
    return refused(
        Code.INVALID_REQUEST,
        f"the order names kind {kind!r} and carries another request",
        field="kind",
        value=kind,
        remedy=f"give {kind!r} and nothing else",
    )
