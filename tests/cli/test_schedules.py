"""`springline schedule ...` and deploys with schedules: documents for programs, tables for people."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from springline.cli.schedules_page import duration_text, schedules_text
from springline.client import Springline
from tests.cli.conftest import Cli, Served

PIPELINE = """
from springline.sdk import asset, daily, schedule

@asset(partitions=daily(start="2024-01-01"))
def raw(context): ...

@asset(deps=[raw])
def report(): ...

nightly = schedule("nightly", "0 4 * * *", timezone="Europe/Oslo", select="*report")
often = schedule("often", every="15m", select=raw, overlap="skip", jitter="30s")
"""


@pytest.fixture(autouse=True)
def deployed(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flights.py").write_text(PIPELINE)
    assert cli("deploy", "flights.py").code == 0


def test_a_deploy_tells_of_schedules(cli: Cli) -> None:
    Path("flights.py").write_text(PIPELINE.replace("0 4 * * *", "0 5 * * *").replace("often = ", "# often = "))
    page = cli("deploy", "flights.py", "-o", "table", "--dry-run").stdout
    assert "~ schedule nightly" in page
    assert "cron: 0 4 * * * -> 0 5 * * *" in page
    assert "- schedule often" in page
    found = cli("deploy", "flights.py").document
    assert found["schedules"]["removed"] == ["often"]
    assert cli("deploy", "flights.py").document["deployed"] is False


def test_a_deploy_tells_whose_schedules_it_takes_over_and_which_stay_paused(api: Served, cli: Cli) -> None:
    assert cli("deploy", "flights.py").hints == []
    lake = Springline()
    lake.schedules.define("hourly", "raw", cron="0 * * * *")
    lake.schedules.pause("hourly")
    Path("flights.py").write_text(PIPELINE + 'hourly = schedule("hourly", "30 * * * *", select=raw)\n')
    for more in (["--dry-run"], []):
        taken, paused = cli("deploy", "flights.py", *more).hints
        assert "schedule hourly was defined over HTTP" in taken
        assert "`springline schedule resume hourly` turns it on" in paused
    (paused,) = cli("deploy", "flights.py").hints
    assert "hourly is paused" in paused


def test_schedules_are_listed_and_shown(cli: Cli) -> None:
    found = cli("schedule", "list").document["schedules"]
    assert [one["schedule_id"] for one in found] == ["nightly", "often"]
    table = cli("schedule", "list", "-o", "table").stdout
    assert "every 15m" in table
    assert "0 4 * * *" in table
    page = cli("schedule", "show", "often", "-o", "table").stdout
    for said in ("every 15m", "skip", "30s", "flights", "the last 10 of 1440 min"):
        assert said in page
    assert len(cli("schedule", "show", "nightly").document["upcoming"]) == 3


def test_what_left_its_file_is_listed_on_demand(cli: Cli) -> None:
    Path("flights.py").write_text(PIPELINE.replace("often = ", "# often = "))
    cli("deploy", "flights.py")
    assert [one["schedule_id"] for one in cli("schedule", "list").document["schedules"]] == ["nightly"]
    assert "gone" in cli("schedule", "list", "--all", "-o", "csv").stdout


def test_a_schedule_is_paused_triggered_and_resumed(cli: Cli) -> None:
    assert cli("schedule", "pause", "nightly").document["enabled"] is False
    assert "paused" in cli("schedule", "list", "-o", "table").stdout
    run = cli("schedule", "trigger", "nightly")
    assert run.document["tasks"] == 2
    assert "springline run show" in run.hints[0]
    assert cli("schedule", "resume", "nightly").document["enabled"] is True
    (tick,) = cli("schedule", "history", "nightly").document["ticks"]
    assert tick["run_id"] == run.document["run_id"]
    assert cli("schedule", "history", "nightly", "--status", "skipped").document["ticks"] == []
    assert "triggered" in cli("schedule", "history", "nightly", "-o", "table").stdout


def test_a_schedule_that_no_file_declares_is_deleted(cli: Cli) -> None:
    lake = Springline()
    for name in ("hourly", "daily"):
        lake.schedules.define(name, "raw", cron="0 * * * *")
    assert lake.schedules.delete("daily")["changed"] is True
    assert cli("schedule", "delete", "hourly").document["enabled"] is False
    assert [one["schedule_id"] for one in cli("schedule", "list").document["schedules"]] == ["nightly", "often"]
    assert "deleted" in cli("schedule", "show", "hourly", "-o", "table").stdout
    assert "deleted" in cli("schedule", "list", "--all", "-o", "csv").stdout
    assert cli("schedule", "delete", "nightly").code == 3


def test_triggering_under_a_key_is_one_run(cli: Cli) -> None:
    first, again = (cli("schedule", "trigger", "nightly", "--key", "month end") for _ in range(2))
    assert again.document["run_id"] == first.document["run_id"]
    assert (again.code, "asked for before" in again.hints[0]) == (0, True)
    assert len(cli("schedule", "history", "nightly").document["ticks"]) == 1
    at = cli("schedule", "history", "nightly").document["ticks"][0]["scheduled_for"]
    assert first.document["run_key"] in cli("explain", "schedule", "nightly", "--at", at).document["answer"]


def test_a_preview_of_a_line_begins_where_it_is_told(cli: Cli) -> None:
    line = ("schedule", "preview", "--cron", "30 2 * * *", "--timezone", "Europe/Oslo")
    for after in ("2025-03-29T12:00:00Z", "2025-03-29T13:00:00.5+01:00"):
        found = cli(*line, "--after", after, "-n", "2").document["items"]
        assert [one["local"] for one in found] == ["2025-03-30T03:00:00+02:00", "2025-03-31T02:30:00+02:00"]
    assert (
        cli(*line, "--after", "2025-03-30T01:00:00Z", "-n", "1").document["items"][0]["due_at"].startswith("2025-03-31")
    )


def test_a_preview_has_as_many_instants_as_it_is_asked_for(cli: Cli) -> None:
    for line in ("@yearly", "0 0 29 2 *", "0 0 29 2 1"):
        assert len(cli("schedule", "preview", "--cron", line, "-n", "100").document["items"]) == 100


def test_a_preview_is_of_a_schedule_or_of_a_line(cli: Cli) -> None:
    found = cli("schedule", "preview", "nightly", "-n", "1", "--after", "2025-03-29T12:00:00Z").document
    assert found["items"][0]["local"] == "2025-03-30T04:00:00+02:00"
    assert found["items"][0]["partitions"] == ["2025-03-29"]
    line = cli("schedule", "preview", "--cron", "30 2 * * *", "--timezone", "Europe/Oslo", "-n", "3").document
    assert len(line["items"]) == 3
    assert "+0" in cli("schedule", "preview", "--cron", "@daily", "--timezone", "Europe/Oslo", "-o", "table").stdout


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["preview"], "SCHEDULE"),
        (["preview", "nightly", "--cron", "@daily"], "SCHEDULE"),
        (["preview", "--cron", "0 25 * * *"], "--cron"),
        (["preview", "--cron", "@daily", "--timezone", "Mars"], "--timezone"),
        (["preview", "nightly", "-n", "0"], "--count"),
        (["preview", "nightly", "--timezone", "Asia/Tokyo"], "--timezone"),
        (["preview", "--cron", "@daily", "--after", "yesterday"], "--after"),
        (["preview", "--cron", "@daily", "--after", "9999-12-31T23:59:60Z"], "--after"),
        (["preview", "--cron", "@daily", "--after=-0044-03-15T00:00:00Z"], "--after"),
        (["preview", "--cron", "@daily", "--after", "2025-03-30T02:30:00"], "--after"),
        (["preview", "nightly", "--after", "yesterday"], "after"),
        (["show", "nope"], "schedule_id"),
        (["history", "nope"], "schedule_id"),
        (["pause", "nope"], "schedule_id"),
        (["trigger", "a/b"], "SCHEDULE"),
        (["history", "nightly", "--status", "odd"], "status"),
    ],
)
def test_bad_input_is_refused_by_its_field(cli: Cli, arguments: list[str], field: str) -> None:
    ended = cli("schedule", *arguments)
    assert ended.code == 2
    assert ended.error["field"].startswith(field)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, None),
        (12, "12ms"),
        (1_500, "1.5s"),
        (30_000, "30s"),
        (61_000, "1m1s"),
        (900_000, "15m"),
        (5_400_000, "90m"),
        (86_400_000, "1d"),
    ],
)
def test_durations_are_short(ms: int | None, text: str | None) -> None:
    assert duration_text(ms) == text


def _listed(next_due_at: str | None, **more: Any) -> dict[str, Any]:
    one = {"schedule_id": "nightly_of_all", "cron_expression": "*/20 * * * * *", "timezone": "Europe/Oslo"}
    return one | {"enabled": False, "next_due_at": next_due_at} | more


@pytest.mark.parametrize(
    ("next_due_at", "text"),
    [
        ("2026-01-01T00:00:59Z", " 59s "),
        ("2026-01-02T01:00:00Z", " 25h "),
        ("2028-02-29T00:00:00Z", " 789 d "),
        ("2025-12-31T23:59:50Z", " its jitter "),
        (None, " - "),
    ],
)
def test_the_list_says_how_far_off_the_next_instant_is(next_due_at: str | None, text: str) -> None:
    assert text in schedules_text([_listed(next_due_at)], datetime(2026, 1, 1, tzinfo=UTC))


def test_the_next_instant_is_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    last = {"last": {"last_scheduled_for": "2026-11-30T20:04:00Z"}, "asset_selection": ["plain"]}
    text = schedules_text([_listed("2026-11-30T20:05:00Z", **last)], datetime(2026, 11, 30, 20, 4, 58, tzinfo=UTC))
    assert max(map(len, text.splitlines())) <= 80
    assert "2026-11-30T20:05:00Z" in text
    assert " 2s" in text
    assert text.endswith("without last, select\n")
