"""Data files, which the Delta library writes into a scratch table of their own below the table's root.

    {root}/{key}/{attempt}/...        the data files, which become the table's by a commit that names them
    {root}/{key}/{attempt}/_delta_log the scratch table's own log, removed once its actions are read

Each attempt has a scratch table of its own, so that two processes, or a retry, never share one. In a local store the
files are written in their final place. For a bucket they are written on this machine and uploaded by our store, whose
writes are conditional and checked, and which works with an emulator.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import deltalake
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from springline import paths
from springline.client.decimal_bounds import fits_exactly, is_wide, may_be_rounded, rounded_outwards, wide_decimals
from springline.client.engine import Place, check_process, is_forked_panic, refuse_forked
from springline.client.loop import Stores
from springline.delta import properties as table_properties
from springline.delta.schema import uses_type
from springline.errors import Code, SpringlineError, refused
from springline.storage.port import ObjectStore
from springline.storage.resolve import put_once
from springline.storage.together import together

TARGET_FILE_BYTES = 128 * 1024 * 1024
"""The target size of a data file if the table has none."""
FLUSHED_ONE_BY_ONE = 64
"""Up to this many files and folders are flushed one by one; for more, the whole file system is flushed."""
FLUSHED_AT_ONCE = 8
UPLOADS_TOGETHER = 4
ROW_GROUP_ROWS = 1024 * 1024


class WriteFailed(SpringlineError):
    """Writing the data files failed; nothing was committed. The message is the Delta library's own."""


