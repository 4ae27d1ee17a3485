"""The seal of a task's writes: a create-only object that decides whose writes count (docs/protocol.md#write-sets).

Whoever makes an attempt reads it first. If there is one, the function is not called: what it names is committed, each
write under its key, and the task has succeeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from springline.checked import WrongChecksum, verify, with_checksum
from springline.control.runs.messages import AttemptOrder, FoundByCheck
from springline.paths import write_seal
from springline.storage.damage import DamagedObject
from springline.storage.patience import patient
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once

FORMAT: Final = 1
_REMEDY: Final = "restore it from a copy; no attempt of the task writes anything before that"


class SealedWrite(BaseModel):
    """A write in a seal: its table, operation and idempotency key, and path and SHA-256 of what was staged."""

    model_config = ConfigDict(frozen=True)

    number: int
    table: str
    operation: str
    key: str
    staged: str
    sha256: str
    rows: int | None = None


class Seal(BaseModel):
    """What an attempt has sealed: its writes in order, and what it told.

    `output`: it has left an output for other tasks, under its `attempt_id`.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    scope: str
    task: str
    run_id: str
    attempt: int
    attempt_id: str
    worker_id: str
    sealed_at_ms: int
    output: bool = False
    metadata: dict[str, Any] = {}
    checks: list[FoundByCheck] = []
    writes: list[SealedWrite] = Field(min_length=1)


def seal_of(
    order: AttemptOrder,
    writes: list[dict[str, Any]],
    *,
    worker_id: str,
    sealed_at_ms: int,
    output: bool,
    metadata: dict[str, Any],
    checks: Sequence[Mapping[str, Any]] = (),
) -> Seal:
    """Return the seal of the writes that an attempt has staged, as its process has told them."""
    return Seal(
        scope=order.scope,
        task=order.task_key,
        run_id=order.run_id,
        attempt=order.attempt,
        attempt_id=order.attempt_id,
        worker_id=worker_id,
        sealed_at_ms=sealed_at_ms,
        output=output,
        metadata=metadata,
        checks=[FoundByCheck(**one) for one in checks],
        writes=[SealedWrite(**one) for one in writes],
    )


def sealed_object(found: Seal) -> bytes:
    """Return the bytes of the object that a seal is."""
    path = write_seal(found.scope, found.task)
    # Without checks it is, byte for byte, what builds have written that knew of none.
    plain = found.model_dump(exclude=None if found.checks else {"checks"})
    return with_checksum(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS), path)


async def read_seal(
    store: ObjectStore, scope: str, task_key: str, pause: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> Seal | None:
    """Read the seal of a task's writes, None if none is there. Raises `DamagedObject`, and the store's errors.

    `store` is the workspace's part; `pause` waits so many seconds before a passing fault is tried again.
    """
    path = write_seal(scope, task_key)
    stored = await patient(lambda: store.get(path), pause)
    return None if stored is None else _decoded(stored.data, scope, task_key)


async def seal(store: ObjectStore, wanted: Seal, pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> Seal:
    """Seal the writes of an attempt, unless another one has sealed its own; return what counts.

    Raises as `read_seal`. After an error it may be sealed all the same: only reading it tells.
    """
    path = write_seal(wanted.scope, wanted.task)
    data = sealed_object(wanted)
    found = await patient(lambda: put_once(store, path, data), pause)
    return _decoded(found.data, wanted.scope, wanted.task) if isinstance(found, Other) else wanted


def _decoded(data: bytes, scope: str, task_key: str) -> Seal:
    path = write_seal(scope, task_key)
    try:
        # No seal was ever written without a checksum: one that lacks it is refused for all its members.
        verify(data, (), path)
        plain = orjson.loads(data)
        if isinstance(plain.get("format"), int) and plain["format"] > FORMAT:
            newer = f"has the format {plain['format']}, and this build reads {FORMAT}"
            raise DamagedObject(path, newer, "start workers of a build at least as new as the one that sealed it")
        found = Seal.model_validate(plain)
    except (WrongChecksum, orjson.JSONDecodeError, ValidationError) as error:
        raise DamagedObject(path, f"cannot be read: {error}", _REMEDY) from error
    if (found.scope, found.task) != (scope, task_key):
        raise DamagedObject(path, f"is the seal of {found.task} of {found.scope}", _REMEDY)
    return found
