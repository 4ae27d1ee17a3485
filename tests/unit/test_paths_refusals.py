"""Every component of every object path is validated: bad values are refused with field, value and remedy."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from springline import paths
from springline.paths import InvalidPath, Scope
from tests.unit.path_samples import (
    BAD_HASHES,
    BAD_ROOTS,
    BAD_SEGMENTS,
    BAD_ULIDS,
    BAD_UUIDS,
    BUILDERS,
    DAY,
    DIGEST,
    H12,
    SCOPE,
    STAGING,
    TABLE,
    ULID,
    UNSAFE,
    WORK,
)


def cases(field: str, values: list[Any], build: Callable[[Any], object]) -> list[Any]:
    return [pytest.param(build, value, field, id=f"{field}-{value!r}") for value in values]


L0 = paths.StateLayer.L0
CATALOG = paths.CatalogDomain.CATALOG
REFUSALS = [
    *cases(
        "tenant",
        ["", "Acme", "a/b", "a\\b", "a\nb", "acme\n", "ä", ".", "a=b", "a" * 246, None],
        lambda v: Scope(v, "w"),
    ),
    *cases("workspace", ["", "W", "a b", "..", "a\0", "a" * 246, 3], lambda v: Scope("t", v)),
    *cases("metastore", ["", "M", "..", "a" * 246], lambda v: paths.MetastoreScope("t", v)),
    *cases("tenant", ["", "M", ".."], lambda v: paths.MetastoreScope(v, "m")),
    *cases("path", ["/a", "\\a", "a/../b", "./a", "a/..", "..", "a%41", "a\rb", "a\\b", None], paths.relative_path),
    *cases("prefix", ["", "/a", "a/../b", "ledger/x", "state", "a%41", None], paths.watched_objects),
    *cases("path", ["/a", "a/../b", "a%41"], SCOPE.full),
    *cases("path", ["a", "tenant=acme/workspace=prod", "tenant=acme/workspace=other/a", None], SCOPE.relative),
    *cases("prefix", ["/a", "a/.."], lambda v: paths.lies_under("a", v)),
    *cases("cursor", ["ab", "b/c", "a/../b", ""], lambda v: paths.page_cursor(v, "a")),
    *cases("table_id", [*BAD_UUIDS, None], paths.table_id),
    *cases("table_id", BAD_UUIDS, paths.delta_coordinator),
    *cases("table_id", BAD_UUIDS, paths.delta_staging_prefix),
    *cases("table_id", BAD_UUIDS, paths.default_table_root),
    *cases("table_id", BAD_UUIDS, paths.table_entry),
    *cases("table_id", BAD_UUIDS, paths.unity_preview),
    *cases("table_id", BAD_UUIDS, lambda v: paths.delta_staged(v, "a")),
    *cases("table_id", BAD_UUIDS, lambda v: paths.delta_marker(v, "key")),
    *cases("table_id", BAD_UUIDS, paths.delta_markers_prefix),
    *cases("table_id", BAD_UUIDS, lambda v: paths.parse_delta_staged(v, "a")),
    *cases("canary name", [*BAD_SEGMENTS, None], paths.canary_object),
    *cases("staged name", [*BAD_SEGMENTS, None], lambda v: paths.delta_staged(TABLE, v)),
    *cases(
        "staged_path",
        [
            "",
            "a",
            STAGING,
            f"{STAGING}/",
            f"{STAGING}/.json",
            f"{STAGING}/a",
            f"{STAGING}/a.JSON",
            f"{STAGING}/a.json/",
            f"{STAGING}/a/b.json",
            f"{STAGING}/../{TABLE}/a.json",
            f"{STAGING}/...json",
            f"{STAGING}/a%2e.json",
            f"{STAGING}/a\n.json",
            f"{STAGING}/a\\b.json",
            f"/{STAGING}/a.json",
            f"{STAGING}x/a.json",
            f"delta/staging/{TABLE[:-1]}b/a.json",
            f"tenant=acme/workspace=prod/{STAGING}/a.json",
            None,
        ],
        lambda v: paths.parse_delta_staged(TABLE, v),
    ),
    *cases("idempotency_key", [None, "\ud800"], lambda v: paths.delta_marker(TABLE, v)),
    *cases(
        "location",
        [
            "",
            "  ",
            "tables/acme/prod",
            "tables/acme/prod/",
            "tenant=acme/workspace=prod",
            "tenant=acme/workspace=prod/",
            "/tables/acme/prod/",
            "gs://lake",
            "gs://lake/",
            "gs://lake/tenant=acme/workspace=prod/",
            "gs://lake/tables/acme/prod/",
            "gs://lake/tables/acme/prod/../../rival/prod/x",
            "gs://lake/tables/acme/prod/%2e%2e/x",
            "tables/acme/prod/../production/x",
            "tables/acme/prod//x",
            "a/../b",
            "gs://lake/..",
            "./a",
            "a%20b",
            "a\\b",
            "a\nb",
            "a\0b",
            "a\ud800b",
            None,
        ],
        lambda v: paths.table_roots(v, SCOPE, "gs://lake"),
    ),
    *cases("table_id", BAD_UUIDS, lambda v: paths.new_table_root(v, SCOPE)),
    *cases("path", ["/", "/a", "/tables/a/b", "/tables/a/b/..", "/tables/a/b/c\0", "..", None], paths.workspace_path),
    *cases("version", [-1, 2**63, True, 1.0, "1", None], lambda v: paths.delta_log("a", v)),
    *cases("version", [-1, 2**63], lambda v: paths.delta_checkpoint("a", v)),
    *cases("version", [-1], lambda v: paths.delta_checkpoint_parts("a", v, 1)),
    *cases("checkpoint parts", [0, -1, 10**10], lambda v: paths.delta_checkpoint_parts("a", 1, v)),
    *cases("table root", BAD_ROOTS, paths.delta_log_dir),
    *cases("table root", BAD_ROOTS, paths.delta_log_prefix),
    *cases("table root", BAD_ROOTS, lambda v: paths.delta_log(v, 0)),
    *cases("table root", BAD_ROOTS, paths.delta_last_checkpoint),
    *cases("table root", BAD_ROOTS, paths.root_claim),
    *cases("table root", BAD_ROOTS, lambda v: paths.delta_data_file(v, "x")),
    *cases(
        "data file",
        ["", "/a", "a/", "a//b", "../a", "a%", "_delta_log/0.json", "_delta_log"],
        lambda v: paths.delta_data_file("a", v),
    ),
    *cases("idempotency_key", ["", "x", TABLE.upper(), None], lambda v: paths.delta_scratch("a", v, "1f")),
    *cases("attempt", BAD_SEGMENTS, lambda v: paths.delta_scratch("a", TABLE, v)),
    *cases("table name", ["", None, "\ud800"], paths.name_claim),
    *cases("event_id", BAD_SEGMENTS, lambda v: paths.ledger_event(DAY, v)),
    *cases("event_id", [*BAD_SEGMENTS, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"], lambda v: paths.canonical_ledger_event(v, DAY)),
    *cases("event_id", [*BAD_ULIDS, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"], paths.canonical_ulid_event),
    *cases("event_id", [*BAD_ULIDS, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"], lambda v: paths.canonical_ulid_events([ULID, v])),
    *cases("day", ["2025-01-15", None, datetime(2025, 1, 15, tzinfo=UTC)], lambda v: paths.ledger_event(v, "e")),
    *cases("day", ["2025-01-15"], paths.ledger_day_prefix),
    *cases("first_id", BAD_ULIDS, lambda v: paths.ledger_segment(v, ULID, H12)),
    *cases("last_id", BAD_ULIDS, lambda v: paths.ledger_segment(ULID, v, H12)),
    *cases("content hash", BAD_HASHES, lambda v: paths.ledger_segment(ULID, ULID, v)),
    *cases("first_id", BAD_ULIDS, lambda v: paths.ledger_index(v, ULID, H12)),
    *cases("last_id", BAD_ULIDS, lambda v: paths.ledger_index(ULID, v, H12)),
    *cases("content hash", BAD_HASHES, lambda v: paths.ledger_index(ULID, ULID, v)),
    *cases("first_id", BAD_ULIDS, lambda v: paths.ledger_index_node(v, ULID, H12)),
    *cases("last_id", BAD_ULIDS, lambda v: paths.ledger_index_node(ULID, v, H12)),
    *cases("content hash", BAD_HASHES, lambda v: paths.ledger_index_node(ULID, ULID, v)),
    *cases("domain", BAD_SEGMENTS, lambda v: paths.flow_event(v, DAY, ULID)),
    *cases("day", ["x"], lambda v: paths.flow_event("d", v, ULID)),
    *cases("event_id", BAD_ULIDS, lambda v: paths.flow_event("d", DAY, v)),
    *cases("run_id", BAD_SEGMENTS, lambda v: paths.inbox_bundle(paths.BundleName(v, "p", "a", "b"))),
    *cases("producer_id", BAD_SEGMENTS, lambda v: paths.inbox_bundle(paths.BundleName("r", v, "a", "b"))),
    *cases("attempt_id", BAD_SEGMENTS, lambda v: paths.inbox_bundle(paths.BundleName("r", "p", v, "b"))),
    *cases("bundle_id", BAD_SEGMENTS, lambda v: paths.inbox_bundle(paths.BundleName("r", "p", "a", v))),
    *cases("run_id", BAD_SEGMENTS, lambda v: paths.receipt_segment(v, "p", "x")),
    *cases("producer_id", BAD_SEGMENTS, lambda v: paths.receipt_segment("r", v, "x")),
    *cases("receipt_id", BAD_SEGMENTS, lambda v: paths.receipt_segment("r", "p", v)),
    *cases("shard_id", BAD_SEGMENTS, lambda v: paths.shard_segment(v, 1, 2)),
    *cases("start_seq", [-1, 2**64, True, "1"], lambda v: paths.shard_segment("s", v, 2)),
    *cases("end_seq", [0, 2**64, "1"], lambda v: paths.shard_segment("s", 1, v)),
    *cases("shard_id", BAD_SEGMENTS, paths.shard_index_head),
    *cases("shard_id", BAD_SEGMENTS, lambda v: paths.shard_index_history(v, "c")),
    *cases("commit_id", BAD_SEGMENTS, lambda v: paths.shard_index_history("s", v)),
    *cases("manifest number", [-1, 2**64, True], paths.orchestration_manifest_id),
    *cases("manifest number", [2**64], lambda v: paths.orchestration_manifest(f"{v:020}")),
    *cases("manifest_id", ["", "1", "0" * 21, "0" * 19 + "x", "0" * 20 + "\n", 1], paths.orchestration_manifest),
    *cases("delta_id", BAD_SEGMENTS, paths.orchestration_l0_dir),
    *cases("snapshot_id", BAD_SEGMENTS, paths.orchestration_base_dir),
    *cases("table", ["", "x", "../runs", None], lambda v: paths.orchestration_table(L0, "d", v, H12)),
    *cases("delta_id", BAD_SEGMENTS, lambda v: paths.orchestration_table(L0, v, "runs", H12)),
    *cases("content hash", BAD_HASHES, lambda v: paths.orchestration_table(L0, "d", "runs", v)),
    *cases("delta_id", BAD_SEGMENTS, lambda v: paths.orchestration_deletions(v, H12)),
    *cases("content hash", BAD_HASHES, lambda v: paths.orchestration_deletions("d", v)),
    *cases("snapshot_id", BAD_SEGMENTS, lambda v: paths.orchestration_buckets(paths.StateLayer.BASE, v, H12)),
    *cases("content hash", BAD_HASHES, lambda v: paths.orchestration_buckets(L0, "d", v)),
    *cases("organisation", ["", None], lambda v: paths.orchestration_run_index(L0, "d", v, H12)),
    *cases("delta_id", BAD_SEGMENTS, lambda v: paths.orchestration_run_index(L0, v, "o", H12)),
    *cases("content hash", BAD_HASHES, lambda v: paths.orchestration_run_index(L0, "d", "o", v)),
    *cases("round", [-1, 2**64, True], paths.orchestration_round),
    *cases("refusal name", BAD_SEGMENTS, paths.orchestration_refused),
    *cases("request_id", BAD_SEGMENTS, paths.orchestration_request),
    *cases("report name", BAD_SEGMENTS, paths.orchestration_garbage),
    *cases("work_id", ["", WORK[:-1], WORK + "0", WORK.upper(), "../" + WORK[3:]], paths.rebuild_work_dir),
    *cases("report name", BAD_SEGMENTS, lambda name: paths.rebuild_report(WORK, name)),
    *cases("snapshot_id", BAD_SEGMENTS, lambda name: paths.rebuild_base(WORK, name)),
    *cases("part number", [-1, 1_000_000], lambda number: paths.rebuild_slice(WORK, number)),
    *cases("part number", [-1, 1_000_000], lambda number: paths.rebuild_slice_receipt(WORK, number)),
    *cases("part number", [-1, 1_000_000], lambda number: paths.rebuild_segment_receipt(WORK, number)),
    *cases("work_id", ["", "x"], paths.rebuild_segments),
    *cases("content hash", BAD_HASHES, lambda digest: paths.rebuild_accepted(WORK, digest)),
    *cases("part number", [-1, 1_000_000], lambda part: paths.rebuild_section(WORK, part, 0, H12)),
    *cases("content hash", BAD_HASHES, lambda digest: paths.rebuild_section(WORK, 0, 0, digest)),
    *cases("content hash", BAD_HASHES, lambda split: paths.rebuild_shards(WORK, split)),
    *cases("content hash", BAD_HASHES, lambda split: paths.rebuild_shard_receipt(WORK, split, 0)),
    *cases("table", ["", "x", "../runs"], lambda table: paths.rebuild_shard_table(WORK, H12, 0, table, H12)),
    *cases("content hash", BAD_HASHES, lambda digest: paths.rebuild_shard_table(WORK, H12, 0, "runs", digest)),
    *cases("rebuild name", BAD_SEGMENTS, paths.orchestration_rebuild),
    *cases(
        "rebuild_manifest_path",
        [
            "",
            "x.json",
            "state/orchestration/rebuilds",
            "state/orchestration/rebuilds/",
            "state/orchestration/rebuilds/.json",
            "state/orchestration/rebuilds/x",
            "state/orchestration/rebuilds/x.parquet",
            "state/orchestration/rebuilds/../x.json",
            "state/orchestration/rebuildsx/x.json",
            "/state/orchestration/rebuilds/x.json",
            None,
        ],
        paths.check_rebuild_manifest,
    ),
    *cases("tx_id", BAD_SEGMENTS, paths.transaction_repair_lock),
    *cases("table_uuid", BAD_UUIDS, paths.iceberg_pointer),
    *cases("table_uuid", BAD_UUIDS, paths.iceberg_idempotency_prefix),
    *cases("table_uuid", BAD_UUIDS, lambda v: paths.iceberg_marker(v, DIGEST)),
    *cases(
        "key_hash",
        ["", "a", DIGEST.upper(), DIGEST + "0", "../" + DIGEST[3:]],
        lambda v: paths.iceberg_marker(TABLE, v),
    ),
    *cases("tx_id", BAD_SEGMENTS, paths.iceberg_transaction),
    *cases("commit_key", BAD_SEGMENTS, lambda v: paths.iceberg_receipt(DAY, paths.ReceiptState.PENDING, v)),
    *cases("day", ["x"], lambda v: paths.iceberg_receipt(v, paths.ReceiptState.PENDING, "c")),
    *cases("manifest_id", BAD_ULIDS, paths.deployed_manifest),
    *cases("manifest_id", BAD_ULIDS, paths.replaced_manifest),
    *cases("change_id", BAD_UUIDS, paths.replaced_pool_settings),
    *cases("scope", [*BAD_SEGMENTS, None], lambda v: paths.task_output(v, "a1")),
    *cases("attempt_id", [*BAD_SEGMENTS, None], lambda v: paths.task_output("run_1", v)),
    *cases("scope", [*BAD_SEGMENTS, None], lambda v: paths.write_seal(v, "t")),
    *cases("task_key", [None, "\ud800"], lambda v: paths.write_seal("run_1", v)),
    *cases("content_hash", ["", "0" * 63, "A" * 64, None], lambda v: paths.staged_write("run_1", "t", v)),
    *cases("idempotency_key", ["", None, "\ud800"], paths.deploy_idempotency),
    *cases("idempotency_key", ["", None, "\ud800"], paths.backfill_idempotency),
    *cases("content_hash", ["", "0" * 63, "A" * 64, None], paths.backfill_keys),
    *cases("run_key", [None, "\ud800"], paths.run_key_reservation),
    *cases("run_id", BAD_SEGMENTS, lambda v: paths.run_log(v, "t", 1)),
    *cases("task_key", ["", "/a", "a/", "a//b", "../a", "a/../b", *UNSAFE], lambda v: paths.run_log("r", v, 1)),
    *cases("attempt", [0, -1, True, "1"], lambda v: paths.run_log("r", "t", v)),
    *cases("run_id", BAD_SEGMENTS, lambda v: paths.log_chunk(v, "t", 1, 1)),
    *cases("attempt", [0, -1, True, "1"], lambda v: paths.log_chunk("r", "t", v, 1)),
    *cases("number", [0, -1, True, "1"], lambda v: paths.log_chunk("r", "t", 1, v)),
    *cases("idempotency_key", [None], lambda v: paths.transaction_idempotency(paths.TransactionDomain.ROOT, v)),
    *cases("tx_id", [*BAD_SEGMENTS, "x.manifest"], lambda v: paths.transaction_record(paths.TransactionDomain.ROOT, v)),
    *cases("tx_id", BAD_SEGMENTS, paths.root_super_manifest),
    *cases("commit_id", BAD_SEGMENTS, paths.orchestration_commit_receipt),
    *cases("commit_id", BAD_SEGMENTS, paths.root_commit_receipt),
    *cases("handle_id", ["", ULID, "hdl_", f"hdl_{ULID.lower()}", f"hdl_{ULID}/x", None], paths.handle_record),
    *cases("handle_id", [ULID], lambda v: paths.handle_step(v, paths.HandleStep.MUTATION, 1)),
    *cases("ordinal", [0, -1, 2**64], lambda v: paths.handle_step(f"hdl_{ULID}", paths.HandleStep.MUTATION, v)),
    *cases("domain", ["", "orchestration", "Catalog", "../catalog"], paths.catalog_domain),
    *cases("event_id", BAD_SEGMENTS, lambda v: paths.catalog_event(CATALOG, v)),
    *cases("event_id", BAD_SEGMENTS, lambda v: paths.catalog_quarantine(CATALOG, v)),
    *cases("version", [-1, 2**64], lambda v: paths.catalog_state(CATALOG, v, ULID)),
    *cases("ulid", BAD_ULIDS, lambda v: paths.catalog_state(CATALOG, 1, v)),
    *cases("version", [-1, 2**64], lambda v: paths.catalog_snapshot_prefix(CATALOG, v)),
    *cases("manifest_id", BAD_SEGMENTS, lambda v: paths.catalog_manifest(CATALOG, v)),
]


@pytest.mark.parametrize(("build", "value", "field"), REFUSALS)
def test_bad_components_are_refused(build: Callable[[Any], object], value: object, field: str) -> None:
    with pytest.raises(InvalidPath) as caught:
        build(value)
    error = caught.value
    assert error.field == field
    assert error.value == value or (field == "manifest number" and error.value == 2**64)
    assert error.remedy
    assert field in str(error)
    assert repr(value)[:200] in str(error)
    assert error.remedy in str(error)


def test_every_builder_with_a_component_is_refused_something() -> None:
    """A builder that takes a component and refuses nothing would let a caller name any object."""
    module = inspect.getmodule(test_bad_components_are_refused)
    assert module is not None
    tried = inspect.getsource(module)
    for name in BUILDERS - {"orchestration_state_dir"}:
        parameters = inspect.signature(getattr(paths, name), eval_str=True).parameters.values()
        if any(parameter.annotation in (str, int, date) for parameter in parameters):
            assert re.search(rf"paths\.{name}\b", tried), f"no refusal of {name} is tested"


def test_invalid_path_survives_pickling() -> None:
    error = InvalidPath("field", "value", "remedy")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.field, copy.value, copy.remedy, str(copy)) == ("field", "value", "remedy", str(error))
    assert isinstance(error, ValueError)


def test_invalid_path_cuts_a_long_value() -> None:
    assert len(str(InvalidPath("field", "x" * 10_000, "remedy"))) < 300
