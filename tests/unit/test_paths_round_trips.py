"""Every parser of object paths gives back what its builder was given, and answers for nothing else."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from datetime import date

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from springline import paths
from springline.paths import InvalidPath, ObjectPath, Scope
from springline.paths.components import decoded_key, encoded_key
from tests.unit.path_samples import (
    DIGEST,
    H12,
    SCOPE,
    SPELLED,
    TABLE,
    ULID,
    ulids,
)

safe_text = st.text(st.characters(exclude_characters="/\\%\r\n\0", exclude_categories=["Cs"]), min_size=1, max_size=30)
segments = safe_text.filter(lambda text: text not in (".", ".."))
folders = st.lists(segments, min_size=1, max_size=4).map("/".join)
uuids = st.uuids().map(str)
hashes = st.text("0123456789abcdef", min_size=12, max_size=12)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
days = st.dates()
versions = st.integers(0, paths.MAX_VERSION)
u64 = st.integers(0, 2**64 - 1)
catalog_domains = st.sampled_from(list(paths.CatalogDomain))
layers = st.sampled_from(list(paths.StateLayer))


@given(uuids, segments)
@example(TABLE, "a.json")
def test_staged_round_trip(table: str, name: str) -> None:
    assert paths.parse_delta_staged(table, paths.delta_staged(table, name)) == name


@given(folders, versions)
@example("a/_delta_log", 0)
def test_log_round_trip(root: str, version: int) -> None:
    path = paths.delta_log(root, version)
    assert paths.parse_delta_log(path) == (root, version)
    assert paths.lies_under(path, paths.delta_log_dir(root))
    assert paths.parse_delta_checkpoint(path) is None


@given(folders, versions, st.integers(1, 4))
def test_checkpoint_round_trip(root: str, version: int, parts: int) -> None:
    names = [paths.delta_checkpoint(root, version), *paths.delta_checkpoint_parts(root, version, parts)]
    assert len(set(names)) == parts + 1
    for name in names:
        assert paths.parse_delta_checkpoint(name) == (root, version)
        assert paths.parse_delta_log(name) is None


names = st.text("abc019-_", min_size=1, max_size=4) | st.sampled_from(["tables", TABLE, "acme", "prod", "tenant"])


@given(names, names, names, names, folders)
def test_the_areas_of_workspaces_hold_nothing_of_each_other(
    tenant: str, workspace: str, other_tenant: str, other_workspace: str, folder: str
) -> None:
    """Names that begin like each other, look like ids or like folders of the layout change nothing."""
    scope, other = Scope(tenant, workspace), Scope(other_tenant, other_workspace)
    paths_of_it = [ObjectPath(folder), paths.workspace_path(f"/{scope.tables}/{folder}")]
    full = [scope.full(path) for path in paths_of_it]
    assert len(set(full)) == 2
    assert [scope.relative(name) for name in full] == paths_of_it
    assert scope.full_of_all(paths_of_it) == full
    if other != scope:
        assert not {other.full(ObjectPath(folder)), other.full(ObjectPath(f"/{other.tables}/{folder}"))} & set(full)
        with pytest.raises(InvalidPath):
            other.full(paths_of_it[1])
        for name in full:
            with pytest.raises(InvalidPath):
                other.relative(name)


@given(segments, segments)
def test_scope_round_trip(first: str, second: str) -> None:
    path = ObjectPath(f"{first}/{second}")
    for scope in (SCOPE, paths.MetastoreScope("acme", "prod")):
        assert scope.full(path) == f"{scope.prefix}/{path}"
        assert scope.relative(scope.full(path)) == path


names = st.text("abz09_-", min_size=1, max_size=8)


@given(names, names)
def test_workspace_entry_round_trip(tenant: str, workspace: str) -> None:
    scope = Scope(tenant, workspace)
    assert paths.parse_workspace_entry(paths.workspace_entry(scope)) == scope
    assert paths.parse_workspace_entry(scope.full(paths.workspace_entry(scope))) is None
    assert paths.parse_workspace_entry(paths.workspace_entry(scope).upper()) is None


@given(days, segments)
def test_ledger_event_round_trip(day: date, event_id: str) -> None:
    path = paths.ledger_event(day, event_id)
    assert paths.parse_ledger_event(path) == (day, event_id)
    assert paths.event_id_from_ledger_path(path) == event_id
    assert paths.lies_under(path, paths.ledger_day_prefix(day))


@given(ulids, ulids, hashes)
def test_segment_round_trip(one: str, other: str, content_hash: str) -> None:
    first, last = sorted((one, other))
    path = paths.ledger_segment(first, last, content_hash)
    assert paths.parse_ledger_segment(path) == paths.SegmentName(first, last, content_hash)
    if first != last:
        with pytest.raises(InvalidPath):
            paths.ledger_segment(last, first, content_hash)
        assert paths.parse_ledger_segment(path.replace(f"{first}_{last}", f"{last}_{first}")) is None


@given(ulids, ulids, hashes)
def test_index_round_trip(one: str, other: str, content_hash: str) -> None:
    first, last = sorted((one, other))
    for build, node in ((paths.ledger_index, False), (paths.ledger_index_node, True)):
        path = build(first, last, content_hash)
        assert paths.parse_ledger_index(path) == paths.IndexName(first, last, content_hash, node)
        assert paths.lies_under(path, paths.ledger_index_prefix())
        if first != last:
            with pytest.raises(InvalidPath):
                build(last, first, content_hash)
    assert paths.lies_under(paths.ledger_segment(first, last, content_hash), paths.ledger_segments_prefix())


@given(segments, days, ulids)
def test_flow_event_round_trip(domain: str, day: date, event_id: str) -> None:
    assert paths.parse_flow_event(paths.flow_event(domain, day, event_id)) == (domain, day, event_id)


@given(segments, segments, segments, segments)
def test_inbox_round_trips(run: str, producer: str, attempt: str, bundle: str) -> None:
    name = paths.BundleName(run, producer, attempt, bundle)
    assert paths.parse_inbox_bundle(paths.inbox_bundle(name)) == name
    receipt = paths.receipt_segment(run, producer, bundle)
    assert paths.parse_receipt_segment(receipt) == (run, producer, bundle)


@given(segments, u64, u64)
def test_shard_segment_round_trip(shard: str, one: int, other: int) -> None:
    start, end = sorted((one, other))
    assert paths.parse_shard_segment(paths.shard_segment(shard, start, end)) == (shard, start, end)


@given(u64)
def test_manifest_and_round_round_trip(number: int) -> None:
    manifest_id = paths.orchestration_manifest_id(number)
    path = paths.orchestration_manifest(manifest_id)
    assert paths.parse_orchestration_manifest(path) == manifest_id
    assert int(manifest_id) == number
    assert paths.lies_under(path, paths.orchestration_manifests_prefix())
    record = paths.orchestration_round(number)
    assert paths.parse_orchestration_round(record) == number
    assert paths.lies_under(record, paths.orchestration_rounds_prefix())


@given(segments)
def test_rebuild_work_round_trip(name: str) -> None:
    work = "0123456789abcdef0123456789"
    assert paths.rebuild_work_of(paths.rebuild_report(work, name)) == work
    assert paths.parse_rebuild_report(paths.rebuild_report(work, name)) == (work, name)
    assert paths.parse_rebuild_report(paths.rebuild_base(work, name)) is None
    assert paths.rebuild_work_of(paths.rebuild_work_dir(work)) is None


@given(segments)
def test_request_and_garbage_round_trip(name: str) -> None:
    assert paths.parse_orchestration_request(paths.orchestration_request(name)) == name
    report = paths.orchestration_garbage(name)
    assert paths.parse_orchestration_garbage(report) == name
    assert paths.lies_under(report, paths.orchestration_garbage_prefix())


@given(layers, segments, st.sampled_from(paths.ORCHESTRATION_TABLES), hashes, segments)
def test_state_file_round_trip(
    layer: paths.StateLayer, identity: str, table: str, content_hash: str, organisation: str
) -> None:
    file = paths.orchestration_table(layer, identity, table, content_hash)
    assert paths.parse_orchestration_file(file) == paths.StateFile(layer, identity, table, content_hash)
    index = paths.orchestration_run_index(layer, identity, organisation, content_hash)
    owner = hashlib.sha256(organisation.encode()).hexdigest()[:32]
    assert paths.parse_orchestration_file(index) == paths.StateFile(
        layer, identity, f"catalog_run_index/org-{owner}", content_hash
    )
    deletions = paths.orchestration_deletions(identity, content_hash)
    assert paths.parse_orchestration_file(deletions) == paths.StateFile(
        paths.StateLayer.L0, identity, "deletions", content_hash
    )
    buckets = paths.orchestration_buckets(layer, identity, content_hash)
    assert paths.parse_orchestration_file(buckets) == paths.StateFile(layer, identity, "buckets", content_hash)
    assert all(paths.lies_under(one, paths.orchestration_layer_prefix(layer)) for one in (file, index, buckets))


@given(uuids, digests, days, st.sampled_from(list(paths.ReceiptState)), segments)
def test_iceberg_round_trips(table: str, digest: str, day: date, state: paths.ReceiptState, key: str) -> None:
    assert paths.parse_iceberg_pointer(paths.iceberg_pointer(table)) == table
    marker = paths.iceberg_marker(table, digest)
    assert paths.parse_iceberg_marker(marker) == (table, digest)
    assert marker.startswith(paths.iceberg_idempotency_prefix(table))
    assert paths.parse_iceberg_receipt(paths.iceberg_receipt(day, state, key)) == (day, state, key)


@given(ulids, st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example(ULID, "\0/../%\n")
def test_api_round_trips(manifest_id: str, key: str) -> None:
    assert paths.parse_deployed_manifest(paths.deployed_manifest(manifest_id)) == manifest_id
    for build, parse in (
        (paths.deploy_idempotency, paths.parse_deploy_idempotency),
        (paths.backfill_idempotency, paths.parse_backfill_idempotency),
    ):
        assert parse(paths.relative_path(build(key))) == key
    assert decoded_key(encoded_key("key", key)) == key


@given(segments, folders, st.integers(1, paths.MAX_VERSION))
@example("r", "x/attempt-1.log", 2)
def test_run_log_round_trip(run: str, task: str, attempt: int) -> None:
    assert paths.parse_run_log(paths.run_log(run, task, attempt)) == (run, task, attempt)


@given(segments, st.text(st.characters(exclude_categories=["Cs"])), st.binary())
def test_write_round_trips(scope: str, task: str, content: bytes) -> None:
    named, digest = hashlib.sha256(task.encode()).hexdigest(), hashlib.sha256(content).hexdigest()
    assert paths.parse_write_seal(paths.write_seal(scope, task)) == (scope, named)
    assert paths.parse_staged_write(paths.staged_write(scope, task, digest)) == (scope, named, digest)


@given(
    segments, st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 2**53 - 1), st.integers(1, 2**53 - 1)
)
def test_log_chunk_round_trip(run: str, task: str, attempt: int, number: int) -> None:
    named = hashlib.sha256(task.encode()).hexdigest()
    path = paths.log_chunk(run, task, attempt, number)
    assert paths.parse_log_chunk(path) == (run, named, attempt, number)
    assert paths.parse_run_log(path) is None


@given(segments, segments)
def test_output_round_trip(scope: str, attempt: str) -> None:
    assert paths.parse_task_output(paths.task_output(scope, attempt)) == (scope, attempt)


@given(st.sampled_from(list(paths.TransactionDomain)), segments)
def test_transaction_round_trip(domain: paths.TransactionDomain, tx_id: str) -> None:
    assume(not tx_id.endswith(".manifest"))
    assert paths.parse_transaction_record(paths.transaction_record(domain, tx_id)) == (domain, tx_id)
    assert paths.parse_transaction_record(paths.root_super_manifest(tx_id)) is None


@given(ulids, st.sampled_from(list(paths.HandleStep)), st.integers(1, 2**64 - 1))
def test_handle_round_trip(ulid: str, step: paths.HandleStep, ordinal: int) -> None:
    path = paths.handle_step(f"hdl_{ulid}", step, ordinal)
    assert paths.parse_handle_step(path) == (f"hdl_{ulid}", step, ordinal)


@given(catalog_domains, segments, u64, ulids)
def test_catalog_round_trips(domain: paths.CatalogDomain, event_id: str, version: int, ulid: str) -> None:
    assert paths.parse_catalog_event(paths.catalog_event(domain, event_id)) == (domain, event_id)
    assert paths.parse_catalog_state(paths.catalog_state(domain, version, ulid)) == (domain, version, ulid)


PARSERS: dict[str, Callable[[str], object]] = {
    name: getattr(paths, name)
    for name in paths.__all__
    if name.startswith("parse_") and len(inspect.signature(getattr(paths, name)).parameters) == 1
}


def test_parsers_were_found() -> None:
    assert len(PARSERS) >= 20


@given(st.sampled_from(SPELLED).map(lambda pair: pair[1]) | st.text(max_size=40), st.data())
def test_parsers_answer_or_say_none_for_anything(text: str, data: st.DataObject) -> None:
    """Whatever a bucket holds: no parser raises, and one that answers never answers for an unsafe path."""
    at = data.draw(st.integers(0, len(text)))
    mutated = text[:at] + data.draw(st.sampled_from(["", "/", "..", "%", "\n", "\0", "\\", "x", "0"])) + text[at:]
    answered = [name for name, parse in PARSERS.items() if parse(mutated) is not None]
    assert len(answered) <= 1
    if answered:
        assert paths.workspace_path(mutated) == mutated


@pytest.mark.parametrize(
    ("parse", "path"),
    [
        (paths.parse_delta_log, "_delta_log/00000000000000000007.json"),
        (paths.parse_delta_log, "a/_delta_log/7.json"),
        (paths.parse_delta_log, "a/_delta_log/00000000000000000007.json.tmp"),
        (paths.parse_delta_log, "a/_delta_log/99999999999999999999.json"),
        (paths.parse_delta_log, "a/_delta_log/٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٧.json"),  # noqa: RUF001
        (paths.parse_delta_log, "a/_delta_log/00000000000000000007.checkpoint.parquet"),
        (paths.parse_delta_log, "a//_delta_log/00000000000000000007.json"),
        (paths.parse_delta_log, "/a/_delta_log/00000000000000000007.json"),
        (paths.parse_delta_log, "a/../_delta_log/00000000000000000007.json"),
        (paths.parse_delta_log, "/tables/a/b/_delta_log/00000000000000000007.json"),
        (paths.parse_delta_log, "/tables/a/b/../c/_delta_log/00000000000000000007.json"),
        (paths.parse_delta_checkpoint, "a/_delta_log/00000000000000000007.checkpoint.1.2.parquet"),
        (paths.parse_table_entry, f"delta/tables/{TABLE}"),
        (paths.parse_table_entry, f"delta/tables/{TABLE.upper()}.json"),
        (paths.parse_table_entry, f"{TABLE}.json"),
        (paths.parse_table_entry, f"delta/tables/a/{TABLE}.json"),
        (paths.parse_ledger_event, "ledger/orchestration/9999-99-99/01J.json"),
        (paths.parse_ledger_segment, f"ledger/orchestration/segments/v2/{ULID}_{ULID}.{H12}.jsonl.zst"),
        (paths.parse_flow_event, "ledger/flow/executions/2026-02-30/" + ULID + ".json"),
        (paths.parse_shard_segment, "ledger/orchestration/segments/shard=s/seq=9-1.parquet"),
        (paths.parse_shard_segment, "ledger/orchestration/segments/shard=s/seq=01-2.parquet"),
        (paths.parse_orchestration_manifest, "state/orchestration/manifests/99999999999999999999.json"),
        (paths.parse_orchestration_manifest, "state/orchestration/manifests/1.json"),
        (paths.parse_orchestration_file, f"state/orchestration/base/S1/deletions.{H12}.json"),
        (paths.parse_orchestration_file, f"state/orchestration/base/S1/unknown.{H12}.parquet"),
        (paths.parse_orchestration_file, f"state/orchestration/l0/../runs.{H12}.parquet"),
        (paths.parse_orchestration_file, f"state/orchestration/base/S1/buckets.{H12}.parquet"),
        (paths.parse_orchestration_request, "state/orchestration/requests/00/key.json"),
        (paths.parse_orchestration_garbage, "state/orchestration/garbage/a/b.json"),
        (paths.parse_rebuild_report, f"state/orchestration/rebuild-work/{'0' * 26}/reports/a/b.json"),
        (paths.parse_rebuild_report, f"state/orchestration/rebuild-work/{'0' * 26}/reports/...json"),
        (paths.parse_ledger_index, f"ledger/orchestration/index/v1/nodes/{ULID}_{ULID}.{H12}.json"),
        (paths.parse_ledger_index, f"ledger/orchestration/index/v2/{ULID}_{ULID}.{H12}.json"),
        (paths.parse_iceberg_pointer, f"_catalog/iceberg_pointers/{TABLE.upper()}.json"),
        (paths.parse_iceberg_marker, f"_catalog/iceberg_idempotency/{TABLE}/00/{DIGEST}.json"),
        (paths.parse_deployed_manifest, "manifests/_index.json"),
        (paths.parse_deployed_manifest, "manifests/root.manifest.json"),
        (paths.parse_deployed_manifest, "manifests/catalog.pointer.json"),
        (paths.parse_deploy_idempotency, "manifests/idempotency/a=.json"),
        (paths.parse_run_log, "logs/r/t/attempt-0.log"),
        (paths.parse_log_chunk, f"logs/r/{'0' * 64}/attempt-1/000000.log"),
        (paths.parse_log_chunk, f"logs/r/{'0' * 64}/attempt-1/0000001.log"),
        (paths.parse_log_chunk, f"logs/../{'0' * 64}/attempt-1/000001.log"),
        (paths.parse_task_output, "outputs/r/../a"),
        (paths.parse_task_output, "outputs/r/.."),
        (paths.parse_write_seal, "effects/r/t.json"),
        (paths.parse_write_seal, f"effects/../{'0' * 64}.json"),
        (paths.parse_staged_write, f"effects/r/{'0' * 64}/x"),
        (paths.parse_staged_write, f"effects/../{'0' * 64}/{'0' * 64}"),
        (paths.parse_catalog_event, "ledger/orchestration/x.json"),
        (paths.parse_catalog_state, f"state/search/snapshot_v01_{ULID}.parquet"),
        (paths.parse_handle_step, f"transactions/handles/hdl_{ULID}/mutations/00000000000000000000.json"),
    ],
)
def test_parsers_refuse_neighbours(parse: Callable[[str], object], path: str) -> None:
    assert parse(path) is None
