"""Stores by URL: `file:///dir`, `gs://bucket/prefix`, `memory://name`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from springline.paths import InvalidPath
from springline.storage.local import LocalStore
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore, StoreMisconfigured

_memory: dict[str, MemoryStore] = {}


def open_store(url: str) -> ObjectStore:
    """Return the store that `url` names; the caller closes it.

    - `file:///absolute/folder`: a local folder, made by the first write; `%20` and the like are decoded.
    - `gs://bucket` or `gs://bucket/prefix`: a bucket, or an emulator's if `STORAGE_EMULATOR_HOST` is set.
    - `memory://name`: a store in this process, the same one for the same name.

    Raises `StoreMisconfigured` for any other URL, with the form that was expected, and for missing credentials.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _wrong(url, str(error)) from None
    if parts.query or parts.fragment or parts.username is not None:
        raise _wrong(url, "a store URL has no user, query or fragment")
    if parts.scheme == "file":
        return LocalStore(_folder(url, parts))
    if parts.scheme == "gs":
        return _bucket(url, parts)
    if parts.scheme == "memory":
        if parts.path:
            raise _wrong(url, "a memory store has a name and no path")
        return _memory.setdefault(parts.netloc, MemoryStore(name=parts.netloc))
    raise _wrong(url, "the scheme is none of file, gs, memory")


def _folder(url: str, parts: SplitResult) -> Path:
    if parts.netloc not in ("", "localhost"):
        raise _wrong(url, f"{parts.netloc!r} is read as a host; a file URL of a local folder begins with three slashes")
    folder = Path(unquote(parts.path))
    if not folder.is_absolute() or len(folder.parts) < 2 or "\0" in str(folder):
        raise _wrong(url, "it must name a folder below the root, by its absolute path")
    if folder.exists() and not folder.is_dir():
        raise _wrong(url, f"{folder} is no folder")
    return folder


def _bucket(url: str, parts: SplitResult) -> ObjectStore:
    if not parts.netloc or ":" in parts.netloc:
        raise _wrong(url, "it must name a bucket")
    # The Google client takes most of a second to import, so only callers that open a bucket import it.
    from springline.storage.gcs import GcsStore  # noqa: PLC0415

    try:
        return GcsStore(parts.netloc, parts.path)
    except InvalidPath as error:
        raise _wrong(url, str(error)) from None


def _wrong(url: str, reason: str) -> StoreMisconfigured:
    return StoreMisconfigured(
        f"{url!r} is not a store URL: {reason}. Give file:///absolute/folder, gs://bucket/prefix or memory://name"
    )
