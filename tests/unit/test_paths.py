"""Object paths: the vectors of the reference, the spellings of the specification, and the rules."""

from __future__ import annotations

import hashlib
import inspect
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID as LibraryULID

from springline import paths
from springline.paths import InvalidPath, Scope
from springline.ulids import ulid_time_ms
from tests.unit import path_samples
from tests.unit.path_samples import (
    BUILDERS,
    DAY,
    DIGEST,
    SCOPE,
    SPELLED,
    TABLE,
    ULID,
    ulids,
)

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "fingerprints.json").read_bytes())


def test_golden_paths() -> None:
    made = {
        "base_snapshot_dir": paths.orchestration_base_dir("S1"),
        "compaction_lock": paths.orchestration_compaction_lock(),
        "delta_coordinator": paths.delta_coordinator(TABLE),
        "delta_log_7": paths.delta_log(paths.default_table_root(TABLE), 7),
        "delta_marker": paths.delta_marker(TABLE, "01946b1c-0000-7000-8000-000000000001"),
        "delta_staging": paths.delta_staged(TABLE, ULID),
        "event": paths.ledger_event(DAY, "01JHMP"),
        "l0_dir": paths.orchestration_l0_dir("D1"),
        "manifest_pointer": paths.orchestration_pointer(),
    }
    expected = dict(GOLDEN["paths"])
    assert expected.pop("delta_log_negative_error").endswith("must be non-negative")
    assert made == expected


@pytest.mark.parametrize("vector", GOLDEN["event_id_from_ledger_path"], ids=lambda vector: vector["path"])
def test_golden_event_ids(vector: dict[str, Any]) -> None:
    assert paths.event_id_from_ledger_path(vector["path"]) == vector["event_id"]


@pytest.mark.parametrize("vector", GOLDEN["run_key_reservation_path"], ids=lambda vector: repr(vector["run_key"]))
def test_golden_reservations(vector: dict[str, Any]) -> None:
    assert paths.run_key_reservation(vector["run_key"]) == vector["path"]


def test_golden_canonical_event_paths() -> None:
    vectors = GOLDEN["event_idempotency"]
    assert len(vectors) > 50
    for vector in vectors:
        assert paths.canonical_ledger_event(vector["event_id"], date(1970, 1, 1)) == vector["ledger_path"]


def test_golden_request_hash_marker() -> None:
    marker = GOLDEN["delta_request_hash"]["marker"]
    assert paths.parse_delta_log(marker["delta_log_path"]) == (f"tables/{TABLE}", marker["version"])
    digest = marker["idempotency_key_hash"]
    assert paths.delta_marker(TABLE, marker["idempotency_key"]).endswith(f"/{digest[:2]}/{digest}.json")


@pytest.mark.parametrize("vector", GOLDEN["delta_bad_keys"], ids=lambda vector: vector["idempotency_key"])
def test_any_raw_key_has_a_marker(vector: dict[str, Any]) -> None:
    """docs/formats.md#delta-objects hashes the raw key; that a key is canonical is judged by the request, not by its
    path.
    """
    key = vector["idempotency_key"]
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert paths.delta_marker(TABLE, key) == f"delta/idempotency/{TABLE}/{digest[:2]}/{digest}.json"


@pytest.mark.parametrize(("made", "expected"), SPELLED, ids=lambda text: text)
def test_templates(made: str, expected: str) -> None:
    assert made == expected
    assert paths.workspace_path(made) == made
    if not made.startswith("/"):
        assert paths.relative_path(made) == made


def test_every_builder_is_spelled_out_or_golden() -> None:
    """A builder that nobody compares with the specification's spelling is a path that nobody checked."""
    module = inspect.getmodule(test_golden_paths)
    assert module is not None
    source = inspect.getsource(module) + inspect.getsource(path_samples)
    missing = {name for name in BUILDERS if f"paths.{name}(" not in source}
    assert missing == {"orchestration_state_dir"}, "which orchestration_l0_dir and orchestration_base_dir share"


def test_a_listing_passes_over_a_workspace_and_no_other() -> None:
    scope = paths.Scope("acme", "prod")
    behind, (prefix, begin) = paths.behind_scope(scope), paths.scopes_begin()
    assert (prefix, begin, behind) == ("", "tenant=", "tenant=acme/workspace=prod0")
    assert begin < scope.full(paths.ObjectPath("\U0010ffff")) < behind
    for other in ("prod-2", "prod0", "prod_", "proda"):
        name = paths.Scope("acme", other).full(paths.ObjectPath("x"))
        assert paths.scope_of(name) == paths.Scope("acme", other)
        assert name > behind or name < scope.full(paths.ObjectPath("a"))
    assert paths.scope_of("tables/acme/prod/x") is None


