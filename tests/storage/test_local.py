"""What only a local folder has: several processes, SIGKILL, a disk, and a tree that others can see."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from springline.paths import InvalidPath, ObjectPath
from springline.storage import files
from springline.storage.local import OWN_FOLDER, STALE_TEMPORARY_SECONDS, THREADS, LocalStore
from springline.storage.port import (
    IfAbsent,
    IfVersion,
    PreconditionFailed,
    Stored,
    StoreMisconfigured,
    StoreRetry,
    StoreUnknown,
)
from springline.storage.resolve import Created, Same, put_once
from springline.storage.tokens import content_token
from tests.storage.local_writer import COUNTER, RACES, SWAPPED, is_whole

REPOSITORY = Path(__file__).parents[2]
PATH = ObjectPath("table/_delta_log/00000000000000000000.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def local(root: Path) -> LocalStore:
    return LocalStore(root)


def writer(what: str, root: Path, argument: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.local_writer", what, str(root), str(argument)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def tree(root: Path) -> list[str]:
    """Return the files below `root`, sorted."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def version_of(store: LocalStore, path: ObjectPath) -> str:
    info = await store.head(path)
    assert info is not None
    return info.version


async def test_counter_across_processes(local: LocalStore, root: Path) -> None:
    await local.put(COUNTER, b"0", IfAbsent())
    processes = [writer("count", root, 60) for _ in range(4)]
    assert [await asyncio.to_thread(process.wait, 120) for process in processes] == [0] * 4
    stored = await local.get(COUNTER)
    assert stored is not None
    assert stored.data == b"240"


async def test_races_across_processes(local: LocalStore, root: Path) -> None:
    processes = {str(number): writer("race", root, number) for number in range(4)}
    for process in processes.values():
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
    won: dict[str, list[int]] = {}
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for name, process in processes.items():
        output, _ = await asyncio.to_thread(process.communicate)
        won[name] = [int(line) for line in output.split()]
    assert sorted(number for numbers in won.values() for number in numbers) == list(range(RACES))
    for name, numbers in won.items():
        for number in numbers:
            stored = await local.get(ObjectPath(f"race/{number}"))
            assert stored is not None
            assert stored.data == name.encode()


