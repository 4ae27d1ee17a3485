"""How often a store takes a write to one object name, learnt from what it refuses (docs/protocol.md#commit-rounds).

Google Cloud Storage takes about one write a second to one name. Once a name's writes were refused for that reason,
the next ones are held back until their time has come, instead of being sent, refused and sent again. Nobody tells
when that is no longer needed, so after some writes one goes out at once: if it is refused in the same way, more are
held back before the next such try, else none.
"""

from __future__ import annotations

from collections.abc import Callable

WRITE_INTERVAL_S = 1.0
SPARE_S = 0.01
"""Added to the interval: two calls do not take equally long to reach the store."""
_SURELY_TOO_SOON_S = 0.8
"""A write that was taken sooner after the one before, if on a second try, was refused for another reason."""
FIRST_WRITES = 64
MOST_WRITES = 512
"""Writes held back before one goes out at once: after the first refusal, and at most."""


class WritePace:
    """The pace of one object name's writes. `clock` returns seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last_sent = float("-inf")
        self._left = 0
        self._level = 0
        self._refused = False

    @property
    def slow(self) -> bool:
        """Say whether the store is known to refuse writes that come too fast."""
        return self._left > 0

    def wait_s(self) -> float:
        """Return for how many seconds the next write is to be held back."""
        return max(0.0, self._last_sent + WRITE_INTERVAL_S + SPARE_S - self._clock()) if self.slow else 0.0

    def refused(self) -> None:
        """Take note that the write was refused."""
        self._refused = True

    def taken(self, sent_at: float) -> None:
        """Take note that the write sent at `sent_at`, of the clock, was taken."""
        since = sent_at - self._last_sent
        if self._refused and since >= _SURELY_TOO_SOON_S:
            self._level = min(MOST_WRITES, self._level * 2 or FIRST_WRITES)
            self._left = self._level
        elif since < _SURELY_TOO_SOON_S:
            self._left = self._level = 0
        else:
            self._left = max(0, self._left - 1)
        self._refused = False
        self._last_sent = sent_at
