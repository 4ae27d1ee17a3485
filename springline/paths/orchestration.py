"""Paths of the orchestration state: pointer, manifests, tables, digest buckets, rebuild manifests, locks.

Sources: docs/formats.md#state-objects, docs/formats.md#locks, docs/formats.md#rebuild-manifest and
docs/protocol.md#publication for digest buckets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from springline.paths.components import MAX_U64, made_by, short_hash
from springline.paths.scope import InvalidPath, ObjectPath, count, relative_path, segment, sha256_of

_STATE: Final = "state/orchestration"
_REBUILDS: Final = "state/orchestration/rebuilds/"
REBUILD_MANIFEST_PATTERN: Final = rf"^{_REBUILDS}([^\u0000]*/)?[^/\u0000]+[.][jJ][sS][oO][nN]$"
"""The pattern of rebuild manifests' paths, for JSON schemas; `check_rebuild_manifest` checks more."""

ORCHESTRATION_TABLES: Final = (
    "runs",
    "tasks",
    "dep_satisfaction",
    "timers",
    "dispatch_outbox",
    "sensor_state",
    "sensor_evals",
    "run_key_index",
    "run_key_conflicts",
    "partition_status",
    "idempotency_keys",
    "schedule_definitions",
    "schedule_state",
    "schedule_ticks",
    "backfills",
    "backfill_chunks",
    "x_runs",
    "x_attempts",
    "x_notes",
    "x_run_keys",
    "x_definitions",
    "x_sensors",
    "x_messages",
    "x_chunks",
    "x_holds",
    "x_keys",
)
"""The tables with one file per base or delta; the catalog index has a file per organisation instead."""

_MANIFEST = re.compile(r"state/orchestration/manifests/([0-9]{20})\.json")
_STATE_FILE = re.compile(
    r"state/orchestration/(l0|base)/([^/]+)/"
    r"(?:(?P<index>catalog_run_index/org-[0-9a-f]{32})|(?P<table>[a-z0-9_]+))"
    r"\.(?P<hash>[0-9a-f]{12})\.(?P<suffix>parquet|json)"
)


class StateLayer(StrEnum):
    """The kind of a state file's folder: a delta (L0) or a merged base."""

    L0 = "l0"
    BASE = "base"


def orchestration_pointer() -> ObjectPath:
    """Return the name of the pointer to the current manifest."""
    return ObjectPath(f"{_STATE}/manifest.pointer.json")


def orchestration_published() -> ObjectPath:
    """Return the name of the record that a pointer was published: without it, a lost pointer would look like none."""
    return ObjectPath(f"{_STATE}/published.json")


def orchestration_legacy_manifest() -> ObjectPath:
    """Return the name of the old mutable manifest, read only when there is no pointer and never written."""
    return ObjectPath(f"{_STATE}/manifest.json")


def orchestration_manifest_id(number: int) -> str:
    """Return the manifest id of a number from 0 to 2**64 - 1: 20 digits, zero padded."""
    return f"{count('manifest number', number, most=MAX_U64):020}"


def orchestration_manifest(manifest_id: str) -> ObjectPath:
    """Return the name of a manifest snapshot; `manifest_id` as `orchestration_manifest_id` makes it."""
    if not isinstance(manifest_id, str) or not re.fullmatch(r"[0-9]{20}", manifest_id):
        raise InvalidPath("manifest_id", manifest_id, "give exactly 20 decimal digits, zero padded")
    orchestration_manifest_id(int(manifest_id))
    return ObjectPath(f"{_STATE}/manifests/{manifest_id}.json")


def parse_orchestration_manifest(path: str) -> str | None:
    """Return the manifest id in a snapshot's path, or None for another path."""
    match = _MANIFEST.fullmatch(path)
    return match[1] if match is not None and made_by(path, orchestration_manifest, match[1]) else None


def orchestration_manifests_prefix() -> ObjectPath:
    """Return the folder of manifest snapshots, without a trailing slash."""
    return ObjectPath(f"{_STATE}/manifests")


def orchestration_state_dir(layer: StateLayer, identity: str) -> ObjectPath:
    """Return the folder of one delta or base, without a trailing slash; `identity` is its delta or snapshot id."""
    field = "delta_id" if layer is StateLayer.L0 else "snapshot_id"
    return ObjectPath(f"{_STATE}/{layer.value}/{segment(field, identity)}")


def orchestration_layer_prefix(layer: StateLayer) -> ObjectPath:
    """Return the folder of all deltas or of all bases, without a trailing slash."""
    return ObjectPath(f"{_STATE}/{layer.value}")


def orchestration_l0_dir(delta_id: str) -> ObjectPath:
    """Return the folder of one delta, without a trailing slash."""
    return orchestration_state_dir(StateLayer.L0, delta_id)


