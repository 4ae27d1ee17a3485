"""The port through which requests reach the one sequencer of their table, wherever it runs.

A gateway sends one batch and says honestly what it knows when that fails; it does not try again. Trying again
is the coalescer's task (`springline.commit.coalescer`), so that there is one place that retries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from springline.delta.request import CommitRequest, Outcome
from springline.errors import Refusal, SpringlineError
from springline.paths import Scope

MAX_BATCH = 500
"""Members of one batch at most (design 3.2)."""


class TryAgain(SpringlineError):
    """A batch got no answer; the same requests under the same keys may be sent again.

    `in_doubt`: the batch may still be under way, so it is to be sent again as it is and under the same
    `batch_id`, to be joined rather than doubled. `after_s`: wait at least so long, in seconds.
    """

    def __init__(self, reason: str, *, in_doubt: bool, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.in_doubt = in_doubt
        self.after_s = after_s


class BatchRefused(SpringlineError):
    """The batch as a whole was refused for good, because of one member or of all: `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class CommitGateway(Protocol):
    """Takes batches of requests of one table to its sequencer."""

    async def commit(
        self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
    ) -> list[Outcome]:
        """Return one outcome for each of at most `MAX_BATCH` requests, in their order.

        Raises `TryAgain` when there is no answer, and `BatchRefused` when there will never be one.
        """
