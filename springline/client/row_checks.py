"""Looking at rows with DuckDB: how many, missing and doubled values, the latest instant, and queries of users' own.

Rows that a task writes are read batch by batch into a database in a folder of its own, so that no more of them is in
memory than DuckDB takes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from springline.client.sources import batches, schema_of
from springline.client.staged_rows import StagedRows
from springline.definitions.durations import duration_text
from springline.errors import Refused

MOST_MEMORY: Final = "1GB"
_MOST_SHOWN: Final = 300
_OWN: Final = '"rows"'
_BROKEN: Final = '"springline_broken"'


class NoRows(ValueError):
    """What was handed over is no rows; the message says what it is."""


class CheckedRows:
    """Rows to look at. Each look returns whether what it asks for holds, and in words what was seen.

    `source`: rows of any kind that tables take, or `StagedRows`; `what` says what they are. Raises `NoRows`.
    """

    def __init__(self, source: Any, what: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="springline-checks-")
        database = str(Path(self._folder.name) / "rows.duckdb")
        self._connection = duckdb.connect(
            database, config={"memory_limit": MOST_MEMORY, "autoinstall_known_extensions": "false"}
        )
        self._what = what
        try:
            self._load(source)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove what was read."""
        self._connection.close()
        self._folder.cleanup()

    def table(self) -> pa.Table:
        """Return all rows."""
        return self._connection.execute(f"SELECT * FROM {_OWN}").to_arrow_table()

    def row_count(self, least: int, most: int | None) -> tuple[bool, str]:
        """Look whether there are from `least` to `most` rows."""
        (count,) = self._one(f"SELECT count(*) FROM {_OWN}")
        asked = f"at least {least:,}" if most is None else f"{least:,} to {most:,}"
        passed = count >= least and (most is None or count <= most)
        return passed, _rows_text(count) if passed else f"{_rows_text(count)}, and not {asked}"

    def not_null(self, columns: Sequence[str]) -> tuple[bool, str]:
        """Look whether each row has a value in all of the columns."""
        self._check_columns(columns)
        lacking = ", ".join(f"count(*) FILTER (WHERE {_quoted(one)} IS NULL)" for one in columns)
        total, *counts = self._one(f"SELECT count(*), {lacking} FROM {_OWN}")
        wrong = [f"{one} in {count:,}" for one, count in zip(columns, counts, strict=True) if count]
        if not wrong:
            return True, _rows_text(total)
        return False, f"of {_rows_text(total)}, a value is missing of {', '.join(wrong)}"

    def unique(self, columns: Sequence[str]) -> tuple[bool, str]:
        """Look whether no two rows agree in all of the columns."""
        self._check_columns(columns)
        names = ", ".join(map(_quoted, columns))
        doubled = f"SELECT {names}, count(*) AS times FROM {_OWN} GROUP BY {names} HAVING count(*) > 1"
        (count,) = self._one(f"SELECT count(*) FROM ({doubled})")
        if not count:
            return True, _rows_text(self._one(f"SELECT count(*) FROM {_OWN}")[0])
        *values, times = self._one(f"{doubled} ORDER BY times DESC, {names} LIMIT 1")
        shown = ", ".join(f"{name}={value}" for name, value in zip(columns, values, strict=True))
        which = "1 key is" if count == 1 else f"{count:,} keys are"
        return False, _short(f"{which} there more than once, such as {shown} {times:,} times")

    def freshness(self, column: str, within_ms: int, now: datetime | None = None) -> tuple[bool, str]:
        """Look whether the latest day or instant of a column is at most `within_ms` before `now`."""
        self._check_columns([column])
        (latest,) = self._one(f"SELECT max({_quoted(column)}) FROM {_OWN}")
        if latest is None:
            return False, f"no row has a value of {column}"
        if not isinstance(latest, date):
            return False, f"{column} is a {type(latest).__name__}, and no day or instant"
        instant = latest if isinstance(latest, datetime) else datetime.combine(latest, time(), UTC)
        instant = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
        age_ms = int(((now or datetime.now(UTC)) - instant).total_seconds() * 1_000)
        told = f"the latest {column} is {latest}"
        if age_ms <= within_ms:
            return True, told
        return False, f"{told}, more than {duration_text(within_ms)} ago"

    def sql(self, query: str) -> tuple[bool, str]:
        """Look whether a query returns no rows."""
        try:
            found = self._connection.sql(query)
            if found is None:
                return False, "its SQL is no query: write a SELECT that returns the rows that are wrong"
            names = found.columns
            self._connection.execute(f"CREATE OR REPLACE TABLE {_BROKEN} AS SELECT * FROM found")
        except duckdb.Error as error:
            return False, _short(f"its SQL cannot be run: {error}")
        (count,) = self._one(f"SELECT count(*) FROM {_BROKEN}")
        if not count:
            return True, "no row breaks it"
        wrong = self._one(f"SELECT * FROM {_BROKEN} LIMIT 1")
        shown = ", ".join(f"{name}={value}" for name, value in zip(names, wrong, strict=True))
        return False, _short(f"{'1 row breaks' if count == 1 else f'{count:,} rows break'} it, such as {shown}")

    # Steps.

    def _load(self, source: Any) -> None:
        if isinstance(source, StagedRows):
            schema, written = source.read()
            self._insert(written, schema)
            return
        if isinstance(source, str | bytes) or (not hasattr(type(source), "__iter__") and not _is_frame(source)):
            raise NoRows(f"{self._what} is a {type(source).__name__}, and no rows")
        try:
            found = list(batches(source))
            schema = pa.unify_schemas([one.schema for one in found], promote_options="permissive") if found else None
            self._insert(found, schema or schema_of(source))
        except (Refused, pa.ArrowException) as error:
            said = error.refusal.message if isinstance(error, Refused) else str(error)
            raise NoRows(f"{self._what} is no rows: {said}") from None

    def _insert(self, found: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        empty = schema.empty_table()
        self._connection.register("source", empty)
        self._connection.execute(f"CREATE TABLE {_OWN} AS SELECT * FROM source")
        for one in found:
            self._connection.register("source", pa.table(one))
            self._connection.execute(f"INSERT INTO {_OWN} BY NAME SELECT * FROM source")
        self._connection.unregister("source")

    def _check_columns(self, columns: Sequence[str]) -> None:
        there = [name for name, *_ in self._connection.execute(f"DESCRIBE {_OWN}").fetchall()]
        lacking = [one for one in columns if one not in there]
        if lacking:
            raise NoRows(f"there is no column {', '.join(lacking)}: {self._what} has {', '.join(there)}")

    def _one(self, query: str) -> tuple[Any, ...]:
        found = _rows(self._connection.execute(query))
        return tuple(found[0].values())


def _rows(found: Any) -> list[dict[str, Any]]:
    # By Arrow: DuckDB itself makes instants of Python with a library that need not be there.
    rows: list[dict[str, Any]] = found.to_arrow_table().to_pylist()
    return rows


def _is_frame(value: Any) -> bool:
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__") or hasattr(value, "collect")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _rows_text(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _MOST_SHOWN else f"{plain[: _MOST_SHOWN - 3]}..."
