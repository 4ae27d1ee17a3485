"""Reading a table's latest version, protocol and metadata from its log, without ever listing.

See docs/protocol.md#stores, docs/protocol.md#rule-7.

Versions are contiguous, so the latest one is found by probing the next one until it is missing. `_last_checkpoint`, or
a caller that knows an existing version, says where to begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from springline import paths
from springline.delta.actions import vector_id
from springline.delta.checkpoints import (
    CheckpointHint,
    metadata_of_row,
    parse_last_checkpoint,
    protocol_of_row,
)
from springline.delta.datapath import BadPath, decoded_path
from springline.delta.strictjson import BadJson, strict_json
from springline.errors import Code, InvariantViolated, Refused, refused
from springline.storage.port import ObjectStore
from springline.storage.together import together

_PROBES = (1, 4, 16, 64)
"""How many versions are probed together, batch after batch: mostly the next one is free."""
_READS_TOGETHER = 32
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError)
"""Errors of reading a damaged Parquet file: Arrow itself checks few of its bytes."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table as of `version` (-1: it has none yet).

    `protocol` and `metadata` are the bodies of the actions in force; None if the log has none, as for tables of the
    reference system that never got any.
    """

    version: int
    protocol: dict[str, Any] | None
    metadata: dict[str, Any] | None
    source: str | None = field(default=None, compare=False)
    """The object that `metadata` was read from."""


class StartGone(InvariantViolated):
    """The log file of a version that should exist is missing."""


async def probe_latest(store: ObjectStore, root: str, start: int) -> int:
    """Return the latest version of the table at `root`: the one before the first free one above `start`.

    `start` is a version known to exist, -1 for a table that may have none. Costs one step of storage calls
    when `start` is the latest, and never lists. Raises `InvariantViolated` if the log file of `start` is gone:
    then log clean-up has run past it, a free version above it proves nothing, and writing there would put a
    commit into the table's past.
    """
    first, free = await together(_exists(store, root, start), _first_free(store, root, start + 1, _PROBES[0]))
    if not first:
        raise StartGone(
            f"{paths.delta_log(root, start)} is gone, so the versions after it cannot be found without a listing; "
            "let an engine write a checkpoint, so that _last_checkpoint names a version whose log file is there"
        )
    version = start + 1 + _PROBES[0]
    for count in _PROBES[1:]:
        if free is not None:
            return free - 1
        free = await _first_free(store, root, version, count)
        version += count
    while free is None:
        free = await _first_free(store, root, version, _PROBES[-1])
        version += _PROBES[-1]
    return free - 1


async def _exists(store: ObjectStore, root: str, version: int) -> bool:
    return version < 0 or await store.head(paths.delta_log(root, version)) is not None


async def _first_free(store: ObjectStore, root: str, version: int, count: int) -> int | None:
    found = await together(*(_exists(store, root, version + step) for step in range(count)))
    return next((version + step for step, there in enumerate(found) if not there), None)


async def require_no_gap(store: ObjectStore, root: str, latest: int) -> None:
    """Raise `InvariantViolated` if a log file or checkpoint lies behind `latest`, the last version before a free one.

    Lists the log behind it: for a table whose coordinator is lost, which would have said what is committed.
    """
    free = paths.delta_log(root, latest + 1)
    async for info in store.list(paths.delta_log_prefix(root), start_after=free):
        if paths.parse_delta_log(info.path) or paths.parse_delta_checkpoint(info.path):
            if await _exists(store, root, latest + 1):
                return  # Other processes have committed meanwhile.
            raise InvariantViolated(f"{free} is gone: {info.path} lies behind it. Restore the log file from a copy")
        if not info.path.rpartition("/")[2][:1].isdigit():
            return


async def probe_by_hint(
    store: ObjectStore, root: str, known: int, hint: CheckpointHint | None
) -> tuple[int, CheckpointHint | None]:
    """Return the latest version as `probe_latest` finds it from `known` or `hint`, and the hint unless it is wrong.

    A hint is wrong if it names a version beyond `known` that has neither a log file nor a checkpoint: the
    object is overwritten in place, and a damaged one must not block the table.
    """
    if hint is None or hint.version <= known:
        return await probe_latest(store, root, known), hint
    try:
        return await probe_latest(store, root, hint.version), hint
    except StartGone as error:
        there = await together(*(store.head(name) for name in checkpoint_files(root, hint)[:1]))
        if there[0] is not None:
            raise
        # Without a known version only version 0 shows that the log reaches back as far as it must.
        if known >= 0 or await _exists(store, root, 0):
            try:
                return await probe_latest(store, root, known), None
            except StartGone:
                pass
        name = paths.delta_last_checkpoint(root)
        raise StartGone(f"{error}; if there was no such version, {name} is damaged: restore it") from error


async def read_last_checkpoint(store: ObjectStore, root: str) -> CheckpointHint | None:
    """Return the hint of the table's newest checkpoint, or None if there is no usable one."""
    stored = await store.get(paths.delta_last_checkpoint(root))
    return None if stored is None else parse_last_checkpoint(stored.data)


