"""One table, as a data engineer writes to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import uuid_utils

from springline import paths
from springline.client.files import append_payload, data_files
from springline.client.frames import arrow_schema, conform, to_arrow
from springline.client.http import ApiClient
from springline.client.loop import LoopThread
from springline.delta.features import writer_duties
from springline.delta.keys import check_key, idempotency_key
from springline.delta.request import CommitResult, Mode
from springline.errors import Code, Refused, refused
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once
from springline.storage.scoped import ScopedStore
from springline.storage.together import together
from springline.storage.url import open_store

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
        """Return what became of an idempotency key, or of a text that stands for one.

        Raises `Refused` (KEY_NOT_FOUND) if nothing did.
        """
        return self._api.call("GET", f"/api/v1/delta/tables/{self.name}/commits/{idempotency_key(key)}")

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


def new_key() -> str:
    """Return a new idempotency key: a canonical UUIDv7."""
    return str(uuid_utils.uuid7())
