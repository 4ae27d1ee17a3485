"""Expressions mean one thing in every operation, what another engine makes of them, or are refused in our own words."""

from __future__ import annotations

import datetime
import itertools
import math
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from springline.client import DeltaTable, Springline
from springline.errors import Code, Refused

_NAMES = (f"expressed-{number}" for number in itertools.count())
NAN, INFINITY = float("nan"), float("inf")
DAYS = [datetime.datetime(2026, 1, day, 12) for day in (1, 2, 3, 4)]
COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "id": (pa.int64(), [1, 2, 3, 2**63 - 1]),
    "x": (pa.int32(), [1, -2, 2**31 - 1, None]),
    "s": (pa.string(), ["1", "9", "10", "abc"]),
    "v": (pa.float64(), [0.5, NAN, INFINITY, -0.0]),
    "f": (pa.float32(), [0.25, NAN, 0.5, None]),
    "m": (pa.decimal128(19, 2), [Decimal(f"12345678901234567.{cents}") for cents in (88, 89, 90)] + [None]),
    "d": (pa.date32(), [day.date() for day in DAYS]),
    "t": (pa.timestamp("us", "UTC"), DAYS),
    "n": (pa.timestamp("us"), DAYS),
    "b": (pa.bool_(), [True, False, None, True]),
    "y": (pa.binary(), [b"a", b"\xff", None, b"1"]),
    "q": (pa.struct([("k", pa.int64())]), [{"k": 1}, {"k": 2}, {"k": None}, None]),
}
ROWS = pa.table({name: pa.array(values, kind) for name, (kind, values) in COLUMNS.items()})

SOME = [
    "id = 1.5 or id = 1e0 -- 2.5",
    "id > 9223372036854775806.5",
    "x < 3000000000",
    "m = 12345678901234567.89",
    "v < 0.6",
    "v > 0.6",
    "d <= '2026-01-02'",
    "t > '2026-01-02'",
    "length(s) = 1",
]
ALL = [
    *("id < '10'", "id = '1'", "id in (1, 2.5, '3')", "id between 0.5 and '2'", "not (id = 1.5)", "id / 2.0 = .5"),
    *(
        "abs(id) = 10e-1",
        "id < 9223372036854775808",
        "id is distinct from 1",
        "id = x",
        "q.k = 1.0",
        "id <> 1 and not b",
    ),
    *("x > -3000000000", "x = 3000000000", "x < '5'", "x + 1 = 2", "x % 2 = 0", "x is null", "not (x = 1)"),
    *("m > 12345678901234567.89", "m <> 12345678901234567.89", "m > 1", "m in (12345678901234567.9, 5)", "m < 1e30"),
    *("m < v", "v <> m", "f < m and id > 1", "m = f or m > '1e3'"),
    *("v = 'NaN'", "v <> 0.5", "v >= 0", "v = 0", "v is not null", "f = 0.25", "f > 0.25", "v > id"),
    *(
        "d = '2026-01-02'",
        "d between '2026-01-02' and '2026-01-03'",
        "d in ('2026-01-02', '2026-01-04')",
        "d + 1 > '2026-01-03'",
    ),
    *(
        "t > '2026-01-02 12:00:00'",
        "t = '2026-01-02T12:00:00Z'",
        "t = '2026-01-02T14:00:00+02:00'",
        "t < '9999-12-31 23:59:59'",
    ),
    *("t >= timestamp '2026-01-02 12:00:00'", "n >= timestamp '2026-01-02 12:00:00'", "n = '2026-01-02 12:00:00'"),
    *("n > date '2026-01-02'", "n < timestamp '9999-12-31 00:00:00'", "extract(year from d) = 2026"),
    *("b = false", "b <> true", "b is not true", "s < '10'", "s = '9' or id = 1", "upper(s) = 'ABC'", "s like '1%'"),
    *("coalesce(s, 'x') = 'abc'", "length(s) = 1 and id > 0", "s = cast(9 as varchar)", "cast(id as varchar) = '1'"),
    *(
        "case when id = 1.5 then false else true end",
        "case id when 1 then true else false end",
        "nullif(id, 1) is null",
    ),
    *("true", "1 = 1.0"),
]


@pytest.fixture
def table(lake: Springline) -> DeltaTable:
    table = lake.create_table(next(_NAMES), ROWS)
    table.append(ROWS)
    return table


