"""Appending and overwriting: the client writes the caller's rows to files and commits these, exactly once for each key.

The rows are read once, batch by batch. Each batch is put into plain form, added to the fingerprint that
the key stands for, cast to the table's types, and handed to the Delta library, which writes the files. If the table has
changed meanwhile, only the commit is repeated, with the same files.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import uuid_utils

from springline.client.casts import Conversion
from springline.client.engine import Place, check_process, open_table, place_of
from springline.client.fingerprint import Fingerprint, combined
from springline.client.http import ApiClient, Unavailable
from springline.client.loop import Stores
from springline.client.partitions import Distinct, check_partition_types, matching, partition_texts, values_of_files
from springline.client.payloads import Identity, append_payload, commit_info, payload_of
from springline.client.plain import TooLarge, bad_column, plain_batch
from springline.client.schemas import arrow_schema, merged_columns
from springline.client.scratch import Files, Scratch, check_settings
from springline.client.sources import batches
from springline.delta.features import declared, writer_duties
from springline.delta.messages import CommitMode
from springline.delta.payload import MAX_PAYLOAD_BYTES
from springline.delta.table_request import check_name_or_id
from springline.errors import Code, Refused, refused
from springline.keys import idempotency_key

if TYPE_CHECKING:
    from deltalake import DeltaTable

TRIES = 30
"""How often a commit is computed because the table has changed meanwhile."""
LONGEST_WAIT_S = 0.5
HASHED_AT_ONCE_BYTES = 1024 * 1024
"""Batches up to this size are hashed on the calling thread, in under a millisecond: a hand-over may take longer."""
HASHES_WAITING = 4
"""Batches that may wait for their hash while the next ones are written."""

_MOVED = (Code.METADATA_CHANGED, Code.STALE_READ_VERSION)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The result of a write.

    `version` has the rows; `key` is the idempotency key that was sent. `committed` is False if there was nothing
    to do: then `version` is the table's newest, and the key is not used.
    """

    version: int
    delta_log_path: str | None
    key: str
    rows: int
    committed: bool = True


@dataclass(frozen=True, slots=True)
class Layout:
    """The table as of `version`: the schema of its rows and its location."""

    version: int
    place: Place
    columns: dict[str, Any]
    schema: pa.Schema
    partition_by: tuple[str, ...]
    properties: dict[str, str]
    protocol: dict[str, Any]
    metadata: dict[str, Any]


