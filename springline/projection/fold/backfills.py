"""Backfills and their chunks (docs/events.md#fold-automation)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from springline.ledger.events import BackfillChunkPlanned, BackfillCreated, BackfillStateChanged
from springline.ledger.identifiers import backfill_chunk_id
from springline.projection.fold.values import json_text
from springline.projection.rows import BackfillRow, ChunkRow

if TYPE_CHECKING:
    from springline.projection.state import State

LEGAL_MOVES: Final = frozenset(
    {
        ("PENDING", "RUNNING"),
        ("PAUSED", "RUNNING"),
        ("RUNNING", "PAUSED"),
        ("RUNNING", "SUCCEEDED"),
        ("RUNNING", "FAILED"),
        ("PENDING", "CANCELLED"),
        ("RUNNING", "CANCELLED"),
        ("PAUSED", "CANCELLED"),
    }
)
"""From which state a backfill may go to which."""


def backfill_created(state: State, event_id: str, at_ms: int, data: BackfillCreated) -> bool:
    """Create a backfill; chunks planned before it are counted."""
    if data.backfill_id in state.backfills.rows:
        return False
    row = BackfillRow(
        tenant_id=state.config.tenant,
        workspace_id=state.config.workspace,
        backfill_id=data.backfill_id,
        asset_selection=json_text(data.asset_selection),
        code_version=data.code_version,
        partition_selector=json_text(data.partition_selector),
        chunk_size=data.chunk_size,
        max_concurrent_runs=data.max_concurrent_runs,
        state="RUNNING",
        state_version=1,
        total_partitions=data.total_partitions,
        planned_chunks=0 if data.chunk_size == 0 else _contiguous(state, data.backfill_id, 0),
        completed_chunks=0,
        failed_chunks=0,
        parent_backfill_id=data.parent_backfill_id,
        created_at=at_ms,
        row_version=event_id,
    )
    state.backfills.put(data.backfill_id, row)
    return True


def backfill_chunk_planned(state: State, event_id: str, at_ms: int, data: BackfillChunkPlanned) -> bool:
    """Plan a chunk, or plan it anew; its backfill counts the chunks up to the first gap."""
    old = state.chunks.rows.get(data.chunk_id)
    row = ChunkRow(
        tenant_id=state.config.tenant,
        workspace_id=state.config.workspace,
        chunk_id=data.chunk_id,
        backfill_id=data.backfill_id,
        chunk_index=data.chunk_index,
        partition_keys=json_text(data.partition_keys),
        run_key=data.run_key,
        run_id=None if old is None else old.run_id,
        state="PLANNED",
        row_version=event_id,
    )
    state.chunks.put(data.chunk_id, row)
    backfill = state.backfills.rows.get(data.backfill_id)
    if backfill is not None:
        planned = _contiguous(state, data.backfill_id, backfill.planned_chunks)
        if planned != backfill.planned_chunks:
            state.backfills.put(data.backfill_id, replace(backfill, planned_chunks=planned, row_version=event_id))
    return True


def _contiguous(state: State, backfill_id: str, planned: int) -> int:
    """Return how many chunks there are from the first without a gap, when that many are known to be there."""
    while backfill_chunk_id(backfill_id, planned) in state.chunks.rows:
        planned += 1
    return planned


def backfill_state_changed(state: State, event_id: str, at_ms: int, data: BackfillStateChanged) -> bool:
    """Move a backfill, if it is where the event believes it to be and the move is legal."""
    backfill = state.backfills.rows.get(data.backfill_id)
    if (
        backfill is None
        or backfill.state != data.from_state
        or (data.from_state, data.to_state) not in LEGAL_MOVES
        or data.state_version != backfill.state_version + 1
    ):
        return False
    moved = replace(backfill, state=data.to_state, state_version=data.state_version, row_version=event_id)
    state.backfills.put(data.backfill_id, moved)
    return True
