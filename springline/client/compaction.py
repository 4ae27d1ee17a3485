"""Optimize: small files become large ones, or rows are sorted along a Z-order curve, without changing any row.

delta-rs's own optimize commits without the `txn` that makes an operation happen once. So the rows of the files in
question are written by delta-rs into a scratch table in a folder of the table's root, Z-ordered there where that is
asked for, and one commit on the table itself takes the old files out and the new ones in. It loses against every commit
that takes one of the old files out before it, and stands beside appends.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.dataset as pads
import uuid_utils

from springline import paths
from springline.client.changes import Change, Commit, Metrics
from springline.client.expressions import column_of
from springline.client.reading import Reached
from springline.errors import Code, InvariantViolated, refused
from springline.storage.delta_uri import delta_uri

if TYPE_CHECKING:
    from deltalake import DeltaTable

TARGET_SIZE = 100 * 1024 * 1024
"""Bytes of a file that is large enough, where neither the caller nor the table says it."""
SMALLEST_TARGET = 1024
_TARGET_PROPERTY = "delta.targetFileSize"


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int
    rows: int | None


def optimize(reached: Reached, z_order: Sequence[str], target_size: int | None) -> Change:
    """Return the operation that rewrites small files as large ones, or all files in Z-order of columns."""
    if target_size is not None and (
        isinstance(target_size, bool) or not isinstance(target_size, int) or target_size < SMALLEST_TARGET
    ):
        raise refused(
            Code.INVALID_REQUEST,
            f"target_size is not a number of bytes from {SMALLEST_TARGET} on",
            field="target_size",
            value=target_size,
            remedy="Give the size of a large file in bytes, such as 100_000_000.",
        )
    columns = [z_order] if isinstance(z_order, str) else list(z_order)

    def check(table: DeltaTable, schema: pa.Schema) -> None:
        partitions = table.metadata().partition_columns
        for name in columns:
            column = column_of(schema, name, field="z_order")
            if name in partitions or pa.types.is_nested(column.type):
                raise refused(
                    Code.INVALID_REQUEST,
                    f"column {name!r} is {'a partition column' if name in partitions else f'of type {column.type}'}, "
                    "which no file is sorted by",
                    field="z_order",
                    value=name,
                    remedy="Sort by plain columns that are not partition columns.",
                )

    def run(table: DeltaTable, commit: Commit) -> Metrics:
        target = target_size or _table_target(table)
        chosen = _chosen(table, target, everything=bool(columns))
        if not chosen:
            return {"numFilesAdded": 0, "numFilesRemoved": 0}
        scratch = _Scratch(reached, table)
        try:
            adds = scratch.rewrite(chosen, columns, target)
            return _commit(table, commit, chosen, adds)
        finally:
            scratch.forget()

    arguments = {"z_order": columns, "target_size": target_size}
    return Change("optimize", arguments, check, run, changes_rows=False, field="z_order")


def _table_target(table: DeltaTable) -> int:
    text = table.metadata().configuration.get(_TARGET_PROPERTY, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) >= SMALLEST_TARGET else TARGET_SIZE


def _chosen(table: DeltaTable, target: int, *, everything: bool) -> list[_File]:
    """Return the files to be rewritten, by partition: all of them, or those that fill larger ones together."""
    by_partition: defaultdict[str, list[_File]] = defaultdict(list)
    for row in pa.table(table.get_add_actions()).to_pylist():
        # By its text: a NaN is not equal to itself, and its partition must still be one.
        partition = repr(row.get("partition"))
        by_partition[partition].append(_File(unquote(row["path"]), row["size_bytes"], row.get("num_records")))
    chosen: list[_File] = []
    for files in by_partition.values():
        if everything:
            chosen += files
            continue
        for together in _bins([file for file in files if file.size < target], target):
            chosen += together
    return chosen


def _bins(files: Sequence[_File], target: int) -> Iterator[list[_File]]:
    """Yield runs of two files and more that are not larger together than one file shall be, in order."""
    run: list[_File] = []
    size = 0
    for file in files:
        if run and size + file.size > target:
            if len(run) > 1:
                yield run
            run, size = [], 0
        run.append(file)
        size += file.size
    if len(run) > 1:
        yield run


class _Scratch:
    """A table of its own in a folder of the root, whose files become the table's."""

    def __init__(self, reached: Reached, table: DeltaTable) -> None:
        self._reached = reached
        self._table = table
        self._folder = f"optimize-{uuid_utils.uuid7()}"
        self._root = f"{reached.root}/{self._folder}"

    def rewrite(self, files: Sequence[_File], z_order: Sequence[str], target: int) -> list[dict[str, Any]]:
        """Write the rows of `files` anew; return the `add` actions of the new files, relative to the table's root."""
        from deltalake import DeltaTable, write_deltalake  # noqa: PLC0415

        dataset = self._table.to_pyarrow_dataset()
        fragments = {fragment.path: fragment for fragment in dataset.get_fragments()}
        chosen = pads.FileSystemDataset(
            [fragments[file.path] for file in files], dataset.schema, dataset.format, dataset.filesystem
        )
        uri, options = delta_uri(self._reached.store, self._root)
        metadata = self._table.metadata()
        write_deltalake(
            uri,
            pa.RecordBatchReader.from_batches(dataset.schema, chosen.to_batches()),
            partition_by=metadata.partition_columns or None,
            target_file_size=target,
            configuration=_statistics_of(metadata.configuration),
            storage_options=options or None,
        )
        version = 0
        if z_order:
            sorted_ = DeltaTable(uri, storage_options=options or None)
            sorted_.optimize.z_order(list(z_order), target_size=target)
            version = sorted_.version()
        adds = self._adds(version)
        if version:
            kept = {add["path"] for add in adds}
            self._delete([path for path in (add["path"] for add in self._adds(0)) if path not in kept])
        self._check(files, adds)
        for add in adds:
            add["path"] = f"{self._folder}/{unquote(add['path'])}"
        return adds

    def forget(self) -> None:
        """Remove the scratch table's log: its files are the table's now, or vacuum's."""
        logs = [paths.delta_log(self._root, version) for version in range(2)]
        self._reached.loop.run(_remove(self._reached, logs))

    def _adds(self, version: int) -> list[dict[str, Any]]:
        (log,) = self._reached.loop.run(self._reached.store.read_many([paths.delta_log(self._root, version)]))
        lines = [orjson.loads(line) for line in (log or b"").split(b"\n") if line.strip()]
        return [line["add"] for line in lines if "add" in line]

    def _delete(self, files: Sequence[str]) -> None:
        names = [paths.relative_path(f"{self._root}/{unquote(path)}") for path in files]
        self._reached.loop.run(_remove(self._reached, names))

    @staticmethod
    def _check(files: Sequence[_File], adds: Sequence[dict[str, Any]]) -> None:
        """Raise `InvariantViolated` unless as many rows were written as read: nothing is committed then."""
        written = sum(orjson.loads(add["stats"])["numRecords"] for add in adds)
        known = [file.rows for file in files if file.rows is not None]
        if len(known) == len(files) and sum(known) != written:
            raise InvariantViolated(f"{sum(known)} rows were read to be rewritten, and {written} were written")


async def _remove(reached: Reached, names: Sequence[paths.ObjectPath]) -> None:
    for name in names:
        found = await reached.store.head(name)
        if found is not None:
            await reached.store.delete(name, if_version=found.version)


def _statistics_of(configuration: dict[str, str]) -> dict[str, str | None]:
    """Return the properties that say which statistics files carry."""
    return {name: value for name, value in configuration.items() if name.startswith("delta.dataSkipping")}


def _commit(table: DeltaTable, commit: Commit, files: Sequence[_File], adds: Sequence[dict[str, Any]]) -> Metrics:
    from deltalake.transaction import AddAction, RemoveAction  # noqa: PLC0415

    now_ms = int(time.time() * 1000)
    removed = [RemoveAction(file.path, False, now_ms, file.size) for file in files]
    added = [AddAction(add["path"], add["size"], add["partitionValues"], now_ms, False, add["stats"]) for add in adds]
    metrics: Metrics = {
        "numFilesAdded": len(added),
        "numFilesRemoved": len(removed),
        "bytesAdded": sum(add["size"] for add in adds),
        "bytesRemoved": sum(file.size for file in files),
    }
    commit.write(table, [*removed, *added], metrics=metrics)
    return metrics
