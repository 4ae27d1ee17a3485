"""One table, as a data engineer writes to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import uuid_utils

from springline import paths
from springline.client import changes, compaction, reading
from springline.client.changes import Changer, ChangeResult
from springline.client.files import append_payload, data_files
from springline.client.frames import arrow_schema, conform, to_arrow
from springline.client.http import ApiClient
from springline.client.loop import LoopThread
from springline.client.merging import SOURCE, TARGET, Merge, on_columns
from springline.client.raw import commit_actions
from springline.client.reading import Reached, TableSnapshot, TableVersion
from springline.client.rows import MergeRows
from springline.delta.features import writer_duties
from springline.delta.keys import check_key
from springline.delta.request import CommitResult, Mode
from springline.errors import Code, Refused, refused
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once
from springline.storage.scoped import ScopedStore
from springline.storage.together import together
from springline.storage.url import open_store

if TYPE_CHECKING:
    import deltalake
    import duckdb
    import pandas as pd
    import polars as pl

REFRESHES = 3
"""How often an append is computed again because the table's metadata changed under it."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The table as of `version`: what the rows must look like and where they go."""

    version: int
    root: str
    location: str
    schema: pa.Schema
    partition_by: tuple[str, ...]


class DeltaTable:
    """A table reached through the API, with its files written straight to the store."""

    def __init__(
        self, api: ApiClient, loop: LoopThread, stores: dict[str, ObjectStore], name: str, store_url: str | None
    ) -> None:
        self._api = api
        self._loop = loop
        self._stores = stores
        self._store_url = store_url
        self._layout: _Layout | None = None
        self.name = name

    @property
    def location(self) -> str:
        """Return the URL that Delta readers open the table by."""
        return (self._layout or self._refresh()).location

    def status(self) -> dict[str, Any]:
        """Return the table's status as the API tells it."""
        return self._api.call("GET", f"/api/v1/delta/tables/{self.name}")

    def explain(self, key: str) -> dict[str, Any]:
        """Return what became of an idempotency key of this table; raises `Refused` (KEY_NOT_FOUND) if nothing did."""
        return self._api.call("GET", f"/api/v1/delta/tables/{self.name}/commits/{check_key(key)}")

    def append(self, data: Any, *, key: str | None = None) -> CommitResult:
        """Append rows exactly once, and return the version that holds them.

        `data`: a pyarrow Table, pandas or polars DataFrame, or anything with an Arrow stream, whose columns fit
        the table's. `key`: a UUIDv7; make it yourself (`new_key`) and keep it if the append is to be repeated
        after a crash of this process: the same rows under the same key are appended once, for ever.
        Raises `Refused` (final, says what to do) or `springline.client.http.Unavailable` (repeat with the key).
        """
        key = new_key() if key is None else check_key(key, field="key")
        rows = to_arrow(data)
        for remaining in range(REFRESHES, -1, -1):
            layout = self._layout or self._refresh()
            try:
                return self._append(conform(rows, layout.schema), layout, key)
            except Refused as error:
                if remaining == 0 or error.refusal.code not in (Code.METADATA_CHANGED, Code.STALE_READ_VERSION):
                    raise
                self._layout = None
        raise AssertionError("unreachable: the last pass returns or raises")

    def _append(self, rows: pa.Table, layout: _Layout, key: str) -> CommitResult:
        files = data_files(rows, layout.partition_by, key)
        if not files:
            raise refused(
                Code.INVALID_REQUEST, "there are no rows to append", field="data", value=0, remedy="Pass some rows."
            )
        store = self._store(layout)
        written = self._loop.run(
            together(*(put_once(store, paths.delta_data_file(layout.root, file.name), file.data) for file in files))
        )
        if any(isinstance(one, Other) for one in written):
            raise refused(
                Code.PATH_CONFLICT,
                f"another writer has taken the name of a data file of key {key}",
                field="key",
                value=key,
                remedy="Append the rows under a new key.",
            )
        payload = append_payload(files, key, layout.partition_by)
        url = f"/api/v1/delta/tables/{self.name}/commits"
        headers = {"Idempotency-Key": key}
        staged = self._api.call("POST", f"{url}/stage", body={"payload": payload.decode()})
        body = staged | {"read_version": layout.version, "mode": Mode.APPEND.value}
        return CommitResult.model_validate(self._api.call("POST", url, body=body, headers=headers))

    def _refresh(self) -> _Layout:
        status = self.status()
        metadata = {
            "configuration": status["properties"],
            "schemaString": "",
            "partitionColumns": status["partition_columns"],
        }
        if status["columns"] is None or status["protocol"] is None:
            raise refused(
                Code.NOT_A_DELTA_TABLE,
                f"table {self.name!r} has no schema yet",
                field="table",
                value=self.name,
                remedy="Commit a protocol and a metaData action to it first.",
            )
        metadata["schemaString"] = orjson.dumps(status["columns"]).decode()
        duties = writer_duties(status["protocol"], metadata)
        if duties:
            raise refused(
                Code.UNSUPPORTED_FEATURE,
                f"table {self.name!r} asks its writers for {', '.join(duties)}, which this client does not do",
                field="table",
                value=duties,
                remedy="Write this table with an engine that does, and commit its actions through the API.",
            )
        self._layout = _Layout(
            version=status["latest_version"],
            root=status["table"]["root"],
            location=status["location"],
            schema=arrow_schema(status["columns"]),
            partition_by=tuple(status["partition_columns"]),
        )
        return self._layout

    def _store(self, layout: _Layout) -> ObjectStore:
        url, scope = paths.split_location(layout.location, layout.root)
        url = self._store_url or url
        if url not in self._stores:
            self._stores[url] = open_store(url)
        return ScopedStore(self._stores[url], scope)

    # What changes rows, by delta-rs under a key.

    def delete(self, where: str, *, key: str | None = None) -> ChangeResult:
        """Delete the rows for which the SQL condition `where` is true, exactly once; `"true"` stands for all.

        `key` as in `append`: the same operation under the same key is done once, for ever, also by another process.
        Raises as `springline.client.changes.Changer.do` does.
        """
        return Changer(self._reached()).do(changes.delete(where), key)

    def update(
        self,
        set: Mapping[str, str] | None = None,
        *,
        where: str | None = None,
        values: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> ChangeResult:
        """Give columns new values where `where` is true (without it: in all rows), exactly once under `key`.

        `set`: SQL expressions by column, such as `{"x": "x + 1"}`. `values`: Python values by column. A value that
        would change in its column is refused.
        """
        return Changer(self._reached()).do(changes.update(set or {}, values or {}, where), key)

    def upsert(self, source: Any, on: str | Sequence[str], *, key: str | None = None) -> ChangeResult:
        """Update the rows that agree with a source row in the columns `on`, and insert the others, exactly once.

        `source`: what `append` takes. Columns that it lacks keep their values, and are null in new rows.
        """
        rows = MergeRows(source)
        condition = on_columns(rows, [on] if isinstance(on, str) else on)
        merge = Merge(Changer(self._reached()), rows, condition, key=key, target=TARGET, source=SOURCE)
        return merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def merge(
        self,
        source: Any,
        on: str,
        *,
        key: str | None = None,
        target_alias: str = TARGET,
        source_alias: str = SOURCE,
    ) -> Merge:
        """Begin a merge of `source` on a SQL condition such as `"target.id = source.id"`.

        Add clauses, then `execute()`. `key` as in `delete`.
        """
        rows = MergeRows(source)
        return Merge(Changer(self._reached()), rows, on, key=key, target=target_alias, source=source_alias)

    def optimize(
        self, *, z_order: Sequence[str] = (), target_size: int | None = None, key: str | None = None
    ) -> ChangeResult:
        """Make small files into files of about `target_size` bytes, or sort all rows along a Z-order of columns.

        No row changes. Exactly once under `key`.
        """
        reached = self._reached()
        return Changer(reached).do(compaction.optimize(reached, z_order, target_size), key)

    def commit(
        self, actions: str | bytes | Iterable[Mapping[str, Any]], *, read_version: int, key: str | None = None
    ) -> CommitResult:
        """Commit Delta actions as version `read_version + 1`, exactly once, or be refused with a conflict.

        `actions`: dicts of one action each, or newline-delimited JSON. A `commitInfo` among them is completed by the
        key, and made if there is none.
        """
        return commit_actions(self._api, self.name, actions, read_version=read_version, key=key)

    # What reads.

    def history(self, limit: int = 100) -> list[TableVersion]:
        """Return the newest versions, newest first: when, what, under which keys."""
        reached = self._reached()
        return reading.history(reached, reached.latest_version, limit)

    def at(self, version: int | None = None, *, timestamp: datetime | str | None = None) -> TableSnapshot:
        """Return the table as of a version or a moment, for reading; as it is now without either.

        Raises `Refused` (NOT_FOUND) for a version that is not there, or whose log is gone.
        """
        return reading.snapshot(self._reached(), version, timestamp)

    def to_deltalake(self) -> deltalake.DeltaTable:
        """Return the table as delta-rs has it. What it writes goes past the keys."""
        return self.at().to_deltalake()

    def to_arrow(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pa.Table:
        """Return the rows as a pyarrow Table: `columns` of those for which the SQL condition `where` is true."""
        return self.at().to_arrow(columns, where=where)

    def to_pandas(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame, as `to_arrow` does."""
        return self.at().to_pandas(columns, where=where)

    def to_polars(self, *, lazy: bool = False) -> pl.DataFrame | pl.LazyFrame:
        """Return the rows as a polars DataFrame, or with `lazy` as a LazyFrame."""
        return self.at().to_polars(lazy=lazy)

    def to_duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """Return a DuckDB relation over the rows."""
        return self.at().to_duckdb(connection)

    def _reached(self) -> Reached:
        """Return what the modules of changes and of reading work on."""
        status = self.status()
        root, location = status["table"]["root"], status["location"]
        url, scope = paths.split_location(location, root)
        url = self._store_url or url
        if url not in self._stores:
            self._stores[url] = open_store(url)
        store = ScopedStore(self._stores[url], scope)
        return Reached(self._api, self._loop, self.name, root, location, status["latest_version"], store)

    def __repr__(self) -> str:
        """Return the name or id that the table is known by."""
        return f"{type(self).__name__}({self.name!r})"


def new_key() -> str:
    """Return a new idempotency key: a canonical UUIDv7."""
    return str(uuid_utils.uuid7())
