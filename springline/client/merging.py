"""Merging rows into a table by delta-rs's merge; expressions are judged before, and rows never change silently."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from springline.client.casts import one_nan
from springline.client.changes import Commit, Metrics, TableOperation
from springline.client.comparing import quoted
from springline.client.expressions import (
    Expression,
    column_of,
    engine_condition,
    planner_of_merge,
    value_refusal,
)
from springline.client.reading import TARGET
from springline.client.rows import MergeRows
from springline.client.scratch import has_loose_bounds, rewriting_properties
from springline.errors import Code, Refused, refused

if TYPE_CHECKING:
    from deltalake import DeltaTable

R = TypeVar("R")

SOURCE = "source"


@dataclass(frozen=True, slots=True)
class _Clause:
    """One clause: delta-rs's method, its assignments (None: it takes none), its condition; `everything`: all."""

    method: str
    set: Mapping[str, str] | None
    predicate: str | None
    everything: bool = False
    except_columns: tuple[str, ...] = ()

    @property
    def known(self) -> list[Any]:
        return [
            self.method,
            None if self.set is None else dict(self.set),
            self.predicate,
            self.everything,
            list(self.except_columns),
        ]


@dataclass(frozen=True, slots=True)
class _Judged:
    """The judged expressions of a merge."""

    on: Expression
    clauses: list[tuple[_Clause, Expression | None, dict[str, str]]]


