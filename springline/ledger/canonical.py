"""Canonical JSON: one text per value (docs/formats.md#canonical-json)."""

from __future__ import annotations

from typing import Any, Final

import orjson

_PLAIN: Final = frozenset((str, int, bool, type(None)))


def canonical_json(value: Any) -> bytes:
    """Return the canonical JSON of a value made of dicts, lists, tuples, strings, integers, booleans and None.

    Keys are sorted by their UTF-8 bytes, there is no white space, and characters beyond ASCII stand as they are.
    Raises `ValueError` for floats (whole ones too), integers outside -2**63 to 2**64 - 1, half surrogate pairs, keys
    that are no strings, and values of other types.
    """
    if type(value) not in _PLAIN:
        _check(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise ValueError(f"no canonical JSON: {error}") from None


def _check(value: Any) -> None:
    kind = type(value)
    if kind is dict:
        items = value.values()
    elif kind is list or kind is tuple:
        items = value
    elif kind is float:
        raise ValueError(f"no canonical JSON: {value!r} is a float, give an integer or a string")
    else:
        raise ValueError(f"no canonical JSON: {kind.__name__} is no JSON type")
    for item in items:
        if type(item) not in _PLAIN:
            _check(item)
