"""Optimize: small files become large ones, or rows are sorted along a Z-order curve, without changing any row.

delta-rs's own optimize commits without the `txn` that makes an operation happen once. So delta-rs writes the rows of
the chosen files into a scratch table, and one commit on the table itself removes the old files and adds the new ones.
It conflicts with every earlier commit that removed one of the old files, and not with appends. delta-rs would overlook
another optimize among those commits, so each is looked at here.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as pads

from springline.client.changes import Commit, Metrics, TableOperation
from springline.client.expressions import column_of
from springline.client.partitions import partition_texts, values_of_files
from springline.client.plain import plain
from springline.client.reading import Reached
from springline.client.scratch import Files, Scratch, create_folder_table, target_file_bytes, writer_properties
from springline.delta.properties import TARGET_FILE_SIZE
from springline.errors import Code, InvariantViolated, refused

if TYPE_CHECKING:
    from deltalake import DeltaTable

SMALLEST_TARGET = 1024


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int
    rows: int | None
    values: dict[str, str | None] | None


def optimize(reached: Reached, z_order: Sequence[str], target_size: int | None) -> TableOperation:
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
        settings = table.metadata().configuration
        if target_size is not None:
            settings = settings | {TARGET_FILE_SIZE: str(target_size)}
        chosen = _chosen(table, target_file_bytes(settings), everything=bool(columns))
        if not chosen:
            return {"numFilesAdded": 0, "numFilesRemoved": 0}
        scratch = Scratch(reached.place, reached.stores, commit.key)
        with ExitStack() as stack:
            # The commit may exist even after an error; then its log names these files, and they must stay.
            files = _rewritten(table, chosen, columns, settings, scratch, stack)
            return _commit(table, commit, chosen, files)

    arguments = {"z_order": columns, "target_size": target_size}
    return TableOperation(
        "optimize", arguments, check, run, changes_rows=False, field="z_order", writes_no_rows=lambda *_: True
    )


def _chosen(table: DeltaTable, target: int, *, everything: bool) -> list[_File]:
    """Return the files to rewrite, by partition: all of them, or those that together make larger ones."""
    by_partition: defaultdict[str, list[_File]] = defaultdict(list)
    found = pa.table(table.get_add_actions())
    told = values_of_files(found, table.metadata().partition_columns)
    for row, values in zip(found.to_pylist(), told, strict=True):
        # By its text: a NaN is not equal to itself, but its rows must be one partition.
        partition = repr(row.get("partition"))
        by_partition[partition].append(_File(unquote(row["path"]), row["size_bytes"], row.get("num_records"), values))
    chosen: list[_File] = []
    for files in by_partition.values():
        if everything:
            chosen += files
            continue
        for together in _bins([file for file in files if file.size < target], target):
            chosen += together
    return chosen


def _bins(files: Sequence[_File], target: int) -> Iterator[list[_File]]:
    """Yield runs of at least two files, in order, whose total size is at most `target`."""
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


def _rewritten(
    table: DeltaTable,
    chosen: Sequence[_File],
    z_order: Sequence[str],
    settings: dict[str, str],
    scratch: Scratch,
    stack: ExitStack,
) -> Files:
    """Write the rows of `chosen` into `scratch`; raises `InvariantViolated` if not as many were written as read."""
    dataset = table.to_pyarrow_dataset()
    fragments = {fragment.path: fragment for fragment in dataset.get_fragments()}
    rows = pads.FileSystemDataset(
        [fragments[file.path] for file in chosen], dataset.schema, dataset.format, dataset.filesystem
    )
    partition_by = table.metadata().partition_columns
    schema = pa.schema([field.with_type(pa.string()) if field.name in partition_by else field for field in rows.schema])
    stream = _texts(rows.to_batches(), schema, partition_by)
    if z_order:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="springline-optimize-"))
        stream = _sorted(folder, stream, schema, partition_by, z_order, settings)
    files = scratch.write(schema, stream, partition_by, settings)
    known = [file.rows for file in chosen if file.rows is not None]
    if len(known) == len(chosen) and sum(known) != files.rows:
        scratch.discard()
        raise InvariantViolated(f"{sum(known)} rows were read to be rewritten, and {files.rows} were written")
    return files


def _texts(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, partition_by: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Yield batches with the texts of their partition values, the form in which the files' actions have them."""
    for batch in batches:
        columns = [
            partition_texts(plain(column, name), name) if name in partition_by else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _sorted(
    folder: str,
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    partition_by: Sequence[str],
    z_order: Sequence[str],
    settings: dict[str, str],
) -> Iterator[pa.RecordBatch]:
    """Return the rows of `batches`, each partition sorted along the curve by delta-rs in a folder of this machine.

    The rows are sorted when this returns, because the library cannot be called while it pulls rows from us. It takes a
    point in a column's name for a field's, and does not find files in a folder such as `p=~`: so columns and partition
    values have numbers for names there.
    """
    from deltalake import DeltaTable, write_deltalake  # noqa: PLC0415

    place = str(Path(folder) / "table")
    names = {name: f"c{number}" for number, name in enumerate(schema.names)}
    numbered = pa.schema([field.with_name(names[field.name]) for field in schema])
    numbers: dict[str | None, str | None] = {None: None}

    def number(text: str | None) -> str | None:
        return numbers.setdefault(text, str(len(numbers)))

    create_folder_table(Path(place), numbered, [names[name] for name in partition_by])
    given = _exchanged(batches, numbered, [names[name] for name in partition_by], number)
    write_deltalake(place, pa.RecordBatchReader.from_batches(numbered, given), mode="append")
    table = DeltaTable(place)
    table.optimize.z_order(
        [names[name] for name in z_order],
        target_size=target_file_bytes(settings),
        writer_properties=writer_properties(settings),
    )
    texts = {code: text for text, code in numbers.items()}
    return _exchanged(table.to_pyarrow_dataset().to_batches(), schema, partition_by, texts.__getitem__)


def _exchanged(
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    partition_by: Sequence[str],
    exchange: Callable[[str | None], str | None],
) -> Iterator[pa.RecordBatch]:
    """Yield batches in another schema of the same columns, with the texts of partition values exchanged."""
    for batch in batches:
        columns = []
        for name, column in zip(schema.names, batch.columns, strict=True):
            one = plain(column, name)
            if name in partition_by:
                coded = one.dictionary_encode(null_encoding="encode")
                one = pa.array([exchange(text) for text in coded.dictionary.to_pylist()], pa.string())
                one = one.take(coded.indices)
            columns.append(one)
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _commit(table: DeltaTable, commit: Commit, chosen: Sequence[_File], files: Files) -> Metrics:
    from deltalake.exceptions import CommitFailedError  # noqa: PLC0415
    from deltalake.transaction import AddAction, RemoveAction  # noqa: PLC0415

    now_ms = int(time.time() * 1000)
    removed = [RemoveAction(file.path, False, now_ms, file.size, file.values) for file in chosen]
    added = [
        AddAction(unquote(add["path"]), add["size"], add["partitionValues"], now_ms, False, add["stats"])
        for add in files.adds
    ]
    metrics: Metrics = {
        "numFilesAdded": len(added),
        "numFilesRemoved": len(removed),
        "bytesAdded": files.bytes,
        "bytesRemoved": sum(file.size for file in chosen),
    }

    def replacement() -> tuple[list[Any], Metrics]:
        there = {unquote(path) for path in pa.table(table.get_add_actions()).column("path").to_pylist()}
        if not there.issuperset(file.path for file in chosen):
            raise CommitFailedError("another commit has removed files that were rewritten here")
        return [*removed, *added], metrics

    return commit.replace(table, replacement)
