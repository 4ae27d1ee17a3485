"""Runs with their tasks and edges, a family per run: there the fold finds all rows that an event of a run touches.

`runs`, `tasks`, `dep_satisfaction` and the derived `catalog_run_index` are views of the families. Runs and tasks are
changed in place: the code that changes one first calls `keep_run` or `keep_task`, which keeps its before-image.

`RunExpiry` keeps the finished ones by age, so that retention finds the expired ones without looking at the others
(docs/events.md#fold-retention).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, cast

from springline.projection.rows import EdgeRow, RunRow, TaskRow
from springline.projection.schema import CATALOG_RUN_INDEX, DEP_SATISFACTION, FINISHED_RUN, RUNS, TASKS
from springline.projection.stored import StoredRows
from springline.ulids import ulid_time_ms


class Family:
    """A run, its tasks by key, and its edges by upstream and downstream key; the run's own row may be missing."""

    __slots__ = ("edges", "run", "tasks")

    def __init__(self) -> None:
        self.run: RunRow | None = None
        self.tasks: dict[str, TaskRow] = {}
        self.edges: dict[str, dict[str, EdgeRow]] = {}


class Kept:
    """Before-images of a run's, tasks' and edges' rows, by key; None for a row that did not exist."""

    def __init__(self) -> None:
        self.runs: dict[str, RunRow | None] = {}
        self.tasks: dict[tuple[str, str], TaskRow | None] = {}
        self.edges: dict[tuple[str, str, str], EdgeRow | None] = {}


class FamiliesOver(dict[str, Family]):
    """Families in memory over stored ones: `get`, `[]` and `in` find both.

    Iteration yields those in memory only. A family is in memory with all its rows.
    """

    def __init__(self, stored: Mapping[str, StoredRows]) -> None:
        super().__init__()
        self.stored = stored
        """By table: `runs`, `tasks`, `dep_satisfaction` and `catalog_run_index`."""
        self.gone: set[str] = set()
        """Stored families that were deleted since."""

    def get(self, run_id: str, default: Any = None) -> Any:
        """Return the family of a run; a stored one stays in memory from then on."""
        family = dict.get(self, run_id)
        if family is not None:
            return family
        if run_id in self.gone:
            return default
        family = self._read(run_id)
        if family is None:
            return default
        self[run_id] = family
        return family

    def __missing__(self, run_id: str) -> Family:
        family: Family | None = self.get(run_id)
        if family is None:
            raise KeyError(run_id)
        return family

    def __contains__(self, run_id: object) -> bool:
        return self.get(cast("str", run_id)) is not None

    def __delitem__(self, run_id: str) -> None:
        self.pop(run_id)

    def pop(self, run_id: str, *default: Any) -> Any:
        """Delete a family and return it, if there is one."""
        if default:
            raise TypeError("a family that is deleted must be there")
        family = self[run_id]
        self.gone.add(run_id)
        dict.__delitem__(self, run_id)
        return family

    def _read(self, run_id: str) -> Family | None:
        family = Family()
        for values in cast("list[tuple[Any, ...]]", self.stored[RUNS.name].rows_at(run_id)):
            family.run = RunRow(*values)
        for values in cast("list[tuple[Any, ...]]", self.stored[TASKS.name].rows_at(run_id)):
            task = TaskRow(*values)
            family.tasks[task.task_key] = task
        for values in cast("list[tuple[Any, ...]]", self.stored[DEP_SATISFACTION.name].rows_at(run_id)):
            edge = EdgeRow(*values)
            family.edges.setdefault(edge.upstream_task_key, {})[edge.downstream_task_key] = edge
        if family.run is None and not family.tasks and not family.edges:
            return None
        if family.run is not None and family.tasks:
            stamps = self.stored[CATALOG_RUN_INDEX.name].values_at(run_id, ("row_version", "updated_at"))
            for *_, task_key, version, at_ms in stamps:
                refreshed = family.tasks.get(task_key)
                if refreshed is not None:
                    refreshed.refreshed_version, refreshed.refreshed_at = version, at_ms
        return family