def orchestration_base_dir(snapshot_id: str) -> ObjectPath:
    """Return the folder of one base, without a trailing slash."""
    return orchestration_state_dir(StateLayer.BASE, snapshot_id)


def orchestration_table(layer: StateLayer, identity: str, table: str, content_hash: str) -> ObjectPath:
    """Return the name of a table's file; `content_hash` is `content_hash12` of its bytes."""
    if table not in ORCHESTRATION_TABLES:
        raise InvalidPath("table", table, f"give one of {', '.join(ORCHESTRATION_TABLES)}")
    folder = orchestration_state_dir(layer, identity)
    return ObjectPath(f"{folder}/{table}.{short_hash(content_hash)}.parquet")


def orchestration_deletions(delta_id: str, content_hash: str) -> ObjectPath:
    """Return the name of a delta's tombstones."""
    return ObjectPath(f"{orchestration_l0_dir(delta_id)}/deletions.{short_hash(content_hash)}.json")


def orchestration_buckets(layer: StateLayer, identity: str, content_hash: str) -> ObjectPath:
    """Return the name of the digest buckets of a delta or base (docs/protocol.md#publication)."""
    return ObjectPath(f"{orchestration_state_dir(layer, identity)}/buckets.{short_hash(content_hash)}.json")


def orchestration_run_index(layer: StateLayer, identity: str, organisation: str, content_hash: str) -> ObjectPath:
    """Return the name of an organisation's catalog run index; the peer's organisation id is the tenant id."""
    if organisation == "":
        raise InvalidPath("organisation", organisation, "give an id that is not empty")
    owner = sha256_of("organisation", organisation)[:32]
    return _run_index(layer, identity, f"catalog_run_index/org-{owner}", content_hash)


def _run_index(layer: StateLayer, identity: str, index: str, content_hash: str) -> ObjectPath:
    folder = orchestration_state_dir(layer, identity)
    return ObjectPath(f"{folder}/{index}.{short_hash(content_hash)}.parquet")


@dataclass(frozen=True, slots=True)
class StateFile:
    """The content of the name of a delta's or a base's file.

    `table` is one of `ORCHESTRATION_TABLES`, `deletions`, `buckets`, or `catalog_run_index/org-` and the hash of
    the organisation.
    """

    layer: StateLayer
    identity: str
    table: str
    content_hash: str


def parse_orchestration_file(path: str) -> StateFile | None:
    """Return the content of a state file's path, or None for another path."""
    match = _STATE_FILE.fullmatch(path)
    if match is None:
        return None
    layer, identity, digest = StateLayer(match[1]), match[2], match["hash"]
    if match["index"] is not None:
        table = match["index"]
        ours = made_by(path, _run_index, layer, identity, table, digest)
    elif match["table"] == "deletions" and layer is StateLayer.L0:
        table = "deletions"
        ours = made_by(path, orchestration_deletions, identity, digest)
    elif match["table"] == "buckets":
        table = "buckets"
        ours = made_by(path, orchestration_buckets, layer, identity, digest)
    else:
        table = match["table"]
        ours = made_by(path, orchestration_table, layer, identity, table, digest)
    return StateFile(layer, identity, table, digest) if ours else None


def orchestration_rebuild(name: str) -> ObjectPath:
    """Return the name of a rebuild manifest; `name` is one segment, without `.json`."""
    return ObjectPath(f"{_REBUILDS}{segment('rebuild name', name)}.json")


def check_rebuild_manifest(path: str) -> ObjectPath:
    """Check an operator's path of a rebuild manifest, and return it unchanged.

    See docs/formats.md#rebuild-manifest.

    It lies under the folder of rebuild manifests, at any depth, and has the extension `json` in any case.
    Raises `InvalidPath` (field `rebuild_manifest_path`) otherwise.
    """
    field = "rebuild_manifest_path"
    checked = relative_path(path, field=field)
    stem, dot, extension = checked.rpartition("/")[2].rpartition(".")
    if not checked.startswith(_REBUILDS) or not stem or dot + extension.lower() != ".json":
        raise InvalidPath(field, path, f"name an object {_REBUILDS}*.json")
    return checked


def orchestration_compaction_lock() -> ObjectPath:
    """Return the reference's compaction lock, which it takes at the bucket's root, outside any scope.

    See docs/formats.md#locks.
    """
    return ObjectPath("locks/orchestration.compaction.lock.json")


def root_transaction_lock() -> ObjectPath:
    """Return the reference's lock of root transactions, at the bucket's root (docs/formats.md#locks)."""
    return ObjectPath("locks/root.lock.json")


def transaction_repair_lock(tx_id: str) -> ObjectPath:
    """Return the reference's lock of one transaction's repair, at the bucket's root (docs/formats.md#locks)."""
    return ObjectPath(f"locks/transactions/orchestration/{segment('tx_id', tx_id)}.repair.lock.json")
