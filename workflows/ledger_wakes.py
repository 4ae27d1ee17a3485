"""Telling launcher, runs and evaluators what visible rounds have changed for them, off the way of the answers.

A wake-up that is lost costs time only: whoever waits looks by itself now and then.
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.runs.messages import WakeOrder
    from springline.ledger.events import (
        EVENT_TYPES,
        BackfillCreated,
        BackfillStateChanged,
        HoldChanged,
        RunCancelRequested,
        RunRequested,
        ScheduleDefinitionUpserted,
        SensorChanged,
        SensorMessage,
    )
    from springline.ledger.identifiers import backfill_id_of
    from springline.sequencer.messages import WorkspaceRef
    from workflows.ledger_progress import Accepted
    from workflows.policies import RUN_HEARTBEAT, RUN_START_TO_CLOSE, WAKE_RETRY

WAKES = "wakes-runs"
"""The patch that lets runs replay which older code began, and which told nobody."""
SCHEDULE_WAKES = "wakes-schedules"
"""Likewise of code that told the evaluator of schedules nothing."""
SENSOR_WAKES = "wakes-sensors"
"""Likewise of code that told sensors nothing."""
BACKFILL_WAKES = "wakes-backfills"
"""Likewise the evaluators of backfills."""
MOST_KEYS = 100
"""Of one wake-up; where there are more, the launcher looks at everything."""
_REQUEST_PREFIX = f"{EVENT_TYPES[RunRequested].prefix}:"
_CANCEL_PREFIX = f"{EVENT_TYPES[RunCancelRequested].prefix}:"
_OF_SENSORS = {kind.__name__: f"{EVENT_TYPES[kind].prefix}:" for kind in (SensorChanged, SensorMessage)}
_CREATE_PREFIX = f"{EVENT_TYPES[BackfillCreated].prefix}:"
_STATE_PREFIX = f"{EVENT_TYPES[BackfillStateChanged].prefix}:"
_DIGEST = 64
"""Characters of the digest that ends the key of a request."""


class Wakes:
    """What launcher, runs and evaluator of a workspace are still to be told."""

    def __init__(self, workspace: WorkspaceRef) -> None:
        self._workspace = workspace
        self._keys: dict[str, None] = {}
        self._runs: dict[str, None] = {}
        self._looks = False
        self._schedules = False
        self._sensors: dict[str, None] = {}
        self._backfills: dict[str, None] = {}
        self._hold = False
        self._telling: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> bool:
        """Whether a wake-up is on its way."""
        return self._telling is not None

    def add(self, accepted: Accepted) -> None:
        """Take in a round that is visible, and tell whom it concerns."""
        # What another run has accepted is told by nobody else.
        self._looks = self._looks or (accepted.found_pending and not accepted.round.foreign)
        for _, answer in accepted.appends:
            for event in answer.events:
                self._note(event.event_type, event.idempotency_key)
        if self._untold and self._telling is None and workflow.patched(WAKES):
            self._telling = asyncio.create_task(self._tell())

    @property
    def _untold(self) -> bool:
        of_runs = self._keys or self._runs or self._looks
        return bool(of_runs or self._schedules or self._sensors or self._backfills)

    def _note(self, event_type: str, key: str) -> None:
        if event_type == RunRequested.__name__:
            run_key, separator, digest = key.removeprefix(_REQUEST_PREFIX).rpartition(":")
            if key.startswith(_REQUEST_PREFIX) and separator and len(digest) == _DIGEST:
                self._keys[run_key] = None
            else:
                self._looks = True
        elif event_type == RunCancelRequested.__name__:
            if key.startswith(_CANCEL_PREFIX):
                self._runs[key.removeprefix(_CANCEL_PREFIX)] = None
        elif event_type == HoldChanged.__name__:
            self._looks = self._hold = True
            self._schedules = self._schedules or workflow.patched(SCHEDULE_WAKES)
        elif event_type == ScheduleDefinitionUpserted.__name__:
            self._schedules = self._schedules or workflow.patched(SCHEDULE_WAKES)
        elif event_type in _OF_SENSORS:
            # A sensor's id has no colon (docs/events.md#what-is-ours).
            sensor_id, separator, _ = key.removeprefix(_OF_SENSORS[event_type]).partition(":")
            if key.startswith(_OF_SENSORS[event_type]) and separator and workflow.patched(SENSOR_WAKES):
                self._sensors[sensor_id] = None
        elif event_type in (BackfillCreated.__name__, BackfillStateChanged.__name__):
            backfill_id = _backfill_of(key)
            if backfill_id is not None and workflow.patched(BACKFILL_WAKES):
                self._backfills[backfill_id] = None

    async def _tell(self) -> None:
        """Tell what is known, until there is nothing new."""
        while self._untold:
            many = len(self._keys) > MOST_KEYS
            order = WakeOrder(
                tenant=self._workspace.tenant,
                workspace=self._workspace.workspace,
                run_keys=[] if many else list(self._keys),
                run_ids=list(self._runs),
                looks=self._looks or many,
                schedules=self._schedules,
                sensors=list(self._sensors),
                backfills=list(self._backfills),
                hold=self._hold,
            )
            self._keys, self._runs, self._looks, self._schedules = {}, {}, False, False
            self._sensors, self._backfills, self._hold = {}, {}, False
            try:
                await workflow.execute_activity(
                    names.WAKE_RUNS,
                    order,
                    task_queue=names.RUNS_QUEUE,
                    schedule_to_close_timeout=RUN_START_TO_CLOSE,
                    heartbeat_timeout=RUN_HEARTBEAT,
                    retry_policy=WAKE_RETRY,
                    summary="tell the launcher of runs to look at everything"
                    if order.looks
                    else f"tell of {len(order.run_keys)} request(s), {len(order.run_ids)} cancelled run(s)"
                    + (f", {len(order.sensors)} sensor(s)" if order.sensors else ""),
                )
            except ActivityError as error:
                workflow.logger.warning("nobody was told of what changed for runs: %s", error.cause)
        self._telling = None


def _backfill_of(key: str) -> str | None:
    """Return the backfill that was created or changed under a key, None if the key is of another form.

    One that another system has created has another id: nobody is woken then.
    """
    if key.startswith(_CREATE_PREFIX):
        return backfill_id_of(key.removeprefix(_CREATE_PREFIX))
    backfill_id, _, rest = key.removeprefix(_STATE_PREFIX).partition(":")
    return backfill_id if key.startswith(_STATE_PREFIX) and backfill_id and rest else None
