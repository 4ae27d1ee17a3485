"""Temporal as the rest sees it: the connection, and the domain's ports put into practice by workflows.

Where Temporal is and how to get in is told by `temporalio.envconfig`: the same `TEMPORAL_*` variables and
`temporal.toml` that the Temporal CLI reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import QueryRejectCondition, WorkflowIDConflictPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from springline import names
from springline.config import Settings
from springline.delta.request import CommitRequest, Outcome
from springline.errors import Code, Refusal, SpringlineError
from springline.paths import Scope
from springline.requests.gateway import BatchRefused, TryAgain
from workflows.commit_status import ABOUT
from workflows.messages import BatchResult, CommitBatch, CommitStart, CommitStatus
from workflows.policies import WORKFLOW_TASK_TIMEOUT
from workflows.search import table_attributes

DEFAULT_ADDRESS = "localhost:7233"
RPC_TIMEOUT = timedelta(seconds=30)
"""Longer than the server's own long poll of 20 s, so that only a lost connection runs into it."""
ATTEMPT_S = 45.0
"""One attempt at a batch ends after this long, whatever the server says; the next joins the same update."""
QUERY_TIMEOUT = timedelta(seconds=2)
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


class TemporalUnreachable(SpringlineError):
    """Temporal cannot be reached, or not with this configuration."""


async def connect(runtime: Runtime | None = None, *, lazy: bool = False) -> Client:
    """Connect to Temporal as the environment says; models cross the wire by pydantic.

    With `lazy` the first call connects, for processes that may start before Temporal does (no worker can).
    Raises `TemporalUnreachable` naming the address and what to check.
    """
    try:
        config = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError) as error:
        raise TemporalUnreachable(
            f"the configuration of the Temporal client cannot be read: {error}. Check the TEMPORAL_* variables and "
            "temporal.toml; `temporal config list` shows what the Temporal CLI makes of them."
        ) from error
    config.setdefault("target_host", DEFAULT_ADDRESS)
    try:
        return await Client.connect(**config, data_converter=pydantic_data_converter, runtime=runtime, lazy=lazy)
    except (RuntimeError, RPCError) as error:
        raise TemporalUnreachable(
            f"Temporal does not answer at {config.get('target_host')}: {error}. Start it, or set TEMPORAL_ADDRESS "
            "and TEMPORAL_NAMESPACE."
        ) from error


def metrics_runtime(settings: Settings) -> Runtime:
    """Return a runtime that serves the SDK's and the workers' metrics for Prometheus; one per process.

    Names come out as Temporal's own dashboards expect them: seconds, with unit and `_total` suffixes. Raises
    `RuntimeError` or `ValueError` if the address cannot be bound.
    """
    return Runtime(
        telemetry=TelemetryConfig(
            metrics=PrometheusConfig(
                bind_address=f"{settings.metrics_host}:{settings.metrics_port}",
                counters_total_suffix=True,
                unit_suffix=True,
                durations_as_seconds=True,
            )
        )
    )


async def check_namespace(client: Client) -> None:
    """Return if Temporal answers and has the client's namespace; raises `RPCError` or `RuntimeError` otherwise."""
    await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace), timeout=QUERY_TIMEOUT
    )


