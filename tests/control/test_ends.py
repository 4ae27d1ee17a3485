"""The event of an attempt's end: what its task has written to tables, within what an event may hold."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.control.runs.ends import completion, metadata_detail, metadata_in
from springline.control.runs.messages import (
    AttemptEnded,
    FoundByCheck,
    LoadedAsset,
    LoadedRun,
    LoadedTask,
    WrittenVersion,
)
from springline.control.runs.progress import RunProgress
from springline.ledger.events import AttemptNoted, TaskCompletionRecorded
from springline.ledger.json_text import canonical_json
from springline.ledger.member import MAX_MEMBER_BYTES, EndMember, member_of, written_member
from springline.ledger.nested import TaskOutcome
from springline.ledger.shapes import ReadingMode

writes = st.builds(
    WrittenVersion,
    table=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255),
    version=st.integers(0, 2**32 - 1),
    idempotency_key=st.none() | st.uuids().map(str),
    operation=st.none() | st.sampled_from(["append", "merge"]),
    rows=st.none() | st.integers(0, 2**40),
)


def ended(written: list[WrittenVersion], outcome: TaskOutcome = "succeeded") -> TaskCompletionRecorded:
    bare = TaskCompletionRecorded(
        run_id="r", task_key="t", attempt=1, attempt_id="a", worker_id="w", outcome=outcome, asset_key="t"
    )
    said = AttemptEnded(outcome=outcome, worker_id="w", started_at_ms=1, ended_at_ms=2, tables=written)
    return completion(bare, said, again=False, seen=True)


@given(st.lists(writes, max_size=300))
def test_an_end_tells_what_was_written_as_far_as_an_event_can(written: list[WrittenVersion]) -> None:
    event = ended(written)
    plain = written_member(event, ReadingMode())
    assert plain is not None
    assert len(msgspec.json.encode(plain)) <= MAX_MEMBER_BYTES
    member = member_of(event, EndMember)
    assert member is not None
    told = [(one.table, one.version, one.idempotency_key, one.operation, one.rows) for one in member.tables or []]
    wanted = [(one.table, one.version, one.idempotency_key, one.operation, one.rows) for one in written]
    assert told == wanted[len(wanted) - len(told) :], "the last ones are told"
    if sum(len(one.table.encode()) for one in written) < 2_000 and len(written) < 20:
        assert len(told) == len(wanted)


found = st.builds(
    FoundByCheck,
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80),
    severity=st.sampled_from(["warn", "error"]),
    passed=st.booleans(),
    message=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=500),
)


@given(st.lists(found, max_size=30))
def test_an_end_tells_what_checks_have_found_failures_first(checks: list[FoundByCheck]) -> None:
    bare = TaskCompletionRecorded(
        run_id="r", task_key="t", attempt=1, attempt_id="a", worker_id="w", outcome="succeeded", asset_key="t"
    )
    said = AttemptEnded(outcome="succeeded", worker_id="w", started_at_ms=1, ended_at_ms=2, checks=checks)
    event = completion(bare, said, again=False, seen=True)
    written_member(event, ReadingMode())
    member = member_of(event, EndMember) or EndMember()
    told = [(one.name, one.severity, one.passed) for one in member.checks or []]
    wanted = [(one.name, one.severity, one.passed) for one in checks]
    places = iter(wanted)
    assert all(one in places for one in told), "in order"
    lacking = len(wanted) - len(told)
    assert lacking == 0 or not any(passed for _, _, passed in told) or all(one in told for one in wanted if not one[2])
    if sum(len(one.name.encode()) + len((one.message or "").encode()) + 80 for one in checks) < 5_000:
        assert lacking == 0


plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(plain, json_values, max_size=5))
def test_metadata_are_read_from_a_note_as_they_were_told(told: dict[str, Any]) -> None:
    detail = canonical_json(metadata_detail(told)).decode()
    assert metadata_in(detail) == told


@pytest.mark.parametrize("odd", [None, "", "{", "[]", "3", '{"json":3}', '{"json":"["}', '{"json":"[1]"}', "{}"])
def test_a_note_without_metadata_has_none(odd: str | None) -> None:
    assert metadata_in(odd) == {}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ([], (None, None, None)),
        ([WrittenVersion(table="raw", version=3, rows=12)], ("raw", 3, 12)),
        ([WrittenVersion(table="raw", version=3, rows=12), WrittenVersion(table="raw", version=5)], ("raw", 5, None)),
        ([WrittenVersion(table="raw", version=3), WrittenVersion(table="days", version=5)], (None, None, None)),
    ],
)
def test_the_output_is_the_table_if_there_is_one_alone(
    written: list[WrittenVersion], told: tuple[str | None, int | None, int | None]
) -> None:
    output = ended(written).output
    assert output is not None
    assert (output.delta_table, output.delta_version, output.row_count) == told


def test_what_an_attempt_apart_has_written_is_noted() -> None:
    """An attempt that its run has given up may have sealed its task: whoever looks for the rows finds it."""
    asset = LoadedAsset(key="t", location="flow", heartbeat_ms=1_000)
    task = LoadedTask(key="t", asset="t", state="READY", max_attempts=5)
    loaded = LoadedRun(run_id="r", state="RUNNING", manifest_id="m", scope="r", assets=[asset], tasks=[task])
    progress = RunProgress(loaded, "acme", "prod", "w1")
    (order,) = progress.begin(1_000, 10)
    progress.lost("t", order.attempt_id, "gone", 2_000)
    (second,) = progress.begin(3_000, 10)
    said = AttemptEnded(
        outcome="succeeded",
        worker_id="w",
        started_at_ms=1,
        ended_at_ms=2,
        tables=[WrittenVersion(table="raw", version=3, rows=12)],
        metadata={"share": 0.5},
    )
    progress.ended("t", order.attempt_id, said, 4_000)
    told, note = [one for one in progress.outbox if isinstance(one, AttemptNoted)]
    assert (note.note, note.attempt_id, note.attempt) == ("ended_apart", order.attempt_id, 1)
    assert (told.note, told.attempt_id, told.attempt) == ("metadata", order.attempt_id, 1)
    assert note.detail["tables"] == [{"table": "raw", "version": 3, "rows": 12}]
    progress.ended("t", second.attempt_id, said, 5_000)
    end = progress.outbox[-1]
    assert isinstance(end, TaskCompletionRecorded)
    assert end.springline is not None
    assert end.springline["tables"] == note.detail["tables"]


def test_metadata_of_older_builds_can_be_answered_whatever_their_numbers() -> None:
    told = {"rows": [2**64, {"least": -(2**63) - 1}], "fits": [2**64 - 1, -(2**63), True, 0.5]}
    found = metadata_in(msgspec.json.encode(metadata_detail(told)).decode())
    assert orjson.loads(orjson.dumps(found)) == {
        "rows": ["18446744073709551616", {"least": "-9223372036854775809"}],
        "fits": told["fits"],
    }
