"""Partitions of assets: the last materialization and the last attempt (docs/events.md#fold-partitions)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from springline.projection.fold.states import SUCCEEDED
from springline.projection.rows import PartitionRow

if TYPE_CHECKING:
    from springline.ledger.events import TaskCompletionRecorded, TaskFinished
    from springline.projection.rows import TaskRow
    from springline.projection.state import State

_ENDS: Final = {
    "succeeded": "SUCCEEDED",
    "failed": "FAILED",
    "skipped": "SKIPPED",
    "cancelled": "CANCELLED",
}


def record_attempt(
    state: State,
    task: TaskRow,
    data: TaskFinished | TaskCompletionRecorded,
    partition: str,
    event_id: str,
    at_ms: int,
) -> None:
    """Record an attempt that ended for the event's asset and partition, and what it materialized.

    `task` is the attempt's, as it is after its end.
    """
    asset = data.asset_key or ""
    key = (asset, partition)
    row = state.partitions.rows.get(key)
    if row is None:
        row = _placeholder(state, asset, partition)
    row = replace(
        row,
        last_attempt_run_id=task.run_id,
        last_attempt_at=at_ms,
        last_attempt_outcome=_ENDS[data.outcome],
        row_version=event_id,
    )
    if task.state == SUCCEEDED:
        row = replace(
            row,
            last_materialization_run_id=task.run_id,
            last_materialization_at=at_ms,
            last_materialization_code_version=data.code_version,
            stale_since=None,
            stale_reason_code=None,
            delta_table=task.delta_table,
            delta_version=task.delta_version,
            delta_partition=task.delta_partition,
            execution_lineage_ref=task.execution_lineage_ref,
        )
    state.partitions.put(key, row)


def _placeholder(state: State, asset: str, partition: str) -> PartitionRow:
    return PartitionRow(
        tenant_id=state.config.tenant,
        workspace_id=state.config.workspace,
        asset_key=asset,
        partition_key=partition,
        last_materialization_run_id=None,
        last_materialization_at=None,
        last_materialization_code_version=None,
        last_attempt_run_id=None,
        last_attempt_at=None,
        last_attempt_outcome=None,
        stale_since=None,
        stale_reason_code=None,
        partition_values=None,
        delta_table=None,
        delta_version=None,
        delta_partition=None,
        execution_lineage_ref=None,
        row_version="",
    )
