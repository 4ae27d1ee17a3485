"""Event ids: ULIDs, 48 bits of milliseconds and 80 random bits in 26 Crockford symbols.

See docs/formats.md#event-ids, docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

from typing import Final

from springline.paths.components import CANONICAL_ULID, ulid_time_ms

RANDOM_BITS: Final = 80
"""How many random bits `new_event_id` takes."""

MAX_ULID_MS: Final = (1 << 48) - 1

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_BASE_32 = str.maketrans(_CROCKFORD, "0123456789ABCDEFGHIJKLMNOPQRSTUV")
_PAIRS: Final = tuple(high + low for high in _CROCKFORD for low in _CROCKFORD)
_MAX_VALUE: Final = (1 << 128) - 1


def is_canonical(event_id: str) -> bool:
    """Say whether `event_id` is a ULID as it is written: 26 upper-case symbols that fit 128 bits."""
    return CANONICAL_ULID.fullmatch(event_id) is not None


def event_id_ms(event_id: str) -> int | None:
    """Return the milliseconds since 1970 in `event_id`, or None if it does not decode as a ULID.

    As lenient as the reference: lower case is read, and a first symbol above `7` loses its top bits.
    """
    return ulid_time_ms(event_id)


def new_event_id(after: str | None, now_ms: int, random_bits: int) -> str:
    """Return a canonical event id above `after`.

    Args:
        after: the greatest event id so far, or None if there is none.
        now_ms: milliseconds since 1970; while it is not above the time in `after`, as when a clock went back, the
            id is the successor of `after` (and lies in the next millisecond once the random part is exhausted).
        random_bits: `RANDOM_BITS` random bits.

    Raises `ValueError` if a number is out of range, or if no canonical id lies above `after`.
    """
    if not 0 <= now_ms <= MAX_ULID_MS:
        raise ValueError(f"now_ms {now_ms} does not fit a ULID: give milliseconds since 1970")
    if not 0 <= random_bits < 1 << RANDOM_BITS:
        raise ValueError(f"random_bits {random_bits} is out of range: give {RANDOM_BITS} random bits")
    fresh = _text(now_ms << RANDOM_BITS | random_bits)
    if after is None:
        return fresh
    if is_canonical(after):
        value = _value(after)
        return fresh if now_ms > value >> RANDOM_BITS else _text(value + 1)
    if fresh > after:
        return fresh
    raise ValueError(f"event id {after!r} is no canonical ULID and lies above all new ones: rebuild without it")


def nth_event_id(first: str, n: int) -> str:
    """Return the `n`-th successor of the canonical id `first` (0 is `first` itself); raises `ValueError`."""
    if not is_canonical(first) or n < 0:
        raise ValueError(f"{first!r} + {n}: give a canonical ULID and a count that is not negative")
    return _text(_value(first) + n)


def _value(event_id: str) -> int:
    return int(event_id.translate(_TO_BASE_32), 32)


def _text(value: int) -> str:
    if value > _MAX_VALUE:
        raise ValueError("no event id lies above 7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
    return "".join([_PAIRS[value >> shift & 1_023] for shift in range(120, -1, -10)])
