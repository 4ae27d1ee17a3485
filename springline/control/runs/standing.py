"""Where a run stands, as its rows have it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import orjson

from springline.control.runs.messages import (
    LoadedArgument,
    LoadedAsset,
    LoadedRun,
    LoadedTask,
    TakenInput,
    TakenOutput,
)
from springline.control.runs.planning import (
    BACKFILL_LABEL,
    PlannedTask,
    RunOrigin,
    most_running_of,
    plan_again,
    priority_of,
    task_definition,
)
from springline.control.runs.remote import DEFAULT_HTTP_HEARTBEAT_MS, DEFAULT_HTTP_TIMEOUT_MS
from springline.control.runs.retries import INFRASTRUCTURE
from springline.definitions.ids import parse_task_key
from springline.definitions.manifest import DeployedManifest, DeployedNode
from springline.definitions.mappings import effective_mapping
from springline.definitions.partitions import FieldProblem
from springline.projection.rows import AttemptRow, EdgeRow, OwnRunRow, RunRow, TaskRow
from springline.projection.schema import BLOCKED, FAILED, READY, RETRY_WAIT, RUNNING

DEFAULT_HEARTBEAT_MS: Final = 10_000
"""How long an attempt may give no sign of life, where its asset says nothing."""


def effects_scope(run_id: str, own: OwnRunRow | None) -> str:
    """Return the run under which a run keeps its outputs: its own, or the one whose failures it makes again.

    `own`: its row of our own, None if it has none.
    """
    return (None if own is None else own.effects_scope) or run_id


def node_of(task: TaskRow) -> str:
    """Return the key of the asset that a task makes; of a task of the pipeline, whose row names no asset, its own."""
    if task.asset_key is not None:
        return task.asset_key
    parsed = parse_task_key(task.task_key)
    return task.task_key if parsed is None else parsed[0]


def standing(
    run: RunRow,
    tasks: Sequence[TaskRow],
    edges: Sequence[EdgeRow],
    attempts: Sequence[AttemptRow],
    own: OwnRunRow | None,
    manifest: DeployedManifest,
    *,
    held: bool,
    before: Mapping[str, TakenOutput] | None = None,
) -> LoadedRun:
    """Return where a run stands, from its rows of each table and the manifest that it names.

    `held`: whether its workspace is held. `before`: of a rerun, the outputs of its parents by the keys of their tasks.
    If the manifest lacks one of its assets, `missing` says so.
    """
    by_key = manifest.nodes
    made = {task.task_key: node_of(task) for task in tasks}
    unknown = sorted({name for name in made.values() if name not in by_key})
    if unknown:
        missing = f"manifest {manifest.manifest_id} has no asset {', '.join(unknown[:5])}"
        return LoadedRun(run_id=run.run_id, state=run.state, cancel_requested=run.cancel_requested, missing=missing)
    place = {task.task_key: number for number, task in enumerate(tasks)}
    needs: dict[str, list[int]] = {task.task_key: [] for task in tasks}
    for edge in edges:
        needs[edge.downstream_task_key].append(place[edge.upstream_task_key])
    failures: dict[str, int] = {}
    lost: set[tuple[str, str]] = set()
    for attempt in attempts:
        if attempt.outcome == FAILED and attempt.category != INFRASTRUCTURE:
            failures[attempt.task_key] = failures.get(attempt.task_key, 0) + 1
        elif attempt.category == INFRASTRUCTURE:
            lost.add((attempt.task_key, attempt.attempt_id))
    inherited = _inherited(manifest, place, before) if before else {}
    labels: dict[str, str] = {} if run.labels is None else orjson.loads(run.labels)
    return LoadedRun(
        run_id=run.run_id,
        state=run.state,
        cancel_requested=run.cancel_requested,
        manifest_id=manifest.manifest_id,
        scope=effects_scope(run.run_id, own),
        config={} if own is None or own.config is None else orjson.loads(own.config),
        assets=[_asset(by_key[key], by_key) for key in sorted(set(made.values()))],
        tasks=[
            LoadedTask(
                key=task.task_key,
                asset=made[task.task_key],
                partition=task.partition_key,
                needs=needs[task.task_key],
                state=task.state,
                attempt=task.attempt,
                attempt_id=task.attempt_id,
                max_attempts=task.max_attempts,
                heartbeat_sec=task.heartbeat_timeout_sec,
                failures=failures.get(task.task_key, 0),
                heard_ms=task.last_heartbeat_at,
                started_ms=task.started_at,
                inherited=inherited.get(task.task_key, []),
                ready_ms=task.ready_at,
                # What infrastructure has lost is tried again at once, and not when the fold would have it.
                retry_at_ms=task.retry_not_before
                if task.state == RETRY_WAIT and (task.task_key, task.attempt_id) not in lost
                else None,
            )
            for task in tasks
        ],
        held=held,
        priority=priority_of(labels),
        most_running=most_running_of(labels),
        backfill_id=labels.get(BACKFILL_LABEL),
    )


def at_its_beginning(origin: RunOrigin, manifest: DeployedManifest, tasks: Sequence[PlannedTask]) -> LoadedRun:
    """Return where a run stands that has just been planned, and is no rerun."""
    by_key = manifest.nodes
    place = {task.key: number for number, task in enumerate(tasks)}
    return LoadedRun(
        run_id=origin.run_id,
        state=RUNNING,
        manifest_id=manifest.manifest_id,
        scope=origin.effects_scope or origin.run_id,
        config=dict(origin.config or {}),
        assets=[_asset(by_key[key], by_key) for key in sorted({task.asset.key for task in tasks})],
        tasks=[
            LoadedTask(
                key=task.key,
                asset=task.asset.key,
                partition=task.partition_key,
                needs=[place[key] for key in task.depends_on],
                state=BLOCKED if task.depends_on else READY,
                max_attempts=task_definition(task).max_attempts,
                heartbeat_sec=task_definition(task).heartbeat_timeout_sec,
            )
            for task in tasks
        ],
        priority=priority_of(origin.labels),
        most_running=most_running_of(origin.labels),
        backfill_id=(origin.labels or {}).get(BACKFILL_LABEL),
    )


def _inherited(
    manifest: DeployedManifest, made: Collection[str], before: Mapping[str, TakenOutput]
) -> dict[str, list[TakenInput]]:
    """Return by task what its parameters take of tasks that the run does not make."""
    planned = plan_again(manifest, {*before, *made}, made)
    return {
        task.key: [
            TakenInput(argument=one.argument, many=one.many, outputs=outputs)
            for one in task.inputs
            if (outputs := [before[key] for key in one.task_keys if key not in made and key in before])
        ]
        for task in planned
    }


def _asset(asset: DeployedNode, by_key: Mapping[str, DeployedNode]) -> LoadedAsset:
    arguments = []
    for edge in asset.dependencies:
        if edge.argument is None or edge.asset not in by_key:
            continue
        above = by_key[edge.asset].partitions
        mapping = effective_mapping(edge.mapping, above, asset.partitions)
        many = above is not None and not isinstance(mapping, FieldProblem) and mapping.many(above, asset.partitions)
        arguments.append(LoadedArgument(argument=edge.argument, asset=edge.asset, many=many))
    return LoadedAsset(
        key=asset.key,
        location=asset.location,
        queue=asset.queue,
        priority=asset.priority,
        retries=asset.retries,
        retry_delay_ms=asset.retry_delay_ms,
        timeout_ms=asset.timeout_ms if asset.url is None else asset.timeout_ms or DEFAULT_HTTP_TIMEOUT_MS,
        heartbeat_ms=asset.heartbeat_ms or (DEFAULT_HEARTBEAT_MS if asset.url is None else DEFAULT_HTTP_HEARTBEAT_MS),
        code_version=asset.code_version,
        arguments=arguments,
        pool=asset.pool,
        url=asset.url,
        is_task=asset.asset_key is None,
        memory_bytes=asset.memory_bytes,
    )
