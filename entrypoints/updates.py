"""Batches of requests as updates of the workflow that sequences them, and the meaning of Temporal's answers.

Every sequencer is called in this way: update-with-start under its workflow id, with the batch's id as the update's.
A repeated batch joins the first one if that is still under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import QueryRejectCondition
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from entrypoints.wedged import end_if_wedged
from springline import names
from springline.batching import BatchRefused, TryAgain
from springline.errors import Code, Refusal

RPC_TIMEOUT = timedelta(seconds=30)
"""Longer than the server's own long poll of 20 s, so that only a lost connection reaches it."""
ATTEMPT_S = 45.0
"""One attempt at a batch ends after this long, whatever the server says; the next joins the same update."""
QUERY_TIMEOUT = timedelta(seconds=2)
STATUS_SECONDS = 1.0
"""The greatest age of a sequencer's status, so that reads of many callers cost one query."""
PAUSE_WHEN_FULL_S = 0.1

_log = logging.getLogger("springline.temporal")

_NOTHING_HAPPENED = frozenset(
    {RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION}
)
_MISCONFIGURED = frozenset(
    {
        RPCStatusCode.INVALID_ARGUMENT,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.UNIMPLEMENTED,
    }
)
_CLOSING = frozenset({names.ROLLING_OVER, "AcceptedUpdateCompletedWorkflow"})
"""Errors of a run that takes no more updates; the second is the server's own, for one that ended meanwhile."""

R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Lane:
    """The sequencer that a batch goes to.

    `name` is for log lines; `not_taken` makes the refusal of a batch that Temporal never accepts.
    """

    name: str
    not_taken: Callable[[str], Refusal]


async def send_batch(
    client: Client,
    update: str,
    batch: BaseModel,
    start: WithStartWorkflowOperation[Any, Any],
    *,
    lane: Lane,
    batch_id: str,
    result_type: type[R],
    attempt_s: float = ATTEMPT_S,
) -> R:
    """Send one batch to a lane's workflow, starting it if it is not running, and return its answers.

    Raises `TryAgain` and `BatchRefused` as `springline.batching` says.
    """
    try:
        async with asyncio.timeout(attempt_s):
            result: R = await client.execute_update_with_start_workflow(
                update,
                batch,
                start_workflow_operation=start,
                id=batch_id,
                result_type=result_type,
                rpc_timeout=RPC_TIMEOUT,
            )
    except WorkflowUpdateFailedError as error:
        raise _failed_update(error, lane) from error
    except (WorkflowUpdateRPCTimeoutOrCancelledError, TimeoutError) as error:
        raise _again(lane, "no answer in time", in_doubt=True) from error
    except WorkflowAlreadyStartedError as error:
        raise _again(lane, "the run ended while the batch arrived", in_doubt=False) from error
    except RPCError as error:
        if error.status is RPCStatusCode.FAILED_PRECONDITION:
            await _end_if_wedged(client, start)
        raise _failed_call(error, lane) from error
    except RecursionError:
        raise  # An error of one request's encoding, not of the connection.
    except RuntimeError as error:
        # A lazy client that cannot connect raises this.
        raise _again(lane, str(error), in_doubt=False) from error
    return result


async def query_status(client: Client, workflow_id: str, result_type: type[R]) -> R | None:
    """Return the answer of the query `status` if the workflow runs and a worker answers, else None."""
    handle = client.get_workflow_handle(workflow_id)
    try:
        status: R = await handle.query(
            names.STATUS_QUERY,
            result_type=result_type,
            reject_condition=QueryRejectCondition.NOT_OPEN,
            rpc_timeout=QUERY_TIMEOUT,
        )
    except (RPCError, RuntimeError, WorkflowQueryRejectedError, WorkflowQueryFailedError) as error:
        _log.debug("%s: no status of its workflow: %s", workflow_id, error)
        return None
    return status


async def _end_if_wedged(client: Client, start: WithStartWorkflowOperation[Any, Any]) -> None:
    """Terminate the run if its workflow task fails for ever, so that a batch which it rejected does not wait for it."""
    with contextlib.suppress(RPCError, RuntimeError):
        await end_if_wedged(client, start._start_workflow_input.id)


def refusal_in(error: ApplicationError) -> Refusal | None:
    """Return the refusal that an application error carries: its type is a code and its first detail the refusal."""
    if error.type in Code.__members__ and error.details and isinstance(error.details[0], dict):
        return Refusal.model_validate(error.details[0])
    return None


_TOO_LARGE = re.compile(r"larger than max|size.*exceeds?\b|exceeds?.*size|too large|ExceedsLimit", re.IGNORECASE)
"""Texts of gRPC and the server for a too large message, under statuses that also have other meanings."""


def _is_too_large(error: RPCError) -> bool:
    named = error.status in (RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.INVALID_ARGUMENT)
    return named and _TOO_LARGE.search(error.message) is not None


def _again(lane: Lane, reason: str, *, in_doubt: bool, after_s: float = 0.0, level: int = logging.WARNING) -> TryAgain:
    _log.log(level, "%s: a batch got no answer and is sent again: %s", lane.name, reason)
    return TryAgain(reason, in_doubt=in_doubt, after_s=after_s)


def _failed_update(error: WorkflowUpdateFailedError, lane: Lane) -> TryAgain | BatchRefused:
    """Distinguish a run that is closing, or was ended from outside, from an update that no run accepts."""
    cause = error.cause
    if not isinstance(cause, ApplicationError):
        return _again(lane, str(cause), in_doubt=False)
    if cause.type in _CLOSING:
        return _again(lane, f"{cause.type}: {cause.message}", in_doubt=False, level=logging.INFO)
    _log.error("%s: its workflow refuses a batch: %s: %s", lane.name, cause.type, cause.message)
    return BatchRefused(refusal_in(cause) or lane.not_taken(cause.message))


def _failed_call(error: RPCError, lane: Lane) -> TryAgain | BatchRefused:
    if _is_too_large(error):
        _log.warning("%s: a batch is too large for Temporal: %s", lane.name, error)
        return BatchRefused(
            Refusal(
                code=Code.PAYLOAD_TOO_LARGE,
                message=f"the request is larger than Temporal takes: {error.message}",
                field="request",
                remedy="Send less in one request.",
            )
        )
    if error.status in _MISCONFIGURED:
        _log.error("%s: Temporal refuses a batch: %s", lane.name, error)
        return BatchRefused(lane.not_taken(error.message))
    after_s = PAUSE_WHEN_FULL_S if error.status is RPCStatusCode.RESOURCE_EXHAUSTED else 0.0
    in_doubt = error.status not in _NOTHING_HAPPENED
    return _again(lane, f"{error.status.name}: {error.message}", in_doubt=in_doubt, after_s=after_s)
