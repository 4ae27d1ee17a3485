"""Bases: the whole state as files, one per table even if it is empty (docs/formats.md#table-files)."""

from __future__ import annotations

from springline import paths
from springline.ledger.timestamps import format_ms
from springline.paths import StateLayer
from springline.projection.buckets import encode_buckets
from springline.projection.digest import Digest
from springline.projection.manifest import BaseSnapshot
from springline.projection.parquet import encode_pieces
from springline.projection.schema import CATALOG_RUN_INDEX, TABLES
from springline.projection.state import State
from springline.sequencer.artifacts import write_file
from springline.sequencer.offload import in_turn
from springline.sequencer.parallel import each
from springline.sequencer.table_files import EncodedTable, WrittenTable, paths_of, write_table
from springline.storage.port import ObjectStore

PUTS_TOGETHER = 4
"""How many tables' bytes are in memory at a time."""
DELETE_CHANNEL_VERSION = 1
"""What a base declares from which deletions are recorded (docs/formats.md#deletions)."""


async def write_base(
    store: ObjectStore,
    snapshot_id: str,
    state: State,
    digest: Digest,
    *,
    published_ms: int,
    concurrency: int = PUTS_TOGETHER,
) -> BaseSnapshot:
    """Write the whole of `state`, whose digest is `digest`, and return the base for the manifest.

    One table is encoded at a time, in a thread, while others are being put; the state must stay as it is meanwhile.
    `published_ms` is in milliseconds since 1970. Safe to repeat with the same state. Raises `DamagedObject` if other
    bytes stand at one of the names, and what the store does.
    """

    async def write(table: str) -> WrittenTable:
        data = await in_turn(lambda: encode_pieces(TABLES[table], state.pieces(table)))
        org = state.config.tenant if table == CATALOG_RUN_INDEX.name else None
        return await write_table(store, StateLayer.BASE, snapshot_id, EncodedTable(table, org, data))

    written = await each(write, TABLES, concurrency=concurrency)
    buckets = await write_file(
        store,
        encode_buckets(digest),
        lambda name: paths.orchestration_buckets(StateLayer.BASE, snapshot_id, name),
    )
    return BaseSnapshot(
        snapshot_id=snapshot_id,
        published_at=format_ms(published_ms),
        tables=paths_of(written),
        delete_channel_version=DELETE_CHANNEL_VERSION,
        buckets=buckets,
    )