def test_refused_prefix_holds_the_refused() -> None:
    assert paths.lies_under(paths.orchestration_refused("x"), paths.orchestration_refused_prefix())


@pytest.mark.parametrize("text", ["", "a", "a/", "a//b", "a b", "a=b", "ü/日本", "...", "a..b", ".a"])
def test_relative_paths_that_pass(text: str) -> None:
    assert paths.relative_path(text) == text


@given(st.text())
def test_relative_path_is_exactly_the_rule(text: str) -> None:
    encodable = not any(0xD800 <= ord(character) <= 0xDFFF for character in text)
    allowed = (
        encodable
        and not text.startswith("/")
        and not set(text) & set("\\%\r\n\0")
        and not {".", ".."} & set(text.split("/"))
    )
    try:
        paths.relative_path(text)
    except InvalidPath:
        assert not allowed
    else:
        assert allowed


LAKE = "gs://lake/pre"
FOLDER = "file:///srv/my%20lake"
NEW, OLD = "/tables/acme/prod", "tenant=acme/workspace=prod"


@pytest.mark.parametrize("store", [None, LAKE, FOLDER])
@pytest.mark.parametrize(
    ("location", "roots"),
    [
        ("warehouse/orders", (f"{NEW}/warehouse/orders", "warehouse/orders")),
        ("  warehouse/orders/ ", (f"{NEW}/warehouse/orders", "warehouse/orders")),
        ("x" * 3, (f"{NEW}/xxx", "xxx")),
        ("day=1/x", (f"{NEW}/day=1/x", "day=1/x")),
        ("tablesx/acme", (f"{NEW}/tablesx/acme", "tablesx/acme")),
        (TABLE, (f"{NEW}/{TABLE}", TABLE)),
        (f"{NEW}/orders", (f"{NEW}/orders",)),
        (f"{NEW[1:]}/orders//", (f"{NEW}/orders",)),
        (f"{OLD}/warehouse", ("warehouse",)),
        (f"{OLD}/tables/flights", ("tables/flights",)),
        (f"{OLD}/tables/rival/prod/x", ("tables/rival/prod/x",)),
        (f"{OLD}/tenant=rival/workspace=prod/x", ("tenant=rival/workspace=prod/x",)),
        (f"tables/{TABLE}", (f"tables/{TABLE}",)),
        ("tables", ("tables",)),
    ],
)
def test_table_roots(location: str, roots: tuple[str, ...], store: str | None) -> None:
    assert paths.table_roots(location, SCOPE, store) == roots


@pytest.mark.parametrize(
    ("location", "store", "roots"),
    [
        (f"{LAKE}{NEW}/orders", LAKE, (f"{NEW}/orders",)),
        (f"{LAKE}{NEW}/orders", LAKE + "/", (f"{NEW}/orders",)),
        (f"{LAKE}{NEW}/my%20orders/", LAKE, (f"{NEW}/my orders",)),
        (f"{LAKE}/{OLD}/warehouse/orders/", LAKE, ("warehouse/orders",)),
        (f"{FOLDER}{NEW}/orders", FOLDER, (f"{NEW}/orders",)),
        (f"file://localhost/srv//my%20lake{NEW}/orders", FOLDER, (f"{NEW}/orders",)),
        (f"/srv/my lake{NEW}/orders", FOLDER, (f"{NEW}/orders",)),
        (f"/srv/my lake/{OLD}/orders", FOLDER, ("orders",)),
    ],
)
def test_a_url_inside_the_workspace_is_a_root(location: str, store: str, roots: tuple[str, ...]) -> None:
    assert paths.table_roots(location, SCOPE, store) == roots