class Families:
    """All families by run id. Rows are written by these methods, except for changes of a kept run or task.

    Args:
        on_run: called with every run row that loading or rolling back puts in place.
    """

    def __init__(self, on_run: Callable[[RunRow], None] | None = None) -> None:
        self.of: dict[str, Family] = {}
        self.kept: Kept | None = None
        self.unclaimed: dict[tuple[str, str], tuple[str, int]] = {}
        """Stamp and time of catalog rows that were loaded before their tasks."""
        self._on_run = on_run
        self.over: FamiliesOver | None = None
        """`of`, if it lies over stored families."""

    def attach(self, stored: Mapping[str, StoredRows]) -> None:
        """Use the stored rows of the four tables from now on; there are no families yet."""
        if self.of:
            raise ValueError("there are families in memory already")
        self.of = self.over = FamiliesOver(stored)

    def family(self, run_id: str) -> Family:
        """Return the family of a run, a new one if there is none."""
        family = self.of.get(run_id)
        if family is None:
            family = self.of[run_id] = Family()
        return family

    def keep_run(self, run: RunRow) -> None:
        """Keep the before-image of a run that is about to change."""
        kept = self.kept
        if kept is not None and run.run_id not in kept.runs:
            kept.runs[run.run_id] = copy(run)

    def keep_task(self, task: TaskRow) -> None:
        """Keep the before-image of a task that is about to change."""
        kept = self.kept
        if kept is not None and (key := (task.run_id, task.task_key)) not in kept.tasks:
            kept.tasks[key] = copy(task)

    def add_run(self, run: RunRow) -> None:
        """Write the row of a run that has none."""
        if self.kept is not None:
            self.kept.runs.setdefault(run.run_id, None)
        self.family(run.run_id).run = run

    def add_task(self, task: TaskRow) -> None:
        """Write the row of a task that has none, or that was added for the same event."""
        if self.kept is not None:
            self.kept.tasks.setdefault((task.run_id, task.task_key), None)
        self.family(task.run_id).tasks[task.task_key] = task

    def put_edge(self, family: Family, edge: EdgeRow) -> None:
        """Write an edge of a family, new or in the place of another."""
        upstream, downstream = edge.upstream_task_key, edge.downstream_task_key
        edges = family.edges.get(upstream)
        if edges is None:
            edges = family.edges[upstream] = {}
        if self.kept is not None:
            self.kept.edges.setdefault((edge.run_id, upstream, downstream), edges.get(downstream))
        edges[downstream] = edge

    def remove(self, run_id: str) -> None:
        """Delete a family with all its rows; raises `KeyError` if there is none."""
        family = self.of.pop(run_id)
        if self.kept is None:
            return
        if family.run is not None:
            self.kept.runs.setdefault(run_id, family.run)
        for task in family.tasks.values():
            self.kept.tasks.setdefault((run_id, task.task_key), task)
        for upstream, edges in family.edges.items():
            for downstream, edge in edges.items():
                self.kept.edges.setdefault((run_id, upstream, downstream), edge)

    def set_run(self, run_id: str, run: RunRow | None) -> None:
        """Set or delete a run's row without keeping a before-image."""
        self.family(run_id).run = run
        if run is None:
            self._drop_if_empty(run_id)
        elif self._on_run is not None:
            self._on_run(run)

    def set_task(self, run_id: str, task_key: str, task: TaskRow | None) -> None:
        """Set or delete a task's row without keeping a before-image."""
        if task is not None:
            self.family(run_id).tasks[task_key] = task
        elif run_id in self.of:
            self.of[run_id].tasks.pop(task_key, None)
            self._drop_if_empty(run_id)

    def set_edge(self, key: tuple[str, str, str], edge: EdgeRow | None) -> None:
        """Set or delete an edge's row without keeping a before-image."""
        run_id, upstream, downstream = key
        if edge is not None:
            self.family(run_id).edges.setdefault(upstream, {})[downstream] = edge
        elif run_id in self.of:
            edges = self.of[run_id].edges.get(upstream, {})
            edges.pop(downstream, None)
            if not edges:
                self.of[run_id].edges.pop(upstream, None)
            self._drop_if_empty(run_id)

    @property
    def touched(self) -> bool:
        """Whether there are before-images."""
        kept = self.kept
        return kept is not None and bool(kept.runs or kept.tasks or kept.edges)

    def track(self, on: bool) -> None:
        """Drop all before-images; keep new ones from here on, or none."""
        self.kept = Kept() if on else None

    def rollback(self) -> None:
        """Put all before-images back, and drop them."""
        kept = self.kept
        if kept is None:
            return
        self.kept = Kept()
        for run_id, run in kept.runs.items():
            self.set_run(run_id, run)
        for (run_id, task_key), task in kept.tasks.items():
            self.set_task(run_id, task_key, task)
        for key, edge in kept.edges.items():
            self.set_edge(key, edge)

    def _drop_if_empty(self, run_id: str) -> None:
        family = self.of[run_id]
        if family.run is None and not family.tasks and not family.edges:
            del self.of[run_id]


def age_reference_ms(run: RunRow) -> int:
    """Return the instant, in epoch milliseconds, from which a finished run's age counts."""
    return _age_reference_ms(run.row_version, run.triggered_at, run.completed_at)


def _age_reference_ms(row_version: str, triggered_at: int, completed_at: int | None) -> int:
    stamped = ulid_time_ms(row_version)
    if stamped is not None:
        return stamped
    return triggered_at if completed_at is None else completed_at


class RunExpiry:
    """A heap of (age reference, run id) with the current entry of every finished run, and perhaps older ones."""

    def __init__(self) -> None:
        self._by_age: list[tuple[int, str]] = []

    def note(self, run: RunRow) -> None:
        """Add a written run, if it is finished."""
        if run.state in FINISHED_RUN:
            heapq.heappush(self._by_age, (age_reference_ms(run), run.run_id))

    def note_stored(self, runs: StoredRows) -> None:
        """Add all stored runs that are finished, also those in older layers."""
        columns = ("run_id", "state", "row_version", "triggered_at", "completed_at")
        for _, content in runs.column_values(columns):
            values = (content.column(name).to_pylist() for name in columns)
            for run_id, state, version, triggered, completed in zip(*values, strict=True):
                if state in FINISHED_RUN:
                    self._by_age.append((_age_reference_ms(version, triggered, completed), run_id))
        heapq.heapify(self._by_age)

    def take_expired(self, families: Families, limit_ms: int) -> list[str]:
        """Return the ids of all finished runs whose age counts from before an instant, each once."""
        by_age = self._by_age
        expired: dict[str, None] = {}
        while by_age and by_age[0][0] < limit_ms:
            _, run_id = heapq.heappop(by_age)
            family = families.of.get(run_id)
            run = None if family is None else family.run
            if run is not None and run.state in FINISHED_RUN and age_reference_ms(run) < limit_ms:
                expired[run_id] = None
        return list(expired)
