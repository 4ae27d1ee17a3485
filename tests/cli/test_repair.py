"""`springline repair run | show`: what stands still, what is done about it, and what could not be done."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from springline.control.repair import SETTLED_MS, RepairAction, RepairKind
from tests.cli.conftest import Cli, Served

PIPELINE = """
from springline.sdk import asset

@asset
def names(): ...
"""


@pytest.fixture(autouse=True)
def run(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Start a run whose workflow is gone, long enough ago."""
    monkeypatch.chdir(tmp_path)
    Path("flights.py").write_text(PIPELINE)
    assert cli("deploy", "flights.py").code == 0
    run_id: str = cli("run", "start", "names").document["run_id"]
    api.repairs.now_ms = int(time.time() * 1_000) + 2 * SETTLED_MS
    return run_id


def test_a_dry_run_changes_nothing_and_the_next_run_repairs(api: Served, cli: Cli, run: str) -> None:
    for _ in range(2):
        ended = cli("repair", "run", "--dry-run")
        (item,) = ended.document["items"]
        assert (ended.code, ended.document["dry_run"]) == (0, True)
        assert (item["kind"], item["subject"], item["times"]) == (RepairKind.RUN_WITHOUT_WORKFLOW, run, 0)
        assert item["action"] == RepairAction.START_RUN
    assert api.repairs.workflows.done == []
    (item,) = cli("repair", "run").document["items"]
    assert item["error"] is None
    assert api.repairs.workflows.done == [("start", run)]
    (item,) = cli("repair", "run").document["items"]
    assert (item["action"], item["times"]) == (None, 1)
    assert api.repairs.workflows.done == [("start", run)]


def test_what_cannot_be_repaired_or_looked_at_is_told_with_code_4(api: Served, cli: Cli, run: str) -> None:
    api.repairs.workflows.broken.add(run)
    ended = cli("repair", "run")
    (item,) = json.loads(ended.stdout)["items"]
    assert (ended.code, item["error"]) == (4, "no way to it")
    api.repairs.workflows.open = None
    ended = cli("repair", "run")
    assert ended.code == 4
    trouble = json.loads(ended.stdout)["trouble"]
    assert trouble == ["workflows of ended runs were not looked for: there is no index"]
    assert ended.hints == trouble


def test_people_see_a_table(cli: Cli, run: str) -> None:
    text = cli("repair", "run", "--dry-run", "-o", "table").stdout
    assert "1 active run(s), 0 waiting request(s), 1 finding(s) would be repaired" in text
    assert "run_without_workflow" in text
    rows = cli("repair", "run", "-o", "csv").stdout.splitlines()
    assert rows[0] == "kind,subject,since,why,action,times,error"
    assert rows[1].startswith(f"run_without_workflow,{run},")
    assert "none until" in cli("repair", "run", "-o", "csv").stdout


def test_show_tells_of_the_last_look(api: Served, cli: Cli) -> None:
    ended = cli("repair", "show")
    assert (ended.code, ended.document["running"], ended.document["last"]) == (0, True, None)
    cli("repair", "run")
    found = cli("repair", "show").document
    assert (found["passes"], len(found["last"]["items"])) == (1, 1)
    assert "1 look(s)" in cli("repair", "show", "-o", "table").stdout


def test_show_says_if_nothing_looks_after_the_workspace(api: Served, cli: Cli) -> None:
    api.repairs.is_away = True
    ended = cli("repair", "show")
    assert (ended.code, json.loads(ended.stdout)["running"]) == (4, False)
    assert "nothing looks after the workspace" in ended.hints[0]


def test_a_workspace_in_order_is_told_so(api: Served, cli: Cli, run: str) -> None:
    cli("run", "cancel", run)
    text = cli("repair", "run", "-o", "table").stdout
    assert "0 active run(s), 0 waiting request(s), and nothing stands still that should not" in text
