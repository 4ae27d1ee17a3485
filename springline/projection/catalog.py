"""Rows of `catalog_run_index`, derived from run and task (docs/events.md#fold-catalog).

The reference writes the rows of all of a run's tasks whenever an event of the run is applied. We store none of them,
because a catalog row is a function of its current run and task, except for two columns:

- Rows exist exactly for the tasks that have an asset and whose run has a row: only an event of the run adds a run, a
  task or an asset, and it refreshes the rows.
- All other columns change by events of the run only.
- `row_version` and `updated_at` are those of the last refresh that found another stamp than before. An event that
  stamps the run gives its own id to all rows of the run: `RunRow.row_version` and `refreshed_at` say so for all of
  them. Other events of a run refresh the row of the one task they stamp: `TaskRow.refreshed_version` and
  `refreshed_at`. The greater of both stamps is the last.
- Timers stamp a task without refreshing anything. Such tasks are `RunRow.pending` until the run's next event, which
  gives the row the task's stamp and its own time.
"""

from __future__ import annotations

import json
from typing import Any

from springline.projection.families import Families, Family
from springline.projection.rows import NOTHING_PENDING, RunRow, TaskRow
from springline.projection.schema import Row

SCHEMA_VERSION = 1


def refreshed_stamp(run: RunRow, task: TaskRow) -> str:
    """Return the `row_version` of a task's catalog row."""
    return max(run.row_version, task.refreshed_version)


def refresh_pending(families: Families, family: Family, at_ms: int) -> None:
    """Refresh the catalog rows of pending tasks, for an event of the run at a time in epoch milliseconds."""
    run = family.run
    if run is None or run.pending is NOTHING_PENDING:
        return
    keys = family.tasks if run.pending is None else run.pending
    for key in keys:
        task = family.tasks[key]
        if task.row_version > refreshed_stamp(run, task):
            families.keep_task(task)
            task.refreshed_version, task.refreshed_at = task.row_version, at_ms
    families.keep_run(run)
    run.pending = NOTHING_PENDING


def add_pending(families: Families, family: Family, task: TaskRow) -> None:
    """Record that a task is about to get another stamp while its catalog row is not refreshed."""
    run = family.run
    if run is not None and run.pending is not None and task.row_version <= refreshed_stamp(run, task):
        families.keep_run(run)
        run.pending = (*run.pending, task.task_key)


class CatalogView:
    """Catalog rows of one run."""

    def __init__(self, tenant: str, workspace: str, run: RunRow) -> None:
        self._tenant, self._workspace, self._run = tenant, workspace, run
        labels: dict[str, Any] = json.loads(run.labels) if run.labels is not None else {}
        self._kind = labels.get("kind", labels.get("run_kind"))
        self._reference = labels.get("reference_id", labels.get("referenceId"))
        self._source = labels.get("source_type", labels.get("sourceType"))

    def row(self, task: TaskRow) -> Row | None:
        """Return the row of a task of the run; None for a task without an asset."""
        run, asset = self._run, task.asset_key
        if asset is None:
            return None
        by_task = task.refreshed_version >= run.row_version
        updated_at = task.refreshed_at if by_task else run.refreshed_at
        namespace, table = target_of(asset)
        return (
            SCHEMA_VERSION,
            self._tenant,
            self._workspace,
            run.run_id,
            task.task_key,
            run.plan_id,
            run.run_key,
            self._kind,
            self._reference,
            self._source,
            run.state,
            run.cancel_requested,
            task.state,
            asset,
            namespace,
            table,
            task.partition_key,
            task.attempt,
            task.attempt_id,
            bool(task.requires_visible_output),
            task.materialization_id,
            task.output_visibility_state,
            task.published_at,
            task.publish_error,
            task.delta_table,
            task.delta_version,
            task.delta_partition,
            task.execution_lineage_ref,
            task.started_at,
            task.last_heartbeat_at,
            run.triggered_at,
            run.completed_at,
            run.triggered_at if updated_at is None else updated_at,
            run.code_version,
            task.error_message,
            task.refreshed_version if by_task else run.row_version,
        )


def target_of(asset_key: str) -> tuple[str | None, str | None]:
    """Return namespace and table that an asset key names (docs/formats.md#projection-tables)."""
    for separator in "/.":
        namespace, found, table = asset_key.partition(separator)
        if found:
            return namespace or None, table or None
    return None, asset_key or None
