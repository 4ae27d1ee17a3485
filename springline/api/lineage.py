"""The route of lineage: which versions of tables came from which run and code, and from which versions before them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, cast

from fastapi import Path, Query, Response
from pydantic import Field

from springline import bounds
from springline.api.context import Reader, errors
from springline.api.lists import FromAsked, Id, Json, ListBody, PageQuery, metadata_of, shown_rows
from springline.api.manifests import FromManifests, unknown_asset
from springline.api.urls import CheckedRouter
from springline.definitions.manifest import DeployedAsset
from springline.projection.golden import golden_row
from springline.projection.rows import TaskRow
from springline.projection.schema import RUNS, TASKS, X_ATTEMPTS, X_NOTES, Row
from springline.published.lists import equals
from springline.published.snapshot import StateSnapshot

router = CheckedRouter(prefix="/api/v1", tags=["definitions"])

KeyOfAsset = Annotated[str, Path(max_length=bounds.MAX_ID, description="The asset's key.", examples=["delays"])]


class LineageQuery(PageQuery):
    """Which makings of an asset."""

    partition_key: Annotated[Id | None, Field(description="Of this partition only.")] = None


@router.get(
    "/assets/{key}/lineage",
    summary="How an asset was made",
    response_model=ListBody,
    responses=errors(404, 409, 503),
)
async def lineage(
    key: KeyOfAsset,
    query: Annotated[LineageQuery, Query()],
    asked: FromAsked,
    workspace: Reader,
    manifests: FromManifests,
) -> Response:
    """List each time that an asset was made, in the order of runs: attempt, code, what was written, and from what.

    `upstream` has the tasks of the same run that it took from, with what they have written there, and `metadata` what
    its function told. What it read besides nobody has recorded.
    """
    of_it = equals(TASKS, "asset_key", [key])
    wheres = [of_it, equals(TASKS, "state", ["SUCCEEDED"])]
    if query.partition_key is not None:
        wheres.append(equals(TASKS, "partition_key", [query.partition_key]))
    also = ("runs", "dep_satisfaction", X_ATTEMPTS.name, X_NOTES.name)
    snapshot = await asked.snapshot(TASKS.name, *also)
    current = await manifests.latest(workspace.store, workspace.scope)
    nodes = {} if current is None else current.manifest.nodes
    if not isinstance(nodes.get(key), DeployedAsset):
        # What is deployed no more may have been made.
        rows = await asyncio.to_thread(partial(snapshot[TASKS.name].page, limit=1, where=of_it))
        if not rows.rows:
            raise unknown_asset(key, nodes)
    return await asked.page("tasks", query, wheres, snapshot=snapshot, dress=_made)


def _made(held: StateSnapshot, rows: Sequence[Row]) -> list[Json]:
    """Return how tasks were made; their runs, what these need, and what was told are read once for a page."""
    tasks = [TaskRow(*cast(Any, row)) for row in rows]
    runs = {name: golden_row(RUNS, row) for name, row in held["runs"].get_all(one.run_id for one in tasks).items()}
    needs = {run_id: _needs(held, run_id) for run_id in {one.run_id for one in tasks}}
    owns = [_attempt_that_counts(held, one.run_id, one.task_key) for one in tasks]
    told = metadata_of(
        held, [(task.run_id, task.task_key, own.get("attempt_id", "")) for task, own in zip(tasks, owns, strict=True)]
    )
    return [
        {
            "run_id": task.run_id,
            "task_key": task.task_key,
            "partition_key": task.partition_key,
            "attempt": own.get("attempt"),
            "made_at": own.get("ended_at"),
            "code_version": own.get("code_version"),
            "manifest_id": runs.get(task.run_id, {}).get("code_version"),
            "tables": own.get("tables") or [],
            "metadata": metadata,
            "upstream": [
                {"task_key": one, "tables": _attempt_that_counts(held, task.run_id, one).get("tables") or []}
                for one in needs[task.run_id].get(task.task_key, [])
            ],
        }
        for task, own, metadata in zip(tasks, owns, told, strict=True)
    ]


def _needs(held: StateSnapshot, run_id: str) -> dict[str, list[str]]:
    """Return which tasks each task of a run takes from."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in shown_rows("dep_satisfaction", held["dep_satisfaction"].below((run_id,))):
        found[one["downstream_task_key"]].append(one["upstream_task_key"])
    return found


def _attempt_that_counts(held: StateSnapshot, run_id: str, task_key: str) -> Json:
    """Return the attempt of a task that succeeded, empty if none has."""
    found = shown_rows(X_ATTEMPTS.name, held[X_ATTEMPTS.name].below((run_id, task_key)))
    return next((one for one in found if one["outcome"] == "succeeded"), {})
