"""The four tables of the families, for code outside the fold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pyarrow as pa
from msgspec.structs import astuple

from springline.projection.catalog import CatalogView
from springline.projection.families import Families, Family
from springline.projection.layers import Over
from springline.projection.rows import EdgeRow, RunRow, TaskRow
from springline.projection.schema import CATALOG_RUN_INDEX, DEP_SATISFACTION, RUNS, TASKS, Key, Row, Table
from springline.projection.stored import StoredRows
from springline.projection.tables import RowChange, in_pieces

_RUN_COLUMNS = len(RUNS.columns)
_TASK_COLUMNS = len(TASKS.columns)
_CATALOG_STAMP = CATALOG_RUN_INDEX.index("row_version")
_CATALOG_TIME = CATALOG_RUN_INDEX.index("updated_at")
_CATALOG_RUN = CATALOG_RUN_INDEX.index("run_id")
_CATALOG_TASK = CATALOG_RUN_INDEX.index("task_key")


def _run_row(run: RunRow | None) -> Row | None:
    return None if run is None else astuple(run)[:_RUN_COLUMNS]


def _task_row(task: TaskRow | None) -> Row | None:
    return None if task is None else astuple(task)[:_TASK_COLUMNS]


def _edge_row(edge: EdgeRow | None) -> Row | None:
    return None if edge is None else astuple(edge)


class _View(ABC):
    """A table whose rows are those of families, in memory or stored."""

    table: Table

    def __init__(self, families: Families) -> None:
        self._families = families

    @abstractmethod
    def _in_memory(self) -> Iterator[Row]:
        """Yield the rows of the families in memory, in any order."""

    @abstractmethod
    def _found(self, family: Family, key: Key) -> Row | None:
        """Return the row with a key, or None, of the family that it must be in."""

    def attach(self, stored: StoredRows) -> None:
        """Refuse: families are attached to their four tables at once, by `Families.attach`."""
        raise TypeError(f"{stored.table.name} lies over stored rows with its families only")

    def export(self) -> Iterator[Row]:
        """Yield all rows, in any order."""
        over = self._families.over
        return self._in_memory() if over is None else over.stored[self.table.name].rows(self._above())

    def pieces(self) -> Iterator[pa.Table]:
        """Yield all rows as Arrow tables, in order of keys."""
        over = self._families.over
        if over is None:
            return in_pieces(self.table.name, self._in_memory())
        return over.stored[self.table.name].pieces(self._above())

    def _above(self) -> Over:
        over = self._families.over
        assert over is not None
        rows = sorted(self._in_memory(), key=self.table.key_of)
        hidden = [frozenset(over.keys()), over.gone]
        return Over(rows, over.stored[self.table.name].of, hidden, list(map(self.table.key_of, rows)))

    def find(self, key: Key) -> Row | None:
        """Return the row with this key, or None; a stored family stays where it is."""
        run_id = key if isinstance(key, str) else key[self.table.key.index("run_id")]
        family = dict.get(self._families.of, run_id)
        if family is not None:
            return self._found(family, key)
        over = self._families.over
        return None if over is None or run_id in over.gone else over.stored[self.table.name].find(key)

    def __len__(self) -> int:
        held, over = sum(1 for _ in self._in_memory()), self._families.over
        if over is None:
            return held
        stored = over.stored[self.table.name]
        return held + len(stored) - sum(len(stored.rows_at(run_id)) for run_id in {*over.keys(), *over.gone})


class RunsView(_View):
    """The table `runs`."""

    table = RUNS

    def _in_memory(self) -> Iterator[Row]:
        return (astuple(family.run)[:_RUN_COLUMNS] for family in self._families.of.values() if family.run is not None)

    def _found(self, family: Family, key: Key) -> Row | None:
        return _run_row(family.run)

    def load(self, rows: Iterable[Row]) -> None:
        """Take rows over as they are, each in the place of an older one with its key."""
        for values in cast(Iterable[tuple[Any, ...]], rows):
            run = RunRow(*values)
            old = self._families.family(run.run_id).run
            if old is not None:
                run.refreshed_at = old.refreshed_at
            self._families.set_run(run.run_id, run)

    def unload(self, key: Key) -> None:
        """Forget a row, if there is one."""
        self._families.set_run(cast(str, key), None)

    def changes(self) -> list[RowChange]:
        """Return what differs from the before-images."""
        found = []
        kept = self._families.kept
        for run_id, before in (kept.runs if kept is not None else {}).items():
            old, new = _run_row(before), self.find(run_id)
            if old != new:
                found.append(RowChange(run_id, old, new))
        return found


class TasksView(_View):
    """The table `tasks`."""

    table = TASKS

    def _in_memory(self) -> Iterator[Row]:
        families = self._families.of.values()
        return (astuple(task)[:_TASK_COLUMNS] for family in families for task in family.tasks.values())

    def _found(self, family: Family, key: Key) -> Row | None:
        _, task_key = cast(tuple[str, str], key)
        return _task_row(family.tasks.get(task_key))

    def load(self, rows: Iterable[Row]) -> None:
        """Take rows over as they are, each in the place of an older one with its key."""
        families = self._families
        for values in cast(Iterable[tuple[Any, ...]], rows):
            task = TaskRow(*values)
            family = families.family(task.run_id)
            old = family.tasks.get(task.task_key)
            if old is not None:
                task.refreshed_version, task.refreshed_at = old.refreshed_version, old.refreshed_at
            elif families.unclaimed and (stamp := families.unclaimed.pop((task.run_id, task.task_key), None)):
                task.refreshed_version, task.refreshed_at = stamp
            family.tasks[task.task_key] = task
            if family.run is not None:
                family.run.pending = None

    def unload(self, key: Key) -> None:
        """Forget a row, if there is one."""
        run_id, task_key = cast(tuple[str, str], key)
        self._families.set_task(run_id, task_key, None)

    def changes(self) -> list[RowChange]:
        """Return what differs from the before-images."""
        found = []
        kept = self._families.kept
        for key, before in (kept.tasks if kept is not None else {}).items():
            old, new = _task_row(before), self.find(key)
            if old != new:
                found.append(RowChange(key, old, new))
        return found


class EdgesView(_View):
    """The table `dep_satisfaction`."""

    table = DEP_SATISFACTION

    def _in_memory(self) -> Iterator[Row]:
        families = self._families.of.values()
        return (astuple(edge) for family in families for edges in family.edges.values() for edge in edges.values())

    def _found(self, family: Family, key: Key) -> Row | None:
        _, upstream, downstream = cast(tuple[str, str, str], key)
        return _edge_row(family.edges.get(upstream, {}).get(downstream))

    def load(self, rows: Iterable[Row]) -> None:
        """Take rows over as they are, each in the place of an older one with its key."""
        for values in cast(Iterable[tuple[Any, ...]], rows):
            edge = EdgeRow(*values)
            self._families.set_edge((edge.run_id, edge.upstream_task_key, edge.downstream_task_key), edge)

    def unload(self, key: Key) -> None:
        """Forget a row, if there is one."""
        run_id, upstream, downstream = cast(tuple[str, str, str], key)
        self._families.set_edge((run_id, upstream, downstream), None)

    def changes(self) -> list[RowChange]:
        """Return what differs from the before-images."""
        found = []
        kept = self._families.kept
        for key, before in (kept.edges if kept is not None else {}).items():
            old, new = _edge_row(before), self.find(key)
            if old != new:
                found.append(RowChange(key, old, new))
        return found


class CatalogTable(_View):
    """The table `catalog_run_index`: its rows are derived. Loading one takes over only what does not follow."""

    table = CATALOG_RUN_INDEX

    def __init__(self, families: Families, tenant: str, workspace: str) -> None:
        super().__init__(families)
        self._tenant, self._workspace = tenant, workspace

    def _in_memory(self) -> Iterator[Row]:
        for family in self._families.of.values():
            if family.run is not None and family.tasks:
                view = CatalogView(self._tenant, self._workspace, family.run)
                yield from (row for task in family.tasks.values() if (row := view.row(task)) is not None)

    def _found(self, family: Family, key: Key) -> Row | None:
        tenant, workspace, _, task_key = cast(tuple[str, str, str, str], key)
        if (tenant, workspace) != (self._tenant, self._workspace) or family.run is None:
            return None
        task = family.tasks.get(task_key)
        return None if task is None else CatalogView(tenant, workspace, family.run).row(task)

    def load(self, rows: Iterable[Row]) -> None:
        """Take over stamp and time of the last refresh; tasks may follow."""
        for values in cast(Iterable[tuple[Any, ...]], rows):
            run_id, task_key = values[_CATALOG_RUN], values[_CATALOG_TASK]
            stamp = (values[_CATALOG_STAMP], values[_CATALOG_TIME])
            family = self._families.of.get(run_id)
            task = None if family is None else family.tasks.get(task_key)
            if family is None or task is None:
                self._families.unclaimed[(run_id, task_key)] = stamp
            else:
                task.refreshed_version, task.refreshed_at = stamp
                if family.run is not None:
                    family.run.pending = None

    def unload(self, key: Key) -> None:
        """Do nothing but forget what was loaded before its task: a row goes with its task or run."""
        _, _, run_id, task_key = cast(tuple[str, str, str, str], key)
        self._families.unclaimed.pop((run_id, task_key), None)

    def changes(self) -> list[RowChange]:
        """Return what differs from the before-images of runs and tasks."""
        kept = self._families.kept
        if kept is None:
            return []
        touched: dict[str, dict[str, TaskRow | None]] = {run_id: {} for run_id in kept.runs}
        for (run_id, task_key), before in kept.tasks.items():
            touched.setdefault(run_id, {})[task_key] = before
        found = []
        for run_id, tasks in touched.items():
            family = self._families.of.get(run_id)
            run = None if family is None else family.run
            now = {} if family is None else family.tasks
            run_before = kept.runs.get(run_id, run)
            keys = tasks if _same_run(run_before, run) else now.keys() | tasks.keys()
            view, view_before = self._view(run), self._view(run_before)
            for task_key in keys:
                task = now.get(task_key)
                task_before = tasks.get(task_key, task)
                new = None if view is None or task is None else view.row(task)
                old = None if view_before is None or task_before is None else view_before.row(task_before)
                if old != new:
                    found.append(RowChange((self._tenant, self._workspace, run_id, task_key), old, new))
        return found

    def _view(self, run: RunRow | None) -> CatalogView | None:
        return None if run is None else CatalogView(self._tenant, self._workspace, run)


def _same_run(one: RunRow | None, other: RunRow | None) -> bool:
    if one is None or other is None:
        return one is other
    return _run_row(one) == _run_row(other) and one.refreshed_at == other.refreshed_at
