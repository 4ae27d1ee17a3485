"""Idempotency keys: canonical lower-case UUIDv7 (docs/formats.md#idempotency-keys, RFC 9562), in header or body, or
derived from a text.
"""

from __future__ import annotations

import hashlib
import re
import uuid

from springline.bounds import KEY_PATTERN
from springline.errors import Code, Refused, refused

_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CANONICAL_7 = re.compile(KEY_PATTERN)
_SHOWN = 100
_REMEDY = (
    "Use a UUIDv7 in canonical lower-case form, such as 01946b1c-0000-7000-8000-000000000001; make it once per "
    "commit and send the same one with every attempt of that commit."
)
_TEXT_REMEDY = (
    "The Python client and the CLI also take any other text as a key, such as airflow/load/2026-01-01, and send the "
    "UUIDv7 that it stands for; `springline explain commit TABLE TEXT` tells which one that is."
)

HEADER_FIELD = "Idempotency-Key"
BODY_FIELD = "idempotency_key"

LONGEST_TEXT = 500
"""The most characters that a key may have which is not a UUIDv7."""

_NO_TIME = 1 << 127
"""The highest bit of the time field. A clock sets it in the year 6429."""
_CHOSEN = ~((0xF << 76) | (0x3 << 62))
_VERSION_AND_VARIANT = (7 << 76) | (2 << 62)


def idempotency_key(text: str, *, field: str = "key") -> str:
    """Return the UUIDv7 that a caller's `text` stands for as an idempotency key.

    A canonical lower-case UUIDv7 stands for itself. Any other text, of 1 to 500 characters, stands for the first 128
    bits of the SHA-256 of its UTF-8 bytes with seven of them replaced: the four of the version by 7, the two of the
    variant by binary 10 (RFC 9562, 5.7), and the first bit, which is the highest of the 48-bit time field, by 1. No
    clock sets that bit before the year 6429, so `key_has_time` tells the two kinds apart. Nothing about the text is
    changed first: case, spaces and Unicode forms count. What a text stands for never changes.

    Raises `Refused` (INVALID_KEY), naming `field`, for anything but a string of 1 to 500 characters that holds no
    NUL and no lone surrogate.
    """
    if not isinstance(text, str):
        raise _bad_text(field, text, "is not a string")
    if _is_canonical(text):
        return text
    if text == "":
        raise _bad_text(field, text, "is empty")
    if len(text) > LONGEST_TEXT:
        raise _bad_text(field, text, f"has {len(text)} characters and may have {LONGEST_TEXT}")
    if "\0" in text:
        raise _bad_text(field, text, "holds a NUL")
    try:
        digest = hashlib.sha256(text.encode()).digest()
    except UnicodeEncodeError:
        raise _bad_text(field, text, "holds a lone surrogate, which UTF-8 cannot encode") from None
    number = int.from_bytes(digest[:16], "big") & _CHOSEN | _VERSION_AND_VARIANT | _NO_TIME
    return str(uuid.UUID(int=number))


def key_has_time(key: str) -> bool:
    """Say whether the first 48 bits of a key are the milliseconds since 1970 at which it was made.

    They are not in a key that stands for a text, nor in a text that is not a canonical UUIDv7.
    """
    return _is_canonical(key) and not uuid.UUID(key).int & _NO_TIME


def check_key(key: object, *, field: str = BODY_FIELD) -> str:
    """Return `key` if it is a canonical UUIDv7; raises `Refused` (INVALID_KEY) naming `field` otherwise."""
    if not isinstance(key, str):
        raise _bad(field, key, "is not a string")
    try:
        parsed = uuid.UUID(key)
    except ValueError:
        raise _bad(field, key, "is not a UUID") from None
    if parsed.variant != uuid.RFC_4122:
        raise _bad(field, key, "is not a UUIDv7: its variant is not the one of RFC 9562")
    if parsed.version != 7:
        raise _bad(field, key, f"is not a UUIDv7: its version is {parsed.version}")
    if not _CANONICAL.fullmatch(key):
        raise _bad(field, key, "is a UUIDv7, but not in canonical lower-case form with hyphens")
    return key


def key_of(header: str | None, body: str | None) -> str:
    """Return the key of a request from its header, its body, or both if equal.

    See docs/formats.md#commit-request.

    Raises `Refused`: INVALID_KEY if there is none or it is not a canonical UUIDv7, KEYS_DIFFER if the two are
    not the same.
    """
    if header is None and body is None:
        raise refused(
            Code.INVALID_KEY,
            "the request carries no idempotency key",
            field=HEADER_FIELD,
            remedy=f"Send it in the header {HEADER_FIELD} or in the body's {BODY_FIELD}. {_REMEDY}",
        )
    if header is not None and body is not None and header != body:
        raise refused(
            Code.KEYS_DIFFER,
            f"the header {HEADER_FIELD} and the body's {BODY_FIELD} hold different keys",
            field=HEADER_FIELD,
            value={HEADER_FIELD: header[:_SHOWN], BODY_FIELD: body[:_SHOWN]},
            remedy="Send the key in one of them, or the same key in both.",
        )
    if header is not None:
        return check_key(header, field=HEADER_FIELD)
    return check_key(body)


def _is_canonical(text: str) -> bool:
    return _CANONICAL_7.fullmatch(text) is not None


def _bad_text(field: str, text: object, problem: str) -> Refused:
    return refused(
        Code.INVALID_KEY,
        f"{field} {ascii(text)[:_SHOWN]} {problem}",
        field=field,
        value=text[:_SHOWN].encode("ascii", "backslashreplace").decode() if isinstance(text, str) else ascii(text),
        remedy=f"Use a UUIDv7, or a text of 1 to {LONGEST_TEXT} characters without NUL and lone surrogates, "
        "and the same one with every attempt.",
    )


def _bad(field: str, key: object, problem: str) -> Refused:
    shown = key[:_SHOWN] if isinstance(key, str) else repr(key)[:_SHOWN]
    remedy = f"{_REMEDY} {_TEXT_REMEDY}" if field in (HEADER_FIELD, BODY_FIELD) else _REMEDY
    return refused(Code.INVALID_KEY, f"{field} {shown!r} {problem}", field=field, value=shown, remedy=remedy)
