"""Reading a table: its history, its versions, and its rows for pyarrow, pandas, polars and DuckDB."""

from __future__ import annotations

import functools
import importlib
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, overload
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from springline import paths
from springline.client.comparing import quoted
from springline.client.engine import Place, open_table
from springline.client.expressions import (
    Expression,
    Planner,
    column_of,
    engine_condition,
    expression_refusal,
    raise_unless_panic,
)
from springline.client.http import ApiClient
from springline.client.loop import Stores
from springline.client.scratch import has_loose_bounds
from springline.client.writing import WritableTable
from springline.delta.described import HistoryRow, history_row
from springline.errors import Code, Refused, refused

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    from deltalake import DeltaTable

LOGS_TOGETHER = 64
_KEPT = "springline: kept"
TARGET = "target"
"""The alias by which expressions may name their table."""
LONGEST_HISTORY = 100_000


@dataclass(frozen=True, slots=True)
class Reached:
    """A table to work on: `name` for the API, `place` in its store, and the `latest_version` that the API just gave."""

    api: ApiClient
    stores: Stores
    name: str
    place: Place
    latest_version: int
    task: Mapping[str, str] | None = None
    """The task that a change is made for."""

    def delta_table(self, version: int | None = None) -> DeltaTable:
        """Open the table by delta-rs, at its latest version or another."""
        return open_table(self.place, version)

    def logs(self, versions: Sequence[int]) -> list[bytes | None]:
        """Return the log files of versions; None for a missing one."""
        names = [paths.delta_log(self.place.root, version) for version in versions]
        return self.stores.run(self.place, lambda store: store.read_many(names))


def reached(table: WritableTable) -> Reached:
    """Ask the API for a table's location."""
    status = table.status()
    place = table.place(status)
    return Reached(table.api, table.stores, table.name, place, status["latest_version"])


