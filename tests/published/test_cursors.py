"""Cursors lead on in their own list and are refused anywhere else."""

from __future__ import annotations

import base64
import string

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.errors import Refused
from springline.published.lists import cursor_for, key_of_cursor

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXTS, st.lists(TEXTS, min_size=2, max_size=4))
def test_a_cursor_carries_its_key(one: str, several: list[str]) -> None:
    cursor = cursor_for("/runs", {"state": ["FAILED"]}, one)
    assert set(cursor) <= set(string.ascii_letters + string.digits + "-_")
    assert key_of_cursor(cursor, "/runs", {"state": ["FAILED"]}, 1) == one
    key = tuple(several)
    assert key_of_cursor(cursor_for("/tasks", {}, key), "/tasks", {}, len(key)) == key


GOOD = cursor_for("/runs", {"state": ["FAILED"]}, "r-1")


@pytest.mark.parametrize(
    ("cursor", "route", "filters", "columns"),
    [
        (GOOD, "/tasks", {"state": ["FAILED"]}, 1),
        (GOOD, "/runs", {"state": ["RUNNING"]}, 1),
        (GOOD, "/runs", {}, 1),
        (GOOD, "/runs", {"state": ["FAILED"]}, 2),
        (GOOD[:-2], "/runs", {"state": ["FAILED"]}, 1),
        ("", "/runs", {}, 1),
        ("!", "/runs", {}, 1),
        ("ä", "/runs", {}, 1),
        ("run_1", "/runs", {}, 1),
        (base64.urlsafe_b64encode(orjson.dumps(["x", 7])).decode().rstrip("="), "/runs", {}, 1),
        (base64.urlsafe_b64encode(orjson.dumps({"a": 1})).decode().rstrip("="), "/runs", {}, 1),
    ],
)
def test_another_lists_cursor_is_refused(cursor: str, route: str, filters: dict[str, list[str]], columns: int) -> None:
    with pytest.raises(Refused) as caught:
        key_of_cursor(cursor, route, filters, columns)
    refusal = caught.value.refusal
    assert (refusal.code, refusal.field, refusal.value) == ("INVALID_REQUEST", "cursor", cursor)
    assert "next_cursor" in (refusal.remedy or "")