def of_target(text: str) -> str:
    return re.sub(r"(?<![\w'.])(id|[xsvfmdtnbq])\b(?!')", r"target.\1", text)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("by", "conditions"), [([], SOME), *(pytest.param(by, ALL, marks=pytest.mark.full) for by in ([], ["s"], ["d"]))]
)
def test_values_are_compared_as_they_are(by: list[str], conditions: list[str], lake: Springline) -> None:
    """The library by itself takes `id = 1.5` for `id = 1`, and NaN for less than what a file's statistics end with."""
    engine = duckdb.connect()
    engine.execute("set timezone = 'UTC'; create table rows as from (select * from ROWS)")
    every = set(ROWS["id"].to_pylist())

    for where in conditions:
        # Of its own: nobody makes checkpoints here, so each version of one table would take longer than the last.
        table = lake.create_table(next(_NAMES), ROWS, partition_by=by)
        wanted = {row[0] for row in engine.sql(f"select id from rows where ({where}\n)").fetchall()}
        table.overwrite(ROWS)
        assert set(table.to_arrow(["id"], where=where)["id"].to_pylist()) == wanted, where
        table.update({"q": "null"}, where=where)
        assert set(table.to_arrow(["id"], where="q is null")["id"].to_pylist()) == wanted | {2**63 - 1}, where
        table.overwrite(ROWS)
        table.delete(where)
        assert set(table.to_arrow(["id"])["id"].to_pylist()) == every - wanted, where
        table.overwrite(ROWS)
        told = of_target(where) + "\n"
        table.merge(pa.table({"k": [1]}), told).when_matched_delete().execute()
        assert set(table.to_arrow(["id"])["id"].to_pylist()) == every - wanted, f"merge on: {told}"
        table.overwrite(ROWS)
        merge = table.merge(pa.table({"k": ROWS["id"]}), "target.id = source.k")
        merge.when_matched_delete(predicate=told).execute()
        assert set(table.to_arrow(["id"])["id"].to_pylist()) == every - wanted, f"merge clause: {told}"


def test_zeros_of_both_signs_are_one_number(lake: Springline) -> None:
    """The library compares the numbers of IN and CASE bit by bit."""
    kinds = {"id": pa.int64(), "v": pa.float64(), "f": pa.float32()}
    rows = pa.table([[0, 0, 1], [-0.0, 0.0, NAN], [0.0, -0.0, 1.5]], schema=pa.schema(kinds))
    table = lake.create_table(next(_NAMES), rows.schema)
    table.append(rows)
    for where, found in {
        "v in (0.0, 5, 7, 8)": 2,
        "v in ('-0.0', '5', '7', '8')": 2,
        "f not in (0, 5, 7, 8)": 1,
        "id in (v, f)": 2,
        "v in (f, 'nan')": 3,
        "case v when 0 then true else false end": 2,
        "case f when v then true else false end": 2,
        "nullif(v, 0) is null": 2,
        "nullif(f, 0) = 1.5": 1,
    }.items():
        assert table.to_arrow(where=where).num_rows == found, where


UNLIKE = {
    "s < 10": "10",
    "s = id": "id",
    "s in (1, '2')": "1",
    "coalesce(s, 1) = '1'": "1",
    "case s when 1 then true else false end": "1",
    "id = 'abc'": "abc",
    "id < ''": "",
    "id = s": "s",
    "b = 1": "1",
    "b = 'maybe'": "maybe",
    "d = 'yesterday'": "yesterday",
    "d = '2026-02-30'": "2026-02-30",
    "d > 5": "5",
    "d = s": "s",
    "t > '2026'": "2026",
    "n = '2026-01-02T12:00:00Z'": "2026-01-02T12:00:00Z",
    "y = 'a'": "'a'",
    "q = 'a'": "'a'",
}


@pytest.mark.parametrize("where", UNLIKE)
def test_what_is_not_alike_is_not_compared(where: str, table: DeltaTable) -> None:
    """Where engines differ, and the library with itself: a filter may compare as texts what elsewhere are numbers."""
    source = pa.table({"k": [1]})
    told = of_target(where)
    calls: dict[str, Callable[[], Any]] = {
        "where": lambda: table.delete(where),
        "where ": lambda: table.update({"x": "1"}, where=where),
        "where  ": lambda: table.to_arrow(where=where),
        "set.b": lambda: table.update({"b": where}),
        "on": lambda: table.merge(source, told).when_matched_delete().execute(),
        "when_matched_delete.predicate": lambda: (
            table.merge(source, "target.id = source.k").when_matched_delete(predicate=told).execute()
        ),
    }
    for field, call in calls.items():
        with pytest.raises(Refused, match="compares") as caught:
            call()
        refusal = caught.value.refusal
        assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, field.strip())
        assert refusal.value in (UNLIKE[where], f"target.{UNLIKE[where]}")
        assert refusal.remedy
    assert table.at().version == 1


