"""Components that several namespaces share: days, ULIDs, hashes, and keys that become file names.

See docs/formats.md#event-objects, docs/formats.md#state-objects, docs/formats.md#reserved-names.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Final, ParamSpec

from springline.paths.scope import InvalidPath, ObjectPath
from springline.ulids import is_canonical_ulid, ulid_time_ms

_P = ParamSpec("_P")

MAX_U64: Final = 2**64 - 1

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SHORT_HASH = re.compile(r"[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MS_PER_DAY: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1)


def day_folder(day: date) -> str:
    """Return the folder name of a UTC day, `YYYY-MM-DD`; a `datetime` is refused: the caller must choose the day."""
    if not isinstance(day, date) or isinstance(day, datetime):
        raise InvalidPath("day", day, "give the UTC day as a date")
    return day.isoformat()


def parse_day(text: str) -> date | None:
    """Return the day that a folder name means, or None if the calendar has no such day."""
    if not _DAY.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def canonical_ulid(field: str, text: str) -> str:
    """Check a ULID of 26 upper-case Crockford symbols that fits 128 bits, and return it."""
    if not isinstance(text, str) or not is_canonical_ulid(text):
        raise InvalidPath(field, text, "give a ULID of 26 upper-case symbols, such as 01JHMP8000000000000000000A")
    return text


def ulid_day(text: str) -> date | None:
    """Return the UTC day of a ULID's own millisecond, or None if it does not decode.

    Raises `InvalidPath` for a day after the year 9999, which no folder can name.
    """
    milliseconds = ulid_time_ms(text)
    if milliseconds is None:
        return None
    try:
        return _EPOCH + timedelta(days=milliseconds // _MS_PER_DAY)
    except OverflowError:
        raise InvalidPath("event_id", text, "use an id whose time lies before the year 10000") from None


def content_hash12(data: bytes) -> str:
    """Return the first 12 hex digits of the SHA-256 of an object's bytes: `{h12}` of docs/formats.md#state-objects."""
    return hashlib.sha256(data).hexdigest()[:12]


def short_hash(text: str) -> str:
    """Check a `{h12}` (see `content_hash12`) and return it."""
    if not isinstance(text, str) or not _SHORT_HASH.fullmatch(text):
        raise InvalidPath("content hash", text, "give the first 12 lower-case hex digits of the content's SHA-256")
    return text


def full_hash(field: str, text: str) -> str:
    """Check a SHA-256 of 64 lower-case hex digits and return it."""
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        raise InvalidPath(field, text, "give a SHA-256 as 64 lower-case hex digits")
    return text


def encoded_key(field: str, key: str) -> str:
    """Return the URL-safe base64 without padding of a key's UTF-8 bytes (docs/formats.md#reserved-names); an empty key
    is refused.
    """
    if not isinstance(key, str) or key == "":
        raise InvalidPath(field, key, "give a key that is not empty")
    try:
        return base64.urlsafe_b64encode(key.encode()).rstrip(b"=").decode()
    except UnicodeEncodeError:
        raise InvalidPath(field, key, "use characters that UTF-8 can encode") from None


def decoded_key(text: str) -> str | None:
    """Return the key that `encoded_key` encoded, or None if `text` is not exactly such an encoding."""
    try:
        key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return None
    return key if key != "" and encoded_key("key", key) == text else None


def made_by(path: str, build: Callable[_P, ObjectPath], *args: _P.args, **kwargs: _P.kwargs) -> bool:
    """Say whether `build` makes exactly `path` of these components; every parser checks this."""
    try:
        return build(*args, **kwargs) == path
    except InvalidPath:
        return False
