"""The port through which commits reach the one sequencer of their table, wherever it runs.

See `springline.requests.gateway` for what a gateway does and leaves to others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from springline.delta.request import CommitRequest, Outcome
from springline.paths import Scope


class CommitGateway(Protocol):
    """Takes batches of requests of one table to its sequencer."""

    async def commit(
        self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
    ) -> list[Outcome]:
        """Return one outcome for each of at most `springline.requests.coalescer.MAX_BATCH` requests, in their order.

        Raises `TryAgain` when there is no answer, and `BatchRefused` when there will never be one.
        """
