"""A store in the memory of one process, for tests and for benchmarks behind injected latency."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType

from springline.paths import ObjectPath, lies_under
from springline.storage.port import (
    IfAbsent,
    ObjectInfo,
    ObjectStore,
    Precondition,
    PreconditionFailed,
    PutResult,
    Stored,
    StoredObject,
)
from springline.storage.tokens import content_token


class MemoryStore(ObjectStore):
    """An object store in a dictionary.

    Every operation is one uninterrupted step of the event loop: it never yields and never fails. Tokens count
    the writes of the whole store and are never used twice, like generations of GCS. With `content_tokens` they
    are those of a `LocalStore` instead, for stores whose objects name each other's tokens. One with a `name` has a
    URL, `memory://name`.
    """

    def __init__(self, *, content_tokens: bool = False, name: str | None = None) -> None:
        self.name = name
        self._objects: dict[ObjectPath, StoredObject] = {}
        self._content_tokens = content_tokens
        self._writes = 0

    @property
    def objects(self) -> Mapping[ObjectPath, StoredObject]:
        """Return a live read-only view of everything stored."""
        return MappingProxyType(self._objects)

    def copy(self) -> MemoryStore:
        """Return an independent store with the same objects and tokens."""
        twin = MemoryStore(content_tokens=self._content_tokens, name=self.name)
        twin._objects = dict(self._objects)
        twin._writes = self._writes
        return twin

    def seed(self, path: ObjectPath, data: bytes) -> str:
        """Set an object's bytes without a precondition, as a test's starting point; return its token."""
        return self._write(path, data)

    def remove(self, path: ObjectPath) -> None:
        """Remove an object without a precondition, as another program might; raises `KeyError` if there is none."""
        del self._objects[path]

    async def get(self, path: ObjectPath) -> StoredObject | None:
        """Return the object, or None."""
        return self._objects.get(path)

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        """Write if the precondition holds."""
        existing = self._objects.get(path)
        if isinstance(precondition, IfAbsent):
            holds = existing is None
        else:
            holds = existing is not None and existing.version == precondition.token
        return Stored(self._write(path, data)) if holds else PreconditionFailed()

    async def head(self, path: ObjectPath) -> ObjectInfo | None:
        """Return size and token, or None."""
        stored = self._objects.get(path)
        return None if stored is None else ObjectInfo(path, len(stored.data), stored.version)

    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        """Delete the object if its token is `if_version`."""
        stored = self._objects.get(path)
        if stored is None or stored.version != if_version:
            return False
        del self._objects[path]
        return True

    async def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below `prefix` in name order, as they were when the listing began."""
        names = sorted(path for path in self._objects if lies_under(path, prefix))
        for path in names:
            stored = self._objects.get(path)
            if stored is not None and (start_after is None or path > start_after):
                yield ObjectInfo(path, len(stored.data), stored.version)

    @property
    def url(self) -> str | None:
        """The URL of the store, if it has a name."""
        return None if self.name is None else f"memory://{self.name}"

    def _write(self, path: ObjectPath, data: bytes) -> str:
        self._writes += 1
        # A caller's bytearray must not change what is stored later.
        owned = bytes(data)
        version = content_token(owned) if self._content_tokens else str(self._writes)
        self._objects[path] = StoredObject(owned, version)
        return version
