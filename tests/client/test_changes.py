"""Delete, update, merge and optimize over the real HTTP surface: what they do, and that a key does it once."""

from __future__ import annotations

import datetime
import itertools
import pkgutil
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from springline.client import DeltaTable, Springline
from springline.client.changes import Changer, TableOperation
from springline.client.http import Unavailable
from springline.client.reading import reached
from springline.client.table import new_key
from springline.errors import Code, Refused
from springline.keys import idempotency_key
from tests.client.conftest import Folder

_NAMES = (f"changed-{number}" for number in itertools.count())


def frame(ids: range | list[int] = range(6)) -> pa.Table:
    """Return rows of two partitions."""
    numbers = list(ids)
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "x": pa.array([0] * len(numbers), pa.int32()),
            "p": ["a" if number % 2 else "b" for number in numbers],
        }
    )


@pytest.fixture
def table(lake: Springline) -> DeltaTable:
    table = lake.create_table(next(_NAMES), frame(), partition_by=["p"])
    table.append(frame())
    return table


def ids(table: DeltaTable) -> list[int]:
    found: list[int] = table.to_deltalake().to_pyarrow_table().column("id").to_pylist()
    return sorted(found)


def values(table: DeltaTable) -> dict[int, int]:
    found = table.to_deltalake().to_pyarrow_table().to_pylist()
    return {row["id"]: row["x"] for row in found}


def merged(table: DeltaTable, key: str | None) -> Any:
    merge = table.merge(pa.table({"id": [1, 9]}), "target.id = source.id", key=key)
    return merge.when_matched_update({"x": "target.x + 1"}).when_not_matched_insert({"id": "source.id"}).execute()


DONE: dict[str, tuple[Callable[[DeltaTable, str | None], Any], Callable[[DeltaTable], Any], Any]] = {
    "delete": (lambda table, key: table.delete("id > 3", key=key), ids, [0, 1, 2, 3]),
    "update": (
        lambda table, key: table.update({"x": "x + 1"}, where="id < 2", key=key),
        values,
        {0: 1, 1: 1, 2: 0, 3: 0, 4: 0, 5: 0},
    ),
    "merge": (merged, values, {0: 0, 1: 1, 2: 0, 3: 0, 4: 0, 5: 0, 9: None}),
    "upsert": (
        lambda table, key: table.upsert(pa.table({"id": [1, 9], "x": [5, 6], "p": ["a", "c"]}), "id", key=key),
        values,
        {0: 0, 1: 5, 2: 0, 3: 0, 4: 0, 5: 0, 9: 6},
    ),
}


@pytest.mark.parametrize("name", DONE)
def test_an_operation_is_done_once_under_its_key(name: str, table: DeltaTable) -> None:
    do, seen, wanted = DONE[name]
    key = f"nightly/{name}/2026-01-01"
    first = do(table, key)
    assert (first.version, first.changed, first.replayed) == (2, True, False)
    assert seen(table) == wanted
    table.append(frame([1, 4, 5]))
    before = sorted(map(repr, table.to_arrow().to_pylist()))
    again = do(table, key)
    assert (again.version, again.changed, again.replayed) == (2, True, True)
    assert {name: count for name, count in again.metrics.items() if name.startswith("num")} == {
        name: count for name, count in first.metrics.items() if name.startswith("num")
    }
    assert sorted(map(repr, table.to_arrow().to_pylist())) == before
    assert table.explain(key)["version"] == 2
    (row,) = [row for row in table.history() if idempotency_key(key) in row.keys]
    assert row.version == 2


def test_another_request_under_the_key_is_refused_before_anything_is_done(table: DeltaTable) -> None:
    table.delete("id = 1", key="k")
    for other in (
        lambda: table.delete("id = 2", key="k"),
        lambda: table.update({"x": "1"}, key="k"),
        lambda: table.upsert(frame([3]), "id", key="k"),
        lambda: table.optimize(key="k"),
        lambda: table.commit([{"txn": {"appId": "a", "version": 1}}], read_version=2, key="k"),
        lambda: table.append(frame([8]), key="k"),
    ):
        with pytest.raises(Refused) as caught:
            other()
        assert caught.value.refusal.code is Code.KEY_REUSED
    assert ids(table) == [0, 2, 3, 4, 5]
    assert table.at().version == 2


def test_rows_of_a_merge_are_part_of_what_its_key_stands_for(table: DeltaTable) -> None:
    table.upsert(frame([1]), "id", key="k")
    large = frame([1]).cast(pa.schema([("id", pa.int64()), ("x", pa.int32()), ("p", pa.large_string())]))
    assert table.upsert(large, "id", key="k").replayed
    with pytest.raises(Refused) as caught:
        table.upsert(frame([2]), "id", key="k")
    assert caught.value.refusal.code is Code.KEY_REUSED


