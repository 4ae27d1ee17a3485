"""Small histories, written as lists of payloads."""

from __future__ import annotations

from typing import Any

from springline.ledger.compose import compose_event, payload_from
from springline.ledger.envelope import Event, parse_event
from springline.ledger.event_ids import new_event_id
from springline.projection.state import State
from tests.fold.support import empty_state
from tests.support.ledgers import TENANT, WORKSPACE

T0 = 1_736_935_200_000
"""2025-01-15T10:00:00Z, in epoch milliseconds: the time of the first event. The others follow by a second each."""

Object = dict[str, Any]


def ulid(at_ms: int) -> str:
    """Return the event id of an instant."""
    return new_event_id(None, at_ms, 0)


def event(data: Object, at_ms: int, key: str | None = None, event_id: str | None = None) -> Event:
    """Return an event at an instant, under the key that follows from its payload or another."""
    body = compose_event(
        payload_from(data),
        event_id=event_id or ulid(at_ms),
        timestamp_ms=at_ms,
        tenant=TENANT,
        workspace=WORKSPACE,
        idempotency_key=key,
    )
    return parse_event(body)


def folded(*history: Object, retention_days: int | None = None) -> State:
    """Return the state of payloads that follow each other by a second."""
    state = empty_state(retention_days)
    state.fold_all(event(data, T0 + 1_000 * number) for number, data in enumerate(history))
    return state


def triggered(run_id: str = "r", **more: Any) -> Object:
    """Return a run's beginning."""
    trigger = {"type": "manual", "user_id": "u"}
    return {"type": "run_triggered", "run_id": run_id, "plan_id": "p", "trigger": trigger, "root_assets": [], **more}


def planned(*tasks: str, run_id: str = "r", **more: Any) -> Object:
    """Return a run's plan: tasks as `key` or `key<upstream,upstream`; `more` goes into each."""
    definitions = []
    for text in tasks:
        key, _, upstreams = text.partition("<")
        waits = upstreams.split(",") if upstreams else []
        definitions.append({"key": key, "depends_on": waits, "asset_key": f"raw.{key}", **more})
    return {"type": "plan_created", "run_id": run_id, "plan_id": "p", "tasks": definitions}


def cancel(run_id: str = "r") -> Object:
    """Return the request to cancel a run."""
    return {"type": "run_cancel_requested", "run_id": run_id, "requested_by": "u"}


def attempt(task: str, number: int = 1, run_id: str = "r") -> Object:
    """Return the fields that name an attempt."""
    return {"run_id": run_id, "task_key": task, "attempt": number, "attempt_id": f"att{number}"}


def dispatched(task: str, number: int = 1, **more: Any) -> Object:
    """Return the request to dispatch an attempt."""
    named = attempt(task, number)
    dispatch_id = f"dispatch:{named['run_id']}:{task}:{number}"
    return {"type": "dispatch_requested", **named, "dispatch_id": dispatch_id, **more}


def enqueued(task: str, number: int = 1, **more: Any) -> Object:
    """Return the acknowledgement of a dispatch."""
    known = {"run_id": "r", "task_key": task, "attempt": number}
    ids = {"dispatch_id": f"dispatch:r:{task}:{number}", "cloud_task_id": "d_1"}
    return {"type": "dispatch_enqueued", **known, **ids, **more}


def started(task: str, number: int = 1, run_id: str = "r") -> Object:
    """Return an attempt's start."""
    return {"type": "task_started", **attempt(task, number, run_id), "worker_id": "w"}


def finished(task: str, outcome: str = "succeeded", number: int = 1, run_id: str = "r", **more: Any) -> Object:
    """Return an attempt's end."""
    named = attempt(task, number, run_id)
    return {"type": "task_finished", **named, "worker_id": "w", "outcome": outcome, **more}


def visible(task: str, visibility: str, number: int = 1) -> Object:
    """Return a change of an output's visibility."""
    return {"type": "task_output_visibility_changed", **attempt(task, number), "visibility_state": visibility}


def heartbeat(task: str, at: str | None = None, number: int = 1) -> Object:
    """Return a sign of life."""
    beat = {} if at is None else {"heartbeat_at": at}
    return {"type": "task_heartbeat", **attempt(task, number), "worker_id": "w", **beat}


def retry_timer(task: str, fire_at: str, number: int = 1, epoch: int = 1_736_935_240) -> Object:
    """Return the request for a retry timer."""
    known = {"run_id": "r", "task_key": task, "attempt": number}
    timer_id = f"timer:retry:r:{task}:{number}:{epoch}"
    return {"type": "timer_requested", "timer_id": timer_id, "timer_type": "retry", "fire_at": fire_at, **known}
