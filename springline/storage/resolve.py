"""Create-only writes with a clear answer even if the store's answer got lost: created, same bytes, or other bytes.

See docs/protocol.md#stores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from springline.paths import ObjectPath
from springline.storage.port import (
    IfAbsent,
    IfVersion,
    ObjectStore,
    Stored,
    StoredObject,
    StoreRetry,
    StoreUnknown,
)

ATTEMPTS = 3
"""Puts in one `put_once`: enough for one lost request and one object deleted in between."""


@dataclass(frozen=True, slots=True)
class Created:
    """This call wrote the object; `version` is its token."""

    version: str


@dataclass(frozen=True, slots=True)
class Same:
    """The object existed with exactly these bytes: an earlier attempt, or another writer, put them."""

    version: str


@dataclass(frozen=True, slots=True)
class Other:
    """The name has other bytes, `data`; `version` is their token."""

    data: bytes
    version: str


OnceResult = Created | Same | Other


async def put_once(store: ObjectStore, path: ObjectPath, data: bytes) -> OnceResult:
    """Write `data` under `path` if there is no object, else return what the object is.

    Every refusal and every unclear answer is decided by reading back: a failed precondition can be our own
    earlier success, a throttled name is one that another writer is writing. A create-only write is safe to repeat, so
    after `StoreUnknown` and a missing object it is put again, `ATTEMPTS` times at most.

    Raises `StoreRetry` if nothing was written, `StoreUnknown` if an earlier put may still arrive, and the store's
    `StoreMisconfigured`.
    """
    unclear: StoreUnknown | None = None
    for _ in range(ATTEMPTS):
        refusal: StoreRetry | None = None
        try:
            result = await store.put(path, data, IfAbsent())
            if isinstance(result, Stored):
                return Created(result.version)
        except StoreUnknown as error:
            unclear = error
        except StoreRetry as error:
            refusal = error
        existing = await _read_back(store, path, unclear)
        if existing is not None:
            return Same(existing.version) if existing.data == data else Other(existing.data, existing.version)
        if refusal is not None:
            if unclear is None:
                raise refusal
            raise _may_arrive(path) from unclear
    if unclear is None:
        raise StoreRetry(f"{path}: the name is refused as taken, and nothing is there to be read; try again")
    raise _may_arrive(path) from unclear


async def replace_object(store: ObjectStore, path: ObjectPath, data: bytes, is_bad: Callable[[bytes], bool]) -> bool:
    """Replace the object at `path` by `data` if it is bad, by compare-and-swap; False if it is good, or was changed.

    A missing object counts as bad. Raises the store's errors.
    """
    stored = await store.get(path)
    if stored is not None and not is_bad(stored.data):
        return False
    condition = IfAbsent() if stored is None else IfVersion(stored.version)
    return isinstance(await store.put(path, data, condition), Stored)


async def _read_back(store: ObjectStore, path: ObjectPath, unclear: StoreUnknown | None) -> StoredObject | None:
    try:
        return await store.get(path)
    except StoreRetry as error:
        if unclear is None:
            raise
        # The read may succeed later, but the write before it is unclear: the caller must not assume that it failed.
        raise _may_arrive(path) from error


def _may_arrive(path: ObjectPath) -> StoreUnknown:
    return StoreUnknown(f"{path}: a put had no clear answer and may still arrive; read back before deciding")