def test_partitions_are_compared_by_the_same_rule(lake: Springline) -> None:
    rows = ROWS.select(["id", "s", "d"])
    table = lake.create_table(next(_NAMES), rows, partition_by=["s", "d"])
    table.append(rows)
    for where in ("s < 10", "d = 'x'", "s = d", "true) or (true", "true) AS a, (false", "s in (select 1)"):
        for call in (lambda where=where: table.overwrite(rows, where=where), lambda where=where: table.delete(where)):
            with pytest.raises(Refused) as caught:
                call()
            assert caught.value.refusal.field == "where"
    assert table.at().version == 1
    table.overwrite(rows.slice(0, 1), where="d <= '2026-01-02' and s < '2'")
    assert sorted(table.to_arrow()["id"].to_pylist()) == [1, 2, 3, 2**63 - 1]


def test_columns_are_found_whatever_they_are_called(lake: Springline) -> None:
    columns = {"target": [1, 2], "select": ["a", "b"], "a.b": [1.5, None], 'q"x': [True, False], "Größe": [1, 2]}
    rows = pa.table(columns | {"random": [1, 2], "date": ["x", "y"], "s": [{"Deep": {"x-y": 1}}, None]})
    table = lake.create_table(next(_NAMES), rows)
    table.append(rows)
    for where in (
        *("target = 1", "target.target = 1", "target.random = 1", "\"select\" = 'a'", '"a.b" > 1', 'not not "q""x"'),
        *("Größe = 1", "date = 'x'", 'target.s.Deep."x-y" = 1', "s['Deep']['x-y'] = 1", 's."Deep"."x-y" = 1.0'),
    ):
        assert table.to_arrow(["target"], where=where)["target"].to_pylist() == [1], where
        assert table.delete(where).metrics["num_deleted_rows"] == 1, where
        assert table.to_arrow().num_rows == 1
        table.overwrite(rows)


def test_a_condition_is_the_same_each_time(table: DeltaTable) -> None:
    with pytest.raises(Refused, match="random"):
        table.delete("random() > 0.5")
    table.update({"s": "uuid()"})
    assert len(set(table.to_arrow()["s"].to_pylist())) == 4


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("id", "9223372036854775807 + id", "9223372036854775808"),
        ("id", "id * id", str((2**63 - 1) ** 2)),
        ("id", "-id - 2", str(-(2**63) - 1)),
        ("x", "x + 1", str(2**31)),
        ("x", "x + x", str(2**32 - 2)),
        ("d", "CAST('9999-12-31' AS DATE) + CAST(id % 5 AS INT)", "+10000-01-01"),
        ("f", "v * 1e300", "5e299"),
        ("id", "CAST(s AS BIGINT)", "abc"),
    ],
)
def test_a_value_that_a_column_cannot_hold_is_named(column: str, text: str, value: str, table: DeltaTable) -> None:
    """The library would wrap around, store the year 10000, or make it infinite."""
    with pytest.raises(Refused) as caught:
        table.update({column: text, "b": "b"})
    refusal = caught.value.refusal
    assert (refusal.code, refusal.field, refusal.value) == (Code.INVALID_REQUEST, f"set.{column}", value)
    merge = table.merge(pa.table({"k": ROWS["id"]}), "target.id = source.k")
    told = re.sub(r"\b(id|x|v|s)\b", r"target.\1", text)
    with pytest.raises(Refused) as caught:
        merge.when_matched_update({column: told}).execute()
    assert caught.value.refusal.field == f"when_matched_update.set.{column}"
    assert table.at().version == 1


def test_sums_are_right_where_they_fit(table: DeltaTable) -> None:
    table.update({"id": "id + 5 - 5", "x": "CASE WHEN id = 1.5 THEN 7 ELSE x - 1 + 1 END", "v": "id * 1.5"})
    assert table.to_arrow().select(["id", "x"]).equals(ROWS.select(["id", "x"]))
    with pytest.raises(Refused, match="divides by zero"):
        table.update({"id": "id / 0"})


def test_texts_are_assigned_as_what_they_say(table: DeltaTable) -> None:
    table.update({"t": "'2026-05-05 01:00:00'", "d": "'2026-05-05'", "m": "'1.25'", "f": "0.1"}, where="id = 1")
    (row,) = table.to_arrow(["t", "d", "m", "f"], where="id = 1").to_pylist()
    assert row["t"] == datetime.datetime(2026, 5, 5, 1, tzinfo=datetime.UTC)
    assert (row["d"], row["m"]) == (datetime.date(2026, 5, 5), Decimal("1.25"))
    for column, text in (("d", "'2026-13-01'"), ("x", "'1.5'"), ("f", "1e39"), ("b", "'perhaps'")):
        with pytest.raises(Refused) as caught:
            table.update({column: text})
        assert caught.value.refusal.field == f"set.{column}"