def test_what_changes_nothing_is_recorded_under_a_key_and_changes_nothing_later(table: DeltaTable) -> None:
    assert table.delete("id = 77").changed is False
    assert table.at().version == 1
    first = table.delete("id = 77", key="k")
    assert (first.version, first.changed) == (2, False)
    table.append(frame([77]))
    again = table.delete("id = 77", key="k")
    assert (again.version, again.changed, again.replayed) == (2, False, True)
    assert 77 in ids(table)
    assert [row.operation for row in table.history(2)] == ["WRITE", "DELETE"]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("'a'", "not a condition"),
        ("1", "not a condition"),
        ("null", "not a condition"),
        ("idd = 1", "'idd'"),
        ("ID = 1", "'ID'"),
        ("id >", "ends too early"),
        ("id = 1; drop table t", "not one SQL expression"),
        ("1=1) or (1=1", "goes on behind its end"),
        ("", "not a SQL expression"),
        ("id = 1 \0", "not a SQL expression"),
    ],
)
def test_conditions_that_are_none_are_refused(where: str, said: str, table: DeltaTable) -> None:
    """The library itself takes the first three for all rows, or does not read on behind the first expression."""
    merge = table.merge(frame([1]), where).when_matched_delete()
    operations: list[Callable[[], Any]] = [
        lambda: table.delete(where),
        lambda: table.update({"x": "1"}, where=where),
        merge.execute,
    ]
    for do in operations:
        with pytest.raises(Refused) as caught:
            do()
        assert caught.value.refusal.code is Code.INVALID_REQUEST
        assert said in caught.value.refusal.message
        assert caught.value.refusal.field in ("where", "on")
    assert table.at().version == 1


def test_a_condition_without_its_columns_lists_the_columns(table: DeltaTable) -> None:
    with pytest.raises(Refused) as caught:
        table.delete("idd = 1")
    assert "id, x, p" in str(caught.value.refusal.remedy)


def test_conditions_may_name_odd_columns_and_fields(lake: Springline) -> None:
    rows = pa.table({"Id": [1, 2, 3], "Größe": ["x", "y", "z"], "s": [{"q": 1}, {"q": 2}, {"q": 3}]})
    table = lake.create_table(next(_NAMES), rows)
    table.append(rows)
    table.delete("\"Größe\" = 'x'")
    table.delete("s.q = 2 -- and nothing else")
    table.update(values={"Größe": 'o\'x "y"'}, where="Id = 3")
    assert table.to_arrow().to_pylist() == [{"Id": 3, "Größe": 'o\'x "y"', "s": {"q": 3}}]


