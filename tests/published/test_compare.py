"""Differences of two states are found by table, key and column."""

from __future__ import annotations

from typing import Any

from springline.published.golden_state import GoldenRows, differences

RUN = {"run_id": "r-1", "state": "RUNNING", "tasks_total": 2}
TASK = {"run_id": "r-1", "task_key": "a", "state": "READY"}


def found(a: GoldenRows, b: GoldenRows) -> list[dict[str, Any]]:
    return [one.as_json() for one in differences(a, b)]


def test_equal_states_have_no_differences() -> None:
    a: GoldenRows = {"runs": [RUN, RUN | {"run_id": "r-2"}], "tasks": [TASK]}
    b: GoldenRows = {"tasks": [dict(TASK)], "runs": [RUN | {"run_id": "r-2"}, dict(RUN)], "timers": []}
    assert found(a, b) == []


def test_a_column_that_differs_is_named_with_both_values() -> None:
    a = {"runs": [RUN | {"completed_at": "2025-01-15T10:00:00Z"}]}
    b = {"runs": [RUN | {"state": "FAILED"}]}
    key = {"run_id": "r-1"}
    assert found(a, b) == [
        {"table": "runs", "key": key, "column": "completed_at", "a": "2025-01-15T10:00:00Z"},
        {"table": "runs", "key": key, "column": "state", "a": "RUNNING", "b": "FAILED"},
    ]


def test_a_row_of_one_side_is_shown_whole() -> None:
    other = TASK | {"task_key": "b"}
    assert found({"tasks": [TASK]}, {"tasks": [other]}) == [
        {"table": "tasks", "key": {"run_id": "r-1", "task_key": "a"}, "only_in": "a", "a": TASK},
        {"table": "tasks", "key": {"run_id": "r-1", "task_key": "b"}, "only_in": "b", "b": other},
    ]


def test_a_repeated_key_is_a_difference() -> None:
    assert found({"runs": [RUN, RUN]}, {"runs": [RUN]}) == [
        {"table": "runs", "key": {"run_id": "r-1"}, "only_in": "a", "a": RUN}
    ]
    assert [one["only_in"] for one in found({"runs": [RUN]}, {"runs": [RUN, RUN]})] == ["b"]