class WritableTable:
    """A table for its writers: its API, its layout as last read, and the stores behind it.

    Raises `Refused` (INVALID_REQUEST) for a name that no table has.
    """

    def __init__(self, api: ApiClient, stores: Stores, name: str, store_url: str | None) -> None:
        check_name_or_id(name)
        self.api = api
        self.stores = stores
        self.name = name
        self._store_url = store_url
        self._layout: Layout | None = None

    def status(self) -> dict[str, Any]:
        """Return the table's status as the API tells it."""
        return self.api.call("GET", f"/api/v1/delta/tables/{self.name}")

    def explain(self, key: str) -> dict[str, Any]:
        """Return the fate of a key; raises `Refused` (KEY_NOT_FOUND) if it has none."""
        return self.api.call("GET", f"/api/v1/delta/tables/{self.name}/commits/{key}")

    def place(self, status: Mapping[str, Any]) -> Place:
        """Return the table's location, given its status."""
        return place_of(status["location"], status["table"]["root"], self._store_url)

    def layout(self) -> Layout:
        """Return the layout as last read, reading it if need be."""
        return self._layout or self.refresh()

    def refresh(self) -> Layout:
        """Read the table's layout again. Raises `Refused` for a table that this client may not write."""
        status = self.status()
        if status["columns"] is None or status["protocol"] is None:
            raise refused(
                Code.NOT_A_DELTA_TABLE,
                f"table {self.name!r} has no schema yet",
                field="table",
                value=self.name,
                remedy="Commit a protocol and a metaData action to it first.",
            )
        metadata = status["metadata"]
        duties = writer_duties(status["protocol"], metadata)
        if duties:
            raise refused(
                Code.UNSUPPORTED_FEATURE,
                f"table {self.name!r} asks its writers for {', '.join(duties)}, which this client does not do",
                field="table",
                value=duties,
                remedy="Write this table with an engine that does, and commit its actions through the API.",
            )
        check_settings(status["properties"], self.name)
        layout = Layout(
            version=status["latest_version"],
            place=self.place(status),
            columns=status["columns"],
            schema=arrow_schema(status["columns"]),
            partition_by=tuple(status["partition_columns"]),
            properties=status["properties"],
            protocol=status["protocol"],
            metadata=metadata,
        )
        check_partition_types(layout.schema, layout.partition_by)
        self._layout = layout
        return layout

    def commit(self, payload: bytes, key: str, mode: CommitMode, read_version: int) -> dict[str, Any]:
        """Commit a payload; raises `Refused`, or `Unavailable` if its outcome is unknown."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise refused(
                Code.PAYLOAD_TOO_LARGE,
                f"the commit names so many files that it has {len(payload)} bytes; the limit is {MAX_PAYLOAD_BYTES}",
                field="data",
                value=len(payload),
                remedy="Write fewer partitions or larger files at a time, in several commits with a key each.",
            )
        url = f"/api/v1/delta/tables/{self.name}/commits"
        body = {"payload": payload.decode(), "read_version": read_version, "mode": mode.value}
        return self.api.call("POST", url, body=body, headers={"Idempotency-Key": key})

    def forget(self) -> None:
        """Read the layout again when it is next used."""
        self._layout = None


@dataclass(slots=True)
class _Plan:
    """One request to write: its data, its key, and the way to commit it."""

    data: Any
    key: str
    asked: bool
    """Whether the caller chose the key, so that it may have been used before."""
    identify: Callable[[str], Identity]
    first: pa.RecordBatch | None = None
    rest: Iterator[pa.RecordBatch] = field(default_factory=lambda: iter(()))

    @property
    def rows(self) -> Iterator[pa.RecordBatch]:
        return self.rest if self.first is None else chain([self.first], self.rest)


def append(table: WritableTable, data: Any, *, key: str | None = None, schema_mode: str | None = None) -> WriteResult:
    """Append rows exactly once; see `DeltaTable.append`."""
    plan = _append_plan(data, key, schema_mode)
    if plan.first is None:
        return _nothing(table, plan.key)
    return _Write(table, plan, _append_way(plan, schema_mode)).run()


def overwrite(table: WritableTable, data: Any, *, where: str | None = None, key: str | None = None) -> WriteResult:
    """Replace rows exactly once; see `DeltaTable.overwrite`."""
    plan = _overwrite_plan(data, where, key)
    return _Write(table, plan, _Overwrite(table, plan.key, where)).run()


@dataclass(frozen=True, slots=True)
class PreparedWrite:
    """An append or overwrite whose files are written and which no commit names: what its commit needs, in any process.

    `target`: the schema of the files' rows, partition columns included; `merged_from`: as in an append that may add
    columns; `replaces`: an overwrite, of what `where` says.
    """

    files: Files
    fingerprint: str
    target: pa.Schema
    partition_by: tuple[str, ...]
    replaces: bool = False
    where: str | None = None
    merged_from: pa.Schema | None = None


def prepare_append(
    table: WritableTable, data: Any, *, key: str, schema_mode: str | None, opened: Callable[[pa.Schema], None]
) -> PreparedWrite | None:
    """Write the files of an append that `commit_prepared` may commit; None without rows.

    `opened` hears of the rows' schema before the table is looked at. Raises as `append`.
    """
    plan = _append_plan(data, key, schema_mode)
    if plan.first is None:
        return None
    opened(plan.first.schema)
    merged_from = plan.first.schema if schema_mode == "merge" else None
    return _Write(table, plan, _append_way(plan, schema_mode)).prepared(merged_from=merged_from)


def prepare_overwrite(
    table: WritableTable, data: Any, *, key: str, where: str | None, opened: Callable[[pa.Schema | None], None]
) -> PreparedWrite:
    """Write the files of an overwrite that `commit_prepared` may commit; as `prepare_append`."""
    plan = _overwrite_plan(data, where, key)
    opened(None if plan.first is None else plan.first.schema)
    return _Write(table, plan, _Overwrite(table, plan.key, where)).prepared(replaces=True, where=where)


def commit_prepared(
    table: WritableTable, prepared: PreparedWrite, key: str, task: Mapping[str, str] | None = None
) -> WriteResult:
    """Commit what was prepared, exactly once under its key, whatever others have committed meanwhile.

    `task` is told in the commit. Raises as `append`. The files stay, whatever comes of it: another process may be
    committing them.
    """
    how: _Append | _Overwrite = _Append(key, prepared.merged_from, task)
    if prepared.replaces:
        how = _Overwrite(table, key, prepared.where, task)
    identity = _identity(prepared.fingerprint, replaces=prepared.replaces, where=prepared.where)
    try:
        answer = _committed(table, how, key, prepared, identity, table.layout(), checked=False)
    except Refused as error:
        # Committed before, it counts, whatever has become of the table since.
        answer = _answered_before(table, key, identity, error)
    return WriteResult(answer["version"], answer["delta_log_path"], key, prepared.files.rows)


def _answered_before(table: WritableTable, key: str, identity: Identity, error: Refused) -> dict[str, Any]:
    try:
        return _same_by(table, key, identity, error)
    except Refused as another:
        if another.refusal.code is Code.KEY_NOT_FOUND:
            raise error from None
        raise


def _append_plan(data: Any, key: str | None, schema_mode: str | None) -> _Plan:
    if schema_mode not in (None, "merge"):
        raise refused(
            Code.INVALID_REQUEST,
            f"schema_mode={schema_mode!r} is not a way to append",
            field="schema_mode",
            value=schema_mode,
            remedy="Leave it out, or pass 'merge' to add the columns that the table does not have.",
        )
    return _plan(data, key, lambda rows: _identity(rows, replaces=False))


def _append_way(plan: _Plan, schema_mode: str | None) -> _Append:
    assert plan.first is not None
    return _Append(plan.key, plan.first.schema if schema_mode == "merge" else None)


def _overwrite_plan(data: Any, where: str | None, key: str | None) -> _Plan:
    if where is not None and not _is_sql_text(where):
        raise refused(
            Code.INVALID_REQUEST,
            "where is not a SQL text in whole characters",
            field="where",
            value=repr(where)[:200],
            remedy="Write SQL over the partition columns, such as day = '2024-01-01', or leave it out.",
        )
    return _plan(data, key, lambda rows: _identity(rows, replaces=True, where=where))


def _identity(rows: str, *, replaces: bool, where: str | None = None) -> Identity:
    """Return what a key of an append or overwrite stands for, given the fingerprint of its rows."""
    if not replaces:
        return Identity("append", rows)
    return Identity("overwrite", combined([rows, "" if where is None else where]))


def _is_sql_text(text: object) -> bool:
    """Say whether `text` is a non-empty string without lone surrogates."""
    return isinstance(text, str) and bool(text.strip()) and not any("\ud800" <= one <= "\udfff" for one in text)


def _plan(data: Any, key: str | None, identify: Callable[[str], Identity]) -> _Plan:
    made = new_key() if key is None else idempotency_key(key)
    rest = batches(data)
    first = next(rest, None)
    if first is None:
        # Drop the exhausted source, which closes what it holds.
        rest = iter(())
    return _Plan(data, made, key is not None, identify, first, rest)


def _nothing(table: WritableTable, key: str) -> WriteResult:
    return WriteResult(table.status()["latest_version"], None, key, 0, committed=False)


class _Append:
    """How an append is committed: blind, or strict if it adds columns. `merged_from`: the schema that may add some."""

    def __init__(self, key: str, merged_from: pa.Schema | None, task: Mapping[str, str] | None = None) -> None:
        self._key = key
        self._task = task
        self._merged_from = merged_from

    def target(self, layout: Layout) -> tuple[pa.Schema, dict[str, Any] | None]:
        """Return the schema to write, and the table's new columns if the append adds some."""
        if self._merged_from is None:
            return layout.schema, None
        merged = merged_columns(layout.columns, self._merged_from)
        if merged is None:
            return layout.schema, None
        schema = arrow_schema(merged)
        _check_known_types(layout, schema)
        return schema, merged

    def watch(self, layout: Layout) -> Distinct | None:
        return None

    def check(self, layout: Layout, seen: Distinct | None) -> None:
        """Accept all rows: every row may be appended."""

    def payload(self, layout: Layout, files: Files, identity: Identity, merged: dict[str, Any] | None) -> _Commit:
        metrics = {"numFiles": len(files.adds), "numOutputRows": files.rows, "numOutputBytes": files.bytes}
        key = self._key
        if merged is None:
            payload = append_payload(files.adds, key, layout.partition_by, identity, metrics, self._task)
            return _Commit(payload, CommitMode.APPEND)
        parameters = {"mode": "Append", "partitionBy": orjson.dumps(list(layout.partition_by)).decode()}
        info = commit_info(key, parameters, identity, metrics=metrics, task=self._task)
        metadata = layout.metadata | {"schemaString": orjson.dumps(merged).decode()}
        adds = [{"add": add} for add in files.adds]
        return _Commit(payload_of([info, {"metaData": metadata}, *adds]), CommitMode.STRICT)


