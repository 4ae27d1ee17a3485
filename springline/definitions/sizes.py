"""Sizes of memory as people write them: `512MiB`, `1.5GiB`."""

from __future__ import annotations

import re
from typing import Final

_MIB: Final = 1024 * 1024
LEAST_MEMORY_BYTES: Final = 64 * _MIB
"""A process that has loaded a small pipeline needs about as much before it calls any function."""
MAX_MEMORY_BYTES: Final = 16 * 1024 * 1024 * _MIB

_UNITS: Final = {
    **{"TiB": 1024**4, "GiB": 1024**3, "MiB": _MIB, "KiB": 1024},
    **{"TB": 10**12, "GB": 10**9, "MB": 10**6, "kB": 1_000, "B": 1},
}
_SIZE: Final = re.compile(rf"([0-9]{{1,15}})(?:\.([0-9]{{1,9}}))? ?({'|'.join(_UNITS)})")
_HOW: Final = "write '512MiB' or '2GiB'"


def memory_bytes(value: object, *, least: int = LEAST_MEMORY_BYTES) -> int:
    """Return a limit of memory in bytes, `least` or more; raises `ValueError`, whose text goes on from the value.

    A bare number is refused, because it does not say its unit.
    """
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(_why_none(value))
    whole, part, unit = match[1], match[2] or "", _UNITS[match[3]]
    size: int = int(whole + part) * unit // 10 ** len(part)
    if size < least:
        raise ValueError(f"is below {size_text(least)}, the least: as much is needed before anything is done")
    if size > MAX_MEMORY_BYTES:
        raise ValueError(f"is above {size_text(MAX_MEMORY_BYTES)}, the most")
    return size


def _why_none(value: object) -> str:
    bare = isinstance(value, int | float) and not isinstance(value, bool)
    if bare or (isinstance(value, str) and re.fullmatch(r"[0-9.]+", value.strip())):
        return f"does not say its unit: {_HOW}"
    what = "is" if isinstance(value, str) else f"is a {type(value).__name__} and"
    return f"{what} no size: {_HOW}"


def size_text(size: int) -> str:
    """Return a size as people write it, exactly; `memory_bytes` reads it back."""
    return min((f"{size // unit}{name}" for name, unit in _UNITS.items() if size % unit == 0), key=len)


def rough_size_text(size: int) -> str:
    """Return a size that was measured in a few digits, in MiB or GiB."""
    mib = size / _MIB
    return f"{mib:.0f} MiB" if mib < 10 * 1024 else f"{mib / 1024:.1f} GiB"
