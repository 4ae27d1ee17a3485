"""One workspace's part of a store: paths in and out are relative to the scope (docs/formats.md#scope)."""

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

    Every operation raises `springline.paths.InvalidPath` for a path that is neither a valid relative one nor one of
    this scope's own tables area, before anything is sent, so that nothing outside the scope can be named.
    """

    def __init__(self, store: ObjectStore, scope: Scope) -> None:
        self._store = store
        self.scope = scope

    async def get(self, path: ObjectPath) -> StoredObject | None:
        """Return the object, or None."""
        return await self._store.get(self.scope.full(path))

    async def read_many(self, paths: Sequence[ObjectPath], *, concurrency: int = MANY_AT_ONCE) -> list[bytes | None]:
        """Return the contents of many objects in order, by the underlying store's `read_many`."""
        return await self._store.read_many(self.scope.full_of_all(paths), concurrency=concurrency)

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        """Write if the precondition holds."""
        return await self._store.put(self.scope.full(path), data, precondition)

    async def create_many(self, objects: Sequence[tuple[ObjectPath, bytes]]) -> list[bool]:
        """Write many objects by the underlying store's `create_many`."""
        paths = self.scope.full_of_all([path for path, _ in objects])
        return await self._store.create_many([(path, data) for path, (_, data) in zip(paths, objects, strict=True)])

    async def head(self, path: ObjectPath) -> ObjectInfo | None:
        """Return size and token under the relative name, or None."""
        info = await self._store.head(self.scope.full(path))
        return None if info is None else ObjectInfo(path, info.size, info.version)

    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        """Delete the object if its token is `if_version`."""
        return await self._store.delete(self.scope.full(path), if_version=if_version)

    async def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield the scope's objects below `prefix`, in name order, under their names in the scope.

        The tables area is listed by a prefix of it only: the empty prefix lists everything else.
        A name that another program wrote and that `relative_path` would refuse is yielded, too, because an inventory
        has to see it.
        """
        after = None if start_after is None else self.scope.full(start_after)
        listed = self.scope.full(prefix)
        begin, cut = ("/", 0) if prefix.startswith("/") else ("", len(self.scope.prefix) + 1)
        async for info in self._store.list(listed, start_after=after):
            yield ObjectInfo(ObjectPath(begin + info.path[cut:]), info.size, info.version)

    @property
    def url(self) -> str | None:
        """The URL of the whole store, in which the scope's names are those of `Scope.full`."""
        return self._store.url

    async def linked_elsewhere(self, folder: ObjectPath) -> str | None:
        """Ask the underlying store."""
        return await self._store.linked_elsewhere(self.scope.full(folder))

    async def aclose(self) -> None:
        """Leave the underlying store open: other scopes share it, and the code that opened it closes it."""
