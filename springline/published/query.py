"""SQL over the published state: DuckDB in memory, one view per table, no way out to files or the network.

Times are `TIMESTAMP` in UTC, JSON columns are JSON text (`labels->>'$.team'`), enums are spelled as in the files.
DuckDB reads the columns that a query names from the files, through Arrow: only the rows of the answer become Python
objects (docs/protocol.md#cost).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Timer
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from springline.errors import Code, Refused, refused
from springline.projection.layers import AnyLayer, Layer, merged
from springline.projection.parquet import arrow_columns
from springline.projection.schema import TABLES, Column, Kind, Row, Table
from springline.published.snapshot import TableRows

SECONDS: Final = 60.0
MEMORY_MB: Final = 1_024
ROWS: Final = 1_000_000
"""Limits of one query, unless the caller says otherwise: time, memory of DuckDB, rows of the answer."""
_FETCHED_AT_ONCE: Final = 10_000
_ANY_TABLE: Final = re.compile(r"query|show|summarize|pragma|information_schema|duckdb_|sqlite_|pg_|u&", re.IGNORECASE)
"""Words by which a query may reach a table without naming it."""

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
}
_ZONED: Final = "TIMESTAMP WITH TIME ZONE"
_READING = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """The answer of a query: columns as (name, DuckDB type), rows in order."""

    columns: list[tuple[str, str]]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one query: seconds, MiB of DuckDB's memory, rows of its answer."""

    seconds: float = SECONDS
    memory_mb: int = MEMORY_MB
    rows: int = ROWS


def tables_named(sql: str) -> list[str]:
    """Return the tables that a query may reach: those that its text names, or all if it may need no names."""
    text = sql.lower()
    return [name for name in TABLES if name in text or _ANY_TABLE.search(text)]


