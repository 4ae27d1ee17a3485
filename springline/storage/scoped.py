"""One workspace's part of a store: paths in and out are relative to the scope (S 1.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from springline.paths import ObjectPath, Scope
from springline.storage.port import (
    MANY_AT_ONCE,
    ObjectInfo,
    ObjectStore,
    Precondition,
    PutResult,
    StoredObject,
)


class ScopedStore(ObjectStore):
    """The objects of one scope in `store`, under their relative names.

    Every operation raises `springline.paths.InvalidPath` for a path that is not a valid relative one, before
    anything is sent, so that nothing outside the scope can be named.
    """

    def __init__(self, store: ObjectStore, scope: Scope) -> None:
        self._store = store
        self.scope = scope

    async def get(self, path: ObjectPath) -> StoredObject | None:
        """Return the object, or None."""
        return await self._store.get(self.scope.full(path))

    async def read_many(self, paths: Sequence[ObjectPath], *, concurrency: int = MANY_AT_ONCE) -> list[bytes | None]:
        """Return the contents of many objects in order, in the way of the underlying store."""
        return await self._store.read_many(self.scope.full_of_all(paths), concurrency=concurrency)

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        """Write if the precondition holds."""
        return await self._store.put(self.scope.full(path), data, precondition)

    async def head(self, path: ObjectPath) -> ObjectInfo | None:
        """Return size and token under the relative name, or None."""
        info = await self._store.head(self.scope.full(path))
        return None if info is None else ObjectInfo(path, info.size, info.version)

    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        """Delete the object if its token is `if_version`."""
        return await self._store.delete(self.scope.full(path), if_version=if_version)

    async def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield the scope's objects below `prefix`, in name order, under their relative names.

        A name that somebody else wrote and that `relative_path` would refuse is yielded too: an inventory has
        to see it.
        """
        after = None if start_after is None else self.scope.full(start_after)
        cut = len(self.scope.prefix) + 1
        async for info in self._store.list(self.scope.full(prefix), start_after=after):
            yield ObjectInfo(ObjectPath(info.path[cut:]), info.size, info.version)

    async def aclose(self) -> None:
        """Leave the underlying store open: other scopes share it, and whoever opened it closes it."""
