"""Long lists of partitions in the store: pages under their hashes, and a head that lists the pages.

A backfill over more keys than an event may name has them here. A chunk reads the head and the page or two in which its
keys are, so that a million of them cost no more than a few.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final

import orjson

from springline import paths
from springline.caches import Recent
from springline.paths import ObjectPath, Scope
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once
from springline.storage.scoped import ScopedStore
from springline.storage.together import each

PAGE_KEYS: Final = 5_000
_HELD_BYTES: Final = 32 * 1024 * 1024
_RESTORE: Final = "restore it from a copy, or cancel the backfill and ask for another one"


async def write_keys(store: ObjectStore, keys: Sequence[str]) -> str:
    """Write a list of keys, and return the hash that names it. `store` is the workspace's. Safe to repeat.

    Raises the store's errors, and `DamagedObject` if another object has the name.
    """
    pages = [orjson.dumps(list(keys[at : at + PAGE_KEYS])) for at in range(0, len(keys), PAGE_KEYS)]
    names = await asyncio.to_thread(lambda: [hashlib.sha256(page).hexdigest() for page in pages])
    await each(lambda place: _put(store, names[place], pages[place]), range(len(pages)))
    head = orjson.dumps({"keys": len(keys), "page_keys": PAGE_KEYS, "pages": names})
    name = hashlib.sha256(head).hexdigest()
    await _put(store, name, head)
    return name


class KeyLists:
    """Reads lists of keys of many workspaces, and caches heads and pages: they never change."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._held: Recent[object] = Recent(entries=1_000, weight=_HELD_BYTES)

    async def keys(self, scope: Scope, name: str, places: range) -> list[str]:
        """Return the keys at places of the list with this name. Raises `DamagedObject`, and the store's errors."""
        store = ScopedStore(self._store, scope)
        path = paths.backfill_keys(name)
        head = await self._read(store, scope, path, name)
        if not isinstance(head, dict) or not isinstance(head.get("pages"), list) or not head.get("page_keys"):
            raise DamagedObject(path, "is no list of partitions", _RESTORE)
        size = int(head["page_keys"])
        pages: dict[int, list[str]] = {}
        for number in sorted({place // size for place in places}):
            if number >= len(head["pages"]):
                raise _short(path, head)
            of_page = str(head["pages"][number])
            page = await self._read(store, scope, paths.backfill_keys(of_page), of_page)
            if not isinstance(page, list):
                raise DamagedObject(paths.backfill_keys(of_page), "is no list of partitions", _RESTORE)
            pages[number] = page
        try:
            return [pages[place // size][place % size] for place in places]
        except IndexError:
            raise _short(path, head) from None

    async def _read(self, store: ObjectStore, scope: Scope, path: ObjectPath, name: str) -> object:
        held = self._held.get((scope, name))
        if held is not None:
            return held
        stored = await store.get(path)
        if stored is None:
            raise DamagedObject(path, "is missing, and a backfill names it", _RESTORE)
        if hashlib.sha256(stored.data).hexdigest() != name:
            raise DamagedObject(path, "does not have the hash that its name says", _RESTORE)
        read: object = orjson.loads(stored.data)
        self._held.put((scope, name), read, weight=2 * len(stored.data))
        return read


async def _put(store: ObjectStore, name: str, data: bytes) -> None:
    path = paths.backfill_keys(name)
    if isinstance(await put_once(store, path, data), Other):
        raise DamagedObject(path, "is another object than its name says", _RESTORE)


def _short(path: ObjectPath, head: dict[str, object]) -> DamagedObject:
    return DamagedObject(path, f"lists {head.get('keys')} partitions, fewer than its backfill has", _RESTORE)
