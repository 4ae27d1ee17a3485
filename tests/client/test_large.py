"""Columns larger than one Arrow array of 32-bit offsets can be."""

from __future__ import annotations

import uuid

import deltalake
import polars as pl
import pyarrow as pa
import pytest

from springline.client import Springline

PIECE = "x" * 1_000_000


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rows", [2_300, 4_400])
def test_a_text_column_of_more_than_two_gigabytes_is_written(lake: Springline, rows: int) -> None:
    table = lake.create_table(f"t-{uuid.uuid4().hex[:12]}", pa.schema([("n", pa.int64()), ("text", pa.string())]))
    frame = pl.DataFrame({"n": range(rows)}).with_columns(text=pl.lit(PIECE) + pl.col("n").cast(pl.String))
    frame = frame.rechunk()
    assert table.append(frame, key="large").rows == rows
    assert table.append(frame.to_arrow(), key="large").version == 1
    dataset = deltalake.DeltaTable(table.location).to_pyarrow_dataset()
    read = 0
    for batch in dataset.to_batches(batch_size=64):
        for number, text in zip(batch["n"].to_pylist(), batch["text"].to_pylist(), strict=True):
            assert text == PIECE + str(number)
            read += 1
    assert read == rows


def test_a_batch_whose_texts_do_not_fit_one_array_is_cut(monkeypatch: pytest.MonkeyPatch, lake: Springline) -> None:
    """As above, with a limit that a test can afford to pass."""
    from springline.client import plain

    monkeypatch.setattr(plain, "STRING_BYTES", 100)
    table = lake.create_table(
        f"t-{uuid.uuid4().hex[:12]}", pa.schema([("n", pa.int64()), ("l", pa.list_(pa.string()))])
    )
    rows = pa.table({"n": range(20), "l": pa.array([["y" * 30] * 3] * 20, pa.large_list(pa.large_string()))})
    assert table.append(rows).rows == 20
    read = pa.table(deltalake.DeltaTable(table.location).to_pyarrow_table()).sort_by("n")
    assert read.to_pylist() == rows.to_pylist()
