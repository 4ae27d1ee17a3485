"""The port through which batches of requests reach the one sequencer of their lane, wherever it runs.

A lane is what has a sequencer of its own: a table, or a workspace's ledger. A gateway sends one batch and says
honestly what it knows when that fails; it does not try again. Trying again is the coalescer's task
(`springline.requests.coalescer`), so that there is one place that retries.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, TypeVar

from springline.errors import Refusal, SpringlineError

L_contra = TypeVar("L_contra", bound=Hashable, contravariant=True)
Q_contra = TypeVar("Q_contra", contravariant=True)
A = TypeVar("A")


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


class Send(Protocol[L_contra, Q_contra, A]):
    """Takes a batch of requests of one lane to its sequencer."""

    async def __call__(self, lane: L_contra, requests: Sequence[Q_contra], /, *, batch_id: str) -> list[A]:
        """Return one answer for each request, in their order.

        Raises `TryAgain` when there is no answer, and `BatchRefused` when there will never be one.
        """