class _Overwrite:
    """How an overwrite is committed: strict, with a remove for each replaced file of the version it was computed on."""

    def __init__(
        self, table: WritableTable, key: str, where: str | None, task: Mapping[str, str] | None = None
    ) -> None:
        self._task = task
        self._table = table
        self._key = key
        self._where = where

    def target(self, layout: Layout) -> tuple[pa.Schema, dict[str, Any] | None]:
        if layout.properties.get("delta.appendOnly", "").lower() == "true":
            raise refused(
                Code.UNSUPPORTED_FEATURE,
                f"table {self._table.name!r} is append-only (delta.appendOnly)",
                field="table",
                value=self._table.name,
                remedy="Append to it, or set delta.appendOnly to false first.",
            )
        if "deletionVectors" in declared(layout.protocol):
            raise refused(
                Code.UNSUPPORTED_FEATURE,
                f"table {self._table.name!r} has deletion vectors, whose files this client does not remove",
                field="table",
                value=["deletionVectors"],
                remedy="Overwrite it with an engine that writes deletion vectors, through the API.",
            )
        if self._where is not None and not layout.partition_by:
            raise refused(
                Code.INVALID_REQUEST,
                f"where={self._where!r}: table {self._table.name!r} is not partitioned",
                field="where",
                value=self._where,
                remedy="Leave where out to replace all rows.",
            )
        return layout.schema, None

    def watch(self, layout: Layout) -> Distinct | None:
        return None if self._where is None else Distinct(layout.schema, layout.partition_by)

    def check(self, layout: Layout, seen: Distinct | None) -> None:
        """Refuse rows for which the predicate is not true: they would be added to the rows that stay."""
        if seen is None or self._where is None:
            return
        values = seen.table()
        fits = matching(self._where, layout.partition_by, values)
        if not all(fits):
            row = values.slice(fits.index(False), 1).to_pylist()[0]
            named = ", ".join(f"{name}={value!r}" for name, value in row.items())
            raise refused(
                Code.INVALID_REQUEST,
                f"the data has rows of partition {named}, for which where={self._where!r} does not hold",
                field="where",
                value=self._where,
                remedy="Widen where, or leave those rows out: overwrite replaces exactly what where says.",
            )

    def payload(self, layout: Layout, files: Files, identity: Identity, merged: dict[str, Any] | None) -> _Commit:
        now = time.time_ns() // 1_000_000
        replaced = self._replaced(layout)
        removes: list[dict[str, Any]] = []
        for path, size, values in replaced:
            remove: dict[str, Any] = {"path": path, "deletionTimestamp": now, "dataChange": True, "size": size}
            if values is not None:
                # delta-rs reads no change data feed of a partitioned table without them.
                remove |= {"extendedFileMetadata": True, "partitionValues": values}
            removes.append({"remove": remove})
        parameters = {"mode": "Overwrite", "partitionBy": orjson.dumps(list(layout.partition_by)).decode()}
        if self._where is not None:
            parameters["predicate"] = self._where
        metrics = {
            "numFiles": len(files.adds),
            "numOutputRows": files.rows,
            "numOutputBytes": files.bytes,
            "numRemovedFiles": len(removes),
            "numRemovedBytes": sum(size for _, size, _ in replaced),
        }
        info = commit_info(self._key, parameters, identity, metrics=metrics, task=self._task)
        return _Commit(payload_of([info, *removes, *({"add": add} for add in files.adds)]), CommitMode.STRICT)

    def _opened(self, layout: Layout) -> DeltaTable:
        """Open the version in `layout`.

        Raises `Refused`: STALE_READ_VERSION if it cannot be read and there is a newer one, as after log clean-up;
        STORED_DAMAGED if it is the newest.
        """
        from deltalake.exceptions import DeltaError  # noqa: PLC0415

        try:
            return open_table(layout.place, layout.version)
        except DeltaError as error:
            is_newest = self._table.status()["latest_version"] == layout.version
            raise refused(
                Code.STORED_DAMAGED if is_newest else Code.STALE_READ_VERSION,
                f"version {layout.version} cannot be read: {' '.join(str(error).split())[:200]}",
                field="table",
                value=self._table.name,
                remedy="Nothing was committed. `springline table verify` says what is wrong with the table.",
            ) from error

    def _replaced(self, layout: Layout) -> list[tuple[str, int, dict[str, str | None] | None]]:
        """Return path, size and partition values of the replaced files."""
        if layout.version < 0:
            return []
        found = pa.table(self._opened(layout).get_add_actions())
        chosen = [True] * found.num_rows
        if self._where is not None:
            values = pa.table(
                {
                    name: pa.chunked_array(found["partition"]).combine_chunks().field(name)
                    for name in layout.partition_by
                }
            )
            chosen = matching(self._where, layout.partition_by, values)
        told = values_of_files(found, layout.partition_by)
        files = zip(found["path"].to_pylist(), found["size_bytes"].to_pylist(), told, strict=True)
        return [file for file, one in zip(files, chosen, strict=True) if one]


