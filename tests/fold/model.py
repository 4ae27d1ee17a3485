"""A second fold, straight from docs/events.md#fold: slow, literal, and sharing nothing with the product but timestamps
and the schema.

Rows are dicts; instants are nanoseconds and are cut when rows are shown. Every table is swept for retention, and every
catalog row of a run is written again for each of its events, as the text says.
"""

from __future__ import annotations

import json
from typing import Any

from springline.ledger.timestamps import parse_timestamp
from springline.projection.schema import TABLES, Kind, Row
from tests.fold import model_automation as automation
from tests.fold import model_ours as ours
from tests.fold import model_tasks as tasks
from tests.fold.model_tables import (
    FINISHED_RUN,
    Object,
    Tables,
    row_of,
    ulid_ms,
)

DAY_NS = 86_400 * 10**9

HANDLERS = {**tasks.HANDLERS, **automation.HANDLERS}
OF_A_RUN = {
    "run_triggered",
    "plan_created",
    "run_cancel_requested",
    "task_started",
    "task_heartbeat",
    "task_finished",
    "task_completion_recorded",
    "task_output_visibility_changed",
    "dispatch_requested",
}


class FoldModel(Tables):
    """State of the slow fold.

    Args:
        secret: key of run ids.
        retention_days: as the product's configuration takes it.
    """

    def __init__(self, secret: bytes = b"", retention_days: int | None = None) -> None:
        super().__init__(secret)
        self.retention_days = retention_days
        self.frontier_ms: int | None = None

    def fold_all(self, bodies: list[bytes]) -> None:
        """Fold events, sorted by id."""
        for event in sorted(map(json.loads, bodies), key=lambda event: event["event_id"].encode()):
            self.fold(event)

    def fold(self, event: Object) -> bool:
        """Fold one event; return whether it was applied (4.1)."""
        if self.retention_days is not None:
            self._prune(event["event_id"])
        key = event["idempotency_key"]
        if key in self.idempotency_keys:
            return False
        data = event["data"]
        self.event = event
        self.ts = parse_timestamp(event["timestamp"])
        handler = HANDLERS.get(data["type"])
        if handler is None:
            return self._fold_ours(data, key)
        if not handler(self, data, event["event_id"]):
            return False
        if data["type"] in OF_A_RUN:
            self._refresh_catalog(data["run_id"])
        self.idempotency_keys[key] = row_of(
            "idempotency_keys",
            **self.scope(),
            idempotency_key=key,
            event_id=event["event_id"],
            event_type=event["event_type"],
            recorded_at=self.ts,
            row_version=event["event_id"],
        )
        effect = ours.EFFECTS.get(data["type"])
        if effect is not None:
            effect(self, data, event["event_id"])
        return True

    def _fold_ours(self, data: Object, key: str) -> bool:
        """Fold an event that the reference does not know."""
        handler = ours.HANDLERS.get(data["type"])
        event_id = self.event["event_id"]
        if handler is None or key in self.x_keys or not handler(self, data, event_id):
            return False
        self.x_keys[key] = row_of(
            "x_keys",
            **self.scope(),
            idempotency_key=key,
            event_id=event_id,
            event_type=ours.CLASSES[data["type"]],
            recorded_at=self.ts,
            row_version=event_id,
        )
        return True

    def _refresh_catalog(self, run_id: str) -> None:
        """4.14."""
        run = self.runs.get(run_id)
        if run is None:
            return
        labels = json.loads(run["labels"] or "{}")
        tenant, workspace = self.event["tenant_id"], self.event["workspace_id"]
        for (of_run, task_key), task in self.tasks.items():
            asset = task["asset_key"]
            if of_run != run_id or asset is None:
                continue
            separator = "/" if "/" in asset else "."
            namespace, table = asset.split(separator, 1) if separator in asset else (None, asset)
            key = (tenant, workspace, run_id, task_key)
            old = self.catalog_run_index.get(key)
            stamp = max(task["row_version"], run["row_version"])
            same = {
                name: task[name]
                for name in [
                    "asset_key",
                    "partition_key",
                    "attempt",
                    "attempt_id",
                    "requires_visible_output",
                    "materialization_id",
                    "output_visibility_state",
                    "published_at",
                    "publish_error",
                    "delta_table",
                    "delta_version",
                    "delta_partition",
                    "execution_lineage_ref",
                    "started_at",
                    "last_heartbeat_at",
                    "error_message",
                ]
            }
            self.catalog_run_index[key] = row_of(
                "catalog_run_index",
                schema_version=1,
                org_id=tenant,
                workspace_id=workspace,
                run_id=run_id,
                task_key=task_key,
                plan_id=run["plan_id"],
                run_key=run["run_key"],
                kind=labels["kind"] if "kind" in labels else labels.get("run_kind"),
                reference_id=labels["reference_id"] if "reference_id" in labels else labels.get("referenceId"),
                source_type=labels["source_type"] if "source_type" in labels else labels.get("sourceType"),
                run_status=run["state"],
                cancel_requested=run["cancel_requested"],
                task_status=task["state"],
                target_namespace=namespace or None,
                target_table=table or None,
                triggered_at=run["triggered_at"],
                completed_at=run["completed_at"],
                updated_at=old["updated_at"] if old is not None and old["row_version"] == stamp else self.ts,
                code_version=run["code_version"],
                row_version=stamp,
                **same,
            )

    def _prune(self, event_id: str) -> None:
        """4.15."""
        now_ms = ulid_ms(event_id)
        if now_ms is None or (self.frontier_ms is not None and now_ms <= self.frontier_ms):
            return
        self.frontier_ms = now_ms
        limit = now_ms * 10**6 - 30 * DAY_NS
        aging = (
            (self.sensor_evals, "evaluated_at"),
            (self.idempotency_keys, "recorded_at"),
            (self.x_keys, "recorded_at"),
        )
        for table, column in aging:
            for key in [key for key, row in table.items() if row[column] < limit]:
                del table[key]
        if self.retention_days:
            limit = now_ms * 10**6 - self.retention_days * DAY_NS
            self._expire({run_id for run_id, run in self.runs.items() if self._is_expired(run, limit)})

    def _is_expired(self, run: Object, limit: int) -> bool:
        if run["state"] not in FINISHED_RUN:
            return False
        stamped_ms = ulid_ms(run["row_version"])
        age = run["completed_at"] if stamped_ms is None else stamped_ms * 10**6
        return bool((run["triggered_at"] if age is None else age) < limit)

    def _expire(self, expired: set[str]) -> None:
        run_keys = {key for key, row in self.run_key_index.items() if row["run_id"] in expired}
        tables: tuple[dict[Any, Object], ...] = (
            self.runs,
            self.tasks,
            self.catalog_run_index,
            self.dep_satisfaction,
            self.dispatch_outbox,
            self.timers,
            self.x_runs,
            self.x_attempts,
            self.x_notes,
        )
        for table in tables:
            for key in [key for key, row in table.items() if row["run_id"] in expired]:
                del table[key]
        for keyed in (self.run_key_index, self.run_key_conflicts):
            for key in [key for key, row in keyed.items() if row["run_key"] in run_keys]:
                del keyed[key]
        for edge in [edge for edge in self.dependents if edge[0] in expired]:
            del self.dependents[edge]

    def rows(self, table: str) -> list[Row]:
        """Return the rows of a table as they are stored."""
        return [self._stored(table, row) for row in getattr(self, table).values()]

    def _stored(self, table: str, row: Object) -> Row:
        values: list[Any] = []
        for column in TABLES[table].columns:
            if column.name == "fire_at_below_ms":
                values.append(row["fire_at"] % 10**6 or None)
            elif column.kind is Kind.MS and row[column.name] is not None:
                values.append(row[column.name] // 10**6)
            else:
                values.append(row[column.name])
        return tuple(values)
