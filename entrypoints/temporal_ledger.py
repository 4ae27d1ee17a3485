"""Appends and foreign events through LedgerWorkflow, the ledger's sequencer.

See docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy

from entrypoints.updates import ATTEMPT_S, STATUS_SECONDS, Lane, query_status, send_batch
from springline import names
from springline.caches import Brief
from springline.errors import Code, Refusal
from springline.ledger.request import (
    AppendOutcome,
    AppendRequest,
    IngestOutcome,
    IngestRequest,
)
from springline.paths import Scope
from workflows.ledger_messages import (
    ABOUT,
    GARBAGE_INTERVAL,
    AppendBatch,
    AppendBatchResult,
    IngestBatch,
    IngestBatchResult,
    LedgerStart,
    LedgerStatus,
)
from workflows.lifecycle import workspace_attributes
from workflows.policies import BRIEF_TASK_TIMEOUT


class TemporalLedgerGateway:
    """The port `LedgerGateway` by update-with-start: a workspace's workflow id is its one sequencer.

    `garbage_interval`, publishes between garbage collections, is passed to workflows that this gateway starts.
    """

    def __init__(
        self, client: Client, *, garbage_interval: int = GARBAGE_INTERVAL, attempt_s: float = ATTEMPT_S
    ) -> None:
        self._client = client
        self._garbage_interval = garbage_interval
        self._attempt_s = attempt_s
        self._statuses = Brief(self._query_status, STATUS_SECONDS)

    async def append(self, scope: Scope, requests: Sequence[AppendRequest], *, batch_id: str) -> list[AppendOutcome]:
        """Send one batch of appends; one outcome for each, in order. Raises `TryAgain` and `BatchRefused`."""
        result = await send_batch(
            self._client,
            names.APPEND_UPDATE,
            AppendBatch(requests=list(requests)),
            start_of(scope, garbage_interval=self._garbage_interval),
            lane=lane_of(scope),
            batch_id=batch_id,
            result_type=AppendBatchResult,
            attempt_s=self._attempt_s,
        )
        return result.outcomes

    async def ingest(self, scope: Scope, requests: Sequence[IngestRequest], *, batch_id: str) -> list[IngestOutcome]:
        """Send one batch of foreign events; one outcome for each. Raises `TryAgain` and `BatchRefused`."""
        result = await send_batch(
            self._client,
            names.INGEST_UPDATE,
            IngestBatch(requests=list(requests)),
            start_of(scope, garbage_interval=self._garbage_interval),
            lane=lane_of(scope),
            batch_id=batch_id,
            result_type=IngestBatchResult,
            attempt_s=self._attempt_s,
        )
        return result.outcomes

    async def status(self, scope: Scope) -> dict[str, Any] | None:
        """Return the answer of the query `status` and the lag in seconds, or None if the workflow does not run.

        Sends at most one query in `STATUS_SECONDS` for each workspace; the lag is current.
        """
        status = await self._statuses.get(scope)
        if status is None:
            return None
        since = status.lag_since_ms
        lag = 0.0 if since is None else max(0.0, round(time.time() - since / 1000, 3))
        return {**status.model_dump(mode="json"), "lag_seconds": lag}

    async def _query_status(self, scope: Scope) -> LedgerStatus | None:
        workflow_id = names.ledger_workflow_id(scope.tenant, scope.workspace)
        return await query_status(self._client, workflow_id, LedgerStatus)


def start_of(scope: Scope, *, garbage_interval: int = GARBAGE_INTERVAL) -> WithStartWorkflowOperation[Any, Any]:
    """Return the start half of an update-with-start of a workspace's LedgerWorkflow; it can be used once."""
    return WithStartWorkflowOperation(names.LEDGER_WORKFLOW, **sequencing(scope, garbage_interval=garbage_interval))


def sequencing(scope: Scope, *, garbage_interval: int = GARBAGE_INTERVAL) -> dict[str, Any]:
    """Return how a workspace's LedgerWorkflow is started, or found running."""
    return {
        "arg": LedgerStart(tenant=scope.tenant, workspace=scope.workspace, garbage_interval=garbage_interval),
        "id": names.ledger_workflow_id(scope.tenant, scope.workspace),
        "task_queue": names.LEDGER_QUEUE,
        "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
        "search_attributes": workspace_attributes(scope.tenant, scope.workspace),
        "task_timeout": BRIEF_TASK_TIMEOUT,
        "static_summary": f"ledger of {scope.tenant}/{scope.workspace}",
        "static_details": ABOUT,
    }


def lane_of(scope: Scope) -> Lane:
    """Return the lane of a workspace's ledger."""
    return Lane(f"ledger of {scope.tenant}/{scope.workspace}", _not_taken)


def _not_taken(reason: str) -> Refusal:
    return Refusal(
        code=Code.UNAVAILABLE,
        message=f"Temporal does not take the request: {reason}",
        remedy="Run `springline doctor` to see what is wrong with Temporal, then send the same request again.",
    )
