"""Partition values that a reader would misread: refused one by one, and by the SQL of updates and merges alike."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from deltalake import QueryBuilder

from springline.client.comparing import quoted_text
from springline.client.partition_rules import checked_sql, problem_of, told_refusal
from springline.errors import Code

GOOD: dict[pa.DataType, list[Any]] = {
    pa.string(): [None, " ", "null", "é" * 42, "a" * 253, "é" * 41 + "a" * 7, "%", "__hive_default_partition__"],
    pa.decimal128(10, 2): [None, *map(Decimal, ("0.00", "1.50", "-2.00", "-99999999.00"))],
    pa.int64(): [None, -1],
}
BAD: dict[pa.DataType, list[Any]] = {
    pa.string(): ["", "__HIVE_DEFAULT_PARTITION__", "é" * 43, "a" * 254, "é" * 41 + "a" * 8, "'" * 90],
    pa.decimal128(10, 2): list(map(Decimal, ("-0.01", "-1.50", "-99999999.99"))),
}


def computed(value: Any, kind: pa.DataType) -> list[Any]:
    """Let the engine compute a value of a column of rows, which it cannot know when it plans."""
    cast = {pa.string(): "VARCHAR", pa.int64(): "BIGINT"}.get(kind, "DECIMAL(10, 2)")
    given = "NULL" if value is None else quoted_text(str(value))
    sql = checked_sql("x", pa.field("p", kind))
    rows = f"(SELECT CAST(column1 AS {cast}) AS x FROM (VALUES ({given}), (NULL)))"
    found = pa.table(QueryBuilder().execute(f"SELECT {sql} AS y FROM {rows}").read_all())
    return list(found.column("y").to_pylist())


@pytest.mark.parametrize("kind", GOOD, ids=str)
def test_good_values_are_kept(kind: pa.DataType) -> None:
    for value in GOOD[kind]:
        assert value is None or problem_of(value, kind, "p") is None
        assert computed(value, kind) == [value, None]


@pytest.mark.parametrize("kind", BAD, ids=str)
def test_bad_values_are_named(kind: pa.DataType) -> None:
    schema = pa.schema([("p: x", kind), ("p", kind)])
    for value in BAD[kind]:
        with pytest.raises(Exception, match="Cannot cast") as caught:
            computed(value, kind)
        told = told_refusal(caught.value, schema, ["p: x", "p"], field="set")
        assert told is not None
        assert (told.refusal.code, told.refusal.field) == (Code.INVALID_REQUEST, "set")
        assert told.refusal.value == str(value)[:100]
        assert str(problem_of(value, kind, "p")) in told.refusal.message


def test_other_errors_are_not_about_partitions() -> None:
    schema = pa.schema([("p", pa.string())])
    assert (
        told_refusal(ValueError("Cannot cast string 'x' to value of Float32 type"), schema, ["p"], field="set") is None
    )