async def load_snapshot(
    store: ObjectStore, root: str, *, at_least: int = -1, known: Snapshot | None = None
) -> Snapshot:
    """Return the latest version of the table at `root` with the protocol and metadata in force.

    `at_least` is a version known to exist; `known` an earlier snapshot of the same table: then only later versions
    are read. Raises `InvariantViolated` if the log has a gap where it must not, and `Refused`
    (`NOT_A_DELTA_TABLE`) if a log file or the only checkpoint cannot be read.
    """
    hint = None if known is not None else await read_last_checkpoint(store, root)
    start = max(at_least, -1 if known is None else known.version)
    latest, hint = await probe_by_hint(store, root, start, hint)
    base = known
    if base is None and hint is not None and hint.version <= latest:
        base = await _read_checkpoint(store, root, hint)
    return await _with_log(store, root, latest, base or Snapshot(-1, None, None), hint)


async def _with_log(
    store: ObjectStore, root: str, latest: int, base: Snapshot, hint: CheckpointHint | None
) -> Snapshot:
    """Complete `base` with the versions after it, newest first, stopping when both actions are found."""
    protocol: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    source = base.source
    end = latest
    while end > base.version and (protocol is None or metadata is None):
        first = max(base.version + 1, end - _READS_TOGETHER + 1)
        versions = range(end, first - 1, -1)
        logs = await together(*(store.get(paths.delta_log(root, version)) for version in versions))
        for version, log in zip(versions, logs, strict=True):
            if log is None:
                raise _log_gone(root, version, hint)
            found_protocol, found_metadata = _actions_in_force(root, version, log.data)
            protocol = protocol or found_protocol
            if metadata is None and found_metadata is not None:
                metadata, source = found_metadata, paths.delta_log(root, version)
        end = first - 1
    return Snapshot(latest, protocol or base.protocol, metadata or base.metadata, source)


