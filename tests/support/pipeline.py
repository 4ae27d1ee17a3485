"""A small pipeline's history, as payloads to append: a schedule, a run with a retry, a cancelled run, a backfill."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def run_triggered(run_id: str, **more: Any) -> Json:
    return {
        "type": "run_triggered",
        "run_id": run_id,
        "plan_id": f"plan-{run_id}",
        "trigger": {"type": "manual", "user_id": "ada"},
        "root_assets": ["mart.b"],
    } | more


def plan_created(run_id: str, *tasks: tuple[str, list[str]]) -> Json:
    return {
        "type": "plan_created",
        "run_id": run_id,
        "plan_id": f"plan-{run_id}",
        "tasks": [{"key": key, "depends_on": needs, "asset_key": key} for key, needs in tasks],
    }


def task(kind: str, run_id: str, key: str, attempt: int = 1, **more: Any) -> Json:
    common = {"run_id": run_id, "task_key": key, "attempt": attempt, "attempt_id": f"{run_id}-{key}-{attempt}"}
    return {"type": kind, **common, "worker_id": "worker-1"} | more


def finished(run_id: str, key: str, attempt: int = 1, outcome: str = "succeeded", **more: Any) -> Json:
    return task("task_finished", run_id, key, attempt, outcome=outcome, **more)


def succeeded_run(run_id: str, **more: Any) -> list[Json]:
    """Return a run of one task that starts and succeeds."""
    return [
        run_triggered(run_id, **more),
        plan_created(run_id, ("raw.a", [])),
        task("task_started", run_id, "raw.a"),
        finished(run_id, "raw.a", asset_key="raw.a", partition_key="2025-01-15"),
    ]


def requests() -> list[list[Json]]:
    """Return what is appended, request by request."""
    definition = {
        "type": "schedule_definition_upserted",
        "schedule_id": "daily",
        "cron_expression": "0 10 * * *",
        "timezone": "UTC",
        "catchup_window_minutes": 60,
        "max_catchup_ticks": 3,
        "asset_selection": ["raw.a"],
        "enabled": True,
    }
    ticks: list[Json] = [
        {
            "type": "schedule_ticked",
            "schedule_id": "daily",
            "tick_id": f"daily:{number}",
            "definition_version": "v1",
            "scheduled_for": f"2025-01-1{number}T10:00:00Z",
            "asset_selection": ["raw.a"],
            "status": status,
            "run_key": f"sched:daily:{number}",
            "request_fingerprint": "f",
        }
        for number, status in ((5, {"status": "triggered"}), (6, {"status": "skipped", "reason": "paused"}))
    ]
    run_of_tick = {
        "type": "run_requested",
        "run_key": "sched:daily:5",
        "request_fingerprint": "f",
        "asset_selection": ["raw.a"],
        "trigger_source_ref": {"type": "schedule", "schedule_id": "daily", "tick_id": "daily:5"},
    }
    evaluation = {
        "type": "sensor_evaluated",
        "sensor_id": "files",
        "eval_id": "eval-1",
        "trigger_source": {"source": "push", "message_id": "m-1"},
        "status": {"status": "triggered"},
        "cursor_after": "m-1",
    }
    backfill = {
        "type": "backfill_created",
        "backfill_id": "bf-1",
        "client_request_id": "req-1",
        "asset_selection": ["mart.b"],
        "partition_selector": {"type": "range", "start": "2025-01-01", "end": "2025-01-04"},
        "total_partitions": 4,
        "chunk_size": 2,
        "max_concurrent_runs": 1,
    }
    chunks: list[Json] = []
    for index, keys in enumerate((["2025-01-01", "2025-01-02"], ["2025-01-03", "2025-01-04"])):
        run_key = f"backfill:bf-1:chunk:{index}"
        chunks.append(
            {
                "type": "backfill_chunk_planned",
                "backfill_id": "bf-1",
                "chunk_id": f"bf-1:{index}",
                "chunk_index": index,
                "partition_keys": keys,
                "run_key": run_key,
                "request_fingerprint": f"fp-{index}",
            }
        )
        chunks.append(
            {
                "type": "run_requested",
                "run_key": run_key,
                "request_fingerprint": f"fp-{index}",
                "asset_selection": ["mart.b"],
                "trigger_source_ref": {"type": "backfill", "backfill_id": "bf-1", "chunk_id": f"bf-1:{index}"},
            }
        )
    retried = [
        run_triggered("run-retried", labels={"team": "sales", "kind": "refresh"}),
        plan_created("run-retried", ("raw.a", []), ("mart.b", ["raw.a"])),
        task("task_started", "run-retried", "raw.a"),
        task("task_heartbeat", "run-retried", "raw.a", progress_pct=50),
        finished("run-retried", "raw.a", outcome="failed", error={"category": "INFRASTRUCTURE", "message": "OOM"}),
    ]
    timer = {
        "type": "timer_requested",
        "timer_id": "timer:retry:run-retried:raw.a:1:1736935240",
        "timer_type": "retry",
        "fire_at": "2025-01-15T10:00:40Z",
        "run_id": "run-retried",
        "task_key": "raw.a",
        "attempt": 1,
    }
    again = [
        task("task_started", "run-retried", "raw.a", 2),
        finished("run-retried", "raw.a", 2, asset_key="raw.a", partition_key="2025-01-15"),
    ]
    cancelled = [
        run_triggered("run-cancelled", labels={"team": "sales"}),
        plan_created("run-cancelled", ("raw.a", [])),
        {"type": "run_cancel_requested", "run_id": "run-cancelled", "requested_by": "ada"},
    ]
    return [
        # The ticks that an older definition owed, then the new one, as who edits a schedule appends them.
        [ticks[0], run_of_tick, ticks[1], definition],
        [evaluation],
        [backfill, *chunks],
        retried,
        [timer],
        again,
        cancelled,
        succeeded_run("run-good", labels={"team": "ops"}),
    ]
