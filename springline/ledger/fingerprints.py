"""Fingerprints that say whether two requests are the same (docs/formats.md#fingerprints).

Texts are joined without escaping, as the reference does: `a|b` as one partition key gives the fingerprint of `a` and
`b`. Where a fingerprint is made of JSON, its keys stand in the order below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from springline.ledger.identifiers import canonical_asset_key, sha256_hex
from springline.ledger.json_text import canonical_json

DEFAULT_MEMORY_BYTES: Final = 536_870_912
DEFAULT_CPU_MILLICORES: Final = 1_000
DEFAULT_TIMEOUT_MS: Final = 3_600_000


def schedule_fingerprint(assets: Iterable[str], partitions: Iterable[str] | None = None) -> str:
    """Return the fingerprint of the run that a schedule asks for, in any order of assets and partitions."""
    text = ",".join(sorted(assets))
    if partitions is not None:
        text = f"{text};partitions:{','.join(sorted(partitions))}"
    return sha256_hex(text)


def chunk_fingerprint(partition_keys: Iterable[str]) -> str:
    """Return the fingerprint of the run that a backfill's chunk asks for; the order of the keys matters."""
    return sha256_hex("".join(f"{key}|" for key in partition_keys))[:32]


def selection_fingerprint(selection: Iterable[str], *, include_upstream: bool, include_downstream: bool) -> str:
    """Return the fingerprint of a selection of assets; raises `ValueError` for a bad asset key."""
    return _json_fingerprint(_selection(selection, include_upstream, include_downstream))


def trigger_fingerprint(
    selection: Iterable[str],
    *,
    include_upstream: bool,
    include_downstream: bool,
    partition_key: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> str:
    """Return the fingerprint of a run triggered by hand; raises `ValueError` for a bad asset key."""
    fields = _selection(selection, include_upstream, include_downstream)
    if partition_key is not None:
        fields["partition_key"] = partition_key
    fields["labels"] = dict(sorted((labels or {}).items()))
    return _json_fingerprint(fields)


class RerunKind(StrEnum):
    """The part of a run that is run again."""

    FROM_FAILURE = "FROM_FAILURE"
    SUBSET = "SUBSET"


def rerun_run_key(
    parent_run_id: str, kind: RerunKind, selected_tasks: Iterable[str], partition_keys: Iterable[str]
) -> str:
    """Return the run key of a run that repeats another."""
    fingerprint = _json_fingerprint(
        {
            "parent_run_id": parent_run_id,
            "rerun_kind": kind.value,
            "selected_tasks": sorted(selected_tasks),
            "partition_keys": sorted(partition_keys),
        }
    )
    return f"rerun:{parent_run_id}:{kind.value.lower()}:{fingerprint[:16]}"


def backfill_fingerprint(
    asset_selection: Sequence[str],
    partition_selector: Mapping[str, Any],
    *,
    chunk_size: int,
    max_concurrent_runs: int,
) -> str:
    """Return the fingerprint of a request for a backfill; `partition_selector` as in its event.

    See docs/events.md#nested-shapes.
    """
    selector = dict(partition_selector)
    if isinstance(selector.get("filters"), Mapping):
        selector["filters"] = dict(sorted(selector["filters"].items()))
    return _json_fingerprint(
        {
            "assetSelection": list(asset_selection),
            "partitionSelector": selector,
            "chunkSize": chunk_size,
            "maxConcurrentRuns": max_concurrent_runs,
        }
    )


@dataclass(frozen=True, slots=True)
class FingerprintedTask:
    """A task of a plan, for its fingerprint; `key` as `plan_task_key` makes it."""

    key: str
    upstream_keys: tuple[str, ...] = ()
    priority: int = 0
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    cpu_millicores: int = DEFAULT_CPU_MILLICORES
    timeout_ms: int = DEFAULT_TIMEOUT_MS


def plan_task_key(namespace: str, name: str, *, operation: str, partition: str | None = None) -> str:
    """Return the key of a task in a plan's fingerprint; `operation` is `materialize`, `check` or `backfill`."""
    bracket = "" if partition is None else f"[{partition}]"
    return f"{namespace}/{name}{bracket}:{operation}"


def plan_fingerprint(tenant: str, workspace: str, tasks: Iterable[FingerprintedTask]) -> str:
    """Return the fingerprint of a plan's structure; the order of the tasks does not matter."""
    plan = {
        "version": 1,
        "tenantId": tenant,
        "workspaceId": workspace,
        "tasks": [
            {
                "key": task.key,
                "upstreamKeys": sorted(task.upstream_keys),
                "priority": task.priority,
                "resources": {
                    "memoryBytes": task.memory_bytes,
                    "cpuMillicores": task.cpu_millicores,
                    "timeoutMs": task.timeout_ms,
                },
            }
            for task in sorted(tasks, key=lambda task: task.key)
        ],
    }
    return f"sha256:{hashlib.sha256(b'arco-plan:v1:' + canonical_json(plan)).hexdigest()}"


def _selection(selection: Iterable[str], include_upstream: bool, include_downstream: bool) -> dict[str, Any]:
    return {
        "selection": sorted({canonical_asset_key(key) for key in selection}),
        "include_upstream": include_upstream,
        "include_downstream": include_downstream,
    }


def _json_fingerprint(fields: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(fields)).hexdigest()
