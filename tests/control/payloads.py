"""Payloads as callers send them, with what a test does not care about filled in."""

from __future__ import annotations

from typing import Any

from springline.ledger import identifiers

Payload = dict[str, Any]


def triggered(run: str = "r", run_key: str | None = None, **more: Any) -> Payload:
    trigger = {"type": "manual", "user_id": "ada"}
    data = {"type": "run_triggered", "run_id": run, "plan_id": f"plan_{run}", "trigger": trigger, "root_assets": []}
    return data | ({} if run_key is None else {"run_key": run_key}) | more


def planned(run: str = "r", /, **upstreams: str) -> Payload:
    """`planned("r", a="", b="a")`: task b waits for task a."""
    tasks = [{"key": key, "depends_on": waits.split()} for key, waits in upstreams.items()]
    return {"type": "plan_created", "run_id": run, "plan_id": f"plan_{run}", "tasks": tasks}


def cancelled(run: str = "r", **more: Any) -> Payload:
    return {"type": "run_cancel_requested", "run_id": run, "requested_by": "ada"} | more


def _attempt(kind: str, run: str, task: str, attempt: int, more: dict[str, Any]) -> Payload:
    own = identifiers.attempt_id(identifiers.dispatch_id(run, task, attempt))
    return {"type": kind, "run_id": run, "task_key": task, "attempt": attempt, "attempt_id": own} | more


def started(task: str = "a", attempt: int = 1, run: str = "r", **more: Any) -> Payload:
    return _attempt("task_started", run, task, attempt, {"worker_id": "w"} | more)


def heartbeat(task: str = "a", attempt: int = 1, run: str = "r", **more: Any) -> Payload:
    return _attempt("task_heartbeat", run, task, attempt, {"worker_id": "w"} | more)


def finished(outcome: str = "succeeded", task: str = "a", attempt: int = 1, run: str = "r", **more: Any) -> Payload:
    return _attempt("task_finished", run, task, attempt, {"worker_id": "w", "outcome": outcome} | more)


def completed(outcome: str = "succeeded", task: str = "a", attempt: int = 1, run: str = "r", **more: Any) -> Payload:
    return finished(outcome, task, attempt, run, **more) | {"type": "task_completion_recorded"}


def output(visibility: str = "visible", task: str = "a", attempt: int = 1, run: str = "r", **more: Any) -> Payload:
    kind = "task_output_visibility_changed"
    return _attempt(kind, run, task, attempt, {"visibility_state": visibility} | more)


def dispatched(task: str = "a", attempt: int = 1, run: str = "r", **more: Any) -> Payload:
    own = identifiers.dispatch_id(run, task, attempt)
    return _attempt("dispatch_requested", run, task, attempt, {"dispatch_id": own} | more)


def sent(task: str = "a", attempt: int = 1, run: str = "r", **more: Any) -> Payload:
    own = identifiers.dispatch_id(run, task, attempt)
    named = {"run_id": run, "task_key": task, "attempt": attempt}
    return {"type": "dispatch_enqueued", "dispatch_id": own, "cloud_task_id": "d_1"} | named | more


def timer(kind: str = "timer_requested", timer_id: str = "timer:retry:r:a:1:1736935240", **more: Any) -> Payload:
    fields = {
        "timer_requested": {"timer_type": "retry", "fire_at": "2025-01-15T10:00:40Z"},
        "timer_enqueued": {"cloud_task_id": "t_1"},
        "timer_fired": {"timer_type": "retry"},
    }[kind]
    return {"type": kind, "timer_id": timer_id} | fields | more


def schedule(enabled: bool = True, schedule_id: str = "s", **more: Any) -> Payload:
    data = {
        "type": "schedule_definition_upserted",
        "schedule_id": schedule_id,
        "cron_expression": "0 10 * * *",
        "timezone": "UTC",
        "catchup_window_minutes": 60,
        "max_catchup_ticks": 3,
        "asset_selection": ["raw.a", "mart.b"],
        "enabled": enabled,
    }
    return data | more


def tick(epoch: int = 1_736_935_200, schedule_id: str = "s", **more: Any) -> Payload:
    data = {
        "type": "schedule_ticked",
        "schedule_id": schedule_id,
        "tick_id": f"{schedule_id}:{epoch}",
        "definition_version": "01JHMPDTN0000AQKFF00000001",
        "scheduled_for": "2025-01-15T10:00:00Z",
        "asset_selection": ["raw.a"],
        "status": {"status": "triggered"},
        "run_key": f"sched:{schedule_id}:{epoch}",
        "request_fingerprint": "f",
    }
    return data | more


