"""The strip of an asset's partitions: in one dimension in lines, in two a line for each key of the second."""

from __future__ import annotations

from typing import Any

from springline.cli.assets import partitions_text
from springline.cli.partitions_page import strip_text


def item(key: str, state: str) -> dict[str, Any]:
    return {
        "partition_key": key,
        "state": state,
        "stale": state not in ("CURRENT", "OPEN"),
        "stale_since": None,
        "upstream": None,
        "materialized_at": None,
        "run_id": None,
    }


def test_two_dimensions_have_a_line_for_each_key_of_the_second() -> None:
    keys = [f"2024-01-{day:02}|{region}" for day in (1, 2, 3) for region in ("eu", "a%7Cb")]
    states = ["CURRENT", "NEVER_MATERIALIZED", "CURRENT", "CURRENT", "OPEN", "CURRENT"]
    items = [item(*one) for one in zip(keys, states, strict=True)]
    lines = strip_text({"partitions": 6, "items": items[::-1]}).splitlines()
    assert [line.split() for line in lines[1:3]] == [["eu", "■■·"], ["a|b", "○■■"]]
    assert lines[3] == "2024-01-01|eu to 2024-01-03|a%7Cb"


def test_one_dimension_is_as_it_was() -> None:
    items = [item(f"2024-01-{day:02}", "CURRENT") for day in range(1, 31)]
    lines = strip_text({"partitions": 30, "items": items[::-1]}).splitlines()
    assert lines[1] == "■" * 30


def test_definitions_in_words() -> None:
    day: dict[str, Any] = {"kind": "daily", "start": "2024-01-01", "end": None, "timezone": None, "keys": []}
    region = {"kind": "static", "keys": ["eu", "us"]}
    both = {
        "kind": "multi",
        "dimensions": [{"name": "day", "partitions": day}, {"name": "region", "partitions": region}],
    }
    assert partitions_text(both) == "day daily from 2024-01-01; region static: 2"
