"""Tables of the lake as a function sees them, by `context.table`: what it writes counts once, when it has returned.

The library for tables, `springline.client`, does the work; only a function that uses a table waits for its import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self


class WriteHandle(Protocol):
    """A write that a function has asked for."""

    @property
    def table(self) -> str:
        """The table's name."""

    @property
    def operation(self) -> str:
        """One of append, overwrite, delete, update and merge."""

    @property
    def rows(self) -> int | None:
        """How many rows it writes; None if only its commit tells, 0 if there is nothing to write."""

    @property
    def version(self) -> int | None:
        """The table's version that has it; None until its commit, which an immediate write does not wait for."""

    @property
    def repeated(self) -> bool:
        """Whether an immediate write had been done before, by whichever attempt came first."""


class TaskMerge(Protocol):
    """A merge in the making; `execute()` asks for it. The first clause whose condition holds counts for a row."""

    def when_matched_update(self, set: Mapping[str, str], *, predicate: str | None = None) -> Self:
        """Give columns of a target row new values where a source row matches it."""

    def when_matched_update_all(self, *, predicate: str | None = None, except_cols: Sequence[str] = ()) -> Self:
        """Give all columns that the source has its values where a source row matches."""

    def when_matched_delete(self, *, predicate: str | None = None) -> Self:
        """Delete a target row that a source row matches."""

    def when_not_matched_insert(self, set: Mapping[str, str], *, predicate: str | None = None) -> Self:
        """Insert a row, with the columns given, for a source row that matches none."""

    def when_not_matched_insert_all(self, *, predicate: str | None = None, except_cols: Sequence[str] = ()) -> Self:
        """Insert a source row that matches none."""

    def when_not_matched_by_source_update(self, set: Mapping[str, str], *, predicate: str | None = None) -> Self:
        """Give columns of a target row new values where no source row matches it."""

    def when_not_matched_by_source_delete(self, *, predicate: str | None = None) -> Self:
        """Delete a target row that no source row matches."""

    def execute(self) -> WriteHandle:
        """Ask for the merge; nobody sees it before the function has returned."""


class TaskTable(Protocol):
    """A table for the function of a task.

    Writes are staged: nobody sees them before the function has returned, the function neither. Then they are committed
    in the order in which it has asked for them, all of one attempt or none. With `immediate=True` and a `key` of the
    function's own a write is committed at once: the first under this key counts, of whichever attempt, and stays even
    if the function fails.

    Arguments are those of `springline.client.DeltaTable`; what is wrong with them is raised at once.
    """

    @property
    def name(self) -> str:
        """The table's name."""

    def append(
        self, data: Any, *, schema_mode: str | None = None, immediate: bool = False, key: str | None = None
    ) -> WriteHandle:
        """Append rows: a frame of pyarrow, pandas or polars, a DuckDB relation, dicts, or an iterator of such."""

    def overwrite(
        self, data: Any, *, where: str | None = None, immediate: bool = False, key: str | None = None
    ) -> WriteHandle:
        """Replace all rows, or those of the partitions for which the SQL condition `where` is true."""

    def delete(self, where: str, *, immediate: bool = False, key: str | None = None) -> WriteHandle:
        """Delete the rows for which the SQL condition `where` is true."""

    def update(
        self,
        set: Mapping[str, str] | None = None,
        *,
        where: str | None = None,
        values: Mapping[str, Any] | None = None,
        immediate: bool = False,
        key: str | None = None,
    ) -> WriteHandle:
        """Give columns new values, SQL expressions in `set` or Python's in `values`, where `where` is true."""

    def upsert(
        self, source: Any, on: str | Sequence[str], *, immediate: bool = False, key: str | None = None
    ) -> WriteHandle:
        """Update the rows that agree with a source row in the columns `on`, and insert the others."""

    def merge(
        self,
        source: Any,
        on: str,
        *,
        target_alias: str = "target",
        source_alias: str = "source",
        immediate: bool = False,
        key: str | None = None,
    ) -> TaskMerge:
        """Begin a merge of `source` on a SQL condition; add clauses, then `execute()`."""

    def to_arrow(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> Any:
        """Return the rows as a pyarrow Table, without what this function has asked to write."""

    def to_pandas(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> Any:
        """Return the rows as a pandas DataFrame, as `to_arrow`."""

    def to_polars(self) -> Any:
        """Return the rows as a polars DataFrame, as `to_arrow`."""


class TablesOfTask(Protocol):
    """The tables of an attempt."""

    def table(self, name: str, *, schema: Any = None, partition_by: Sequence[str] = ()) -> TaskTable:
        """Return a table by name; nothing is read or created until it is used."""

    @property
    def rows_written(self) -> Mapping[str, Any]:
        """The rows that the function has asked to append, to overwrite with and to merge, by table, for checks."""


class TablesOfAttempt(TablesOfTask, Protocol):
    """The tables of an attempt in this process, which ends it itself."""

    @property
    def handles(self) -> Sequence[WriteHandle]:
        """What the function has asked for, in order."""

    def commit(self) -> None:
        """Commit what the function has asked for, in order: it has returned."""

    def discard(self) -> None:
        """Forget what the function has asked for: it has failed."""


class TablesOfRun(Protocol):
    """The tables of a run in this process."""

    def of_attempt(self, scope: str, task_key: str) -> TablesOfAttempt:
        """Return the tables of the next attempt of a task."""

    def close(self) -> None:
        """Close them."""
