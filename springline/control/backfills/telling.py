"""The progress of a backfill in words: its bar, and how long it will take."""

from __future__ import annotations

from typing import Final

from springline.control.backfills.messages import BackfillProgress

WIDTH: Final = 40
"""Characters of a bar."""
_DONE, _FAILED, _RUNNING, _WAITING = "█", "▒", "░", "·"


def bar(progress: BackfillProgress, width: int = WIDTH) -> str:
    """Return a bar of so many characters: what is done, what is not and has ended, what runs, what waits; and percent.

    Something that is not all is never shown as all: rounding is down.
    """
    total = progress.total
    if not total:
        return f"{_WAITING * width}   0 %"
    bounds = (progress.done, progress.ended, progress.ended + progress.running)
    cuts = [width * bound // total for bound in bounds]
    drawn = (
        _DONE * cuts[0] + _FAILED * (cuts[1] - cuts[0]) + _RUNNING * (cuts[2] - cuts[1]) + _WAITING * (width - cuts[2])
    )
    return f"{drawn} {100 * progress.ended // total:3d} %"


def span_text(ms: int | None) -> str:
    """Return a span of time in words, such as `2h05m`; `unknown` for None."""
    if ms is None:
        return "unknown"
    seconds = ms // 1_000
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"
