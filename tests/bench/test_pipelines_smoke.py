"""The benchmark of pipelines: its flows are programs, its hours those of all sides, and what is missing is noticed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import pipelines, pipelines_peers
from bench.pipelines_peers import Made, Pipeline
from bench.runs_side import Meter


def test_a_small_one_is_made_and_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(pipelines, "PLANNED", 300)
    options = ["--seconds", "0", "--hours", "1", "--concurrency", "1", "--only", "plain", "--only", "plan"]
    monkeypatch.setattr(sys, "argv", ["bench.pipelines", *options])
    assert pipelines.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plan"]["tasks"] == 300
    assert found["plain"]["complete"]
    assert found["plain"]["wall_s"] > 0
    assert found["plain"]["cpu_s"] > 0
    assert found["overhead"] == {}


def test_rows_that_are_missing_are_noticed(tmp_path: Path) -> None:
    made = pipelines.with_tables(tmp_path, pipelines.hours(1), lambda _tables: Made(1.0, 1.0, 1.0, complete=True))
    assert not made.complete


def test_hours_go_over_midnight() -> None:
    assert pipelines.hours(25)[::24] == ["2026-01-01T00", "2026-01-02T00"]


@pytest.mark.parametrize("flow", ["_DAGSTER_FLOW", "_PREFECT_FLOW"])
def test_the_flows_of_peers_are_programs(flow: str, tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, tmp_path / "tables", ["2026-01-01T00"], 10, 1_000, 0.5, 8, 60.0)
    text = pipeline._text(getattr(pipelines_peers, flow))
    compile(text, "flow.py", "exec")
    assert f'write_deltalake(f"{tmp_path}/tables/a{{number}}"' in text


def test_a_meter_counts_what_its_processes_use() -> None:
    with Meter() as meter:
        pass
    assert meter.cpu_s >= 0
    assert meter.peak_mib >= 0
