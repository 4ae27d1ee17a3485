"""JSON that every reader understands alike: no repeated keys, bounded depth, no characters that readers fail on.

JSON does not define a repeated key, and readers differ: some take the first, some the last, some fail. The fast
parser silently takes the last, so this module looks for repeated keys. If writing the value gives back the same text,
no key was lost, and engines write JSON without blanks; else it counts keys before and after parsing; and only
if the count is in doubt it parses the text again, by a parser that returns every pair.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from springline.delta.limits import MAX_JSON_DEPTH, MAX_JSON_ELEMENTS


class BadJson(ValueError):
    """A text is not JSON that every reader understands alike; the message goes on from "it ". `piece`: the key."""

    def __init__(self, message: str, piece: str | None = None) -> None:
        super().__init__(message)
        self.piece = piece


def strict_json(text: bytes) -> Any:
    """Parse `text`; raises `BadJson` if it is not JSON, nests too deep, repeats a key or has a lone surrogate.

    Numbers beyond 64 bits become floats, as in most readers; NaN and infinities are not JSON.
    """
    if len(text) > MAX_JSON_ELEMENTS and text.count(b",") > MAX_JSON_ELEMENTS:
        raise BadJson(f"has more than {MAX_JSON_ELEMENTS} elements")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # The parser's own limit, far above ours, in the words of its versions.
        if "depth limit" in error.msg or "ecursion" in error.msg:
            raise BadJson(f"is nested deeper than {MAX_JSON_DEPTH}") from None
        raise BadJson(f"is not JSON: {error.msg} at character {error.pos}") from None
    if isinstance(value, (dict, list)):
        if text.count(b"{") + text.count(b"[") <= MAX_JSON_DEPTH and orjson.dumps(value) == text:
            return value
        check_keys(text, value)
    return value


def check_keys(text: bytes, value: Any, *, depth: int = MAX_JSON_DEPTH) -> None:
    """Raise `BadJson` if an object in `text`, which `value` was parsed from, has a key twice, or lies too deep."""
    if not isinstance(value, (dict, list)):
        return
    keys = count_keys(value, depth=depth)
    # Each key has a colon, so as many colons as keys prove it; most texts have more colons than that.
    if keys not in (text.count(b":"), _keys_written(text)):
        _find_repeated_key(text)


def count_keys(value: Any, *, depth: int = MAX_JSON_DEPTH) -> int:
    """Return how many keys a parsed value has at all depths; raises `BadJson` beyond the depth allowed."""
    most = depth
    keys = 0
    level = [value]
    depth = 0
    while level:
        depth += 1
        if depth > most:
            raise BadJson(f"is nested deeper than {most}")
        deeper: list[Any] = []
        for one in level:
            if type(one) is dict:
                keys += len(one)
                items: Any = one.values()
            else:
                items = one
            for item in items:
                kind = type(item)
                if kind is dict or kind is list:
                    deeper.append(item)
        level = deeper
    return keys


def texts_of(value: Any) -> list[str]:
    """Return every text in a parsed value, keys too."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict):
            found.extend(one)
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return found


def _keys_written(text: bytes) -> int:
    """Count the keys in the text of valid JSON without parsing it; -1 if that needs a parser.

    A key's end is a quote before a colon. A quote inside a text follows an odd number of backslashes, so `\":` does
    not count; for an even number before a quote, or blanks before a colon, a parser has to decide.
    """
    if b'\\\\"' in text or b" :" in text or b"\t:" in text or b"\r:" in text or b"\n:" in text:
        return -1
    return text.count(b'":') - text.count(b'\\":')


def _find_repeated_key(text: bytes) -> None:
    """Raise `BadJson` naming the first key that an object has twice; the depth is known to be bounded."""
    json.loads(text, object_pairs_hook=_no_key_twice, parse_int=str, parse_float=str)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise BadJson(f"has the key {key[:100]!r} twice, which readers understand differently", key[:100])
        seen.add(key)