class Database:
    """The tables of one revision, queried by SQL. The caller must close it.

    Tables that are left out have no rows: give all that the query may reach (`tables_named`).
    """

    def __init__(self, tables: Mapping[str, TableRows | Iterable[Row]], limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._connection = duckdb.connect(":memory:", config=dict(_SETTINGS))
        self._connection.execute(f"SET memory_limit = '{self._limits.memory_mb}MiB'")
        for name, table in TABLES.items():
            rows = tables.get(name, ())
            self._show(table, rows if isinstance(rows, TableRows) else TableRows.of(table, rows))
        # Of the machine's zone, `now()` would be compared with times of rows as if these were of that zone, too.
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET lock_configuration = true")
        self._timed_out = False

    def ask(self, sql: str) -> QueryAnswer:
        """Run one query.

        Raises `Refused` (INVALID_REQUEST) if the text is not exactly one query, fails, reaches anything but the
        tables, or exceeds the limits.
        """
        timer = Timer(self._limits.seconds, self._time_out)
        timer.daemon = True
        timer.start()
        try:
            statements = self._connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in _READING or _is_pragma(sql):
                raise _wrong("it is not one query that reads", sql)
            cursor: duckdb.DuckDBPyConnection | duckdb.DuckDBPyRelation = self._connection.execute(statements[0])
            columns = [(str(name), str(kind)) for name, kind, *_ in cursor.description]
            if any(kind == _ZONED for _, kind in columns):
                cursor = self._connection.sql(sql).project(_without_zones(columns))
                columns = [(name, "TIMESTAMP" if kind == _ZONED else kind) for name, kind in columns]
            rows: list[tuple[Any, ...]] = []
            while some := cursor.fetchmany(_FETCHED_AT_ONCE):
                rows += some
                if self._timed_out:
                    raise self._too_long()
                if len(rows) > self._limits.rows:
                    raise _beyond(f"has more than {self._limits.rows:,} rows", "--max-rows", self._limits.rows)
            return QueryAnswer(columns, rows)
        except duckdb.InterruptException:
            if self._timed_out:
                raise self._too_long() from None
            raise
        except duckdb.OutOfMemoryException:
            raise _beyond(
                f"needs more than {self._limits.memory_mb:,} MiB of memory", "--memory", self._limits.memory_mb
            ) from None
        except duckdb.Error as error:
            raise _wrong(str(error).strip(), sql) from None
        finally:
            timer.cancel()

    def interrupt(self) -> None:
        """Interrupt the query that another thread runs; it raises `duckdb.InterruptException` there."""
        self._connection.interrupt()

    def close(self) -> None:
        """Free the memory."""
        self._connection.close()

    def _too_long(self) -> Refused:
        return _beyond(f"took longer than {self._limits.seconds:g} s", "--timeout", self._limits.seconds)

    def _time_out(self) -> None:
        self._timed_out = True
        self._connection.interrupt()

    def _show(self, table: Table, rows: TableRows) -> None:
        """Make the view of a table: the largest file without the rows that newer files replace, and the newer rows."""
        files = [layer for layer in rows.layers if isinstance(layer, Layer)]
        largest = max(files, key=len, default=None)
        connection = self._connection
        if largest is None:
            shown = connection.from_arrow(_in_memory(table, []))
        elif len(rows.layers) == 1:
            shown = connection.from_arrow(_dataset(largest))
        elif rows.layers[0] is largest:
            newer = rows.layers[1:]
            said = [key for layer in newer for key in layer.keys(0, len(layer))]
            texts = [said] if len(table.key) == 1 else list(zip(*said, strict=True))
            arrays = [pa.array(values, pa.string()) for values in texts]
            anew = connection.from_arrow(pa.Table.from_arrays(arrays, list(table.key))).set_alias("said")
            same = " AND ".join(f'said."{column}" = base."{column}"' for column in table.key)
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            left = connection.from_arrow(_dataset(largest)).set_alias("base").join(anew, same, how="anti")
            shown = left.project(columns).union(connection.from_arrow(_in_memory(table, newer)))
        else:
            # A small base under large deltas: reading the file through DuckDB would save little.
            shown = connection.from_arrow(_in_memory(table, rows.layers))
        asked_for = ", ".join(_expression(column) for column in table.columns if not column.internal)
        shown.project(asked_for).create_view(table.name, replace=True)


def _in_memory(table: Table, layers: Sequence[AnyLayer]) -> pa.Table:
    """Return the rows of some layers, decoded."""
    return pa.concat_tables([arrow_columns(table, []), *merged(table, layers, stored=True)])


def _expression(column: Column) -> str:
    """Return the SQL of a column in the view: milliseconds become instants."""
    name = f'"{column.name}"'
    if column.kind is Kind.MS:
        return f"epoch_ms({name}) AS {name}"
    if column.kind is Kind.BOOL and not column.required_to_read:
        return f"coalesce({name}, false) AS {name}"
    return name


def _without_zones(columns: Sequence[tuple[str, str]]) -> str:
    """Return the SQL of an answer's columns, with instants like all others: DuckDB needs a library for zones."""
    return ", ".join(f"#{place}{'::TIMESTAMP' if kind == _ZONED else ''}" for place, (_, kind) in enumerate(columns, 1))


def _dataset(layer: Layer) -> ds.Dataset:
    """Return a file as an Arrow dataset, which DuckDB can read by column and more than once."""
    schema = arrow_columns(layer.table, []).schema
    fragment = ds.ParquetFileFormat().make_fragment(layer.buffer)
    return ds.FileSystemDataset([fragment], schema, fragment.format)


def _is_pragma(sql: str) -> bool:
    """Say whether a statement begins with PRAGMA; DuckDB takes some of these for queries."""
    for start, kind in duckdb.tokenize(sql):
        if kind != duckdb.token_type.comment:
            return sql.encode()[start:].lstrip()[:6].lower() == b"pragma"
    return False


_PLACE = "\n\nLINE"


def _wrong(problem: str, sql: str) -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        # DuckDB shows the place in the text below a blank line; the text itself is in `value`.
        f"the query cannot be answered: {' '.join(problem.partition(_PLACE)[0].split())}",
        field="SQL",
        value=sql[:500],
        remedy=f"Give one SELECT over the tables {', '.join(TABLES)}; `DESCRIBE runs` shows columns."
        if "does not exist" in problem
        else "Give one SELECT; `SHOW TABLES` shows the tables, `DESCRIBE runs` the columns of one.",
    )


def _beyond(problem: str, option: str, limit: float) -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        f"the query {problem}",
        field=option,
        value=limit,
        remedy=f"Narrow it with WHERE and LIMIT, aggregate in SQL, or give more with {option}.",
    )
