"""Files of the projections as manifests name them: read with their hash and size checked, written once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol, TypeVar

from springline import paths
from springline.errors import InvariantViolated
from springline.ledger.segment import DamagedSegment
from springline.paths import ObjectPath
from springline.projection.table_paths import Artifact
from springline.sequencer.damage import REBUILD, DamagedObject
from springline.sequencer.offload import in_thread
from springline.storage.port import IfVersion, ObjectStore, Stored
from springline.storage.resolve import Other, put_once

T = TypeVar("T")

ATTEMPTS = 3
"""Times that damage is replaced: others may replace it at the same time."""
LOOK_FOR_A_WRITER = "find out who writes there: only this system may"
SHORT_HASH = 12
"""Hex digits of the SHA-256 that file names have."""
HASHED_IN_PLACE = 1 << 20
"""Bytes that are hashed on the event loop; more take longer than a thread costs."""


class FileRef(Protocol):
    """A file that another object names. Hash (hex) and size in bytes are None where the namer did not know them."""

    @property
    def path(self) -> str:
        """Where it is."""

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of its bytes."""

    @property
    def byte_size(self) -> int | None:
        """Its size."""


async def read_file(store: ObjectStore, file: FileRef, decode: Callable[[bytes], T], *, remedy: str = REBUILD) -> T:
    """Read a file, check it, and return what `decode` makes of its bytes, which happens in a thread.

    Raises `DamagedObject` naming the file if it is missing, has another size or hash than its namer recorded, or
    cannot be decoded; and what the store does.
    """
    try:
        path = paths.relative_path(file.path)
    except paths.InvalidPath as error:
        raise DamagedObject(file.path, f"cannot be the path of a file: {error}", remedy) from error
    stored = await store.get(path)
    if stored is None:
        raise DamagedObject(path, "is missing", remedy)
    data = stored.data

    def work() -> T:
        if file.byte_size is not None and len(data) != file.byte_size:
            raise DamagedObject(path, f"has {len(data)} bytes, not the recorded {file.byte_size}", remedy)
        if file.sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != file.sha256:
            raise DamagedObject(path, f"has the SHA-256 {found}, not the recorded {file.sha256}", remedy)
        try:
            return decode(data)
        except (InvariantViolated, DamagedSegment) as error:
            raise DamagedObject(path, f"cannot be read: {error}", remedy) from error

    return await in_thread(work)


async def write_file(store: ObjectStore, data: bytes, name: Callable[[str], ObjectPath]) -> Artifact:
    """Write `data` under the name that `name` makes of its `content_hash12`, unless it is there; return what it is.

    Other bytes that stand there are damage, for their name says that they were once these: they are replaced. Safe to
    repeat. Raises `DamagedObject` if other bytes come back again and again, and what the store does.
    """
    digest = await _sha256(data)
    path = name(digest[:SHORT_HASH])
    for _ in range(ATTEMPTS):
        found = await put_once(store, path, data)
        if not isinstance(found, Other):
            return Artifact(path, f"sha256:{digest}", len(data))
        if isinstance(await store.put(path, data, IfVersion(found.version)), Stored):
            return Artifact(path, f"sha256:{digest}", len(data))
    raise DamagedObject(path, "holds other bytes than its name says, however often it is replaced", LOOK_FOR_A_WRITER)


async def _sha256(data: bytes) -> str:
    if len(data) < HASHED_IN_PLACE:
        return hashlib.sha256(data).hexdigest()
    return await in_thread(lambda: hashlib.sha256(data).hexdigest())
