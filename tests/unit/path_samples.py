"""Samples that the tests of object paths share: good and bad components, and the specification's spellings."""

from __future__ import annotations

import hashlib
import inspect
from datetime import date

from hypothesis import strategies as st

from springline import paths
from springline.paths import ObjectPath, Scope

TABLE = "01946b1c-0000-7000-8000-0000000000aa"
ULID = "01JHMP8000000000000000000A"
LATER_ULID = "01JHMP8000000000000000000B"
H12 = "5ff35106357c"
DAY = date(2025, 1, 15)
DIGEST = hashlib.sha256(b"key").hexdigest()
DAYS_TASK = hashlib.sha256(b"days[2024-01-31]").hexdigest()
SCOPE = Scope("acme", "prod")
STAGING = f"delta/staging/{TABLE}"
WORK = "0123456789abcdef0123456789"
WORKS = f"state/orchestration/rebuild-work/{WORK}"

UNSAFE = ["..", ".", "a\\b", "a%2fb", "a\rb", "a\nb", "a\0b", "\ud800"]
BAD_SEGMENTS = ["", "a/b", "/a", "../a", *UNSAFE]
BAD_UUIDS = [
    "",
    "x",
    TABLE.upper(),
    TABLE.replace("-", ""),
    f"{{{TABLE}}}",
    f"urn:uuid:{TABLE}",
    f"{TABLE}\n",
    f"{TABLE}/",
]
BAD_ULIDS = [
    "",
    ULID.lower(),
    ULID[:-1],
    ULID + "0",
    "8" + ULID[1:],
    ULID[:-1] + "I",
    ULID[:-1] + "\n",
    f"../{ULID[3:]}",
]
BAD_HASHES = ["", H12[:-1], H12 + "0", H12.upper(), H12[:-1] + "g", H12 + "\n"]
BAD_ROOTS = ["", "/a", "a/", "../a", "a/../b", "a%20b", "a\\b", "a\nb"]
BAD_ROOTS += ["/tables/a/b", "/tables/a/b/", "/tables/a/b/c/", "/tables/a/b/../c", "/tables/A/b/c", "/tables/a/b=c/d"]
BAD_ROOTS += ["//tables/a/b/c", "/tables//a/b/c", "/tables/a/b//c", "/tables/a/b/%63"]

ulids = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=25, max_size=25).flatmap(
    lambda rest: st.sampled_from("01234567").map(lambda first: first + rest)
)

BUILDERS = {
    name
    for name in paths.__all__
    if inspect.isfunction(getattr(paths, name))
    and inspect.signature(getattr(paths, name), eval_str=True).return_annotation in (ObjectPath, list[ObjectPath])
}
"""Every function of `springline.paths` that makes or passes an object path."""

