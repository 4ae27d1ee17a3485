"""Records of refused events: nothing that was offered is dropped silently (docs/protocol.md#ledger-rounds)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from springline.checked import with_checksum
from springline.ledger.request import RefusalReason
from springline.paths import ObjectPath, orchestration_refused
from springline.storage.parallel import each
from springline.storage.port import ObjectStore
from springline.storage.resolve import put_once

FORMAT = 1
PUTS_TOGETHER = 16
_SHOWN = 1_000


class RefusalRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an event was refused. `body_sha256` (hex) and `byte_size` are of the object, None if there was none.

    `accepted_sha256`: the body that counts under this id, where another one does.
    """

    format: int = FORMAT
    path: str
    reason: RefusalReason
    message: str
    body_sha256: str | None = None
    byte_size: int | None = None
    accepted_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedObject:
    """An event to be recorded as refused; `body` None if there was no object."""

    path: str
    reason: RefusalReason
    message: str
    body: bytes | None = None
    accepted_sha256: str | None = None


def record_path(refused: RefusedObject) -> ObjectPath:
    """Return where a refusal is recorded: the same path, reason and body have one record, however often they come."""
    content = "" if refused.body is None else hashlib.sha256(refused.body).hexdigest()
    parts = msgspec.json.encode([refused.path, refused.reason, content])
    return orchestration_refused(hashlib.sha256(parts).hexdigest())


async def record_refused(store: ObjectStore, refused: Sequence[RefusedObject]) -> list[ObjectPath]:
    """Record refusals, create-only, and return their records' paths in order. Raises what the store does."""

    async def write(one: RefusedObject) -> ObjectPath:
        path = record_path(one)
        record = RefusalRecord(
            path=one.path[:_SHOWN],
            reason=one.reason,
            message=one.message[:_SHOWN],
            body_sha256=None if one.body is None else hashlib.sha256(one.body).hexdigest(),
            byte_size=None if one.body is None else len(one.body),
            accepted_sha256=one.accepted_sha256,
        )
        # What stands there already says the same of the same event, if perhaps in other words.
        await put_once(store, path, with_checksum(msgspec.json.format(msgspec.json.encode(record), indent=2)))
        return path

    return await each(write, refused, concurrency=PUTS_TOGETHER)
