"""JSON as text: read without losing anything, and written canonically, one text per value.

Reading keeps repeated keys visible and tells an integer from other numbers. See docs/formats.md#canonical-json.
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 128
"""Nesting of arrays and objects: a bound of our own, so that no result depends on the depth of the stack."""

_MAX_INTEGER_DIGITS: Final = 20
_MIN_I64: Final = -(2**63)
_MAX_U64: Final = 2**64 - 1


class JsonObject(list[tuple[str, Any]]):
    """An object as the list of its pairs, in the order of the text."""


class OtherNumber:
    """A number other than an integer from -2**63 to 2**64 - 1; `text` is its text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text[:40]


def read_json(body: bytes) -> Any:
    """Return the value of a JSON text, objects as `JsonObject` and unusual numbers as `OtherNumber`.

    Raises `ValueError` if it is not exactly one JSON value in UTF-8 without a byte order mark, nests deeper than
    `MAX_DEPTH`, or has a lone surrogate.
    """
    text = body.decode()
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    value = json.loads(
        text, object_pairs_hook=JsonObject, parse_int=_integer, parse_float=OtherNumber, parse_constant=_no_number
    )
    if "\\u" in text:
        check_unicode(value)
    return value


def check_unicode(value: Any) -> None:
    """Raise `ValueError` if a string somewhere in `value` cannot be encoded as UTF-8."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, JsonObject):
        for key, item in value:
            key.encode()
            check_unicode(item)
    elif isinstance(value, list):
        for item in value:
            check_unicode(item)


def _integer(text: str) -> int | OtherNumber:
    # The reference reads -0 as a floating-point number, because no integer has that sign.
    if len(text) > _MAX_INTEGER_DIGITS or text == "-0":
        return OtherNumber(text)
    number = int(text)
    return number if _MIN_I64 <= number <= _MAX_U64 else OtherNumber(text)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON value")


def _check_depth(text: str) -> None:
    depth, in_string, escaped = 0, False, False
    for character in text:
        if escaped:
            escaped = False
        elif in_string:
            escaped = character == "\\"
            in_string = character != '"'
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"more than {MAX_DEPTH} arrays and objects inside each other")
        elif character in "]}":
            depth -= 1


_PLAIN: Final = frozenset((str, int, bool, type(None)))


def canonical_json(value: Any) -> bytes:
    """Return the canonical JSON of a value made of dicts, lists, tuples, strings, integers, booleans and None.

    Keys are sorted by their UTF-8 bytes, there is no white space, and characters beyond ASCII are not escaped.
    Raises `ValueError` for floats (whole ones, too), integers outside -2**63 to 2**64 - 1, lone surrogates, keys
    that are not strings, and values of other types.
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
