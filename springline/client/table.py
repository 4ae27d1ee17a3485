"""One table: what data engineers call to write and read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, overload

import pyarrow as pa

from springline.client import changes, compaction, reading, writing
from springline.client.changes import Changer, ChangeResult
from springline.client.http import ApiClient
from springline.client.loop import Stores
from springline.client.merging import SOURCE, Merge, on_columns
from springline.client.raw import commit_actions
from springline.client.reading import TARGET, Reached, TableSnapshot, reached
from springline.client.rows import MergeRows
from springline.client.writing import WritableTable, WriteResult, new_key
from springline.delta.described import HistoryRow
from springline.delta.messages import CommitResult
from springline.keys import idempotency_key

if TYPE_CHECKING:
    import deltalake
    import duckdb
    import pandas as pd
    import polars as pl

__all__ = ["ChangeResult", "DeltaTable", "Merge", "TableSnapshot", "WriteResult", "new_key"]


class DeltaTable:
    """A table reached through the API, with its files written straight to the store."""

    def __init__(self, api: ApiClient, stores: Stores, name: str, store_url: str | None) -> None:
        self._table = WritableTable(api, stores, name, store_url)
        self.name = name

    @property
    def location(self) -> str:
        """Return the URL that Delta readers open the table by."""
        return self._table.layout().place.location

    @property
    def writable(self) -> WritableTable:
        """The table for its writers in this library."""
        return self._table

    def status(self) -> dict[str, Any]:
        """Return the table's status as the API tells it."""
        return self._table.status()

    def explain(self, key: str) -> dict[str, Any]:
        """Return the fate of an idempotency key, or of a text that stands for one.

        Raises `Refused` (KEY_NOT_FOUND) if it has none.
        """
        return self._table.explain(idempotency_key(key))

    def append(self, data: Any, *, key: str | None = None, schema_mode: str | None = None) -> WriteResult:
        """Append rows exactly once, and return the version that holds them.

        `data`: a pyarrow table, batch or reader, a pandas or polars frame (a LazyFrame is streamed), a DuckDB
        relation, a dict of columns, a list of dicts, an iterator of such, or anything with an Arrow stream. It is read
        once, batch by batch. Columns go by name; one that is missing becomes null. A value that the table's type
        cannot hold unchanged is refused. Without rows it makes no commit, and the key stays free.

        `key`: any text of up to 500 characters that names this append, or a UUIDv7 (`new_key`). The same rows under
        the same key are appended once, for ever, however the table has changed meanwhile; other rows under it are
        refused. Give one if you may have to repeat the append after a crash of this process.

        `schema_mode="merge"`: columns, and fields of structs, that the table does not have are added to it.

        Raises `Refused` (final, says what to do), `springline.client.http.Unavailable` (repeat it with the key), or
        `springline.client.scratch.WriteFailed` (the store took no files; nothing was committed).
        """
        return writing.append(self._table, data, key=key, schema_mode=schema_mode)

    def overwrite(self, data: Any, *, where: str | None = None, key: str | None = None) -> WriteResult:
        """Replace all rows, or those of the partitions for which `where` is true, exactly once.

        `where`: an SQL predicate over partition columns, such as `"day = '2024-01-01'"`; each new row has to fulfil
        it. Data without rows deletes. It replaces the rows that the table has at the commit: if another writer commits
        in between, it is computed again. `data` and `key` as for `append`; the same rows under the same
        key with another `where` are another request. Raises as `append` does.
        """
        return writing.overwrite(self._table, data, where=where, key=key)

    # Changes of rows, by delta-rs under a key.

    def delete(self, where: str, *, key: str | None = None) -> ChangeResult:
        """Delete the rows for which the SQL condition `where` is true, exactly once; `"true"` stands for all.

        It is one expression over the row's own columns. Values are compared within a family of types; a quoted text is
        parsed as the other operand's family (`day = '2026-01-01'`), and refused if it fails
        (`springline.client.comparing`).
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
        """Set columns to new values where `where` is true (without it: in all rows), exactly once under `key`.

        `set`: SQL expressions by column, such as `{"x": "x + 1"}`. `values`: Python values by column. A value that
        would change in its column is refused.
        """
        return Changer(self._reached()).do(changes.update(set or {}, values or {}, where), key)

    def upsert(self, source: Any, on: str | Sequence[str], *, key: str | None = None) -> ChangeResult:
        """Update the rows that agree with a source row in the columns `on`, and insert the others, exactly once.

        `source`: as `append`'s `data`. Columns that it lacks keep their values, and are null in new rows. Without rows
        it makes no commit, and the key stays free.
        """
        rows = MergeRows(source)
        if rows.table.num_rows == 0:
            return ChangeResult(version=self._reached().latest_version, changed=False)
        condition = on_columns(rows, on)
        merge = Merge(Changer(self._reached()).do, rows, condition, key=key, target=TARGET, source=SOURCE)
        return merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def merge(
        self,
        source: Any,
        on: str,
        *,
        key: str | None = None,
        target_alias: str = TARGET,
        source_alias: str = SOURCE,
    ) -> Merge[ChangeResult]:
        """Begin a merge of `source` on a SQL condition such as `"target.id = source.id"`.

        Add clauses, then `execute()`. `key` as in `delete`.
        """
        rows = MergeRows(source)
        return Merge(Changer(self._reached()).do, rows, on, key=key, target=target_alias, source=source_alias)

    def optimize(
        self, *, z_order: Sequence[str] = (), target_size: int | None = None, key: str | None = None
    ) -> ChangeResult:
        """Rewrite small files as files of about `target_size` bytes, or sort all rows along a Z-order of columns.

        No row changes. Exactly once under `key`.
        """
        reached = self._reached()
        return Changer(reached).do(compaction.optimize(reached, z_order, target_size), key)

    def commit(
        self, actions: str | bytes | Iterable[Mapping[str, Any]], *, read_version: int, key: str | None = None
    ) -> CommitResult:
        """Commit Delta actions as version `read_version + 1`, exactly once, or be refused with a conflict.

        `actions`: dicts of one action each, or newline-delimited JSON. The client adds the key to the `commitInfo`
        among them, or makes one if there is none.
        """
        return commit_actions(self._table.api, self.name, actions, read_version=read_version, key=key)

    # Reads.

    def history(self, limit: int = 100) -> list[HistoryRow]:
        """Return the newest versions, newest first: time, operation, keys."""
        reached = self._reached()
        return reading.history(reached, reached.latest_version, limit)

    def at(self, version: int | None = None, *, timestamp: datetime | str | None = None) -> TableSnapshot:
        """Return the table as of a version or a moment, for reading; without either, the latest version.

        Raises `Refused` (NOT_FOUND) for a version that does not exist, or whose log is gone.
        """
        return reading.snapshot(self._reached(), version, timestamp)

    def to_deltalake(self) -> deltalake.DeltaTable:
        """Return delta-rs's own table object. Writes with it bypass the idempotency keys."""
        return self.at().to_deltalake()

    def to_arrow(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pa.Table:
        """Return the rows as a pyarrow Table: `columns` of those for which the SQL condition `where` is true."""
        return self.at().to_arrow(columns, where=where)

    def to_pandas(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame, as `to_arrow` does."""
        return self.at().to_pandas(columns, where=where)

    @overload
    def to_polars(self, *, lazy: Literal[False] = False) -> pl.DataFrame: ...
    @overload
    def to_polars(self, *, lazy: Literal[True]) -> pl.LazyFrame: ...
    def to_polars(self, *, lazy: bool = False) -> pl.DataFrame | pl.LazyFrame:
        """Return the rows as a polars DataFrame, or with `lazy` as a LazyFrame."""
        return self.at().to_polars(lazy=True) if lazy else self.at().to_polars()

    def to_duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """Return a DuckDB relation over the rows."""
        return self.at().to_duckdb(connection)

    def _reached(self) -> Reached:
        return reached(self._table)

    def __repr__(self) -> str:
        """Return the name or id that the table is known by."""
        return f"{type(self).__name__}({self.name!r})"
