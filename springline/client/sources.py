"""Users' data as a stream of Arrow batches: frames, readers, queries, Python rows, generators of any of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from springline.client.plain import bad_column, check_names
from springline.client.python_values import array_of, check_times, holds_objects
from springline.errors import Code, Refused, refused

READ_ROWS = 131_072
"""Rows that are read at a time from a source with adjustable batches."""
SLICE_ROWS = 1_048_576
"""Rows of one batch at most: a row group. Each batch changes threads several times, so few are better than many."""
SLICE_BYTES = 32 * 1024 * 1024
"""The most bytes of a batch, unless one row has more."""
SMALL_ROWS = 16_384
"""Smaller batches are joined, so that a stream of tiny ones does not cost more than one of large ones."""
PYTHON_ROWS = 8_192

_TAKEN = (
    "Pass a pyarrow table, batch or reader, a pandas or polars frame, a DuckDB relation, a dict of columns, a list of "
    "dicts, an object with __arrow_c_stream__, or an iterator of such."
)


def batches(data: Any) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `data` in their order, in batches of moderate size, which need not have one schema.

    Nothing is read before the caller takes the first batch. Raises `Refused` for data that is not rows, and the errors
    of reading the caller's own data.
    """
    return _joined(piece for batch in _raw(data) if batch.num_rows for piece in _cut(batch))


def schema_of(data: Any) -> pa.Schema:
    """Return the Arrow schema of `data` without reading its rows; raises `Refused` for an iterator, which has none."""
    if isinstance(data, pa.Schema):
        return data
    if isinstance(getattr(data, "schema", None), pa.Schema):
        return data.schema
    if isinstance(data, Iterator):
        raise _unreadable(data)
    if _library(data) == "polars" and hasattr(data, "collect_schema"):
        data = data.head(0) if not hasattr(data, "collect") else data.head(0).collect()
    found = None
    for batch in _raw(data):
        found = batch.schema if found is None else pa.unify_schemas([found, batch.schema], promote_options="permissive")
    if found is None:
        raise _unreadable(data)
    return found


def _raw(data: Any) -> Iterator[pa.RecordBatch]:
    """Yield the batches of `data` unchanged."""
    library = _library(data)
    if isinstance(data, pa.RecordBatch):
        yield data
    elif isinstance(data, pa.Table):
        yield from data.to_reader()
    elif isinstance(data, pa.RecordBatchReader):
        yield from data
    elif library == "pandas":
        yield from _pandas(data)
    elif library == "polars" and hasattr(data, "collect_batches"):
        for frame in data.collect_batches(maintain_order=True):
            yield from _stream(frame)
    elif library in ("duckdb", "_duckdb") and hasattr(data, "to_arrow_reader"):
        yield from data.to_arrow_reader(READ_ROWS)
    elif library == "pyarrow" and hasattr(data, "to_batches"):
        yield from data.to_batches()
    elif hasattr(data, "__arrow_c_stream__"):
        yield from _stream(data)
    elif hasattr(data, "__arrow_c_array__"):
        yield pa.record_batch(data)
    elif isinstance(data, Mapping):
        yield from _columns(data)
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes, bytearray, memoryview)):
        yield from _items(data)
    else:
        raise _unreadable(data)


def _library(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


def _stream(data: Any) -> Iterator[pa.RecordBatch]:
    """Yield the batches of an object's Arrow C stream; a type that Arrow does not have is refused."""
    try:
        reader = pa.RecordBatchReader.from_stream(data)
    except BaseException as error:
        # A library's panic derives from BaseException.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise refused(
            Code.INVALID_REQUEST,
            f"the data cannot be read as Arrow: {error}",
            field="data",
            value=type(data).__name__,
            remedy="Cast the columns that hold Python objects or other types that Arrow does not have.",
        ) from error
    yield from reader


def _pandas(frame: Any) -> Iterator[pa.RecordBatch]:
    """Yield a pandas frame slice by slice, so that there is never a second copy of it.

    Index levels with a name become columns, such as the key of a `groupby` or `set_index`; one without a
    name only numbers the rows.
    """
    if getattr(frame, "ndim", 2) != 2:
        frame = frame.to_frame()
    levels = [level for level, name in enumerate(frame.index.names) if name is not None]
    names = [str(name) for name in [*(frame.index.names[level] for level in levels), *frame.columns]]
    check_names(pa.schema([(name, pa.null()) for name in names]))
    for start in range(0, max(len(frame), 1), READ_ROWS):
        part = frame.iloc[start : start + READ_ROWS]
        if levels:
            part = part.reset_index(levels if len(levels) < frame.index.nlevels else None)
        try:
            table = pa.Table.from_pandas(part, preserve_index=False)
        except (ValueError, TypeError, pa.ArrowNotImplementedError) as error:
            raise _objects(error, names) from error
        for position, field in enumerate(table.schema):
            column = part.iloc[:, position]
            if holds_objects(column):
                check_times(field.name, column, field.type)
        yield from table.replace_schema_metadata(None).to_batches()


