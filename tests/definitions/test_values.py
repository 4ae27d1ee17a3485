"""Ids, keys of tasks and durations: what is one, what is none, and that what was written is read back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.definitions.durations import (
    MAX_DURATION_MS,
    duration_ms,
    duration_text,
    problem_of_heartbeat,
)
from springline.definitions.ids import meant, named, parse_task_key, problem_of_id, task_key

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize("good", ["a", "raw_flights", "mart.delays", "a-b", "Å_2", "0", "a" * 100, ".a", "å" * 50])
def test_good_ids(good: str) -> None:
    assert problem_of_id(good) is None


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("", "empty"),
        ("a:b", "':'"),
        ("a/b", "'/'"),
        ("a b", "' '"),
        ("a\n", "'\\n'"),
        ("*a", "'*'"),
        ("a[0]", "'['"),
        ("a,b", "','"),
        ("a%b", "'%'"),
        ("<lambda>", "'<'"),
        (".", "dots"),
        ("..", "dots"),
        ("a" * 101, "101 bytes"),
        ("å" * 51, "102 bytes"),
        ("\ud800", "surrogate"),
        (None, "NoneType"),
        (3, "int"),
    ],
)
def test_bad_ids_are_told(bad: object, said: str) -> None:
    problem = problem_of_id(bad)
    assert problem is not None
    assert said in problem[0]
    assert problem[1].endswith(".")


@given(TEXTS.filter(bool), st.none() | TEXTS)
def test_a_task_key_says_its_asset_and_partition(asset: str, partition: str | None) -> None:
    key = task_key(asset, partition)
    assert parse_task_key(key) == (asset, partition)
    assert not set("/: ,") & set(key)


def test_two_tasks_never_share_a_key() -> None:
    assert task_key("a", "b") == "a[b]"
    assert task_key("a[b]") == "a%5Bb%5D"
    assert task_key("a", "2024-01-01T05") == "a[2024-01-01T05]"
    assert task_key("a", "eu/no 1") == "a[eu%2Fno%201]"


@pytest.mark.parametrize("other", ["", "a[", "a]", "a[b", "a[b]c", "a[b][c]", "a b", "a%zz", "a%ff", "a[é]"])
def test_what_is_no_task_key(other: str) -> None:
    assert parse_task_key(other) is None


def test_names_for_messages() -> None:
    assert meant("raw_flihgts", ["raw_flights", "x"]) == "Did you mean raw_flights? "
    assert meant("q", ["raw_flights"]) == ""
    assert named([]) == "none"
    assert named(str(n) for n in range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("10m", 600_000),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("1h 30m", 5_400_000),
        ("500ms", 500),
        ("2d", 172_800_000),
        ("1m1ms", 60_001),
        (timedelta(minutes=5), 300_000),
        (timedelta(milliseconds=1.4), 1),
    ],
)
def test_durations(written: str | timedelta, ms: int) -> None:
    assert duration_ms(written) == ms


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (600, "unit"),
        (1.5, "unit"),
        ("600", "no duration"),
        ("", "no duration"),
        ("ten minutes", "no duration"),
        ("10 m", "no duration"),
        ("1m1h", "no duration"),
        ("-10m", "no duration"),
        ("10M", "no duration"),
        ("0s", "not above zero"),
        (timedelta(0), "not above zero"),
        (timedelta(microseconds=900), "not above zero"),
        (timedelta(-1), "not above zero"),
        ("31d", "longer than 30d"),
        ("9" * 12 + "d", "longer than 30d"),
        (True, "is a bool"),
        (None, "is a NoneType"),
        ([10], "is a list"),
    ],
)
def test_what_is_no_duration(written: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        duration_ms(written)


@given(st.integers(1, MAX_DURATION_MS))
def test_a_duration_is_read_back(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


def test_a_heartbeat_fits_its_timeout() -> None:
    assert problem_of_heartbeat(None, 5) is None
    assert problem_of_heartbeat(10_000, None) is None
    assert problem_of_heartbeat(10_000, 10_000) is None
    assert "least" in str(problem_of_heartbeat(999, None))
    assert "longer than the timeout, 9s" in str(problem_of_heartbeat(10_000, 9_000))
