"""Whether a table keeps files: asked only when a commit changes metadata in a way that rows do not survive.

Answering takes what a reader does, replaying the log from the newest checkpoint, so the normal path never comes here.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Set
from typing import Any

import orjson
import pyarrow.parquet as pq

from springline import paths
from springline.commit.snapshot import UNREADABLE, checkpoint_files, read_last_checkpoint
from springline.delta.actions import vector_id
from springline.delta.datapath import BadPath, decoded_path
from springline.errors import Code, Refused, refused
from springline.storage.port import ObjectStore
from springline.storage.together import together

READS_TOGETHER = 32
_WANTED = ("path", "deletionVector.storageType", "deletionVector.pathOrInlineDv", "deletionVector.offset")

File = tuple[str, str | None]


async def keeps_files(store: ObjectStore, root: str, version: int, removed: Set[File]) -> bool:
    """Say whether the table has a file as of `version` besides those `removed` (decoded path, deletion vector).

    Raises `Refused` (`INVALID_PAYLOAD`) if that cannot be found out: a checkpoint that is not readable here.
    """
    hint = await read_last_checkpoint(store, root)
    live: dict[File, None] = {}
    start = 0
    if hint is not None and hint.version <= version:
        start = hint.version + 1
        stored = await together(*(store.get(name) for name in checkpoint_files(root, hint)))
        for one in stored:
            if one is None:
                raise _unknown(f"the checkpoint of version {hint.version} is gone")
            live.update(await asyncio.to_thread(_files_of_checkpoint, one.data, hint.version))
    for first in range(start, version + 1, READS_TOGETHER):
        versions = range(first, min(version + 1, first + READS_TOGETHER))
        logs = await together(*(store.get(paths.delta_log(root, number)) for number in versions))
        for number, log in zip(versions, logs, strict=True):
            if log is None:
                raise _unknown(f"version {number} is gone from the log")
            await asyncio.to_thread(_replay, log.data, number, live)
    return any(file not in removed for file in live)


def _replay(data: bytes, version: int, live: dict[File, None]) -> None:
    """Apply one log file: what it removes goes first, as readers have it, then what it adds comes."""
    added: list[File] = []
    try:
        for line in data.split(b"\n"):
            if b'"add"' not in line and b'"remove"' not in line:
                continue
            actions = orjson.loads(line)
            if actions.get("remove") is not None:
                live.pop(_file(actions["remove"]), None)
            if actions.get("add") is not None:
                added.append(_file(actions["add"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unknown(f"version {version} cannot be read: {error}") from None
    live.update(dict.fromkeys(added))


def _file(action: dict[str, Any]) -> File:
    path = action["path"]
    # A file that another writer named in a way of its own is one that nobody here removes.
    with contextlib.suppress(BadPath):
        path = decoded_path(path)
    return path, vector_id(action.get("deletionVector"))


def _files_of_checkpoint(data: bytes, version: int) -> dict[File, None]:
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        if "add" not in names or ("sidecar" in names and len(file.read(columns=["sidecar"]).column(0).drop_null())):
            raise _unknown(f"the checkpoint of version {version} keeps its files elsewhere")
        rows = file.read(columns=[f"add.{name}" for name in _WANTED]).column("add")
        return {_file(row): None for row in rows.to_pylist() if row is not None and row.get("path") is not None}
    except UNREADABLE as error:
        raise _unknown(f"the checkpoint of version {version} cannot be read: {error}") from None


def _unknown(why: str) -> Refused:
    return refused(
        Code.INVALID_PAYLOAD,
        f"metaData changes the table in a way its rows may not survive, and which rows it has cannot be found: {why}",
        field="metaData",
        value=why,
        remedy="Keep schema and partitioning, or let an engine write a classic checkpoint and commit again.",
    )
