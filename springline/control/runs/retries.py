"""Whether a task has another attempt, and after which pause.

The user's budget counts what user code did. An attempt that was lost with its worker, or with the run's workflow, does
not use it.
"""

from __future__ import annotations

from typing import Final

from springline.control.runs.messages import AttemptEnded

INFRASTRUCTURE: Final = "INFRASTRUCTURE"
_FIRST_PAUSE_MS: Final = 30_000
_LONGEST_PAUSE_MS: Final = 900_000
_MOST_DOUBLINGS: Final = 20
_LOSSES_AT_ONCE: Final = 3
"""So many attempts of a task that were lost are followed by another at once."""
_FIRST_LOSS_PAUSE_MS: Final = 1_000
_LONGEST_LOSS_PAUSE_MS: Final = 60_000


def may_try_again(said: AttemptEnded, failures: int, retries: int) -> bool:
    """Say whether a failed attempt is followed by another; `failures` of its task so far, this one included."""
    if said.category == INFRASTRUCTURE:
        return said.retryable is not False
    retryable = said.category in ("USER_CODE", "TIMEOUT") if said.retryable is None else said.retryable
    return retryable and failures <= retries


def pause_ms(said: AttemptEnded, losses: int, failures: int, retry_delay_ms: int | None) -> int:
    """Return the pause behind a failed attempt that is followed by another, in ms.

    Args:
        said: how the attempt ended.
        losses: of the task so far, this attempt included if it was one.
        failures: likewise, of user code.
        retry_delay_ms: the pause behind the first failure, as the asset has it; None: 30 s.
    """
    if said.category == INFRASTRUCTURE:
        if losses <= _LOSSES_AT_ONCE:
            return 0
        return min(_FIRST_LOSS_PAUSE_MS << (losses - _LOSSES_AT_ONCE - 1), _LONGEST_LOSS_PAUSE_MS)
    first = _FIRST_PAUSE_MS if retry_delay_ms is None else retry_delay_ms
    doublings: int = min(max(failures - 1, 0), _MOST_DOUBLINGS)
    return min(first << doublings, max(first, _LONGEST_PAUSE_MS))
