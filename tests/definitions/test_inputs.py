"""Which partitions have to be there so that others get what their parameters take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from springline.definitions.inputs import MOST_NEEDED, needed_of, with_inputs
from springline.definitions.mappings import PartitionMapping, effective_mapping
from springline.definitions.partitions import Partitions
from springline.sdk import all_partitions, asset, daily, dep, hourly, latest, multi_partitions, static, task, window
from springline.sdk.resolving import resolve

NOW = datetime(2024, 1, 3, 12, tzinfo=UTC)
DAYS = daily("2024-01-01")
HOURS = hourly("2024-01-01")
REGIONS = static("eu", "us")
BOTH = multi_partitions(day=DAYS, region=REGIONS)


@pytest.mark.parametrize(
    ("declared", "upstream", "downstream", "key", "needed"),
    [
        (None, DAYS, BOTH, "2024-01-02|eu", ["2024-01-02"]),
        (None, REGIONS, BOTH, "2024-01-02|eu", ["eu"]),
        (None, BOTH, DAYS, "2024-01-02", ["2024-01-02|eu", "2024-01-02|us"]),
        (None, BOTH, DAYS, "2024-01-09", ["2024-01-09|eu", "2024-01-09|us"]),
        (None, BOTH, REGIONS, "us", ["2024-01-01|us", "2024-01-02|us"]),
        (None, HOURS, DAYS, "2024-01-02", [f"2024-01-02T{hour:02}" for hour in range(24)]),
        (None, HOURS, DAYS, "2024-01-03", [f"2024-01-03T{hour:02}" for hour in range(12)]),
        (latest(), BOTH, BOTH, "2024-01-01|us", ["2024-01-02|us"]),
        (latest(), DAYS, None, None, ["2024-01-02"]),
        (window(-1), DAYS, BOTH, "2024-01-02|us", ["2024-01-01", "2024-01-02"]),
        (None, DAYS, None, None, ["2024-01-01", "2024-01-02"]),
        (all_partitions(), REGIONS, DAYS, "2024-01-02", ["eu", "us"]),
    ],
)
def test_what_a_partition_needs(
    declared: PartitionMapping | None, upstream: Partitions, downstream: Partitions | None, key: str, needed: list[str]
) -> None:
    mapping = effective_mapping(declared, upstream, downstream)
    assert isinstance(mapping, PartitionMapping)
    assert needed_of(mapping, upstream, downstream, key, NOW) == needed


def test_what_is_needed_is_bounded() -> None:
    mapping = effective_mapping(all_partitions(), hourly("1990-01-01"), None)
    assert isinstance(mapping, PartitionMapping)
    assert len(needed_of(mapping, hourly("1990-01-01"), None, None, NOW)) == MOST_NEEDED + 1


def test_inputs_come_with_partitions_of_their_own_only_where_they_are_cut_in_another_way() -> None:
    @asset(partitions=DAYS)
    def up() -> Any: ...

    @asset(partitions=DAYS)
    def read() -> Any: ...

    @task(partitions=DAYS)
    def ready() -> None: ...

    @asset(partitions=BOTH, deps=[read, ready])
    def sales(up: int) -> Any: ...

    @asset(partitions=BOTH, deps=[dep(sales, window(-1))])
    def two_days(sales: Any) -> Any: ...

    nodes = resolve([up, read, ready, sales, two_days]).nodes
    found = with_inputs(nodes, {"two_days": ["2024-01-02|eu"]}, NOW)
    # Not the day before of `sales`: `two_days` would be made of it, too, without all that it takes.
    days, pairs = ["2024-01-02"], ["2024-01-02|eu"]
    assert found == {"two_days": pairs, "sales": pairs, "up": days, "ready": days}
    assert with_inputs(nodes, {"up": ["2024-01-01"]}, NOW) == {"up": ["2024-01-01"]}
