"""The tables of an attempt: what its function writes is staged, and committed when the set of it is sealed.

`springline.sdk.tables` has the protocols that a function sees.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from springline.client import changes
from springline.client.changes import Changer, ChangeResult, TableOperation
from springline.client.engine import Place
from springline.client.folder import FolderLake
from springline.client.merging import SOURCE, Merge, on_columns
from springline.client.reading import TARGET, reached
from springline.client.rows import MergeRows
from springline.client.sources import schema_of
from springline.client.staged_rows import StagedPart, StagedRows
from springline.client.staging import (
    StagedWrite,
    TaskOfWrites,
    WriteDone,
    commit_staged,
    described_files,
    described_merge,
    described_update,
    discard,
    immediate_key,
    stage,
    write_key,
)
from springline.client.table import DeltaTable
from springline.client.writing import PreparedWrite, WriteResult, prepare_append, prepare_overwrite
from springline.errors import Code, Refused, refused

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

logger = logging.getLogger("springline.client")

MOST_WRITES = 1_000
"""Writes of one task: each becomes a version of its table, or a part of one."""

Described = tuple[str, dict[str, Any], bytes]


@dataclass(slots=True)
class TaskWrite:
    """A write that a function has asked for; `springline.sdk.WriteHandle` tells its attributes."""

    table: str
    operation: str
    rows: int | None
    version: int | None = None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class BegunWrite:
    """A write that a function has asked for: its number among all of its attempt, from 1, and its key."""

    number: int
    key: str


class TablesByName(Protocol):
    """Where tables are: the lake, or a folder."""

    def table(self, name_or_id: str) -> DeltaTable:
        """Return a table."""

    def create_table(self, name: str, schema: Any, *, partition_by: Sequence[str] = ()) -> DeltaTable:
        """Create a table."""


class TaskTables:
    """The tables of one attempt of a task.

    `lake` connects when a table is first used. `staged` is what is to be sealed, in order.
    """

    def __init__(self, lake: Callable[[], TablesByName], task: TaskOfWrites) -> None:
        self._lake = lake
        self._task = task
        self._lock = threading.Lock()
        self._numbers = 0
        self._of_table: Counter[str] = Counter()
        self._closed = False
        self._files: list[tuple[DeltaTable, Place, PreparedWrite]] = []
        self._handles: dict[int, TaskWrite] = {}
        self._staged: dict[int, StagedWrite] = {}
        self._at_once: dict[int, tuple[TaskWrite, str]] = {}
        """Immediate writes, which are committed, with their keys."""
        self._rows: dict[int, tuple[str, StagedPart]] = {}

    @property
    def staged(self) -> list[StagedWrite]:
        """The writes that wait to be sealed, in the order in which the function has asked for them."""
        return [self._staged[number] for number in sorted(self._staged)]

    @property
    def task(self) -> TaskOfWrites:
        """The task whose writes they are."""
        return self._task

    def table(self, name: str, *, schema: Any = None, partition_by: Sequence[str] = ()) -> StagingTable:
        """Return a table by name; nothing is read or created until it is used."""
        by = (partition_by,) if isinstance(partition_by, str) else tuple(partition_by)
        return StagingTable(self, self._lake().table(name), None if schema is None else schema_of(schema), by)

    def create(self, name: str, schema: pa.Schema, partition_by: tuple[str, ...]) -> None:
        """Create a table, unless somebody else has done so meanwhile."""
        try:
            self._lake().create_table(name, schema, partition_by=partition_by)
        except Refused as error:
            if error.refusal.code is not Code.NAME_TAKEN:
                raise

    def count(self) -> int:
        """Return the number of the next write; raises `Refused` when the function has ended, or asks for too many."""
        with self._lock:
            return self._count()

    def begin(self, table: str) -> BegunWrite:
        """Return the number and the key of the next write, which is one of this table; raises as `count`."""
        with self._lock:
            number = self._count()
            self._of_table[table] += 1
            return BegunWrite(number, write_key(self._task, table, self._of_table[table]))

    def _count(self) -> int:
        if self._closed:
            raise refused(
                Code.INVALID_REQUEST,
                "the function of this attempt has ended, and what it has asked for is sealed",
                field="table",
                remedy="Write before the function returns: wait there for the threads that write.",
            )
        if self._numbers == MOST_WRITES:
            raise refused(
                Code.INVALID_REQUEST,
                f"a task writes at most {MOST_WRITES} times",
                field="table",
                value=self._numbers,
                remedy="Write more rows at a time, as from an iterator of frames, or make partitions.",
            )
        self._numbers += 1
        return self._numbers

    @property
    def rows_written(self) -> dict[str, StagedRows]:
        """The rows of the writes that are staged, by table: of appends and overwrites, and the sources of merges."""
        found: dict[str, list[StagedPart]] = {}
        for number in sorted(self._rows):
            name, part = self._rows[number]
            found.setdefault(name, []).append(part)
        return {name: StagedRows(parts) for name, parts in found.items()}

    def gives(self, number: int, table: DeltaTable, source: PreparedWrite | StagedWrite) -> None:
        """Remember the rows of a write, for checks of what the function has made."""
        place = table.writable.layout().place
        with self._lock:
            self._rows[number] = (table.name, StagedPart(table.writable.stores, place, source))

    def gives_none(self, table: DeltaTable, schema: pa.Schema) -> None:
        """Likewise remember that there are none; such a write has no number."""
        with self._lock:
            self._rows[-len(self._rows) - 1] = (table.name, StagedPart(table.writable.stores, None, schema))

    def keep(self, begun: BegunWrite, table: DeltaTable, described: Described, rows: int | None) -> TaskWrite:
        """Stage a write under its key, and return its handle."""
        place = table.writable.layout().place
        staged, digest = stage(table.writable.stores, place, self._task, described)
        handle = TaskWrite(table.name, described[0], rows)
        kept = StagedWrite(begun.number, table.name, described[0], begun.key, staged, digest, rows)
        with self._lock:
            self._handles[begun.number] = handle
            self._staged[begun.number] = kept
        if kept.operation == "merge":
            self.gives(begun.number, table, kept)
        return handle

    def holds(self, table: DeltaTable, prepared: PreparedWrite) -> None:
        """Remember files, to remove them if they are not sealed."""
        with self._lock:
            self._files.append((table, table.writable.layout().place, prepared))

    def done_at_once(self, number: int, key: str, handle: TaskWrite) -> TaskWrite:
        """Remember an immediate write, which stays whatever becomes of the attempt, and return its handle."""
        with self._lock:
            self._at_once[number] = (handle, key)
        return handle

    @property
    def at_once(self) -> list[tuple[TaskWrite, str]]:
        """The immediate writes with their keys, in order."""
        return [self._at_once[number] for number in sorted(self._at_once)]

    @property
    def handles(self) -> list[TaskWrite]:
        """The handles of the writes that are staged, and of immediate ones, in order."""
        found = {**self._handles, **{number: handle for number, (handle, _) in self._at_once.items()}}
        return [found[number] for number in sorted(found)]

    def commit(self) -> None:
        """Commit in this process what is staged: no other one makes attempts of the task. Raises as `commit_staged`."""
        self.close()
        self._rows.clear()
        for one, done in zip(self.staged, commit_writes(self._lake(), self.staged), strict=True):
            self._handles[one.number].version, self._handles[one.number].rows = done.version, done.rows

    def close(self) -> None:
        """Take no more writes: the function has ended."""
        with self._lock:
            self._closed = True

    def discard(self) -> None:
        """Remove what was written and is never going to be sealed; what cannot be removed is left as garbage."""
        self.close()
        files, self._files = self._files, []
        self._staged.clear()
        self._handles.clear()
        self._rows.clear()
        for table, place, prepared in files:
            try:
                discard(table.writable.stores, place, prepared)
            except Exception as error:
                logger.warning("files of table %s stay behind, until it is vacuumed: %s", table.name, error)


class FolderTables:
    """The tables of a run in this process, without a server: folders below `folder`."""

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._lake = FolderLake(Path(folder))
        self._scopes: set[str] = set()

    def of_attempt(self, scope: str, task_key: str) -> TaskTables:
        """Return the tables of the next attempt of a task."""
        self._scopes.add(scope)
        return TaskTables(lambda: self._lake, TaskOfWrites(scope, task_key))

    def close(self) -> None:
        """Close the folder's store, and remove from it all but the tables."""
        self._lake.close()
        for scope in self._scopes:
            self._lake.forget(scope)


