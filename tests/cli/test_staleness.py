"""What is stale on the command line: counts, strips, and a run of what is stale."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from springline.cli.partitions_page import MARKS, stale_text, strip_text
from tests.cli.conftest import Cli, Served

START = (datetime.now(UTC) - timedelta(days=4)).strftime("%Y-%m-%d")
PIPELINE = f"""
from springline.sdk import asset, daily

@asset(partitions=daily(start="{START}"))
def raw(context): ...

@asset(deps=[raw], freshness="2d")
def report(): ...

@asset
def total(report): ...
"""


@pytest.fixture(autouse=True)
def deployed(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flights.py").write_text(PIPELINE)
    assert cli("deploy", "flights.py").code == 0


def test_assets_are_listed_with_what_is_stale(cli: Cli) -> None:
    found = {one["asset"]["key"]: one["staleness"] for one in cli("asset", "list").document["assets"]}
    assert (found["raw"]["partitions"], found["raw"]["stale"]) == (5, 4)
    said = cli("asset", "list", "-o", "csv").stdout
    assert "4 of 5" in said
    assert "never made" in said


def test_an_asset_is_shown_with_its_partitions(cli: Cli) -> None:
    found = cli("asset", "show", "raw").document
    assert [one["state"] for one in found["partitions"]["items"]] == ["OPEN", *["NEVER_MATERIALIZED"] * 4]
    page = cli("asset", "show", "raw", "-o", "table").stdout
    assert "○○○○·" in page
    assert "5 partitions, 4 stale" in page
    assert f"{START} to" in page
    assert "freshness" in cli("asset", "show", "report", "-o", "table").stdout
    assert "never made" in cli("asset", "show", "report", "-o", "table").stdout


def test_a_run_is_asked_for_of_what_is_stale(cli: Cli) -> None:
    ended = cli("run", "start", "raw", "--stale")
    assert ended.document["tasks"] == 4
    assert "4 stale of 1 assets" in ended.hints[0]
    with_inputs = cli("run", "start", "total", "--stale")
    # `total` takes the output of `report`, which is made with it.
    assert with_inputs.document["tasks"] == 2
    assert "1 are current and are made with them" in with_inputs.hints[0]


def test_inputs_that_are_cut_in_another_way_are_asked_for_with_their_own_partitions(cli: Cli) -> None:
    Path("flights.py").write_text(
        "from springline.sdk import asset, daily, multi_partitions, static\n"
        f"days = daily(start='{START}')\n"
        "@asset(partitions=days)\ndef raw(): ...\n"
        "@asset(partitions=multi_partitions(day=days, region=static('eu', 'us')))\ndef sales(raw): ...\n"
    )
    assert cli("deploy", "flights.py").code == 0
    ended = cli("run", "start", "sales", "--stale")
    assert (ended.code, ended.document["tasks"]) == (0, 12), ended.stderr


def test_nothing_stale_asks_for_no_run(cli: Cli) -> None:
    Path("flights.py").write_text(PIPELINE.replace(START, datetime.now(UTC).strftime("%Y-%m-%d")))
    cli("deploy", "flights.py")
    ended = cli("run", "start", "raw", "--stale")
    assert ended.document == {"stale": 0, "run_id": None}
    assert "nothing of the selection is stale" in ended.hints[0]
    assert cli("run", "list").document["runs"] == []


def test_wrong_selections_are_refused(cli: Cli) -> None:
    assert cli("run", "start", "rax", "--stale").error["field"] == "select"
    assert cli("run", "start", "raw", "--stale", "--partition", START).error["field"] == "--partition"


def partition(key: str | None, state: str, **more: Any) -> dict[str, Any]:
    known = {"upstream": None, "stale_since": None, "materialized_at": None, "run_id": None, "last_attempt": None}
    stale = state not in ("CURRENT", "OPEN")
    return {"partition_key": key, "state": state, "stale": stale, **known, **more}


def test_a_strip_tells_every_state_without_colours() -> None:
    items = [partition(f"p{number}", state) for number, state in enumerate(MARKS) if state != "FAILED"]
    failed = {"run_id": "run_9", "at": "2025-01-01T00:00:00Z", "outcome": "failed"}
    items.append(partition("p9", "NEVER_MATERIALIZED", last_attempt=failed))
    said = strip_text({"partitions": 1_000, "items": list(reversed(items))})
    assert said.splitlines()[:3] == ["the last 8 of 1,000 partitions, 6 stale", "■·○◆◌▲◷✗", "p0 to p9"]
    assert all(meaning in said for _, _, meaning in MARKS.values())
    assert "failed 2025-01-01T00:00:00Z in run run_9" in said
    assert "... and 1 more" in said
    assert len({sign for sign, _, _ in MARKS.values()}) == len(MARKS)


def test_names_steer_no_terminal() -> None:
    said = strip_text({"partitions": 1, "items": [partition("\x1b[31mred", "UPSTREAM_CHANGED", upstream="\x1bup")]})
    assert "\x1b" not in said


def test_counts_in_a_word() -> None:
    counts = {"partitions": 90, "counted": 60, "stale": 3, "states": {"CURRENT": 57, "CODE_CHANGED": 3}}
    assert stale_text(counts) == "3 of the last 60"
    assert stale_text(counts | {"stale": 0}) == "no"
    assert stale_text(None) is None