def evaluated(eval_id: str = "e1", cursor: str | None = None, sensor_id: str = "sn", **more: Any) -> Payload:
    data = {
        "type": "sensor_evaluated",
        "sensor_id": sensor_id,
        "eval_id": eval_id,
        "trigger_source": {"source": "push", "message_id": eval_id},
        "status": {"status": "triggered"},
    }
    return data | ({} if cursor is None else {"cursor_after": cursor}) | more


def run_request(run_key: str = "k", fingerprint: str = "f") -> Payload:
    return {"run_key": run_key, "request_fingerprint": fingerprint, "asset_selection": ["raw.a"]}


def requested(run_key: str = "k", fingerprint: str = "f", source: Payload | None = None) -> Payload:
    manual = {"type": "manual", "user_id": "ada", "request_id": "q"}
    asked = {"type": "run_requested", "trigger_source_ref": manual if source is None else source}
    return run_request(run_key, fingerprint) | asked


def of_sensor(eval_id: str = "e1", sensor_id: str = "sn") -> Payload:
    return {"type": "sensor", "sensor_id": sensor_id, "eval_id": eval_id}


def of_tick(epoch: int = 1_736_935_200, schedule_id: str = "s") -> Payload:
    return {"type": "schedule", "schedule_id": schedule_id, "tick_id": f"{schedule_id}:{epoch}"}


def of_chunk(index: int = 0, backfill_id: str = "b") -> Payload:
    return {"type": "backfill", "backfill_id": backfill_id, "chunk_id": f"{backfill_id}:{index}"}


def backfill(backfill_id: str = "b", **more: Any) -> Payload:
    data = {
        "type": "backfill_created",
        "backfill_id": backfill_id,
        "client_request_id": f"req-{backfill_id}",
        "asset_selection": ["mart.b"],
        "partition_selector": {"type": "explicit", "partition_keys": ["1", "2", "3", "4"]},
        "total_partitions": 4,
        "chunk_size": 2,
        "max_concurrent_runs": 1,
    }
    return data | more


def chunk(index: int = 0, backfill_id: str = "b", **more: Any) -> Payload:
    data = {
        "type": "backfill_chunk_planned",
        "backfill_id": backfill_id,
        "chunk_id": f"{backfill_id}:{index}",
        "chunk_index": index,
        "partition_keys": ["1", "2"],
        "run_key": f"backfill:{backfill_id}:chunk:{index}",
        "request_fingerprint": "f",
    }
    return data | more


def backfill_state(from_state: str, to_state: str, version: int = 2, backfill_id: str = "b") -> Payload:
    return {
        "type": "backfill_state_changed",
        "backfill_id": backfill_id,
        "from_state": from_state,
        "to_state": to_state,
        "state_version": version,
    }


def hold(held: bool = True, change_id: str = "h1", **more: Any) -> Payload:
    return {"type": "springline_hold_changed", "held": held, "change_id": change_id, "changed_by": "ada"} | more


def sensor_change(change: str = "paused", change_id: str = "c1", sensor_id: str = "sn", **more: Any) -> Payload:
    data = {"type": "springline_sensor_changed", "sensor_id": sensor_id, "change_id": change_id, "change": change}
    return data | {"changed_by": "ada"} | more


def message(message_id: str = "m1", sensor_id: str = "sn", **more: Any) -> Payload:
    return {"type": "springline_sensor_message", "sensor_id": sensor_id, "message_id": message_id} | more


def chunk_ended(outcome: str = "succeeded", index: int = 0, backfill_id: str = "b", **more: Any) -> Payload:
    return {
        "type": "springline_backfill_chunk_ended",
        "backfill_id": backfill_id,
        "chunk_id": identifiers.backfill_chunk_id(backfill_id, index),
        "chunk_index": index,
        "outcome": outcome,
        "done": 1,
    } | more


def noted(note: str = "late_end", task: str = "a", attempt: int = 1, run: str = "r", **more: Any) -> Payload:
    return _attempt("springline_attempt_noted", run, task, attempt, {"note": note} | more)
