"""Files that appear whole or not at all, and stay: the blocking primitives under `local`.

A file is written under a temporary name, made durable, and then given its name in one step of the file system:
a link for a create, a rename for the replacement of a known version. With `fsync`, an operation
that returned survives a power failure; without it, it survives the death of any process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

LOCK_WAIT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.0005
_LONGEST_PAUSE_SECONDS = 0.02
_READ_BYTES = 1 << 20
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
"""Errors that say that nothing has a name: a name that is too long cannot be that of anything."""


class LockBusy(Exception):
    """A lock was not free within `LOCK_WAIT_SECONDS`: its holder is stopped or very slow."""


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader | None]:
    """Open the regular file `path` for reading, or yield None if there is none.

    A symbolic link is an error (`OSError` ELOOP), because its target lies outside the store.
    """
    handle = _open(path, _FILE)
    if handle is None:
        yield None
        return
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            with os.fdopen(handle, "rb", closefd=False) as file:
                yield file
        else:
            yield None
    finally:
        os.close(handle)


def symbolic_link_in(root: str, folder: str) -> str | None:
    """Return the first symbolic link on the way from `root` down to `folder`, the folder included; None if none is.

    The path to `root` itself is the operator's choice and not checked.
    """
    end = len(root)
    while end < len(folder):
        end = folder.find("/", end + 1)
        if end < 0:
            end = len(folder)
        try:
            mode = os.lstat(folder[:end]).st_mode
        except OSError as error:
            if error.errno in NOT_THERE:
                return None
            raise
        if stat.S_ISLNK(mode):
            return folder[:end]
    return None


@contextmanager
def opened_folder(path: str) -> Iterator[int | None]:
    """Open the folder `path`, or yield None if there is none: reads relative to it skip the look-up from the root."""
    handle = _open(path, _FOLDER)
    if handle is None:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def read_file(path: Path | str, *, within: int | None = None) -> bytes | None:
    """Return the content of the regular file `path`, or None if there is none; as `opened`, in fewer steps.

    `within`: an open folder that a relative `path` starts from.
    """
    handle = _open(path, _FILE, within=within)
    if handle is None:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return None
        data = os.read(handle, status.st_size + 1)
        if len(data) == status.st_size:
            return data
        # A large file takes several reads, and another program may have written to it meanwhile.
        parts = [data]
        while part := os.read(handle, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(handle)


def _open(path: Path | str, flags: int, *, within: int | None = None) -> int | None:
    """Return a handle of the file at `path`, or None if there is none, or cannot be one."""
    try:
        return os.open(path, flags, dir_fd=within)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, _FOLDER)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_root(root: Path, *, fsync: bool) -> None:
    """Create the folder `root` and its missing parents; existing ones are the operator's and not synced."""
    missing: list[Path] = []
    while not root.is_dir():
        missing.append(root)
        root = root.parent
    for one in reversed(missing):
        _make_folder(one, fsync=fsync)


def make_folders(folder: Path, durable: set[Path], *, fsync: bool) -> None:
    """Create `folder` and its missing parents, each made durable before the next is created in it.

    `durable` holds the folders that this process knows to be durable, one of them above `folder`; new ones are added.
    An existing folder proves nothing: the process that created it may have died before it synced the name.
    """
    unsure: list[Path] = []
    while folder not in durable:
        unsure.append(folder)
        folder = folder.parent
    for one in reversed(unsure):
        _make_folder(one, fsync=fsync)
        durable.add(one)


def _make_folder(folder: Path, *, fsync: bool) -> None:
    folder.mkdir(exist_ok=True)
    if fsync:
        sync_folder(folder.parent)


@contextmanager
def temporary(folder: Path, data: bytes, *, fsync: bool) -> Iterator[Path]:
    """Write `data` to a new file in `folder` and yield its path; remove it at the end if it still exists."""
    path = folder / uuid.uuid4().hex
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        # No file object: each call to the system is a moment in which another thread may take the interpreter.
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            if fsync:
                os.fsync(handle)
        finally:
            os.close(handle)
        yield path
    finally:
        # `remove_older` finds a file that cannot be removed here; the outcome of the write is decided by now.
        with suppress(OSError):
            path.unlink()


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold the lock file `lock` against every other thread and process; raises `LockBusy`.

    The kernel frees it when its holder dies. It is unlocked before it is closed, because a child forked
    meanwhile holds a copy of the descriptor.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(handle, lock)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


def _lock(handle: int, lock: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LockBusy(f"{lock} was held by somebody else for {LOCK_WAIT_SECONDS:g} s") from None
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        else:
            return


def remove_older(folder: Path, seconds: float) -> int:
    """Remove the files in `folder` last written more than `seconds` ago; return how many there were."""
    removed = 0
    oldest = time.time() - seconds
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return 0
    for entry in entries:
        try:
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                Path(entry.path).unlink()
                removed += 1
        except FileNotFoundError:
            continue  # Another process cleans up, too.
    return removed
