"""Writes of a task: prepared while its function runs, committed once the set of them is sealed, each under its key.

A prepared write is a small object in the store (docs/formats.md#staged-write). It names the data files that are written
already, or holds the rows of a merge and the operation to compute. Whoever knows its path and hash can commit it, in
any process and any number of times: the key makes it count once.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

import orjson
import pyarrow as pa

from springline import paths
from springline.client import changes
from springline.client.changes import Changer, TableOperation
from springline.client.engine import Place
from springline.client.loop import Stores
from springline.client.merging import Merge
from springline.client.reading import Reached
from springline.client.rows import MergeRows
from springline.client.scratch import Files
from springline.client.writing import PreparedWrite, WritableTable, commit_prepared
from springline.errors import Code, InvariantViolated, refused
from springline.keys import idempotency_key
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once

Json = dict[str, Any]

_MAGIC: Final = b"springline-write 1\n"
_SHOWN_ROWS: Final = (
    "num_deleted_rows",
    "num_updated_rows",
    "num_target_rows_inserted",
    "num_target_rows_updated",
    "num_target_rows_deleted",
)


@dataclass(frozen=True, slots=True)
class TaskOfWrites:
    """The task whose writes count once: `scope` is the run under which they are sealed."""

    scope: str
    task_key: str


def write_key(task: TaskOfWrites, table: str, number: int) -> str:
    """Return the idempotency key of a task's write: equal for equal scope, task, table and number.

    `number` counts the writes of the table, from 1. So no attempt, worker or time has a part in it, nor has the order
    in which an attempt turns to its tables: a task whose seal was lost writes under the same keys again.

    It is the UUIDv7 that the text `springline/write/{n}/` and the SHA-256 of `["scope","task","table"]` in JSON stand
    for (`springline.keys.idempotency_key`).
    """
    return idempotency_key(f"springline/write/{number}/{_hashed([task.scope, task.task_key, table])}")


def immediate_key(task: TaskOfWrites, key: str) -> str:
    """Return the idempotency key of an immediate write: equal for equal scope, task and `key`; never a `write_key`."""
    return idempotency_key(f"springline/immediate/{_hashed([task.scope, task.task_key, key])}")


def _hashed(parts: list[str]) -> str:
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


@dataclass(frozen=True, slots=True)
class StagedWrite:
    """A write that waits to be sealed: the table, the operation, its key, and the object that describes it.

    `rows`: how many it writes, None if that is known only when it is committed.
    """

    number: int
    table: str
    operation: str
    key: str
    staged: str
    sha256: str
    rows: int | None = None

    @property
    def plain(self) -> Json:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class WriteDone:
    """What became of a write: the version that has it, and how many rows it wrote or changed, None if not known."""

    version: int
    rows: int | None


class StagedDamaged(InvariantViolated):
    """A staged write is missing, or not the one that was sealed: it is never committed as something else."""


# Descriptions.


def described_files(prepared: PreparedWrite) -> tuple[str, Json, bytes]:
    """Return operation, description and body of an append or overwrite."""
    head: Json = {
        "adds": prepared.files.adds,
        "fingerprint": prepared.fingerprint,
        "partition_by": list(prepared.partition_by),
        "target": _schema_text(prepared.target),
    }
    if prepared.replaces:
        return "overwrite", {**head, "where": prepared.where}, b""
    merged = prepared.merged_from
    return "append", {**head, "merged_from": None if merged is None else _schema_text(merged)}, b""


def described_update(set_: Mapping[str, str], values: Mapping[str, Any], where: str | None) -> tuple[str, Json, bytes]:
    """Return operation, description and body of an update; its values travel as a row of Arrow."""
    columns: dict[str, pa.Array] = {}
    for name, value in values.items():
        try:
            columns[name] = pa.array([value])
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise refused(
                Code.INVALID_REQUEST,
                f"values.{name} is of type {type(value).__name__}, which Arrow does not have: {error}",
                field=f"values.{name}",
                value=repr(value)[:200],
                remedy="Give a number, text, date, time, list or dict, or a SQL expression in set.",
            ) from error
    body = _arrow_bytes(pa.table(columns)) if columns else b""
    return "update", {"set": dict(set_), "where": where}, body


def described_merge(change: TableOperation, rows: MergeRows) -> tuple[str, Json, bytes]:
    """Return operation, description and body of a merge, whose body is its source."""
    known = change.arguments
    head = {"on": known["on"], "aliases": known["aliases"], "clauses": known["clauses"]}
    return "merge", head, _arrow_bytes(rows.table)


def stage(stores: Stores, place: Place, task: TaskOfWrites, described: tuple[str, Json, bytes]) -> tuple[str, str]:
    """Write the description of a write, and return its path and SHA-256; raises the store's errors."""
    operation, head, body = described
    known = {"operation": operation, "scope": task.scope, "task": task.task_key, **head}
    data = _MAGIC + orjson.dumps(known, option=orjson.OPT_SORT_KEYS) + b"\n" + body
    digest = hashlib.sha256(data).hexdigest()
    path = paths.staged_write(task.scope, task.task_key, digest)
    kept = stores.run(place, lambda store: put_once(store, path, data))
    if isinstance(kept, Other):
        raise StagedDamaged(f"{path} holds something else than its name says: restore it, or remove it")
    return str(path), digest