def test_a_null_where_none_may_be_is_told_by_column(lake: Springline) -> None:
    schema = pa.schema([("id", pa.int64()), pa.field("must", pa.int64(), False)])
    table = lake.create_table(next(_NAMES), schema)
    table.append({"id": [1], "must": [1]})
    calls: list[Callable[[], Any]] = [
        lambda: table.update({"must": "NULL"}),
        lambda: table.update(values={"must": None}),
        lambda: table.upsert({"id": [5]}, "id"),
    ]
    for call in calls:
        with pytest.raises(Refused, match="may hold none: must"):
            call()


def test_long_conditions_are_done(table: DeltaTable) -> None:
    assert not table.delete(" or ".join(f"id = {number}" for number in range(10, 4_000))).changed
    assert not table.delete(f"id in ({', '.join(map(str, range(10, 9_000)))})").changed
    assert table.delete(" or ".join(f"(id = {number} and s <> 'x')" for number in range(1, 1_000))).changed


NEAR = [[0.5, NAN], [NAN], [0.9, 1.5], [INFINITY, 0.1], [-INFINITY, 2.0], [0.5, 0.5, NAN]]


def test_not_a_number_is_found_whatever_a_file_says_of_itself(lake: Springline) -> None:
    """It is greater than every number, and in no file's greatest value: such files were left out."""
    table = lake.create_table(next(_NAMES), {"n": [1], "v": [0.5]})
    numbers = itertools.count()
    held = [(next(numbers), value) for values in NEAR for value in values]
    left = list(held)
    for values in NEAR:
        rows, left = left[: len(values)], left[len(values) :]
        table.append({"n": [number for number, _ in rows], "v": values})

    def greater(value: float) -> set[int]:
        return {number for number, one in held if one > value or math.isnan(one)}

    for value in (0.5, 0.6, 100.0):
        where = f"v > {value}"
        assert set(table.to_arrow(where=where)["n"].to_pylist()) == greater(value)
        found = table.to_duckdb(duckdb.connect()).filter(f"v < {value}").fetchall()
        assert {row[0] for row in found} == {number for number, one in held if one < value}
        before = table.to_arrow()
        merge = table.merge(pa.table({"w": [value]}), "target.v > source.w")
        merge.when_matched_update({"v": "-1"}).execute()
        assert set(table.to_arrow(where="v = -1")["n"].to_pylist()) == greater(value)
        table.overwrite(before)
    table.upsert({"n": [70], "v": [NAN]}, "v")
    assert set(table.to_arrow(where="v = 'NaN'")["n"].to_pylist()) == {70}


def test_foreign_readers_find_finite_numbers_beside_what_is_none(lake: Springline) -> None:
    """delta-rs's own bounds of a file end with its greatest number: its dataset left NaN out of `v <> 0.5`."""
    kind = pa.struct([("w", pa.float32())])
    rows = pa.table({"n": [1, 2, 3], "v": [0.5, NAN, 0.5], "s": pa.array([{"w": NAN}, None, {"w": 0.5}], kind)})
    table = lake.create_table(next(_NAMES), rows)
    table.append(rows)
    table.append(pa.table({"n": [4, 5], "v": [NAN, None], "s": pa.array([None, None], kind)}))
    table.append(pa.table({"n": [6], "v": [7.0], "s": pa.array([{"w": 7.0}], kind)}))
    added = pa.table(table.to_deltalake().get_add_actions(flatten=True)).sort_by("min.n").to_pylist()
    assert [one["max.v"] for one in added] == [sys.float_info.max, sys.float_info.max, 7.0]
    assert [one["null_count.v"] for one in added] == [0, 1, 0]
    assert [one["num_records"] for one in added] == [3, 2, 1]
    dataset = table.to_deltalake().to_pyarrow_dataset()
    for condition, wanted in ((pc.field("v") < 0.6, [1, 3]), (pc.field("v") > 0.6, [6]), (pc.field("v") == 7, [6])):
        assert sorted(dataset.to_table(filter=condition)["n"].to_pylist()) == wanted
    assert sorted(pl.scan_delta(table.location).filter(pl.col("v") > 0.6).collect()["n"]) == [2, 4, 6]
    assert sorted(table.to_arrow(where="s.w > 0.6")["n"].to_pylist()) == [1, 6]