@pytest.mark.parametrize("store", [None, LAKE, FOLDER])
@pytest.mark.parametrize(
    "location",
    [
        "gs://other/x",
        f"gs://other{NEW}/x",
        f"gs://lake{NEW}/x",
        f"gs://lake/pre2{NEW}/x",
        f"{LAKE}/x",
        f"{LAKE}/tables/x",
        f"{LAKE}/tables/rival/prod/x",
        f"{LAKE}/tables/acme/production/x",
        f"{LAKE}/tables/acme/pro/x",
        f"{LAKE}/tenant=acme/workspace=production/x",
        f"{LAKE}/tenant=rival/workspace=prod/x",
        f"s3://lake/pre{NEW}/x",
        f"{FOLDER}2{NEW}/x",
        f"{FOLDER}/tables/rival/prod/x",
        "file:///etc/x",
        f"file:{NEW}/x",
        f"file:/{NEW}/x",
        "/warehouse/x",
        "/etc",
        "/",
        f"//{NEW[1:]}/x",
        f"/srv/my%20lake{NEW}/x",
        "/srv/my lake/tables/rival/prod/x",
        "tables/flights",
        "tables/rival/prod/x",
        "tables/acme/production/x",
        "/tables/rival/prod/x",
        "tenant=rival/workspace=prod/x",
        "tenant=acme/workspace=production/x",
        "tenant=acme/metastore=prod/x",
        "tenant=x",
    ],
)
def test_what_lies_outside_the_workspace_is_no_root(location: str, store: str | None) -> None:
    with pytest.raises(paths.OutsideWorkspace, match="lies outside workspace 'prod' of tenant 'acme'") as caught:
        paths.table_roots(location, SCOPE, store)
    assert (caught.value.field, caught.value.value) == ("location", location)
    assert "tables/acme/prod/" in caught.value.remedy


OTHERS = st.sampled_from(["acme", "prod", "a", "ac", "acme-", "acme_", "-", "_", "0", "tables", TABLE, TABLE[:-1]])
LOCATION_PARTS = OTHERS | st.sampled_from(["..", ".", "", "tenant=acme", "tenant=a", "workspace=prod", "x", "%2e%2e"])


@given(
    st.sampled_from(
        ["", "/", "tables/", "/tables/", f"{LAKE}/", f"{LAKE}/tables/", f"{FOLDER}/", "/srv/my lake/tables/"]
    ),
    st.lists(LOCATION_PARTS, min_size=1, max_size=5).map("/".join),
    OTHERS,
    OTHERS,
    st.sampled_from([None, LAKE, FOLDER]),
)
def test_a_root_lies_in_the_workspace_and_nowhere_else(
    start: str, rest: str, tenant: str, workspace: str, store: str | None
) -> None:
    scope = Scope(tenant, workspace)
    try:
        roots = paths.table_roots(start + rest, scope, store)
        logs = [paths.delta_log(root, 0) for root in roots]
    except InvalidPath:
        return
    for root, log in zip(roots, logs, strict=True):
        full = scope.full(log)
        assert full.startswith((f"{scope.tables}/", f"{scope.prefix}/"))
        assert not {"..", "."} & set(full.split("/"))
        assert scope.relative(full) == log
        assert paths.parse_delta_log(log) == (root, 0)
        assert paths.table_roots(scope.full(paths.workspace_path(root)), scope, store) == (root,)
        if store == LAKE:
            assert paths.table_roots(
                f"{LAKE}/{paths.quoted(scope.full(paths.workspace_path(root)))}", scope, store
            ) == (root,)


@given(st.text(max_size=60))
def test_a_table_root_can_hold_a_log(location: str) -> None:
    try:
        roots = paths.table_roots(location, SCOPE, LAKE)
    except InvalidPath:
        return
    for root in roots:
        assert paths.parse_delta_log(paths.delta_log(root, 0)) == (root, 0)
        assert paths.root_claim(root) == f"delta/roots/{hashlib.sha256(root.encode()).hexdigest()}.json"


@pytest.mark.parametrize("store", [LAKE, "file:///srv/lake", "memory://lake", "gs://b/tenant=x/workspace=y"])
@pytest.mark.parametrize(
    "root", ["warehouse/my orders", f"tables/{TABLE}", f"{NEW}/my orders", f"{NEW}/{TABLE}", "a/tables/b"]
)
def test_a_location_is_split_into_store_and_scope(store: str, root: str) -> None:
    full = SCOPE.full(paths.workspace_path(root))
    for end in {full, paths.quoted(full)}:
        assert paths.split_location(f"{store}/{end}", root) == (store, SCOPE)
        assert paths.split_location(f"{store}/{end}/", root) == (store, SCOPE)


@pytest.mark.parametrize(
    ("location", "root"),
    [
        (f"{LAKE}/{OLD}/tables/acme/prod/x", "tables/acme/prod/y"),
        (f"{LAKE}/warehouse/x", "warehouse/x"),
        (f"{LAKE}/tables/acme/production/x", f"{NEW}/x"),
        ("warehouse/x", "warehouse/x"),
    ],
)
def test_a_location_that_does_not_end_in_the_root_is_refused(location: str, root: str) -> None:
    with pytest.raises(InvalidPath):
        paths.split_location(location, root)


