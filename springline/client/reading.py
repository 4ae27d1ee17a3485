"""A table read: its history, its versions, and its rows as the libraries that people use take them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, ConfigDict

from springline import paths
from springline.client.expressions import Planner, column_of, expression_refusal, raise_unless_panic
from springline.client.http import ApiClient
from springline.client.loop import LoopThread
from springline.errors import Code, Refused, refused
from springline.storage.delta_uri import delta_uri
from springline.storage.scoped import ScopedStore

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from deltalake import DeltaTable

LOGS_TOGETHER = 64
LONGEST_HISTORY = 100_000


@dataclass(frozen=True, slots=True)
class Reached:
    """A table within reach: by the API under `name`, and in its store under `root`."""

    api: ApiClient
    loop: LoopThread
    name: str
    root: str
    location: str
    latest_version: int
    store: ScopedStore

    def delta_table(self, version: int | None = None) -> DeltaTable:
        """Open the table by delta-rs, at its latest version or another."""
        from deltalake import DeltaTable  # noqa: PLC0415

        uri, options = delta_uri(self.store, self.root)
        return DeltaTable(uri, version=version, storage_options=options)

    def logs(self, versions: Sequence[int]) -> list[bytes | None]:
        """Return the log files of versions; None for one that is not there."""
        return self.loop.run(self.store.read_many([paths.delta_log(self.root, version) for version in versions]))


class TableVersion(BaseModel):
    """One version of a table, as its log tells it.

    `keys`: the idempotency keys whose requests it holds, several if the sequencer merged them. `operation` and
    `parameters` are the writer's own words. `metrics`: what the writer counted, if it says so.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    timestamp: datetime | None
    operation: str | None
    keys: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    engine: str | None = None


def history(reached: Reached, latest: int, limit: int) -> list[TableVersion]:
    """Return the newest versions up to `latest`, newest first; it ends where log clean-up has removed the log."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LONGEST_HISTORY:
        raise refused(
            Code.INVALID_REQUEST,
            f"limit is not a number from 1 to {LONGEST_HISTORY}",
            field="limit",
            value=limit,
            remedy="Ask for fewer versions.",
        )
    found: list[TableVersion] = []
    lowest = max(-1, latest - limit)
    for end in range(latest, lowest, -LOGS_TOGETHER):
        versions = list(range(end, max(lowest, end - LOGS_TOGETHER), -1))
        for version, log in zip(versions, reached.logs(versions), strict=True):
            if log is None:
                return found
            found.append(table_version(version, log))
    return found


def table_version(version: int, log: bytes) -> TableVersion:
    """Return what a log file, which may be any writer's, tells of its version."""
    info = _commit_info(log)
    if info is None:
        return TableVersion(version=version, timestamp=None, operation=None)
    ours = info.get("springline")
    members = ours.get("members") if isinstance(ours, dict) else None
    keys = [one.get("key") for one in members if isinstance(one, dict)] if isinstance(members, list) else []
    if not keys:
        keys = [info.get("txnId")]
    timestamp = info.get("timestamp")
    operation, engine = info.get("operation"), info.get("engineInfo")
    return TableVersion(
        version=version,
        timestamp=_moment(timestamp),
        operation=_operation(operation, ours),
        keys=tuple(key for key in keys if isinstance(key, str)),
        parameters=_object(info.get("operationParameters")),
        metrics=_object(info.get("operationMetrics")),
        engine=engine if isinstance(engine, str) else None,
    )


def _operation(said: Any, ours: Any) -> str | None:
    """Return a version's operation; delta-rs calls a write what our client committed by it for an operation."""
    request = ours.get("request") if isinstance(ours, dict) else None
    asked = request.get("operation") if isinstance(request, dict) else None
    if said == "WRITE" and asked in ("delete", "update", "merge", "optimize"):
        return str(asked).upper()
    return said if isinstance(said, str) else None


def operation_metrics(log: bytes) -> tuple[dict[str, Any], bool]:
    """Return what the writer of a log file counted, and whether it says that something was changed."""
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


def _moment(milliseconds: Any) -> datetime | None:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int):
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def snapshot(reached: Reached, version: int | None, timestamp: datetime | str | None) -> TableSnapshot:
    """Open the table as of a version or a moment; raises `Refused` (NOT_FOUND) if that is not to be had."""
    if version is not None and timestamp is not None:
        raise _no_moment("version", version, "version and timestamp are both given", "Give one of them.")
    table = reached.delta_table()
    if timestamp is not None:
        table = _loaded(table, _instant(timestamp), "timestamp")
        first = table_version(table.version(), reached.logs([table.version()])[0] or b"").timestamp
        if first is not None and first > _instant(timestamp):
            raise refused(
                Code.NOT_FOUND,
                f"the oldest version that can be read, {table.version()}, is of {first.isoformat()}",
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
    """A table as of one version, to be read; what is committed later does not show."""

    def __init__(self, name: str, table: DeltaTable) -> None:
        self._name = name
        self._table = table

    @property
    def version(self) -> int:
        """Return the version that is read."""
        return self._table.version()

    def to_deltalake(self) -> DeltaTable:
        """Return the table as delta-rs has it. Writing by it goes past Springline; readers need not mind."""
        return self._table

    def to_arrow(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pa.Table:
        """Return the rows as a pyarrow Table; `where` is a SQL condition, `columns` the ones wanted."""
        import pyarrow as pa  # noqa: PLC0415
        from deltalake.exceptions import DeltaError  # noqa: PLC0415

        schema = pa.schema(self._table.schema().to_arrow())
        names = schema.names if columns is None else [column_of(schema, name, field="columns").name for name in columns]
        try:
            if where is not None:
                Planner({"target": self._table}, {"target": schema}).predicate(where, field="where")
            reader = pa.RecordBatchReader.from_stream(self._table.scan(columns=names, predicate=where))
            # The engine works with types of its own, such as views of strings.
            return reader.cast(pa.schema([schema.field(name) for name in names])).read_all()
        except BaseException as error:
            if not isinstance(error, DeltaError):
                raise_unless_panic(error)
            raise expression_refusal(error, where or "", field="where", columns={self._name: schema}) from error

    def to_pandas(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame."""
        library("pandas")
        return self.to_arrow(columns, where=where).to_pandas()

    def to_polars(self, *, lazy: bool = False) -> pl.DataFrame | pl.LazyFrame:
        """Return the rows as a polars DataFrame, or with `lazy` as a LazyFrame that reads what is asked of it."""
        polars = library("polars")
        rows: pl.DataFrame | pl.LazyFrame
        if lazy:
            rows = polars.scan_pyarrow_dataset(self._table.to_pyarrow_dataset())
        else:
            rows = polars.from_arrow(self.to_arrow())
        return rows

    def to_duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """Return a DuckDB relation over the rows, of `connection` or DuckDB's default one; it needs no extension."""
        relation: duckdb.DuckDBPyRelation = library("duckdb").from_arrow(
            self._table.to_pyarrow_dataset(), connection=connection
        )
        return relation

    def __repr__(self) -> str:
        """Return name and version."""
        return f"{type(self).__name__}({self._name!r}, version={self.version})"


def library(name: str) -> ModuleType:
    """Import a library that the client does without until it is asked for; raises `Refused` if it is not there."""
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
