"""`schedule(...)`: what it declares, and everything that is wrong with it, at once and with its line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from springline.sdk import Schedule, asset, daily, schedule, weekly
from springline.sdk.describing import described
from springline.sdk.loading import examine
from springline.sdk.resolving import resolve


@asset
def raw() -> int:
    return 1


@asset
def report(raw: int) -> int:
    return raw


@asset(partitions=daily(start="2024-01-01"))
def by_day() -> None: ...


@asset(partitions=weekly(start="2024-01-01"))
def by_week() -> None: ...


def said(*schedules: Schedule) -> list[str]:
    problems = resolve([raw, report, by_day, by_week], schedules).problems
    return [f"{one.message}. {one.remedy}" for one in problems]


def test_a_schedule_is_declared_with_its_defaults() -> None:
    one = schedule("nightly", "0 4 * * *", timezone="Europe/Oslo", select="*report, raw")
    assert (one.cron, one.interval_seconds, one.timezone, one.select) == (
        "0 4 * * *",
        None,
        "Europe/Oslo",
        ["*report", "raw"],
    )
    assert (one.catchup_window_minutes, one.max_catchup_ticks, one.overlap, one.max_active_runs) == (
        1_440,
        10,
        "allow",
        None,
    )
    assert said(one) == []
    other = schedule("often", every=timedelta(minutes=15), select=[report, "raw"], jitter="1m", overlap="queue_one")
    assert (other.interval_seconds, other.select, other.jitter_seconds) == (900, ["report", "raw"], 60)
    assert said(other) == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"select": raw}, "cannot be: it has neither a cron line nor an interval"),
    ({"cron": "@daily", "every": "1h", "select": raw}, "cannot be: it has both"),
    ({"cron": "0 25 * * *", "select": raw}, "cannot be: cron '0 25 * * *' has 25 in its hour '25'"),
    ({"cron": 5, "select": raw}, "has cron 5, which is no text"),
    ({"every": "15", "select": raw}, "has every '15', which"),
    ({"every": "500ms", "select": raw}, "has every '500ms', which is out of range"),
    ({"cron": "@daily", "timezone": "Europe/Olso", "select": raw}, "Did you mean Europe/Oslo"),
    ({"cron": "@daily"}, "selects nothing"),
    ({"cron": "@daily", "select": []}, "selects 0 terms"),
    ({"cron": "@daily", "select": 5}, "selects 5, which is no asset"),
    ({"cron": "@daily", "select": "rwa"}, "cannot be: the selection 'rwa' names no asset. Did you mean raw?"),
    ({"cron": "@daily", "select": "report"}, "takes the output of raw, and not raw. Select raw too"),
    ({"cron": "@daily", "select": [by_day, by_week]}, "whose days or weeks differ"),
    ({"cron": "@daily", "select": raw, "overlap": "none"}, "has overlap 'none', which there is not"),
    ({"cron": "@daily", "select": raw, "max_catchup_ticks": 0}, "has max_catchup_ticks 0, which is out of range"),
    ({"cron": "@daily", "select": raw, "max_active_runs": True}, "which is no whole number"),
    ({"cron": "@daily", "select": raw, "catchup_window": "1s"}, "has catchup_window '1s', which is out of range"),
    ({"cron": "@daily", "select": raw, "jitter": "2d"}, "has jitter '2d', which is out of range"),
    ({"cron": "@daily", "select": raw, "tz": "UTC"}, "has the unknown option tz. Did you mean timezone?"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_what_is_wrong_is_told_and_raises_nothing(options: dict[str, Any], message: str) -> None:
    (told,) = said(schedule("nightly", **options))
    assert told.startswith("schedule nightly ")
    assert message in told


def test_ids_are_checked_and_unique() -> None:
    told = said(
        schedule("a/b", "@daily", select=raw), schedule("c", "@daily", select=raw), schedule("c", "@daily", select=raw)
    )
    assert "has an id that holds '/'" in told[0]
    assert "has the id of the schedule at test_schedules.py:" in told[1]


FILE = """
from springline.sdk import asset, schedule

@asset
def raw(): ...

nightly = schedule("nightly", "0 4 * * *", select=raw)
schedule("unbound", every="15m", select="*")
"""


def test_a_file_declares_schedules_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "flights.py"
    file.write_text(FILE)
    found = described(examine(file))
    assert found["problems"] == []
    assert [one["schedule_id"] for one in found["schedules"]] == ["nightly", "unbound"]
    assert found["schedules"][1] == {
        "schedule_id": "unbound",
        "interval_seconds": 900,
        "timezone": "UTC",
        "select": ["*"],
        "catchup_window_minutes": 1_440,
        "max_catchup_ticks": 10,
        "overlap": "allow",
    }
    file.write_text(FILE.replace("0 4 * * *", "0 4 * *"))
    (problem,) = described(examine(file))["problems"]
    assert (problem["line"], problem["asset"]) == (7, None)
    assert "has 4 fields" in problem["message"]
