"""Deltas over older rows: the reference's winners for its own deltas, always the newer row for ours; deletions last."""

from __future__ import annotations

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.projection.schema import (
    BACKFILLS,
    CATALOG_RUN_INDEX,
    REFERENCE_TABLES,
    RUN_KEY_CONFLICTS,
    RUN_KEY_INDEX,
    RUNS,
    TASKS,
    Key,
    Row,
    Table,
)
from springline.published.deltas import DamagedTombstones, conflict_text, decode_tombstones, encode_tombstones
from springline.published.overlay import base_rows, lay_over, lay_over_reference
from tests.projection.stored_rows import TEXT, sample_row, tables_of_rows

STAMPED = [table for table in REFERENCE_TABLES.values() if table is not RUN_KEY_CONFLICTS]
MARK = {
    table.name: next(
        column.name
        for column in table.columns
        if column.name not in table.key and column.kind.value == "int64 milliseconds" and not column.internal
    )
    for table in STAMPED
    if any(column.kind.value == "int64 milliseconds" and not column.internal for column in table.columns)
}
"""Per table, a column that tells an older row from a newer one."""


def after_reference(table: Table, older: Row, newer: Row) -> Row:
    """Return the row that is left when the reference's delta with `newer` lies over `older`."""
    rows = base_rows({table.name: [older]})
    lay_over_reference(rows, {table.name: [newer]}, {})
    return rows[table.name][table.key_of(older)]


def after_ours(table: Table, older: Row, newer: Row) -> Row:
    rows = base_rows({table.name: [older]})
    lay_over(rows, {table.name: [newer]}, {})
    return rows[table.name][table.key_of(older)]


ORDINARY = [table for table in STAMPED if table.name in MARK and table not in (TASKS, BACKFILLS, RUN_KEY_INDEX)]


@pytest.mark.parametrize("table", ORDINARY, ids=lambda table: table.name)
def test_an_ordinary_row_replaces_unless_its_stamp_is_lower(table: Table) -> None:
    mark = MARK[table.name]
    older = sample_row(table, row_version="05", **{mark: 1})
    for stamp, wins in (("04", False), ("05", True), ("06", True), ("1", True), ("", False)):
        newer = sample_row(table, row_version=stamp, **{mark: 2})
        assert after_reference(table, older, newer) == (newer if wins else older), stamp
        assert after_ours(table, older, newer) == newer


def test_of_equal_stamps_the_task_of_higher_rank_stays() -> None:
    ranks = ["PLANNED", "BLOCKED", "READY", "DISPATCHED", "RUNNING", "RETRY_WAIT"]
    ranks += ["SKIPPED", "CANCELLED", "FAILED", "SUCCEEDED"]
    for place, state in enumerate(ranks):
        older = sample_row(TASKS, state=state, row_version="05", attempt=1)
        for other_place, other in enumerate(ranks):
            newer = sample_row(TASKS, state=other, row_version="05", attempt=2)
            assert after_reference(TASKS, older, newer) == (newer if other_place >= place else older), (state, other)
            later = sample_row(TASKS, state=other, row_version="06", attempt=2)
            assert after_reference(TASKS, older, later) == later
            earlier = sample_row(TASKS, state=other, row_version="04", attempt=2)
            assert after_reference(TASKS, older, earlier) == older


def test_a_backfills_state_version_goes_before_its_stamp() -> None:
    older = sample_row(BACKFILLS, state_version=2, row_version="05", planned_chunks=1)
    for version, stamp, wins in ((3, "04", True), (1, "09", False), (2, "05", True), (2, "04", False), (2, "06", True)):
        newer = sample_row(BACKFILLS, state_version=version, row_version=stamp, planned_chunks=2)
        assert after_reference(BACKFILLS, older, newer) == (newer if wins else older), (version, stamp)


def test_the_first_request_of_a_run_key_stays_unless_a_later_stamp_comes() -> None:
    older = sample_row(RUN_KEY_INDEX, row_version="05", created_at=1)
    for stamp, wins in (("04", False), ("05", False), ("06", True)):
        newer = sample_row(RUN_KEY_INDEX, row_version=stamp, created_at=2)
        assert after_reference(RUN_KEY_INDEX, older, newer) == (newer if wins else older), stamp


def test_the_first_of_two_equal_conflicts_stays() -> None:
    older, newer = (sample_row(RUN_KEY_CONFLICTS, detected_at=at) for at in (1, 2))
    assert after_reference(RUN_KEY_CONFLICTS, older, newer) == older
    assert after_ours(RUN_KEY_CONFLICTS, older, newer) == newer


def test_a_new_key_comes_in_and_others_stay() -> None:
    for table in REFERENCE_TABLES.values():
        old, new = sample_row(table, 1), sample_row(table, 2)
        for lay in (lay_over, lay_over_reference):
            rows = base_rows({table.name: [old]})
            lay(rows, {table.name: [new]}, {})
            assert rows[table.name] == {table.key_of(old): old, table.key_of(new): new}
            assert sum(map(len, rows.values())) == 2


