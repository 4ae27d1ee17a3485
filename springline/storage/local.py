"""A store in a local folder: the embedded default. A Delta table in it is a plain folder for any Delta reader.

    {root}/{object path}            the objects, each a file
    {root}/.springline/tmp/         files being written; a crash leaves files only here
    {root}/.springline/locks/       the locks of compare-and-swap and delete, a fixed number of files

Safe across threads and processes of one machine, not across machines: `filesystems.unsupported_filesystem`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVar

from springline.paths import InvalidPath, ObjectPath, is_plain, relative_path
from springline.storage.files import (
    NOT_THERE,
    LockBusy,
    exclusive,
    make_folders,
    make_root,
    opened,
    opened_folder,
    read_file,
    remove_older,
    symbolic_link_in,
    sync_folder,
    temporary,
)
from springline.storage.port import (
    MANY_AT_ONCE,
    IfAbsent,
    ObjectInfo,
    ObjectStore,
    Precondition,
    PreconditionFailed,
    PutResult,
    Stored,
    StoredObject,
    StoreError,
    StoreMisconfigured,
    StoreRetry,
    StoreUnknown,
)
from springline.storage.threads import Threads, processor_turns
from springline.storage.together import each, together
from springline.storage.tokens import CONTENT_TOKEN_PREFIX, content_token

T = TypeVar("T")

OWN_FOLDER = ".springline"
THREADS = 16
STALE_TEMPORARY_SECONDS = 3600.0
"""No write takes that long: an older temporary file belongs to a process that died."""
_LOCK_DIGITS = 3
"""Hex digits of a lock's name: 4,096 locks, so that none needs removal and objects hardly ever share one."""
_LISTED_TOGETHER = 256
_CREATED_TOGETHER = 2
"""Files that one call on a thread writes, at least: from so many on it costs less than a call for each."""
_READ_TOGETHER = 256
"""Small files that one call on a thread reads: the call itself costs several times as much as one such read."""
_READERS_OF_SLOW_DISKS = 8
_SLOW_READ_S = 100e-6
"""A small file in the system's cache takes a tenth of this, nearly all of it in Python: then one thread reads as fast
as many. If files take longer, several threads wait for them at the same time."""