class Merge(Generic[R]):
    """A builder of a merge; `execute()` does it, exactly once under its key.

    Clauses are tried in the order they were given, and the first whose condition holds counts for a row. Expressions
    name columns by the aliases `target` and `source` (or the ones that `merge` was given).
    """

    def __init__(
        self,
        do: Callable[[TableOperation, str | None], R],
        rows: MergeRows,
        on: str,
        *,
        key: str | None,
        target: str,
        source: str,
    ) -> None:
        self._do = do
        self._rows = rows
        self._on = on
        self._key = key
        self._target = _alias(target, "target_alias")
        self._source = _alias(source, "source_alias")
        if self._target == self._source:
            raise _bad("source_alias", source, "is the alias of the target too", "Give two different aliases.")
        self._clauses: list[_Clause] = []
        self._judged: _Judged

    def when_matched_update(self, set: Mapping[str, str], *, predicate: str | None = None) -> Self:
        """Give columns of a target row new values where a source row matches it."""
        return self._with(_Clause("when_matched_update", dict(set), predicate))

    def when_matched_update_all(self, *, predicate: str | None = None, except_cols: Sequence[str] = ()) -> Self:
        """Give all columns that the source has its values where a source row matches."""
        return self._with(_Clause("when_matched_update", {}, predicate, True, tuple(except_cols)))

    def when_matched_delete(self, *, predicate: str | None = None) -> Self:
        """Delete a target row that a source row matches."""
        return self._with(_Clause("when_matched_delete", None, predicate))

    def when_not_matched_insert(self, set: Mapping[str, str], *, predicate: str | None = None) -> Self:
        """Insert a row, with the columns given, for a source row that matches none."""
        return self._with(_Clause("when_not_matched_insert", dict(set), predicate))

    def when_not_matched_insert_all(self, *, predicate: str | None = None, except_cols: Sequence[str] = ()) -> Self:
        """Insert a source row that matches none."""
        return self._with(_Clause("when_not_matched_insert", {}, predicate, True, tuple(except_cols)))

    def when_not_matched_by_source_update(self, set: Mapping[str, str], *, predicate: str | None = None) -> Self:
        """Give columns of a target row new values where no source row matches it."""
        return self._with(_Clause("when_not_matched_by_source_update", dict(set), predicate))

    def when_not_matched_by_source_delete(self, *, predicate: str | None = None) -> Self:
        """Delete a target row that no source row matches."""
        return self._with(_Clause("when_not_matched_by_source_delete", None, predicate))

    def with_clauses(self, known: Sequence[Sequence[Any]]) -> Self:
        """Add clauses in the form that the arguments of a merge's operation have them in."""
        for method, set_, predicate, everything, except_columns in known:
            self._with(_Clause(method, set_, predicate, everything, tuple(except_columns)))
        return self

    def execute(self) -> R:
        """Do the merge, and return its result; raises as `springline.client.changes.Changer.do`."""
        if not self._clauses:
            raise _bad(
                "clauses", [], "are none, so that the merge does nothing", "Add a clause, as when_matched_update."
            )
        if not self._rows.table.column_names:
            raise _bad("source", None, "has neither rows nor columns", "Pass a frame, whose columns are known.")
        arguments = {
            "source": self._rows.fingerprint,
            "on": self._on,
            "aliases": [self._target, self._source],
            "clauses": [clause.known for clause in self._clauses],
        }
        change = TableOperation("merge", arguments, self._check, self._run, field="on", blamed=self._blamed)
        return self._do(change, self._key)

    def _with(self, clause: _Clause) -> Self:
        if clause.set is not None and not clause.set and not clause.everything:
            raise _bad("set", {}, "gives no column a value", "Give columns values, as {'x': 'source.x'}.")
        self._clauses.append(clause)
        return self

    def _check(self, table: DeltaTable, schema: pa.Schema) -> None:
        rows = self._rows.for_table(schema)
        if self._rows.apart_by:
            # Again, because two numbers may be one as a number of the table's type.
            _check_apart(rows, self._rows.apart_by)
        with planner_of_merge(table, schema, self._target, rows.schema, self._source) as planner:
            judged = planner.predicate(self._on, field="on")
            partitions = table.metadata().partition_columns
            clauses = []
            for clause in self._clauses:
                condition, updates = None, {}
                if clause.predicate is not None:
                    condition = planner.predicate(clause.predicate, field=f"{clause.method}.predicate")
                if clause.set is not None:
                    for name, text in self._assignments(clause, rows.schema, schema).items():
                        column = column_of(schema, name, field=f"{clause.method}.set")
                        updates[name] = planner.assignment(
                            text, column, field=f"{clause.method}.set.{name}", partitions=name in partitions
                        )
                clauses.append((clause, condition, updates))
        self._judged = _Judged(judged, clauses)

    def _blamed(self, table: DeltaTable, schema: pa.Schema, error: BaseException) -> Refused | None:
        """Return a refusal that names the value and, if only one column is computed, the column."""
        computed = [
            (f"{clause.method}.set.{name}", name, text)
            for clause, _, _ in self._judged.clauses
            for name, text in (clause.set or {}).items()
        ]
        if len(computed) != 1:
            return None
        ((field, name, text),) = computed
        return value_refusal(error, text, field=field, column=schema.field(self._bare(name)))

    def _assignments(self, clause: _Clause, source: pa.Schema, schema: pa.Schema) -> dict[str, str]:
        if not clause.everything:
            return {self._bare(name): text for name, text in (clause.set or {}).items()}
        for name in clause.except_columns:
            column_of(source, name, field=f"{clause.method}.except_cols")
        names = [name for name in source.names if name not in clause.except_columns]
        for name in names:
            if name not in schema.names:
                raise _bad(
                    f"source.{name}",
                    name,
                    "is a column that the table has not",
                    f"Leave it out, or name it in except_cols. The table's columns are {', '.join(schema.names)}.",
                )
        return {name: f"{quoted(self._source)}.{quoted(name)}" for name in names}

    def _bare(self, name: str) -> str:
        return name.removeprefix(f"{self._target}.") if isinstance(name, str) else name

    def _run(self, table: DeltaTable, commit: Commit) -> Metrics:
        schema = pa.schema(table.schema().to_arrow())
        rows = self._rows.for_table(schema)
        by = table.metadata().partition_columns
        judged = self._judged
        merger = table.merge(
            rows,
            engine_condition(judged.on, schema, by, self._target),
            source_alias=self._source,
            target_alias=self._target,
            streamed_exec=not _may_go_by_bounds(judged.on, schema, rows.schema),
            writer_properties=rewriting_properties(table, schema, _assigned(judged, rows)),
            commit_properties=commit.properties(),
            post_commithook_properties=commit.after,
        )
        methods = [clause.method for clause, _, _ in judged.clauses]
        by_source = any(method.startswith("when_not_matched_by_source") for method in methods)
        if by_source and not any(method.startswith("when_matched") for method in methods):
            # Without a clause for rows that are matched, the library copies one as often as source rows match it.
            merger.when_matched_delete(predicate="false")
        for clause, condition, updates in judged.clauses:
            method = getattr(merger, clause.method)
            predicate = None if condition is None else engine_condition(condition, schema, by, self._target)
            if clause.set is None:
                method(predicate=predicate)
            else:
                named = {f"{quoted(self._target)}.{quoted(name)}": sql for name, sql in updates.items()}
                method(named, predicate=predicate)
        return merger.execute()


