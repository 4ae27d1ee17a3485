"""Writing checkpoints, off the commit path, so that readers need not read the whole log (Delta protocol, Checkpoints).

The `deltalake` library makes the checkpoint itself. It works on a copy of the table's log in a temporary
folder: that needs no data file, gives the library no credentials, works alike for every store, and leaves
all writes to our own create-only puts. So this module never lists, overwrites or removes a log file.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import deltalake
import orjson

from springline import paths
from springline.commit.snapshot import (
    UNREADABLE,
    actions_of_checkpoint,
    checkpoint_files,
    probe_by_hint,
    read_last_checkpoint,
    rows_of_checkpoint,
)
from springline.delta.checkpoints import CheckpointHint, CheckpointKind, CheckpointResult, parse_last_checkpoint
from springline.storage.port import IfAbsent, IfVersion, ObjectStore, Stored, StoreUnknown
from springline.storage.resolve import Other, put_once
from springline.storage.together import together

_READS_TOGETHER = 32
_POINTER_ATTEMPTS = 5


async def write_checkpoint(store: ObjectStore, root: str) -> CheckpointResult:
    """Write a checkpoint of the latest version of the table at `root`, and point readers to it.

    Safe to repeat and to run twice at once. Raises what the store raises, and `InvariantViolated` if the log has
    a gap; a table the library cannot handle is no error (`CheckpointKind.SKIPPED`).
    """
    hint = await read_last_checkpoint(store, root)
    latest, hint = await probe_by_hint(store, root, -1, hint)
    if hint is not None and hint.v2_name is None and not await _is_there(store, root, hint):
        # If the log reaches back to version 0, no checkpoint is needed.
        hint = hint if await store.head(paths.delta_log(root, 0)) is None else None
    if latest < 0 or (hint is not None and hint.version == latest):
        return CheckpointResult(kind=CheckpointKind.CURRENT, version=latest)
    with tempfile.TemporaryDirectory(prefix="springline-checkpoint-") as folder:
        local = Path(folder)
        problem = await _copy_log(store, root, local, hint, latest)
        if problem is None:
            problem = await asyncio.to_thread(_make_checkpoint, local, latest)
        if problem is not None:
            return CheckpointResult(kind=CheckpointKind.SKIPPED, version=latest, detail=problem)
        data = await asyncio.to_thread((local / paths.delta_checkpoint(_LOCAL_ROOT, latest)).read_bytes)
        pointer = await asyncio.to_thread((local / paths.delta_last_checkpoint(_LOCAL_ROOT)).read_bytes)
    put = await put_once(store, paths.delta_checkpoint(root, latest), data)
    if isinstance(put, Other):
        found = await asyncio.to_thread(_pointer_to, latest, put.data)
        if found is None:
            detail = f"{paths.delta_checkpoint(root, latest)} was written by somebody else, and cannot be read"
            return CheckpointResult(kind=CheckpointKind.SKIPPED, version=latest, detail=detail)
        pointer = found
    await _point_to(store, root, latest, pointer)
    return CheckpointResult(kind=CheckpointKind.WRITTEN, version=latest)


_LOCAL_ROOT = "table"


async def _is_there(store: ObjectStore, root: str, hint: CheckpointHint) -> bool:
    found = await together(*(store.head(name) for name in checkpoint_files(root, hint)))
    return all(one is not None for one in found)


async def _copy_log(store: ObjectStore, root: str, local: Path, hint: CheckpointHint | None, latest: int) -> str | None:
    """Copy the newest checkpoint and the log after it below `local`; return why that is not possible, or None."""
    (local / paths.delta_log_dir(_LOCAL_ROOT)).mkdir(parents=True)
    first = 0
    if hint is not None:
        if hint.v2_name is not None:
            return "its checkpoints are of the second specification; let the engine that made them write the next"
        if hint.parts is None:
            copies = [(paths.delta_checkpoint(root, hint.version), paths.delta_checkpoint(_LOCAL_ROOT, hint.version))]
        else:
            copies = list(
                zip(
                    paths.delta_checkpoint_parts(root, hint.version, hint.parts),
                    paths.delta_checkpoint_parts(_LOCAL_ROOT, hint.version, hint.parts),
                    strict=True,
                )
            )
        copies.append((paths.delta_last_checkpoint(root), paths.delta_last_checkpoint(_LOCAL_ROOT)))
        missing = await _copy(store, local, copies)
        if missing is not None:
            return f"{missing}, which _last_checkpoint names, is gone"
        first = hint.version
    logs = [
        (paths.delta_log(root, version), paths.delta_log(_LOCAL_ROOT, version)) for version in range(first, latest + 1)
    ]
    for start in range(0, len(logs), _READS_TOGETHER):
        missing = await _copy(store, local, logs[start : start + _READS_TOGETHER])
        if missing is not None:
            return f"{missing} is gone"
    return None


async def _copy(store: ObjectStore, local: Path, copies: list[tuple[paths.ObjectPath, paths.ObjectPath]]) -> str | None:
    objects = await together(*(store.get(source) for source, _ in copies))
    for (source, target), stored in zip(copies, objects, strict=True):
        if stored is None:
            return source
        (local / target).write_bytes(stored.data)
    return None


def _make_checkpoint(local: Path, version: int) -> str | None:
    """Let the library checkpoint the copied log; return why it could not, or None. Blocks."""
    try:
        table = deltalake.DeltaTable(local / _LOCAL_ROOT, without_files=False)
        if table.version() != version:
            return f"the library reads version {table.version()} where version {version} is the latest"
        table.create_checkpoint()
    except OSError:
        # A full disk is no fault of the table: let the caller try again.
        raise
    except Exception as error:
        return f"the library cannot checkpoint this table: {error}"
    except BaseException as error:
        # A panic inside the library derives from BaseException, and must not take the worker down.
        if type(error).__name__ != "PanicException":
            raise
        return f"the library failed on this table: {error}"
    path = local / paths.delta_checkpoint(_LOCAL_ROOT, version)
    if not path.exists() or any((path.parent / "_sidecars").glob("*")):
        return "the library wrote a checkpoint that is not a single file"
    protocol, metadata = actions_of_checkpoint(path.read_bytes())
    if protocol is None or metadata is None:
        return "the library wrote a checkpoint without protocol or metadata"
    return None


def _pointer_to(version: int, data: bytes) -> bytes | None:
    """Return the pointer to a checkpoint whose writer may have died before it set it; None if it is damaged."""
    try:
        rows = rows_of_checkpoint(data)
        if None in actions_of_checkpoint(data):
            return None
    except UNREADABLE:
        return None
    return orjson.dumps({"version": version, "size": rows, "sizeInBytes": len(data)})


async def _point_to(store: ObjectStore, root: str, version: int, pointer: bytes) -> None:
    """Set `_last_checkpoint`, unless it names a checkpoint at least as new.

    It is only a hint: if other writers keep changing it, theirs may stay.
    """
    path = paths.delta_last_checkpoint(root)
    for _ in range(_POINTER_ATTEMPTS):
        stored = await store.get(path)
        current = None if stored is None else parse_last_checkpoint(stored.data)
        if current is not None and current.version >= version and await _is_there(store, root, current):
            return
        precondition = IfAbsent() if stored is None else IfVersion(stored.version)
        try:
            if isinstance(await store.put(path, pointer, precondition), Stored):
                return
        except StoreUnknown:
            continue
