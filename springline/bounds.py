"""Limits of requests: every bound of a request's form, by name, and checks for all kinds of values.

These bounds are about size and form only; the code that uses a value judges its meaning. The HTTP edge
(`springline.api.edge`) applies them to every request, and the sequencers to requests from elsewhere, such as
the Temporal CLI: without a bound, one request could fill a shared message, and all in it would fail.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

MAX_URL_PATH_BYTES: Final = 4_096
MAX_QUERY_BYTES: Final = 8_192
MAX_QUERY_PARAMETERS: Final = 100
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 16_384
"""Names and values of all headers together; a bearer token is the longest of them."""

MAX_BODY_BYTES: Final = 5 * 1024 * 1024
MAX_JSON_DEPTH: Final = 128
"""Arrays and objects inside each other; a schema of 32 levels has 97."""
MAX_JSON_VALUES: Final = 250_000
"""Texts, numbers, arrays and objects of one body, keys not counted."""
MAX_JSON_MEMBERS: Final = 5_000
"""Members of one object: an unknown one costs more to tell than a known one to read."""
MAX_JSON_NUMBER: Final = 2**64
"""Every number in a body is smaller than this, with either sign: it fits into 64 bits."""

MAX_VERSION: Final = 2**53 - 1
"""The greatest version of a table that a request may name: every reader of JSON holds such a number exactly."""

MAX_TABLE_REFERENCE: Final = 200
"""Characters of a table's id or name."""
MAX_NAME: Final = 1_000
"""Characters of a name in a request; valid names of tables have a rule of their own."""
MAX_KEY: Final = 500
"""Characters of an idempotency key."""
KEY_PATTERN: Final = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
"""A canonical UUIDv7: the key of a commit, the id of a request to the ledger."""
MAX_STAGED_PATH: Final = 512
MAX_STAGED_VERSION: Final = 256
"""Characters of a store's version token."""
MAX_LOCATION: Final = 1_024
"""Characters of a table's location; a bucket takes names of 1,024 bytes."""
MAX_COLUMNS: Final = 5_000
MAX_STRUCT_FIELDS: Final = 20
"""Members of a struct type's outermost object, which has two."""
MAX_PARTITION_COLUMNS: Final = 1_000
MAX_COLUMN_NAME: Final = 255
MAX_PROPERTIES: Final = 200
MAX_PROPERTY: Final = 4_000
"""Characters of a table property's name, and of its value."""
MAX_DESCRIPTION: Final = 4_000

MAX_ID: Final = 1_024
"""Bytes of an id or key of the ledger: of a run, a task, a schedule, an asset, an event."""
MAX_REQUEST_ID: Final = 128
MAX_EVENT_FIELDS: Final = 1_000
"""Fields of an event's payload, on its outermost level; its bytes are bounded too."""
MAX_LEDGER_PATH: Final = 256
"""Bytes of a foreign event's path."""
MAX_OBJECT_PATH: Final = 1_024
MAX_CURSOR: Final = 6_000
"""Characters of a page's cursor: it holds the keys of one row, in base64."""
MAX_INSTANT: Final = 64
MAX_LABEL: Final = 2_049
"""Characters of NAME=VALUE."""
MAX_FILTER_VALUES: Final = 50
"""How often a filter may be repeated."""
MAX_FREE_JSON: Final = 1_024
"""Characters, as JSON, of a field that is accepted and not used."""

JUDGED: Final = "x-judged-beyond-schema"

SHOWN_CHARACTERS: Final = 500
SHOWN_MEMBERS: Final = 20
SHORT_BYTES: Final = 1_000


def piece(value: Any, most: int = 100) -> str:
    """Return the beginning of a text, or of a JSON value as text; as quick for a large or deep value."""
    written = [value] if isinstance(value, str) else json.JSONEncoder(check_circular=False).iterencode(value)
    text = ""
    for part in written:
        text += part[: most + 1]
        if len(text) > most:
            return encodable(text[:most]) + "..."
    return encodable(text)


@dataclass(frozen=True, slots=True)
class JsonProblem:
    """A problem in a JSON document: the place, its value, the reason, and the remedy."""

    field: str
    value: Any
    text: str
    remedy: str


def judged(rule: str, **more: Any) -> dict[str, Any]:
    """Return the JSON schema of a value that is judged by more than its form: the `rule`, and further keywords.

    A value that fits the schema and breaks the rule is refused with 400, which names the field.
    """
    return {JUDGED: rule, **more}


def encodable(text: str) -> str:
    """Return `text` with NUL and lone surrogates, which many systems refuse, written as escapes."""
    text = text.replace("\0", "\\x00")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def shortened(text: str | None) -> str | None:
    """Return `text` so that it can be encoded and has at most about `SHORT_BYTES` bytes."""
    if text is None:
        return None
    text = encodable(text[: SHORT_BYTES + 1])
    data = text.encode()
    return text if len(data) <= SHORT_BYTES else data[:SHORT_BYTES].decode(errors="ignore") + "..."


def on_one_line(text: str, most: int = 200) -> str:
    """Return `text` for a log line: without line breaks and control characters, at most `most` characters."""
    if len(text) <= most and text.isprintable():
        return text
    escaped = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text[: most + 1])
    return escaped if len(escaped) <= most else escaped[:most] + "..."


