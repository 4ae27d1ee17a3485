"""SensorWorkflow by Temporal: what the API asks of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError

from entrypoints.temporal_runs import TemporalRunStarts, sensor_of
from entrypoints.updates import QUERY_TIMEOUT, query_status
from springline import names
from springline.control.sensors.messages import SensorAsked, SensorDecision, SensorDoing
from springline.control.sensors.polling import in_series
from springline.errors import Code, Refused, refused
from springline.paths import Scope
from springline.storage.together import each

EVALUATE_S: Final = 30.0
"""How long a caller waits for an evaluation that it asked for."""
WAKE_S: Final = 3.0
"""How long a deploy waits for its sensors to be told; the others are told behind its answer."""
_AT_ONCE: Final = 16

_log = logging.getLogger("springline.temporal")


class TemporalSensors:
    """The port `springline.api.ports.SensorWorkflows`. Times are in seconds."""

    def __init__(self, client: Client, *, evaluate_s: float = EVALUATE_S) -> None:
        self._client = client
        self._evaluate_s = evaluate_s
        self._starts = TemporalRunStarts(client)
        self._telling: set[asyncio.Task[None]] = set()

    async def status(self, scope: Scope, sensor_id: str) -> SensorDoing | None:
        """Return what a sensor is doing and has decided; None if no workflow of it runs, or it does not answer now."""
        workflow_id = names.sensor_workflow_id(scope.tenant, scope.workspace, sensor_id)
        doing = await query_status(self._client, workflow_id, SensorDoing)
        if doing is None or doing.every_ms is None:
            return doing
        return await self._in_series(workflow_id, doing)

    async def _in_series(self, workflow_id: str, doing: SensorDoing) -> SensorDoing:
        """Return what a sensor is doing with what Temporal alone knows of its polls."""
        try:
            described = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=QUERY_TIMEOUT)
        except RPCError:
            return doing
        for one in described.raw_description.pending_activities:
            if one.activity_type.name == names.EVALUATE_SENSOR:
                has_begun = one.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
                return in_series(
                    doing,
                    tries=max(1, one.attempt),
                    next_ms=one.scheduled_time.ToMilliseconds(),
                    began_ms=one.last_started_time.ToMilliseconds() if has_begun else None,
                )
        return doing

    async def evaluate(self, scope: Scope, sensor_id: str, asked: SensorAsked) -> SensorDecision:
        """Evaluate a sensor now; raises `Refused`."""
        try:
            async with asyncio.timeout(self._evaluate_s):
                decision: SensorDecision = await self._client.execute_update_with_start_workflow(
                    names.EVALUATE_UPDATE,
                    asked,
                    start_workflow_operation=WithStartWorkflowOperation(
                        names.SENSOR_WORKFLOW, **sensor_of(scope, sensor_id)
                    ),
                    result_type=SensorDecision,
                    rpc_timeout=timedelta(seconds=self._evaluate_s),
                )
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            if isinstance(cause, ApplicationError) and cause.type == names.INVALID_REQUEST:
                raise refused(
                    Code.EVENT_CONFLICT,
                    f"sensor {sensor_id} cannot be evaluated now: {cause.message}",
                    field="sensor_id",
                    value=sensor_id,
                    remedy=_to_be_evaluated(asked),
                ) from error
            raise _no_answer(sensor_id, str(cause)) from error
        except (
            *(WorkflowUpdateRPCTimeoutOrCancelledError, WorkflowAlreadyStartedError),
            *(RPCError, RuntimeError, TimeoutError),
        ) as error:
            raise _no_answer(sensor_id, str(error) or f"nothing within {self._evaluate_s:g} s") from error
        return decision

    async def wake(self, scope: Scope, sensor_ids: Sequence[str]) -> None:
        """Tell sensors that they were deployed, many of them still after this has returned.

        A failure is logged, and what ends with this process is not told: Repair starts sensors, too, minutes later.
        """
        telling = asyncio.create_task(self._tell(scope, sensor_ids))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        await asyncio.wait([telling], timeout=WAKE_S)

    async def _tell(self, scope: Scope, sensor_ids: Sequence[str]) -> None:
        async def told(sensor_id: str) -> None:
            await self._starts.wake_sensor(scope, sensor_id)

        try:
            await each(told, sensor_ids, concurrency=_AT_ONCE)
        except (RPCError, RuntimeError) as error:
            _log.warning("sensors of %s/%s were not told: %s", scope.tenant, scope.workspace, error)


def _to_be_evaluated(asked: SensorAsked) -> str:
    """Return what lets a sensor be evaluated: a dry run heeds neither pause nor hold, and may bring its own message."""
    if asked.dry_run:
        return "Push a message, or give the dry run the payload of one."
    return "Resume it, take the hold off, or push a message; a dry run is possible all the same, with a payload."


def _no_answer(sensor_id: str, said: str) -> Refused:
    return refused(
        Code.UNAVAILABLE,
        f"the evaluation of sensor {sensor_id} has no answer yet: {said}",
        field="sensor_id",
        value=sensor_id,
        remedy=f"`springline sensor show {sensor_id}` says what came of it. Start a worker of its file if none runs.",
    )
