"""A process that works on a local store, for tests that run several of them or kill them.

python -m tests.storage.local_writer count ROOT TIMES    add TIMES to the number in `counter`
python -m tests.storage.local_writer write ROOT SEED     create and replace objects until killed
python -m tests.storage.local_writer race ROOT NAME      create `race/0` to `race/49`; print the ones won
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from pathlib import Path

from springline.paths import ObjectPath
from springline.storage.local import LocalStore
from springline.storage.port import IfAbsent, IfVersion, Stored

COUNTER = ObjectPath("table/counter")
SWAPPED = ObjectPath("table/swapped")
RACES = 50


def sealed(body: bytes) -> bytes:
    """Return bytes that tell whether they are whole."""
    return hashlib.sha256(body).digest() + body


def is_whole(data: bytes) -> bool:
    """Tell whether `data` is exactly what `sealed` made."""
    return hashlib.sha256(data[32:]).digest() == data[:32]


async def count(store: LocalStore, times: int) -> None:
    done = 0
    while done < times:
        stored = await store.get(COUNTER)
        assert stored is not None
        result = await store.put(COUNTER, str(int(stored.data) + 1).encode(), IfVersion(stored.version))
        done += isinstance(result, Stored)


async def write(store: LocalStore, seed: int) -> None:
    """Create and replace objects of random size; say on standard output what was acknowledged."""
    random_source = random.Random(seed)
    turn = 0
    while True:
        turn += 1
        body = random_source.randbytes(random_source.choice((10, 10_000, 300_000)))
        path = ObjectPath(f"table/{seed}/{turn % 7}/{turn}")
        result = await store.put(path, sealed(body), IfAbsent())
        assert isinstance(result, Stored)
        print("created", path, result.version, flush=True)
        old = await store.get(SWAPPED)
        if old is None:
            swapped = await store.put(SWAPPED, sealed(body), IfAbsent())
        else:
            swapped = await store.put(SWAPPED, sealed(body), IfVersion(old.version))
        assert isinstance(swapped, Stored)
        print("swapped", SWAPPED, swapped.version, flush=True)


async def race(store: LocalStore, name: str) -> None:
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for number in range(RACES):
        result = await store.put(ObjectPath(f"race/{number}"), name.encode(), IfAbsent())
        if isinstance(result, Stored):
            print(number, flush=True)


async def main(what: str, root: str, argument: str) -> None:
    store = LocalStore(Path(root))
    if what == "count":
        await count(store, int(argument))
    elif what == "write":
        await write(store, int(argument))
    else:
        await race(store, argument)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