@dataclass(frozen=True, slots=True)
class _Commit:
    payload: bytes
    mode: CommitMode


class _Write:
    """One write, from its rows to its answer."""

    def __init__(self, table: WritableTable, plan: _Plan, how: _Append | _Overwrite) -> None:
        self._table = table
        self._plan = plan
        self._how = how

    def run(self) -> WriteResult:
        check_process()
        if self._plan.asked:
            answered = self._answered()
            if answered is not None:
                return answered
        scratch, layout, prepared = self._written()
        try:
            identity = self._plan.identify(prepared.fingerprint)
            answer = _committed(self._table, self._how, self._plan.key, prepared, identity, layout, checked=True)
        except Unavailable:
            # It is unknown whether a commit names these files, so they must stay.
            raise
        except Exception:
            scratch.discard()
            raise
        return WriteResult(answer["version"], answer["delta_log_path"], self._plan.key, prepared.files.rows)

    def prepared(self, **fields: Any) -> PreparedWrite:
        """Write the files alone; `fields` are those of the commit to come."""
        check_process()
        _, _, prepared = self._written()
        return replace(prepared, **fields)

    def _written(self) -> tuple[Scratch, Layout, PreparedWrite]:
        layout = self._table.layout()
        try:
            target, rows = self._planned(layout)
        except Refused:
            # Judged by the table as it was read some time ago; another may have changed it since.
            layout = self._table.refresh()
            target, rows = self._planned(layout)
        scratch = Scratch(layout.place, self._table.stores, self._plan.key)
        files = Files()
        try:
            if self._plan.first is not None:
                files = scratch.write(rows.schema, rows.stream(), layout.partition_by, layout.properties)
            self._how.check(layout, rows.seen)
        except Exception:
            # The rows may be gone, so that only the next call can judge them by the table as it is.
            self._table.forget()
            scratch.discard()
            raise
        return scratch, layout, PreparedWrite(files, rows.fingerprint(), target, layout.partition_by)

    def _planned(self, layout: Layout) -> tuple[pa.Schema, _Rows]:
        """Return the schema to write and the rows in it; raises `Refused` if the rows' columns do not fit the table."""
        target, _ = self._how.target(layout)
        rows = _Rows(self._plan.rows, target, layout.partition_by, self._how.watch(layout))
        if self._plan.first is not None:
            rows.check_columns(self._plan.first.schema)
        return target, rows

    def _answered(self) -> WriteResult | None:
        """Return the answer of a key that is committed already, without writing a file; None if it is not."""
        try:
            view = self._table.explain(self._plan.key)
        except Refused as error:
            if error.refusal.code is Code.KEY_NOT_FOUND:
                return None
            raise
        if view["fate"] != "committed":
            return None
        digest = Fingerprint()
        for batch in self._plan.rows:
            for piece, columns in plain_pieces(batch):
                digest.add(piece.schema.names, columns, piece.num_rows)
        identity = self._plan.identify(digest.digest())
        if view.get("fingerprint") != identity.text:
            raise _reused(self._plan.key, view["version"], known=view.get("fingerprint") is not None)
        return WriteResult(view["version"], view["delta_log_path"], self._plan.key, digest.rows)


