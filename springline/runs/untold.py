"""Attempts of ended runs of whose end nothing is on record: cancelled while no workflow of their run was there."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Final, cast

from springline.control.runs.apart import UNTOLD_MS
from springline.control.runs.ends import ENDED_APART
from springline.control.runs.standing import node_of
from springline.deployed.reading import ManifestReader
from springline.paths import Scope
from springline.projection.rows import RunRow, TaskRow
from springline.projection.schema import CANCELLED, FINISHED_RUN, RUNS, TASKS, Table
from springline.published.lists import all_of, equals, later
from springline.published.snapshot import StateSnapshot, Where
from springline.runs.loading import is_of_a_manifest
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.ulids import new_ulid, ulid_time_ms

TABLES: Final = ("runs", "tasks", "x_attempts", "x_notes")
LOOKED_BACK_MS: Final = 60 * 60_000
"""Tasks that were cancelled longer ago are not looked at."""
MOST_RUNS: Final = 100
"""Of one look."""


def was_cancelled_lately(snapshot: StateSnapshot, now_ms: int) -> bool:
    """Say whether a run was asked to be cancelled whose tasks are to be looked at: else nobody needs their tables.

    It needs the table of runs alone, which are a small part of what tasks are.
    """
    wanted = _changed_since(RUNS, equals(RUNS, "cancel_requested", [True]), now_ms - LOOKED_BACK_MS)
    return next(iter(snapshot["runs"].select(wanted)), None) is not None


def is_told(snapshot: StateSnapshot, task: TaskRow) -> bool:
    """Say whether an end of a task's last attempt is on record, or a note of one; it has an attempt."""
    assert task.attempt_id is not None
    key = (task.run_id, task.task_key, task.attempt_id)
    return snapshot["x_attempts"].get(key) is not None or snapshot["x_notes"].get((*key, ENDED_APART)) is not None


def cancelled_ms(task: TaskRow) -> int:
    """Return when a cancelled task was cancelled: its row has no instant of its own for that."""
    return ulid_time_ms(task.row_version) or 0


def cancelled_untold(snapshot: StateSnapshot, since_ms: int) -> list[TaskRow]:
    """Return the tasks that were cancelled since an instant, in ms since 1970, and of whose attempt no end is told."""
    wanted = _changed_since(TASKS, equals(TASKS, "state", [CANCELLED]), since_ms)
    found = [TaskRow(*cast(Any, row)) for row in snapshot["tasks"].select(wanted)]
    return [task for task in found if task.attempt_id is not None and not is_told(snapshot, task)]


def _changed_since(table: Table, wanted: Where, since_ms: int) -> Where:
    """Want rows, of those that are wanted, that an event since an instant has changed last."""
    both = all_of([wanted, later(table, "row_version", new_ulid(None, max(0, since_ms), 0))])
    assert both is not None
    return both


async def untold_runs(store: ObjectStore, snapshot: StateSnapshot, scope: Scope, now_ms: int) -> dict[str, int]:
    """Return the ended runs with such an attempt, and when it was cancelled; at most `MOST_RUNS`.

    Attempts over HTTP are left out: what no worker has begun has nothing to tell, and callbacks tell the rest. So are
    runs whose manifest cannot be read.
    """
    found = await asyncio.to_thread(_by_run, snapshot, now_ms)
    manifests = ManifestReader()
    untold: dict[str, int] = {}
    for run, tasks in found:
        try:
            manifest = await manifests.needed(ScopedStore(store, scope), scope, run.code_version or "")
        except DamagedObject:
            continue
        nodes = manifest.manifest.nodes
        remote = {asset.key for asset in manifest.manifest.assets if asset.url is not None}
        ours = [one for one in tasks if node_of(one) in nodes and node_of(one) not in remote]
        if ours:
            untold[run.run_id] = min(map(cancelled_ms, ours))
    return untold


def _by_run(snapshot: StateSnapshot, now_ms: int) -> list[tuple[RunRow, list[TaskRow]]]:
    by_run: defaultdict[str, list[TaskRow]] = defaultdict(list)
    for task in cancelled_untold(snapshot, now_ms - LOOKED_BACK_MS):
        if now_ms - cancelled_ms(task) >= UNTOLD_MS:
            by_run[task.run_id].append(task)
    rows = ((snapshot["runs"].get(run_id), tasks) for run_id, tasks in list(by_run.items())[:MOST_RUNS])
    found = [(RunRow(*cast(Any, row)), tasks) for row, tasks in rows if row is not None]
    return [(run, tasks) for run, tasks in found if run.state in FINISHED_RUN and is_of_a_manifest(run.code_version)]
