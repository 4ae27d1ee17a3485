"""Idempotency keys: canonical lower-case UUIDv7 (S 1.8, RFC 9562), and who may name them where."""

from __future__ import annotations

import re
import uuid

from springline.errors import Code, Refused, refused

_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHOWN = 100
_REMEDY = (
    "Use a UUIDv7 in canonical lower-case form, such as 01946b1c-0000-7000-8000-000000000001; make it once per "
    "commit and send the same one with every attempt of that commit."
)

HEADER_FIELD = "Idempotency-Key"
BODY_FIELD = "idempotency_key"


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
    """Return the key of a request that may carry it in a header, in its body, or equally in both (design 10).

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


def _bad(field: str, key: object, problem: str) -> Refused:
    shown = key[:_SHOWN] if isinstance(key, str) else repr(key)[:_SHOWN]
    return refused(Code.INVALID_KEY, f"{field} {shown!r} {problem}", field=field, value=shown, remedy=_REMEDY)