class TemporalCommitGateway:
    """The port `CommitGateway` by update-with-start: the workflow id of a table is its one sequencer.

    `checkpoint_interval` is told to workflows that this gateway starts: versions between checkpoints.
    """

    def __init__(self, client: Client, *, checkpoint_interval: int = 100, attempt_s: float = ATTEMPT_S) -> None:
        self._client = client
        self._checkpoint_interval = checkpoint_interval
        self._attempt_s = attempt_s

    async def commit(
        self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
    ) -> list[Outcome]:
        """Send one batch to the table's workflow, starting it if it rests.

        `batch_id` is the update's id: sent again while the first is under way, it joins it. Raises `TryAgain`
        and `BatchRefused` as the port says.
        """
        try:
            async with asyncio.timeout(self._attempt_s):
                result: BatchResult = await self._client.execute_update_with_start_workflow(
                    names.COMMIT_UPDATE,
                    CommitBatch(requests=list(requests)),
                    start_workflow_operation=self._start(scope, table_id),
                    id=batch_id,
                    result_type=BatchResult,
                    rpc_timeout=RPC_TIMEOUT,
                )
        except WorkflowUpdateFailedError as error:
            raise _failed_update(error, table_id) from error
        except (WorkflowUpdateRPCTimeoutOrCancelledError, TimeoutError) as error:
            raise _again(table_id, "no answer in time", in_doubt=True) from error
        except WorkflowAlreadyStartedError as error:
            raise _again(table_id, "the run ended while the batch arrived", in_doubt=False) from error
        except RPCError as error:
            raise _failed_call(error, table_id) from error
        except RuntimeError as error:
            # A lazy client that cannot connect says so in this way.
            raise _again(table_id, str(error), in_doubt=False) from error
        return result.outcomes

    async def status(self, scope: Scope, table_id: str) -> dict[str, Any] | None:
        """Return the answer of the query `status` if the table's workflow runs and a worker answers, else None."""
        handle = self._client.get_workflow_handle(names.commit_workflow_id(scope.tenant, scope.workspace, table_id))
        try:
            status: CommitStatus = await handle.query(
                names.STATUS_QUERY,
                result_type=CommitStatus,
                reject_condition=QueryRejectCondition.NOT_OPEN,
                rpc_timeout=QUERY_TIMEOUT,
            )
        except (RPCError, RuntimeError, WorkflowQueryRejectedError, WorkflowQueryFailedError) as error:
            _log.debug("table %s: no status of its workflow: %s", table_id, error)
            return None
        return status.model_dump(mode="json")

    def _start(self, scope: Scope, table_id: str) -> WithStartWorkflowOperation[Any, Any]:
        """Return the start half of an update-with-start; it can be used once."""
        return WithStartWorkflowOperation(
            names.COMMIT_WORKFLOW,
            CommitStart(
                tenant=scope.tenant,
                workspace=scope.workspace,
                table_id=table_id,
                checkpoint_interval=self._checkpoint_interval,
            ),
            id=names.commit_workflow_id(scope.tenant, scope.workspace, table_id),
            task_queue=names.COMMIT_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=table_attributes(scope.tenant, scope.workspace, table_id),
            task_timeout=WORKFLOW_TASK_TIMEOUT,
            static_summary=f"commits of table {table_id}",
            static_details=ABOUT,
        )


def _again(
    table_id: str, reason: str, *, in_doubt: bool, after_s: float = 0.0, level: int = logging.WARNING
) -> TryAgain:
    _log.log(level, "table %s: a batch got no answer and is sent again: %s", table_id, reason)
    return TryAgain(reason, in_doubt=in_doubt, after_s=after_s)


def _failed_update(error: WorkflowUpdateFailedError, table_id: str) -> TryAgain | BatchRefused:
    """Tell a run that is closing, or was ended from outside, from an update that no run will take."""
    cause = error.cause
    if not isinstance(cause, ApplicationError):
        return _again(table_id, str(cause), in_doubt=False)
    if cause.type in _CLOSING:
        return _again(table_id, f"{cause.type}: {cause.message}", in_doubt=False, level=logging.INFO)
    _log.error("table %s: its workflow refuses a batch: %s: %s", table_id, cause.type, cause.message)
    return BatchRefused(refusal_in(cause) or _not_taken(cause.message))


def _failed_call(error: RPCError, table_id: str) -> TryAgain | BatchRefused:
    if error.status in _MISCONFIGURED:
        _log.error("table %s: Temporal refuses a batch: %s", table_id, error)
        return BatchRefused(_not_taken(error.message))
    after_s = PAUSE_WHEN_FULL_S if error.status is RPCStatusCode.RESOURCE_EXHAUSTED else 0.0
    in_doubt = error.status not in _NOTHING_HAPPENED
    return _again(table_id, f"{error.status.name}: {error.message}", in_doubt=in_doubt, after_s=after_s)


def refusal_in(error: ApplicationError) -> Refusal | None:
    """Return the refusal that an application error carries: its type is a code and its first detail the refusal."""
    if error.type in Code.__members__ and error.details and isinstance(error.details[0], dict):
        return Refusal.model_validate(error.details[0])
    return None


def _not_taken(reason: str) -> Refusal:
    return Refusal(
        code=Code.UNAVAILABLE,
        message=f"Temporal does not take the commit: {reason}",
        remedy="Run `springline doctor` to see what is wrong with Temporal, then send the same key again.",
    )
