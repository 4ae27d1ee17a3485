"""Idempotency keys and correlation ids as they follow from a payload.

See docs/formats.md#event-keys, docs/formats.md#correlation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from springline.ledger import events as e
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp

UNKNOWN_KEY: Final = "unknown"
"""The key of an event of unknown type, as the reference writes it."""

_LEGACY_TYPES: Final = {
    "run": "RunTriggered",
    "plan": "PlanCreated",
    "cancel_req": "RunCancelRequested",
    "started": "TaskStarted",
    "heartbeat": "TaskHeartbeat",
    "finished": "TaskFinished",
    "dispatch_req": "DispatchRequested",
    "timer_req": "TimerRequested",
    "dispatch_ack": "DispatchEnqueued",
    "timer_ack": "TimerEnqueued",
    "timer_fired": "TimerFired",
    "sched_def": "ScheduleDefinitionUpserted",
    "sched_tick": "ScheduleTicked",
    "sensor_eval": "SensorEvaluated",
    "runreq": "RunRequested",
    "backfill_create": "BackfillCreated",
    "backfill_chunk": "BackfillChunkPlanned",
    "backfill_state": "BackfillStateChanged",
}


def derived_key(payload: e.Payload) -> str:
    """Return the idempotency key that a writer gives to an event with this payload."""
    return _KEYS[type(payload)](payload)


def correlation_of(payload: e.Payload) -> str | None:
    """Return the correlation id of an event with this payload: its `run_id`, or None if it names none."""
    run_id: str | None = getattr(payload, "run_id", None)
    return run_id


def event_type_of_legacy_key(key: str) -> str:
    """Guess the `event_type` from a key, for old rows that lack the column; `LegacyUnknown` if it says nothing."""
    return _LEGACY_TYPES.get(key.split(":", 1)[0], "LegacyUnknown")


def sha256_hex(text: str) -> str:
    """Return the SHA-256 of the UTF-8 bytes of `text` as 64 lower-case hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _run_triggered(payload: e.RunTriggered) -> str:
    return f"run:{payload.run_id if payload.run_key is None else payload.run_key}"


def _heartbeat(payload: e.TaskHeartbeat) -> str:
    key = f"heartbeat:{payload.run_id}:{payload.task_key}:{payload.attempt}:{payload.attempt_id}"
    if payload.heartbeat_at is None:
        return key
    return f"{key}:{parse_timestamp(payload.heartbeat_at) // NS_PER_MS}"


def _finished(payload: e.TaskFinished | e.TaskCompletionRecorded) -> str:
    return f"finished:{payload.run_id}:{payload.task_key}:{payload.attempt}"


def _visibility(payload: e.TaskOutputVisibilityChanged) -> str:
    return f"output_visibility:{payload.run_id}:{payload.task_key}:{payload.attempt}:{payload.visibility_state}"


def _schedule_definition(payload: e.ScheduleDefinitionUpserted) -> str:
    definition = "|".join(
        (
            payload.cron_expression,
            payload.timezone,
            str(payload.catchup_window_minutes),
            str(payload.max_catchup_ticks),
            "true" if payload.enabled else "false",
            ",".join(sorted(payload.asset_selection)),
        )
    )
    return f"sched_def:{payload.schedule_id}:{sha256_hex(definition)}"


def _sensor(payload: e.SensorEvaluated) -> str:
    source = payload.trigger_source
    if isinstance(source, e.PushSource):
        return f"sensor_eval:{payload.sensor_id}:msg:{source.message_id}"
    cursor = "none" if payload.cursor_before is None else sha256_hex(payload.cursor_before)
    return f"sensor_eval:{payload.sensor_id}:poll:{source.poll_epoch}:{cursor}"


_KEYS: Final[dict[type, Callable[[Any], str]]] = {
    e.RunTriggered: _run_triggered,
    e.PlanCreated: lambda p: f"plan:{p.run_id}",
    e.RunCancelRequested: lambda p: f"cancel_req:{p.run_id}",
    e.TaskStarted: lambda p: f"started:{p.run_id}:{p.task_key}:{p.attempt}",
    e.TaskHeartbeat: _heartbeat,
    e.TaskFinished: _finished,
    e.TaskCompletionRecorded: _finished,
    e.TaskOutputVisibilityChanged: _visibility,
    e.DispatchRequested: lambda p: f"dispatch_req:{p.dispatch_id}",
    e.DispatchEnqueued: lambda p: f"dispatch_ack:{p.dispatch_id}",
    e.TimerRequested: lambda p: f"timer_req:{p.timer_id}",
    e.TimerEnqueued: lambda p: f"timer_ack:{p.timer_id}",
    e.TimerFired: lambda p: f"timer_fired:{p.timer_id}",
    e.ScheduleDefinitionUpserted: _schedule_definition,
    e.ScheduleTicked: lambda p: f"sched_tick:{p.tick_id}",
    e.SensorEvaluated: _sensor,
    e.RunRequested: lambda p: f"runreq:{p.run_key}:{sha256_hex(p.request_fingerprint)}",
    e.BackfillCreated: lambda p: f"backfill_create:{p.client_request_id}",
    e.BackfillChunkPlanned: lambda p: f"backfill_chunk:{p.backfill_id}:{p.chunk_index}",
    e.BackfillStateChanged: lambda p: f"backfill_state:{p.backfill_id}:{p.state_version}:{p.to_state}",
}
