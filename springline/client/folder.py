"""Tables of a folder, without a server: what tests and a first look use in place of the lake.

The library is the same that works on the lake, so types, casts, conditions and refusals are the same. In place of the
API a few lines here answer its calls: each table is a plain Delta folder, `FOLDER/NAME`. One process at a time: there
is no sequencer.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import deltalake
import orjson
import pyarrow as pa
import uuid_utils

from springline import paths
from springline.client.changes import protocol_of
from springline.client.engine import Place
from springline.client.http import ApiClient
from springline.client.loop import LoopThread, Stores
from springline.client.schemas import delta_columns
from springline.client.sources import schema_of
from springline.client.table import DeltaTable
from springline.client.writing import WritableTable
from springline.delta.create import check_creation, version_zero
from springline.delta.messages import CommitMode
from springline.delta.table_request import CreateTable
from springline.errors import Code, Refused, refused
from springline.paths import Scope
from springline.storage.local import LocalStore
from springline.storage.port import ObjectStore

R = TypeVar("R")
Json = dict[str, Any]

_NOBODY: Final = Scope("local", "local")
_TABLE: Final = re.compile(r"/api/v1/delta/tables/([^/]+)(?:/commits(?:/(?P<rest>.+))?)?")


class FolderLake:
    """A lake of one process whose tables are folders below `folder`, which is created when it is needed."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        self._api = FolderApi(self.folder)
        self._stores = FolderStores(self.folder)

    def table(self, name_or_id: str) -> DeltaTable:
        """Return a table by name; nothing is read until it is used. Raises as the lake's does."""
        return _FolderTable(self._api, self._stores, name_or_id, self.folder)

    def create_table(self, name: str, schema: Any, *, partition_by: Sequence[str] = ()) -> DeltaTable:
        """Create a table, whose folder is always `FOLDER/NAME`; raises as the lake's does."""
        found: pa.Schema = schema_of(schema)
        wanted = CreateTable(
            name=name,
            columns=delta_columns(found),
            partition_columns=list(partition_by),
        )
        self._api.create(wanted)
        return self.table(name)

    def forget(self, scope: str) -> None:
        """Remove what tasks of a run have staged; their data files stay."""
        staged = (self.folder / paths.write_seal(scope, "")).parent
        shutil.rmtree(staged, ignore_errors=True)
        with contextlib.suppress(OSError):
            staged.parent.rmdir()

    def close(self) -> None:
        """Close the store."""
        self._stores.close()