def _assigned(judged: _Judged, rows: pa.Table) -> dict[str, pa.ChunkedArray | None]:
    """Return the columns that get values, with those of the source where each clause takes them as they are."""
    found: dict[str, pa.ChunkedArray | None] = {}
    for clause, _, updates in judged.clauses:
        for name in updates:
            taken = clause.everything and found.get(name, rows) is not None
            found[name] = rows.column(name) if taken else None
    return found


def _may_go_by_bounds(on: Expression, target: pa.Schema, source: pa.Schema) -> bool:
    """Say whether delta-rs may leave out, and not conflict with, files whose bounds do not meet the source's.

    Otherwise a merge loses to every append, so that steady ones starve it. Bounds of floating-point columns may leave
    out NaN, which is equal to itself in a condition, and those of decimals may be rounded.
    """
    kinds = [schema.field(name).type for schema in (target, source) for _, name in on.columns if name in schema.names]
    return not any(has_loose_bounds(kind) for kind in kinds)


def on_columns(rows: MergeRows, names: str | Sequence[str]) -> str:
    """Return the condition that rows match where they agree in the columns `names`, none of them null.

    Raises `Refused` if the source has two rows that agree in them, because either could win.
    """
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        told = "is not a column's name, nor a list of them"
        raise _bad("on", repr(names)[:100], told, "Name the columns by which rows are told apart, as on=['id'].")
    for name in names:
        column_of(rows.table.schema, name, field="on")
    rows.apart_by = tuple(names)
    _check_apart(rows.table, names)
    return " AND ".join(f"{quoted(TARGET)}.{quoted(name)} = {quoted(SOURCE)}.{quoted(name)}" for name in names)


def _check_apart(rows: pa.Table, names: Sequence[str]) -> None:
    """Raise `Refused` if two rows agree in the columns `names`, as a condition compares them, none of them null."""
    compared = {name: _as_compared(rows.column(name)) for name in names}
    try:
        counted = pa.table(compared).group_by(list(names)).aggregate([([], "count_all")])
    except pa.ArrowException as error:
        raise _bad("on", list(names), f"cannot be compared: {error}", "Name plain columns.") from error
    twice = counted.filter(pc.greater(counted.column("count_all"), 1))
    for name in names:
        twice = twice.filter(pc.is_valid(twice.column(name)))
    if twice.num_rows:
        found = {name: twice.column(name)[0].as_py() for name in names}
        raise _bad(
            "source",
            {name: str(value)[:100] for name, value in found.items()},
            f"holds {twice.column('count_all')[0].as_py()} rows with the same {', '.join(names)}",
            "Leave one row for each.",
        )


def _as_compared(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with one form of NaN and of zero."""
    if not pa.types.is_floating(column.type):
        return column
    return pa.chunked_array(
        [pc.add(one_nan(chunk), pa.scalar(0.0, chunk.type)) for chunk in column.chunks], column.type
    )


def _alias(name: str, field: str) -> str:
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
        raise _bad(field, name, "is not a plain name", "Use letters, digits and _, such as t and s.")
    return name


def _bad(field: str, value: Any, problem: str, remedy: str) -> Refused:
    return refused(Code.INVALID_REQUEST, f"{field} {problem}", field=field, value=value, remedy=remedy)