def _read(stores: Stores, place: Place, path: str, digest: str) -> tuple[Json, bytes]:
    async def read(store: ObjectStore) -> bytes | None:
        found = await store.get(paths.ObjectPath(path))
        return None if found is None else found.data

    data = stores.run(place, read)
    if data is None:
        raise StagedDamaged(f"{path}, a write that is sealed, is missing: restore it from a copy")
    if hashlib.sha256(data).hexdigest() != digest or not data.startswith(_MAGIC):
        raise StagedDamaged(f"{path} is not what was sealed: its SHA-256 is another one; restore it from a copy")
    line, _, body = data.removeprefix(_MAGIC).partition(b"\n")
    return orjson.loads(line), body


def merge_source(stores: Stores, place: Place, write: StagedWrite) -> pa.Table:
    """Return the rows that a staged merge brings; raises `StagedDamaged` and the store's errors."""
    return _arrow_table(_read(stores, place, write.staged, write.sha256)[1])


# Commits.


def commit_staged(table: WritableTable, write: StagedWrite) -> WriteDone:
    """Commit a sealed write exactly once, against the table as it is now.

    A change of rows that loses a race is computed again, a bounded number of times. Raises `Refused` for what the table
    does not allow, `springline.client.http.Unavailable` and the store's errors if it is to be tried again, and
    `StagedDamaged`.
    """
    # An append fits any version; what else there is, is computed on the newest one.
    layout = table.layout() if write.operation == "append" else table.refresh()
    head, body = _read(table.stores, layout.place, write.staged, write.sha256)
    if head["operation"] != write.operation:
        raise StagedDamaged(f"{write.staged} is of the operation {head['operation']}, and {write.operation} is sealed")
    task = {"run": head["scope"], "task": head["task"]}
    if write.operation in ("append", "overwrite"):
        done = commit_prepared(table, _prepared(write.operation, head), write.key, task)
        return WriteDone(done.version, done.rows)
    changer = Changer(Reached(table.api, table.stores, table.name, layout.place, layout.version, task))
    if write.operation == "merge":
        target, source = head["aliases"]
        rows = MergeRows(_arrow_table(body))
        merge = Merge(changer.do, rows, head["on"], key=write.key, target=target, source=source)
        result = merge.with_clauses(head["clauses"]).execute()
    else:
        result = changer.do(_change(write.operation, head, body), write.key)
    counted = [int(result.metrics[name]) for name in _SHOWN_ROWS if result.metrics.get(name) is not None]
    return WriteDone(result.version, sum(counted) if counted else None)


def _change(operation: str, head: Json, body: bytes) -> TableOperation:
    if operation == "delete":
        return changes.delete(head["where"])
    if operation == "update":
        values = _arrow_table(body).to_pylist()[0] if body else {}
        return changes.update(head["set"], {name: _plain_time(value) for name, value in values.items()}, head["where"])
    raise StagedDamaged(f"the operation {operation} is not known to this build: start workers of a newer one")


def discard(stores: Stores, place: Place, write: PreparedWrite) -> None:
    """Remove the files of a write that is never going to be sealed; what cannot be removed is left as garbage."""
    folder = place.folder
    if folder is not None:
        for add in write.files.adds:
            file = folder / unquote(add["path"])
            file.unlink(missing_ok=True)
            for parent in file.parents:
                if parent == folder or any(parent.iterdir()):
                    break
                parent.rmdir()
        return

    async def remove(store: ObjectStore) -> None:
        for add in write.files.adds:
            path = paths.delta_data_file(place.root, add["path"])
            found = await store.head(path)
            if found is not None:
                await store.delete(path, if_version=found.version)

    stores.run(place, remove)


# Bytes.


def _prepared(operation: str, head: Json) -> PreparedWrite:
    merged = head.get("merged_from")
    return PreparedWrite(
        Files(list(head["adds"])),
        head["fingerprint"],
        _schema_of_text(head["target"]),
        tuple(head["partition_by"]),
        replaces=operation == "overwrite",
        where=head.get("where"),
        merged_from=None if merged is None else _schema_of_text(merged),
    )


def _schema_text(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _schema_of_text(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def _arrow_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _arrow_table(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


def _plain_time(value: Any) -> Any:
    """Return an instant in UTC: which class stands for its zone depends on what is installed, and a key must not."""
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value


def staged_of(plain: Iterable[Mapping[str, Any]]) -> list[StagedWrite]:
    """Return writes of their JSON; members that this build does not know are passed over."""
    return [
        StagedWrite(**{name: one[name] for name in StagedWrite.__dataclass_fields__ if name in one}) for one in plain
    ]
