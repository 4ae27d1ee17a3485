"""Which store this is: an id in the store itself, so that two processes can tell whether they mean the same one.

Two URLs may name one store (a link, a mount, an emulator's address), and one URL two (a folder on two machines). The
id is made once, by whoever asks first, and stays.
"""

from __future__ import annotations

import orjson

from springline.errors import InvariantViolated
from springline.paths import store_identity
from springline.storage.port import IfAbsent, ObjectStore, Stored


async def store_id(store: ObjectStore, new_id: str) -> str:
    """Return the store's id; it is `new_id` if it had none. `store` is the whole store, of all workspaces.

    Raises `InvariantViolated` if what stands there is no id, and what the store does.
    """
    path = store_identity()
    there = await store.get(path)
    if there is None:
        written = await store.put(path, orjson.dumps({"store_id": new_id}), IfAbsent())
        if isinstance(written, Stored):
            return new_id
        there = await store.get(path)
    try:
        found = orjson.loads(there.data)["store_id"] if there is not None else None
    except (ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, str):
        raise InvariantViolated(f"{path} holds no store id: delete it, and the next process makes a new one")
    return found
