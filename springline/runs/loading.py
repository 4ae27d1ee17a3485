"""Reading where a run stands: its rows, and what its manifest says of the assets that it makes."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import orjson

from springline.control.runs.messages import LoadedRun, TakenOutput
from springline.control.runs.planning import PARENT_LABEL
from springline.control.runs.standing import effects_scope, standing
from springline.definitions.composing import CurrentManifest
from springline.deployed.reading import ManifestReader
from springline.paths import Scope
from springline.projection.rows import AttemptRow, EdgeRow, HoldRow, OwnRunRow, RunRow, TaskRow
from springline.projection.schema import FINISHED_RUN, SUCCEEDED, WORKSPACE_HOLD
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.ulids import is_canonical_ulid

MAX_PARENTS: Final = 50
"""How many reruns of reruns inherit from each other."""
_OF_A_RUN: Final = ("tasks", "dep_satisfaction", "x_attempts")
_TABLES: Final = (*_OF_A_RUN, "runs", "x_runs", "x_holds")


def is_of_a_manifest(code_version: str | None) -> bool:
    """Say whether a run, or a request for one, names a deployed manifest: others are executed by others."""
    return code_version is not None and is_canonical_ulid(code_version)


def own_row(snapshot: StateSnapshot, run_id: str) -> OwnRunRow | None:
    """Return a run's row in `x_runs`, None if it has none."""
    row: Any = snapshot["x_runs"].get(run_id)
    return None if row is None else OwnRunRow(*row)


def hold_row(snapshot: StateSnapshot) -> HoldRow | None:
    """Return the last change of the workspace's hold, None if there never was one; needs the table `x_holds`."""
    row: Any = snapshot["x_holds"].get(WORKSPACE_HOLD)
    return None if row is None else HoldRow(*row)


def is_held(snapshot: StateSnapshot) -> bool:
    """Say whether the workspace is held, by the table `x_holds`."""
    row = hold_row(snapshot)
    return row is not None and row.held


async def load_run(
    store: ObjectStore, reader: PublishedReader, manifests: ManifestReader, scope: Scope, run_id: str
) -> LoadedRun:
    """Return a run as its rows have it; without a row, or if it cannot be executed, `missing` says why.

    `store` is the whole store. Raises `DamagedObject`, and the store's errors.
    """
    snapshot = await reader.snapshot(scope, _TABLES)
    run = await asyncio.to_thread(snapshot["runs"].get, run_id)
    if run is None:
        return LoadedRun(run_id=run_id, state="", missing="no event of the workspace's ledger has triggered it")
    row = RunRow(*cast(Any, run))
    if not is_of_a_manifest(row.code_version):
        return LoadedRun(run_id=run_id, state=row.state, missing="no deployed manifest is named by it")
    assert row.code_version is not None
    try:
        manifest = await manifests.needed(ScopedStore(store, scope), scope, row.code_version)
    except DamagedObject as error:
        if row.state not in FINISHED_RUN and not row.cancel_requested:
            # It waits: it goes on when the manifest is restored, and ends when somebody cancels it.
            raise
        return LoadedRun(run_id=run_id, state=row.state, cancel_requested=row.cancel_requested, missing=str(error))
    return await asyncio.to_thread(_loaded, snapshot, row, manifest)


def _loaded(snapshot: StateSnapshot, run: RunRow, manifest: CurrentManifest) -> LoadedRun:
    below: dict[str, Any] = {name: snapshot[name].below((run.run_id,)) for name in _OF_A_RUN}
    return standing(
        run,
        [TaskRow(*row) for row in below["tasks"]],
        [EdgeRow(*row) for row in below["dep_satisfaction"]],
        [AttemptRow(*row) for row in below["x_attempts"]],
        own_row(snapshot, run.run_id),
        manifest.manifest,
        held=is_held(snapshot),
        before=_outputs_before(snapshot, run),
    )


def _outputs_before(snapshot: StateSnapshot, run: RunRow) -> dict[str, TakenOutput]:
    """Return the outputs of the runs that a rerun repeats in part, the latest of each task; those that are left."""
    found: dict[str, TakenOutput] = {}
    for _ in range(MAX_PARENTS):
        labels: dict[str, str] = {} if run.labels is None else orjson.loads(run.labels)
        parent: Any = snapshot["runs"].get(labels.get(PARENT_LABEL, ""))
        if parent is None:
            break
        run = RunRow(*parent)
        scope = effects_scope(run.run_id, own_row(snapshot, run.run_id))
        rows: Any = snapshot["tasks"].below((run.run_id,))
        for task in (TaskRow(*row) for row in rows):
            if task.state == SUCCEEDED and task.attempt_id is not None:
                output = TakenOutput(
                    task_key=task.task_key,
                    attempt_id=task.attempt_id,
                    scope=scope,
                    partition_key=task.partition_key,
                )
                found.setdefault(task.task_key, output)
    return found