@dataclass(slots=True)
class Files:
    """Data files that are written and not committed yet. `adds`: their actions, with paths relative to the root."""

    adds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Return their number of rows."""
        return sum(orjson.loads(add["stats"])["numRecords"] for add in self.adds if add.get("stats"))

    @property
    def bytes(self) -> int:
        """Return their total size."""
        return sum(int(add["size"]) for add in self.adds)


class Scratch:
    """One attempt to write the files of a request."""

    def __init__(self, place: Place, stores: Stores, key: str) -> None:
        self._place = place
        self._stores = stores
        self._name = paths.delta_scratch(place.root, key, uuid.uuid4().hex[:12]).removeprefix(f"{place.root}/")
        folder = place.folder
        self._temporary: str | None = None
        if folder is None:
            self._temporary = tempfile.mkdtemp(prefix="springline-write-")
            self._folder = Path(self._temporary) / "table"
        else:
            self._folder = folder / self._name

    def write(
        self,
        schema: pa.Schema,
        rows: Iterator[pa.RecordBatch],
        partition_by: Sequence[str],
        settings: Mapping[str, str],
    ) -> Files:
        """Write `rows` and return their files; raises errors of `rows`, `Refused` in a fork, `WriteFailed`."""
        check_process()
        watched = _Watched(rows)
        told = (table_properties.INDEXED_COLUMNS, table_properties.STATISTICS_COLUMNS)
        configuration = {name: settings[name] for name in told if name in settings}
        create_folder_table(self._folder, schema, partition_by, configuration)
        try:
            deltalake.write_deltalake(
                str(self._folder),
                pa.RecordBatchReader.from_batches(schema, watched),
                mode="append",
                target_file_size=target_file_bytes(settings),
                writer_properties=writer_properties(settings),
                post_commithook_properties=deltalake.PostCommitHookProperties(
                    create_checkpoint=False, cleanup_expired_logs=False
                ),
            )
        except BaseException as error:
            self.discard()
            if watched.error is not None:
                raise watched.error from None
            if is_forked_panic(error):
                refuse_forked()
            if isinstance(error, (deltalake.exceptions.DeltaError, OSError, ValueError)):
                raise WriteFailed(f"the data files could not be written: {error}") from error
            raise
        return self._taken(watched.unbounded, list(wide_decimals(schema)))

    def _taken(
        self, unbounded: Mapping[tuple[str, ...], pa.DataType], rounded: Sequence[tuple[tuple[str, ...], pa.DataType]]
    ) -> Files:
        """Read the actions in the scratch table's log, make its files durable, and remove the log."""
        log = self._folder / paths.DELTA_LOG_FOLDER
        lines = [
            orjson.loads(line) for file in sorted(log.glob("*.json")) for line in file.read_bytes().split(b"\n") if line
        ]
        found = [line["add"] for line in lines if "add" in line]
        for path, kind in unbounded.items():
            for add in found:
                add["stats"] = _widened(add.get("stats"), path, kind)
        for path, kind in rounded:
            for add in found:
                if add.get("stats"):
                    add["stats"] = rounded_outwards(add["stats"], path, kind)
        shutil.rmtree(log)
        names = [unquote(add["path"]) for add in found]
        if self._temporary is None:
            self._make_durable(names)
            adds = [_add(one, f"{self._name}/{one['path']}") for one in found]
        else:
            targets = [f"{self._name}/{Path(name).name}" for name in names]
            self._upload(names, targets)
            shutil.rmtree(self._temporary)
            adds = [_add(one, target) for one, target in zip(found, targets, strict=True)]
        return Files(adds)

    def _make_durable(self, names: Sequence[str]) -> None:
        """Flush files and folders to the disk, because a commit must not outlive the files that it names."""
        top = str(self._folder)
        folders = {top, *(str(parent) for parent in (self._folder.parent, self._folder.parent.parent))}
        for name in names:
            inner = name.rpartition("/")[0]
            while inner and f"{top}/{inner}" not in folders:
                folders.add(f"{top}/{inner}")
                inner = inner.rpartition("/")[0]
        flush([*(f"{top}/{name}" for name in names), *folders], self._folder)

    def _upload(self, names: Sequence[str], targets: Sequence[str]) -> None:
        paired = list(zip(names, targets, strict=True))
        for start in range(0, len(paired), UPLOADS_TOGETHER):
            some = paired[start : start + UPLOADS_TOGETHER]

            async def put(store: ObjectStore, some: list[tuple[str, str]] = some) -> None:
                await together(*(put_once(store, self._target(path), self._data(name)) for name, path in some))

            self._stores.run(self._place, put)

    def _target(self, path: str) -> paths.ObjectPath:
        return paths.delta_data_file(self._place.root, path)

    def _data(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def discard(self) -> None:
        """Remove the files of an attempt that no commit names or ever will."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()


def create_folder_table(
    folder: Path, schema: pa.Schema, partition_by: Sequence[str] = (), configuration: Mapping[str, str] | None = None
) -> None:
    """Write version 0 of a Delta table without rows. The library's own would lack features that nested columns need."""
    columns = orjson.loads(deltalake.Schema.from_arrow(schema).to_json())
    protocol: dict[str, Any] = {"minReaderVersion": 1, "minWriterVersion": 2}
    if uses_type(columns, "timestamp_ntz"):
        features = ["timestampNtz"]
        protocol = {"minReaderVersion": 3, "minWriterVersion": 7}
        protocol |= {"readerFeatures": features, "writerFeatures": features}
    metadata = {
        "id": str(uuid.uuid4()),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": orjson.dumps(columns).decode(),
        "partitionColumns": list(partition_by),
        "configuration": dict(configuration or {}),
    }
    log = folder / paths.DELTA_LOG_FOLDER
    log.mkdir(parents=True)
    lines = [orjson.dumps({"protocol": protocol}), orjson.dumps({"metaData": metadata})]
    (log / f"{0:020}.json").write_bytes(b"\n".join(lines) + b"\n")


class _Watched:
    """Batches for the library. It reports an error in them by its text only, so the error itself is kept here.

    `unbounded`: the floating-point columns, and fields of structs, that hold NaN, with their types.
    """

    def __init__(self, rows: Iterator[pa.RecordBatch]) -> None:
        self._rows = rows
        self.error: BaseException | None = None
        self.unbounded: dict[tuple[str, ...], pa.DataType] = {}

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._rows:
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    self._look(column, (name,))
                yield batch
        except BaseException as error:
            self.error = error
            raise

    def _look(self, column: pa.Array, path: tuple[str, ...]) -> None:
        if pa.types.is_struct(column.type):
            for field_, inner in zip(column.type, column.flatten(), strict=True):
                self._look(inner, (*path, field_.name))
        elif pa.types.is_floating(column.type) and path not in self.unbounded and pc.any(pc.is_nan(column)).as_py():
            self.unbounded[path] = column.type


def _widened(stats: str | None, path: tuple[str, ...], kind: pa.DataType) -> str | None:
    """Return a file's statistics with the widest bounds of a column that may hold NaN.

    The library leaves NaN out of the bounds, so readers would skip rows with NaN, which is greater than any number.
    No bound at all would be correct, too, but delta-rs's own Arrow dataset skips a file that lacks a bound.
    A bound that is missing because it is an infinity, which JSON does not have, stays so: then readers use neither.
    """
    if stats is None:
        return None
    told = orjson.loads(stats)
    most = float(np.finfo(np.float32 if pa.types.is_float32(kind) else np.float64).max)
    held = []
    for member in ("nullCount", "minValues", "maxValues"):
        inner = told.setdefault(member, {})
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        held.append(inner)
    nulls, least, greatest = held
    name = path[-1]
    infinite = any(one.get(name, 0.0) is None for one in (least, greatest))
    if infinite or name not in nulls or nulls[name] == told["numRecords"]:
        return stats
    least[name], greatest[name], told["tightBounds"] = -most, most, False
    return orjson.dumps(told).decode()


def target_file_bytes(settings: Mapping[str, str]) -> int:
    """Return the target size of a table's data files."""
    return table_properties.bytes_of(settings.get(table_properties.TARGET_FILE_SIZE, "")) or TARGET_FILE_BYTES


def writer_properties(settings: Mapping[str, str]) -> deltalake.WriterProperties:
    """Return the Parquet writer's properties for a table with these settings."""
    codec = settings.get(table_properties.CODEC, "snappy").lower()
    return deltalake.WriterProperties(compression=table_properties.CODECS[codec])


def rewriting_properties(
    table: deltalake.DeltaTable, schema: pa.Schema, assigned: Mapping[str, pa.ChunkedArray | None]
) -> deltalake.WriterProperties:
    """Return the Parquet writer's properties for files that delta-rs itself commits, so that none has wrong bounds.

    `assigned`: the columns that get new values, with these if they are known. A column of decimals that delta-rs would
    round gets no bounds. For others none is left out, because delta-rs's Arrow dataset skips a file that lacks one.
    """
    metadata = table.metadata()
    columns = {
        path[0]: kind
        for path, kind in wide_decimals(schema)
        if len(path) == 1 and path[0] not in metadata.partition_columns
    }
    made = writer_properties(metadata.configuration)
    if not columns:
        return made
    files = pa.table(table.get_add_actions(flatten=True))
    rounded = {
        name: deltalake.ColumnProperties(statistics_enabled="NONE")
        for name, kind in columns.items()
        if may_be_rounded(files, name, kind)
        or (name in assigned and ((values := assigned[name]) is None or not fits_exactly(values, kind)))
    }
    if rounded:
        made.column_properties = rounded
    return made


def has_loose_bounds(kind: pa.DataType) -> bool:
    """Say whether a type is, or contains, one of whose values delta-rs tells wrong bounds in a file's statistics.

    These are floating-point numbers, of which NaN is left out, and decimals of many digits, which are rounded.
    """
    if pa.types.is_nested(kind):
        return any(has_loose_bounds(kind.field(index).type) for index in range(kind.num_fields))
    return bool(pa.types.is_floating(kind)) or is_wide(kind)


def check_settings(settings: Mapping[str, str], table: str) -> None:
    """Raise `Refused` for a table property about writing files that this client does not support."""
    found = table_properties.problem_for_writer(settings)
    if found is not None:
        name, problem, remedy = found
        raise refused(
            Code.UNSUPPORTED_FEATURE,
            f"table {table!r} has the property {name}={settings[name]!r}, which {problem}",
            field=name,
            value=settings[name],
            remedy=f"Set the property anew ({remedy}), or write this table with the engine that set it.",
        )


def _add(add: dict[str, Any], path: str) -> dict[str, Any]:
    """Return an action with its path in the table, without empty members."""
    return {name: value for name, value in add.items() if value is not None} | {"path": path}


def flush(names: Sequence[str], folder: Path) -> None:
    """Flush files and folders, by path, to the disk; raises `OSError`. `folder`: one on their file system.

    All at once, because a file system serves several flushes with one write.
    """
    if len(names) > FLUSHED_ONE_BY_ONE and _flush_file_system(folder):
        return
    with ThreadPoolExecutor(FLUSHED_AT_ONCE, thread_name_prefix="springline-flush") as pool:
        list(pool.map(_flush, names))


def _flush(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_file_system(folder: Path) -> bool:
    """Flush a folder's whole file system in one call; False if there is no such call (syncfs)."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        if call(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)
    return True
