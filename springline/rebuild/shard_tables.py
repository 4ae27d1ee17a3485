"""The rows of a shard's tables between fold and assembly: Arrow streams, which cost less to write and read than files.

They are read once, by whoever assembles the base, and are in no order: the base is sorted as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from springline.errors import InvariantViolated
from springline.projection.parquet import arrow_columns, encode_arrow, rows_of_arrow, sorted_by_key
from springline.projection.schema import Row, Table

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def encode_rows(table: Table, rows: Sequence[Row]) -> bytes:
    """Return the stream that holds `rows`, in their order; raises as `arrow_columns`."""
    content = arrow_columns(table, rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, content.schema, options=_OPTIONS) as writer:
        writer.write_table(content)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode_rows(data: bytes) -> list[Row]:
    """Return the rows of a stream. Raises `InvariantViolated` for bytes that are none."""
    return rows_of_arrow(_read(data))


def merged(table: Table, streams: list[bytes]) -> bytes:
    """Return the Parquet file that holds the rows of several streams, whose keys differ; `streams` is emptied.

    What is not needed any more is let go on the way: tables may be large. Raises `InvariantViolated` for bytes that
    are no stream.
    """
    content = pa.concat_tables([arrow_columns(table, []), *_all_of(streams)])
    content = sorted_by_key(table, content)
    data = encode_arrow(table, content)
    del content
    pa.default_memory_pool().release_unused()
    return data


def _all_of(streams: list[bytes]) -> Iterator[pa.Table]:
    while streams:
        yield _read(streams.pop())


def _read(data: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(pa.BufferReader(data)) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError) as error:
        raise InvariantViolated(f"no stream of rows: {error}") from error
