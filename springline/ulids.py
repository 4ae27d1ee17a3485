"""ULIDs: 48 bits of milliseconds and 80 random bits in 26 Crockford symbols (docs/formats.md#event-ids).

Ids of events, and of what the sequencer writes. Pure: time and randomness are the caller's.
"""

from __future__ import annotations

import re
from typing import Final

RANDOM_BITS: Final = 80
"""How many random bits `new_ulid` takes."""

MAX_ULID_MS: Final = (1 << 48) - 1

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_BASE_32 = str.maketrans(_CROCKFORD, "0123456789ABCDEFGHIJKLMNOPQRSTUV")
_VALUES: Final = {symbol: value for value, symbol in enumerate(_CROCKFORD)}
_PAIRS: Final = tuple(high + low for high in _CROCKFORD for low in _CROCKFORD)
_CANONICAL = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SYMBOLS: Final = 26
_TIME_SYMBOLS: Final = 10
_MAX_VALUE: Final = (1 << 128) - 1


def is_canonical_ulid(text: str) -> bool:
    """Say whether `text` is a ULID as it is written: 26 upper-case symbols that fit 128 bits."""
    return _CANONICAL.fullmatch(text) is not None


def ulid_time_ms(text: str) -> int | None:
    """Return the milliseconds since 1970 in a ULID, or None if it does not decode.

    As lenient as the reference, because canonical ledger paths depend on it: lower case is read, and a first symbol
    above `7` loses its top bits.
    """
    if _CANONICAL.fullmatch(text):
        return int(text[:_TIME_SYMBOLS].translate(_TO_BASE_32), 32)
    if len(text) != _SYMBOLS or not text.isascii():
        return None
    milliseconds = 0
    for position, symbol in enumerate(text.upper()):
        value = _VALUES.get(symbol)
        if value is None:
            return None
        if position < _TIME_SYMBOLS:
            milliseconds = milliseconds << 5 | value
    return milliseconds & MAX_ULID_MS


def new_ulid(after: str | None, now_ms: int, random_bits: int) -> str:
    """Return a canonical ULID above `after`.

    Args:
        after: the greatest event id so far, or None if there is none.
        now_ms: milliseconds since 1970; while it is not above the time in `after`, as when a clock went back, the
            id is the successor of `after` (and lies in the next millisecond once the random part is exhausted).
        random_bits: `RANDOM_BITS` random bits.

    Raises `ValueError` if a number is out of range, or if no canonical ULID lies above `after`.
    """
    if not 0 <= now_ms <= MAX_ULID_MS:
        raise ValueError(f"now_ms {now_ms} does not fit a ULID: give milliseconds since 1970")
    if not 0 <= random_bits < 1 << RANDOM_BITS:
        raise ValueError(f"random_bits {random_bits} is out of range: give {RANDOM_BITS} random bits")
    fresh = _text(now_ms << RANDOM_BITS | random_bits)
    if after is None:
        return fresh
    if is_canonical_ulid(after):
        value = _value(after)
        return fresh if now_ms > value >> RANDOM_BITS else _text(value + 1)
    if fresh > after:
        return fresh
    raise ValueError(f"event id {after!r} is no canonical ULID and lies above all new ones: rebuild without it")


def nth_ulid(first: str, n: int) -> str:
    """Return the `n`-th successor of the canonical ULID `first` (0 is `first` itself); raises `ValueError`."""
    if not is_canonical_ulid(first) or n < 0:
        raise ValueError(f"{first!r} + {n}: give a canonical ULID and a count that is not negative")
    return _text(_value(first) + n)


def _value(ulid: str) -> int:
    return int(ulid.translate(_TO_BASE_32), 32)


def _text(value: int) -> str:
    if value > _MAX_VALUE:
        raise ValueError("no event id lies above 7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
    return "".join([_PAIRS[value >> shift & 1_023] for shift in range(120, -1, -10)])
