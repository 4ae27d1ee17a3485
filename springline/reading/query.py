"""SQL over the published state: DuckDB in memory, one view per table, no way out to files or the network.

Times are `TIMESTAMP` in UTC, JSON columns are JSON text (`labels->>'$.team'`), enums are spelled as in the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from springline.errors import Code, Refused, refused
from springline.projection.parquet import arrow_table
from springline.projection.schema import TABLES, Kind, Row, Table

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
}
_READING = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query found: columns as (name, DuckDB type), rows in order."""

    columns: list[tuple[str, str]]
    rows: list[tuple[Any, ...]]


class Database:
    """The tables of one revision, to be asked in SQL. Close it."""

    def __init__(self, rows: Mapping[str, Iterable[Row]]) -> None:
        self._connection = duckdb.connect(":memory:", config=dict(_SETTINGS))
        for name, table in TABLES.items():
            self._connection.register(name, _shown(table, arrow_table(table, rows.get(name, ()))))
        self._connection.execute("SET lock_configuration = true")

    def ask(self, sql: str) -> Answer:
        """Run one query.

        Raises `Refused` (INVALID_REQUEST) for what is no single query, cannot be run, or reaches for anything but
        the tables.
        """
        try:
            statements = self._connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in _READING:
                raise _wrong("it is not one query that reads", sql)
            cursor = self._connection.execute(statements[0])
            columns = [(str(name), str(kind)) for name, kind, *_ in cursor.description]
            return Answer(columns, cursor.fetchall())
        except duckdb.Error as error:
            raise _wrong(str(error).strip(), sql) from None

    def close(self) -> None:
        """Give up the memory."""
        self._connection.close()


def _shown(table: Table, rows: pa.Table) -> pa.Table:
    """Return a table as it is asked for: without columns of our own, its milliseconds as instants."""
    columns = [column for column in table.columns if not column.internal]
    return pa.table(
        {
            column.name: rows[column.name].cast(pa.timestamp("ms")).cast(pa.timestamp("us"))
            if column.kind is Kind.MS
            else rows[column.name]
            for column in columns
        }
    )


def _wrong(problem: str, sql: str) -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        f"the query cannot be answered: {problem}",
        field="SQL",
        value=sql[:500],
        remedy=f"Give one SELECT over the tables {', '.join(TABLES)}; `DESCRIBE runs` shows columns.",
    )
