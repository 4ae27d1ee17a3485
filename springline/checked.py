"""JSON objects with a checksum of themselves, for objects whose hash no other object has (docs/formats.md#checksum).

The last member is `"checksum": "sha256:..."`: the SHA-256 of the object's own bytes, with zeros in the place of its 64
digits. So it covers every byte in any layout, and readers that do not know the member ignore it. If the content does
not say which object it is, the object's name is hashed first, so that another object in its place is detected. Objects
of older versions without a checksum are accepted only if they have no unknown member: that could be a checksum whose
name was damaged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Final

import msgspec

from springline.errors import InvariantViolated

MEMBER: Final = "checksum"
_DIGITS: Final = 64
_ZEROS: Final = b"0" * _DIGITS
_AT_END: Final = re.compile(rb'"checksum":\s*"sha256:([0-9a-f]{64})"\s*\}\s*\Z')
_END_BYTES: Final = 256
"""The checksum is within this many last bytes."""
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class WrongChecksum(InvariantViolated):
    """The bytes are not those that were written. `why` gives the evidence."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return self.why


def with_checksum(data: bytes, name: str = "") -> bytes:
    """Return the bytes of a JSON object with its checksum added as the last member; deterministic.

    `name`: its path, if the content does not say which object it is. `data` is compact or indented, has at least one
    member, and no member `checksum`. Raises `ValueError` for other bytes.
    """
    body = data.rstrip()
    if not body.endswith(b"}") or not body.startswith(b"{"):
        raise ValueError("only a JSON object can carry a checksum")
    inner = body[:-1].rstrip()
    if inner == b"{":
        raise ValueError("an object without members carries no checksum")
    line_end = body[len(inner) : -1]
    member = b'%b  "checksum": "sha256:' % line_end if line_end else b'"checksum":"sha256:'
    head, tail = b"%b,%b" % (inner, member), b'"%b}' % line_end
    return b"%b%b%b" % (head, _digest(name, head, tail), tail)


def _digest(name: str, head: bytes | memoryview, tail: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(name.encode())
    for part in (head, _ZEROS, tail):
        digest.update(part)
    return digest.hexdigest().encode()


def has_checksum(data: bytes) -> bool:
    """Say whether an object has a checksum, right or wrong."""
    return _AT_END.search(data, max(0, len(data) - _END_BYTES)) is not None


def verify(data: bytes, members: Collection[str] | None = None, name: str = "") -> bool:
    """Check an object that was read; False if it has no checksum, like those of older versions.

    `name`: as in `with_checksum`. `members`: all that an older object can have; None if other programs write such
    objects, too. Raises `WrongChecksum`.
    """
    found = _AT_END.search(data, max(0, len(data) - _END_BYTES))
    if found is not None:
        start, end = found.span(1)
        if _digest(name, memoryview(data)[:start], memoryview(data)[end:]) != found[1]:
            raise WrongChecksum("its bytes are not those that its checksum was made of")
        return True
    try:
        there = _MEMBERS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WrongChecksum(f"it is no JSON object: {error}") from error
    if MEMBER in there:
        raise WrongChecksum("its checksum cannot be read, or is not its last member")
    unknown = sorted(set(there) - set(members)) if members is not None else []
    if unknown:
        raise WrongChecksum(f"it has no checksum, and the unknown member {unknown[0][:40]!r}")
    return False
