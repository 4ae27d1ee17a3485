"""No kind of object is forgotten: each function that names one is searched, or excepted for a reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from springline import paths
from springline.paths import ObjectPath, StateLayer
from tests.damage import run_objects, search, tables, write_search
from tests.unit.path_samples import BUILDERS, H12, LATER_ULID, SCOPE, TABLE, ULID, WORK
from tests.unit.path_samples import DIGEST as SHA256

ROOT = Path(__file__).parents[2]
BASE = StateLayer.BASE

LEDGER: Mapping[str, tuple[str, ObjectPath]] = {
    "orchestration_pointer": ("pointer", paths.orchestration_pointer()),
    "orchestration_published": ("note of the first publish", paths.orchestration_published()),
    "orchestration_manifest": ("manifest", paths.orchestration_manifest("0" * 19 + "1")),
    "orchestration_table": ("table", paths.orchestration_table(BASE, ULID, "runs", H12)),
    "orchestration_run_index": ("table", paths.orchestration_run_index(BASE, ULID, "acme", H12)),
    "orchestration_buckets": ("buckets", paths.orchestration_buckets(BASE, ULID, H12)),
    "orchestration_deletions": ("deletions", paths.orchestration_deletions(ULID, H12)),
    "orchestration_round": ("round", paths.orchestration_round(1)),
    "orchestration_request": ("request", paths.orchestration_request("r")),
    "orchestration_refused": ("refusal", paths.orchestration_refused("r")),
    "orchestration_garbage": ("garbage report", paths.orchestration_garbage("g")),
    "orchestration_rebuild": ("rebuild manifest", paths.orchestration_rebuild("m")),
    "rebuild_accepted": ("rebuild's work", paths.rebuild_accepted(WORK, H12)),
    "rebuild_base": ("rebuild's work", paths.rebuild_base(WORK, ULID)),
    "rebuild_report": ("rebuild's work", paths.rebuild_report(WORK, "r")),
    "rebuild_section": ("rebuild's work", paths.rebuild_section(WORK, 0, 0, H12)),
    "rebuild_segment_receipt": ("rebuild's work", paths.rebuild_segment_receipt(WORK, 0)),
    "rebuild_segments": ("rebuild's work", paths.rebuild_segments(WORK)),
    "rebuild_shard_receipt": ("rebuild's work", paths.rebuild_shard_receipt(WORK, H12, 0)),
    "rebuild_shard_table": ("rebuild's work", paths.rebuild_shard_table(WORK, H12, 0, "runs", H12)),
    "rebuild_shards": ("rebuild's work", paths.rebuild_shards(WORK, H12)),
    "rebuild_slice": ("rebuild's work", paths.rebuild_slice(WORK, 0)),
    "rebuild_slice_receipt": ("rebuild's work", paths.rebuild_slice_receipt(WORK, 0)),
    "ledger_index": ("index", paths.ledger_index(ULID, LATER_ULID, H12)),
    "ledger_index_node": ("node", paths.ledger_index_node(ULID, LATER_ULID, H12)),
    "ledger_segment": ("segment", paths.ledger_segment(ULID, LATER_ULID, H12)),
    "canonical_ulid_event": ("event", paths.canonical_ulid_event(ULID)),
    "canonical_ulid_events": ("event", paths.canonical_ulid_events([ULID])[0]),
}
TABLES: Mapping[str, tuple[str, ObjectPath]] = {
    "table_entry": ("entry", paths.table_entry(TABLE)),
    "root_claim": ("root claim", paths.root_claim("t")),
    "name_claim": ("name claim", paths.name_claim("t")),
    "delta_coordinator": ("coordinator", paths.delta_coordinator(TABLE)),
    "delta_marker": ("marker", paths.delta_marker(TABLE, "k")),
    "delta_staged": ("staged payload", paths.delta_staged(TABLE, "p")),
    "delta_log": ("log", paths.delta_log("t", 1)),
    "delta_checkpoint": ("checkpoint", paths.delta_checkpoint("t", 1)),
    "delta_last_checkpoint": ("pointer to the checkpoint", paths.delta_last_checkpoint("t")),
}
RUNS: Mapping[str, tuple[str, ObjectPath]] = {
    "deployed_manifest": ("manifest", paths.deployed_manifest(ULID)),
    "latest_manifest_index": ("index", paths.latest_manifest_index()),
    "manifest_deployed_note": ("note of deploys", paths.manifest_deployed_note()),
    "replaced_manifest": ("note of a replaced manifest", paths.replaced_manifest(ULID)),
    "pool_settings": ("sizes of pools", paths.pool_settings()),
    "pool_settings_note": ("note of sizes", paths.pool_settings_note()),
    "replaced_pool_settings": ("note of replaced sizes", paths.replaced_pool_settings(TABLE)),
    "backfill_keys": ("list of keys", paths.backfill_keys(SHA256)),
    "log_chunk": ("log chunk", paths.log_chunk("r", "t", 1, 1)),
    "task_output": ("output", paths.task_output("r", "a")),
    "write_seal": ("seal", paths.write_seal("r", "t")),
    "workspace_entry": ("entry of the register", paths.workspace_entry(SCOPE)),
    "store_identity": ("store's identity", paths.store_identity()),
}
WRITES: Mapping[str, tuple[str, ObjectPath]] = {
    "write_seal": ("seal", paths.write_seal("r", "t")),
    "staged_write": ("staged write", paths.staged_write("r", "t", SHA256)),
}
SEARCHES: list[tuple[Mapping[str, str], Mapping[str, tuple[str, ObjectPath]]]] = [
    (search.KINDS, LEDGER),
    (tables.KINDS, TABLES),
    (run_objects.KINDS, RUNS),
    (write_search.KINDS, WRITES),
]
SEARCHED = {name for _, searched in SEARCHES for name in searched}

NOT_OURS = "the peer's: we name it, so that nobody else does, and neither read nor write it"
FOLDER = "a folder or prefix: what lies in it has names of its own"
CHECKS = "it makes no name, and checks one that is given"
EXCEPTIONS: Mapping[str, str] = {
    **dict.fromkeys(
        [
            "backfill_idempotency",
            "catalog_anti_entropy_cursor",
            "catalog_event",
            "catalog_lock",
            "catalog_manifest",
            "catalog_pointer",
            "catalog_quarantine",
            "catalog_root_manifest",
            "catalog_sequence",
            "catalog_snapshot_prefix",
            "catalog_state",
            "deploy_idempotency",
            "flow_event",
            "handle_record",
            "handle_step",
            "iceberg_idempotency_prefix",
            "iceberg_marker",
            "iceberg_pointer",
            "iceberg_receipt",
            "iceberg_transaction",
            "inbox_bundle",
            "orchestration_commit_receipt",
            "orchestration_compaction_lock",
            "receipt_segment",
            "root_commit_receipt",
            "root_super_manifest",
            "root_transaction_lock",
            "run_key_reservation",
            "run_log",
            "shard_index_head",
            "shard_index_history",
            "shard_segment",
            "transaction_idempotency",
            "transaction_record",
            "transaction_repair_lock",
            "unity_preview",
        ],
        NOT_OURS,
    ),
    **dict.fromkeys(
        [
            "behind_scope",
            "delta_log_dir",
            "delta_log_prefix",
            "delta_markers_prefix",
            "delta_scratch",
            "delta_staging_prefix",
            "ledger_day_prefix",
            "ledger_index_prefix",
            "ledger_prefix",
            "ledger_segments_prefix",
            "logs_prefix",
            "name_claims_prefix",
            "orchestration_base_dir",
            "orchestration_garbage_prefix",
            "orchestration_l0_dir",
            "orchestration_layer_prefix",
            "orchestration_manifests_prefix",
            "orchestration_refused_prefix",
            "orchestration_rounds_prefix",
            "orchestration_state_dir",
            "rebuild_work_dir",
            "rebuild_work_prefix",
            "root_claims_prefix",
            "table_entries_prefix",
            "workspace_entries_prefix",
        ],
        FOLDER,
    ),
    **dict.fromkeys(
        ["check_rebuild_manifest", "page_cursor", "relative_path", "watched_objects", "workspace_path"], CHECKS
    ),
    "delta_checkpoint_parts": "checkpoints of other Delta writers: we write one file, and read theirs in its way",
    "canary_object": "a scratch object of the check at the start, which is written anew each time",
    "canonical_ledger_event": "an event's name among those of any producer: `canonical_ulid_event` makes the same one",
    "ledger_event": "an event's name in the folder of a given day: `canonical_ulid_event` makes the same one",
    "delta_data_file": "rows of users, which Delta readers of any make read: size and checksums are the format's",
    "orchestration_legacy_manifest": "the peer's, read once before the first pointer: tests/published reads odd ones",
}


def test_each_kind_of_object_is_searched_or_excepted() -> None:
    forgotten = BUILDERS - SEARCHED - EXCEPTIONS.keys()
    assert not forgotten, f"search what these name, or say why not: {sorted(forgotten)}"
    assert not (SEARCHED | EXCEPTIONS.keys()) - BUILDERS
    assert not SEARCHED & EXCEPTIONS.keys()


@pytest.mark.parametrize("number", range(len(SEARCHES)))
def test_what_is_searched_has_the_names_that_are_made(number: int) -> None:
    kinds, searched = SEARCHES[number]
    for name, (kind, path) in searched.items():
        found = [one for one, pattern in kinds.items() if re.fullmatch(pattern, path)]
        assert found == [kind], f"{name} makes {path}"
    assert {kind for kind, _ in searched.values()} == set(kinds)


def test_what_is_not_ours_is_not_used() -> None:
    files = [one for one in (ROOT / "springline").rglob("*.py") if one.parent.name != "paths"]
    files += [one for room in ("activities", "workflows", "entrypoints") for one in (ROOT / room).rglob("*.py")]
    used = {word for file in files for word in re.findall(r"\w+", file.read_text("utf-8"))}
    theirs = {name for name, why in EXCEPTIONS.items() if why == NOT_OURS}
    assert not theirs & used