def test_reserved_folders_are_those_of_the_layout() -> None:
    """A table may live anywhere but in the folders of the workspace's own objects and of the local store."""
    of_tables = {"tables", "a"}
    first = {made.removeprefix("/").split("/")[0] for made, _ in SPELLED} - of_tables
    assert first | {"state", ".springline"} == paths.RESERVED_FOLDERS


def test_last_version() -> None:
    path = paths.delta_log("a", paths.MAX_VERSION)
    assert path == "a/_delta_log/09223372036854775807.json"
    assert paths.parse_delta_log(path) == ("a", paths.MAX_VERSION)


@pytest.mark.parametrize(
    ("path", "prefix", "covered"),
    [
        ("a", "a", True),
        ("a/b", "a", True),
        ("ab", "a", False),
        ("a/b", "a/", True),
        ("a", "a/", False),
        ("a", "", True),
    ],
)
def test_prefix_is_a_folder(path: str, prefix: str, covered: bool) -> None:
    assert paths.lies_under(path, prefix) is covered


def test_page_cursor_inside_its_prefix() -> None:
    assert paths.page_cursor("a/b", "a") == "a/b"


@pytest.mark.parametrize(
    "path",
    [
        "state/orchestration/rebuilds/x.json",
        "state/orchestration/rebuilds/x.JSON",
        "state/orchestration/rebuilds/2026/x.y.Json",
    ],
)
def test_rebuild_manifests_that_pass(path: str) -> None:
    assert paths.check_rebuild_manifest(path) == path


@pytest.mark.parametrize(
    ("event_id", "milliseconds"),
    [
        ("01JHMP8000000000000000000A", 1736934948864),
        ("01jhmp8000000000000000000a", 1736934948864),
        ("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 2**48 - 1),
        ("ZZZZZZZZZZZZZZZZZZZZZZZZZZ", 2**48 - 1),
        ("00000000000000000000000000", 0),
        ("evt-1", None),
        ("01JHMP8000000000000000000I", None),
        ("01JHMP8000000000000000000", None),
        ("ſ1JHMP8000000000000000000A", None),  # noqa: RUF001
    ],
)
def test_ulid_times_are_as_lenient_as_the_reference(event_id: str, milliseconds: int | None) -> None:
    assert ulid_time_ms(event_id) == milliseconds


@given(ulids)
def test_ulid_times_agree_with_a_library(text: str) -> None:
    assert ulid_time_ms(text) == ulid_time_ms(text.lower()) == LibraryULID.from_str(text).milliseconds


def test_canonical_event_path_without_a_ulid_takes_the_timestamp() -> None:
    assert paths.canonical_ledger_event("evt-1", DAY) == "ledger/orchestration/2025-01-15/evt-1.json"
    assert paths.canonical_ledger_event(ULID, date(1999, 1, 1)) == f"ledger/orchestration/2025-01-15/{ULID}.json"
    assert paths.canonical_ulid_event(ULID) == f"ledger/orchestration/2025-01-15/{ULID}.json"


@given(
    day=st.integers(0, 5_000),
    shift=st.integers(-40_000, 40_000),
    rest=st.integers(0, 2**80 - 1),
)
def test_canonical_path_of_a_ulid_is_the_same_whatever_was_asked_before(day: int, shift: int, rest: int) -> None:
    """Ids around midnight: what is remembered of one must not stand for another's day."""
    milliseconds = max(0, day * 86_400_000 + shift)
    for moment in (milliseconds, max(0, day * 86_400_000 - 1), day * 86_400_000):
        event_id = str(LibraryULID.from_bytes((moment << 80 | rest).to_bytes(16, "big")))
        expected = paths.canonical_ledger_event(event_id, date(1999, 1, 1))
        assert paths.canonical_ulid_events([event_id, event_id]) == [expected, expected]
        assert paths.canonical_ulid_event(event_id) == expected


@pytest.mark.parametrize(
    ("name", "domain"),
    [("core", "catalog"), ("execution", "executions"), ("governance", "search"), ("lineage", "lineage")],
)
def test_legacy_domains(name: str, domain: str) -> None:
    assert paths.catalog_domain(name).value == domain


def test_content_hash() -> None:
    assert paths.content_hash12(b"key") == DIGEST[:12]


def test_what_a_sensor_watches_is_a_place_of_users() -> None:
    assert paths.watched_objects("incoming/a") == "incoming/a"