def _columns(data: Mapping[Any, Any]) -> Iterator[pa.RecordBatch]:
    """Yield a mapping of column names to lists."""
    arrays: dict[str, Any] = {str(name): array_of(str(name), values) for name, values in data.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        first = next(iter(lengths))
        other = next(name for name, length in lengths.items() if length != lengths[first])
        problem = f"has {lengths[other]} rows, and column {first!r} has {lengths[first]}"
        raise bad_column(other, problem, lengths[other], "Give all columns equally many rows.")
    yield from pa.table(arrays).to_batches()


def _items(data: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    """Yield rows from an iterable of dicts, frames, or other data that has rows."""
    stream = iter(data)
    for item in stream:
        if not isinstance(item, Mapping):
            if isinstance(item, (list, tuple, str, bytes, int, float)) or item is None:
                raise _unreadable(data)
            yield from _raw(item)
            continue
        rows = [item]
        for another in stream:
            if not isinstance(another, Mapping):
                yield from _rows(rows)
                rows = []
                yield from _raw(another)
                continue
            rows.append(another)
            if len(rows) == PYTHON_ROWS:
                yield from _rows(rows)
                rows = []
        yield from _rows(rows)


def _rows(rows: Sequence[Mapping[Any, Any]]) -> Iterator[pa.RecordBatch]:
    """Yield rows given as dicts; a missing key is null."""
    if not rows:
        return
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    yield from pa.table(
        {str(name): array_of(str(name), [row.get(name) for row in rows]) for name in names}
    ).to_batches()


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield a batch in slices of moderate size, without copying."""
    rows = batch.num_rows
    if rows <= SMALL_ROWS and batch.nbytes <= SLICE_BYTES:
        yield batch
        return
    weight = max(1, weight_of(batch) // rows)
    step = max(1, min(SLICE_ROWS, SLICE_BYTES // weight))
    for start in range(0, rows, step):
        yield batch.slice(start, step)


def weight_of(batch: pa.RecordBatch) -> int:
    """Return about how many bytes the rows of a batch take, including texts in shared buffers."""
    views = [
        column
        for column in batch.columns
        if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type)
    ]
    return int(batch.nbytes) + sum(_text_bytes(column) for column in views)


def _text_bytes(column: pa.Array) -> int:
    sizes = [0 if buffer is None else buffer.size for buffer in column.buffers()[2:]]
    return sum(sizes)


def _joined(pieces: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join small batches of one schema."""
    held: list[pa.RecordBatch] = []
    rows = weight = 0
    for piece in pieces:
        if held and (not piece.schema.equals(held[0].schema) or weight + piece.nbytes > SLICE_BYTES):
            yield _concatenated(held)
            held, rows, weight = [], 0, 0
        if not held and piece.num_rows >= SMALL_ROWS:
            yield piece
            continue
        held.append(piece)
        rows += piece.num_rows
        weight += int(piece.nbytes)
        if rows >= SMALL_ROWS or weight >= SLICE_BYTES:
            yield _concatenated(held)
            held, rows, weight = [], 0, 0
    if held:
        yield _concatenated(held)


def _concatenated(held: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(held) == 1:
        return held[0]
    try:
        return pa.concat_batches(held)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # Some forms, such as views and different dictionaries, cannot be joined directly.
        return pa.Table.from_batches(held).unify_dictionaries().combine_chunks().to_batches()[0]


def _objects(error: Exception, names: Sequence[str]) -> Refused:
    text = str(error)
    column = next((name for name in names if f"column {name} " in text), None)
    return refused(
        Code.INVALID_REQUEST,
        f"the data cannot be read as Arrow: {text}",
        field="data" if column is None else f"data.{column}",
        value=column,
        remedy="Give each column values of one type that Arrow has.",
    )


def _unreadable(data: Any) -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        f"cannot read data of type {type(data).__name__}",
        field="data",
        value=type(data).__name__,
        remedy=_TAKEN,
    )