def test_within_one_file_the_last_row_of_a_key_counts_whatever_its_stamp() -> None:
    high, low = sample_row(RUNS, row_version="9", tasks_total=1), sample_row(RUNS, row_version="1", tasks_total=2)
    assert base_rows({"runs": [high, low]})["runs"] == {RUNS.key_of(low): low}
    rows = base_rows({})
    lay_over_reference(rows, {"runs": [high, low]}, {})
    assert rows["runs"] == {RUNS.key_of(low): low}


@settings(deadline=None)
@given(tables_of_rows().filter(lambda given_rows: given_rows[0] is not RUN_KEY_CONFLICTS))
def test_deletions_come_after_the_rows_and_survive_their_file(given_rows: tuple[Table, list[Row]]) -> None:
    table, found = given_rows
    kept, gone = found[::2], found[1::2]
    deleted = decode_tombstones(encode_tombstones({table.name: [table.key_of(row) for row in gone]}))
    for lay in (lay_over, lay_over_reference) if table.name in REFERENCE_TABLES else (lay_over,):
        rows = base_rows({table.name: kept[:1]})
        lay(rows, {table.name: found}, deleted)
        assert rows[table.name] == {table.key_of(row): row for row in kept}


@pytest.mark.parametrize("event_id", ["01JHKN3D7P3QPWXM8D5VG33JNG", "odd:id"])
def test_a_conflict_is_deleted_by_the_text_of_its_key(event_id: str) -> None:
    gone = sample_row(RUN_KEY_CONFLICTS, run_key="backfill:b:chunk:1", conflicting_event_id=event_id)
    kept = sample_row(RUN_KEY_CONFLICTS, run_key="backfill:b:chunk:2", conflicting_event_id=event_id)
    deleted = decode_tombstones(encode_tombstones({"run_key_conflicts": [RUN_KEY_CONFLICTS.key_of(gone)]}))
    rows = base_rows({"run_key_conflicts": [gone, kept]})
    lay_over_reference(rows, {}, deleted)
    assert list(rows["run_key_conflicts"].values()) == [kept]
    assert conflict_text(RUN_KEY_CONFLICTS.key_of(gone)) == f"conflict:backfill:b:chunk:1:{event_id}"


def test_deleting_what_is_not_there_is_nothing() -> None:
    rows = base_rows({"runs": [sample_row(RUNS, 1)]})
    for lay in (lay_over, lay_over_reference):
        lay(rows, {}, {"runs": ["other"], "tasks": [("r", "t")], "run_key_conflicts": [("k", "e")]})
    assert list(rows["runs"]) == ["text 1"]


def test_the_reference_reads_our_deletions_as_it_writes_its_own() -> None:
    deleted: dict[str, list[Key]] = {
        "timers": ["t2", "t1"],
        "tasks": [("r2", "a"), ("r1", "b")],
        "run_key_conflicts": [("k:1", "01J")],
        "catalog_run_index": [("org", "ws", "r", "t")],
        "dep_satisfaction": [("r", "up", "down")],
        "runs": [],
    }
    data = encode_tombstones(deleted)
    assert orjson.loads(data) == {
        "schema_version": 1,
        "tasks": [["r1", "b"], ["r2", "a"]],
        "catalog_run_index": [["org", "ws", "r", "t"]],
        "dep_satisfaction": [["r", "up", "down"]],
        "timers": ["t1", "t2"],
        "run_key_conflicts": ["conflict:k:1:01J"],
    }
    assert data == msgspec.json.format(data, indent=2)
    assert encode_tombstones({}) == b'{\n  "schema_version": 1\n}'
    assert decode_tombstones(encode_tombstones({})) == {}
    assert decode_tombstones(data) == {name: sorted(keys) for name, keys in deleted.items() if keys}


def test_catalog_keys_are_organisation_workspace_run_task() -> None:
    row = sample_row(CATALOG_RUN_INDEX, org_id="o", workspace_id="w", run_id="r", task_key="t")
    assert CATALOG_RUN_INDEX.key_of(row) == ("o", "w", "r", "t")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["runs", "timers", "backfills"]), st.lists(TEXT, unique=True), max_size=3))
def test_equal_deletions_have_equal_bytes(deleted: dict[str, list[Key]]) -> None:
    turned = {name: keys[::-1] for name, keys in reversed(deleted.items())}
    assert encode_tombstones(deleted) == encode_tombstones(turned)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no list of deletions"),
        (b"{}", "no list of deletions"),
        (b'{"schema_version": 2}', "`schema_version` 2; known is 1"),
        (b'{"schema_version": 0}', "`schema_version` 0; known is 1"),
        (b'{"schema_version": 1, "walks": ["w"]}', "walks"),
        (b'{"schema_version": 1, "runs": [["r"]]}', "no list of deletions"),
        (b'{"schema_version": 1, "tasks": [["r"]]}', "no list of deletions"),
        (b'{"schema_version": 1, "run_key_conflicts": ["k:e"]}', "'k:e' is not the key"),
        (b'{"schema_version": 1, "run_key_conflicts": ["conflict:e"]}', "'conflict:e' is not the key"),
    ],
)
def test_deletions_that_are_none_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(DamagedTombstones, match=why):
        decode_tombstones(data)