def _committed(
    table: WritableTable,
    how: _Append | _Overwrite,
    key: str,
    prepared: PreparedWrite,
    identity: Identity,
    layout: Layout,
    *,
    checked: bool,
) -> dict[str, Any]:
    """Commit; compute the commit again while the table changes meanwhile.

    `checked`: the files were written for the table as it is in `layout`.
    """
    for tries in range(1, TRIES + 1):
        wanted, merged = how.target(layout)
        if not checked:
            _check_fits(prepared.partition_by, layout, prepared.target, wanted)
        checked = False
        try:
            commit = how.payload(layout, prepared.files, identity, merged)
            answer = table.commit(commit.payload, key, commit.mode, layout.version)
        except Refused as error:
            code = error.refusal.code
            if code is Code.KEY_REUSED:
                return _same_by(table, key, identity, error)
            table.forget()
            if code not in _MOVED and not (code is Code.INVALID_PAYLOAD and _described_anew(table, layout)):
                raise
            if tries == TRIES:
                raise _lost(table.name, error) from error
        else:
            if merged is not None:
                table.forget()
            return answer
        if tries > 1:
            time.sleep(random.uniform(0, min(LONGEST_WAIT_S, 0.05 * tries)))
        layout = table.refresh()
    raise AssertionError("unreachable: the last pass returns or raises")


