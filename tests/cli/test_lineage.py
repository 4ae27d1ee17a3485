"""`springline asset lineage` and its route: how an asset was made each time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from springline.control.runs.ends import METADATA, metadata_detail
from tests.cli.conftest import Cli, Served
from tests.cli.test_runs import append
from tests.control.payloads import completed, started

FLOW = """
from springline.sdk import asset, daily
days = daily("2026-01-01")

@asset(partitions=days, code_version="v1")
def raw(context): ...

@asset
def later(): ...

@asset(partitions=days, deps=[raw])
def clean(context): ...
"""


def made(api: Served, run: str, task: str, *tables: dict[str, Any], attempt: int = 1, **more: Any) -> None:
    member = {"springline": {"tables": list(tables)}} if tables else {}
    append(api, started(task, attempt, run), completed("succeeded", task, attempt, run, **member, **more))


@pytest.fixture
def runs(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("flow.py").write_text(FLOW)
    assert cli("deploy", "flow.py").code == 0
    found: list[str] = []
    for number, day in enumerate(("2026-01-01", "2026-01-02"), 1):
        run = cli("run", "start", "*clean", "--partition", day).document["run_id"]
        made(api, run, f"raw[{day}]", {"table": "raw", "version": number}, code_version="v1")
        written = {"table": "clean", "version": 10 * number, "operation": "append", "rows": 3}
        made(api, run, f"clean[{day}]", written, {"table": "log", "version": 7})
        found.append(run)
    return found


def test_each_making_tells_run_code_versions_and_what_it_was_made_from(cli: Cli, runs: list[str]) -> None:
    document = cli("asset", "lineage", "clean").document
    by_run = {one["run_id"]: one for one in document["made"]}
    assert set(by_run) == set(runs)
    first = by_run[runs[0]]
    assert (first["task_key"], first["partition_key"], first["attempt"]) == ("clean[2026-01-01]", "2026-01-01", 1)
    assert [(one["table"], one["version"]) for one in first["tables"]] == [("clean", 10), ("log", 7)]
    assert first["upstream"] == [{"task_key": "raw[2026-01-01]", "tables": [{"table": "raw", "version": 1}]}]
    assert first["manifest_id"] == cli("asset", "show", "clean").document["manifest_id"]
    (raw,) = cli("asset", "lineage", "raw", "--partition", "2026-01-02").document["made"]
    assert (raw["run_id"], raw["code_version"], raw["upstream"]) == (runs[1], "v1", [])


def test_a_misspelt_asset_is_refused_and_one_that_left_its_file_is_not(cli: Cli, runs: list[str]) -> None:
    found = cli("asset", "lineage", "cleam")
    assert (found.code, found.error["code"]) == (2, "NOT_FOUND")
    assert "clean" in found.error["remedy"]
    Path("flow.py").write_text(FLOW.split("@asset(partitions=days, deps", maxsplit=1)[0])
    assert cli("deploy", "flow.py").code == 0
    assert len(cli("asset", "lineage", "clean").document["made"]) == len(runs)


def test_what_functions_told_is_with_their_attempts(api: Served, cli: Cli, runs: list[str]) -> None:
    task = "raw[2026-01-02]"
    attempt = completed("succeeded", task, 1, runs[1])["attempt_id"]
    note = {
        "type": "springline_attempt_noted",
        "run_id": runs[1],
        "task_key": task,
        "attempt": 1,
        "attempt_id": attempt,
    }
    metadata = {"rows": 12, "share": 0.93, "said": "good day"}
    append(api, note | {"note": METADATA, "detail": metadata_detail(metadata)}, note | {"note": "else", "detail": 3})
    told = {one["run_id"]: one["metadata"] for one in cli("asset", "lineage", "raw").document["made"]}
    assert told == {runs[0]: {}, runs[1]: metadata}
    assert cli("asset", "lineage", "raw", "-o", "csv").stdout.splitlines()[0].endswith(",from,told")
    assert cli("run", "show", runs[1]).document["metadata"] == [
        {"task_key": task, "attempt": 1, "attempt_id": attempt, "metadata": metadata}
    ]
    headers = {"Authorization": f"Bearer {os.environ['SPRINGLINE_TOKEN']}"}
    listed = httpx.get(f"{api.url}/api/v1/runs/{runs[1]}/attempts", headers=headers).json()["items"]
    assert [one["metadata"] for one in listed] == [{}, metadata]
    said = cli("explain", "attempt", runs[1], task, "1", "-o", "table").stdout
    assert "It told rows=12, share=0.93, said=good day." in " ".join(said.split())


def test_it_is_shown_in_a_line_each(cli: Cli, runs: list[str]) -> None:
    lines = cli("asset", "lineage", "clean", "--partition", "2026-01-01", "-o", "csv").stdout.splitlines()
    assert lines[0] == "made_at,partition,run,attempt,code,manifest_id,wrote,from"
    assert f",2026-01-01,{runs[0]},1," in lines[1]
    assert lines[1].endswith(',"clean@10, log@7",raw[2026-01-01] (raw@1)')
    ended = cli("asset", "lineage", "later", "-o", "table")
    assert "no run has made later" in ended.hints
