"""How partitions stand, over rows of the published state: against a literal reading of the rules, and in pages."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from springline.definitions.manifest import DeployedManifest
from springline.projection.rows import AttemptRow, PartitionRow, TaskRow
from springline.projection.schema import TABLES
from springline.published.snapshot import Revision, StateSnapshot, TableRows
from springline.staleness.judging import Materialization, UpstreamPart, judge
from springline.staleness.needs import NeedsOfAssets
from springline.staleness.reading import AssetStands
from tests.support.definitions import asset

DAY_MS = 86_400_000
START_MS = 1_704_067_200_000
"""The first instant of 2024."""
NOW_MS = START_MS + 40 * DAY_MS + 3_600_000
REVISION = Revision("1", "r", None, None)


def manifest(*assets: dict[str, Any]) -> DeployedManifest:
    return DeployedManifest.model_validate(
        {
            "format": 1,
            "manifest_id": "01JHMPFQ6G000AQKFF00000004",
            "deployed_at_ms": START_MS,
            "fingerprint": "0" * 64,
            "locations": [],
            "assets": [{**one, "location": "flights"} for one in assets],
        }
    )


def row_of(kind: Any, **values: Any) -> tuple[Any, ...]:
    fields = dict.fromkeys(kind.__struct_fields__, None) | {"tenant_id": "acme", "workspace_id": "prod"}
    found = fields | {"row_version": ""} | values
    return tuple(found[name] for name in kind.__struct_fields__)


def partition_row(key: str, partition: str, at_ms: int | None, version: str | None = None) -> tuple[Any, ...]:
    return row_of(
        PartitionRow,
        asset_key=key,
        partition_key=partition,
        last_materialization_at=at_ms,
        last_materialization_run_id=None if at_ms is None else "run_1",
        last_materialization_code_version=version,
        last_attempt_at=at_ms,
    )


def task_row(run_id: str, key: str, state: str, at_ms: int) -> tuple[Any, ...]:
    numbers = dict.fromkeys(
        ("deps_total", "deps_satisfied_count", "attempt", "max_attempts", "heartbeat_timeout_sec"), 1
    )
    values = {"run_id": run_id, "task_key": key, "asset_key": key, "state": state, "completed_at": at_ms}
    return row_of(TaskRow, **numbers, **values, attempt_id=f"a-{run_id}")[: len(TABLES["tasks"].columns)]


def attempt_row(run_id: str, key: str, version: str) -> tuple[Any, ...]:
    values = {"run_id": run_id, "task_key": key, "attempt_id": f"a-{run_id}", "attempt": 1, "outcome": "SUCCEEDED"}
    return row_of(AttemptRow, **values, worker_id="w", ended_at=1, code_version=version)


def snapshot(**rows: list[Any]) -> StateSnapshot:
    names = ("partition_status", "tasks", "x_attempts")
    return StateSnapshot(REVISION, {name: TableRows.of(TABLES[name], rows.get(name, [])) for name in names})


def stands(found: AssetStands, key: str) -> dict[str | None, str]:
    return {one.key: one.verdict.state.value for one in found.stands(key, 0, found.count(key))}


DAYS = {"kind": "daily", "start": "2024-01-01"}
HOURS = {"kind": "hourly", "start": "2024-01-01T00"}


def day(number: int) -> str:
    return f"2024-01-{number + 1:02}"


def test_days_up_to_the_open_one() -> None:
    rows = [partition_row("raw", day(number), START_MS + (number + 1) * DAY_MS) for number in range(31)]
    del rows[4]
    found = AssetStands(snapshot(partition_status=rows), manifest(asset("raw", partitions=DAYS)), NOW_MS)
    assert found.count("raw") == 41
    states = stands(found, "raw")
    assert states[day(3)] == "CURRENT"
    assert states[day(4)] == "NEVER_MATERIALIZED"
    assert states["2024-02-09"] == "NEVER_MATERIALIZED"
    assert states["2024-02-10"] == "OPEN"
    counts = found.counts("raw", 10_000)
    assert (counts.counted, counts.stale, counts.latest_ms) == (41, 10, START_MS + 31 * DAY_MS)
    assert counts.states == {"CURRENT": 30, "NEVER_MATERIALIZED": 10, "OPEN": 1}
    latest = found.counts("raw", 5)
    assert (latest.partitions, latest.counted, latest.stale) == (41, 5, 4)
    assert [one.key for one in itertools.islice(found.latest_first("raw", 41), 2)] == ["2024-02-10", "2024-02-09"]


def test_an_asset_without_partitions_goes_by_its_last_task_that_succeeded() -> None:
    rows = {
        "tasks": [
            task_row("run_1", "report", "SUCCEEDED", 10),
            task_row("run_2", "report", "SUCCEEDED", 30),
            task_row("run_3", "report", "FAILED", 50),
        ],
        "x_attempts": [attempt_row("run_1", "report", "1"), attempt_row("run_2", "report", "2")],
    }
    found = AssetStands(snapshot(**rows), manifest(asset("report", code_version="2"), asset("other")), NOW_MS)
    (one,) = found.stands("report", 0, 1)
    assert (one.made, one.run_id, one.verdict.state) == (Materialization(30, "2"), "run_2", "CURRENT")
    changed = AssetStands(snapshot(**rows), manifest(asset("report", code_version="3")), NOW_MS)
    assert stands(changed, "report") == {None: "CODE_CHANGED"}
    assert stands(found, "other") == {None: "NEVER_MATERIALIZED"}


def test_what_depends_on_all_of_an_asset() -> None:
    rows = [partition_row("raw", key, at) for key, at in (("eu", 10), ("us", 30), ("gone", 99))]
    tasks = [task_row("run_1", "report", "SUCCEEDED", 20)]
    static = {"kind": "static", "keys": ["us", "eu"]}
    known = manifest(asset("raw", partitions=static), asset("report", "raw"))
    found = AssetStands(snapshot(partition_status=rows, tasks=tasks), known, NOW_MS)
    (one,) = found.stands("report", 0, 1)
    assert (one.verdict.state, one.verdict.since_ms, one.verdict.upstream) == ("UPSTREAM_CHANGED", 30, "raw")
    with_gap = AssetStands(snapshot(partition_status=rows[1:], tasks=tasks), known, NOW_MS)
    assert stands(with_gap, "report") == {None: "UPSTREAM_NEVER_MATERIALIZED"}


@pytest.mark.parametrize("seed", range(12))
def test_as_a_literal_reading_says(seed: int) -> None:
    """Days over hours, over days and over days from another start: each partition judged from everything at once."""
    chance = random.Random(seed)
    known = manifest(
        asset("hours", partitions=HOURS),
        asset("days", partitions=DAYS, code_version="2"),
        asset("late", partitions={"kind": "daily", "start": "2024-01-20", "end": "2024-02-01"}),
        {
            "key": "mart",
            "partitions": DAYS,
            "code_version": "2",
            "freshness_ms": 5 * DAY_MS,
            "dependencies": [
                {"asset": "hours"},
                {"asset": "days", "mapping": {"kind": "window", "start_offset": -2, "end_offset": 0}},
                {"asset": "late"},
            ],
        },
    )
    at: dict[tuple[str, str], int] = {}
    for key in ("hours", "days", "late", "mart"):
        partitions = next(one.partitions for one in known.assets if one.key == key)
        assert partitions is not None
        for position in range(41 * 24 if key == "hours" else 12 if key == "late" else 41):
            if chance.random() < 0.97:
                delay = chance.randrange(3) * DAY_MS * (key == "mart") + chance.randrange(DAY_MS)
                window = partitions.window(partitions.key_at(position))
                assert window is not None
                at[key, partitions.key_at(position)] = int(window[1].timestamp() * 1_000) + delay
    version = {name: chance.choice(["1", "2", "2", None]) for name in at}
    rows = [partition_row(*name, made, version[name]) for name, made in at.items()]
    found = AssetStands(snapshot(partition_status=rows), known, NOW_MS)

    def needs(number: int) -> list[UpstreamPart]:
        days = [DAY_KEYS[one] for one in range(max(0, number - 2), number + 1)]
        hours = [f"{DAY_KEYS[number]}T{hour:02}" for hour in range(24)]
        late = [DAY_KEYS[number]] if 19 <= number < 31 else []
        return [part("hours", hours), part("days", days), part("late", late)]

    def part(key: str, keys: list[str]) -> UpstreamPart:
        times = [at.get((key, one)) for one in keys]
        return UpstreamPart(key, max((one for one in times if one is not None), default=None), None in times)

    literal = {}
    for number, key in enumerate(DAY_KEYS[:40]):
        made = at.get(("mart", key))
        literal[key] = judge(
            None if made is None else Materialization(made, version["mart", key]),
            code_version="2",
            upstream=needs(number),
            freshness_ms=5 * DAY_MS,
            ends_ms=START_MS + (number + 1) * DAY_MS,
            now_ms=NOW_MS,
        )
    assert {one.key: one.verdict for one in found.stands("mart", 0, 40)} == literal
    assert len({one.state for one in literal.values()}) >= 3


DAY_KEYS = [f"2024-01-{one:02}" for one in range(1, 32)] + [f"2024-02-{one:02}" for one in range(1, 12)]


def test_what_lies_above_a_task_is_seen_through_it() -> None:
    rows = [
        *(partition_row("raw", day(number), at) for number, at in ((0, 10), (1, 30))),
        *(partition_row("mart", day(number), 20) for number in (0, 1)),
    ]
    known = manifest(asset("raw", partitions=DAYS), asset("mart", "scaled", partitions=DAYS))
    plain = known.model_dump(mode="json")
    days = [{**asset("scaled", "raw", partitions=DAYS), "location": "here"}]
    through = DeployedManifest.model_validate(plain | {"tasks": days})
    found = AssetStands(snapshot(partition_status=rows), through, NOW_MS)
    assert sorted(found.assets) == ["mart", "raw"]
    first, second = found.stands("mart", 0, 2)
    assert first.verdict.state == "CURRENT"
    assert (second.verdict.state, second.verdict.upstream) == ("UPSTREAM_CHANGED", "raw")
    # A task without partitions needs all that there is, of every partition.
    whole = [{**asset("scaled", "raw"), "location": "here"}]
    found = AssetStands(
        snapshot(partition_status=rows), DeployedManifest.model_validate(plain | {"tasks": whole}), NOW_MS
    )
    assert next(found.stands("mart", 0, 1)).verdict.state == "UPSTREAM_NEVER_MATERIALIZED"


def test_windows_in_a_row_through_a_task_mean_nothing() -> None:
    hours = {"kind": "window", "start_offset": -1, "end_offset": 0}
    known = manifest(asset("raw", partitions=DAYS), asset("mart", "scaled", partitions=DAYS))
    plain = known.model_dump(mode="json")
    plain["assets"][1]["dependencies"][0]["mapping"] = hours
    tasks = [
        {"key": "scaled", "partitions": DAYS, "location": "here", "dependencies": [{"asset": "raw", "mapping": hours}]}
    ]
    found = NeedsOfAssets(DeployedManifest.model_validate(plain | {"tasks": tasks}))
    assert found.of("mart") == {}
    assert found.of("raw") == {}


BOTH = {
    "kind": "multi",
    "dimensions": [
        {"name": "day", "partitions": DAYS},
        {"name": "region", "partitions": {"kind": "static", "keys": ["us", "eu"]}},
    ],
}


def test_partitions_in_two_dimensions() -> None:
    made = {
        ("raw", "2024-01-01|us"): 10,
        ("raw", "2024-01-01|eu"): 30,
        ("raw", "2024-01-02|us"): 10,
        ("clean", "2024-01-01|us"): 20,
        ("clean", "2024-01-01|eu"): 20,
        ("clean", "2024-01-02|us"): 20,
        ("mart", "2024-01-01"): 25,
        ("mart", "2024-01-02"): 25,
        ("rate", "2024-01-01"): 15,
        ("rate", "2024-01-02"): 40,
    }
    known = manifest(
        asset("rate", partitions=DAYS),
        asset("raw", partitions=BOTH),
        asset("clean", "raw", "rate", partitions=BOTH),
        asset("mart", "raw", partitions=DAYS),
        asset("report", "raw"),
    )
    rows = [partition_row(key, partition, at) for (key, partition), at in sorted(made.items())]
    found = AssetStands(
        snapshot(partition_status=rows, tasks=[task_row("run_1", "report", "SUCCEEDED", 50)]), known, NOW_MS
    )
    assert found.count("raw") == 2 * found.count("rate")
    clean = {one.key: (one.verdict.state.value, one.verdict.upstream) for one in found.stands("clean", 0, 4)}
    assert clean == {
        "2024-01-01|us": ("CURRENT", None),
        "2024-01-01|eu": ("UPSTREAM_CHANGED", "raw"),
        "2024-01-02|us": ("UPSTREAM_CHANGED", "rate"),
        "2024-01-02|eu": ("NEVER_MATERIALIZED", None),
    }
    mart = [(one.verdict.state.value, one.verdict.upstream) for one in found.stands("mart", 0, 2)]
    assert mart == [("UPSTREAM_CHANGED", "raw"), ("UPSTREAM_NEVER_MATERIALIZED", "raw")]
    (report,) = found.stands("report", 0, 1)
    assert (report.verdict.state, report.verdict.upstream) == ("UPSTREAM_NEVER_MATERIALIZED", "raw")
