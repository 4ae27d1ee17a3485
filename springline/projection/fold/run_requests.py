"""Run keys: which run a request asks for, and requests that contradict an earlier one.

See docs/events.md#fold-automation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from springline.ledger.events import BackfillRef, RunRequested, ScheduleRef, SensorRef
from springline.ledger.identifiers import run_id_of_key
from springline.projection.fold.sensors import STALE_STATUS
from springline.projection.rows import ConflictRow, RunKeyRow

if TYPE_CHECKING:
    from springline.projection.state import State


def run_requested(state: State, event_id: str, at_ms: int, data: RunRequested) -> bool:
    """Bind a run key to its run; the first request stays, and another fingerprint is a conflict."""
    source, config = data.trigger_source_ref, state.config
    if isinstance(source, SensorRef):
        evaluation = state.evaluations.rows.get(source.eval_id)
        if evaluation is not None and evaluation.status == STALE_STATUS:
            return False
    known = state.run_keys.rows.get(data.run_key)
    if known is None:
        run_id = run_id_of_key(config.tenant, config.workspace, data.run_key, config.run_id_secret)
        row = RunKeyRow(
            tenant_id=config.tenant,
            workspace_id=config.workspace,
            run_key=data.run_key,
            run_id=run_id,
            request_fingerprint=data.request_fingerprint,
            code_version=data.code_version,
            created_at=at_ms,
            row_version=event_id,
        )
        state.run_keys.put(data.run_key, row)
        _correlate(state, source, run_id)
    elif known.request_fingerprint != data.request_fingerprint:
        conflict = ConflictRow(
            tenant_id=config.tenant,
            workspace_id=config.workspace,
            run_key=data.run_key,
            existing_fingerprint=known.request_fingerprint,
            conflicting_fingerprint=data.request_fingerprint,
            conflicting_event_id=event_id,
            detected_at=at_ms,
        )
        state.conflicts.put((data.run_key, event_id), conflict)
    return True


def _correlate(state: State, source: object, run_id: str) -> None:
    """Name the run in the tick or chunk that asked for it; their stamps stay."""
    if isinstance(source, ScheduleRef):
        tick = state.ticks.rows.get(source.tick_id)
        if tick is not None:
            state.ticks.put(source.tick_id, replace(tick, run_id=run_id))
    elif isinstance(source, BackfillRef):
        chunk = state.chunks.rows.get(source.chunk_id)
        if chunk is not None:
            state.chunks.put(source.chunk_id, replace(chunk, run_id=run_id))
