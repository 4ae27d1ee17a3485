"""Notes beside an object that is replaced by compare-and-swap: that it was written, and what others took the place of.

By itself, an object that was lost looks like one that never was, and an older one that has come back like the latest.
A note is written once, behind the swap: before it, it would say that something was lost which was never there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

import orjson

from springline.checked import with_checksum
from springline.paths import ObjectPath
from springline.storage.damage import DamagedObject
from springline.storage.port import IfAbsent, IfVersion, ObjectStore, Stored, StoreUnknown
from springline.storage.resolve import put_once


class AsRead(Protocol):
    """An object as it was read."""

    @property
    def version(self) -> str | None:
        """The token of the object's version, None if there is no object."""


R = TypeVar("R", bound=AsRead)


async def swap(store: ObjectStore, path: ObjectPath, data: bytes, version: str | None) -> bool:
    """Let an object be `data` if it still has this version, or is still missing; False if it was not, or may not be.

    Where there was no clear answer, the next look finds what came of it. Raises `StoreRetry` if the store is throttled:
    it was not written; and the store's other errors.
    """
    try:
        return isinstance(await store.put(path, data, IfAbsent() if version is None else IfVersion(version)), Stored)
    except StoreUnknown:
        return False


async def put_note(store: ObjectStore, path: ObjectPath, said: Mapping[str, Any]) -> None:
    """Write a note, unless it is there. `said`: its members. Raises the store's errors."""
    if await store.head(path) is None:
        await put_once(store, path, with_checksum(orjson.dumps({"format": 1, **said}), path))


async def read_latest_of(
    store: ObjectStore,
    read: Callable[[], Awaitable[R]],
    replaced_note: Callable[[R], ObjectPath | None],
    damage: Callable[[R], DamagedObject],
) -> R:
    """Read an object, and see that no other one was put in its place before.

    `read` reads it, `replaced_note` names the note that what was read was replaced, None if nothing would tell. Raises
    `damage` of an older one that has come back, what `read` raises, and the store's errors.
    """

    async def is_replaced(found: R) -> bool:
        path = replaced_note(found)
        return path is not None and await store.head(path) is not None

    found = await read()
    if not await is_replaced(found):
        return found
    # Somebody may have replaced it since.
    again = await read()
    if again.version == found.version or await is_replaced(again):
        raise damage(again)
    return again