def _described_anew(table: WritableTable, layout: Layout) -> bool:
    """Say whether the table has other columns or partitions than in `layout`, which files were written for."""
    now = table.refresh()
    return (now.columns, now.partition_by) != (layout.columns, layout.partition_by)


def _lost(name: str, error: Refused) -> Refused:
    """Return the refusal of a write that lost against other commits again and again."""
    told = {
        "message": f"the write lost against other commits {TRIES} times; the last time: {error.refusal.message}",
        "field": "table",
        "value": name,
        "remedy": "Nothing was committed. Repeat it under the same key when fewer others write to this table.",
    }
    return Refused(error.refusal.model_copy(update=told))


def _same_by(table: WritableTable, key: str, identity: Identity, error: Refused) -> dict[str, Any]:
    """Answer a key that the same rows used in another mode, before or after they added columns; else refuse."""
    view = table.explain(key)
    if view["fate"] != "committed" or view.get("fingerprint") != identity.text:
        raise error
    return view


class _Rows:
    """A stream of the caller's rows to the files, in the schema of the scratch table.

    Partition columns become texts in it, so that the library writes exactly these texts.
    """

    def __init__(
        self, source: Iterator[pa.RecordBatch], target: pa.Schema, partition_by: tuple[str, ...], seen: Distinct | None
    ) -> None:
        self._source = source
        self._target = target
        self._by = partition_by
        self._digest = Fingerprint()
        self._conversions: list[tuple[pa.Schema, Conversion]] = []
        self.seen = seen
        self.schema = pa.schema(
            [pa.field(one.name, pa.string()) if one.name in partition_by else one for one in target]
        )

    @property
    def rows(self) -> int:
        """Return how many rows were streamed."""
        return self._digest.rows

    def fingerprint(self) -> str:
        """Return the fingerprint of the streamed rows."""
        return self._digest.digest()

    def check_columns(self, schema: pa.Schema) -> None:
        """Raise `Refused` if rows of this schema are none of the table's."""
        self._conversion(schema)

    def stream(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows. Large batches are hashed on another thread, while the consumer writes."""
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="springline-hash") as pool:
            for batch in self._source:
                for piece, columns in plain_pieces(batch):
                    if not waiting and piece.nbytes <= HASHED_AT_ONCE_BYTES:
                        self._digest.add(piece.schema.names, columns, piece.num_rows)
                        yield self._converted(piece, columns)
                        continue
                    waiting.append(pool.submit(self._digest.add, piece.schema.names, columns, piece.num_rows))
                    if len(waiting) > HASHES_WAITING:
                        waiting.popleft().result()
                    yield self._converted(piece, columns)
            for one in waiting:
                one.result()

    def _converted(self, piece: pa.RecordBatch, columns: list[pa.Array]) -> pa.RecordBatch:
        done = self._conversion(piece.schema).apply(columns, piece.num_rows)
        texts: dict[str, pa.Array] = {}
        values: dict[str, pa.Array] = {}
        for index, name in enumerate(self._target.names):
            if name in self._by:
                values[name] = done[index]
                done[index] = texts[name] = partition_texts(done[index], name)
        if self.seen is not None and piece.num_rows:
            self.seen.add(texts, values)
        return pa.RecordBatch.from_arrays(done, schema=self.schema)

    def _conversion(self, schema: pa.Schema) -> Conversion:
        for known, conversion in self._conversions:
            if known.equals(schema):
                return conversion
        made = Conversion(schema, self._target)
        self._conversions = [*self._conversions[-7:], (schema, made)]
        return made


def plain_pieces(batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, list[pa.Array]]]:
    """Yield a batch with its columns in plain form, halved until every column fits into one plain array."""
    try:
        columns = plain_batch(batch)
    except TooLarge:
        half = batch.num_rows // 2
        if half == 0:
            raise bad_column(
                batch.schema.names[0], "is in a row of more than 2 GB, which no reader takes", None, "Split the row."
            ) from None
        yield from plain_pieces(batch.slice(0, half))
        yield from plain_pieces(batch.slice(half))
    else:
        yield batch, columns


def _check_known_types(layout: Layout, schema: pa.Schema) -> None:
    """Refuse to add a column whose type needs a table feature that the table does not have."""
    if "timestampNtz" in declared(layout.protocol):
        return
    for field_ in schema:
        if field_.name not in layout.schema.names and "timestamp[us]" in str(field_.type):
            raise bad_column(
                field_.name,
                "is a time without a zone, and the table does not have the feature timestampNtz",
                str(field_.type),
                "Give it a time zone, or create the table anew with such a column.",
            )


def _check_fits(partition_by: tuple[str, ...], after: Layout, target: pa.Schema, wanted: pa.Schema) -> None:
    """Refuse to commit files that no longer fit, because the table's columns changed while they were written."""
    if partition_by == after.partition_by and _fields_fit(list(target), list(wanted)):
        return
    raise refused(
        Code.METADATA_CHANGED,
        "the table's columns or partitions changed while the rows were written, and the files do not fit it now",
        field="data",
        value=after.version,
        remedy="Repeat the call with the data, under the same key: nothing was committed.",
    )


def _fields_fit(written: list[pa.Field], table: list[pa.Field]) -> bool:
    """Say whether files with fields `written` fit a table with fields `table`: fields they lack must be nullable."""
    there = {field_.name: field_ for field_ in table}
    return all(
        field_.name in there
        and (there[field_.name].nullable or not field_.nullable)
        and _type_fits(field_.type, there.pop(field_.name).type)
        for field_ in written
    ) and all(field_.nullable for field_ in there.values())


def _type_fits(written: pa.DataType, table: pa.DataType) -> bool:
    types = pa.types
    if types.is_struct(written) and types.is_struct(table):
        return _fields_fit(list(written), list(table))
    if types.is_list(written) and types.is_list(table):
        return _fields_fit([written.value_field.with_name("")], [table.value_field.with_name("")])
    if types.is_map(written) and types.is_map(table):
        return _type_fits(written.key_type, table.key_type) and _type_fits(written.item_type, table.item_type)
    return bool(written.equals(table))


def _reused(key: str, version: int, *, known: bool) -> Refused:
    what = "stands for other rows" if known else "was not committed by this client's append or overwrite"
    return refused(
        Code.KEY_REUSED,
        f"idempotency key {key} {what}: it was committed as version {version}",
        field="key",
        value=key,
        remedy=f"If these rows are those of version {version}, changed since, the table has them already: read that "
        "version before you write them again. Use a new key only for rows that the table does not have.",
    )


def new_key() -> str:
    """Return a new idempotency key: a canonical UUIDv7."""
    return str(uuid_utils.uuid7())
