"""Ids that users choose, of assets and code locations, and the keys of tasks (docs/formats.md#deployed-manifest)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final
from urllib.parse import quote, unquote

MAX_ID_BYTES: Final = 100
ID_RULE: Final = f"Letters, digits, _, - and ., at most {MAX_ID_BYTES} bytes, and not only dots."

_ID: Final = re.compile(r"[\w.-]+")
_TASK: Final = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")
_MOST_MEANT: Final = 3
_NAMED: Final = 10


def problem_of_id(text: object) -> tuple[str, str] | None:
    """Return what is wrong with an id, to go on from the id, and the remedy; None if it is valid.

    An id stands in URLs, in keys of tasks and runs, and in selections. So it has no colon, slash, bracket, star, comma
    or blank.
    """
    remedy = "Use letters, digits, _, - and . only."
    if not isinstance(text, str):
        return f"is a {type(text).__name__} and no text", "Give a text, such as 'raw_flights'."
    if not text:
        return "is empty", "Give it a name, such as 'raw_flights'."
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character", remedy
    if not _ID.fullmatch(text):
        wrong = next(one for one in text if not _ID.fullmatch(one))
        return f"holds {wrong!r}", remedy
    if size > MAX_ID_BYTES:
        return f"has {size} bytes, and {MAX_ID_BYTES} is the most", "Choose a shorter name."
    if not text.strip("."):
        return "has nothing but dots", remedy
    return None


def task_key(asset: str, partition: str | None = None) -> str:
    """Return the key of the task that makes an asset, or one partition of it: `asset` or `asset[partition]`.

    Both parts are percent-encoded, so that two tasks never share a key.
    """
    name = quote(asset, safe="")
    return name if partition is None else f"{name}[{quote(partition, safe='')}]"


def parse_task_key(key: str) -> tuple[str, str | None] | None:
    """Return asset and partition of a task's key, or None if `task_key` did not make it."""
    match = _TASK.fullmatch(key)
    if match is None:
        return None
    try:
        asset = unquote(match[1], errors="strict")
        partition = None if match[2] is None else unquote(match[2], errors="strict")
    except UnicodeDecodeError:
        return None
    return (asset, partition) if task_key(asset, partition) == key else None


def meant_task_key(text: str) -> str:
    """Return the key of the task that a person has named: as it is, or with asset and partition as they are written.

    `sales[2026-01-31|eu]` and `sales[2026-01-31%7Ceu]` are one task.
    """
    if parse_task_key(text) is not None:
        return text
    asset, bracket, rest = text.partition("[")
    if not bracket:
        return task_key(asset)
    return task_key(asset, rest[:-1]) if rest.endswith("]") else text


def meant(text: str, known: Iterable[str]) -> str:
    """Return a sentence that names what `text` may have been meant to be, with a blank behind it, or nothing."""
    near = get_close_matches(text, sorted(set(known)), _MOST_MEANT, 0.6)
    return f"Did you mean {' or '.join(near)}? " if near else ""


def named(names: Iterable[str]) -> str:
    """Return names for a message: the first few of them, and how many more there are; `none` if there are none."""
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return (", ".join(listed[:_NAMED]) or "none") + more