def history(reached: Reached, latest: int, limit: int) -> list[HistoryRow]:
    """Return the newest versions up to `latest`, newest first, as far back as log clean-up has left the log."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LONGEST_HISTORY:
        raise refused(
            Code.INVALID_REQUEST,
            f"limit is not a number from 1 to {LONGEST_HISTORY}",
            field="limit",
            value=limit,
            remedy="Ask for fewer versions.",
        )
    found: list[HistoryRow] = []
    lowest = max(-1, latest - limit)
    for end in range(latest, lowest, -LOGS_TOGETHER):
        versions = list(range(end, max(lowest, end - LOGS_TOGETHER), -1))
        for version, log in zip(versions, reached.logs(versions), strict=True):
            if log is None:
                return found
            found.append(history_row(version, log))
    return found


def operation_metrics(log: bytes) -> tuple[dict[str, Any], bool]:
    """Return the metrics in a log file, and whether it says that anything was changed."""
    info = _commit_info(log) or {}
    request = _object(_object(info.get("springline")).get("request"))
    return _object(info.get("operationMetrics")), request.get("changed") is not False


def _commit_info(log: bytes) -> dict[str, Any] | None:
    for line in log.split(b"\n"):
        if b'"commitInfo"' not in line:
            continue
        try:
            info = orjson.loads(line).get("commitInfo")
        except (ValueError, AttributeError):
            continue
        if isinstance(info, dict):
            return info
    return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def snapshot(reached: Reached, version: int | None, timestamp: datetime | str | None) -> TableSnapshot:
    """Open the table as of a version or a moment; raises `Refused` (NOT_FOUND) if there is none, or it is gone."""
    if version is not None and timestamp is not None:
        raise _no_moment("version", version, "version and timestamp are both given", "Give one of them.")
    table = reached.delta_table()
    if timestamp is not None:
        table = _loaded(table, _instant(timestamp), "timestamp")
        first_ms = history_row(table.version(), reached.logs([table.version()])[0] or b"").timestamp_ms
        if first_ms is not None and first_ms > _instant(timestamp).timestamp() * 1000:
            raise refused(
                Code.NOT_FOUND,
                f"the oldest version that can be read, {table.version()}, was written after that",
                field="timestamp",
                value=str(timestamp),
                remedy="Ask for that moment or a later one; history() shows which versions are left.",
            )
    elif version is not None:
        if isinstance(version, bool) or not isinstance(version, int):
            raise _no_moment("version", version, "version is no whole number", "Give a version such as 7.")
        if not 0 <= version <= table.version():
            raise refused(
                Code.NOT_FOUND,
                f"the table has no version {version}: its latest is {table.version()}",
                field="version",
                value=version,
                remedy=f"Ask for a version from 0 to {table.version()}.",
            )
        table = _loaded(table, version, "version")
    return TableSnapshot(reached.name, table)


def _no_moment(field: str, value: Any, problem: str, remedy: str) -> Refused:
    return refused(Code.INVALID_REQUEST, problem, field=field, value=str(value)[:100], remedy=remedy)


def _instant(at: datetime | str) -> datetime:
    remedy = "Give a datetime, or text such as 2026-01-01T00:00:00Z; without a zone it is UTC."
    try:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    except ValueError:
        raise _no_moment("timestamp", at, "timestamp is no moment in ISO 8601", remedy) from None
    if not isinstance(moment, datetime):
        raise _no_moment("timestamp", at, f"timestamp is a {type(at).__name__}", remedy)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _loaded(table: DeltaTable, at: int | datetime, field: str) -> DeltaTable:
    from deltalake.exceptions import DeltaError  # noqa: PLC0415

    try:
        table.load_as_version(at)
    except (DeltaError, ValueError, OSError) as error:
        raise refused(
            Code.NOT_FOUND,
            f"the table cannot be read as of {at}: {' '.join(str(error).split())[:200]}",
            field=field,
            value=str(at),
            remedy="Its log files or data files of that time are gone; history() shows which versions are left.",
        ) from error
    return table


class TableSnapshot:
    """A table as of one version, for reading; later commits are not visible."""

    def __init__(self, name: str, table: DeltaTable) -> None:
        self._name = name
        self._table = table

    @property
    def version(self) -> int:
        """Return the version that is read."""
        return self._table.version()

    def to_deltalake(self) -> DeltaTable:
        """Return delta-rs's own table object. Do not write with it, because that bypasses Springline."""
        return self._table

    def to_arrow(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pa.Table:
        """Return the rows as a pyarrow Table; `where` is a SQL condition, `columns` the ones wanted."""
        from deltalake.exceptions import DeltaError  # noqa: PLC0415

        schema = pa.schema(self._table.schema().to_arrow())
        names = schema.names if columns is None else [column_of(schema, name, field="columns").name for name in columns]
        try:
            judged = None
            if where is not None:
                judged = Planner({TARGET: self._table}, {TARGET: schema}).predicate(where, field="where")
            wanted = pa.schema([schema.field(name).with_nullable(True) for name in names])
            rows, kept = self._rows(names, judged)
            # The engine returns its own types, such as string views, and not all of them can be filtered.
            rows = rows.cast(wanted)
            return rows if kept is None else rows.filter(kept)
        except BaseException as error:
            if not isinstance(error, DeltaError) and type(error) is not Exception:
                raise_unless_panic(error)
            if where is None:
                raise refused(
                    Code.STORED_DAMAGED,
                    f"version {self.version} cannot be read: {' '.join(str(error).split())[:300]}",
                    field="table",
                    value=self._name,
                    remedy="`springline table verify` says what is wrong with the table.",
                ) from error
            raise expression_refusal(error, where, field="where", columns={self._name: schema}) from error

    def to_pandas(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame."""
        library("pandas")
        return self.to_arrow(columns, where=where).to_pandas()

    @overload
    def to_polars(self, *, lazy: Literal[False] = False) -> pl.DataFrame: ...
    @overload
    def to_polars(self, *, lazy: Literal[True]) -> pl.LazyFrame: ...
    def to_polars(self, *, lazy: bool = False) -> pl.DataFrame | pl.LazyFrame:
        """Return the rows as a polars DataFrame, or with `lazy` as a LazyFrame that reads on demand."""
        polars = library("polars")
        rows: pl.DataFrame | pl.LazyFrame
        rows = polars.scan_pyarrow_dataset(dataset_of(self._table)) if lazy else polars.from_arrow(self.to_arrow())
        return rows

    def to_duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """Return a DuckDB relation over the rows, of `connection` or DuckDB's default one; it needs no extension."""
        relation: duckdb.DuckDBPyRelation = library("duckdb").from_arrow(dataset_of(self._table), connection=connection)
        return relation

    def _rows(self, names: Sequence[str], where: Expression | None) -> tuple[pa.Table, pa.ChunkedArray | None]:
        from deltalake import QueryBuilder  # noqa: PLC0415

        columns = ", ".join(quoted(name) for name in names)
        query = f"SELECT {columns} FROM {TARGET}"
        if where is not None:
            # The engine treats a condition over partition columns as true for a file that it cannot rule out: so the
            # condition is also a column, and the rows are filtered by that.
            schema = pa.schema(self._table.schema().to_arrow())
            condition = engine_condition(where, schema, self._table.metadata().partition_columns)
            query = f"SELECT {columns}, {where.sql} AS {quoted(_KEPT)} FROM {TARGET} WHERE ({condition})"
        rows = pa.table(QueryBuilder().register(TARGET, self._table).execute(query).read_all())
        return (rows, None) if where is None else (rows.select(list(names)), rows.column(_KEPT))

    def __repr__(self) -> str:
        """Return name and version."""
        return f"{type(self).__name__}({self._name!r}, version={self.version})"


def dataset_of(table: DeltaTable) -> pads.Dataset:
    """Return the table as a pyarrow dataset that skips files by their partition values only.

    delta-rs's own dataset skips a file whose statistics lack a bound, as for infinities, as if it had no such values,
    or have a rounded one.
    """
    dataset = table.to_pyarrow_dataset()
    if not any(has_loose_bounds(field.type) for field in dataset.schema):
        return dataset
    files = pa.table(table.get_add_actions())
    by = table.metadata().partition_columns
    held = files.column("partition").combine_chunks() if by else None
    whole = {
        unquote(path): None if held is None else _partition(held[index], by)
        for index, path in enumerate(files.column("path").to_pylist())
    }
    fragments = [
        dataset.format.make_fragment(one.path, dataset.filesystem, whole[one.path]) for one in dataset.get_fragments()
    ]
    return pads.FileSystemDataset(fragments, dataset.schema, dataset.format, dataset.filesystem)


def _partition(values: pa.StructScalar, by: Sequence[str]) -> pc.Expression:
    found = [pc.field(name) == values[name] if values[name].is_valid else pc.field(name).is_null() for name in by]
    return functools.reduce(operator.and_, found)


def library(name: str) -> ModuleType:
    """Import an optional library; raises `Refused` if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"the Python package {name} is not installed",
            field="package",
            value=name,
            remedy=f"Install it: pip install {name}.",
        ) from error
