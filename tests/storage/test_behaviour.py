"""What every store promises: one suite, run against each adapter (docs/protocol.md#stores)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import pytest

from springline.paths import ObjectPath
from springline.storage.gcs import GcsStore
from springline.storage.port import IfAbsent, IfVersion, ObjectInfo, ObjectStore, PreconditionFailed, Stored
from springline.storage.resolve import Created, Other, Same, put_once

PATH = ObjectPath("folder/object.json")


async def create(store: ObjectStore, path: ObjectPath, data: bytes) -> str:
    result = await store.put(path, data, IfAbsent())
    assert isinstance(result, Stored)
    return result.version


async def names(store: ObjectStore, prefix: str, start_after: str | None = None) -> list[str]:
    after = None if start_after is None else ObjectPath(start_after)
    return [info.path async for info in store.list(ObjectPath(prefix), start_after=after)]


async def increment(store: ObjectStore, path: ObjectPath, times: int) -> None:
    """Add one to a number, `times` times, by compare-and-swap."""
    done = 0
    while done < times:
        stored = await store.get(path)
        assert stored is not None
        data = str(int(stored.data) + 1).encode()
        if isinstance(await store.put(path, data, IfVersion(stored.version)), Stored):
            done += 1


async def test_missing(store: ObjectStore) -> None:
    assert await store.get(PATH) is None
    assert await store.head(PATH) is None
    assert await names(store, "") == []
    assert await store.delete(PATH, if_version="7") is False
    assert isinstance(await store.put(PATH, b"x", IfVersion("7")), PreconditionFailed)
    assert await store.get(PATH) is None


async def test_read_after_write(store: ObjectStore, opener: Callable[[], ObjectStore]) -> None:
    version = await create(store, PATH, b"one")
    other = opener()
    for reader in (store, other):
        stored = await reader.get(PATH)
        assert stored is not None
        assert (stored.data, stored.version) == (b"one", version)
        assert await reader.head(PATH) == ObjectInfo(PATH, 3, version)
    await other.aclose()


async def test_many_are_read_in_order(store: ObjectStore) -> None:
    assert await store.read_many([]) == []
    many = [ObjectPath(f"many/{number}") for number in range(70)]
    for path in many[::2]:
        await create(store, path, path.encode())
    for concurrency in (1, 3, 64):
        found = await store.read_many([*many, many[0]], concurrency=concurrency)
        assert [None if one is None else one.decode() for one in found] == [
            *(path if number % 2 == 0 else None for number, path in enumerate(many)),
            many[0],
        ]
        stored = await store.get(many[0])
        assert stored is not None
        assert found[0] == stored.data


async def test_create_only(store: ObjectStore) -> None:
    version = await create(store, PATH, b"one")
    assert isinstance(await store.put(PATH, b"two", IfAbsent()), PreconditionFailed)
    assert isinstance(await store.put(PATH, b"one", IfAbsent()), PreconditionFailed)
    stored = await store.get(PATH)
    assert stored is not None
    assert (stored.data, stored.version) == (b"one", version)


async def test_of_16_racing_creates_one_wins(opener: Callable[[], ObjectStore]) -> None:
    stores = [opener() for _ in range(4)]
    for turn in range(30):
        path = ObjectPath(f"race/{turn}")
        results = await asyncio.gather(
            *(stores[racer % 4].put(path, f"racer {racer}".encode(), IfAbsent()) for racer in range(16))
        )
        winners = [racer for racer, result in enumerate(results) if isinstance(result, Stored)]
        stored = await stores[turn % 4].get(path)
        assert stored is not None
        assert len(winners) == 1
        assert stored.data == f"racer {winners[0]}".encode()
        assert results[winners[0]] == Stored(stored.version)
    for store in stores:
        await store.aclose()


async def test_swap(store: ObjectStore) -> None:
    first = await create(store, PATH, b"one")
    result = await store.put(PATH, b"two", IfVersion(first))
    assert isinstance(result, Stored)
    assert result.version != first
    stored = await store.get(PATH)
    assert stored is not None
    assert (stored.data, stored.version) == (b"two", result.version)


async def test_stale_swap_fails(store: ObjectStore) -> None:
    first = await create(store, PATH, b"one")
    second = await store.put(PATH, b"two", IfVersion(first))
    assert isinstance(second, Stored)
    assert isinstance(await store.put(PATH, b"three", IfVersion(first)), PreconditionFailed)
    elsewhere = await create(store, ObjectPath("elsewhere"), b"other")
    assert isinstance(await store.put(PATH, b"three", IfVersion(elsewhere)), PreconditionFailed)
    for strange in ("0", "", "sha256:00", "no number", "-1", "٣"):
        assert isinstance(await store.put(PATH, b"three", IfVersion(strange)), PreconditionFailed)
        assert isinstance(await store.put(ObjectPath("new"), b"three", IfVersion(strange)), PreconditionFailed)
    stored = await store.get(PATH)
    assert stored is not None
    assert (stored.data, stored.version) == (b"two", second.version)
    assert await store.get(ObjectPath("new")) is None


async def test_swap_counter_loses_nothing(store: ObjectStore) -> None:
    await create(store, PATH, b"0")
    await asyncio.gather(*(increment(store, PATH, 8) for _ in range(6)))
    stored = await store.get(PATH)
    assert stored is not None
    assert stored.data == b"48"


async def test_swap_counter_across_threads_and_handles(opener: Callable[[], ObjectStore]) -> None:
    first = opener()
    await create(first, PATH, b"0")
    failures: list[BaseException] = []

    def work() -> None:
        async def with_own_handle() -> None:
            own = opener()
            await increment(own, PATH, 10)
            await own.aclose()

        try:
            asyncio.run(with_own_handle())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert failures == []
    stored = await first.get(PATH)
    assert stored is not None
    assert stored.data == b"40"
    await first.aclose()


async def test_bytes_and_version_belong_together(store: ObjectStore) -> None:
    """A reader beside a writer gets bytes with the token of exactly those bytes, and never torn ones."""
    size = 50_000
    version = await create(store, PATH, b"0" * size)
    written = {version: b"0" * size}
    read: dict[str, bytes] = {}
    ended = asyncio.Event()

    async def write() -> None:
        nonlocal version
        for turn in range(1, 40):
            data = str(turn % 10).encode() * (size + turn)
            result = await store.put(PATH, data, IfVersion(version))
            assert isinstance(result, Stored)
            version = result.version
            written[version] = data
        ended.set()

    async def watch() -> None:
        while not ended.is_set():
            stored = await store.get(PATH)
            assert stored is not None
            assert read.setdefault(stored.version, stored.data) == stored.data
            await asyncio.sleep(0)

    await asyncio.gather(write(), watch(), watch())
    assert read.keys() <= written.keys()
    assert all(written[token] == data for token, data in read.items())


async def test_delete(store: ObjectStore) -> None:
    version = await create(store, PATH, b"one")
    assert await store.delete(PATH, if_version=version) is True
    assert await store.get(PATH) is None
    assert await store.head(PATH) is None
    assert await store.delete(PATH, if_version=version) is False
    assert isinstance(await store.put(PATH, b"x", IfVersion(version)), PreconditionFailed)
    await create(store, PATH, b"two")
    stored = await store.get(PATH)
    assert stored is not None
    assert stored.data == b"two"


async def test_stale_delete_does_nothing(store: ObjectStore) -> None:
    if isinstance(store, GcsStore):
        # The emulator deletes whatever the generation says; that we send it is proved in test_gcs_wire.
        assert await store.delete(PATH, if_version="not a generation") is False
        return
    first = await create(store, PATH, b"one")
    second = await store.put(PATH, b"two", IfVersion(first))
    assert isinstance(second, Stored)
    assert await store.delete(PATH, if_version=first) is False
    stored = await store.get(PATH)
    assert stored is not None
    assert stored.data == b"two"


@pytest.mark.parametrize("size", [0, 1, 9 * 1024 * 1024])
async def test_sizes(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)
    version = await create(store, PATH, data)
    stored = await store.get(PATH)
    assert stored is not None
    assert stored.data == data
    assert await store.head(PATH) == ObjectInfo(PATH, size, version)
    assert isinstance(await store.put(PATH, data + b"!", IfAbsent()), PreconditionFailed)
    replaced = await store.put(PATH, data + b"!", IfVersion(version))
    assert isinstance(replaced, Stored)
    assert await store.head(PATH) == ObjectInfo(PATH, size + 1, replaced.version)


ODD = (
    "with space",
    "a/b=c/d e.json",
    "ünï/日本/😀",
    "a?b#c&d=e+f:g@h;i,j",
    "(paren)[bracket]{brace}",
    "quote'and\"double",
    "tilde~star*",
    ".hidden/..dots/...",
    "_delta_log/00000000000000000000.json",
    "-rf",
    "tab\there",
    "CON",
    "a" * 200,
)


@pytest.mark.parametrize("name", ODD)
async def test_odd_names(store: ObjectStore, name: str) -> None:
    path = ObjectPath(f"odd/{name}")
    version = await create(store, path, name.encode())
    stored = await store.get(path)
    assert stored is not None
    assert stored.data == name.encode()
    assert await store.head(path) == ObjectInfo(path, len(name.encode()), version)
    assert await names(store, "odd") == [path]
    assert await store.delete(path, if_version=version) is True
    assert await names(store, "odd") == []


async def test_names_that_only_look_alike(store: ObjectStore) -> None:
    alike = ["a/b", "a/B", "a/b ", "a/b.", "a b", "a+b", "a&b", "ä", "a\u0308"]
    for name in alike:
        await create(store, ObjectPath(name), name.encode())
    for name in alike:
        stored = await store.get(ObjectPath(name))
        assert stored is not None
        assert stored.data == name.encode()


LISTED = sorted(
    [
        "a",
        "a-b/c",
        "a.b",
        "a/b",
        "a/b-c",
        "a/b.d",
        "a/c/d",
        "a/c/e",
        "a0",
        "ab/c",
        "b",
        "ä/x",
        "日本/y",
        "\uffee",
        "😀",
    ],
    key=str.encode,
)
ON_FILES = [name for name in LISTED if name != "a"]
"""A folder cannot hold a file `a` beside a folder `a`; the other stores can."""


async def test_list_order(store: ObjectStore, request: pytest.FixtureRequest) -> None:
    wanted = ON_FILES if "local" in request.node.callspec.id else LISTED
    for name in reversed(wanted):
        await create(store, ObjectPath(name), name.encode())
    assert await names(store, "") == wanted
    assert [info async for info in store.list(ObjectPath("a/c"))] == [
        await store.head(ObjectPath("a/c/d")),
        await store.head(ObjectPath("a/c/e")),
    ]
    for start in ("0", "a", "a-b/c", "a/", "a/b", "a/c", "a/c/d", "a/zzz", "b", "z", "日本/y", "😀"):
        assert await names(store, "", start) == [name for name in wanted if name > start]


async def test_list_prefix_is_a_folder(store: ObjectStore, request: pytest.FixtureRequest) -> None:
    wanted = ON_FILES if "local" in request.node.callspec.id else LISTED
    for name in wanted:
        await create(store, ObjectPath(name), b"")
    inside = ["a/b", "a/b-c", "a/b.d", "a/c/d", "a/c/e"]
    assert await names(store, "a/") == inside
    assert await names(store, "a") == [name for name in wanted if name == "a"] + inside
    assert await names(store, "a/b") == ["a/b"]
    assert await names(store, "a/b/") == []
    assert await names(store, "a/c") == ["a/c/d", "a/c/e"]
    assert await names(store, "nothing") == []
    assert await names(store, "a", "a/b") == inside[1:]
    assert await names(store, "a/c", "a/c/d") == ["a/c/e"]
    assert await names(store, "a", "b") == []


async def test_list_of_many(store: ObjectStore) -> None:
    wanted = [f"many/{number:04}" for number in range(600)]
    await asyncio.gather(*(create(store, ObjectPath(name), b"x") for name in wanted))
    assert await names(store, "many") == wanted
    assert await names(store, "many", "many/0555") == wanted[556:]


async def test_put_once(store: ObjectStore) -> None:
    created = await put_once(store, PATH, b"one")
    assert isinstance(created, Created)
    assert await put_once(store, PATH, b"one") == Same(created.version)
    assert await put_once(store, PATH, b"two") == Other(b"one", created.version)
    stored = await store.get(PATH)
    assert stored is not None
    assert (stored.data, stored.version) == (b"one", created.version)


async def test_16_racing_put_once_agree(store: ObjectStore) -> None:
    same = await asyncio.gather(*(put_once(store, PATH, b"same") for _ in range(16)))
    assert sorted(type(result).__name__ for result in same) == ["Created"] + ["Same"] * 15
    assert len({result.version for result in same}) == 1
    path = ObjectPath("folder/different")
    results = await asyncio.gather(*(put_once(store, path, f"{racer}".encode()) for racer in range(16)))
    (winner,) = [racer for racer, result in enumerate(results) if isinstance(result, Created)]
    others = [result for result in results if not isinstance(result, Created)]
    assert others == [Other(f"{winner}".encode(), results[winner].version)] * 15
