"""Paths that the HTTP API and runs own: deployed manifests, idempotency records, reservations, logs, outputs, seals.

See docs/formats.md#reserved-names.
"""

from __future__ import annotations

import re
from typing import Final

from springline.paths.components import canonical_ulid, decoded_key, encoded_key, full_hash, made_by
from springline.paths.scope import InvalidPath, ObjectPath, canonical_uuid, count, segment, sha256_of, strict_path

_MANIFESTS: Final = "manifests"
_RESERVATION_DIGITS: Final = 40

_DEPLOYED = re.compile(r"manifests/([^/]+)\.json")
_DEPLOY_KEY = re.compile(r"manifests/idempotency/([^/]+)\.json")
_BACKFILL_KEY = re.compile(r"orchestration/backfills/idempotency/([^/]+)\.json")
_BACKFILL_KEYS = re.compile(r"orchestration/backfills/keys/([0-9a-f]{64})\.json")
_OUTPUT = re.compile(r"outputs/([^/]+)/([^/]+)")
_SEAL = re.compile(r"effects/([^/]+)/([0-9a-f]{64})\.json")
_STAGED_WRITE = re.compile(r"effects/([^/]+)/([0-9a-f]{64})/([0-9a-f]{64})")
_LOG_CHUNK = re.compile(r"logs/([^/]+)/([0-9a-f]{64})/attempt-([1-9][0-9]{0,18})/([0-9]{6,19})\.log")
_RUN_LOG = re.compile(r"logs/([^/]+)/(.+)/attempt-([1-9][0-9]{0,18})\.log", re.DOTALL)


def deployed_manifest(manifest_id: str) -> ObjectPath:
    """Return the name of a deployed manifest; `manifest_id` is a ULID."""
    return ObjectPath(f"{_MANIFESTS}/{canonical_ulid('manifest_id', manifest_id)}.json")


def parse_deployed_manifest(path: str) -> str | None:
    """Return the id in a deployed manifest's path, or None for another path, such as the catalog's beside them."""
    match = _DEPLOYED.fullmatch(path)
    return match[1] if match is not None and made_by(path, deployed_manifest, match[1]) else None


def latest_manifest_index() -> ObjectPath:
    """Return the name of the object that says which manifest was deployed last."""
    return ObjectPath(f"{_MANIFESTS}/_index.json")


def manifest_deployed_note() -> ObjectPath:
    """Return the name of the note that a manifest was deployed: without it, a lost index would look like none."""
    return ObjectPath(f"{_MANIFESTS}/_deployed.json")


def replaced_manifest(manifest_id: str) -> ObjectPath:
    """Return the name of the note that another manifest was deployed in the place of this one, a ULID.

    Without it, an older index that has come back would look like the latest.
    """
    return ObjectPath(f"{_MANIFESTS}/replaced/{canonical_ulid('manifest_id', manifest_id)}.json")


def replaced_pool_settings(change_id: str) -> ObjectPath:
    """Return the name of the note that other sizes of pools were set after the change with this id, a UUID."""
    return ObjectPath(f"{_MANIFESTS}/replaced/pools-{canonical_uuid('change_id', change_id)}.json")


def pool_settings() -> ObjectPath:
    """Return the name of the object with the sizes that operators have set of pools."""
    return ObjectPath(f"{_MANIFESTS}/_pools.json")


def pool_settings_note() -> ObjectPath:
    """Return the name of the note that operators have set pools: without it, lost settings would look like none."""
    return ObjectPath(f"{_MANIFESTS}/_pools_set.json")


def deploy_idempotency(key: str) -> ObjectPath:
    """Return the name of the record of a deployment under an idempotency key."""
    return ObjectPath(f"{_MANIFESTS}/idempotency/{encoded_key('idempotency_key', key)}.json")


def parse_deploy_idempotency(path: str) -> str | None:
    """Return the key in a deployment record's path, or None for another path."""
    match = _DEPLOY_KEY.fullmatch(path)
    return None if match is None else decoded_key(match[1])


def backfill_idempotency(key: str) -> ObjectPath:
    """Return the name of the record of a backfill under an idempotency key."""
    return ObjectPath(f"orchestration/backfills/idempotency/{encoded_key('idempotency_key', key)}.json")


def parse_backfill_idempotency(path: str) -> str | None:
    """Return the key in a backfill record's path, or None for another path."""
    match = _BACKFILL_KEY.fullmatch(path)
    return None if match is None else decoded_key(match[1])


