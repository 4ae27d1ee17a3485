"""The rows of a shard's tables between fold and assembly: Arrow streams, which cost less to write and read than files.

They are read once, by whoever assembles the base, and are in no order: the base is sorted as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def merged(table: Table, streams: Iterable[bytes]) -> bytes:
    """Return the Parquet file that holds the rows of several streams, whose keys differ.

    Raises `InvariantViolated` for bytes that are no stream.
    """
    parts = [_read(data) for data in streams]
    empty = arrow_columns(table, [])
    return encode_arrow(table, sorted_by_key(table, pa.concat_tables([empty, *parts])))


def _read(data: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(pa.BufferReader(data)) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError) as error:
        raise InvariantViolated(f"no stream of rows: {error}") from error