def steers_no_terminal(text: str) -> str:
    """Return `text` with control and invisible characters escaped, except line ends and tabs, for a terminal."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else _as_escape(one) for one in text)


def _as_escape(one: str) -> str:
    """Return a character as JSON and JavaScript escape it, so that a JSON text keeps its meaning."""
    code = ord(one)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def shown(value: Any, most: int = SHOWN_CHARACTERS) -> Any:
    """Return `value` in JSON's types and short enough to read: texts of at most `most` characters."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -MAX_JSON_NUMBER < value < MAX_JSON_NUMBER else f"a number of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        text = encodable(value[: most + 1])
        return text if len(text) <= most else text[:most] + "..."
    return _shown_of_many(value, 0)


def _shown_of_many(value: Any, depth: int) -> Any:
    if isinstance(value, dict | list | tuple):
        if depth >= SHOWN_MEMBERS:
            return "..."
        if isinstance(value, dict):
            pairs = list(value.items())[:SHOWN_MEMBERS]
            plain: Any = {str(shown(key)): _shown_of_many(inner, depth + 1) for key, inner in pairs}
        else:
            plain = [_shown_of_many(inner, depth + 1) for inner in value[:SHOWN_MEMBERS]]
    elif value is None or isinstance(value, bool | int | float | str):
        return shown(value)
    elif isinstance(value, bytes):
        plain = repr(value[:SHOWN_CHARACTERS])
    else:
        plain = encodable(str(value))
    text = json.dumps(plain)
    return plain if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def problem_of_text(text: str) -> tuple[str, str] | None:
    """Return what is wrong with a text for any use, and what to do; None if nothing is."""
    if "\0" in text:
        return "holds a NUL character", "Leave the NUL character out."
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return (
                "holds half of a surrogate pair, which is no character",
                "Send whole characters; one above U+FFFF is two escapes in JSON, or none.",
            )
    return None


def problem_of_bounded(text: str, most: int, *, in_bytes: bool = False) -> tuple[str, str] | None:
    """Return what is wrong with a text of one line that may have `most` characters or bytes; None if nothing is."""
    size = len(text)
    if in_bytes and not text.isascii() and size <= most:
        size = len(text.encode("utf-8", "surrogatepass"))
    if size > most:
        unit = "bytes" if in_bytes else "characters"
        return f"has {size} {unit}, and {most} is the most", f"Send at most {most} {unit}."
    problem = problem_of_text(text)
    if problem is None and not text.isprintable():
        problem = "holds a character that cannot be printed", "Send it as it was given to you."
    return problem


def whole(value: Any) -> Any:
    """Return a whole number as an integer in any JSON form: 6.0 is 6."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_line(text: str) -> str:
    """Return `text` if it is one line of characters that can be printed; raises `ValueError` otherwise."""
    problem = problem_of_bounded(text, len(text))
    if problem is not None:
        raise ValueError(problem[0])
    return text


def check_free(value: Any) -> Any:
    """Return `value` if it is short as JSON; raises `ValueError` otherwise. For fields that we do not use."""
    if len(json.dumps(value)) > MAX_FREE_JSON:
        raise ValueError(f"has more than {MAX_FREE_JSON} characters as JSON")
    return value


_Place = tuple["_Place | None", str | int]


def problem_in_json(value: Any, *, depth: int = MAX_JSON_DEPTH, values: int = MAX_JSON_VALUES) -> JsonProblem | None:
    """Return the first problem in a JSON value of a request, or None.

    Problems are too deep nesting, too many values, NUL characters, lone surrogates,
    and numbers beyond 64 bits, in keys as well as in values. Uses no recursion for a deep value, and takes no
    longer for a too large value than for the largest allowed one.
    """
    waiting: list[tuple[Any, _Place | None, int]] = [(value, None, 0)]
    left = values
    while waiting:
        one, place, level = waiting.pop()
        if not isinstance(one, dict | list):
            found = _problem_of_scalar(one, place)
            if found is not None:
                return found
            continue
        left -= len(one)
        if level >= depth:
            text = f"holds more than {depth} arrays and objects inside each other"
            return JsonProblem("body", piece(value), text, f"Send JSON that nests at most {depth} levels.")
        if left < 0:
            return JsonProblem("body", piece(value), f"holds more than {values} values", "Send less in one request.")
        if isinstance(one, list):
            waiting += [(item, (place, index), level + 1) for index, item in enumerate(one)][::-1]
            continue
        if len(one) > MAX_JSON_MEMBERS:
            text = f"is an object of {len(one)} members, and {MAX_JSON_MEMBERS} is the most"
            return JsonProblem(_named(place), piece(one), text, f"Give at most {MAX_JSON_MEMBERS} members.")
        for key in one:
            problem = problem_of_text(key)
            if problem is not None:
                return JsonProblem(_named((place, key)), shown(key), f"has a name that {problem[0]}", problem[1])
        waiting += [(item, (place, key), level + 1) for key, item in one.items()][::-1]
    return None


def _problem_of_scalar(value: Any, place: _Place | None) -> JsonProblem | None:
    if isinstance(value, str):
        problem = problem_of_text(value)
        return None if problem is None else JsonProblem(_named(place), shown(value), *problem)
    if isinstance(value, int | float) and not -MAX_JSON_NUMBER < value < MAX_JSON_NUMBER:
        text = "is a number that 64 bits do not hold"
        return JsonProblem(_named(place), shown(value), text, "Send it as a text, or a lesser one.")
    return None


def _named(place: _Place | None) -> str:
    """Return the name of a place in a document, such as `events[0].data.run_id`; for a long one its last parts."""
    parts: list[str] = []
    while place is not None and len(parts) < SHOWN_MEMBERS:
        place, part = place
        parts.append(f"[{part}]" if isinstance(part, int) else f".{on_one_line(part, 100)}")
    return "".join(reversed(parts)).removeprefix(".") or "body"
