"""Random filters find the same rows in every reader, whatever statistics and partition values let it leave out."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.client import Springline
from tests.client.filters import FILTERED, READERS, Filter, filtered
from tests.client.test_round_trip import OPTIONS, fresh


def written(lake: Springline, rows: pa.Table, *, partition: bool) -> str:
    """Append the rows as three files or more, smallest values first, so that a reader can leave files out.

    Returns the location.
    """
    table = fresh(lake, rows.schema, partition_by=["c"] if partition else [])
    ordered = rows if partition else rows.sort_by("c")
    third = max(1, -(-ordered.num_rows // 3))
    for start in range(0, ordered.num_rows, third):
        table.append(ordered.slice(start, third))
    return table.location


def check(location: str, rows: pa.Table, filters: list[Filter]) -> None:
    values = rows["c"].to_pylist()
    # A file's bounds hold neither infinities, which JSON lacks, nor NaN. delta-rs's Arrow dataset rules such files out.
    unbounded = any(isinstance(value, float) and not math.isfinite(value) for value in values)
    for one in filters:
        wanted = one.finds(values)
        for name, reader in READERS.items():
            if name != "pyarrow" or not unbounded:
                assert reader(one, location) in wanted, (name, one)


@pytest.mark.parametrize("partition", [False, True], ids=["data", "partition"])
@pytest.mark.parametrize("kind", FILTERED)
@settings(OPTIONS, max_examples=2)
@given(st.data())
def test_a_filter_finds_the_same_rows_in_every_reader(
    lake: Springline, kind: str, partition: bool, data: st.DataObject
) -> None:
    rows, filters = data.draw(filtered(kind, partition=partition))
    check(written(lake, rows, partition=partition), rows, filters)


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("partition", [False, True], ids=["data", "partition"])
@pytest.mark.parametrize("kind", FILTERED)
@settings(OPTIONS, max_examples=40)
@given(st.data())
def test_a_filter_finds_the_same_rows_in_every_reader_at_length(
    lake: Springline, kind: str, partition: bool, data: st.DataObject
) -> None:
    rows, filters = data.draw(filtered(kind, partition=partition))
    check(written(lake, rows, partition=partition), rows, filters)