def commit_writes(lake: TablesByName, writes: Iterable[StagedWrite]) -> Iterator[WriteDone]:
    """Commit sealed writes in order, each exactly once, and yield what became of each; raises as `commit_staged`."""
    tables: dict[str, DeltaTable] = {}
    for one in writes:
        table = tables.setdefault(one.table, lake.table(one.table))
        yield commit_staged(table.writable, one)


class StagingTable:
    """A table for the function of a task; `springline.sdk.TaskTable` tells its methods."""

    def __init__(
        self, tables: TaskTables, table: DeltaTable, schema: pa.Schema | None, partition_by: tuple[str, ...]
    ) -> None:
        self._tables = tables
        self._table = table
        self._schema = schema
        self._by = partition_by
        self._known = False

    @property
    def name(self) -> str:
        """The table's name."""
        return self._table.name

    def append(
        self, data: Any, *, schema_mode: str | None = None, immediate: bool = False, key: str | None = None
    ) -> TaskWrite:
        """Append rows."""
        if _is_immediate(key, immediate=immediate):
            fitted = self._with_schema(data)
            return self._at_once(
                "append", key, lambda chosen: self._table.append(fitted, key=chosen, schema_mode=schema_mode)
            )
        begun = self._tables.begin(self.name)
        prepared = prepare_append(
            self._table.writable, data, key=begun.key, schema_mode=schema_mode, opened=self._opened
        )
        if prepared is None:
            self._gives_none(data)
            return TaskWrite(self.name, "append", 0)
        self._tables.holds(self._table, prepared)
        self._tables.gives(begun.number, self._table, prepared)
        return self._tables.keep(begun, self._table, described_files(prepared), prepared.files.rows)

    def overwrite(
        self, data: Any, *, where: str | None = None, immediate: bool = False, key: str | None = None
    ) -> TaskWrite:
        """Replace all rows, or those of the partitions for which `where` is true."""
        if _is_immediate(key, immediate=immediate):
            fitted = self._with_schema(data)
            return self._at_once(
                "overwrite", key, lambda chosen: self._table.overwrite(fitted, where=where, key=chosen)
            )
        begun = self._tables.begin(self.name)
        prepared = prepare_overwrite(self._table.writable, data, key=begun.key, where=where, opened=self._opened)
        self._tables.holds(self._table, prepared)
        self._tables.gives(begun.number, self._table, prepared)
        return self._tables.keep(begun, self._table, described_files(prepared), prepared.files.rows)

    def delete(self, where: str, *, immediate: bool = False, key: str | None = None) -> TaskWrite:
        """Delete the rows for which `where` is true."""
        self._opened(None)
        if _is_immediate(key, immediate=immediate):
            return self._at_once("delete", key, lambda chosen: self._table.delete(where, key=chosen))
        return self._changed(changes.delete(where), ("delete", {"where": where}, b""))

    def update(
        self,
        set: Mapping[str, str] | None = None,
        *,
        where: str | None = None,
        values: Mapping[str, Any] | None = None,
        immediate: bool = False,
        key: str | None = None,
    ) -> TaskWrite:
        """Give columns new values where `where` is true."""
        self._opened(None)
        if _is_immediate(key, immediate=immediate):
            return self._at_once(
                "update", key, lambda chosen: self._table.update(set, where=where, values=values, key=chosen)
            )
        change = changes.update(set or {}, values or {}, where)
        return self._changed(change, described_update(set or {}, values or {}, where))

    def upsert(
        self, source: Any, on: str | Sequence[str], *, immediate: bool = False, key: str | None = None
    ) -> TaskWrite:
        """Update the rows that agree with a source row in the columns `on`, and insert the others."""
        rows = MergeRows(source)
        if rows.table.num_rows == 0:
            self._gives_none(source)
            return TaskWrite(self.name, "merge", 0)
        made = self._merge(rows, on_columns(rows, on), TARGET, SOURCE, key, immediate=immediate)
        return made.when_matched_update_all().when_not_matched_insert_all().execute()

    def merge(
        self,
        source: Any,
        on: str,
        *,
        target_alias: str = TARGET,
        source_alias: str = SOURCE,
        immediate: bool = False,
        key: str | None = None,
    ) -> Merge[TaskWrite]:
        """Begin a merge of `source` on a SQL condition."""
        return self._merge(MergeRows(source), on, target_alias, source_alias, key, immediate=immediate)

    def to_arrow(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pa.Table:
        """Return the rows as a pyarrow Table."""
        return self._readable().to_arrow(columns, where=where)

    def to_pandas(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame."""
        return self._readable().to_pandas(columns, where=where)

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a polars DataFrame."""
        return self._readable().to_polars()

    # Steps.

    def _readable(self) -> DeltaTable:
        """Return the table to read: one whose schema the function has given is created, and has no rows then."""
        if self._schema is not None:
            self._opened(None)
        return self._table

    def _opened(self, schema: pa.Schema | None) -> None:
        """Find the table, or create it: with the schema that the function has given, else with that of its rows."""
        if self._known:
            return
        try:
            layout = self._table.writable.layout()
        except Refused as error:
            wanted = schema if self._schema is None else self._schema
            if error.refusal.code is not Code.TABLE_NOT_FOUND or wanted is None:
                raise
            self._tables.create(self.name, wanted, self._by)
            layout = self._table.writable.refresh()
        if self._by and layout.partition_by != self._by:
            raise refused(
                Code.INVALID_REQUEST,
                f"table {self.name!r} is partitioned by {', '.join(layout.partition_by) or 'nothing'}, and not by "
                f"{', '.join(self._by)}",
                field="partition_by",
                value=list(self._by),
                remedy="Leave partition_by out, or write another table: how a table is partitioned never changes.",
            )
        self._known = True

    def _gives_none(self, data: Any) -> None:
        """Remember that a write has no rows, with the schema of the data, or else of the table, if one tells it."""
        schema = self._schema
        try:
            schema = schema_of(data)
        except Refused:
            if schema is None:
                with suppress(Refused):
                    schema = self._table.writable.layout().schema
        if schema is not None:
            self._tables.gives_none(self._table, schema)

    def _with_schema(self, data: Any) -> Any:
        """Find or create the table for an immediate write of `data`, and return data to write."""
        try:
            found = schema_of(data)
        except Refused:
            found = None
        self._opened(found)
        return data

    def _changed(self, change: TableOperation, described: Described) -> TaskWrite:
        begun = self._tables.begin(self.name)
        self._changer().check(change)
        return self._tables.keep(begun, self._table, described, None)

    def _merge(
        self, rows: MergeRows, on: str, target: str, source: str, key: str | None, *, immediate: bool
    ) -> Merge[TaskWrite]:
        self._opened(rows.table.schema)
        if _is_immediate(key, immediate=immediate):

            def at_once(change: TableOperation, _: str | None) -> TaskWrite:
                return self._at_once("merge", key, lambda chosen: self._changer().do(change, chosen))

            return Merge(at_once, rows, on, key=None, target=target, source=source)

        def kept(change: TableOperation, _: str | None) -> TaskWrite:
            return self._changed(change, described_merge(change, rows))

        return Merge(kept, rows, on, key=None, target=target, source=source)

    def _changer(self) -> Changer:
        return Changer(reached(self._table.writable))

    def _at_once(self, operation: str, key: str | None, do: Callable[[str], WriteResult | ChangeResult]) -> TaskWrite:
        """Commit under a key of the function's own, unless an attempt has done so before."""
        assert key is not None
        number = self._tables.count()
        chosen = immediate_key(self._tables.task, key)
        return self._tables.done_at_once(number, chosen, self._done(operation, chosen, do))

    def _done(self, operation: str, chosen: str, do: Callable[[str], WriteResult | ChangeResult]) -> TaskWrite:
        before = self._version_of(chosen)
        if before is not None:
            return TaskWrite(self.name, operation, None, before, repeated=True)
        try:
            done = do(chosen)
        except Refused as error:
            before = self._version_of(chosen) if error.refusal.code is Code.KEY_REUSED else None
            if before is None:
                raise
            return TaskWrite(self.name, operation, None, before, repeated=True)
        if isinstance(done, WriteResult):
            return TaskWrite(self.name, operation, done.rows, done.version)
        return TaskWrite(self.name, operation, None, done.version, repeated=done.replayed)

    def _version_of(self, key: str) -> int | None:
        """Return the version that a key is committed as, None if it is not."""
        try:
            view = self._table.explain(key)
        except Refused as error:
            if error.refusal.code in (Code.KEY_NOT_FOUND, Code.TABLE_NOT_FOUND):
                return None
            raise
        return int(view["version"]) if view["fate"] == "committed" else None


def _is_immediate(key: str | None, *, immediate: bool) -> bool:
    """Say whether a write is to be committed at once; raises `Refused` unless exactly such a one has a key."""
    if immediate == (key is not None):
        return immediate
    problem = "an immediate write has no key" if immediate else "only an immediate write takes a key"
    remedy = (
        "Give key= a text that names this write among those of the task: the first write under it counts."
        if immediate
        else "Leave it out: writes of a task count once by their order. For a write at once add immediate=True."
    )
    raise refused(Code.INVALID_REQUEST, problem, field="key", value=key, remedy=remedy)
