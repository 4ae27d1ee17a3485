"""Making a report from one revision of the published state and the deployed definitions; Temporal is not asked."""

from __future__ import annotations

from collections import Counter
from typing import Final

from springline.definitions.manifest import DeployedManifest
from springline.paths import Scope
from springline.published.reader import ReaderHead
from springline.published.snapshot import StateSnapshot
from springline.report.automation import read_backfills, read_schedules, read_sensors
from springline.report.data import read_assets, read_ledger, read_tables
from springline.report.facts import Report, TimeSpan
from springline.report.runs import read_failures, read_not_begun, read_not_planned, read_runs, read_silent
from springline.report.wrong import what_is_wrong
from springline.runs.loading import hold_row
from springline.schedules.reading import TABLES as OF_SCHEDULES
from springline.staleness.reading import TABLES as OF_PARTITIONS

TABLES: Final = tuple(
    dict.fromkeys(
        (
            *("runs", "tasks", "x_runs", "x_attempts", "x_holds", "run_key_index"),
            *OF_SCHEDULES,
            *("sensor_state", "sensor_evals", "x_sensors", "x_messages"),
            *("backfills", "backfill_chunks", "x_chunks"),
            *OF_PARTITIONS,
        )
    )
)
"""What a snapshot must hold."""


def gather(
    scope: Scope,
    head: ReaderHead,
    snapshot: StateSnapshot,
    manifest: DeployedManifest | None,
    span: TimeSpan,
    now_ms: int,
) -> Report:
    """Return the report of a workspace.

    Args:
        scope: the workspace.
        head: the revision that `snapshot` is of.
        snapshot: the tables `TABLES`.
        manifest: the deployed definitions, None if there are none.
        span: the time that the report is about.
        now_ms: the present, in epoch milliseconds: what is under way has lasted until then.
    """
    silent, silent_count = read_silent(snapshot, now_ms)
    schedules, more_schedules = read_schedules(snapshot, span, now_ms)
    sensors, more_sensors = read_sensors(snapshot, span)
    backfills, more_backfills = read_backfills(snapshot, span)
    assets, more_assets = read_assets(snapshot, manifest, now_ms)
    tables, more_tables = read_tables(snapshot, span)
    failures, made_good = read_failures(snapshot, span)
    report = Report(
        tenant=scope.tenant,
        workspace=scope.workspace,
        now_ms=now_ms,
        span=span,
        held=_held(snapshot),
        runs=read_runs(snapshot, span, now_ms),
        failures=failures,
        made_good=made_good,
        silent=silent,
        not_begun=read_not_begun(snapshot, span, now_ms),
        not_planned=read_not_planned(snapshot, span),
        schedules=schedules,
        sensors=sensors,
        backfills=backfills,
        assets=assets,
        tables=tables,
        ledger=read_ledger(snapshot, head, span),
        left_out=Counter(
            silent=silent_count - len(silent),
            schedules=more_schedules,
            sensors=more_sensors,
            backfills=more_backfills,
            assets=more_assets,
            tables=more_tables,
        ),
    )
    report.wrong = what_is_wrong(report)
    return report


def _held(snapshot: StateSnapshot) -> tuple[int, str, str | None] | None:
    row = hold_row(snapshot)
    return (row.changed_at, row.changed_by, row.reason) if row is not None and row.held else None