SPELLED: list[tuple[str, str]] = [
    # docs/formats.md#event-objects, docs/formats.md#reserved-names and docs/protocol.md#publication
    (paths.ledger_prefix(), "ledger/orchestration"),
    (paths.ledger_day_prefix(DAY), "ledger/orchestration/2025-01-15"),
    (
        paths.ledger_segment(ULID, LATER_ULID, H12),
        f"ledger/orchestration/segments/v1/{ULID}_{LATER_ULID}.{H12}.jsonl.zst",
    ),
    (paths.ledger_segments_prefix(), "ledger/orchestration/segments/v1"),
    (paths.ledger_index_prefix(), "ledger/orchestration/index/v1"),
    (paths.ledger_index(ULID, LATER_ULID, H12), f"ledger/orchestration/index/v1/{ULID}_{LATER_ULID}.{H12}.json"),
    (
        paths.ledger_index_node(ULID, LATER_ULID, H12),
        f"ledger/orchestration/index/v1/node/{ULID}_{LATER_ULID}.{H12}.json",
    ),
    (
        paths.inbox_bundle(paths.BundleName("r1", "p1", "a1", "b1")),
        "_inbox/orchestration/run=r1/producer=p1/attempt=a1/bundle=b1.parquet",
    ),
    (
        paths.receipt_segment("r1", "p1", "x1"),
        "receipts/orchestration/run=r1/producer=p1/receipt_segment=x1.json",
    ),
    (paths.shard_segment("s1", 7, 123), "ledger/orchestration/segments/shard=s1/seq=7-123.parquet"),
    (paths.shard_index_head("s1"), "ledger/orchestration/index/shard=s1/current.json"),
    (paths.shard_index_history("s1", "c1"), "ledger/orchestration/index/shard=s1/history/c1.json"),
    (paths.flow_event("executions", date(2026, 2, 12), ULID), f"ledger/flow/executions/2026-02-12/{ULID}.json"),
    # docs/formats.md#state-objects, docs/formats.md#rebuild-manifest, docs/protocol.md#ledger-rounds and
    # docs/protocol.md#publication
    (paths.orchestration_legacy_manifest(), "state/orchestration/manifest.json"),
    (paths.orchestration_published(), "state/orchestration/published.json"),
    (paths.orchestration_manifests_prefix(), "state/orchestration/manifests"),
    (
        paths.orchestration_manifest(paths.orchestration_manifest_id(1)),
        "state/orchestration/manifests/00000000000000000001.json",
    ),
    (
        paths.orchestration_table(paths.StateLayer.L0, "D1", "runs", H12),
        f"state/orchestration/l0/D1/runs.{H12}.parquet",
    ),
    (
        paths.orchestration_table(paths.StateLayer.BASE, "S1", "backfill_chunks", H12),
        f"state/orchestration/base/S1/backfill_chunks.{H12}.parquet",
    ),
    (paths.orchestration_deletions("D1", H12), f"state/orchestration/l0/D1/deletions.{H12}.json"),
    (
        paths.orchestration_buckets(paths.StateLayer.BASE, "S1", H12),
        f"state/orchestration/base/S1/buckets.{H12}.json",
    ),
    (paths.orchestration_layer_prefix(paths.StateLayer.L0), "state/orchestration/l0"),
    (paths.orchestration_layer_prefix(paths.StateLayer.BASE), "state/orchestration/base"),
    (
        paths.orchestration_run_index(paths.StateLayer.BASE, "S1", "acme", H12),
        f"state/orchestration/base/S1/catalog_run_index/org-822b33ad87c148a0a20a5ba7cd5ebcaa.{H12}.parquet",
    ),
    (paths.orchestration_rebuild("2026-02-21"), "state/orchestration/rebuilds/2026-02-21.json"),
    (paths.orchestration_round(3), "state/orchestration/rounds/00000000000000000003.json"),
    (paths.orchestration_rounds_prefix(), "state/orchestration/rounds"),
    (paths.orchestration_refused("x1"), "state/orchestration/refused/x1.json"),
    (paths.orchestration_request("key"), f"state/orchestration/requests/{DIGEST[:2]}/key.json"),
    (paths.orchestration_garbage_prefix(), "state/orchestration/garbage"),
    (paths.orchestration_garbage("g1"), "state/orchestration/garbage/g1.json"),
    # docs/protocol.md#rebuild
    (paths.rebuild_work_prefix(), "state/orchestration/rebuild-work"),
    (paths.rebuild_work_dir(WORK), f"{WORKS}"),
    (paths.rebuild_slice(WORK, 7), f"{WORKS}/slices/000007.json"),
    (paths.rebuild_slice_receipt(WORK, 7), f"{WORKS}/slices/000007.receipt.json"),
    (paths.rebuild_segments(WORK), f"{WORKS}/segments.json"),
    (paths.rebuild_accepted(WORK, H12), f"{WORKS}/accepted/{H12}.json"),
    (paths.rebuild_section(WORK, 12, 3, H12), f"{WORKS}/sections/000012-000003.{H12}.msgpack.lz4"),
    (paths.rebuild_segment_receipt(WORK, 0), f"{WORKS}/segments/000000.receipt.json"),
    (paths.rebuild_slice_receipt(WORK, 7, H12), f"{WORKS}/slices/000007.{H12}.receipt.json"),
    (paths.rebuild_segment_receipt(WORK, 0, H12), f"{WORKS}/segments/000000.{H12}.receipt.json"),
    (paths.rebuild_shards(WORK, H12), f"{WORKS}/shards/{H12}.json"),
    (paths.rebuild_shard_table(WORK, H12, 3, "runs", H12), f"{WORKS}/shards/{H12}/000003/runs.{H12}.arrow"),
    (paths.rebuild_shard_receipt(WORK, H12, 3), f"{WORKS}/shards/{H12}/000003.receipt.json"),
    (paths.rebuild_base(WORK, "s1"), f"{WORKS}/bases/s1.json"),
    (paths.rebuild_report(WORK, "r1"), f"{WORKS}/reports/r1.json"),
    # docs/formats.md#locks
    (paths.root_transaction_lock(), "locks/root.lock.json"),
    (paths.transaction_repair_lock("t1"), "locks/transactions/orchestration/t1.repair.lock.json"),
    (paths.catalog_lock(paths.CatalogDomain.SEARCH), "locks/search.lock.json"),
    # docs/formats.md#delta-objects and docs/formats.md#table-registry
    (paths.delta_staging_prefix(TABLE), f"{STAGING}/"),
    (paths.delta_log_dir("a/b"), "a/b/_delta_log"),
    (paths.delta_log_prefix("a/b"), "a/b/_delta_log/"),
    (paths.delta_last_checkpoint("a/b"), "a/b/_delta_log/_last_checkpoint"),
    (paths.delta_checkpoint("a", 10), "a/_delta_log/00000000000000000010.checkpoint.parquet"),
    (
        paths.delta_checkpoint_parts("a", 10, 2)[1],
        "a/_delta_log/00000000000000000010.checkpoint.0000000002.0000000002.parquet",
    ),
    (paths.delta_data_file("a/b", "day=1/part-0.parquet"), "a/b/day=1/part-0.parquet"),
    (paths.workspace_path(f"/tables/acme/prod/{TABLE}/x"), f"/tables/acme/prod/{TABLE}/x"),
    (paths.delta_log(paths.new_table_root(TABLE, SCOPE), 7), f"/tables/acme/prod/{TABLE}/_delta_log/{7:020}.json"),
    (paths.table_entries_prefix(), "delta/tables/"),
    (paths.delta_scratch("a/b", TABLE, "1f"), f"a/b/{TABLE}/1f"),
    (paths.table_entry(TABLE), f"delta/tables/{TABLE}.json"),
    (paths.root_claims_prefix(), "delta/roots/"),
    (paths.name_claims_prefix(), "delta/names/"),
    (paths.delta_markers_prefix(TABLE), f"delta/idempotency/{TABLE}/"),
    (paths.root_claim("a/b"), f"delta/roots/{hashlib.sha256(b'a/b').hexdigest()}.json"),
    (paths.name_claim("flights"), f"delta/names/{hashlib.sha256(b'flights').hexdigest()}.json"),
    (paths.canary_object("c1-race"), "canary/c1-race"),
    (paths.store_identity(), "canary/store-id.json"),
    (paths.workspace_entry(SCOPE), "orchestration/workspaces/acme/prod.json"),
    (paths.workspace_entries_prefix(), "orchestration/workspaces"),
    (paths.unity_preview(TABLE), f"uc/delta_preview/{TABLE}.json"),
    # docs/formats.md#reserved-names
    (paths.iceberg_pointer(TABLE), f"_catalog/iceberg_pointers/{TABLE}.json"),
    (paths.iceberg_idempotency_prefix(TABLE), f"_catalog/iceberg_idempotency/{TABLE}/"),
    (paths.iceberg_marker(TABLE, DIGEST), f"_catalog/iceberg_idempotency/{TABLE}/{DIGEST[:2]}/{DIGEST}.json"),
    (paths.iceberg_transaction("t1"), "_catalog/iceberg_transactions/t1.json"),
    (
        paths.iceberg_receipt(DAY, paths.ReceiptState.PENDING, "c1"),
        "events/2025-01-15/iceberg/pending/c1.json",
    ),
    (
        paths.iceberg_receipt(DAY, paths.ReceiptState.COMMITTED, "c1"),
        "events/2025-01-15/iceberg/committed/c1.json",
    ),
    # docs/formats.md#reserved-names
    (paths.task_output("run_1", "a1"), "outputs/run_1/a1"),
    (paths.write_seal("run_1", "days[2024-01-31]"), f"effects/run_1/{DAYS_TASK}.json"),
    (paths.staged_write("run_1", "days[2024-01-31]", "0" * 64), f"effects/run_1/{DAYS_TASK}/{'0' * 64}"),
    (paths.deployed_manifest(ULID), f"manifests/{ULID}.json"),
    (paths.latest_manifest_index(), "manifests/_index.json"),
    (paths.manifest_deployed_note(), "manifests/_deployed.json"),
    (paths.replaced_manifest(ULID), f"manifests/replaced/{ULID}.json"),
    (paths.pool_settings(), "manifests/_pools.json"),
    (paths.pool_settings_note(), "manifests/_pools_set.json"),
    (paths.replaced_pool_settings(TABLE), f"manifests/replaced/pools-{TABLE}.json"),
    (
        paths.deploy_idempotency("req:tenant/workspace"),
        "manifests/idempotency/cmVxOnRlbmFudC93b3Jrc3BhY2U.json",
    ),
    (
        paths.backfill_idempotency("req:tenant/workspace"),
        "orchestration/backfills/idempotency/cmVxOnRlbmFudC93b3Jrc3BhY2U.json",
    ),
    (paths.backfill_keys("ab" * 32), f"orchestration/backfills/keys/{'ab' * 32}.json"),
    (
        paths.run_key_reservation("daily-etl:2025-01-15"),
        "run_keys/e8a1600e00f163438872a247a4eadd3373e13896.json",
    ),
    (paths.run_log("r1", "raw.a", 1), "logs/r1/raw.a/attempt-1.log"),
    (paths.logs_prefix(), "logs/"),
    (paths.log_chunk("r1", "key", 2, 3), f"logs/r1/{DIGEST}/attempt-2/000003.log"),
    # docs/formats.md#reserved-names
    (
        paths.transaction_idempotency(paths.TransactionDomain.ROOT, "key"),
        f"transactions/idempotency/root/{DIGEST[:2]}/{DIGEST}.json",
    ),
    (
        paths.transaction_record(paths.TransactionDomain.ORCHESTRATION, "t1"),
        "transactions/orchestration/t1.json",
    ),
    (paths.root_super_manifest("t1"), "transactions/root/t1.manifest.json"),
    (paths.orchestration_commit_receipt("c1"), "commits/orchestration/c1.json"),
    (paths.root_commit_receipt("c1"), "commits/root/c1.json"),
    (paths.handle_record(f"hdl_{ULID}"), f"transactions/handles/hdl_{ULID}/handle.json"),
    (
        paths.handle_step(f"hdl_{ULID}", paths.HandleStep.MUTATION, 1),
        f"transactions/handles/hdl_{ULID}/mutations/00000000000000000001.json",
    ),
    (
        paths.handle_step(f"hdl_{ULID}", paths.HandleStep.IDENTITY, 2**64 - 1),
        f"transactions/handles/hdl_{ULID}/identities/18446744073709551615.json",
    ),
    # docs/formats.md#reserved-names
    (paths.catalog_event(paths.CatalogDomain.LINEAGE, "e1"), "ledger/lineage/e1.json"),
    (paths.catalog_sequence(paths.CatalogDomain.CATALOG), "sequence/catalog.sequence.json"),
    (paths.catalog_quarantine(paths.CatalogDomain.EXECUTIONS, "e1"), "quarantine/executions/e1.json"),
    (paths.catalog_state(paths.CatalogDomain.SEARCH, 12, ULID), f"state/search/snapshot_v12_{ULID}.parquet"),
    (paths.catalog_snapshot_prefix(paths.CatalogDomain.SEARCH, 12), "snapshots/search/v12/"),
    (paths.catalog_anti_entropy_cursor(paths.CatalogDomain.SEARCH), "state/anti_entropy/search/cursor.json"),
    (paths.catalog_root_manifest(), "manifests/root.manifest.json"),
    (paths.catalog_pointer(paths.CatalogDomain.CATALOG), "manifests/catalog.pointer.json"),
    (paths.catalog_manifest(paths.CatalogDomain.CATALOG, "m1"), "manifests/catalog/m1.json"),
]