_FINAL = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV, errno.ENOTSUP, errno.ENAMETOOLONG, errno.ENOTDIR,
        errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.EMLINK, errno.EINVAL,
    }
)  # fmt: skip
"""Errors that come again on every retry."""
_NOT_DONE = frozenset({errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors after which a name is certainly unchanged."""


class LocalStore(ObjectStore):
    """The object store in the folder `root`, which the first write creates.

    The token of an object is `sha256:` and the hex digest of its content (docs/formats.md#local-store). With `fsync`
    False a power failure may lose the last writes; the death of a process never does. Raises `InvalidPath` for names
    that `relative_path` refuses and for the store's own folder, and `StoreMisconfigured` for names that lead through a
    symbolic link, because its target is not part of the store.
    """

    def __init__(self, root: Path, *, fsync: bool = True) -> None:
        self.root = root.absolute()
        self._fsync = fsync
        self._temporary = self.root / OWN_FOLDER / "tmp"
        self._locks = self.root / OWN_FOLDER / "locks"
        self._durable: set[Path] = set()
        self._preparing = threading.Lock()
        self._threads = Threads("springline-files", THREADS)
        self._slow = False
        with _reading(self.root):
            remove_older(self._temporary, STALE_TEMPORARY_SECONDS)

    async def _run(self, work: Callable[[], T]) -> T:
        """Run blocking work on a thread. Its errors name objects and not the folder, because callers may see them."""
        try:
            return await self._threads.run(work)
        except StoreError as error:
            root = str(self.root)
            told = str(error).replace(f"{root}/", "").replace(root, "the store's folder")
            raise type(error)(told) from error

    async def get(self, path: ObjectPath) -> StoredObject | None:
        """Return the object, or None."""
        file = self._file(path)
        return None if file is None else await self._run(lambda: _get(self._held(file)))

    async def read_many(self, paths: Sequence[ObjectPath], *, concurrency: int = MANY_AT_ONCE) -> list[bytes | None]:
        """Return the contents of many objects in order; each call on a thread reads a slice of them."""
        root = str(self.root)
        names = [f"{root}/{path}" if self._can_hold(path) else None for path in paths]
        found: list[bytes | None] = [None] * len(names)
        waiting = deque(range(0, len(names), _READ_TOGETHER))

        async def read(part: list[str | None]) -> list[bytes | None]:
            if self._slow:
                return await self._run(partial(self._read_all, part))
            async with processor_turns().turn():
                return await self._run(partial(self._read_all, part))

        async def read_slices() -> None:
            while waiting:
                start = waiting.popleft()
                part = names[start : start + _READ_TOGETHER]
                try:
                    found[start : start + _READ_TOGETHER] = await read(part)
                except BaseException:
                    waiting.clear()
                    raise

        await together(*(read_slices() for _ in range(min(concurrency, _READERS_OF_SLOW_DISKS))))
        return found

    def _read_all(self, names: list[str | None]) -> list[bytes | None]:
        began = time.perf_counter()
        found = _read_all(str(self.root), names)
        self._slow = len(names) > 1 and time.perf_counter() - began > _SLOW_READ_S * len(names)
        return found

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        """Write if the precondition holds; durable when it returns."""
        file = self._file(path)
        if file is None:
            raise StoreMisconfigured(f"{path!r}: a local folder cannot hold a name with an empty segment")
        if isinstance(precondition, IfAbsent):
            return await self._run(lambda: self._create(self._held(file), data))
        token = precondition.token
        return await self._run(lambda: self._replace(path, self._held(file), data, token))

    async def create_many(self, objects: Sequence[tuple[ObjectPath, bytes]]) -> list[bool]:
        """Write files, some on each thread one after the other; the names in a folder become durable together.

        Of fewer objects than there are threads each is put by itself: then no thread waits for another's.
        """
        size = -(-len(objects) // THREADS)
        if size < _CREATED_TOGETHER:
            return [False] * len(objects)
        parts = [objects[begin : begin + size] for begin in range(0, len(objects), size)]
        created = await each(lambda part: self._run(partial(self._create_all, part)), parts, concurrency=THREADS)
        return [one for part in created for one in part]

    async def head(self, path: ObjectPath) -> ObjectInfo | None:
        """Return size and token, or None. Reads the whole file, because the token is its content's hash."""
        file = self._file(path)
        return None if file is None else await self._run(lambda: _info(path, self._held(file)))

    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        """Delete the object if its token is `if_version`; durable when it returns."""
        file = self._file(path)
        return file is not None and await self._run(lambda: self._delete(path, self._held(file), if_version))

    async def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below `prefix` in name order. Reads every file for its token."""
        names = self._names(prefix, start_after)

        def some() -> list[ObjectInfo | None]:
            with _reading(self.root):
                return [_info(name, self.root / name) for name in islice(names, _LISTED_TOGETHER)]

        while infos := await self._run(some):
            for info in infos:
                if info is not None:
                    yield info

    @property
    def url(self) -> str:
        """The file URL of the folder."""
        return self.root.as_uri()

    async def linked_elsewhere(self, folder: ObjectPath) -> str | None:
        """Return the real path of a folder that lies behind a symbolic link below the store's own."""
        place = self._file(folder)
        return None if place is None else await self._run(lambda: _linked_elsewhere(self.root, place))

    async def aclose(self) -> None:
        """Wait for operations under way and end the threads."""
        await self._threads.aclose()

    def _file(self, path: ObjectPath) -> Path | None:
        """Return the object's file, or None for a name that a folder cannot hold.

        A name with empty segments is one of these: the file system would find another object for it.
        """
        return self.root / path if self._can_hold(path) else None

    def _can_hold(self, path: ObjectPath) -> bool:
        if is_plain(path):
            return True  # The store's own folder begins with a dot.
        relative_path(path)
        segments = path.split("/")
        if segments[0] == OWN_FOLDER:
            raise InvalidPath("path", path, f"use a name outside {OWN_FOLDER}/, which is the store's own")
        return "" not in segments

    def _held(self, file: Path) -> Path:
        """Return `file` if no symbolic link below the store's folder is on the way to it."""
        with _reading(file):
            _refuse_links(str(self.root), str(file.parent))
        return file

    def _create(self, file: Path, data: bytes) -> PutResult:
        with _writing(file):
            self._prepare(file)
            with temporary(self._temporary, data, fsync=self._fsync) as ready:
                try:
                    os.link(ready, file)
                except FileExistsError:
                    return self._taken(file)
                except OSError as error:
                    raise _changed(file, error) from error
                self._settle(file)
        return Stored(content_token(data))

    def _create_all(self, objects: Sequence[tuple[ObjectPath, bytes]]) -> Sequence[bool]:
        """Create files; False for each that is not there for sure: a put of it will say why."""
        by_folder: dict[Path, dict[int, Path]] = {}
        for place, (path, _) in enumerate(objects):
            file = self._file(path)
            if file is not None:
                by_folder.setdefault(file.parent, {})[place] = file
        created = [False] * len(objects)
        for files in by_folder.values():
            one = next(iter(files.values()))
            linked = []
            with suppress(OSError, StoreError):
                self._prepare(self._held(one))
                for place, file in files.items():
                    with (
                        temporary(self._temporary, objects[place][1], fsync=self._fsync) as ready,
                        suppress(FileExistsError),
                    ):
                        os.link(ready, file)
                        linked.append(place)
                self._settle(one)
                for place in linked:
                    created[place] = True
        return created

    def _taken(self, file: Path) -> PreconditionFailed:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(file.lstat().st_mode):
                raise StoreMisconfigured(f"{file} is no regular file, so no object can have this name")
        # The existing object may be of an earlier attempt that died before it made the name durable.
        self._settle(file)
        return PreconditionFailed()

    def _replace(self, path: ObjectPath, file: Path, data: bytes, token: str) -> PutResult:
        with _writing(file):
            if _token(file) != token:
                return PreconditionFailed()
            self._prepare(file)
            with temporary(self._temporary, data, fsync=self._fsync) as ready, exclusive(self._lock(path)):
                if _token(file) != token:
                    return PreconditionFailed()
                try:
                    ready.replace(file)
                except OSError as error:
                    raise _changed(file, error) from error
                self._settle(file)
        return Stored(content_token(data))

    def _delete(self, path: ObjectPath, file: Path, token: str) -> bool:
        with _writing(file):
            if _token(file) != token:
                return False
            self._prepare(file)
            with exclusive(self._lock(path)):
                if _token(file) != token:
                    return False
                try:
                    file.unlink()
                except OSError as error:
                    raise _changed(file, error) from error
                self._settle(file)
        return True

    def _prepare(self, file: Path) -> None:
        """Create the folders that a write needs."""
        needed = (self._temporary, self._locks, file.parent)
        if all(folder in self._durable and folder.is_dir() for folder in needed):
            return
        with self._preparing:
            if any(folder in self._durable and not folder.is_dir() for folder in needed):
                self._durable.clear()  # Another program has removed folders.
            try:
                self._make_folders(needed)
            except FileNotFoundError:
                self._durable.clear()  # The same above a new folder.
                self._make_folders(needed)

    def _make_folders(self, needed: Sequence[Path]) -> None:
        if self.root not in self._durable:
            make_root(self.root, fsync=self._fsync)
            self._durable.add(self.root)
        for folder in needed:
            make_folders(folder, self._durable, fsync=self._fsync)

    def _settle(self, file: Path) -> None:
        """Make a name's change durable; a failure from here on is `StoreUnknown`."""
        if self._fsync:
            try:
                sync_folder(file.parent)
            except OSError as error:
                raise StoreUnknown(f"{file} was changed, but {error}") from error

    def _lock(self, path: ObjectPath) -> Path:
        return self._locks / hashlib.sha256(path.encode()).hexdigest()[:_LOCK_DIGITS]

    def _names(self, prefix: ObjectPath, start_after: ObjectPath | None) -> Iterator[ObjectPath]:
        """Yield the names below `prefix` and after `start_after`, in the order of their UTF-8 bytes."""
        relative_path(prefix)
        base = prefix.removesuffix("/")
        if "" in base.split("/") and base != "":
            return
        _refuse_links(str(self.root), f"{self.root}/{base}".removesuffix("/"))
        after = "" if start_after is None else start_after
        if base and base == prefix and base > after and _is_file(self.root / base):
            yield ObjectPath(base)
        yield from _walk(self.root, base, after)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        if error.errno in NOT_THERE:
            return False
        raise


def _walk(root: Path, folder: str, after: str) -> Iterator[ObjectPath]:
    try:
        entries = list(os.scandir(root / folder))
    except OSError as error:
        if error.errno in NOT_THERE:
            return
        raise
    # A folder's objects sort where its name with a slash sorts: "a-b" comes before "a/b" and "a0" after it.
    named = sorted(
        (f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name, entry) for entry in entries
    )
    for name, entry in named:
        path = f"{folder}/{name}" if folder else name
        if not _is_utf8(name):
            continue  # No object has such a name.
        if name.endswith("/"):
            skipped = after > path and not after.startswith(path)
            if path != f"{OWN_FOLDER}/" and not skipped:
                yield from _walk(root, path[:-1], after)
        elif path > after and entry.is_file(follow_symlinks=False):
            yield ObjectPath(path)


def _linked_elsewhere(root: Path, place: Path) -> str | None:
    with _reading(place):
        return None if symbolic_link_in(str(root), str(place)) is None else os.path.realpath(place)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _get(file: Path) -> StoredObject | None:
    with _reading(file):
        data = read_file(file)
    return None if data is None else StoredObject(data, content_token(data))


def _refuse_links(root: str, folder: str) -> None:
    link = symbolic_link_in(root, folder)
    if link is not None:
        raise StoreMisconfigured(
            f"{link} is a symbolic link, and what lies behind it is no part of the store; put or mount a folder there"
        )


def _read_all(root: str, names: list[str | None]) -> list[bytes | None]:
    """Read files, many of them in the same folder; a None in `names` stands for a name that no file can have."""
    found: list[bytes | None] = []
    for folder, together_in_it in groupby(names, key=_folder_of):
        name: str | None = folder
        try:
            _refuse_links(root, folder)
            with opened_folder(folder) as handle:
                for name in together_in_it:
                    if handle is None or name is None:
                        found.append(None)
                    else:
                        found.append(read_file(name[len(folder) + 1 :], within=handle))
        except OSError as error:
            raise _unreadable(str(name), error) from error
    return found


def _folder_of(name: str | None) -> str:
    return "" if name is None else name.rpartition("/")[0]


def _info(path: ObjectPath, file: Path) -> ObjectInfo | None:
    with _reading(file), opened(file) as stream:
        if stream is None:
            return None
        digest = hashlib.file_digest(stream, "sha256")
        return ObjectInfo(path, stream.tell(), CONTENT_TOKEN_PREFIX + digest.hexdigest())


def _token(file: Path) -> str | None:
    data = read_file(file)
    return None if data is None else content_token(data)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn errors of a read into the port's."""
    try:
        yield
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path | str, error: OSError) -> Exception:
    if error.errno in _FINAL:
        return StoreMisconfigured(f"{file} cannot be read: {error}")
    return StoreRetry(f"{file} could not be read: {error}")


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Turn errors before any name was changed into the port's."""
    try:
        yield
    except OSError as error:
        if error.errno in _FINAL:
            raise StoreMisconfigured(f"{file} cannot be written: {error}") from error
        raise StoreRetry(f"{file} could not be written: {error}") from error
    except LockBusy as error:
        raise StoreRetry(f"{file}: {error}") from error


def _changed(file: Path, error: OSError) -> Exception:
    """Return the port's error for a failed change of a name."""
    if error.errno in _FINAL:
        return StoreMisconfigured(f"{file} cannot be written: {error}")
    if error.errno in _NOT_DONE:
        return StoreRetry(f"{file} could not be written: {error}")
    return StoreUnknown(f"{file}: {error}")