class FolderApi(ApiClient):
    """Answers the API's calls about tables, from a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Answer a call about a table; raises `Refused` as the API does."""
        match = _TABLE.fullmatch(path)
        if match is None:
            raise refused(
                Code.ROUTE_NOT_FOUND,
                f"{method} {path} needs the lake, and this is a folder",
                field="path",
                value=path,
                remedy="Use what belongs to tables alone.",
            )
        name, rest = match[1], match["rest"]
        if method == "POST" and body is not None:
            if rest == "claim":
                return {"version": body["version"]}
            return self._commit(name, body, dict(headers or {})["Idempotency-Key"])
        return self._status(name) if rest is None else self._explain(name, rest)

    def close(self) -> None:
        """Close nothing: there is no connection."""

    def create(self, wanted: CreateTable) -> None:
        """Write version 0 of a table; raises `Refused` (NAME_TAKEN) if it is there."""
        new = check_creation(wanted)
        log = self._log(wanted.name, 0)
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("xb") as file:
                file.write(version_zero(new, str(uuid_utils.uuid7()), _now_ms()))
        except FileExistsError:
            raise refused(
                Code.NAME_TAKEN,
                f"table {wanted.name!r} exists",
                field="name",
                value=wanted.name,
                remedy="Use it, or choose another name.",
            ) from None

    def _log(self, name: str, version: int) -> Path:
        return self._folder / paths.delta_log(name, version)

    def _opened(self, name: str) -> deltalake.DeltaTable:
        if not (self._folder / name / paths.DELTA_LOG_FOLDER).is_dir():
            raise refused(
                Code.TABLE_NOT_FOUND,
                f"table {name!r} does not exist",
                field="table",
                value=name,
                remedy="Create it, or give context.table a schema; a first write with rows creates it, too.",
            )
        return deltalake.DeltaTable(str(self._folder / name))

    def _status(self, name: str) -> Json:
        table = self._opened(name)
        metadata, protocol = table.metadata(), protocol_of(table)
        columns = orjson.loads(table.schema().to_json())
        return {
            "latest_version": table.version(),
            "location": f"file://{self._folder / name}",
            "table": {"name": name, "root": name},
            "columns": columns,
            "protocol": protocol,
            "partition_columns": list(metadata.partition_columns),
            "properties": dict(metadata.configuration),
            "metadata": {
                "id": str(metadata.id),
                "name": name,
                "format": {"provider": "parquet", "options": {}},
                "schemaString": orjson.dumps(columns).decode(),
                "partitionColumns": list(metadata.partition_columns),
                "configuration": dict(metadata.configuration),
            },
        }

    def _explain(self, name: str, key: str) -> Json:
        for version in range(self._opened(name).version(), -1, -1):
            log = self._log(name, version)
            info = _info_of(log.read_bytes()) if log.exists() else {}
            if info.get("txnId") == key:
                request = (info.get("springline") or {}).get("request") or {}
                known = f"{request['operation']}:{request['fingerprint']}" if request else None
                return {
                    "fate": "committed",
                    "version": version,
                    "delta_log_path": str(log),
                    "fingerprint": known,
                }
        raise refused(
            Code.KEY_NOT_FOUND, f"key {key} is not committed", field="key", value=key, remedy="Commit under it."
        )

    def _commit(self, name: str, body: Mapping[str, Any], key: str) -> Json:
        payload = str(body["payload"]).encode()
        try:
            known = self._explain(name, key)
        except Refused as error:
            if error.refusal.code is not Code.KEY_NOT_FOUND:
                raise
        else:
            told = f"key {key} is committed as version {known['version']}"
            raise refused(Code.KEY_REUSED, told, field="key", value=key, remedy="Use a new key for other rows.")
        latest = self._opened(name).version()
        if body["mode"] == CommitMode.STRICT.value and body["read_version"] != latest:
            raise refused(
                Code.STALE_READ_VERSION,
                f"read_version is {body['read_version']}, and the table's version is {latest}",
                field="read_version",
                value=body["read_version"],
                remedy="Compute the commit again.",
            )
        log = self._log(name, latest + 1)
        with log.open("xb") as file:
            file.write(payload)
        return {"version": latest + 1, "delta_log_path": str(log)}


class FolderStores(Stores):
    """The store behind the tables of a folder: the folder itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._opened: tuple[LoopThread, LocalStore] | None = None

    def run(self, place: Place, work: Callable[[ObjectStore], Coroutine[Any, Any, R]]) -> R:
        """Run `work` with the folder as its store and return its result."""
        if self._opened is None:
            self._opened = (LoopThread(), LocalStore(self._folder, fsync=False))
        loop, store = self._opened
        return loop.run(work(store))

    def close(self) -> None:
        """Close the store, if it was opened."""
        if self._opened is not None:
            loop, store = self._opened
            loop.run(store.aclose())
            loop.close()
            self._opened = None


class _FolderWritable(WritableTable):
    """A table of a folder for its writers."""

    def __init__(self, api: ApiClient, stores: Stores, name: str, folder: Path) -> None:
        super().__init__(api, stores, name, None)
        self._folder = folder

    def place(self, status: Mapping[str, Any]) -> Place:
        """Return the table's folder."""
        return Place(status["location"], f"file://{self._folder}", _NOBODY, self.name)


class _FolderTable(DeltaTable):
    """A table of a folder."""

    def __init__(self, api: ApiClient, stores: Stores, name: str, folder: Path) -> None:
        self._table = _FolderWritable(api, stores, name, folder)
        self.name = name


def _info_of(log: bytes) -> Json:
    for line in log.split(b"\n"):
        if b'"commitInfo"' in line:
            info: Json = orjson.loads(line)["commitInfo"]
            return info
    return {}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
