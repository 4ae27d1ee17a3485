"""Where a page goes on: a text that names the last key seen, for the list it came from and no other.

It holds a key and not a position or a revision, so that it stays good while the state goes on: the next page begins
behind that key in whatever revision is then the published one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from springline.errors import Code, Refused, refused
from springline.projection.schema import Key

_MARK_BYTES = 6


def cursor_for(route: str, filters: Mapping[str, Any], last: Key) -> str:
    """Return the cursor of the page behind `last` in the list that `route` and `filters` make."""
    content = [_mark(route, filters), *([last] if isinstance(last, str) else last)]
    return base64.urlsafe_b64encode(orjson.dumps(content)).rstrip(b"=").decode()


def key_of_cursor(cursor: str, route: str, filters: Mapping[str, Any], columns: int) -> Key:
    """Return the key in `cursor`, which has so many `columns`.

    Raises `Refused` (INVALID_REQUEST, field `cursor`) for a text that this list did not give.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        content = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        raise _refused(cursor, "is no cursor") from None
    if not isinstance(content, list) or len(content) != columns + 1 or not all(isinstance(one, str) for one in content):
        raise _refused(cursor, "is no cursor of this list")
    if content[0] != _mark(route, filters):
        raise _refused(cursor, "belongs to another list, or to one with other filters")
    return content[1] if columns == 1 else tuple(content[1:])


def _mark(route: str, filters: Mapping[str, Any]) -> str:
    """Return a short text that differs for other lists."""
    said = orjson.dumps([route, dict(filters)], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(said, digest_size=_MARK_BYTES).hexdigest()


def _refused(cursor: str, problem: str) -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        f"the cursor {problem}",
        field="cursor",
        value=cursor[:200],
        remedy="Send `next_cursor` of the page before, with the same filters, or leave the cursor out.",
    )
