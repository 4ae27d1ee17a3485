"""`python -m springline.sdk.describing FILE`: a pipeline file as one JSON document, for the command line.

User code runs while a file is imported, and may do anything: print, exit, crash. So that happens in this process, whose
standard output is kept for the document; what user code prints goes to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from springline.definitions.partitions import Partitions
from springline.sdk.answering import answer_and_end
from springline.sdk.config_models import described_model
from springline.sdk.loading import LoadedPipeline, examine, problem_of_location
from springline.sdk.resolving import ResolvedNode
from springline.sdk.schedules import Schedule
from springline.sdk.sensors import Sensor


def described(loaded: LoadedPipeline, location: str | None = None) -> dict[str, Any]:
    """Return what a file declares: `file`, `location`, its definitions as they are deployed, and `problems`.

    `location`: the name of the code location, by default after the file. Definitions are left out while there are
    problems.
    """
    name = loaded.location if location is None else location
    problems = list(loaded.problems)
    wrong = problem_of_location(loaded.file, name)
    if wrong is not None:
        problems.append(wrong)
    return {
        "file": loaded.file,
        "location": name,
        "keys": list(loaded.pipeline.assets),
        "task_keys": list(loaded.pipeline.tasks),
        "assets": [] if problems else [definition_of(one) for one in loaded.pipeline.assets.values()],
        "tasks": [] if problems else [definition_of(one) for one in loaded.pipeline.tasks.values()],
        "schedules": [] if problems else [schedule_definition(one) for one in loaded.pipeline.schedules],
        "sensors": [] if problems else [sensor_definition(one) for one in loaded.pipeline.sensors],
        "pools": [] if problems else [{"name": name, "slots": slots} for name, slots in loaded.pipeline.pools.items()],
        "problems": [asdict(one) for one in problems],
    }


def definition_of(one: ResolvedNode) -> dict[str, Any]:
    """Return an asset or a task as it is deployed (docs/formats.md#deployed-manifest)."""
    declared = one.declared
    definition = {
        "key": one.key,
        "dependencies": [
            {
                "asset": edge.asset,
                "mapping": None if edge.mapping is None else asdict(edge.mapping),
                "argument": edge.argument,
            }
            for edge in one.dependencies
        ],
        "partitions": None if one.partitions is None else _partitions(one.partitions),
        "retries": declared.retries,
        "retry_delay_ms": declared.retry_delay_ms,
        "timeout_ms": declared.timeout_ms,
        "heartbeat_ms": declared.heartbeat_ms,
        "memory_bytes": declared.memory_bytes,
        "freshness_ms": declared.freshness_ms,
        "queue": declared.queue,
        "url": declared.url,
        "pool": declared.pool,
        "priority": declared.priority,
        "code_version": declared.code_version,
        "description": declared.description,
        "tags": declared.tags,
        "owners": declared.owners,
        "checks": [
            {"name": one.name, "kind": one.kind.value, "severity": one.severity, "table": one.table}
            for one in declared.checks
        ],
        "config": None if declared.config_model is None else described_model(declared.config_model),
    }
    return {name: value for name, value in definition.items() if value not in (None, [], {})}


def _partitions(partitions: Partitions) -> dict[str, Any]:
    plain = asdict(partitions)
    for one in (plain, *(dimension["partitions"] for dimension in plain["dimensions"] or ())):
        # An older API knows of no dimensions: what has none is sent as it was.
        if one["dimensions"] is None:
            del one["dimensions"]
    return plain


def schedule_definition(one: Schedule) -> dict[str, Any]:
    """Return a schedule as it is deployed."""
    definition = {
        "schedule_id": one.schedule_id,
        "cron": one.cron,
        "interval_seconds": one.interval_seconds,
        "timezone": one.timezone,
        "select": one.select,
        "catchup_window_minutes": one.catchup_window_minutes,
        "max_catchup_ticks": one.max_catchup_ticks,
        "overlap": one.overlap,
        "max_active_runs": one.max_active_runs,
        "jitter_seconds": one.jitter_seconds,
    }
    return {name: value for name, value in definition.items() if value is not None}


def sensor_definition(one: Sensor) -> dict[str, Any]:
    """Return a sensor as it is deployed."""
    definition = {
        "sensor_id": one.sensor_id,
        "kind": one.kind,
        "interval_seconds": one.interval_seconds,
        "timeout_seconds": one.timeout_seconds,
        "select": one.select,
        "table": one.table,
        "asset": one.asset,
        "prefix": one.prefix,
        "ends": one.ends,
    }
    return {name: value for name, value in definition.items() if value not in (None, [])}


def imports_of(file: str, before: Iterable[str]) -> list[str]:
    """Return the files of the user's own modules that a pipeline file has imported: from its folder or the current one.

    `before`: the names of the modules that were there before it was.
    """
    folders = [Path(file).resolve().parent, Path.cwd()]
    # What is installed is no code that somebody changes meanwhile.
    installed = [Path(sys.prefix), Path(__file__).parents[2] / "springline"]
    found: set[str] = set()
    for name in set(sys.modules) - set(before):
        origin = getattr(sys.modules[name], "__file__", None)
        path = None if origin is None else Path(origin).resolve()
        if path is None or path == Path(file).resolve() or "site-packages" in path.parts:
            continue
        if any(map(path.is_relative_to, folders)) and not any(map(path.is_relative_to, installed)):
            found.add(str(path))
    return sorted(found)


def main() -> None:
    """Describe the file that the command line names, on standard output."""

    def document_of(arguments: list[str]) -> dict[str, Any]:
        file, *rest = arguments
        before = list(sys.modules)
        loaded = examine(file)
        document = described(loaded, rest[0] if rest else None)
        return {**document, "imports": imports_of(loaded.file, before)}

    answer_and_end(document_of)


if __name__ == "__main__":
    main()
