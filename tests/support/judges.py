"""Foreign judges: other engines' Delta readers, asked what a table's location holds.

Each judge takes a table's folder and gives its rows in one canonical form, so that answers of different engines can
be compared with `==`: one dictionary a row, columns in schema order, rows in any order (compare `canonical(rows)`).
A judge raises whatever its engine raises when a table cannot be read; `verdicts` turns that into text.

- delta-rs (DataFusion inside) and pyarrow over delta-rs's file list: the most used readers in Python;
- DuckDB's delta extension, which is delta-kernel in Rust;
- polars;
- Spark (`tests/support/spark.py`) for `make test-full`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extensions
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder

Row = dict[str, Any]


@dataclass(frozen=True)
class Where:
    """A filter every engine can be asked for: `op` is one of =, <, > and `is null` (then `value` is None).

    `sql_type` is the name of the column's type in standard SQL, to which the literal is cast.
    """

    column: str
    op: str
    value: Any = None
    sql_type: str = "varchar"

    @property
    def sql(self) -> str:
        """The condition in SQL that DuckDB, DataFusion and Spark understand alike (double quotes for names)."""
        name = '"' + self.column.replace('"', '""') + '"'
        if self.op == "is null":
            return f"{name} is null"
        text = self.value.isoformat(sep=" ") if isinstance(self.value, datetime.datetime) else str(self.value)
        return f"{name} {self.op} cast('" + text.replace("'", "''") + f"' as {self.sql_type})"

    @property
    def arrow(self) -> pc.Expression:
        """The condition for a pyarrow data set."""
        return _condition(pc.field(self.column), self.op, self.value)

    @property
    def polars(self) -> pl.Expr:
        """The condition for a polars frame."""
        expression: pl.Expr = _condition(pl.col(self.column), self.op, self.value)
        return expression


def _condition(column: Any, op: str, value: Any) -> Any:
    """Apply the operator to an engine's own column expression."""
    match op:
        case "=":
            return column == value
        case "<":
            return column < value
        case ">":
            return column > value
    return column.is_null()


Judge = Callable[[Path, Where | None], list[Row]]


def delta_rs(folder: Path, where: Where | None = None) -> list[Row]:
    """Read with delta-rs and its query engine."""
    query = QueryBuilder().register("t", DeltaTable(folder)).execute
    return _rows(pa.table(query("select * from t" + ("" if where is None else f" where {where.sql}"))))


def pyarrow_dataset(folder: Path, where: Where | None = None) -> list[Row]:
    """Read with pyarrow, from the files and partition values that delta-rs names."""
    return _rows(DeltaTable(folder).to_pyarrow_dataset().to_table(filter=None if where is None else where.arrow))


def duckdb_kernel(folder: Path, where: Where | None = None) -> list[Row]:
    """Read with DuckDB's delta extension."""
    sql = f"from delta_scan('{_literal(folder)}')" + ("" if where is None else f" where {where.sql}")
    return _rows(_duckdb().cursor().sql(sql).to_arrow_table())


def polars_scan(folder: Path, where: Where | None = None) -> list[Row]:
    """Read with polars."""
    frame = pl.scan_delta(str(folder))
    return _rows((frame if where is None else frame.filter(where.polars)).collect().to_arrow())


JUDGES: dict[str, Judge] = {
    "delta-rs": delta_rs,
    "pyarrow": pyarrow_dataset,
    "duckdb": duckdb_kernel,
    "polars": polars_scan,
}
"""Every judge that needs nothing but what the tests install."""


def counts(folder: Path) -> dict[str, int | str]:
    """Return the number of rows that delta-rs and DuckDB find, or the text of what they raise."""
    return {
        "delta-rs": _said(lambda: _delta_rs_count(folder)),
        "duckdb": _said(lambda: _duckdb_count(folder)),
    }


def verdicts(
    folder: Path, where: Where | None = None, judges: Mapping[str, Judge] = JUDGES
) -> dict[str, list[Any] | str]:
    """Return each judge's rows in canonical form, or the text of what it raises."""

    def ask(judge: Judge) -> list[Any] | str:
        try:
            return canonical(judge(folder, where))
        # Whatever an engine raises means the same here: it cannot read the table (a panic is a BaseException).
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            return f"{type(error).__name__}: {error}"

    return {name: ask(judge) for name, judge in judges.items()}


def canonical(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return rows in a form that `==` compares: sorted, NaN equal to itself, -0.0 as 0.0, maps by key, times in UTC."""
    return sorted((_value(dict(row)) for row in rows), key=repr)


def _value(value: Any) -> Any:
    match value:
        case float():
            return "NaN" if math.isnan(value) else value + 0.0
        case datetime.datetime():
            return value.astimezone(datetime.UTC).isoformat() if value.tzinfo else value.isoformat()
        case Decimal():
            return str(value.normalize())
        case dict():
            return [[key, _value(one)] for key, one in value.items()]
        case tuple():
            return tuple(_value(one) for one in value)
        case list():
            made = [_value(one) for one in value]
            # A map arrives as a list of pairs, in whatever order its engine keeps.
            return sorted(made, key=repr) if made and all(isinstance(one, tuple) for one in made) else made
    return value


def _rows(table: pa.Table) -> list[Row]:
    rows: list[Row] = table.to_pylist()
    return rows


def _said(ask: Callable[[], int]) -> int | str:
    try:
        return ask()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return f"{type(error).__name__}: {error}"


def _delta_rs_count(folder: Path) -> int:
    # Not count(*): it is answered from statistics, and fails under column mapping where a file has none.
    query = QueryBuilder().register("t", DeltaTable(folder)).execute
    return int(pa.table(query("select * from t")).num_rows)


def _duckdb_count(folder: Path) -> int:
    found = _duckdb().cursor().sql(f"select count(*) from delta_scan('{_literal(folder)}')").fetchone()
    assert found is not None
    return int(found[0])


def _literal(folder: Path) -> str:
    return folder.absolute().as_uri().replace("'", "''") if " " not in str(folder) else str(folder.absolute())


@cache
def _duckdb() -> duckdb.DuckDBPyConnection:
    duckdb_extensions.import_extension("delta")
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    connection.execute("load delta")
    connection.execute("set timezone = 'UTC'")
    connection.execute("set threads = 1")
    return connection
