"""Parquet files: what is in them is what the reference reads, what it writes is read, and damage is named."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.projection.parquet import DamagedTable, arrow_table, decode_table, encode_table
from springline.projection.schema import (
    DISPATCH_OUTBOX,
    IDEMPOTENCY_KEYS,
    RUNS,
    SCHEDULE_TICKS,
    TABLES,
    TASKS,
    TIMERS,
    Kind,
    Row,
    Table,
)
from tests.projection.stored_rows import STATES, golden_rows, sample_row, tables_of_rows

PHYSICAL = {
    Kind.STR: ("BYTE_ARRAY", "String", pa.string()),
    Kind.JSON: ("BYTE_ARRAY", "String", pa.string()),
    Kind.U32: ("INT32", "Int(bitWidth=32, isSigned=false)", pa.uint32()),
    Kind.I64: ("INT64", "None", pa.int64()),
    Kind.MS: ("INT64", "None", pa.int64()),
    Kind.BOOL: ("BOOLEAN", "None", pa.bool_()),
}


def file_of(content: pa.Table, **settings: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(content, sink, **settings)
    return sink.getvalue()


def with_column(content: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = content.schema.get_field_index(name)
    return content.set_column(place, pa.field(name, values.type), values)


@settings(deadline=None)
@given(tables_of_rows(), st.randoms())
def test_rows_come_back_sorted_by_key_and_the_file_is_the_same_for_any_order(
    given_rows: tuple[Table, list[Row]], random: Any
) -> None:
    table, rows = given_rows
    data = encode_table(table, rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert encode_table(table, shuffled) == data
    assert decode_table(table, data) == sorted(rows, key=table.key_of)


@pytest.mark.parametrize("state", STATES)
def test_golden_states_survive_their_files(state: str) -> None:
    for name, rows in golden_rows(state).items():
        assert decode_table(TABLES[name], encode_table(TABLES[name], rows)) == rows


@pytest.mark.parametrize("rows", [0, 1, 300])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_file_has_the_types_and_settings_that_the_reference_reads(table: Table, rows: int) -> None:
    data = encode_table(table, (sample_row(table, number) for number in range(rows)))
    metadata = pq.read_metadata(io.BytesIO(data))
    assert (metadata.num_row_groups, metadata.num_rows) == (1 if rows else metadata.num_row_groups, rows)
    assert metadata.metadata[b"created_by"] == b"springline"
    assert [metadata.schema.column(place).name for place in range(metadata.num_columns)] == [
        column.name for column in table.columns
    ]
    for place, column in enumerate(table.columns):
        stored = metadata.schema.column(place)
        physical, logical, arrow = PHYSICAL[column.kind]
        assert (stored.physical_type, str(stored.logical_type)) == (physical, logical), column.name
        assert stored.max_definition_level == int(column.nullable), column.name
        assert pq.read_schema(io.BytesIO(data)).field(column.name).type == arrow, column.name
        if rows:
            assert metadata.row_group(0).column(place).compression == "SNAPPY"


def test_another_reader_sees_the_stored_values(tmp_path: Path) -> None:
    import duckdb

    file = tmp_path / "tasks.parquet"
    file.write_bytes(encode_table(TASKS, (sample_row(TASKS, number, started_at=None) for number in range(3))))
    with duckdb.connect() as connection:
        connection.execute("select task_key, attempt, started_at, ready_at from read_parquet(?)", [str(file)])
        found = connection.fetchall()
    assert found == [(f"text {number}", number, None, 1_736_935_200_000 + number) for number in range(3)]


def test_other_order_more_columns_and_row_groups_do_not_matter() -> None:
    rows = [sample_row(RUNS, number, labels='{"b":1}' if number % 3 else None) for number in range(10)]
    content = arrow_table(RUNS, rows)
    turned = content.select(content.schema.names[::-1]).append_column("unknown", pa.array(["x"] * len(rows)))
    assert decode_table(RUNS, file_of(turned, row_group_size=3)) == rows
    assert decode_table(RUNS, file_of(turned, use_dictionary=False, compression="none")) == rows


def test_of_rows_with_one_key_the_last_one_counts() -> None:
    rows = [sample_row(RUNS, 1), sample_row(RUNS, 2), sample_row(RUNS, 1, tasks_total=7)]
    repeated = pa.concat_tables([arrow_table(RUNS, [row]) for row in rows])
    assert sorted(decode_table(RUNS, file_of(repeated))) == [rows[2], rows[1]]


@pytest.mark.parametrize(
    ("table", "column"),
    [(table, column) for table in TABLES.values() for column in table.columns],
    ids=[f"{table.name}.{column.name}" for table in TABLES.values() for column in table.columns],
)
def test_a_missing_column_is_refused_unless_it_may_be_missing(table: Table, column: Any) -> None:
    row = sample_row(table)
    data = file_of(arrow_table(table, [row]).drop_columns([column.name]))
    if column.required_to_read:
        with pytest.raises(DamagedTable, match=rf"^{table.name}\.{column.name}: the column is missing"):
            decode_table(table, data)
        return
    expected: Any = False if column.kind is Kind.BOOL else None
    if (table, column.name) == (IDEMPOTENCY_KEYS, "event_type"):
        expected = "LegacyUnknown"
    found = dict(zip([one.name for one in table.columns], decode_table(table, data)[0], strict=True))
    assert found.pop(column.name) == expected
    assert found == {one.name: value for one, value in zip(table.columns, row, strict=True) if one.name != column.name}


def test_the_event_type_of_an_old_idempotency_key_is_told_from_the_key() -> None:
    rows = [
        sample_row(IDEMPOTENCY_KEYS, 1, idempotency_key="plan:r1"),
        sample_row(IDEMPOTENCY_KEYS, 2, idempotency_key="started:r1:t:1", event_type="Kept"),
    ]
    content = with_column(arrow_table(IDEMPOTENCY_KEYS, rows), "event_type", pa.array([None, "Kept"], pa.string()))
    place = IDEMPOTENCY_KEYS.index("event_type")
    assert [row[place] for row in decode_table(IDEMPOTENCY_KEYS, file_of(content))] == ["PlanCreated", "Kept"]


def test_null_booleans_that_may_be_missing_are_false() -> None:
    content = arrow_table(TASKS, [sample_row(TASKS, 1), sample_row(TASKS, 2)])
    nulls = with_column(content, "requires_visible_output", pa.array([None, True], pa.bool_()))
    place = TASKS.index("requires_visible_output")
    assert [row[place] for row in decode_table(TASKS, file_of(nulls))] == [False, True]


@pytest.mark.parametrize(
    ("table", "column", "values", "why"),
    [
        (RUNS, "run_id", pa.array(["r"], pa.large_string()), "its type is large_string, not string"),
        (RUNS, "tasks_total", pa.array([1], pa.int64()), "its type is int64, not uint32"),
        (RUNS, "triggered_at", pa.array([1], pa.timestamp("ms")), "its type is timestamp"),
        (TASKS, "started_at", pa.array([1], pa.timestamp("ms")), "its type is timestamp"),
        (TASKS, "requires_visible_output", pa.array(["true"]), "its type is string, not bool"),
        (RUNS, "run_id", pa.array([None], pa.string()), "1 values are missing"),
        (RUNS, "state", pa.array(["PAUSED"]), "unknown text PAUSED"),
        (TIMERS, "timer_type", pa.array(["retry"]), "unknown text retry"),
        (RUNS, "labels", pa.array(["{'a':1}"]), "no JSON that we write"),
        (RUNS, "labels", pa.array(['{"a":1.5}']), "no JSON that we write"),
        (RUNS, "code_version", pa.array([b"\xff"]).view(pa.string()), "a text is no UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_column_of_another_kind_is_refused_by_name(table: Table, column: str, values: pa.Array, why: str) -> None:
    data = file_of(with_column(arrow_table(table, [sample_row(table)]), column, values))
    with pytest.raises(DamagedTable) as caught:
        decode_table(table, data)
    assert str(caught.value).startswith(f"{table.name}.{column}: {why}")


def test_bytes_that_are_no_file_are_refused_by_the_tables_name() -> None:
    whole = encode_table(RUNS, [sample_row(RUNS, number) for number in range(50)])
    for data in (b"", b"PAR1", b"{}", whole[:-9], whole[:40] + whole[60:]):
        with pytest.raises(DamagedTable, match=r"^runs"):
            decode_table(RUNS, data)


def test_old_states_of_a_dispatch_are_read_as_created() -> None:
    rows = [sample_row(DISPATCH_OUTBOX, number) for number in range(4)]
    states = pa.array(["ACKED", "FAILED", "PENDING", "CREATED"])
    data = file_of(with_column(arrow_table(DISPATCH_OUTBOX, rows), "status", states))
    place = DISPATCH_OUTBOX.index("status")
    assert [row[place] for row in decode_table(DISPATCH_OUTBOX, data)] == ["CREATED", "CREATED", "PENDING", "CREATED"]


def test_json_is_made_canonical() -> None:
    texts = pa.array(['{"b": 1, "a": [ "\\u00e9" ]}'])
    data = file_of(with_column(arrow_table(SCHEDULE_TICKS, [sample_row(SCHEDULE_TICKS)]), "status", texts))
    assert decode_table(SCHEDULE_TICKS, data)[0][SCHEDULE_TICKS.index("status")] == '{"a":["é"],"b":1}'


@pytest.mark.parametrize(
    ("column", "value"), [("run_id", None), ("run_id", 5), ("tasks_total", -1), ("tasks_total", 2**32), ("state", True)]
)
def test_a_value_that_a_column_cannot_hold_is_not_written(column: str, value: Any) -> None:
    with pytest.raises((pa.ArrowException, TypeError, OverflowError)):
        encode_table(RUNS, [sample_row(RUNS, **{column: value})])
