"""Data files and payloads of the client are a pure function of rows and key, and readers find the rows again."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from springline.client.files import append_payload, data_files, key_time_ms, statistics
from springline.client.frames import arrow_schema, conform, delta_columns, partition_text, to_arrow
from springline.delta.payload import check_blind_append, parse_payload
from springline.errors import Code, Refused

KEY = "01946b1c-0000-7000-8000-000000000001"


def struct(schema: pa.Schema) -> dict[str, Any]:
    return {"type": "struct", "fields": delta_columns(schema)}


@pytest.mark.parametrize("frame", ["arrow", "batch", "reader", "pandas", "polars"])
def test_every_kind_of_frame_becomes_the_same_rows(frame: str) -> None:
    rows = pa.table({"a": [1, 2], "b": ["x", None]})
    given_ = {
        "arrow": rows,
        "batch": rows.to_batches()[0],
        "reader": rows.to_reader(),
        "pandas": rows.to_pandas(),
        "polars": pl.from_arrow(rows),
    }[frame]
    arrow = to_arrow(given_)
    schema = arrow_schema(struct(arrow.schema))
    assert conform(arrow, schema).to_pylist() == rows.to_pylist()


def test_other_objects_are_refused_by_type() -> None:
    with pytest.raises(Refused) as caught:
        to_arrow([1, 2, 3])
    assert caught.value.refusal.code is Code.INVALID_REQUEST
    assert caught.value.refusal.value == "list"


SCHEMA = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.string())])


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        ({"a": [1], "c": [2]}, "data.c"),
        ({"b": ["x"]}, "data.a"),
        ({"a": pa.array([None], pa.int64())}, "data.a"),
        ({"a": [1.5]}, "data.a"),
        ({"a": ["one"]}, "data.a"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_column(rows: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as caught:
        conform(pa.table(rows), SCHEMA)
    assert caught.value.refusal.field == field
    assert caught.value.refusal.remedy


def test_a_missing_nullable_column_becomes_null_and_safe_casts_are_made() -> None:
    fitted = conform(pa.table({"a": pa.array([1], pa.int32())}), SCHEMA)
    assert fitted.to_pylist() == [{"a": 1, "b": None}]


def test_the_same_rows_and_key_make_the_same_bytes() -> None:
    rows = pa.table({"a": list(range(100)), "p": [i % 3 for i in range(100)]})
    first = data_files(rows, ["p"], KEY)
    again = data_files(pa.Table.from_pandas(rows.to_pandas(), preserve_index=False), ["p"], KEY)
    assert [file.name for file in first] == [file.name for file in again]
    assert append_payload(first, KEY, ["p"]) == append_payload(again, KEY, ["p"])
    assert [file.add["partitionValues"] for file in first] == [{"p": "0"}, {"p": "1"}, {"p": "2"}]


def test_the_payload_is_a_blind_append_that_carries_its_key() -> None:
    payload = parse_payload(append_payload(data_files(pa.table({"a": [1]}), [], KEY), KEY, []))
    check_blind_append(payload)
    assert payload.commit_info is not None
    assert payload.commit_info["txnId"] == KEY
    assert payload.commit_info["timestamp"] == key_time_ms(KEY) == 0x01946B1C0000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (True, "true"),
        (7, "7"),
        (datetime.date(2013, 1, 2), "2013-01-02"),
        (datetime.datetime(2013, 1, 2, 3, 4, 5), "2013-01-02 03:04:05"),
        (datetime.datetime(2013, 1, 2, 3, 4, 5, 60), "2013-01-02 03:04:05.000060"),
        (Decimal("1.50"), "1.50"),
        ("a b", "a b"),
    ],
)
def test_partition_values_are_written_as_the_protocol_says(value: Any, text: str | None) -> None:
    assert partition_text(value) == text


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "i": st.none() | st.integers(-(2**63), 2**63 - 1),
                "f": st.none() | st.floats(allow_nan=True, allow_infinity=True),
                "s": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60),
                "t": st.none() | st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1)),
                "d": st.none() | st.dates(datetime.date(1970, 1, 1), datetime.date(2100, 1, 1)),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_statistics_bound_every_value(rows: list[dict[str, Any]]) -> None:
    schema = pa.schema(
        [("i", pa.int64()), ("f", pa.float64()), ("s", pa.string()), ("t", pa.timestamp("us")), ("d", pa.date32())]
    )
    stats = orjson.loads(orjson.dumps(statistics(pa.Table.from_pylist(rows, schema=schema))))
    assert stats["numRecords"] == len(rows)
    for name in schema.names:
        values = [row[name] for row in rows if row[name] is not None]
        assert stats["nullCount"][name] == len(rows) - len(values)
        if name not in stats["minValues"]:
            assert not values or name == "f"
            continue
        low, high = stats["minValues"][name], stats["maxValues"][name]
        if name == "t":
            low, high = datetime.datetime.fromisoformat(low), datetime.datetime.fromisoformat(high)
        if name == "d":
            low, high = datetime.date.fromisoformat(low), datetime.date.fromisoformat(high)
        assert all(low <= value <= high for value in values), (name, low, high)


def test_readers_find_the_rows_by_partition_and_statistics(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "day": pa.array([datetime.date(2013, 1, 1), datetime.date(2013, 1, 2), None], pa.date32()),
            "n": [1, 2, 3],
            "at": pa.array([datetime.datetime(2013, 1, 1, 5, tzinfo=datetime.UTC)] * 3, pa.timestamp("us", "UTC")),
        }
    )
    write_deltalake(tmp_path, rows.slice(0, 0), partition_by=["day"])
    files = data_files(rows, ["day"], KEY)
    for file in files:
        (tmp_path / file.name).write_bytes(file.data)
    log = tmp_path / "_delta_log" / f"{1:020}.json"
    log.write_bytes(append_payload(files, KEY, ["day"]))
    table = DeltaTable(tmp_path)
    read = table.to_pyarrow_table().sort_by("n")
    assert read.select(["day", "n", "at"]).to_pylist() == rows.to_pylist()
    assert table.to_pyarrow_table(filters=[("day", "=", datetime.date(2013, 1, 2))])["n"].to_pylist() == [2]


def test_an_index_of_pandas_is_no_column() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=[5, 6])
    assert to_arrow(frame).column_names == ["a"]