TRUTHS = ["p <> p", "p is null", "case when p = 2 then true else false end", "p = null", "id = p", "id = null"]
ALL_TRUTHS = [
    *TRUTHS,
    *("p is not null and p > p", "p = p", "p in (1, 2)", "p = 2 or p = 3", "not (p = 2)", "p > 1", "id <> id"),
    *("p + 1 = 2", "p % 2 = 0", "coalesce(p, 2) = 2", "p = p and id > 1", "(p <> p) and id is not null"),
    *("not (id = null)", "p is null or p <> p", "id in (1, null)", "p not in (1, null)", "(p = 1) = (id = 1)"),
    *("true", "false", "1 = 2"),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("nullable", "partition_by", "conditions"),
    [
        (False, ["p"], TRUTHS),
        *(
            pytest.param(nullable, by, ALL_TRUTHS, marks=pytest.mark.full)
            for nullable in (True, False)
            for by in (["p"], [])
        ),
    ],
)
def test_conditions_mean_what_they_mean_to_another_engine(
    nullable: bool, partition_by: list[str], conditions: list[str], lake: Springline
) -> None:
    """The library by itself deletes every row for `id = null`, and for `p <> p` of a partition column."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable), pa.field("x", pa.int64(), nullable), ("p", pa.int64())])
    rows = pa.table([[1, 2, 3, 1], [0, 0, 0, 1], [1, 2, None, 2]], schema=schema)
    table = lake.create_table(next(_NAMES), rows, partition_by=partition_by)
    engine = duckdb.connect()
    engine.register("rows", rows)

    def asked(query: str) -> list[str]:
        return sorted(map(repr, engine.sql(query).fetchall()))

    def there() -> list[str]:
        return sorted(repr(tuple(row.values())) for row in table.to_arrow(["id", "x", "p"]).to_pylist())

    for where in conditions:
        hit = f"coalesce({where}, false)"
        table.overwrite(rows)
        found = table.to_arrow(["id", "x", "p"], where=where).to_pylist()
        assert sorted(repr(tuple(row.values())) for row in found) == asked(f"from rows where {hit}"), where
        table.update({"x": "5"}, where=where)
        assert there() == asked(f"select id, case when {hit} then 5 else x end, p from rows"), where
        table.overwrite(rows)
        merge = table.merge(pa.table({"k": [1]}), re.sub(r"\b(id|p)\b", r"target.\1", where))
        merge.when_matched_update({"x": "6"}).execute()
        assert there() == asked(f"select id, case when {hit} then 6 else x end, p from rows"), where
        table.overwrite(rows)
        table.delete(where)
        assert there() == asked(f"from rows where not {hit}"), where


NEAR = [Decimal("900719925474099.31"), Decimal("900719925474099.32"), Decimal("900719925474099.33")]
"""Numbers that are one number as DOUBLE."""
OF_NEAR = [
    *("d in (900719925474099.31)", "d in (900719925474099.31, 1.5, null)", "d in ('900719925474099.31', 1)"),
    *("d not in (900719925474099.31)", "d = 900719925474099.310", "i in (9007199254740993.0)"),
    *("case d when 900719925474099.31 then true else false end", "nullif(d, 900719925474099.31) is null"),
    *("i in (9007199254740993, 1.5)", "-d in (-900719925474099.31)", "abs(d) in (900719925474099.31)"),
]


@pytest.mark.parametrize("where", OF_NEAR)
def test_numbers_that_are_one_only_when_rounded_are_told_apart(where: str, lake: Springline) -> None:
    """In a list, as in a comparison: else the rows of all three were deleted."""
    schema = pa.schema({"id": pa.int64(), "d": pa.decimal128(20, 2), "i": pa.int64()})
    rows = pa.table([[0, 1, 2], NEAR, [2**53, 2**53 + 1, 2**53 + 2]], schema=schema)
    table = lake.create_table(next(_NAMES), schema)
    table.append(rows)
    engine = duckdb.connect()
    engine.register("rows", rows)
    stay = engine.sql(f"select id from rows where not coalesce({where}, false) order by id").fetchall()
    assert 0 < len(stay) < 3
    table.delete(where)
    assert ids(table) == [one for (one,) in stay]


@pytest.mark.parametrize("where", ["d = 0.{}", "d in (0.{})", "d >= 0.{}", "d = '0.{}0'"])
def test_a_number_of_as_many_digits_as_a_column_holds_is_found(where: str, lake: Springline) -> None:
    kind = pa.decimal128(38, 38)
    rows = pa.table({"id": [0, 1], "d": pa.array([Decimal("0." + "9" * 37 + end) for end in "89"], kind)})
    table = lake.create_table(next(_NAMES), rows.schema)
    table.append(rows)
    table.delete(where.format("9" * 38))
    assert ids(table) == [0]


def test_arguments_that_are_no_texts_are_refused(table: DeltaTable) -> None:
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("where", lambda: table.delete("p = '\ud800'")),
        ("where", lambda: table.overwrite(frame(), where="p = '\ud800'")),
        ("where", lambda: table.overwrite(frame(), where=5)),  # type: ignore[arg-type]
        ("where", lambda: table.overwrite(frame(), where=" ")),
        ("set", lambda: table.update(["id"])),  # type: ignore[arg-type]
        ("set", lambda: table.update({"x": "\ud800"})),
        ("values", lambda: table.update(values=["id"])),  # type: ignore[arg-type]
    ]
    for field, call in calls:
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.refusal.field == field
    assert table.status()["latest_version"] == 1


@pytest.mark.parametrize("kind", [pa.string(), pa.bool_(), pa.float64(), pa.date32(), pa.decimal128(5, 2)])
def test_a_condition_that_is_never_true_deletes_nothing(kind: pa.DataType, lake: Springline) -> None:
    rows = pa.table(
        {"c": pa.array(["1", None]).cast(kind) if kind == pa.string() else pa.nulls(2, kind), "l": [[1], []]}
    )
    table = lake.create_table(next(_NAMES), rows)
    table.append(rows)
    assert table.delete("c = null").metrics["num_deleted_rows"] == 0
    assert table.to_arrow().num_rows == 2
    assert table.delete("c is null").metrics["num_deleted_rows"] == rows.column("c").null_count


@pytest.mark.parametrize(
    "set_",
    [
        {"x": "1.5"},
        {"x": "id / 2.0"},
        {"x": "'abc'"},
        {"x": "true"},
        {"zz": "1"},
        {"x": "300000000000"},
        {"id": "x +"},
        {"p": "id"},
        {"x": "now()"},
    ],
)
def test_an_update_that_would_change_values_is_refused(set_: dict[str, str], table: DeltaTable) -> None:
    """The library would cut 1.5 to 1, and leave out a column that is not there."""
    with pytest.raises(Refused) as caught:
        table.update(set_)
    assert caught.value.refusal.code is Code.INVALID_REQUEST
    assert table.at().version == 1


ODD: dict[str, tuple[pa.DataType, list[Any], Any]] = {
    "i": (pa.int16(), [1, -1], 7),
    "f": (pa.float64(), [float("nan"), -0.0], float("inf")),
    "g": (pa.float32(), [1.5, 0.1], 0.1),
    "d": (pa.decimal128(10, 2), [Decimal("1.50"), None], Decimal("2.25")),
    "e": (pa.decimal128(38, 10), [Decimal("1E-10"), None], Decimal("0E-10")),
    "s": (pa.string(), ["", "o'x\n"], "a'b\\\"c"),
    "b": (pa.binary(), [b"\0\xff", b""], b"\x00\x01"),
    "t": (
        pa.timestamp("us", "UTC"),
        [datetime.datetime(1, 1, 1, tzinfo=datetime.UTC), None],
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=datetime.UTC),
    ),
    "n": (
        pa.timestamp("us"),
        [datetime.datetime(2024, 1, 1, 1, 2, 3, 4), None],
        datetime.datetime(1600, 1, 1, 0, 0, 1),
    ),
    "y": (pa.date32(), [datetime.date(1, 1, 1), None], datetime.date(9999, 12, 31)),
    "o": (pa.bool_(), [True, None], False),
    "l": (pa.list_(pa.int64()), [[1, None], []], None),
}


def test_values_are_stored_as_they_are_and_the_others_stay(lake: Springline) -> None:
    rows = pa.table({"id": [0, 1, 2]} | {name: pa.array([*held, None], kind) for name, (kind, held, _) in ODD.items()})
    table = lake.create_table(next(_NAMES), rows)
    table.append(rows)
    table.update(values={name: value for name, (_, _, value) in ODD.items()}, where="id = 2")
    found = table.to_arrow().sort_by("id").to_pylist()
    before = rows.to_pylist()
    assert repr(found[:2]) == repr(before[:2])
    expected = {name: pa.scalar(value, kind).as_py() for name, (kind, _, value) in ODD.items()}
    assert found[2] == {"id": 2} | expected


@pytest.mark.parametrize("values", [{"x": 1.5}, {"x": True}, {"x": 2**40}, {"x": "a"}, {"zz": 1}, {"p": 1}])
def test_a_value_that_does_not_fit_is_refused(values: dict[str, Any], table: DeltaTable) -> None:
    with pytest.raises(Refused) as caught:
        table.update(values=values)
    assert caught.value.refusal.field in (f"values.{next(iter(values))}", "values")
    assert table.at().version == 1


def test_rows_of_a_merge_are_cast_as_those_of_an_append(table: DeltaTable) -> None:
    for rows, named in (
        (pa.table({"id": [1], "x": [1.5]}), "data.x"),
        (pa.table({"id": [1], "x": [2**40]}), "data.x"),
        (pa.table({"id": [1], "y": [1]}), "source.y"),
        (pa.table({"id": [1, 1], "x": [1, 2]}), "source"),
    ):
        with pytest.raises(Refused) as caught:
            table.upsert(rows, "id")
        assert caught.value.refusal.field == named
    merge = table.merge(pa.table({"id": [2, 2]}), "target.id = source.id").when_matched_update({"x": "1"})
    with pytest.raises(Refused, match="several rows"):
        merge.execute()
    assert table.at().version == 1
    table.upsert([{"id": 1, "x": 3.0}], on="id")
    assert values(table)[1] == 3


def test_a_merge_with_every_kind_of_clause(table: DeltaTable) -> None:
    source = pa.table({"id": [0, 1, 2, 8, 9], "d": [1, 0, 0, 0, 1]})
    merge = table.merge(source, "t.id = s.id", target_alias="t", source_alias="s", key="all")
    result = (
        merge.when_matched_delete(predicate="s.d = 1")
        .when_matched_update({"x": "t.x + 10"}, predicate="s.id = 2")
        .when_matched_update_all(except_cols=["d"])
        .when_not_matched_insert_all(predicate="s.d = 0", except_cols=["d"])
        .when_not_matched_by_source_update({"x": "-1"}, predicate="t.id = 3")
        .when_not_matched_by_source_delete(predicate="t.id = 4")
        .execute()
    )
    assert values(table) == {1: 0, 2: 10, 3: -1, 5: 0, 8: None}
    assert result.metrics["num_target_rows_inserted"] == 1


@pytest.mark.parametrize("inserts", [False, True])
def test_rows_that_several_source_rows_match_stay_once(inserts: bool, table: DeltaTable) -> None:
    """The library copies such a row once for each of them if no clause is about matched rows."""
    merge = table.merge(pa.table({"id": [1, 1, 2, 9]}), "target.id = source.id")
    merge.when_not_matched_by_source_update({"x": "5"}, predicate="target.id = 3").when_not_matched_by_source_delete()
    if inserts:
        merge.when_not_matched_insert({"id": "source.id"})
    merge.execute()
    assert ids(table) == [1, 2, 3, *([9] if inserts else [])]


def test_optimize_keeps_rows_and_partitions_and_does_nothing_twice(table: DeltaTable) -> None:
    table.append(frame(range(10, 20)))
    before = sorted(map(repr, table.to_arrow().to_pylist()))
    first = table.optimize(key="o")
    assert first.metrics["numFilesAdded"] == 2
    assert first.metrics["numFilesRemoved"] == 4
    assert table.optimize(key="o").version == first.version
    assert table.optimize().changed is False
    assert sorted(map(repr, table.to_arrow().to_pylist())) == before
    sorted_ = table.optimize(z_order=["id"], key="z")
    assert sorted_.metrics["numFilesRemoved"] == 2
    assert sorted(map(repr, table.to_arrow().to_pylist())) == before
    assert [row.operation for row in table.history(2)] == ["OPTIMIZE", "OPTIMIZE"]
    wrong: list[dict[str, Any]] = [{"z_order": ["p"]}, {"z_order": ["zz"]}, {"target_size": 1}, {"target_size": True}]
    for odd in wrong:
        with pytest.raises(Refused):
            table.optimize(**odd)


DAY = datetime.datetime(2024, 1, 1)
TIMES = [datetime.datetime(2024, 1, day, tzinfo=datetime.UTC) for day in (1, 2, 3)]


def test_a_table_of_odd_names_is_sorted(lake: Springline) -> None:
    """The library by itself finds neither the column `a.b` nor the files of the partition `~`."""
    rows = pa.table({"id": [3, 1, 2, 4], "a.b": [9, 8, 7, 6], "p": ["~", "b c", None, "~"]})
    table = lake.create_table(next(_NAMES), rows, partition_by=["p"])
    table.append(rows)
    result = table.optimize(z_order=["a.b", "id"])
    assert (result.changed, result.metrics["numFilesAdded"]) == (True, 3)
    assert sorted(table.to_arrow().to_pylist(), key=repr) == sorted(rows.to_pylist(), key=repr)
    assert table.to_arrow(["id"], where="p = '~'").column("id").to_pylist() == [4, 3]


@pytest.mark.parametrize(
    "partition", [pa.array(TIMES, pa.timestamp("us", "UTC")), pa.array([1e300, float("inf"), -0.0])]
)
def test_partition_values_that_the_library_writes_otherwise(partition: pa.Array, lake: Springline) -> None:
    rows = pa.table({"id": [1, 2, 3], "p": partition})
    table = lake.create_table(next(_NAMES), rows, partition_by=["p"])
    for _ in range(2):
        table.append(rows)
    operations: list[Callable[[], Any]] = [
        lambda: table.delete("id = 1"),
        lambda: table.update({"id": "id"}),
        lambda: table.upsert(rows, "id"),
    ]
    for do in operations:
        with pytest.raises(Refused) as caught:
            do()
        assert caught.value.refusal.code is Code.UNSUPPORTED_FEATURE
        assert caught.value.refusal.value == "p"
    texts = partition_texts(table, 1)
    optimized = table.optimize()
    assert partition_texts(table, optimized.version) == texts
    assert len(ids(table)) == 6
    assert table.delete("p is not null and p > p").changed is False
    assert table.delete("p = p").metrics["num_deleted_rows"] == 6


NO_PARTITIONS: list[tuple[pa.DataType, Any, Any]] = [
    (pa.string(), "a", ""),
    (pa.decimal128(10, 2), Decimal("1.50"), Decimal("-1.50")),
]


@pytest.mark.parametrize(("kind", "good", "bad"), NO_PARTITIONS)
def test_a_change_gives_no_row_a_partition_value_that_an_append_may_not(
    kind: pa.DataType, good: Any, bad: Any, lake: Springline
) -> None:
    """The library writes an empty text, which is read as null, and -1.-50, which no reader takes."""
    schema = pa.schema([("id", pa.int64()), ("p", kind), ("other", kind)])
    table = lake.create_table(next(_NAMES), schema, partition_by=["p"])
    table.append(pa.table([[1, 2], [good, None], [bad, None]], schema=schema))
    source = pa.table([[2, 3], [bad, good], [None, None]], schema=schema)
    inserts = table.merge(source, "target.id = source.id + 5").when_not_matched_insert_all()
    operations: list[Callable[[], Any]] = [
        lambda: table.upsert(source, "id"),
        lambda: table.update(values={"p": bad}),
        lambda: table.update({"p": "other"}, where="id = 1"),
        inserts.execute,
    ]
    for do in operations:
        with pytest.raises(Refused, match="column 'p' partitions the table, and its value") as caught:
            do()
        assert str(caught.value.refusal.value).startswith(str(bad)[:100])
    assert table.status()["latest_version"] == 1
    table.update({"p": "other"}, where="id = 2")
    table.upsert(pa.table([[2, 3], [good, None], [good, bad]], schema=schema), "id")
    found = sorted((row["id"], row["p"], row["other"]) for row in table.to_deltalake().to_pyarrow_table().to_pylist())
    assert found == [(1, good, bad), (2, good, good), (3, None, bad)]


def test_a_constant_for_a_partition_column(table: DeltaTable) -> None:
    """The engine computes what is constant beforehand, also the error that no row would get."""
    table.update({"p": "'c'"}, where="id = 1")
    merge = table.merge(pa.table({"id": [2, 9]}), "target.id = source.id")
    merge.when_matched_update({"p": "concat('c', 'd')"}).when_not_matched_insert({"id": "source.id", "p": "'e'"})
    merge.when_not_matched_by_source_update({"p": "null"}, predicate="target.id = 3").execute()
    found = {row["id"]: row["p"] for row in table.to_arrow().to_pylist()}
    assert found == {0: "b", 1: "c", 2: "cd", 3: None, 4: "b", 5: "a", 9: "e"}
    for text in ("''", "concat('', '')"):
        with pytest.raises(Refused, match="column 'p' partitions the table, and its value '' is empty"):
            table.update({"p": text})


def test_times_without_a_zone_in_a_map(lake: Springline) -> None:
    """A table of the library's own making lacks the feature that they need."""
    kind = pa.map_(pa.string(), pa.timestamp("us"))
    rows = pa.table({"id": [1, 2], "m": pa.array([[("a", DAY)], None], kind)})
    table = lake.create_table(next(_NAMES), rows)
    table.upsert(rows, "id")
    table.optimize(z_order=["id"])
    assert table.to_arrow().sort_by("id").equals(rows)


