"""A caller's value as a message and a refusal show it: short, whatever it is."""

from __future__ import annotations

from typing import Any

_LONGEST = 100
_LONGEST_VALUE = 200
_ENTRIES = 5


def shown(value: Any) -> str:
    """Return a short text of `value` for a sentence; a missing one is `null`."""
    text = "null" if value is None else repr(shortened(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def shortened(value: Any) -> Any:
    """Return `value`, or of a long or nested one so much that it is recognised; never deeper than two levels."""
    return _shortened(value, 2)


def _shortened(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}..."
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, (dict, list, tuple, set, frozenset)) and levels == 0:
        return "..."
    if isinstance(value, dict):
        some = list(value.items())[:_ENTRIES]
        made = {str(_shortened(str(key), 0)): _shortened(one, levels - 1) for key, one in some}
        return made | ({"...": f"{len(value) - _ENTRIES} more"} if len(value) > _ENTRIES else {})
    if isinstance(value, (list, tuple, set, frozenset)):
        some_values = [_shortened(one, levels - 1) for one in list(value)[:_ENTRIES]]
        return some_values + ([f"... {len(value) - _ENTRIES} more"] if len(value) > _ENTRIES else [])
    return value