def _actions_in_force(root: str, version: int, data: bytes) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the `protocol` and `metaData` bodies of one log file; lines of other actions are not parsed."""
    protocol = metadata = None
    for line in data.split(b"\n"):
        if b'"protocol"' not in line and b'"metaData"' not in line:
            continue
        try:
            action = strict_json(line)
        except BadJson as error:
            raise refused(
                Code.NOT_A_DELTA_TABLE,
                f"version {version} of the table at {root} has a line that {error} ({paths.delta_log(root, version)})",
                field="location",
                value=root,
                remedy="repair or restore the log file before the table is used",
            ) from error
        if isinstance(action, dict):
            protocol = action["protocol"] if isinstance(action.get("protocol"), dict) else protocol
            metadata = action["metaData"] if isinstance(action.get("metaData"), dict) else metadata
    return protocol, metadata


def _log_gone(root: str, version: int, hint: CheckpointHint | None) -> Refused:
    named = "" if hint is None else f"; the checkpoint of version {hint.version} cannot be read: {_names(root, hint)}"
    return refused(
        Code.NOT_A_DELTA_TABLE,
        f"version {version} of the table at {root} is gone from its log ({paths.delta_log(root, version)}){named}",
        field="location",
        value=root,
        remedy="let an engine that can open the table write a classic checkpoint, then try again",
    )


def _names(root: str, hint: CheckpointHint) -> str:
    return f"{checkpoint_files(root, hint)[0]}, which {paths.delta_last_checkpoint(root)} names"


async def checkpoint_at(store: ObjectStore, root: str, version: int) -> Snapshot | None:
    """Return protocol and metadata of the newest checkpoint, if it is that of `version` and readable here."""
    hint = await read_last_checkpoint(store, root)
    return await _read_checkpoint(store, root, hint) if hint is not None and hint.version == version else None


async def checkpoint_problem(
    store: ObjectStore, root: str, hint: CheckpointHint
) -> tuple[paths.ObjectPath, str] | None:
    """Return the first file of a checkpoint that is missing or damaged, and what is wrong; None if all are good.

    Reads only the files that have the table's protocol and metadata.
    """
    for name in checkpoint_files(root, hint):
        stored = await store.get(name)
        if stored is None:
            return name, "the checkpoint is gone"
        try:
            if name.endswith(".json"):
                found = _actions_in_force(root, hint.version, stored.data)
            else:
                found = await asyncio.to_thread(actions_of_checkpoint, stored.data)
        except (Refused, *UNREADABLE) as error:
            return name, f"the checkpoint cannot be read: {error}"
        if hint.parts is None and None in found:
            return name, "the checkpoint lacks protocol or metadata"
    return None


def checkpoint_files(root: str, hint: CheckpointHint) -> list[paths.ObjectPath]:
    """Return the names of the files of the checkpoint in `hint`."""
    if hint.v2_name is not None:
        return [paths.workspace_path(f"{paths.delta_log_dir(root)}/{hint.v2_name}")]
    if hint.parts is not None:
        return paths.delta_checkpoint_parts(root, hint.version, hint.parts)
    return [paths.delta_checkpoint(root, hint.version)]


async def _read_checkpoint(store: ObjectStore, root: str, hint: CheckpointHint) -> Snapshot | None:
    """Return protocol and metadata of the checkpoint; None if it is absent or not readable here.

    None is not a failure yet: the log may still reach back to version 0.
    """
    protocol: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    for name in checkpoint_files(root, hint):
        stored = await store.get(name)
        if stored is None:
            return None
        if name.endswith(".json"):
            found = _actions_in_force(root, hint.version, stored.data)
        else:
            try:
                found = await asyncio.to_thread(actions_of_checkpoint, stored.data)
            except UNREADABLE:
                return None
        protocol = protocol or found[0]
        metadata = metadata or found[1]
        if protocol is not None and metadata is not None:
            return Snapshot(hint.version, protocol, metadata, name)
    return None


def actions_of_checkpoint(data: bytes) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return `protocol` and `metaData` of one Parquet checkpoint file, reading only those columns. Blocks.

    Raises one of `UNREADABLE` for other bytes.
    """
    file = pq.ParquetFile(io.BytesIO(data))
    wanted = [name for name in ("protocol", "metaData") if name in file.schema_arrow.names]
    found: dict[str, dict[str, Any]] = {}
    for group in range(file.num_row_groups):
        if not wanted or len(found) == len(wanted):
            break
        table = file.read_row_group(group, columns=wanted)
        for name in wanted:
            column = table.column(name)
            row = next((value.as_py() for value in column.drop_null() if value.is_valid), None)
            if row is not None and any(value is not None for value in row.values()):
                found.setdefault(name, row)
    protocol, metadata = found.get("protocol"), found.get("metaData")
    return (
        None if protocol is None else protocol_of_row(protocol),
        None if metadata is None else metadata_of_row(metadata),
    )


def rows_of_checkpoint(data: bytes) -> int:
    """Return the number of actions in a Parquet checkpoint file; raises one of `UNREADABLE` for other bytes."""
    return int(pq.ParquetFile(io.BytesIO(data)).metadata.num_rows)


READS_TOGETHER = 32
_WANTED = ("path", "deletionVector.storageType", "deletionVector.pathOrInlineDv", "deletionVector.offset")

File = tuple[str, str | None]


async def keeps_files(store: ObjectStore, root: str, version: int, removed: Set[File]) -> bool:
    """Say whether the table has a file as of `version` other than those `removed` (decoded path, deletion vector).

    Raises `Refused` (`INVALID_PAYLOAD`) if a checkpoint that is not readable here leaves that unknown.
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
    """Apply one log file: first its removes, as readers do, then its adds."""
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
    # A path that we cannot decode is another writer's file, which our commits never remove.
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
