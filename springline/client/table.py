"""One table, as a data engineer writes to it."""

from __future__ import annotations

from typing import Any

from springline.client import writing
from springline.client.http import ApiClient
from springline.client.loop import Stores
from springline.client.writing import Table, WriteResult, new_key
from springline.delta.keys import idempotency_key

__all__ = ["DeltaTable", "WriteResult", "new_key"]


class DeltaTable:
    """A table reached through the API, with its files written straight to the store."""

    def __init__(self, api: ApiClient, stores: Stores, name: str, store_url: str | None) -> None:
        self._table = Table(api, stores, name, store_url)
        self.name = name

    @property
    def location(self) -> str:
        """Return the URL that Delta readers open the table by."""
        return self._table.layout().place.location

    def status(self) -> dict[str, Any]:
        """Return the table's status as the API tells it."""
        return self._table.status()

    def explain(self, key: str) -> dict[str, Any]:
        """Return what became of an idempotency key of this table; raises `Refused` (KEY_NOT_FOUND) if nothing did."""
        return self._table.explain(idempotency_key(key))

    def append(self, data: Any, *, key: str | None = None, schema_mode: str | None = None) -> WriteResult:
        """Append rows exactly once, and return the version that holds them.

        `data`: a pyarrow table, batch or reader, a pandas or polars frame (a LazyFrame is streamed), a DuckDB
        relation, a dict of columns, a list of dicts, an iterator of such, or anything with an Arrow stream. It is read
        once, batch by batch. Columns go by name; one that is missing becomes null. A value that the table's type
        cannot hold unchanged is refused. Without rows there is nothing to do: no commit is made, and the key is free.

        `key`: any text of up to 500 characters that names this append, or a UUIDv7 (`new_key`). The same rows under
        the same key are appended once, for ever, whatever the table has become meanwhile; other rows under it are
        refused. Give one if the append is to be repeated after a crash of this process.

        `schema_mode="merge"`: columns, and fields of structs, that the table does not have are added to it.

        Raises `Refused` (final, says what to do), `springline.client.http.Unavailable` (repeat it with the key), or
        `springline.client.scratch.WriteFailed` (the store took no files; nothing was committed).
        """
        return writing.append(self._table, data, key=key, schema_mode=schema_mode)

    def overwrite(self, data: Any, *, where: str | None = None, key: str | None = None) -> WriteResult:
        """Replace all rows, or those of the partitions that `where` is true for, exactly once.

        `where`: an SQL predicate over partition columns, such as `"day = '2024-01-01'"`; each new row has to fulfil
        it. Data without rows deletes. What is replaced is what the table holds when the commit is made: if somebody
        else commits in between, it is computed again. `data` and `key` as for `append`; the same rows under the same
        key with another `where` are another request. Raises as `append` does.
        """
        return writing.overwrite(self._table, data, where=where, key=key)
