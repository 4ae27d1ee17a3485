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
from springline.batching import DEADLINE_S, Counts, RequestCoalescer, RequestKind
from springline.caches import Brief
from springline.errors import Code, Refusal, Refused
from springline.ledger.request import (
    AppendOutcome,
    AppendRequest,
    IngestOutcome,
    IngestRequest,
    request_weight,
    too_heavy,
)
from springline.paths import Scope
from workflows.ledger_messages import (
    ABOUT,
    GARBAGE_INTERVAL,
    MAX_BATCH_PATHS,
    AppendBatch,
    AppendBatchResult,
    IngestBatch,
    IngestBatchResult,
    LedgerStart,
    LedgerStatus,
)
from workflows.lifecycle import workspace_attributes
from workflows.policies import WORKFLOW_TASK_TIMEOUT

FULL_APPEND_BYTES = 256 * 1024
"""The weight of a full batch of appends; a round takes four of them (`springline.ledger.request`)."""
FULL_INGEST_PATHS = MAX_BATCH_PATHS // 4


class TemporalLedgerGateway:
    """Batches for a workspace's ledger by update-with-start: its workflow id is its one sequencer.

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
    return WithStartWorkflowOperation(
        names.LEDGER_WORKFLOW,
        LedgerStart(tenant=scope.tenant, workspace=scope.workspace, garbage_interval=garbage_interval),
        id=names.ledger_workflow_id(scope.tenant, scope.workspace),
        task_queue=names.LEDGER_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=workspace_attributes(scope.tenant, scope.workspace),
        task_timeout=WORKFLOW_TASK_TIMEOUT,
        static_summary=f"ledger of {scope.tenant}/{scope.workspace}",
        static_details=ABOUT,
    )


class TemporalLedger:
    """The port `springline.api.ports.Ledgers`: requests of many callers of this process share few batches.

    `deadline_s`: how long a request may wait for its answer, tries included, in seconds.
    """

    def __init__(self, gateway: TemporalLedgerGateway, *, deadline_s: float = DEADLINE_S) -> None:
        self._gateway = gateway
        self._appends: RequestCoalescer[Scope, AppendRequest, AppendOutcome] = RequestCoalescer(
            gateway.append, _APPENDS, deadline_s=deadline_s
        )
        self._ingests: RequestCoalescer[Scope, IngestRequest, IngestOutcome] = RequestCoalescer(
            gateway.ingest, _INGESTS, deadline_s=deadline_s
        )

    @property
    def counts(self) -> tuple[Counts, ...]:
        """Counts of this process's requests so far, for metrics."""
        return self._appends.counts, self._ingests.counts

    async def append(self, scope: Scope, request: AppendRequest) -> AppendOutcome:
        """Append events and return their outcome, which may be a refusal.

        Raises `Refused` with UNAVAILABLE if that is unknown: the same request under the same id finds out.
        """
        refusal = too_heavy(request)
        if refusal is not None:
            return AppendOutcome(request_id=request.request_id, refusal=refusal)
        outcome = await self._appends.ask(scope, request)
        _raise_if_unknown(outcome.refusal)
        return outcome

    async def ingest(self, scope: Scope, request: IngestRequest) -> IngestOutcome:
        """Ingest foreign events and return their outcome; raises `Refused` as `append` does."""
        outcome = await self._ingests.ask(scope, request)
        _raise_if_unknown(outcome.refusal)
        return outcome

    async def status(self, scope: Scope) -> dict[str, Any] | None:
        """Return what the sequencer is doing, with its lag; None if it is not running or does not answer now."""
        return await self._gateway.status(scope)

    async def aclose(self) -> None:
        """Accept no more requests, and wait until every accepted one has its answer or reached its deadline."""
        await self._appends.aclose()
        await self._ingests.aclose()


def _raise_if_unknown(refusal: Refusal | None) -> None:
    if refusal is not None and refusal.code is Code.UNAVAILABLE:
        raise Refused(refusal)


def lane_of(scope: Scope) -> Lane:
    """Return the lane of a workspace's ledger."""
    return Lane(f"ledger of {scope.tenant}/{scope.workspace}", _not_taken)


def _not_taken(reason: str) -> Refusal:
    return Refusal(
        code=Code.UNAVAILABLE,
        message=f"Temporal does not take the request: {reason}",
        remedy="Run `springline doctor` to see what is wrong with Temporal, then send the same request again.",
    )


def _append_unavailable(request: AppendRequest, why: str) -> Refusal:
    return Refusal(
        code=Code.UNAVAILABLE,
        message=f"it is not known yet what became of the events: {why}",
        field="request_id",
        value=request.request_id,
        remedy="Send the same request again under the same request_id: it is written once, however often it is sent.",
    )


def _ingest_unavailable(request: IngestRequest, why: str) -> Refusal:
    return Refusal(
        code=Code.UNAVAILABLE,
        message=f"it is not known yet what became of {len(request.event_paths)} foreign event(s): {why}",
        field="event_paths",
        remedy="Send the same request again: an event that was accepted is known then.",
    )


_APPENDS: RequestKind[AppendRequest, AppendOutcome] = RequestKind(
    request_id=lambda request: request.request_id,
    answered_id=lambda outcome: outcome.request_id,
    refuse=lambda request, refusal: AppendOutcome(request_id=request.request_id, refusal=refusal),
    unavailable=_append_unavailable,
    weight=request_weight,
    full_weight=FULL_APPEND_BYTES,
)
_INGESTS: RequestKind[IngestRequest, IngestOutcome] = RequestKind(
    request_id=lambda _request: "",
    answered_id=lambda _outcome: "",
    refuse=lambda _request, refusal: IngestOutcome(refusal=refusal),
    unavailable=_ingest_unavailable,
    weight=lambda request: len(request.event_paths),
    full_weight=FULL_INGEST_PATHS,
)