def backfill_keys(content_hash: str) -> ObjectPath:
    """Return the name of a list of partitions of a backfill, or of part of one; `content_hash`: its SHA-256, in hex."""
    return ObjectPath(f"orchestration/backfills/keys/{full_hash('content_hash', content_hash)}.json")


def parse_backfill_keys(path: str) -> str | None:
    """Return the SHA-256 in such a path, or None for another path."""
    match = _BACKFILL_KEYS.fullmatch(path)
    return None if match is None else match[1]


def run_key_reservation(run_key: str) -> ObjectPath:
    """Return the name of a run key's reservation; the empty key has one too (docs/formats.md#reserved-names)."""
    return ObjectPath(f"run_keys/{sha256_of('run_key', run_key)[:_RESERVATION_DIGITS]}.json")


def run_log(run_id: str, task_key: str, attempt: int) -> ObjectPath:
    """Return the name of the log of a task's attempt, counted from 1; a task key may hold slashes."""
    number = count("attempt", attempt, least=1)
    return ObjectPath(f"logs/{segment('run_id', run_id)}/{strict_path('task_key', task_key)}/attempt-{number}.log")


def parse_run_log(path: str) -> tuple[str, str, int] | None:
    """Return run id, task key and attempt in a run log's path, or None for another path."""
    match = _RUN_LOG.fullmatch(path)
    if match is None or not made_by(path, run_log, match[1], match[2], int(match[3])):
        return None
    return match[1], match[2], int(match[3])


def logs_prefix() -> ObjectPath:
    """Return the folder of all logs, with a trailing slash: `logs` alone is a word like any other."""
    return ObjectPath("logs/")


def log_chunk(run_id: str, task_key: str, attempt: int, number: int) -> ObjectPath:
    """Return the name of a part of what an attempt has printed; attempt and number count from 1.

    The task stands in it by its hash, as in that of its seal.
    """
    made = f"{sha256_of('task_key', task_key)}/attempt-{count('attempt', attempt, least=1)}"
    return ObjectPath(f"logs/{segment('run_id', run_id)}/{made}/{count('number', number, least=1):06d}.log")


def parse_log_chunk(path: str) -> tuple[str, str, int, int] | None:
    """Return run id, the SHA-256 of the task's key, attempt and number in such a path, or None for another path."""
    match = _LOG_CHUNK.fullmatch(path)
    if match is None:
        return None
    attempt, number = int(match[3]), int(match[4])
    # The task is known by its hash alone, so any key stands in for it.
    if not made_by(path.replace(match[2], sha256_of("task_key", "")), log_chunk, match[1], "", attempt, number):
        return None
    return match[1], match[2], attempt, number


def task_output(scope: str, attempt_id: str) -> ObjectPath:
    """Return the name of the output that an attempt has left for other tasks, under the run `scope`."""
    return ObjectPath(f"outputs/{segment('scope', scope)}/{segment('attempt_id', attempt_id)}")


def parse_task_output(path: str) -> tuple[str, str] | None:
    """Return scope and attempt id in an output's path, or None for another path."""
    match = _OUTPUT.fullmatch(path)
    return (match[1], match[2]) if match is not None and made_by(path, task_output, match[1], match[2]) else None


def write_seal(scope: str, task_key: str) -> ObjectPath:
    """Return the name of the seal of a task's writes, under the run `scope`.

    The task stands in it by its hash: a key of a task may be longer than the name of a file.
    """
    return ObjectPath(f"effects/{segment('scope', scope)}/{sha256_of('task_key', task_key)}.json")


def parse_write_seal(path: str) -> tuple[str, str] | None:
    """Return scope and the SHA-256 of the task's key in the path of a seal, or None for another path."""
    match = _SEAL.fullmatch(path)
    if match is None:
        return None
    try:
        return segment("scope", match[1]), match[2]
    except InvalidPath:
        return None


def staged_write(scope: str, task_key: str, content_hash: str) -> ObjectPath:
    """Return the name of the description of a write that a task may seal; `content_hash` is its SHA-256, in hex."""
    folder = write_seal(scope, task_key).removesuffix(".json")
    return ObjectPath(f"{folder}/{full_hash('content_hash', content_hash)}")


def parse_staged_write(path: str) -> tuple[str, str, str] | None:
    """Return scope, SHA-256 of the task's key, and that of the content in such a path, or None for another path."""
    match = _STAGED_WRITE.fullmatch(path)
    if match is None:
        return None
    try:
        return segment("scope", match[1]), match[2], match[3]
    except InvalidPath:
        return None
