"""Temporal as the rest sees it: the connection, and the domain's ports put into practice by workflows.

Where Temporal is and how to get in is told by `temporalio.envconfig`: the same `TEMPORAL_*` variables and
`temporal.toml` that the Temporal CLI reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError

from entrypoints.table_names import TABLE_NAME_MEMO, NameOf, NameSearch
from entrypoints.updates import ATTEMPT_S, QUERY_TIMEOUT, Lane, query_status, send_batch
from springline import names
from springline.config import Settings
from springline.delta.request import CommitRequest, Outcome
from springline.errors import Code, Refusal, SpringlineError
from springline.paths import Scope
from workflows.commit_status import ABOUT
from workflows.messages import BatchResult, CommitBatch, CommitStart, CommitStatus
from workflows.policies import WORKFLOW_TASK_TIMEOUT
from workflows.search import table_attributes

DEFAULT_ADDRESS = "localhost:7233"


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

    `checkpoint_interval` is told to workflows that this gateway starts: versions between checkpoints. `name_of` tells
    what people call a table, for them to see.
    """

    def __init__(
        self,
        client: Client,
        *,
        checkpoint_interval: int = 100,
        attempt_s: float = ATTEMPT_S,
        name_of: NameOf | None = None,
    ) -> None:
        self._client = client
        self._name_of = name_of
        self._search = NameSearch()
        self._checkpoint_interval = checkpoint_interval
        self._attempt_s = attempt_s

    async def commit(
        self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
    ) -> list[Outcome]:
        """Send one batch to the table's workflow, starting it if it rests.

        `batch_id` is the update's id: sent again while the first is under way, it joins it. Raises `TryAgain`
        and `BatchRefused` as the port says.
        """
        name = None if self._name_of is None else await self._name_of(scope, table_id)
        batch = CommitBatch(requests=list(requests))

        async def send(search_name: str | None) -> BatchResult:
            return await send_batch(
                self._client,
                names.COMMIT_UPDATE,
                batch,
                self._start(scope, table_id, name, search_name),
                lane=Lane(f"table {table_id}", _not_taken),
                batch_id=batch_id,
                result_type=BatchResult,
                attempt_s=self._attempt_s,
            )

        return (await self._search.with_name(name, send)).outcomes

    async def status(self, scope: Scope, table_id: str) -> dict[str, Any] | None:
        """Return the answer of the query `status` if the table's workflow runs and a worker answers, else None."""
        workflow_id = names.commit_workflow_id(scope.tenant, scope.workspace, table_id)
        status = await query_status(self._client, workflow_id, CommitStatus)
        return None if status is None else status.model_dump(mode="json")

    def _start(
        self, scope: Scope, table_id: str, name: str | None, search_name: str | None
    ) -> WithStartWorkflowOperation[Any, Any]:
        """Return the start half of an update-with-start; it can be used once."""
        return WithStartWorkflowOperation(
            names.COMMIT_WORKFLOW,
            CommitStart(
                tenant=scope.tenant,
                workspace=scope.workspace,
                table_id=table_id,
                checkpoint_interval=self._checkpoint_interval,
                table_name=name,
            ),
            id=names.commit_workflow_id(scope.tenant, scope.workspace, table_id),
            task_queue=names.COMMIT_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=table_attributes(scope.tenant, scope.workspace, table_id, search_name),
            memo=None if name is None else {TABLE_NAME_MEMO: name},
            task_timeout=WORKFLOW_TASK_TIMEOUT,
            static_summary=f"commits of table {table_id if name is None else f'{name} ({table_id})'}",
            static_details=ABOUT,
        )


def _not_taken(reason: str) -> Refusal:
    return Refusal(
        code=Code.UNAVAILABLE,
        message=f"Temporal does not take the commit: {reason}",
        remedy="Run `springline doctor` to see what is wrong with Temporal, then send the same key again.",
    )
