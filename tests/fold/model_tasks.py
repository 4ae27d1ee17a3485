"""The slow fold: runs, tasks, dependencies and dispatch.

See docs/events.md#fold-runs, docs/events.md#fold-plans, docs/events.md#fold-tasks, docs/events.md#fold-dependencies,
docs/events.md#fold-run-counters, docs/events.md#fold-dispatch, docs/events.md#fold-cancellation,
docs/events.md#fold-partitions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from springline.ledger.timestamps import parse_timestamp
from tests.fold.model_tables import FINISHED, FINISHED_RUN, Object, Tables, json_text, row_of, ulid_ms

COUNTERS = {
    "SUCCEEDED": "tasks_succeeded",
    "FAILED": "tasks_failed",
    "SKIPPED": "tasks_skipped",
    "CANCELLED": "tasks_cancelled",
}


def run_triggered(m: Tables, data: Object, ev: str) -> bool:
    """4.2."""
    if data["run_id"] in m.runs:
        return False
    tasks = [task for (run_id, _), task in m.tasks.items() if run_id == data["run_id"]]
    counts = {name: sum(task["state"] == state for task in tasks) for state, name in COUNTERS.items()}
    finished = sum(counts.values())
    ends = [task["completed_at"] for task in tasks if task["state"] in FINISHED and task["completed_at"] is not None]
    state = "RUNNING"
    if not tasks:
        state = "TRIGGERED"
    elif finished == len(tasks):
        state = "SUCCEEDED"
        if counts["tasks_failed"]:
            state = "FAILED"
        if counts["tasks_cancelled"]:
            state = "CANCELLED"
    m.runs[data["run_id"]] = row_of(
        "runs",
        run_id=data["run_id"],
        plan_id=data["plan_id"],
        state=state,
        run_key=data.get("run_key"),
        cancel_requested=False,
        tasks_total=len(tasks),
        tasks_completed=finished,
        **counts,
        triggered_at=m.ts,
        completed_at=max(ends) if state in FINISHED_RUN and ends else None,
        labels=json_text(data["labels"]) if data.get("labels") else None,
        code_version=data.get("code_version"),
        row_version=ev,
    )
    return True


def plan_created(m: Tables, data: Object, ev: str) -> bool:
    """4.3."""
    run_id = data["run_id"]
    if any(of_run == run_id for of_run, _ in m.tasks):
        return False
    if run_id in m.runs:
        m.runs[run_id].update(tasks_total=len(data["tasks"]), state="RUNNING", row_version=ev)
    for definition in data["tasks"]:
        for upstream in definition["depends_on"]:
            m.dependents.setdefault((run_id, upstream), []).append(definition["key"])
    for definition in data["tasks"]:
        waits = definition["depends_on"]
        m.tasks[run_id, definition["key"]] = row_of(
            "tasks",
            run_id=run_id,
            task_key=definition["key"],
            state="BLOCKED" if waits else "READY",
            attempt=0,
            deps_total=len(waits),
            deps_satisfied_count=0,
            ready_at=None if waits else m.ts,
            max_attempts=definition.get("max_attempts", 3),
            heartbeat_timeout_sec=definition.get("heartbeat_timeout_sec", 300),
            asset_key=definition.get("asset_key"),
            partition_key=definition.get("partition_key"),
            requires_visible_output=definition.get("requires_visible_output", False),
            row_version=ev,
        )
        for upstream in waits:
            _edge(m, run_id, upstream, definition["key"], ev, satisfied=False)
    return run_id in m.runs or bool(data["tasks"])


def run_cancel_requested(m: Tables, data: Object, ev: str) -> bool:
    """4.11."""
    run = m.runs.get(data["run_id"])
    if run is not None and run["state"] in FINISHED_RUN:
        return False
    if run is not None:
        run.update(cancel_requested=True, row_version=ev)
    cancelled = 0
    for (run_id, _), task in m.tasks.items():
        if run_id == data["run_id"] and task["state"] not in FINISHED | {"RUNNING"}:
            task.update(state="CANCELLED", row_version=ev)
            cancelled += 1
            if run is not None:
                run["tasks_cancelled"] += 1
                run["tasks_completed"] += 1
    if run is not None and run["tasks_completed"] == run["tasks_total"]:
        run.update(state="CANCELLED", completed_at=m.ts)
    return run is not None or cancelled > 0


def task_started(m: Tables, data: Object, ev: str) -> bool:
    """4.4a."""
    run_id, task_key, attempt = data["run_id"], data["task_key"], data["attempt"]
    task = m.tasks.get((run_id, task_key))
    if task is None or task["state"] in FINISHED or attempt < task["attempt"]:
        return False
    if attempt == task["attempt"] and task["attempt_id"] not in (None, data["attempt_id"]):
        return False
    task.update(state="RUNNING", attempt=attempt, attempt_id=data["attempt_id"], started_at=m.ts, row_version=ev)
    m.dispatch_outbox.pop(f"dispatch:{run_id}:{task_key}:{attempt}", None)
    return True


def _current(m: Tables, data: Object) -> Object | None:
    task = m.tasks.get((data["run_id"], data["task_key"]))
    if task is None or (task["attempt"], task["attempt_id"]) != (data["attempt"], data["attempt_id"]):
        return None
    return task


def task_heartbeat(m: Tables, data: Object, ev: str) -> bool:
    """4.4a."""
    task = _current(m, data)
    if task is None or task["state"] in FINISHED:
        return False
    beat = data.get("heartbeat_at")
    task.update(last_heartbeat_at=m.ts if beat is None else parse_timestamp(beat), row_version=ev)
    return True


def task_finished(m: Tables, data: Object, ev: str) -> bool:
    """4.5."""
    task = _current(m, data)
    if task is None or task["state"] in FINISHED:
        return False
    output = data.get("output") or {}
    outcome = data["outcome"]
    mat = data.get("materialization_id")
    mat = output.get("materializationId") if mat is None else mat
    dt, dv, dp = output.get("deltaTable"), output.get("deltaVersion"), output.get("deltaPartition")
    dp = data.get("partition_key") if dp is None else dp
    partition = data.get("partition_key")
    partition = dp if partition is None else partition
    state = outcome.upper()
    if outcome == "failed" and _may_retry(data.get("error")) and task["attempt"] < task["max_attempts"]:
        state = "RETRY_WAIT"
    task.update(state=state, row_version=ev)
    if task["asset_key"] is None:
        task["asset_key"] = data.get("asset_key")
    if task["partition_key"] is None:
        task["partition_key"] = partition
    if state in FINISHED:
        task["completed_at"] = m.ts
    lineage = _lineage(data, mat, dt, dv, dp)
    if outcome == "succeeded":
        task.update(error_message=None, retry_not_before=None)
        task.update(materialization_id=mat, delta_table=dt, delta_version=dv, delta_partition=dp)
        task["execution_lineage_ref"] = lineage
        if task["output_visibility_state"] is None:
            task.update(published_at=None, publish_error=None)
    else:
        task["error_message"] = data.get("error_message")
        task["retry_not_before"] = _retry_at(m, task, ev) if state == "RETRY_WAIT" else None
        task.update(output_visibility_state=None, published_at=None, publish_error=None)
    if state in FINISHED:
        _count(m, data["run_id"], state, ev)
    if state == "SUCCEEDED":
        _satisfy(m, data["run_id"], data["task_key"], data["attempt"], ev)
    elif state in FINISHED:
        _propagate(m, data["run_id"], data["task_key"], state, ev)
    if data.get("asset_key") is not None and partition is not None:
        _partition(m, data, partition, (dt, dv, dp, lineage), ev)
    visibility = data.get("output_visibility")
    if data["type"] == "task_completion_recorded" and outcome == "succeeded" and visibility is not None:
        task_output_visibility_changed(m, {**data, **visibility}, ev)
    return True


def _may_retry(error: Object | None) -> bool:
    if error is None:
        return True
    if error.get("retryable") is not None:
        return bool(error["retryable"])
    return error["category"] in ("USER_CODE", "INFRASTRUCTURE", "TIMEOUT")


def _retry_at(m: Tables, task: Object, ev: str) -> int:
    """6.8."""
    id_ms = ulid_ms(ev)
    anchor = m.ts if id_ms is None else id_ms * 10**6
    return int(anchor + min(30 * 2 ** min(max(task["attempt"] - 1, 0), 6), 900) * 10**9)


def _lineage(data: Object, mat: Any, dt: Any, dv: Any, dp: Any) -> str:
    """6.10."""
    pairs = {"materializationId": mat, "deltaTable": dt, "deltaVersion": dv, "deltaPartition": dp}
    reference = {"runId": data["run_id"], "taskKey": data["task_key"], "attempt": data["attempt"]}
    reference |= {name: value for name, value in pairs.items() if value is not None}
    return json.dumps(reference, separators=(",", ":"), ensure_ascii=False)


def _edge(m: Tables, run_id: str, upstream: str, downstream: str, ev: str, **values: Any) -> None:
    m.dep_satisfaction[run_id, upstream, downstream] = row_of(
        "dep_satisfaction",
        run_id=run_id,
        upstream_task_key=upstream,
        downstream_task_key=downstream,
        row_version=ev,
        **values,
    )


def _satisfy(m: Tables, run_id: str, upstream: str, attempt: int, ev: str) -> None:
    """4.6."""
    for d in m.dependents.get((run_id, upstream), []):
        edge = m.dep_satisfaction.get((run_id, upstream, d))
        was = edge is not None and edge["satisfied"]
        _edge(
            m, run_id, upstream, d, ev, satisfied=True, resolution="SUCCESS", satisfied_at=m.ts,
            satisfying_attempt=attempt,
        )  # fmt: skip
        task = m.tasks.get((run_id, d))
        if was or task is None:
            continue
        task["deps_satisfied_count"] += 1
        if task["deps_satisfied_count"] == task["deps_total"] and task["state"] == "BLOCKED":
            task.update(state="READY", ready_at=m.ts, row_version=ev)


def _propagate(m: Tables, run_id: str, task_key: str, resolution: str, ev: str) -> None:
    """4.6."""
    queue = [(task_key, resolution)]
    while queue:
        upstream, current = queue.pop(0)
        for d in m.dependents.get((run_id, upstream), []):
            _edge(m, run_id, upstream, d, ev, satisfied=False, resolution=current, satisfied_at=m.ts)
            task = m.tasks.get((run_id, d))
            if task is not None and task["state"] not in FINISHED:
                state = "CANCELLED" if current == "CANCELLED" else "SKIPPED"
                task.update(state=state, row_version=ev)
                _count(m, run_id, state, ev)
                queue.append((d, state))


def _count(m: Tables, run_id: str, state: str, ev: str) -> None:
    """4.7."""
    run = m.runs.get(run_id)
    if run is None:
        return
    run["tasks_completed"] += 1
    run[COUNTERS[state]] += 1
    run["row_version"] = ev
    if run["tasks_completed"] == run["tasks_total"]:
        if run["tasks_cancelled"] > 0:
            run["state"] = "CANCELLED"
        elif run["tasks_failed"] > 0:
            run["state"] = "FAILED"
        else:
            run["state"] = "SUCCEEDED"
        run["completed_at"] = m.ts


def task_output_visibility_changed(m: Tables, data: Object, ev: str) -> bool:
    """4.8."""
    task = _current(m, data)
    new = data["visibility_state"].upper()
    if task is None or task["state"] != "SUCCEEDED":
        return False
    if task["output_visibility_state"] in ("VISIBLE", "FAILED") and task["output_visibility_state"] != new:
        return False
    task.update(output_visibility_state=new, row_version=ev, published_at=None, publish_error=None)
    if new == "VISIBLE":
        published = data.get("published_at")
        task["published_at"] = m.ts if published is None else parse_timestamp(published)
    if new == "FAILED":
        task["publish_error"] = data.get("publish_error")
    return True


def _partition(m: Tables, data: Object, partition: str, produced: tuple[Any, Any, Any, str], ev: str) -> None:
    """4.13."""
    key = (data["asset_key"], partition)
    names = {"asset_key": data["asset_key"], "partition_key": partition, "row_version": ""}
    row = m.partition_status.setdefault(key, row_of("partition_status", **m.scope(), **names))
    if data["outcome"] == "succeeded" and ev >= row["row_version"]:
        dt, dv, dp, lineage = produced
        row.update(
            last_materialization_run_id=data["run_id"],
            last_materialization_at=m.ts,
            last_materialization_code_version=data.get("code_version"),
            delta_table=dt,
            delta_version=dv,
            delta_partition=dp,
            execution_lineage_ref=lineage,
            stale_since=None,
            stale_reason_code=None,
            row_version=ev,
        )
    if ev >= row["row_version"]:
        row.update(
            last_attempt_run_id=data["run_id"],
            last_attempt_at=m.ts,
            last_attempt_outcome=data["outcome"].upper(),
            row_version=ev,
        )


def _consumed(m: Tables, run_id: str, task_key: str, n: int) -> bool:
    """4.9."""
    task = m.tasks.get((run_id, task_key))
    if task is None:
        return False
    begun = task["state"] in FINISHED | {"RUNNING", "RETRY_WAIT"}
    return bool(task["attempt"] > n or (task["attempt"] == n and begun))


def dispatch_requested(m: Tables, data: Object, ev: str) -> bool:
    """4.9."""
    run_id, task_key, n = data["run_id"], data["task_key"], data["attempt"]
    if _consumed(m, run_id, task_key, n):
        m.dispatch_outbox.pop(f"dispatch:{run_id}:{task_key}:{n}", None)
        return False
    queue = data.get("worker_queue", "default-queue")
    row = m.dispatch_outbox.get(data["dispatch_id"])
    changed = False
    remembered = None
    if row is not None:
        if row["attempt_id"] == "":
            row["attempt_id"] = data["attempt_id"]
            changed = True
        if row["worker_queue"] == "" or (row["worker_queue"] == "default-queue" and queue != "default-queue"):
            row["worker_queue"] = queue
            changed = True
        remembered = row["attempt_id"]
    task = m.tasks.get((run_id, task_key))
    if task is not None and task["state"] in ("READY", "RETRY_WAIT", "DISPATCHED") and n >= task["attempt"]:
        wanted = data["attempt_id"] if remembered is None else remembered
        if (task["state"], task["attempt"], task["attempt_id"]) != ("DISPATCHED", n, wanted):
            task.update(state="DISPATCHED", attempt=n, attempt_id=wanted, retry_not_before=None, row_version=ev)
            changed = True
    if row is not None:
        return changed
    m.dispatch_outbox[data["dispatch_id"]] = row_of(
        "dispatch_outbox",
        run_id=run_id,
        task_key=task_key,
        attempt=n,
        dispatch_id=data["dispatch_id"],
        status="PENDING",
        attempt_id=data["attempt_id"],
        worker_queue=queue,
        created_at=m.ts,
        row_version=ev,
    )
    return True


def dispatch_enqueued(m: Tables, data: Object, ev: str) -> bool:
    """4.9."""
    run_id, task_key, n = data.get("run_id"), data.get("task_key"), data.get("attempt")
    known = run_id is not None and task_key is not None and n is not None
    if known and _consumed(m, str(run_id), str(task_key), int(n or 0)):
        m.dispatch_outbox.pop(f"dispatch:{run_id}:{task_key}:{n}", None)
        return False
    row = m.dispatch_outbox.get(data["dispatch_id"])
    if row is not None:
        if ev <= row["row_version"]:
            return False
        row.update(status="CREATED", cloud_task_id=data["cloud_task_id"], created_at=m.ts, row_version=ev)
        return True
    if not known:
        return False
    m.dispatch_outbox[data["dispatch_id"]] = row_of(
        "dispatch_outbox",
        run_id=run_id,
        task_key=task_key,
        attempt=n,
        dispatch_id=data["dispatch_id"],
        cloud_task_id=data["cloud_task_id"],
        status="CREATED",
        attempt_id="",
        worker_queue="default-queue",
        created_at=m.ts,
        row_version=ev,
    )
    return True


HANDLERS: dict[str, Callable[[Any, Object, str], bool]] = {
    "run_triggered": run_triggered,
    "plan_created": plan_created,
    "run_cancel_requested": run_cancel_requested,
    "task_started": task_started,
    "task_heartbeat": task_heartbeat,
    "task_finished": task_finished,
    "task_completion_recorded": task_finished,
    "task_output_visibility_changed": task_output_visibility_changed,
    "dispatch_requested": dispatch_requested,
    "dispatch_enqueued": dispatch_enqueued,
}
