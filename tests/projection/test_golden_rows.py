"""Golden rows: the reference's own states come back byte for byte, and any row has exactly its canonical text."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.ledger.timestamps import format_ms
from springline.projection.golden import InvalidGoldenRow, golden_json, golden_row, row_of_golden
from springline.projection.schema import REFERENCE_TABLES, RUNS, TASKS, TIMERS, Kind, Row, Table
from springline.published.golden_state import (
    InvalidGoldenState,
    decode_golden,
    encode_golden,
    golden_state,
    stored_rows,
)
from tests.projection.stored_rows import STATES, golden_document, golden_rows, sample_row, tables_of_rows


def plain_form(table: Table, row: Row) -> dict[str, Any]:
    """The golden form, made the slow and obvious way."""
    form: dict[str, Any] = {}
    for column, value in zip(table.columns, row, strict=True):
        if value is None or column.internal:
            continue
        if column.kind is Kind.MS:
            form[column.name] = format_ms(int(value))
        elif column.kind is Kind.JSON:
            form[column.name] = json.loads(str(value))
        else:
            form[column.name] = str(value).lower() if column.lower_in_golden else value
    return form


@settings(deadline=None)
@given(tables_of_rows(max_size=3))
def test_the_text_of_a_row_is_the_canonical_json_of_its_golden_form(given_rows: tuple[Table, list[Row]]) -> None:
    table, rows = given_rows
    for row in rows:
        form = plain_form(table, row)
        # Python sorts texts by code points, which is the order of their UTF-8 bytes.
        text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert golden_json(table, row).decode() == text
        assert golden_row(table, row) == form


@settings(deadline=None)
@given(tables_of_rows(max_size=3))
def test_a_row_comes_back_from_its_golden_form(given_rows: tuple[Table, list[Row]]) -> None:
    table, rows = given_rows
    for row in rows:
        columns = zip(table.columns, row, strict=True)
        expected = tuple(None if column.internal else value for column, value in columns)
        assert row_of_golden(table, golden_row(table, row)) == expected


@pytest.mark.parametrize("state", STATES)
def test_golden_states_are_written_again_with_the_same_hashes(state: str) -> None:
    document, rows = golden_document(state), golden_rows(state)
    again = decode_golden(encode_golden(golden_state(lambda name: reversed(rows[name]), {}), compressed=True))
    assert again["table_sha256"] == document["table_sha256"]
    assert again["tables_sha256"] == document["tables_sha256"]
    assert again["row_counts"] == document["row_counts"]
    assert again["tables"] == document["tables"]


def test_a_state_whose_hash_is_another_one_is_refused() -> None:
    document = golden_document(STATES[0])
    document["tables"]["runs"][0]["tasks_total"] += 1
    with pytest.raises(InvalidGoldenState, match=r"table_sha256\.runs"):
        stored_rows(document)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"colour": "red"}, "no column is called colour"),
        ({"run_id": None}, "runs.run_id: a value is missing"),
        ({"run_id": 7}, "runs.run_id: 7 is no string"),
        ({"tasks_total": "7"}, "runs.tasks_total: '7' is no uint32"),
        ({"tasks_total": True}, "runs.tasks_total: True is no uint32"),
        ({"cancel_requested": 0}, "runs.cancel_requested: 0 is no bool"),
        ({"triggered_at": "yesterday"}, "runs.triggered_at: 'yesterday' is no timestamp"),
    ],
)
def test_a_form_that_is_no_row_is_refused_by_column(change: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidGoldenRow) as caught:
        row_of_golden(RUNS, golden_row(RUNS, sample_row(RUNS)) | change)
    assert why in str(caught.value)


def test_internal_columns_do_not_show() -> None:
    shown = golden_row(TIMERS, sample_row(TIMERS, fire_at_below_ms=123_456))
    assert "fire_at_below_ms" not in shown
    assert golden_json(TIMERS, sample_row(TIMERS, fire_at_below_ms=None)) == golden_json(TIMERS, sample_row(TIMERS))


@settings(deadline=None)
@given(st.integers(-10_000_000_000_000, 10_000_000_000_000))
def test_instants_are_remembered_truly(ms: int) -> None:
    row = sample_row(TASKS, ready_at=ms)
    assert golden_row(TASKS, row)["ready_at"] == golden_row(TASKS, row)["ready_at"] == format_ms(ms)


def test_a_table_without_rows_is_an_empty_list() -> None:
    document = decode_golden(encode_golden(golden_state(lambda _: (), {}), compressed=False))
    assert document["tables"] == {name: [] for name in REFERENCE_TABLES}
    assert document["table_sha256"]["runs"] == hashlib.sha256(b"[]").hexdigest()
