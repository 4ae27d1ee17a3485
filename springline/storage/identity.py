"""The identity of a store: an id in the store itself, by which two processes can tell whether they use the same one.

Two URLs may name one store (a link, a mount, an emulator's address), and one URL two (a folder on two machines). The
first process that asks creates the id, and it never changes.
"""

from __future__ import annotations

import orjson

from springline.errors import InvariantViolated
from springline.paths import store_identity
from springline.storage.port import IfAbsent, ObjectStore


async def store_id(store: ObjectStore, new_id: str) -> str:
    """Return the store's id, which becomes `new_id` if it had none. `store` is the whole store, of all workspaces.

    Raises `InvariantViolated` if the object is not an id, and the store's errors.
    """
    found = await known_store_id(store)
    if found is not None:
        return found
    await store.put(store_identity(), orjson.dumps({"store_id": new_id}), IfAbsent())
    # Read back: another process may have been first.
    return await known_store_id(store) or new_id


async def known_store_id(store: ObjectStore) -> str | None:
    """Return the store's id, None if it has none: no process of ours has worked with it. Raises as `store_id`."""
    path = store_identity()
    there = await store.get(path)
    if there is None:
        return None
    try:
        found = orjson.loads(there.data)["store_id"]
    except (ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, str):
        raise InvariantViolated(f"{path} holds no store id: delete it, and the next process makes a new one")
    return found
