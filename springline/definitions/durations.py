"""Durations as people write them: `90s`, `10m`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

MAX_DURATION_MS: Final = 30 * 86_400_000
LEAST_HEARTBEAT_MS: Final = 1_000

_UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_PARTS: Final = re.compile(" ?".join(rf"(?:([0-9]{{1,12}}){unit})?" for unit in _UNITS))
_HOW: Final = "write '90s', '10m', '1h30m' or a timedelta"


def duration_ms(value: object) -> int:
    """Return a duration in milliseconds; raises `ValueError`, whose text goes on from the value.

    A bare number is refused, because it does not say its unit.
    """
    total = _total(value)
    if total is None:
        raise ValueError(_why_none(value))
    if total < 1:
        raise ValueError("is not above zero")
    if total > MAX_DURATION_MS:
        raise ValueError(f"is longer than {duration_text(MAX_DURATION_MS)}, the most")
    return total


def _total(value: object) -> int | None:
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    match = _PARTS.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        return None
    return sum(int(part) * unit for part, unit in zip(match.groups(), _UNITS.values(), strict=True) if part)


def _why_none(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"does not say its unit: {_HOW}"
    what = "is" if isinstance(value, str) else f"is a {type(value).__name__} and"
    return f"{what} no duration: {_HOW}"


def duration_text(ms: int) -> str:
    """Return a duration as people write it; `duration_ms` reads it back."""
    parts = []
    for unit, size in _UNITS.items():
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def problem_of_heartbeat(heartbeat_ms: int | None, timeout_ms: int | None) -> str | None:
    """Return what is wrong with the heartbeat of an attempt that may take `timeout_ms`, to go on from it; or None."""
    if heartbeat_ms is None:
        return None
    if heartbeat_ms < LEAST_HEARTBEAT_MS:
        return f"is below {duration_text(LEAST_HEARTBEAT_MS)}, the least"
    if timeout_ms is not None and heartbeat_ms > timeout_ms:
        return f"is longer than the timeout, {duration_text(timeout_ms)}, and would never be missed"
    return None