async def test_sigkill_leaves_old_or_new_bytes(local: LocalStore, root: Path) -> None:
    """A writer is killed again and again: no object is torn, none that was acknowledged is lost, no lock stays."""
    chance = random.Random(7)
    acknowledged: dict[str, str] = {}
    for turn in range(12):
        process = writer("write", root, turn)
        assert process.stdout is not None
        first = await asyncio.to_thread(process.stdout.readline)
        await asyncio.to_thread(time.sleep, chance.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines = [first, *await asyncio.to_thread(process.stdout.readlines)]
        await asyncio.to_thread(process.wait)
        swapped: list[str] = []
        for line in lines:
            if line.endswith("\n"):
                what, path, version = line.split()
                if what == "created":
                    acknowledged[path] = version
                else:
                    swapped.append(version)
        stored = await local.get(SWAPPED)
        assert stored is not None or not swapped
        assert stored is None or is_whole(stored.data)
    found = {info.path: info.version async for info in local.list(ObjectPath(""))}
    assert len(acknowledged) > 12
    assert acknowledged.items() <= found.items()
    for path in found:
        stored = await local.get(path)
        assert stored is not None
        assert is_whole(stored.data), f"{path} is torn"
    outside = [path for path in tree(root) if not path.startswith(OWN_FOLDER)]
    assert outside == sorted(found), "a crash left files in a table"


async def test_leftovers_are_cleared_when_old(local: LocalStore, root: Path) -> None:
    await local.put(PATH, b"x", IfAbsent())
    folder = root / OWN_FOLDER / "tmp"
    old, young = folder / "old", folder / "young"
    for one in (old, young):
        one.write_bytes(b"half an obj")
    os.utime(old, (0, time.time() - STALE_TEMPORARY_SECONDS - 60))
    LocalStore(root)
    assert [path.name for path in folder.iterdir()] == ["young"]


async def test_a_table_folder_holds_nothing_else(local: LocalStore, root: Path) -> None:
    result = await local.put(PATH, b"one", IfAbsent())
    assert isinstance(result, Stored)
    await local.put(PATH, b"two", IfAbsent())
    await local.put(PATH, b"two", IfVersion(result.version))
    await local.put(PATH, b"three", IfVersion(result.version))
    assert (root / PATH).read_bytes() == b"two"
    assert [path for path in tree(root) if not path.startswith(f"{OWN_FOLDER}/locks/")] == [PATH]


async def test_reading_creates_nothing(local: LocalStore, root: Path) -> None:
    assert await local.get(PATH) is None
    assert [info async for info in local.list(ObjectPath(""))] == []
    assert await asyncio.to_thread(root.exists) is False


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a/./b", "a\\b", "a\0b", "..", "", "a//b", "a/"])
async def test_no_name_leads_outside(local: LocalStore, root: Path, name: str) -> None:
    path = ObjectPath(name)
    with pytest.raises((InvalidPath, StoreMisconfigured)):
        await local.put(path, b"x", IfAbsent())
    assert tree(root.parent) == []


@pytest.mark.parametrize("name", [f"{OWN_FOLDER}/tmp/x", f"{OWN_FOLDER}/locks/000", OWN_FOLDER])
async def test_the_own_folder_is_not_to_be_named(local: LocalStore, name: str) -> None:
    for call in (local.get(ObjectPath(name)), local.put(ObjectPath(name), b"", IfAbsent())):
        with pytest.raises(InvalidPath):
            await call


@pytest.mark.parametrize("name", ["a//b", "a/", "a" * 300])
async def test_names_no_folder_can_hold_are_absent(local: LocalStore, name: str) -> None:
    await local.put(ObjectPath("a/b"), b"x", IfAbsent())
    path = ObjectPath(name)
    assert await local.get(path) is None
    assert await local.head(path) is None
    assert await local.delete(path, if_version="sha256:") is False
    with pytest.raises(StoreMisconfigured):
        await local.put(path, b"x", IfAbsent())


async def test_objects_and_folders_exclude_each_other(local: LocalStore) -> None:
    await local.put(ObjectPath("a/b"), b"x", IfAbsent())
    for name in ("a", "a/b/c"):
        assert await local.get(ObjectPath(name)) is None
        with pytest.raises(StoreMisconfigured):
            await local.put(ObjectPath(name), b"y", IfAbsent())
        assert isinstance(await local.put(ObjectPath(name), b"y", IfVersion("sha256:")), PreconditionFailed)


async def test_links_are_not_objects(local: LocalStore, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    await local.put(ObjectPath("a/b"), b"x", IfAbsent())
    (root / "a/link").symlink_to(secret)
    (root / "a/dangling").symlink_to(tmp_path / "nothing")
    for name in ("a/link", "a/dangling"):
        with pytest.raises(StoreMisconfigured):
            await local.get(ObjectPath(name))
        with pytest.raises(StoreMisconfigured):
            await local.read_many([ObjectPath("a/b"), ObjectPath(name)])
        with pytest.raises(StoreMisconfigured):
            await local.put(ObjectPath(name), b"y", IfAbsent())
    assert [info.path async for info in local.list(ObjectPath(""))] == ["a/b"]
    assert secret.read_bytes() == b"secret"


async def test_no_name_leads_out_of_the_store_through_a_link(local: LocalStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "secret").write_bytes(b"secret")
    (outside / "deep/secret").write_bytes(b"secret")
    await local.put(ObjectPath("a/b"), b"x", IfAbsent())
    await local.put(ObjectPath("rival/secret"), b"secret", IfAbsent())
    (root / "a/out").symlink_to(outside)
    (root / "a/up").symlink_to("..")
    (root / "a/rival").symlink_to(root / "rival")
    before = sorted(outside.rglob("*"))
    token = content_token(b"secret")
    for name in ("a/out/secret", "a/out/deep/secret", "a/out/new/secret", "a/up/a/b", "a/rival/secret"):
        path = ObjectPath(name)
        for attempt in (
            local.get(path),
            local.head(path),
            local.read_many([ObjectPath("a/b"), path]),
            local.put(path, b"y", IfAbsent()),
            local.put(path, b"y", IfVersion(token)),
            local.delete(path, if_version=token),
        ):
            with pytest.raises(StoreMisconfigured, match="symbolic link"):
                await attempt
    for prefix in ("a/out/", "a/out/deep/", "a/up/", "a/rival/"):
        with pytest.raises(StoreMisconfigured, match="symbolic link"):
            assert [info async for info in local.list(ObjectPath(prefix))]
    assert [info.path async for info in local.list(ObjectPath(""))] == ["a/b", "rival/secret"]
    assert sorted(outside.rglob("*")) == before
    assert (outside / "secret").read_bytes() == b"secret"


async def test_errors_do_not_tell_where_the_folder_lies(local: LocalStore, root: Path, tmp_path: Path) -> None:
    await local.put(ObjectPath("a/b"), b"x", IfAbsent())
    (root / "a/link").symlink_to(tmp_path)
    (root / "tables").write_bytes(b"")
    for attempt in (
        local.get(ObjectPath("a/link")),
        local.get(ObjectPath("a/link/x")),
        local.read_many([ObjectPath("a/link")]),
        local.put(ObjectPath("a/b/c"), b"y", IfAbsent()),
        local.put(ObjectPath("tables/x"), b"y", IfAbsent()),
        local.put(ObjectPath("a"), b"y", IfAbsent()),
    ):
        with pytest.raises(StoreMisconfigured) as caught:
            await attempt
        assert str(tmp_path) not in str(caught.value)
        assert re.match("(a|a/link|a/link/x|a/b/c|a/b|tables|tables/x) ", str(caught.value)), str(caught.value)


async def test_the_store_itself_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    store = LocalStore(tmp_path / "link" / "lake", fsync=False)
    await store.put(ObjectPath("a/b"), b"x", IfAbsent())
    assert await store.read_many([ObjectPath("a/b")]) == [b"x"]
    assert (tmp_path / "disk/lake/a/b").read_bytes() == b"x"
    await store.aclose()


async def test_many_reads_take_large_files_whole_and_know_what_is_no_object(local: LocalStore, root: Path) -> None:
    large = os.urandom(5 << 20)
    await local.put(ObjectPath("a/large"), large, IfAbsent())
    os.mkfifo(root / "a/pipe")
    names = [ObjectPath(name) for name in ("a", "a/pipe", "a/none", "a/large/below", "a//large", "a/large")]
    found = await local.read_many(names)
    assert [one is None for one in found] == [True] * 5 + [False]
    stored = await local.get(ObjectPath("a/large"))
    assert stored is not None
    assert found[-1] == stored.data == large
    with pytest.raises(InvalidPath):
        await local.read_many([ObjectPath(f"{OWN_FOLDER}/tmp/x")])


async def test_odd_files_do_not_stop_a_listing(local: LocalStore, root: Path) -> None:
    await local.put(ObjectPath("a/b"), b"x", IfAbsent())
    os.mkfifo(root / "a/pipe")
    (root / "a" / os.fsdecode(b"latin\xe4")).write_bytes(b"")
    (root / "a/percent%20encoded").write_bytes(b"")
    assert [info.path async for info in local.list(ObjectPath(""))] == ["a/b", "a/percent%20encoded"]
    assert await local.get(ObjectPath("a/pipe")) is None


async def test_folders_removed_under_us_come_back(local: LocalStore, root: Path) -> None:
    await local.put(PATH, b"x", IfAbsent())
    for name in ("tmp", "locks"):
        for leftover in (root / OWN_FOLDER / name).iterdir():
            leftover.unlink()
        (root / OWN_FOLDER / name).rmdir()
    (root / PATH).unlink()
    (root / PATH).parent.rmdir()
    assert isinstance(await put_once(local, PATH, b"y"), Created)
    assert isinstance(await local.put(PATH, b"z", IfVersion(await version_of(local, PATH))), Stored)


async def test_a_new_folder_below_a_removed_one_is_made(local: LocalStore, root: Path) -> None:
    await local.put(ObjectPath("state/first/a"), b"x", IfAbsent())
    shutil.rmtree(root / "state")
    assert isinstance(await local.put(ObjectPath("state/second/b"), b"y", IfAbsent()), Stored)


async def test_the_same_content_has_the_same_token_everywhere(local: LocalStore, tmp_path: Path) -> None:
    """Tokens name content (docs/formats.md#local-store): a store that was copied file by file still knows them."""
    await local.put(PATH, b"abc", IfAbsent())
    assert await version_of(local, PATH) == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "copy" / PATH).parent.mkdir(parents=True)
    (tmp_path / "copy" / PATH).write_bytes(b"abc")
    copy = LocalStore(tmp_path / "copy")
    assert isinstance(await copy.put(PATH, b"d", IfVersion(await version_of(local, PATH))), Stored)


async def test_a_held_lock_is_busy_not_wrong(local: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_WAIT_SECONDS", 0.05)
    await local.put(PATH, b"x", IfAbsent())
    version = await version_of(local, PATH)
    with files.exclusive(local._lock(PATH)):
        with pytest.raises(StoreRetry):
            await local.put(PATH, b"y", IfVersion(version))
        with pytest.raises(StoreRetry):
            await local.delete(PATH, if_version=version)
        assert isinstance(await local.put(PATH, b"y", IfAbsent()), PreconditionFailed), "creating needs no lock"
    assert isinstance(await local.put(PATH, b"y", IfVersion(version)), Stored)


async def test_the_lock_is_needed(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between check and rename somebody else gets in: only the second check, under the lock, sees it."""
    await local.put(PATH, b"0", IfAbsent())
    version = await version_of(local, PATH)
    original = files.exclusive
    intruder = LocalStore(local.root)

    def late(lock: Path) -> Any:
        monkeypatch.setattr("springline.storage.local.exclusive", original)
        assert asyncio.run(intruder.put(PATH, b"1", IfVersion(version))) != PreconditionFailed()
        return original(lock)

    monkeypatch.setattr("springline.storage.local.exclusive", late)
    assert isinstance(await local.put(PATH, b"2", IfVersion(version)), PreconditionFailed)
    stored = await local.get(PATH)
    assert stored is not None
    assert stored.data == b"1"


Call = tuple[str, str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Record what is made durable and what gets its name, in order."""
    seen: list[Call] = []

    def recorded(name: str, original: Callable[..., Any], shown: Callable[..., str]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append((name, shown(*args)))
            return original(*args, **kwargs)

        return call

    def target(handle: int) -> str:
        return str(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr(os, "fsync", recorded("fsync", os.fsync, target))
    monkeypatch.setattr(os, "link", recorded("link", os.link, lambda source, to: str(to)))
    monkeypatch.setattr(Path, "replace", recorded("replace", Path.replace, lambda source, to: str(to)))
    monkeypatch.setattr(Path, "unlink", recorded("unlink", Path.unlink, str))
    return seen


async def test_what_is_named_is_durable_first(local: LocalStore, root: Path, calls: list[Call]) -> None:
    """Bytes, then folders from the top down, then the name, then the folder that holds the name."""
    await local.put(PATH, b"x", IfAbsent())
    temporary = f"{root}/{OWN_FOLDER}/tmp/"
    named = calls.index(("link", f"{root}/{PATH}"))
    synced = [path for name, path in calls[:named] if name == "fsync"]
    for folder in (root.parent, root, root / "table"):
        assert str(folder) in synced, "the folders above are durable before anything is put into them"
    assert synced[-1].startswith(temporary)
    assert calls[named + 1] == ("fsync", f"{root}/table/_delta_log")

    version = await version_of(local, PATH)
    calls.clear()
    await local.put(PATH, b"y", IfVersion(version))
    assert [name for name, _ in calls[:3]] == ["fsync", "replace", "fsync"]
    assert calls[0][1].startswith(temporary)
    assert calls[2] == ("fsync", f"{root}/table/_delta_log")

    calls.clear()
    await local.delete(PATH, if_version=await version_of(local, PATH))
    assert calls == [("unlink", f"{root}/{PATH}"), ("fsync", f"{root}/table/_delta_log")]


async def test_folders_of_another_process_are_not_trusted(root: Path, calls: list[Call]) -> None:
    (root / "table/_delta_log").mkdir(parents=True)
    await LocalStore(root).put(PATH, b"x", IfAbsent())
    named = calls.index(("link", f"{root}/{PATH}"))
    assert {("fsync", str(root)), ("fsync", str(root / "table"))} <= set(calls[:named])


async def test_a_loser_makes_the_winner_durable(local: LocalStore, root: Path, calls: list[Call]) -> None:
    """It may be the same writer again, whose first attempt died between the name and its fsync."""
    await local.put(PATH, b"x", IfAbsent())
    calls.clear()
    assert isinstance(await put_once(local, PATH, b"x"), Same)
    assert ("fsync", f"{root}/table/_delta_log") in calls


def many(count: int) -> list[tuple[ObjectPath, bytes]]:
    return [(ObjectPath(f"table/many/{number}.json"), str(number).encode()) for number in range(count)]


async def test_many_files_are_durable_before_they_have_names_and_their_names_together(
    local: LocalStore, root: Path, calls: list[Call]
) -> None:
    wanted = many(3 * THREADS)
    assert await local.create_many(wanted) == [True] * len(wanted)
    assert await local.read_many([path for path, _ in wanted]) == [data for _, data in wanted]
    linked = [place for place, (name, _) in enumerate(calls) if name == "link"]
    last = {path: place for place, (name, path) in enumerate(calls) if name == "fsync"}
    bytes_of = [place for path, place in last.items() if path.startswith(f"{root}/{OWN_FOLDER}/tmp/")]
    assert len(linked) == len(bytes_of) == len(wanted)
    for number, place in enumerate(sorted(linked), start=1):
        assert sum(1 for one in bytes_of if one < place) >= number
    assert last[f"{root}/table/many"] > max(linked)
    assert sum(1 for call in calls if call == ("fsync", f"{root}/table/many")) <= THREADS
    assert list((root / OWN_FOLDER / "tmp").iterdir()) == []


async def test_of_many_files_those_that_are_there_are_left_as_they_are(local: LocalStore) -> None:
    wanted = many(2 * THREADS)
    await local.put(wanted[0][0], b"other", IfAbsent())
    await local.put(*wanted[5], IfAbsent())
    created = await local.create_many(wanted)
    assert [place for place, is_new in enumerate(created) if not is_new] == [0, 5]
    stored = await local.get(wanted[0][0])
    assert stored is not None
    assert stored.data == b"other"


async def test_a_few_files_are_left_to_be_put_at_the_same_time(local: LocalStore) -> None:
    assert await local.create_many(many(THREADS)) == [False] * THREADS
    assert await local.create_many([]) == []
    assert await local.get(many(1)[0][0]) is None


@pytest.mark.parametrize("where", ["springline.storage.local.sync_folder", "os.fsync", "os.link", "os.open"])
async def test_many_files_that_are_not_durable_are_not_said_to_be(
    local: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    await local.put(ObjectPath("table/many/neighbour"), b"", IfAbsent())
    wanted = many(2 * THREADS)
    with monkeypatch.context() as patched:
        patched.setattr(where, failing(errno.EIO))
        assert await local.create_many(wanted) == [False] * len(wanted)
    assert list((root / OWN_FOLDER / "tmp").iterdir()) == []
    results = [await put_once(local, *one) for one in wanted]
    assert {type(one) for one in results} == {Same if "sync_folder" in where else Created}


async def test_many_files_behind_a_link_are_not_written(local: LocalStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "table").mkdir(parents=True)
    (root / "table/many").symlink_to(tmp_path / "elsewhere")
    assert not any(await local.create_many(many(2 * THREADS)))
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_without_fsync_nothing_is_synced(root: Path, calls: list[Call]) -> None:
    fast = LocalStore(root, fsync=False)
    await fast.put(PATH, b"x", IfAbsent())
    assert isinstance(await fast.put(PATH, b"y", IfVersion(await version_of(fast, PATH))), Stored)
    assert "fsync" not in {name for name, _ in calls}


def failing(number: int) -> Callable[..., Any]:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("where", "number", "error"),
    [
        ("fsync", errno.EIO, StoreRetry),
        ("fsync", errno.ENOSPC, StoreRetry),
        ("link", errno.ENOSPC, StoreRetry),
        ("link", errno.EIO, StoreUnknown),
        ("link", errno.EXDEV, StoreMisconfigured),
        ("link", errno.EPERM, StoreMisconfigured),
        ("open", errno.EACCES, StoreMisconfigured),
        ("open", errno.EROFS, StoreMisconfigured),
        ("open", errno.EMFILE, StoreRetry),
    ],
)
async def test_failures_of_a_create(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch, where: str, number: int, error: type[Exception]
) -> None:
    await local.put(ObjectPath(f"{PATH}.neighbour"), b"", IfAbsent())
    with monkeypatch.context() as patched:
        patched.setattr(os, where, failing(number))
        with pytest.raises(Exception) as caught:
            await local.put(PATH, b"x", IfAbsent())
    assert type(caught.value) is error
    assert await local.get(PATH) is None
    assert list((local.root / OWN_FOLDER / "tmp").iterdir()) == []


@pytest.mark.parametrize("operation", ["create", "swap", "delete"])
async def test_a_failure_after_the_name_is_unclear(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    await local.put(ObjectPath(f"{PATH}.neighbour"), b"", IfAbsent())
    version = ""
    if operation != "create":
        result = await local.put(PATH, b"x", IfAbsent())
        assert isinstance(result, Stored)
        version = result.version
    with monkeypatch.context() as patched:
        patched.setattr("springline.storage.local.sync_folder", failing(errno.EIO))
        with pytest.raises(StoreUnknown):
            if operation == "create":
                await local.put(PATH, b"y", IfAbsent())
            elif operation == "swap":
                await local.put(PATH, b"y", IfVersion(version))
            else:
                await local.delete(PATH, if_version=version)
    stored = await local.get(PATH)
    assert (None if stored is None else stored.data) == (None if operation == "delete" else b"y")


async def test_the_event_loop_stays_free(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a disk hangs, everything else goes on; a cancelled write is waited for."""
    import threading

    hang = threading.Event()
    hanging = threading.Event()
    original = os.fsync

    def slow(handle: int) -> None:
        hanging.set()
        hang.wait(10)
        original(handle)

    await local.put(ObjectPath("other"), b"here", IfAbsent())
    monkeypatch.setattr(os, "fsync", slow)
    writing = asyncio.create_task(local.put(PATH, b"x", IfAbsent()))
    assert await asyncio.to_thread(hanging.wait, 10)
    stored = await local.get(ObjectPath("other"))
    assert stored is not None
    writing.cancel()
    await asyncio.sleep(0)
    assert not writing.done()
    hang.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    stored = await local.get(PATH)
    assert stored is not None


async def test_a_name_that_no_folder_can_have_is_that_of_nothing(local: LocalStore) -> None:
    """Whoever looks there, for a table say, is told that it is not there, and not that the store is at fault."""
    await local.put(ObjectPath("warehouse/short/a"), b"0", IfAbsent())
    long = ObjectPath(f"warehouse/{'x' * 300}")
    assert await local.linked_elsewhere(long) is None
    assert await local.get(ObjectPath(f"{long}/a")) is None
    assert [one async for one in local.list(long)] == []
    with pytest.raises(StoreMisconfigured):
        await local.put(long, b"", IfAbsent())
