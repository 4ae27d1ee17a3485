"""Limits of a commit. Every text and every nesting that a caller sends is under one of these.

The reasons: readers parse JSON with a recursion limit (serde_json: 128), object stores take names of 1,024 bytes, and
the other limits are above those of any real Delta table.
"""

from __future__ import annotations

from typing import Any

MAX_JSON_DEPTH = 100
"""Objects and lists inside each other, in a line of a payload and in JSON kept as text (schemas, statistics)."""
MAX_JSON_ELEMENTS = 500_000
"""Commas in one line, which bound the memory of its parsed form."""
MAX_TEXT = 1024 * 1024
"""Characters of any text of an action that has no bound of its own."""
MAX_PATH_BYTES = 1_024
"""Bytes of a decoded path: object stores refuse longer names."""
MAX_NAME = 1_024
"""Characters of a name: an application id, a domain, a table feature, a table's name, the key of a tag."""
MAX_PARTITION_VALUE = 64 * 1024
"""Characters of a partition value."""
MAX_ENTRIES = 1_000
"""Entries of a map: tags, properties, partition values; and names in a list of features."""
MAX_PROPERTY = 32 * 1024
"""Characters of a table property's value: constraints are expressions."""
MAX_COMMIT_INFO_BYTES = 1024 * 1024
"""Bytes of a line that holds a `commitInfo`."""
MIN_LONG, MAX_LONG = -(2**63), 2**63 - 1
MIN_INTEGER, MAX_INTEGER = -(2**31), 2**31 - 1

_LONGEST = 100
_LONGEST_VALUE = 200
_ENTRIES = 5


def shown(value: Any) -> str:
    """Return a short text of `value` for a sentence; a missing one is `null`."""
    text = "null" if value is None else repr(shortened(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def shortened(value: Any) -> Any:
    """Return `value`, or a recognisable part of a long or nested one; never deeper than two levels."""
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
