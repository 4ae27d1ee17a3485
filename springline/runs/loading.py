"""Reading where a run stands: its rows, and what its manifest says of the assets that it makes."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import orjson

from springline.control.runs.messages import LoadedArgument, LoadedAsset, LoadedRun, LoadedTask
from springline.control.runs.progress import INFRASTRUCTURE
from springline.definitions.composing import CurrentManifest
from springline.definitions.manifest import DeployedAsset
from springline.definitions.mappings import effective_mapping
from springline.definitions.partitions import FieldProblem
from springline.deployed.reading import read_manifest
from springline.paths import Scope
from springline.projection.rows import AttemptRow, EdgeRow, OwnRunRow, RunRow, TaskRow
from springline.projection.schema import RETRY_WAIT, WORKSPACE_HOLD
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.ulids import is_canonical_ulid

DEFAULT_HEARTBEAT_MS: Final = 10_000
"""How long an attempt may give no sign of life, where its asset says nothing."""

_OF_A_RUN: Final = ("tasks", "dep_satisfaction", "x_attempts")
_TABLES: Final = (*_OF_A_RUN, "runs", "x_runs", "x_holds")


def is_of_a_manifest(code_version: str | None) -> bool:
    """Say whether a run, or a request for one, names a deployed manifest: others are executed by others."""
    return code_version is not None and is_canonical_ulid(code_version)


async def load_run(store: ObjectStore, reader: PublishedReader, scope: Scope, run_id: str) -> LoadedRun:
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
    manifest = await read_manifest(ScopedStore(store, scope), row.code_version)
    if manifest is None:
        gone = f"its manifest {row.code_version} is gone"
        return LoadedRun(run_id=run_id, state=row.state, cancel_requested=row.cancel_requested, missing=gone)
    return await asyncio.to_thread(_loaded, snapshot, row, manifest)


def _loaded(snapshot: StateSnapshot, run: RunRow, manifest: CurrentManifest) -> LoadedRun:
    below: dict[str, Any] = {name: snapshot[name].below((run.run_id,)) for name in _OF_A_RUN}
    tasks = [TaskRow(*row) for row in below["tasks"]]
    edges = [EdgeRow(*row) for row in below["dep_satisfaction"]]
    attempts = [AttemptRow(*row) for row in below["x_attempts"]]
    found: Any = snapshot["x_runs"].get(run.run_id)
    own = None if found is None else OwnRunRow(*found)
    held = snapshot["x_holds"].get(WORKSPACE_HOLD)
    by_key = {asset.key: asset for asset in manifest.manifest.assets}
    unknown = sorted({str(task.asset_key) for task in tasks if task.asset_key not in by_key})
    if unknown:
        missing = f"manifest {manifest.manifest.manifest_id} has no asset {', '.join(unknown[:5])}"
        return LoadedRun(run_id=run.run_id, state=run.state, cancel_requested=run.cancel_requested, missing=missing)
    place = {task.task_key: number for number, task in enumerate(tasks)}
    needs: dict[str, list[int]] = {task.task_key: [] for task in tasks}
    for edge in edges:
        needs[edge.downstream_task_key].append(place[edge.upstream_task_key])
    failures: dict[str, int] = {}
    lost: set[tuple[str, str]] = set()
    for attempt in attempts:
        if attempt.outcome == "FAILED" and attempt.category != INFRASTRUCTURE:
            failures[attempt.task_key] = failures.get(attempt.task_key, 0) + 1
        elif attempt.category == INFRASTRUCTURE:
            lost.add((attempt.task_key, attempt.attempt_id))
    return LoadedRun(
        run_id=run.run_id,
        state=run.state,
        cancel_requested=run.cancel_requested,
        manifest_id=manifest.manifest.manifest_id,
        scope=(None if own is None else own.effects_scope) or run.run_id,
        config={} if own is None or own.config is None else orjson.loads(own.config),
        assets=[_asset(by_key[key], by_key) for key in sorted({str(task.asset_key) for task in tasks})],
        tasks=[
            LoadedTask(
                key=task.task_key,
                asset=str(task.asset_key),
                partition=task.partition_key,
                needs=needs[task.task_key],
                state=task.state,
                attempt=task.attempt,
                attempt_id=task.attempt_id,
                max_attempts=task.max_attempts,
                failures=failures.get(task.task_key, 0),
                # What infrastructure has lost is tried again at once, and not when the fold would have it.
                retry_at_ms=task.retry_not_before
                if task.state == RETRY_WAIT and (task.task_key, task.attempt_id) not in lost
                else None,
            )
            for task in tasks
        ],
        held=held is not None and bool(held[1]),
    )


def _asset(asset: DeployedAsset, by_key: dict[str, DeployedAsset]) -> LoadedAsset:
    arguments = []
    for edge in asset.dependencies:
        if edge.argument is None or edge.asset not in by_key:
            continue
        mapping = effective_mapping(edge.mapping, by_key[edge.asset].partitions, asset.partitions)
        partitioned = by_key[edge.asset].partitions is not None
        many = partitioned and not isinstance(mapping, FieldProblem) and mapping.many
        arguments.append(LoadedArgument(argument=edge.argument, asset=edge.asset, many=many))
    return LoadedAsset(
        key=asset.key,
        location=asset.location,
        queue=asset.queue,
        priority=asset.priority,
        retries=asset.retries,
        timeout_ms=asset.timeout_ms,
        heartbeat_ms=asset.heartbeat_ms or DEFAULT_HEARTBEAT_MS,
        code_version=asset.code_version,
        arguments=arguments,
    )
