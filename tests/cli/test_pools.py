"""`springline pool list | show | set`: documents for programs, and what people see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Served
from tests.cli.test_runs import append
from tests.control.payloads import started

PIPELINE = """
from springline.sdk import asset, pool

warehouse = pool("warehouse", slots=1)

@asset(pool=warehouse)
def raw(): ...

@asset(pool="warehouse")
def names(): ...
"""


@pytest.fixture(autouse=True)
def deployed(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flights.py").write_text(PIPELINE)
    assert cli("deploy", "flights.py").code == 0


def test_pools_are_listed_shown_and_set(cli: Cli, api: Served) -> None:
    run = cli("run", "start", "*").document["run_id"]
    append(api, started("raw", 1, run))
    (found,) = cli("pool", "list").document["pools"]
    assert (found["pool"], found["slots"], found["taken"], found["waiting"]) == ("warehouse", 1, 1, 1)
    shown = cli("pool", "show", "warehouse").document
    assert [one["task_key"] for one in shown["holders"]] == ["raw"]
    assert cli("pool", "set", "warehouse", "4").document["slots"] == 4
    assert cli("pool", "set", "warehouse", "--declared").document["slots"] == 1
    assert "names waits for pool warehouse (1 of 1 taken)" in cli("run", "show", run, "-o", "table").stdout
    assert "warehouse" in cli("pool", "show", "warehouse", "-o", "table").stdout


def test_a_size_is_a_number_or_the_declared_one(cli: Cli) -> None:
    for arguments in (["warehouse"], ["warehouse", "3", "--declared"]):
        refused = cli("pool", "set", *arguments)
        assert (refused.code, "springline pool set warehouse 3" in refused.stderr) == (2, True)
    assert cli("pool", "set", "nothing", "3").code == 2
    assert cli("pool", "show", "a/b").code == 2


def test_a_file_whose_pool_is_not_declared_is_refused(cli: Cli) -> None:
    Path("flights.py").write_text(PIPELINE.replace('pool("warehouse"', 'pool("warehose"').replace("pool=warehouse", ""))
    answer = cli("validate", "flights.py")
    (problem,) = json.loads(answer.stdout)["problems"]
    assert (answer.code, problem["asset"], problem["line"]) == (2, "names", 9)
    assert "pool 'warehouse'" in problem["message"]
    assert "warehose" in problem["remedy"]
    assert cli("deploy", "flights.py").code == 2


def test_a_changed_pool_is_shown_before_it_is_deployed(cli: Cli) -> None:
    Path("flights.py").write_text(PIPELINE.replace("slots=1", "slots=2"))
    planned = cli("deploy", "flights.py", "--dry-run", "-o", "table")
    assert "pool warehouse slots: 1 -> 2" in planned.stdout
    assert cli("deploy", "flights.py").document["changes"]["pools"] == [{"name": "warehouse", "before": 1, "after": 2}]


def test_a_run_is_bounded(cli: Cli) -> None:
    run = cli("run", "start", "*", "--max-concurrent", "2").document["run_id"]
    assert "max_concurrent_tasks" in str(cli("run", "show", run).document["run"]["labels"])
