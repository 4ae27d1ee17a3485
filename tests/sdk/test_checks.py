"""Checks of what assets make: what they find, and what becomes of the attempt."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pytest

from springline.client.row_checks import CheckedRows
from springline.sdk import Check, CheckFailed, Context, MaterializeFailed, asset, checks, materialize
from springline.sdk.checks import CheckKind

ROWS = [{"day": "a", "n": 1}, {"day": "a", "n": 2}, {"day": None, "n": 2}]


def found(check: Check, value: Any = ROWS) -> tuple[bool, str]:
    @asset(checks=[check])
    def rows() -> Any:
        return value

    assert rows.problems == []
    result = materialize(rows, raise_on_error=False)["rows"]
    (outcome,) = result.checks
    assert (result.error is None) == (outcome.passed or outcome.severity == "warn")
    return outcome.passed, outcome.message


def long_ago(rows: pa.Table) -> str | None:
    return None if rows.num_rows == 3 else "too few"


def asserts(rows: list[Any], context: Context) -> None:
    assert context.asset == "rows"
    assert len(rows) == 4, "not four"


FOUND: list[tuple[Check, bool, str]] = [
    (checks.row_count(), True, "3 rows"),
    (checks.row_count(3, 3), True, "3 rows"),
    (checks.row_count(4), False, "3 rows, and not at least 4"),
    (checks.row_count(0, 2), False, "3 rows, and not 0 to 2"),
    (checks.not_null("n"), True, "3 rows"),
    (checks.not_null("n", "day"), False, "of 3 rows, a value is missing of day in 1"),
    (checks.not_null("m"), False, "there is no column m: what the function returned has day, n"),
    (checks.unique("day", "n"), True, "3 rows"),
    (checks.unique("n"), False, "1 key is there more than once, such as n=2 2 times"),
    (checks.sql("small", "SELECT * FROM rows WHERE n > 2"), True, "no row breaks it"),
    (
        checks.sql("small", "SELECT day, n FROM rows WHERE n > 1 ORDER BY n, day"),
        False,
        "2 rows break it, such as day=a, n=2",
    ),
    (checks.sql("small", "SELECT nothing FROM rows"), False, "its SQL cannot be run: Binder Error"),
    (checks.sql("small", "CREATE TABLE other (a int)"), False, "its SQL is no query"),
    (checks.custom(asserts), False, "not four"),
    (checks.custom(lambda rows: len(rows) == 3, name="three"), True, "holds"),
    (checks.custom(lambda rows: len(rows) == 4, name="four"), False, "four returned False"),
    (checks.custom(lambda rows: "too odd", name="odd"), False, "too odd"),
    (checks.custom(lambda rows: 3, name="three"), False, "three returned a int"),
    (checks.row_count(4, severity="warn"), False, "3 rows, and not at least 4"),
]


@pytest.mark.parametrize(("check", "passed", "said"), FOUND, ids=lambda one: one.name if isinstance(one, Check) else "")
def test_what_a_check_finds(check: Check, passed: bool, said: str) -> None:
    holds, message = found(check)
    assert holds is passed
    assert message.startswith(said)


def test_every_kind_of_check_is_tried() -> None:
    assert {check.kind for check, _, _ in FOUND} | {CheckKind.FRESHNESS} == set(CheckKind)


@pytest.mark.parametrize(
    "value",
    [
        pa.table({"n": [1, 2]}),
        pl.DataFrame({"n": [1, 2]}),
        pl.LazyFrame({"n": [1, 2]}),
        {"n": [1, 2]},
        [{"n": 1}, {"n": 2}],
    ],
    ids=["arrow", "polars", "lazy", "columns", "dicts"],
)
def test_rows_of_all_kinds_are_looked_at(value: Any) -> None:
    assert found(checks.unique("n"), value) == (True, "2 rows")


@pytest.mark.parametrize("value", [3, "text", 2.5], ids=str)
def test_what_is_no_rows_fails_the_check_and_not_the_process(value: Any) -> None:
    assert found(checks.row_count(), value) == (
        False,
        f"what the function returned is a {type(value).__name__}, and no rows",
    )
    assert found(checks.row_count(), [1, 2])[1].startswith("what the function returned is no rows: ")


def test_where_there_are_no_rows_none_is_wrong() -> None:
    assert found(checks.row_count(), None) == (False, "0 rows, and not at least 1")
    assert found(checks.row_count(0), None) == (True, "0 rows")
    assert found(checks.not_null("n", table="raw"), None) == (True, "no rows")
    assert not found(checks.freshness("day", within="1d"), None)[0]


def test_freshness() -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    days = CheckedRows(pa.table({"day": [date(2026, 2, 27), date(2026, 2, 28), None]}), "rows")
    assert days.freshness("day", 36 * 3_600_000, now) == (True, "the latest day is 2026-02-28")
    assert days.freshness("day", 35 * 3_600_000, now) == (False, "the latest day is 2026-02-28, more than 1d11h ago")
    days.close()
    instants = CheckedRows([{"at": now - timedelta(hours=1), "n": 1}], "rows")
    assert instants.freshness("at", 3_600_000, now)[0]
    assert not instants.freshness("at", 3_599_999, now)[0]
    assert instants.freshness("n", 1, now) == (False, "n is a int, and no day or instant")
    instants.close()
    assert found(checks.freshness("day", within="1d"), [{"day": datetime.now(UTC)}])[0]


def test_a_check_that_does_not_hold_fails_the_attempt_before_anything_is_written(tmp_path: Path) -> None:
    @asset(retries=3, checks=[checks.unique("n", table="kept"), checks.row_count(9, severity="warn", table="kept")])
    def raw(context: Context) -> None:
        context.table("kept", partition_by="day").append({"day": ["a b/c", "x=ü"], "n": [1, 1]})
        context.table("other").append({"m": [1]})

    with pytest.raises(MaterializeFailed) as failed:
        materialize(raw, tables=tmp_path)
    result = failed.value.result["raw"]
    assert result.attempts == 1, "the same rows would not hold again"
    assert isinstance(result.error, CheckFailed)
    assert str(result.error) == (
        "a check does not hold of raw, and nothing of it was written: unique(n): 1 key is there more than once, such "
        "as n=1 2 times"
    )
    assert [(one.name, one.passed) for one in result.checks] == [("unique(n)", False), ("row_count", False)]
    assert deltalake.DeltaTable(str(tmp_path / "kept")).version() == 0
    assert not list(tmp_path.rglob("*.parquet"))


def test_rows_that_are_written_are_looked_at_whatever_writes_them(tmp_path: Path) -> None:
    seen: list[list[dict[str, Any]]] = []

    def keep(rows: pa.Table) -> None:
        seen.append(sorted(rows.to_pylist(), key=str))

    @asset(checks=[checks.custom(keep), checks.row_count(6, 6), checks.not_null("day", "n")])
    def raw(context: Context) -> None:
        table = context.table("raw", partition_by="day")
        table.append(
            iter([pa.table({"day": [date(2026, 1, 1)], "n": [1]}), pa.table({"day": [date(2026, 1, 2)], "n": [2]})])
        )
        table.append({"day": [date(2026, 1, 3)], "n": [3], "more": ["x"]}, schema_mode="merge")
        table.upsert({"day": [date(2026, 1, 4)], "n": [4]}, on="n")
        table.overwrite({"day": [date(2026, 1, 5)] * 2, "n": [5, 6]}, where="day = '2026-01-05'")
        table.delete("n = 1")

    result = materialize(raw, tables=tmp_path)["raw"]
    assert [one.message for one in result.checks] == ["holds", "6 rows", "6 rows"]
    assert [(row["day"].day, row["n"], row.get("more")) for row in seen[0]] == [
        *((1, 1, None), (2, 2, None), (3, 3, "x"), (4, 4, None), (5, 5, None), (5, 6, None)),
    ]


def test_an_empty_write_has_no_rows(tmp_path: Path) -> None:
    @asset(checks=[checks.row_count(0), checks.not_null("n")])
    def empty(context: Context) -> None:
        context.table("empty").append(pa.table({"n": pa.array([], pa.int64())}))

    assert [one.message for one in materialize(empty, tables=tmp_path)["empty"].checks] == ["0 rows", "0 rows"]


def test_several_tables_are_to_be_named(tmp_path: Path) -> None:
    @asset(checks=[checks.row_count(), checks.row_count(table="c", name="of c")])
    def two(context: Context) -> None:
        context.table("a").append({"n": [1]})
        context.table("b").append({"n": [1]})

    result = materialize(two, tables=tmp_path, raise_on_error=False)["two"]
    assert [one.message for one in result.checks] == [
        "the function writes rows to several tables, a, b: say which, by table=",
        "the function writes no rows to table c: it writes rows to a, b",
    ]


def test_what_a_custom_check_raises_is_an_error_of_the_function() -> None:
    def breaks(rows: Any) -> None:
        raise KeyError("n")

    @asset(retries=1, checks=[checks.custom(breaks)])
    def rows() -> list[Any]:
        return ROWS

    result = materialize(rows, raise_on_error=False)["rows"]
    assert isinstance(result.error, KeyError)
    assert result.attempts == 2


async def later(rows: Any) -> None: ...


WRONG: list[tuple[Any, str, str]] = [
    (checks.row_count(), "is no list", "checks=["),
    ([long_ago], "holds the function long_ago, which is no check", "checks.custom(long_ago)"),
    ([3], "holds 3, which is no check", "checks=["),
    ([checks.row_count(), checks.row_count(2)], "two checks of the name row_count", "name="),
    ([checks.row_count(-1)], "least -1, which is no whole number", "least=1"),
    ([checks.row_count(3, 2)], "least 3 above most 2", "Exchange"),
    ([checks.not_null()], "no column", "not_null('flight')"),
    ([checks.unique(["a", "b"])], "the column ['a', 'b'], which is no text", "one by one"),  # type: ignore[arg-type]
    ([checks.freshness("day", within="soon")], "within 'soon', which is no duration", "within='2d'"),
    ([checks.sql("x", "")], "no query", "SELECT"),
    ([checks.custom(later)], "an async function", "without async"),
    ([checks.custom(3)], "3, which is no function", "custom(no_gaps)"),  # type: ignore[arg-type]
    ([checks.custom(lambda: None, name="x")], "does not take the value", "one parameter"),
    ([checks.row_count(severity="fatal")], "severity 'fatal', which there is not", "'warn'"),  # type: ignore[arg-type]
    ([checks.row_count(table=3)], "table 3, which is no text", "name of a table"),  # type: ignore[arg-type]
    ([checks.row_count(name="")], "the name ''", "characters"),
    ([checks.row_count(name=str(n)) for n in range(31)], "checks that are 31", "at most 30"),
]


@pytest.mark.parametrize(("given", "said", "remedy"), WRONG, ids=[said for _, said, _ in WRONG])
def test_a_wrong_check_is_told_with_the_asset(given: Any, said: str, remedy: str) -> None:
    @asset(checks=given)
    def rows() -> None: ...

    (problem,) = rows.problems
    assert said in problem.message
    assert remedy in problem.remedy


def test_what_a_custom_check_says_is_bounded_and_can_be_sent() -> None:
    @asset(checks=[checks.custom(lambda rows: "no \udcff" + "x" * 5_000_000, name="long", severity="warn")])
    def rows() -> list[dict[str, int]]:
        return [{"n": 1}]

    (found,) = materialize([rows])["rows"].checks
    assert found.message.startswith("no ?xxx")
    assert len(found.message) <= 2_000