def test_rows_beside_a_partition_value_of_another_writer_stay_readable(lake: Springline, folder: Folder) -> None:
    rows = pa.table({"id": [1, 2], "p": pa.array([Decimal("1.50"), Decimal("2.00")])})
    table = lake.create_table(next(_NAMES), rows, partition_by=["p"])
    table.append(rows)
    (log,) = reached(table._table).logs([1])
    assert log is not None
    adds = [orjson.loads(line)["add"] for line in log.splitlines() if b'"add"' in line]
    (add,) = (one for one in adds if one["partitionValues"]["p"] == "1.50")
    moved = {"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}}
    table.commit([moved], read_version=1)
    table.commit([{"add": add | {"partitionValues": {"p": "-1.50"}}}], read_version=2)
    with pytest.raises(Refused) as caught:
        table.update({"id": "id"})
    assert caught.value.refusal.code is Code.UNSUPPORTED_FEATURE
    assert table.to_arrow(where="id = 1").column("p").to_pylist() == [Decimal("-1.50")]


def partition_texts(table: DeltaTable, version: int) -> set[str]:
    (log,) = reached(table._table).logs([version])
    assert log is not None
    actions = [orjson.loads(line) for line in log.splitlines()]
    return {action["add"]["partitionValues"]["p"] for action in actions if "add" in action}


def test_tables_that_forbid_it_are_refused_by_name(lake: Springline, table: DeltaTable) -> None:
    only = lake.create_table(next(_NAMES), frame(), properties={"delta.appendOnly": "true"})
    for _ in range(2):
        only.append(frame())
    operations: list[Callable[[], Any]] = [
        lambda: only.delete("id = 1"),
        lambda: only.update({"x": "1"}),
        lambda: only.upsert(frame(), "id"),
    ]
    for do in operations:
        with pytest.raises(Refused, match="append-only"):
            do()
    assert only.optimize().changed
    # A table whose transactions may be forgotten could do an operation twice.
    table.to_deltalake().alter.set_table_properties(
        {"delta.setTransactionRetentionDuration": "interval 1 days"}, raise_if_not_exists=False
    )
    with pytest.raises(Refused, match="setTransactionRetentionDuration"):
        table.delete("id = 1")


def committed_without_a_claim(table: DeltaTable, change: TableOperation, key: str) -> int:
    """Do what a process does that dies right behind the commit."""
    claimed: list[int] = []

    class Dead(Exception):
        pass

    class Doing(Changer):
        pass

    found = reached(table._table)
    inner = found.api.call

    def call(method: str, path: str, **more: Any) -> dict[str, Any]:
        if path.endswith("/claim"):
            claimed.append(more["body"]["version"])
            raise Dead
        return inner(method, path, **more)

    found.api.call = call  # type: ignore[method-assign]
    try:
        with pytest.raises(Dead):
            Doing(found).do(change, key)
    finally:
        found.api.call = inner  # type: ignore[method-assign]
    return claimed[0]


def test_a_version_that_nobody_claimed_is_claimed_by_the_next_commit(table: DeltaTable, folder: Folder) -> None:
    from springline.client.changes import delete

    version = committed_without_a_claim(table, delete("id = 1"), "k")
    for number in range(70):
        table.append(frame([100 + number]))
    table.to_deltalake().create_checkpoint()
    table.append(frame([1]))
    assert table.explain("k")["version"] == version
    result = table.delete("id = 1", key="k")
    assert (result.version, result.replayed, result.metrics["num_deleted_rows"]) == (version, True, 1)
    assert 1 in ids(table)
    assert table.explain("k")["version"] == version
    assert table.delete("id = 1", key="k").version == version


def test_a_version_whose_log_is_gone_is_not_done_again(table: DeltaTable) -> None:
    from springline.client.changes import delete

    version = committed_without_a_claim(table, delete("id = 1"), "k")
    table.append(frame([1]))
    table.to_deltalake().create_checkpoint()
    table.append(frame([7]))
    place = reached(table._table).place
    assert place.folder is not None
    for gone in range(version + 1):
        (place.folder / "_delta_log" / f"{gone:020}.json").unlink()
    again = table.delete("id = 1", key="k")
    assert (again.version, again.replayed) == (version, True)
    assert 1 in ids(table)


def test_two_tries_of_one_key_from_one_snapshot(table: DeltaTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second has looked for the key before the first commits, and finds it when it loses."""
    from deltalake import DeltaTable as Library

    inner = Library.delete
    beaten: list[int] = []

    def beaten_delete(self: Library, *given: Any, **named: Any) -> Any:
        if not beaten:
            beaten.append(1)
            assert table.delete("id = 1", key="k").version == 2
            table.append(frame([1]))
        return inner(self, *given, **named)

    monkeypatch.setattr(Library, "delete", beaten_delete)
    result = table.delete("id = 1", key="k")
    assert (result.version, result.replayed) == (2, True)
    assert ids(table) == [0, 1, 2, 3, 4, 5]


def test_an_answer_that_is_lost_behind_the_commit_is_found(table: DeltaTable, monkeypatch: pytest.MonkeyPatch) -> None:
    from deltalake import DeltaTable as Library

    inner = Library.update

    def lost(self: Library, *given: Any, **named: Any) -> Any:
        inner(self, *given, **named)
        raise OSError("the connection is gone")

    monkeypatch.setattr(Library, "update", lost)
    result = table.update({"x": "x + 1"}, where="id = 1")
    assert result.version == 2
    assert values(table)[1] == 1


def test_a_store_that_gives_no_answer_leaves_the_end_unclear(
    table: DeltaTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltalake import DeltaTable as Library

    from springline.client import changes

    def gone(self: Library, *given: Any, **named: Any) -> Any:
        raise OSError("the connection is gone")

    monkeypatch.setattr(Library, "delete", gone)
    monkeypatch.setattr(changes, "ATTEMPTS", 2)
    with pytest.raises(Unavailable, match="key='k'"):
        table.delete("id = 1", key="k")
    monkeypatch.undo()
    assert table.delete("id = 1", key="k").version == 2


def test_an_operation_that_always_loses_says_so(table: DeltaTable, monkeypatch: pytest.MonkeyPatch) -> None:
    from deltalake import DeltaTable as Library

    from springline.client import changes

    inner = Library.update

    def rival(self: Library, *given: Any, **named: Any) -> Any:
        write_deltalake(
            self.table_uri,
            frame([1]),
            mode="append",
            commit_properties=CommitProperties(app_transactions=[Transaction(new_key(), 1)]),
        )
        return inner(self, *given, **named)

    monkeypatch.setattr(Library, "update", rival)
    monkeypatch.setattr(changes, "ATTEMPTS", 3)
    with pytest.raises(Refused) as caught:
        table.update({"x": "x + 1"}, where="id = 1", key="k")
    assert caught.value.refusal.code is Code.CONCURRENT_CHANGE
    assert caught.value.refusal.latest_version == 4
    monkeypatch.undo()
    assert table.update({"x": "x + 1"}, where="id = 1", key="k").version == 5


BEATEN: dict[str, tuple[Callable[[DeltaTable], Any], list[int]]] = {
    "optimize": (lambda table: table.optimize(key="k"), [0, 1, 2, 3, 4, 5, 6]),
    "z-order": (lambda table: table.optimize(z_order=["id"], key="k"), [0, 1, 2, 3, 4, 5, 6]),
    "delete": (lambda table: table.delete("p = 'b'", key="k"), [1, 3, 5]),
}


@pytest.mark.parametrize("name", BEATEN)
@pytest.mark.parametrize("foreign", [False, True])
def test_files_that_an_optimize_has_replaced_are_not_replaced_twice(
    name: str, foreign: bool, table: DeltaTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """delta-rs overlooks the removal of a file by a commit that changes no rows: then each row is there twice."""
    from deltalake import DeltaTable as Library

    do, wanted = BEATEN[name]
    table.append(frame([6]))
    inner = Library.create_write_transaction
    beaten: list[int] = []

    def beaten_commit(self: Library, *given: Any, **named: Any) -> None:
        if not beaten:
            beaten.append(1)
            if foreign:
                Library(self.table_uri).optimize.compact()
            else:
                assert table.optimize().changed
        inner(self, *given, **named)

    monkeypatch.setattr(Library, "create_write_transaction", beaten_commit)
    result = do(table)
    assert beaten
    assert ids(table) == wanted
    again = do(table)
    assert (again.version, again.changed) == (result.version, result.changed)


BESIDE: dict[str, tuple[str, Callable[[DeltaTable], Any], list[int]]] = {
    "delete": ("deltalake.DeltaTable.delete", lambda table: table.delete("id > 3", key="k"), [0, 1, 2, 3]),
    "update": (
        "deltalake.DeltaTable.update",
        lambda table: table.update({"id": "id + 10"}, where="id > 3", key="k"),
        [0, 1, 2, 3, 14, 15, 16],
    ),
    "merge": ("deltalake.table.TableMerger.execute", lambda table: merged(table, "k"), [0, 1, 2, 3, 4, 5, 6, 9]),
    "upsert": (
        "deltalake.table.TableMerger.execute",
        lambda table: table.upsert(frame([1, 9]), "id", key="k"),
        [0, 1, 2, 3, 4, 5, 6, 9],
    ),
    "overwrite": (
        "springline.client.writing.WritableTable.commit",
        lambda table: table.overwrite(frame([7]), key="k"),
        [7],
    ),
    "overwrite of a partition": (
        "springline.client.writing.WritableTable.commit",
        lambda table: table.overwrite(frame([7]), where="p = 'a'", key="k"),
        [0, 2, 4, 6, 7],
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_files_that_another_compacts_meanwhile_are_neither_lost_nor_doubled(
    name: str, table: DeltaTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the snapshot that an operation was computed from and its commit, another makes one file of many."""
    from deltalake import DeltaTable as Library

    place, do, wanted = BESIDE[name]
    table.append(frame([6]))
    module, _, attribute = place.rpartition(".")
    owner = pkgutil.resolve_name(module)
    inner = getattr(owner, attribute)
    beaten: list[int] = []

    def beaten_call(*given: Any, **named: Any) -> Any:
        if not beaten:
            Library(table.location).optimize.compact()
            beaten.append(1)
        return inner(*given, **named)

    monkeypatch.setattr(owner, attribute, beaten_call)
    do(table)
    assert beaten
    assert ids(table) == wanted
    do(table)
    assert ids(table) == wanted


def test_a_partition_that_another_deletes_first_is_deleted_once(
    table: DeltaTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltalake import DeltaTable as Library

    inner = Library.create_write_transaction
    beaten: list[int] = []

    def beaten_commit(self: Library, *given: Any, **named: Any) -> None:
        if not beaten:
            beaten.append(1)
            assert table.delete("p = 'b'").changed
        inner(self, *given, **named)

    monkeypatch.setattr(Library, "create_write_transaction", beaten_commit)
    result = table.delete("p = 'b'")
    assert (result.version, result.changed) == (2, False)
    monkeypatch.undo()
    table.append(frame([2]))
    assert ids(table) == [1, 2, 3, 5]


def test_an_optimize_does_not_lose_to_appends(table: DeltaTable, monkeypatch: pytest.MonkeyPatch) -> None:
    from deltalake import DeltaTable as Library

    table.append(frame([6]))
    inner = Library.create_write_transaction
    monkeypatch.setattr("springline.client.changes.ATTEMPTS", 1)

    def rival(self: Library, *given: Any, **named: Any) -> None:
        if self.version() < 6:
            write_deltalake(self.table_uri, frame([self.version() + 100]), mode="append")
        inner(self, *given, **named)

    monkeypatch.setattr(Library, "create_write_transaction", rival)
    assert table.optimize().changed
    assert ids(table) == [0, 1, 2, 3, 4, 5, 6, 102, 103, 104, 105]


def test_an_upsert_does_not_lose_to_appends_of_rows_that_it_is_not_about(
    table: DeltaTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltalake.table import TableMerger

    inner = TableMerger.execute

    def rival(self: TableMerger) -> Any:
        table.append(frame([1000]))
        return inner(self)

    monkeypatch.setattr(TableMerger, "execute", rival)
    monkeypatch.setattr("springline.client.changes.ATTEMPTS", 1)
    assert table.upsert(frame([1, 9]), "id").version == 3
    assert ids(table) == [0, 1, 2, 3, 4, 5, 9, 1000]


def test_an_upsert_by_a_number_that_may_be_nan_reads_every_file(lake: Springline) -> None:
    """delta-rs leaves NaN out of a file's bounds, and takes it for greater than any number."""
    kinds = {"x": pa.float64(), "n": pa.int64()}
    rows = pa.table({"x": [1.0, float("nan")], "n": [1, 2]}, pa.schema(kinds))
    table = lake.create_table(next(_NAMES), rows.schema)
    write_deltalake(table.location, rows, mode="append")
    table.upsert(pa.table({"x": [float("nan"), -1.0], "n": [5, 6]}, pa.schema(kinds)), "x")
    found = table.to_deltalake().to_pyarrow_table().to_pylist()
    assert sorted((repr(row["x"]), row["n"]) for row in found) == [("-1.0", 6), ("1.0", 1), ("nan", 5)]


def of_bits(*bits: int) -> pa.Array:
    return pa.array(np.array(bits, np.uint64).view(np.float64))


NANS = of_bits(0x7FF8000000000000, 0xFFF8000000000000, 0xFFF8000000000001)
"""Python's NaN, that of 0.0 / 0.0, and another one."""


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (pa.float64(), pa.array([0.0, -0.0])),
        (pa.float64(), NANS),
        (pa.float32(), pa.array([0.1, 0.10000000149011612])),
        (pa.float32(), NANS),
    ],
)
def test_source_rows_that_are_one_number_in_the_table_are_refused(
    kind: pa.DataType, numbers: pa.Array, lake: Springline
) -> None:
    table = lake.create_table(next(_NAMES), pa.schema([("x", kind), ("n", pa.int64())]))
    with pytest.raises(Refused, match="rows with the same x"):
        table.upsert(pa.table({"x": numbers, "n": range(len(numbers))}), "x")
    assert table.status()["latest_version"] == 0


def test_every_nan_is_one_value(lake: Springline) -> None:
    """The engine takes a NaN with a sign for less than any number, and for no other NaN's equal."""
    kinds = {"n": pa.int64(), "x": pa.float64(), "f": pa.float32(), "l": pa.list_(pa.float64())}
    lists = [[one] for one in NANS.to_pylist()] + [[5.0]]
    numbers = pa.concat_arrays([NANS, pa.array([5.0])])
    rows = pa.table([[1, 2, 3, 4], numbers, numbers, lists], schema=pa.schema(kinds))
    table = lake.create_table(next(_NAMES), rows.schema)
    table.append(rows[:2])
    table.upsert(rows[2:], "n")
    for name in ("x", "f"):
        assert sorted(table.to_arrow(["n"], where=f"{name} = 'NaN'")["n"].to_pylist()) == [1, 2, 3]
        assert sorted(table.to_arrow(["n"], where=f"{name} > 1")["n"].to_pylist()) == [1, 2, 3, 4]
        assert table.to_arrow(where=f"{name} < 1").num_rows == 0
    table.update({"x": "(x - x) / (x - x)", "f": "CAST(x - x AS REAL) / CAST(x - x AS REAL)"}, where="n = 4")
    assert table.to_arrow(where="x = 'NaN' AND f = 'NaN'").num_rows == 4
    assert table.delete("x < 1 OR f < 1").changed is False


def test_an_upsert_of_nothing_is_nothing_to_do(table: DeltaTable) -> None:
    empty: list[Any] = [[], {}, iter([]), frame([]), frame([]).to_pandas()]
    for rows in empty:
        result = table.upsert(rows, "id", key="k")
        assert (result.version, result.changed) == (1, False)
    assert table.upsert(frame([1]), "id", key="k").version == 2
    with pytest.raises(Refused, match="neither rows nor columns"):
        table.merge([], "true").when_matched_delete().execute()


@pytest.mark.parametrize("on", [5, None, [], [5], {"id": 1}, b"id", ["id", "zz"], "zz"])
def test_what_is_no_column_is_nothing_to_match_by(on: Any, table: DeltaTable) -> None:
    with pytest.raises(Refused) as caught:
        table.upsert(frame([1]), on)
    assert caught.value.refusal.field == "on"


def test_the_transactions_of_keys_are_the_operations_own(table: DeltaTable) -> None:
    key = new_key()
    for app_id in (f"springline:{key}", "springline:"):
        with pytest.raises(Refused, match="idempotency key") as caught:
            table.commit([{"txn": {"appId": app_id, "version": 1}}], read_version=1)
        assert caught.value.refusal.value == app_id
    assert table.commit([{"txn": {"appId": "nightly", "version": 1}}], read_version=1).version == 2
    assert table.delete("id = 1", key=key).changed
