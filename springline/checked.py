"""JSON objects that carry a checksum of themselves, for those that no hash names elsewhere (docs/formats.md#checksum).

The last member is `"checksum": "sha256:..."`: the SHA-256 of the object's own bytes, with zeros in the place of its 64
digits. So every byte is covered, whoever wrote it and however it is laid out, and readers that do not know the member
pass over it. Where the content does not say which object it is, the name is hashed first, so that another object that
was put in its place is seen. Objects of versions that wrote no checksum are read as they are, if they have no member
that is unknown: a checksum whose name was damaged is no excuse.
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
"""The checksum stands within so many last bytes."""
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class WrongChecksum(InvariantViolated):
    """The bytes are not those that were written. `why` says what shows it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return self.why


def with_checksum(data: bytes, name: str = "") -> bytes:
    """Return the bytes of a JSON object with its checksum added as the last member; the same for the same.

    `name`: its path, if it cannot tell by itself what it is. `data` is compact or indented, has at least one member,
    and none of that name. Raises `ValueError` for other bytes.
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
    """Say whether an object carries a checksum, right or wrong."""
    return _AT_END.search(data, max(0, len(data) - _END_BYTES)) is not None


def verify(data: bytes, members: Collection[str] | None = None, name: str = "") -> bool:
    """Check an object that was read; False if it carries no checksum, as those of older versions do.

    `name`: as it was written with. `members`: all that such an older object can have; None if others than we write
    it, too. Raises `WrongChecksum`.
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
