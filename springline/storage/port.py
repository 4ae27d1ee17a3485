"""The object-store port: the contract of every adapter.

Every write has a precondition: there is no unconditional put (docs/protocol.md#invariants). A failed precondition
is a result, because it is an answer of the protocol; a fault of the transport is an exception. The
two exceptions differ in what the caller knows: after `StoreRetry` the operation certainly did not happen, after
`StoreUnknown` it may have happened, or may still happen, and only reading back can tell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from springline.paths import ObjectPath
from springline.storage.together import together

MANY_AT_ONCE = 64
"""How many objects `read_many` reads at the same time unless told otherwise."""


@dataclass(frozen=True, slots=True)
class IfAbsent:
    """Write only if no object has this name (GCS: `ifGenerationMatch=0`)."""


@dataclass(frozen=True, slots=True)
class IfVersion:
    """Write only if the object's version token is `token` (GCS: `ifGenerationMatch=token`)."""

    token: str


Precondition = IfAbsent | IfVersion


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's bytes and the version token they were read at. Tokens are opaque: compare for equality only."""

    data: bytes
    version: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Metadata of an object. `size` in bytes."""

    path: ObjectPath
    size: int
    version: str


@dataclass(frozen=True, slots=True)
class Stored:
    """The write happened; `version` is the new token."""

    version: str


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """The write did not happen now: the name is taken, or has another version.

    It can mean that an earlier attempt of the same write, whose answer was lost, succeeded: read back before
    calling it a conflict.
    """


PutResult = Stored | PreconditionFailed


class StoreError(Exception):
    """A storage operation did not give an answer."""


class StoreRetry(StoreError):
    """The operation did not happen (throttled, refused, not connected); trying again is safe."""


class StoreUnknown(StoreError):
    """The operation may have happened or may still happen (time-out, lost answer); read back before deciding."""


class StoreMisconfigured(StoreError):
    """With this configuration the operation never succeeds (permissions, missing bucket, unsupported file system)."""


class ObjectStore(ABC):
    """An object store with conditional writes and strong read-after-write consistency.

    All methods raise `StoreRetry`, `StoreUnknown` or `StoreMisconfigured`; reads raise `StoreRetry` for any
    passing fault, because a read that failed can always be repeated.
    """

    @abstractmethod
    async def get(self, path: ObjectPath) -> StoredObject | None:
        """Return the whole object, or None if there is none."""

    async def read_many(self, paths: Sequence[ObjectPath], *, concurrency: int = MANY_AT_ONCE) -> list[bytes | None]:
        """Return the contents of many objects in the order of `paths`, None for each that does not exist.

        At most `concurrency` are read at the same time. After the first fault no further read begins, and it is
        raised when those under way have ended.
        """
        found: list[bytes | None] = [None] * len(paths)
        waiting = deque(range(len(paths)))

        async def read() -> None:
            while waiting:
                number = waiting.popleft()
                try:
                    stored = await self.get(paths[number])
                    found[number] = None if stored is None else stored.data
                except BaseException:
                    waiting.clear()
                    raise

        await together(*(read() for _ in range(min(concurrency, len(paths)))))
        return found

    @abstractmethod
    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        """Write `data` under `path` if `precondition` holds; atomic and durable when it returns `Stored`."""

    async def create_many(self, objects: Sequence[tuple[ObjectPath, bytes]]) -> list[bool]:
        """Write many objects, each unless its name is taken, where that costs less than a put of each.

        Returns in their order which of them this call created, durable. The others are left to `put`, which tells why:
        their names are taken, a fault came between, or the store gains nothing and has not tried. Raises nothing of
        its own.
        """
        return [False] * len(objects)

    @abstractmethod
    async def head(self, path: ObjectPath) -> ObjectInfo | None:
        """Return size and version of the object, or None if there is none."""

    @abstractmethod
    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        """Delete the object if its version is `if_version`; True if this call deleted it."""

    @abstractmethod
    def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below `prefix` in name order. Only inventory and anti-entropy may call it."""

    @property
    def url(self) -> str | None:
        """The URL by which readers reach the objects, without a slash at its end; None if only this process can."""
        return None

    async def linked_elsewhere(self, folder: ObjectPath) -> str | None:
        """Return the real path of a folder whose path has a symbolic link; None for all others."""
        return None

    async def prepare(self) -> None:  # noqa: B027 - optional to override
        """Create what the store needs and a process may create, such as an emulator's bucket, unless it exists.

        A starting process calls it on the whole store, before its first request.
        """

    async def aclose(self) -> None:  # noqa: B027 - optional to override
        """Release connections and threads."""
