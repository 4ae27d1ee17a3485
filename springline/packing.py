"""Long lists inside messages travel compressed: a plan or the tasks of a run may be larger than a message of Temporal.

A part of a message that is packed is text instead of an object or a list; whoever reads the message gets it as it was.
Short ones are never packed, so that they can be read where Temporal shows them.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any, Final

from pydantic import BeforeValidator, SerializerFunctionWrapHandler, WrapSerializer

PACKED_FROM: Final = 128 * 1024
"""Bytes of JSON from which on a part of a message is packed."""
MAX_UNPACKED: Final = 16 * 1024 * 1024
_LONG: Final = 200
"""Items of a list from which on it is worth looking how long it is as JSON."""


def pack(text: bytes) -> str:
    """Return text that `unpack` makes these bytes of."""
    return base64.b64encode(zlib.compress(text)).decode("ascii")


def unpack(packed: str) -> bytes:
    """Return what was packed; raises `ValueError` for what `pack` did not make, or more than `MAX_UNPACKED` bytes."""
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(base64.b64decode(packed, validate=True), MAX_UNPACKED)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise ValueError(f"is no packed text: {error}") from None
    if not decompressor.eof:
        raise ValueError(f"is packed text of more than {MAX_UNPACKED} bytes, or cut off")
    return text


def packed_length(value: Any) -> int | None:
    """Return how many bytes a part of a message has once it is packed, None if it is not packed."""
    text = _text_of(value)
    return None if text is None else len(pack(text))


def _text_of(value: Any) -> bytes | None:
    """Return a part of a message as JSON if it is to be packed."""
    lists = value.values() if isinstance(value, dict) else (value,)
    if not any(isinstance(one, list) and len(one) >= _LONG for one in lists):
        return None
    text = json.dumps(value, separators=(",", ":")).encode("ascii")
    return text if len(text) >= PACKED_FROM else None


def _packed(value: Any, handler: SerializerFunctionWrapHandler) -> Any:
    plain = handler(value)
    text = _text_of(plain)
    return plain if text is None else pack(text)


def _unpacked(value: Any) -> Any:
    return json.loads(unpack(value)) if isinstance(value, str) else value


PACKED: Final = (BeforeValidator(_unpacked), WrapSerializer(_packed, when_used="json"))
"""Of a field of a message, a dict or a list: it is packed if it is long. For messages between our processes only."""
