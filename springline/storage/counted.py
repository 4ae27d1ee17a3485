"""A store that reports every request to an observer: for the metrics of a process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from springline.paths import ObjectPath
from springline.storage.port import (
    MANY_AT_ONCE,
    ObjectInfo,
    ObjectStore,
    Precondition,
    PutResult,
    Stored,
    StoredObject,
    StoreError,
)

Observer = Callable[[str, str, int], None]
"""Called with operation, outcome and number of requests; must be quick and must not raise."""


class CountedStore(ObjectStore):
    """Passes every call on to `inner` and calls `observe` (operation, outcome, requests)."""

    def __init__(self, inner: ObjectStore, observe: Observer) -> None:
        self._inner = inner
        self._observe = observe

    async def get(self, path: ObjectPath) -> StoredObject | None:
        """Read through."""
        try:
            found = await self._inner.get(path)
        except StoreError as error:
            self._observe("get", type(error).__name__, 1)
            raise
        self._observe("get", "missing" if found is None else "found", 1)
        return found

    async def read_many(self, paths: Sequence[ObjectPath], *, concurrency: int = MANY_AT_ONCE) -> list[bytes | None]:
        """Read through in one call, and report how many objects were found, and how many were not."""
        try:
            found = await self._inner.read_many(paths, concurrency=concurrency)
        except StoreError as error:
            self._observe("get", type(error).__name__, 1)
            raise
        missing = found.count(None)
        if missing:
            self._observe("get", "missing", missing)
        if missing < len(found):
            self._observe("get", "found", len(found) - missing)
        return found

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        """Write through."""
        try:
            result = await self._inner.put(path, data, precondition)
        except StoreError as error:
            self._observe("put", type(error).__name__, 1)
            raise
        self._observe("put", "stored" if isinstance(result, Stored) else "precondition_failed", 1)
        return result

    async def create_many(self, objects: Sequence[tuple[ObjectPath, bytes]]) -> list[bool]:
        """Write through in one call, and report how many objects it created: the others are put one by one."""
        created = await self._inner.create_many(objects)
        if any(created):
            self._observe("put", "stored", created.count(True))
        return created

    async def head(self, path: ObjectPath) -> ObjectInfo | None:
        """Look through."""
        try:
            found = await self._inner.head(path)
        except StoreError as error:
            self._observe("head", type(error).__name__, 1)
            raise
        self._observe("head", "missing" if found is None else "found", 1)
        return found

    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        """Delete through."""
        try:
            deleted = await self._inner.delete(path, if_version=if_version)
        except StoreError as error:
            self._observe("delete", type(error).__name__, 1)
            raise
        self._observe("delete", "deleted" if deleted else "precondition_failed", 1)
        return deleted

    async def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
        """List through; counted once, when it begins."""
        self._observe("list", "begun", 1)
        async for info in self._inner.list(prefix, start_after=start_after):
            yield info

    @property
    def url(self) -> str | None:
        """The store's URL."""
        return self._inner.url

    async def linked_elsewhere(self, folder: ObjectPath) -> str | None:
        """Ask the store; this is not counted, because it sends no request."""
        return await self._inner.linked_elsewhere(folder)

    async def aclose(self) -> None:
        """Close the store."""
        await self._inner.aclose()
