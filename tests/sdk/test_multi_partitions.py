"""`multi_partitions`: declared, described, validated, and made in this process with the key of each dimension."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from springline.definitions.manifest import CodeLocation
from springline.definitions.partitions import PartitionKind
from springline.sdk import Context, InvalidRequest, asset, daily, materialize, multi_partitions, static
from springline.sdk.describing import described
from springline.sdk.loading import examine

BOTH = multi_partitions(day=daily("2024-01-01"), region=static("eu", "us"))


@asset(partitions=BOTH)
def raw(context: Context) -> list[str]:
    return [context.partition_keys["day"], context.partition_keys["region"], context.partition_key, context.task_key]


@asset(partitions=BOTH)
def total(raw: list[str], context: Context) -> int:
    assert context.time_window[0].day == 31
    return len(raw)


def test_each_dimension_has_its_key() -> None:
    result = materialize([raw, total], partition_key="2024-01-31|us")
    assert result.value(raw) == ["2024-01-31", "us", "2024-01-31|us", "raw[2024-01-31%7Cus]"]
    assert result.value(total) == 4
    with pytest.raises(InvalidRequest, match=r"partition_key '2024-01-31\|xx' has the region 'xx'"):
        materialize([raw], partition_key="2024-01-31|xx")


def test_what_a_pair_needs_is_made_of_the_day() -> None:
    @asset(partitions=daily("2024-01-01"))
    def day(context: Context) -> str:
        return context.partition_key

    @asset(partitions=static("eu", "us"))
    def region(context: Context) -> str:
        return context.partition_key

    @asset(partitions=BOTH)
    def sales(context: Context, day: str, region: str) -> list[str]:
        return [context.partition_key, day, region]

    @asset(partitions=daily("2024-01-01"))
    def summary(sales: dict[str, Any]) -> list[str]:
        return sorted(sales)

    nodes: list[Any] = [day, region, sales, summary]
    made = materialize(nodes, "*sales", partition_key="2024-01-31|us")
    assert made.value(sales) == ["2024-01-31|us", "2024-01-31", "us"]
    assert made[day].partition_key == "2024-01-31"
    with pytest.raises(InvalidRequest, match=r"summary needs 2 partitions of sales \('2024-01-31\|eu', .*inputs="):
        materialize(nodes, "*summary", partition_key="2024-01-31")
    given = {"2024-01-31|eu": 1, "2024-01-31|us": 2}
    assert materialize(nodes, summary, partition_key="2024-01-31", inputs={sales: given}).value(summary) == [*given]
    with pytest.raises(InvalidRequest, match=r"partition_key '2023-01-31\|us' has the day '2023-01-31'"):
        materialize(nodes, "*sales", partition_key="2023-01-31|us")


def test_others_have_no_keys_by_dimension() -> None:
    with pytest.raises(InvalidRequest, match="has no partitions in two dimensions"):
        Context(partition_key="2024-01-31", partitions=daily("2024-01-01")).partition_keys  # noqa: B018 - it raises
    with pytest.raises(InvalidRequest, match="has no partitions"):
        Context().partition_keys  # noqa: B018 - likewise


def test_time_comes_first_however_it_is_written() -> None:
    assert multi_partitions(region=static("eu", "us"), day=daily("2024-01-01")) == BOTH
    assert BOTH.kind is PartitionKind.MULTI


@pytest.mark.parametrize(
    ("dimensions", "said"),
    [
        ({}, "there are 0 dimensions"),
        ({"day": daily("2024-01-01")}, "there are 1 dimensions"),
        ({"day": daily, "region": static("eu")}, "the dimension day is <function daily"),
        ({"day": daily("x"), "region": static("eu")}, "the dimension day: start 'x' is no key"),
        ({"day": daily("2024-01-01"), "region": ["eu"]}, "the dimension region is ['eu']"),
    ],
)
def test_what_cannot_be_is_told_at_its_place(dimensions: dict[str, Any], said: str) -> None:
    made = asset(key="x", partitions=multi_partitions(**dimensions))(lambda: None)
    (problem,) = made.problems
    assert problem.file == __file__
    assert said in problem.message


def test_it_is_described_as_it_is_deployed(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(
        "from springline.sdk import *\n\n"
        "@asset(partitions=multi_partitions(day=daily('2024-01-01'), region=static('eu', 'us')))\ndef raw(): ...\n\n"
        "@asset(partitions=daily('2024-01-01'))\ndef mart(raw: dict): ...\n"
    )
    document = described(examine(file))
    assert document["problems"] == []
    part = CodeLocation.model_validate({"location": "flow", "assets": document["assets"]})
    assert part.assets[0].partitions is not None
    assert [one.name for one in part.assets[0].partitions.dimensions or ()] == ["day", "region"]
    assert "dimensions" not in document["assets"][1]["partitions"]
