"""What is asked of each type of event: by itself, on the state before it, and when its key was used."""

from __future__ import annotations

from typing import Final

from springline.control.admission import automation, dispatch, runs, tasks
from springline.control.admission.cases import Check, Missed, Rule
from springline.ledger import events as e
from springline.ledger.events import Payload
from springline.ledger.keys import derived_key

CHECKS: Final[dict[type, Check]] = {
    e.RunTriggered: runs.check_run,
    e.PlanCreated: runs.check_plan,
    e.TaskStarted: tasks.check_attempt,
    e.TaskHeartbeat: tasks.check_heartbeat,
    e.TaskFinished: tasks.check_attempt,
    e.TaskCompletionRecorded: tasks.check_attempt,
    e.TaskOutputVisibilityChanged: tasks.check_attempt,
    e.DispatchRequested: dispatch.check_dispatch,
    e.ScheduleDefinitionUpserted: automation.check_definition,
    e.ScheduleTicked: automation.check_tick,
    e.SensorEvaluated: automation.check_evaluation,
    e.RunRequested: automation.check_run_request,
    e.BackfillCreated: automation.check_backfill,
    e.BackfillChunkPlanned: automation.check_chunk,
}
"""Checks of a payload by itself, for the types that have one."""

RULES: Final[dict[type, Rule]] = {
    e.RunTriggered: runs.admit_run,
    e.PlanCreated: runs.admit_plan,
    e.RunCancelRequested: runs.admit_cancel,
    e.TaskStarted: tasks.admit_start,
    e.TaskHeartbeat: tasks.admit_heartbeat,
    e.TaskFinished: tasks.admit_finish,
    e.TaskCompletionRecorded: tasks.admit_finish,
    e.TaskOutputVisibilityChanged: tasks.admit_visibility,
    e.DispatchRequested: dispatch.admit_dispatch,
    e.DispatchEnqueued: dispatch.admit_sent,
    e.TimerRequested: dispatch.admit_timer,
    e.TimerEnqueued: dispatch.admit_timer_news,
    e.TimerFired: dispatch.admit_timer_news,
    e.ScheduleDefinitionUpserted: automation.admit_definition,
    e.ScheduleTicked: automation.admit_tick,
    e.SensorEvaluated: automation.admit_evaluation,
    e.RunRequested: automation.admit_run_request,
    e.BackfillCreated: automation.admit_backfill,
    e.BackfillChunkPlanned: automation.admit_chunk,
    e.BackfillStateChanged: automation.admit_state_change,
}
"""Rules on the state before the event, for every type."""

MISSED: Final[dict[type, Missed]] = {
    e.PlanCreated: runs.missed_plan,
    e.RunCancelRequested: runs.missed_cancel,
    e.TaskStarted: tasks.missed_start,
    e.TaskFinished: tasks.missed_finish,
    e.TaskCompletionRecorded: tasks.missed_finish,
    e.TaskOutputVisibilityChanged: tasks.missed_visibility,
    e.DispatchRequested: dispatch.missed_dispatch,
}
"""Why an event may be news although its key was used, for the types whose loss would hold up a run."""


def with_defaults(data: Payload, now_ms: int) -> Payload:
    """Return the payload with what the sequencer fills in before the key is derived from it."""
    return tasks.with_heartbeat_time(data, now_ms) if isinstance(data, e.TaskHeartbeat) else data


def key_of(data: Payload, event_id: str) -> str:
    """Return the key of an event that is given none."""
    if isinstance(data, e.ScheduleDefinitionUpserted):
        return automation.definition_key(data, event_id)
    return derived_key(data)
