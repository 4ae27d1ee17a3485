"""Many concurrent commits of one process to one table become few batches (docs/protocol.md#commit-rounds)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Unpack

from springline.batching import Options, RequestCoalescer, RequestKind
from springline.delta.messages import CommitOutcome, CommitRequest, weight_of
from springline.errors import Code, Refusal
from springline.paths import Scope

FULL_COMMIT_BYTES = 256 * 1024
"""The most bytes of a batch of commits; four of them fill half of Temporal's limit of one message."""


class CommitCoalescer(RequestCoalescer[tuple[Scope, str], CommitRequest, CommitOutcome]):
    """Commits single requests through a gateway of batches; options are those of `RequestCoalescer`."""

    def __init__(self, gateway: CommitGateway, **options: Unpack[Options]) -> None:
        async def send(
            lane: tuple[Scope, str], requests: Sequence[CommitRequest], *, batch_id: str
        ) -> list[CommitOutcome]:
            scope, table_id = lane
            return await gateway.commit(scope, table_id, requests, batch_id=batch_id)

        super().__init__(send, _KIND, **options)

    async def commit(self, scope: Scope, table_id: str, request: CommitRequest) -> CommitOutcome:
        """Commit one request and return its outcome.

        If there is no answer before the deadline, the outcome's refusal is UNAVAILABLE: the request may or
        may not be committed, and the same request under the same key finds out.
        """
        return await self.ask((scope, table_id), request)


def _unavailable(request: CommitRequest, why: str) -> Refusal:
    return Refusal(
        code=Code.UNAVAILABLE,
        message=f"the commit's outcome is not known yet: {why}",
        field="idempotency_key",
        value=request.idempotency_key,
        remedy="Send the same request again under the same key: it is committed once, however often it is sent.",
    )


_KIND: RequestKind[CommitRequest, CommitOutcome] = RequestKind(
    request_id=lambda request: request.idempotency_key,
    answered_id=lambda outcome: outcome.idempotency_key,
    refuse=lambda request, refusal: CommitOutcome(idempotency_key=request.idempotency_key, refusal=refusal),
    unavailable=_unavailable,
    weight=weight_of,
    full_weight=FULL_COMMIT_BYTES,
)


class CommitGateway(Protocol):
    """Takes batches of requests of one table to its sequencer."""

    async def commit(
        self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
    ) -> list[CommitOutcome]:
        """Return one outcome for each of at most `springline.batching.MAX_BATCH` requests, in their order.

        Raises `TryAgain` if there is no answer, and `BatchRefused` if there will never be one.
        """
