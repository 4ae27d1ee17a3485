"""Many concurrent requests of one process to one ledger become few batches (docs/protocol.md#ledger-rounds)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from springline.batching import DEADLINE_S, Counts, RequestCoalescer, RequestKind
from springline.errors import Code, Refusal, Refused
from springline.ledger.request import (
    MAX_INGEST_PATHS,
    AppendOutcome,
    AppendRequest,
    IngestOutcome,
    IngestRequest,
    request_weight,
    too_heavy,
)
from springline.paths import Scope

FULL_APPEND_BYTES = 256 * 1024
"""The weight of a full batch of appends; a round takes four of them (`springline.ledger.request`)."""
FULL_INGEST_PATHS = MAX_INGEST_PATHS // 4


class LedgerGateway(Protocol):
    """Takes batches of requests to a workspace's sequencer, wherever it runs.

    Raises `TryAgain` when there is no answer, and `BatchRefused` when there will never be one (`springline.batching`).
    """

    async def append(self, scope: Scope, requests: Sequence[AppendRequest], *, batch_id: str) -> list[AppendOutcome]:
        """Return one outcome for each request, in their order."""

    async def ingest(self, scope: Scope, requests: Sequence[IngestRequest], *, batch_id: str) -> list[IngestOutcome]:
        """Return one outcome for each request, in their order."""

    async def status(self, scope: Scope) -> dict[str, Any] | None:
        """Return what the sequencer is doing, with its lag; None if it rests or cannot be asked just now."""


class LedgerCoalescer:
    """Takes single requests through a gateway of batches.

    `deadline_s`: how long a request may wait for its answer, tries included, in seconds.
    """

    def __init__(self, gateway: LedgerGateway, *, deadline_s: float = DEADLINE_S) -> None:
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
        """Return what the sequencer is doing, with its lag; None if it rests or cannot be asked just now."""
        return await self._gateway.status(scope)

    async def aclose(self) -> None:
        """Accept no more requests, and wait until every accepted one has its answer or reached its deadline."""
        await self._appends.aclose()
        await self._ingests.aclose()


def _raise_if_unknown(refusal: Refusal | None) -> None:
    if refusal is not None and refusal.code is Code.UNAVAILABLE:
        raise Refused(refusal)


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
