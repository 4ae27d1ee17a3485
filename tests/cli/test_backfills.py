"""`springline backfill ...`: documents for programs, a bar for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from springline.cli.backfills_page import backfill_text, progress_line, selector_text, stale_text
from springline.control.backfills.messages import BackfillProgress
from springline.control.backfills.telling import bar, span_text
from springline.exits import EXIT_BAD_INPUT, EXIT_CONFLICT
from tests.cli.conftest import Cli, Served
from tests.cli.test_runs import append
from tests.control.payloads import chunk, chunk_ended

PIPELINE = """
from springline.sdk import asset, daily

@asset(partitions=daily(start="2024-01-01"))
def raw(context): ...
"""


@pytest.fixture(autouse=True)
def deployed(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flights.py").write_text(PIPELINE)
    assert cli("deploy", "flights.py").code == 0


def test_a_backfill_is_created_shown_halted_and_ended(cli: Cli) -> None:
    asked = ("backfill", "create", "raw", "--from", "2024-01-01", "--to", "2024-01-25", "--key", "k")
    tried = cli(*asked, "--dry-run", "--newest-first").document
    assert (tried["state"], tried["chunks"], tried["first"][0]) == ("PLANNED", 3, "2024-01-25")
    made = cli(*asked)
    name = made.document["backfill_id"]
    assert f"springline backfill watch {name}" in made.hints[-1]
    assert "asked for before" in cli(*asked).hints[0]
    assert cli(*asked, "--newest-first").code == EXIT_CONFLICT
    assert cli("backfill", "list").document["backfills"][0]["progress"]["total"] == 25
    table = cli("backfill", "list", "-o", "table").stdout
    assert "0/25" in table
    page = cli("backfill", "show", name, "-o", "table").stdout
    for said in ("2024-01-01 to 2024-01-25", "0 of 25", "25 waiting", "at most 2 at once", "oldest_first", "-10"):
        assert said in page
    assert cli("backfill", "pause", name).document["state"] == "PAUSED"
    assert cli("backfill", "resume", name).document["state"] == "RUNNING"
    assert cli("backfill", "cancel", name).document["state"] == "CANCELLED"
    watched = cli("backfill", "watch", name)
    assert (watched.code, json.loads(watched.stdout)["backfill"]["state"]) == (EXIT_CONFLICT, "CANCELLED")
    assert cli("backfill", "retry-failed", name).code == EXIT_CONFLICT
    assert cli("backfill", "list", "--state", "running").document["backfills"] == []


def test_what_a_cancelled_backfill_never_planned_is_told(api: Served, cli: Cli) -> None:
    made = cli("backfill", "create", "raw", "--from", "2024-01-01", "--to", "2024-01-25").document
    name, days = made["backfill_id"], [f"2024-01-{day:02}" for day in range(1, 11)]
    append(api, chunk(0, name, partition_keys=days))
    cli("backfill", "cancel", name)
    append(api, chunk_ended("failed", 0, name, done=7, failed=days[:2], skipped=days[2:3]))
    assert "15 never planned" in cli("backfill", "show", name, "-o", "table").stdout
    again = cli("backfill", "retry-failed", name)
    assert again.document["total_partitions"] == 3
    assert "15 partition(s) that backfill" in again.hints[0]


def test_partitions_come_from_a_file(cli: Cli) -> None:
    Path("days.txt").write_text("2024-01-03\n\n 2024-01-01 \n")
    found = cli("backfill", "create", "raw", "--partitions-from", "days.txt", "--partition", "2024-01-02").document
    assert found["total_partitions"] == 3


def test_a_year_that_is_probably_mistyped_is_told(cli: Cli) -> None:
    asked = ("backfill", "create", "raw", "--from", "2206-01-01", "--to", "2206-01-02")
    said = "partition 2206-01-01 is of the year 2206: if another one was meant, "
    assert cli(*asked, "--dry-run").hints[0] == f"{said}correct it"
    made = cli(*asked)
    assert f"{said}`springline backfill cancel {made.document['backfill_id']}` ends the backfill" in made.hints


def test_what_is_stale_is_made(cli: Cli) -> None:
    asked = ("backfill", "create", "raw", "--stale", "--from", "2024-01-01", "--to", "2024-01-04")
    tried = cli(*asked, "--dry-run")
    assert tried.document["stale"]["assets"][0]["states"] == {"NEVER_MATERIALIZED": 4}
    assert "the backfill makes what is stale: 4 stale at revision" in tried.hints[0]
    assert "nothing was written" in tried.hints[1]
    made = cli(*asked, "--reason", "never_materialized")
    assert made.document["total_partitions"] == 4
    page = cli("backfill", "show", made.document["backfill_id"], "-o", "table").stdout
    assert f"4 at revision {made.document['stale']['revision']}, for NEVER_MATERIALIZED" in page
    assert "asked by" in page
    none = cli(*asked, "--reason", "CODE_CHANGED", "--watch")
    assert (none.code, none.document["state"], none.document["backfill_id"]) == (0, "NOTHING_STALE", None)
    assert "nothing of the selection is stale" in none.hints[0]


def test_how_much_of_a_backfill_is_stale_is_told() -> None:
    asked = {"total_partitions": 7, "assets": ["clean", "raw"], "stale": {"partitions": 10, "revision": "42"}}
    said = "the backfill makes 7 partitions of 2 assets for 10 stale at revision 42: 4 are current and made with them"
    assert stale_text(asked) == said


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("create", "raw"), "nothing says which partitions"),
        (("create", "raw", "--all", "--from", "2024-01-01"), "more than one way"),
        (("create", "rwa", "--all"), "names no asset"),
        (("create", "raw", "--all", "--reason", "CODE_CHANGED"), "Give stale, too"),
        (("create", "raw", "--stale", "--reason", "OLD"), "reasons.0"),
        (("create", "raw", "--partitions-from", "none.txt"), "cannot be read"),
        (("show", "a/b"), "is no backfill's id"),
        (("show", "bf_nobody"), "holds no backfill"),
        (("pause", "bf_nobody"), "no backfill"),
    ],
)
def test_bad_input_is_told(cli: Cli, asked: tuple[str, ...], says: str) -> None:
    found = cli("backfill", *asked)
    assert found.code == EXIT_BAD_INPUT
    assert says in found.stderr


def test_a_bar_never_shows_all_before_it_is() -> None:
    far = BackfillProgress(total=1_000_000, done=999_999, running=1)
    assert bar(far, 10) == "█████████░  99 %"
    assert bar(BackfillProgress(total=4, done=2, failed=1, running=0, waiting=1), 8) == "████▒▒··  75 %"
    assert bar(BackfillProgress(), 4) == "····   0 %"
    assert bar(BackfillProgress(total=3, done=3), 3) == "███ 100 %"


@pytest.mark.parametrize(
    ("ms", "text"),
    [(None, "unknown"), (0, "0s"), (61_000, "1m01s"), (7_500_000, "2h05m"), (200_000_000, "2d07h")],
)
def test_spans_are_told(ms: int | None, text: str) -> None:
    assert span_text(ms) == text


def test_chunks_that_are_not_done_are_told_with_their_partitions() -> None:
    row: dict[str, Any] = {
        "backfill_id": "bf_1",
        "state": "FAILED",
        "asset_selection": ["raw"],
        "partition_selector": {"type": "filter", "filters": {"springline.keys": "f"}},
        "total_partitions": 6_000,
        "chunk_size": 3,
        "max_concurrent_runs": 2,
    }
    chunk = {"chunk_index": 7, "outcome": "failed", "run_id": "run_7", "failed": ["a", "b", "c"], "partition_keys": []}
    found = {"backfill": row, "chunks": [chunk], "progress": {"total": 6_000, "failed": 3, "done": 1}}
    page = backfill_text(found)
    for said in ("6000 keys", "run_7", "a .. c (3)", "springline backfill retry-failed bf_1"):
        assert said in page
    assert progress_line(found) == "FAILED: 1 of 6000 partitions done, 3 not done"
    assert selector_text(row | {"partition_selector": {"partition_keys": ["x", "y"]}}) == "x y"
    assert "bf_1" in backfill_text(found | {"progress": None})
