"""`springline explain ...`: one document for programs, the answer first for people."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from springline.errors import Code
from tests.cli.conftest import Cli, Served
from tests.cli.test_schedules import PIPELINE


@pytest.fixture(autouse=True)
def deployed(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flights.py").write_text(PIPELINE)
    assert cli("deploy", "flights.py").code == 0


def test_a_schedule_is_explained_now_and_at_an_instant(cli: Cli) -> None:
    cli("schedule", "pause", "nightly")
    assert cli("explain", "schedule", "nightly", "--field", "verdict").stdout.strip() == "OFF"
    page = cli("explain", "schedule", "nightly", "-o", "table").stdout
    for said in ("The schedule is paused", "springline schedule resume nightly", "defined nightly: 0 4 * * *"):
        assert said in page
    late = cli("explain", "schedule", "often", "--at", "2199-12-31T23:45:00Z").document
    assert late["verdict"] == "NOT_DUE"


def test_a_run_its_task_and_its_attempt_are_explained(cli: Cli) -> None:
    run = cli("run", "start", "report").document["run_id"]
    found = cli("explain", "run", run).document
    assert (found["subject"], found["verdict"], len(found["waits_for"])) == ("run", "WAITS", 1)
    rows = cli("explain", "run", run, "-o", "csv").stdout.splitlines()
    assert rows[0] == "at,who,what,reason_code"
    assert any("RunLauncher" in row for row in rows)
    assert cli("explain", "task", run, "report").document["decisions"]
    assert cli("explain", "attempt", run, "report", "1").document["identity"] == f"{run} report 1"
    page = cli("explain", "run", run, "-o", "table").stdout
    assert "waits for (1)" in page


def test_a_partition_of_an_asset_is_explained(cli: Cli) -> None:
    found = cli("explain", "partition", "report").document
    assert (found["subject"], found["identity"], found["reason_code"]) == ("partition", "report", "NEVER_MATERIALIZED")
    assert found["next_steps"] == ["springline run start report"]
    for subject, words in (("sensor", ["s"]), ("evaluation", ["e"]), ("backfill", ["b"]), ("chunk", ["b", "0"])):
        refused = cli("explain", subject, *words)
        assert (refused.code, refused.error["code"]) == (2, Code.NOT_FOUND.value), subject


def test_the_next_command_is_one_that_a_shell_takes_as_it_is(cli: Cli) -> None:
    Path("flights.py").write_text(
        "from springline.sdk import asset, daily, multi_partitions, static\n"
        "days = daily(start='2024-01-01')\n"
        "@asset(partitions=days)\ndef raw(): ...\n"
        "@asset(partitions=multi_partitions(day=days, region=static('eu', 'us')))\ndef sales(raw): ...\n"
    )
    assert cli("deploy", "flights.py").code == 0
    found = cli("explain", "partition", "sales", "2024-01-31|eu").document
    said = "springline run start sales raw --partition '2024-01-31|eu' --partition 2024-01-31"
    assert found["next_steps"] == [said]
    assert cli(*shlex.split(said)[1:]).document["tasks"] == 2


def test_what_is_not_there_or_cannot_be_is_refused(cli: Cli) -> None:
    assert cli("explain", "run", "other").error["code"] == Code.NOT_FOUND.value
    for field, wrong in (
        ("RUN", ("run", "a/b")),
        ("SCHEDULE", ("schedule", "..")),
        ("BACKFILL", ("chunk", "a/b", "1")),
        ("ASSET", ("partition", "a/b")),
    ):
        error = cli("explain", *wrong).error
        assert (error["code"], error["field"]) == (Code.INVALID_REQUEST.value, field)
    assert cli("explain", "schedule", "often", "--at", "noon").error["field"] == "at"
