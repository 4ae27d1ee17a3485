"""Timers: requested, set and fired (docs/events.md#fold-timers). Firing changes no task: evaluators react to the
rows.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from springline.ledger.events import TimerEnqueued, TimerFired, TimerRequested
from springline.ledger.identifiers import parse_timer_id
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
from springline.projection.catalog import add_pending
from springline.projection.fold import Handler
from springline.projection.rows import TimerRow
from springline.projection.schema import FIRED, RETRY_WAIT, SCHEDULED
from springline.projection.state import State

_TYPES: Final = {"retry": "RETRY", "heartbeat_check": "HEARTBEAT_CHECK", "cron": "CRON", "sla_check": "SLA_CHECK"}

_FIRST_EPOCH: Final = -8_334_601_228_800
_LAST_EPOCH: Final = 8_210_266_876_799
"""The end of the reference's calendar, which has the years -262143 to 262142."""


def timer_requested(state: State, event_id: str, at_ms: int, data: TimerRequested) -> bool:
    """Schedule a timer; the instant asked for replaces one guessed from the id, and a retry's also the task's."""
    fire_at_ns = parse_timestamp(data.fire_at)
    fire_at, below_ms = divmod(fire_at_ns, NS_PER_MS)
    row = state.timers.rows.get(data.timer_id)
    if row is None:
        new = TimerRow(
            timer_id=data.timer_id,
            cloud_task_id=None,
            timer_type=_TYPES[data.timer_type],
            run_id=data.run_id,
            task_key=data.task_key,
            attempt=data.attempt,
            fire_at=fire_at,
            state=SCHEDULED,
            payload=None,
            row_version=event_id,
            fire_at_below_ms=below_ms or None,
        )
    else:
        new = replace(
            row,
            fire_at=fire_at,
            fire_at_below_ms=below_ms or None,
            run_id=data.run_id if row.run_id is None else row.run_id,
            task_key=data.task_key if row.task_key is None else row.task_key,
            attempt=data.attempt if row.attempt is None else row.attempt,
        )
    changed = new != row
    if changed:
        state.timers.put(data.timer_id, new)
    return _set_retry(state, event_id, fire_at, data) or changed


def _set_retry(state: State, event_id: str, fire_at: int, data: TimerRequested) -> bool:
    """Let a waiting task wait for the timer; its catalog row is refreshed only by the run's next event."""
    if data.timer_type != "retry" or data.run_id is None or data.attempt is None:
        return False
    family = state.families.of.get(data.run_id)
    task = None if family is None or data.task_key is None else family.tasks.get(data.task_key)
    if family is None or task is None or task.state != RETRY_WAIT or task.attempt != data.attempt:
        return False
    add_pending(state.families, family, task)
    state.families.keep_task(task)
    task.retry_not_before = fire_at
    task.row_version = event_id
    return True


def timer_enqueued(state: State, event_id: str, at_ms: int, data: TimerEnqueued) -> bool:
    """Record that a timer is set; without an earlier request, make a row from event and id."""
    row = state.timers.rows.get(data.timer_id)
    if row is None:
        row = _guessed(data, event_id)
        if row is None:
            return False
    state.timers.put(data.timer_id, replace(row, cloud_task_id=data.cloud_task_id, row_version=event_id))
    return True


def timer_fired(state: State, event_id: str, at_ms: int, data: TimerFired) -> bool:
    """Record that a timer has fired; without an earlier request, make a row from event and id."""
    row = state.timers.rows.get(data.timer_id)
    if row is None:
        row = _guessed(data, event_id)
        if row is None:
            return False
    state.timers.put(data.timer_id, replace(row, state=FIRED, row_version=event_id))
    return True


def _guessed(data: TimerEnqueued | TimerFired, event_id: str) -> TimerRow | None:
    """Return a row derived from a timer's id, or None if the id cannot be parsed.

    None also for an epoch beyond the reference's calendar: the reference takes the wall clock for it, and a
    fold has none (docs/events.md#w20).
    """
    name = parse_timer_id(data.timer_id)
    if name is None or not _FIRST_EPOCH <= name.fire_epoch <= _LAST_EPOCH:
        return None
    return TimerRow(
        timer_id=data.timer_id,
        cloud_task_id=None,
        timer_type=name.timer_type,
        run_id=name.run_id if data.run_id is None else data.run_id,
        task_key=name.task_key if data.task_key is None else data.task_key,
        attempt=name.attempt if data.attempt is None else data.attempt,
        fire_at=name.fire_epoch * 1_000,
        state=SCHEDULED,
        payload=None,
        row_version=event_id,
        fire_at_below_ms=None,
    )


HANDLERS: Final = (
    Handler(TimerRequested, timer_requested),
    Handler(TimerEnqueued, timer_enqueued),
    Handler(TimerFired, timer_fired),
)
