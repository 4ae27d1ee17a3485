"""Pools as the rows have them: which attempts have slots, who waits, and how large each pool is.

Which pool a task has follows from the manifest of its run, so that no row has to say it. Where that manifest is lost,
an attempt counts in every pool: then never more run than may, and what is lost holds up no pool for longer than the
attempt takes. A process that has the manifest in memory finds fewer that count, in the same order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from springline.control.runs.apart import UNTOLD_MS
from springline.control.runs.messages import PoolRows, SlotClaim, SlotHolder
from springline.control.runs.pools import has_slot, may_begin, waiting_words
from springline.control.runs.standing import node_of
from springline.definitions.manifest import DeployedManifest
from springline.deployed.pools import PoolSize, pool_sizes
from springline.deployed.reading import ManifestReader
from springline.paths import Scope
from springline.projection.rows import RunRow, TaskRow
from springline.projection.schema import DISPATCHED, FINISHED_RUN, READY, RUNNING, TASKS
from springline.published.lists import equals
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.runs.loading import is_of_a_manifest
from springline.runs.untold import cancelled_untold
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.ulids import ulid_time_ms

ENDING_MS: Final = UNTOLD_MS
"""A task that was cancelled before its attempt had told that it runs keeps its slot until that one's end is on record,
or so long: an attempt that has not begun tells nothing, and its worker may be gone."""
_TABLES: Final = ("runs", "tasks", "x_attempts", "x_notes")
_HAVE_SLOTS: Final = (DISPATCHED, RUNNING)


async def read_pools(
    store: ObjectStore, reader: PublishedReader, manifests: ManifestReader, scope: Scope
) -> dict[str, tuple[PoolSize, PoolRows]]:
    """Return every pool of a workspace by name: its size, and who has its slots and waits.

    `store` is the whole store. Raises `DamagedObject`, and the store's errors.
    """
    sizes = await pool_sizes(ScopedStore(store, scope), scope, manifests)
    found = await _tasks_by_pool(store, reader, manifests, scope, (*_HAVE_SLOTS, READY), ())
    return {name: (size, _rows(size, found, name)) for name, size in sizes.items()}


async def read_pool(
    store: ObjectStore,
    reader: PublishedReader,
    manifests: ManifestReader,
    scope: Scope,
    pool: str,
    asking: Sequence[str],
) -> PoolRows:
    """Return who has the slots of a pool, who waits by the rows, and which of the runs `asking` have ended.

    `store` is the whole store. Raises `DamagedObject`, and the store's errors.
    """
    sizes = await pool_sizes(ScopedStore(store, scope), scope, manifests)
    found = await _tasks_by_pool(store, reader, manifests, scope, (*_HAVE_SLOTS, READY), asking)
    rows = _rows(sizes.get(pool, PoolSize(pool)), found, pool)
    over = [run_id for run_id in asking if (run := found.runs.get(run_id)) is not None and run.state in FINISHED_RUN]
    return rows.model_copy(update={"over": over})


async def slots_of_claims(
    store: ObjectStore,
    reader: PublishedReader,
    manifests: ManifestReader,
    scope: Scope,
    claims: Sequence[SlotClaim],
) -> list[str]:
    """Return the ids of those attempts that have their slots (`springline.control.runs.pools.has_slot`).

    The sizes are read before the rows: what is under way by a larger size goes on, whoever comes later finds the new
    one. `store` is the whole store. Raises `DamagedObject`, and the store's errors.
    """
    sizes = await pool_sizes(ScopedStore(store, scope), scope, manifests)
    found = await _tasks_by_pool(store, reader, manifests, scope, _HAVE_SLOTS, ())
    begins: list[str] = []
    for pool in dict.fromkeys(claim.pool for claim in claims):
        rows = _rows(sizes.get(pool, PoolSize(pool)), found, pool)
        begins += may_begin([one.attempt_id for one in claims if one.pool == pool], rows.holders, rows.slots)
    return begins


async def waits_of_run(
    store: ObjectStore,
    reader: PublishedReader,
    manifests: ManifestReader,
    scope: Scope,
    run: RunRow,
    tasks: Sequence[TaskRow],
) -> dict[str, str]:
    """Return what tasks of a run wait for that have no slot of their pool, in words, by their keys.

    `store` is the whole store. Raises `DamagedObject`, and the store's errors.
    """
    if run.state in FINISHED_RUN or not is_of_a_manifest(run.code_version):
        return {}
    assert run.code_version is not None
    manifest = await manifests.needed(ScopedStore(store, scope), scope, run.code_version)
    pools = _pools_of(manifest.manifest)
    waiting = [task for task in tasks if node_of(task) in pools and task.state in (READY, DISPATCHED)]
    if not waiting:
        return {}
    found = await read_pools(store, reader, manifests, scope)
    waits: dict[str, str] = {}
    for task in waiting:
        pool = pools[node_of(task)]
        rows = found[pool][1] if pool in found else PoolRows()
        in_line = task.state == DISPATCHED and not has_slot(task.attempt_id or "", rows.holders, rows.slots)
        if in_line or (task.state == READY and rows.slots is not None):
            waits[task.task_key] = waiting_words(pool, rows.slots, len(rows.holders))
    return waits


def _pools_of(manifest: DeployedManifest) -> dict[str, str]:
    return {key: node.pool for key, node in manifest.nodes.items() if node.pool is not None}


@dataclass(frozen=True, slots=True)
class _Found:
    """Tasks by the name of their pool, those of which nobody knows whether they have one, and the rows of runs."""

    tasks: Mapping[str, Sequence[TaskRow]]
    unknown: Sequence[TaskRow]
    runs: Mapping[str, RunRow]


async def _tasks_by_pool(
    store: ObjectStore,
    reader: PublishedReader,
    manifests: ManifestReader,
    scope: Scope,
    states: Collection[str],
    asking: Iterable[str],
) -> _Found:
    snapshot = await reader.snapshot(scope, _TABLES)
    tasks, runs = await asyncio.to_thread(_selected, snapshot, states, asking)
    pools: dict[str, dict[str, str] | None] = {}
    for manifest_id in {run.code_version for run in runs.values()}:
        if manifest_id is not None and is_of_a_manifest(manifest_id):
            try:
                named = await manifests.needed(ScopedStore(store, scope), scope, manifest_id)
            except DamagedObject:
                pools[manifest_id] = None
            else:
                pools[manifest_id] = _pools_of(named.manifest)
    by_pool: dict[str, list[TaskRow]] = {}
    unknown: list[TaskRow] = []
    for task in tasks:
        run = runs.get(task.run_id)
        of_nodes = {} if run is None else pools.get(run.code_version or "", {})
        if of_nodes is None:
            unknown.append(task)
        elif (pool := of_nodes.get(node_of(task))) is not None:
            by_pool.setdefault(pool, []).append(task)
    return _Found(by_pool, unknown, runs)


def _selected(
    snapshot: StateSnapshot, states: Collection[str], asking: Iterable[str]
) -> tuple[list[TaskRow], dict[str, RunRow]]:
    tasks = [TaskRow(*cast(Any, row)) for row in snapshot["tasks"].select(equals(TASKS, "state", list(states)))]
    # What was cancelled just now, and has told no end, may run.
    tasks += cancelled_untold(snapshot, int(time.time() * 1_000) - ENDING_MS)
    runs: dict[str, RunRow] = {}
    for run_id in dict.fromkeys([*(task.run_id for task in tasks), *asking]):
        row = snapshot["runs"].get(run_id)
        if row is not None:
            runs[run_id] = RunRow(*cast(Any, row))
    return tasks, runs


def _rows(size: PoolSize, found: _Found, pool: str) -> PoolRows:
    tasks = found.tasks.get(pool, ())
    return PoolRows(
        slots=size.slots,
        holders=[
            *(_holder(task, is_certain=True) for task in tasks if task.state != READY),
            *(_holder(task, is_certain=False) for task in found.unknown if task.state != READY),
        ],
        # A run without its manifest asks for nothing: it goes on, and asks, when that is restored.
        ready=sorted({task.run_id for task in tasks if task.state == READY}),
    )


def _holder(task: TaskRow, *, is_certain: bool) -> SlotHolder:
    return SlotHolder(
        run_id=task.run_id,
        task_key=task.task_key,
        attempt=task.attempt,
        attempt_id=task.attempt_id or "",
        state=task.state,
        version=task.row_version,
        since_ms=task.started_at if task.state == RUNNING else ulid_time_ms(task.row_version),
        is_certain=is_certain,
    )
