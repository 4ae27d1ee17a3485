"""The benchmark of runs: a small one runs, is checked and written down; what is compared and what is wrong is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench import runs
from bench.runs import AGED, FIGURES, OURS, ratios
from bench.runs_side import CHAIN, WIDE, Ended, Figures, Measuring, Sizes, Span, children_cpu_seconds, problem_of

SIZES = Sizes(runs=2, tasks=2, single=0, chain=3, idle=1)


def figures(**changed: Any) -> Figures:
    """Return figures that meet every target, but for what is changed."""
    good = Figures(SIZES, 60, 25, 50, 25, 150, 500, load=1.0, problems=[])
    return replace(good, **changed)


class Recorded:
    """An orchestrator that does nothing and has on record what it is told to; all of it began at 1,000,000 s."""

    def __init__(self, *, lost: str = "", overlap: bool = False) -> None:
        self.lost = lost
        self.hop_s = 0.5 if overlap else 2.0
        self.asked: list[str] = []

    def start(self, flow: str) -> str:
        self.asked.append(flow)
        return f"{flow}-{len(self.asked)}"

    def over(self, run_ids: Sequence[str]) -> bool:
        return all(run_ids)

    def read(self, run_id: str) -> Ended:
        flow = run_id.partition("-")[0]
        began = [1e6 + number * self.hop_s for number in range(SIZES.flows[flow])]
        spans = [Span(f"{flow}_{number}", at, at + 1.0) for number, at in enumerate(began)]
        return Ended(True, 2e10, spans[1:] if flow == self.lost else spans)


def test_a_small_one_runs_is_checked_and_is_written_down(tmp_path: Path) -> None:
    """In a workspace with runs behind it, which a new one needs nothing for."""
    out = tmp_path / "runs.json"
    aged = AGED.format(1_100)
    sizes = ["--runs", "2", "--single", "5", "--chain", "3", "--idle", "2", "--concurrency", "2"]
    assert runs.main(["--only", aged, "--behind", "1100", *sizes, "--out", str(out)]) == 0
    found = orjson.loads(out.read_bytes())[aged]
    assert found["problems"] == []
    assert found["sizes"] == {"runs": 2, "tasks": 20, "single": 5, "chain": 3, "idle": 2}
    for name in ("tasks_per_s", "cpu_ms_a_task", "single_per_s", "single_cpu_ms_a_task", "hop_ms", "first_task_ms"):
        assert found[name] > 0, name


def test_what_is_on_record_gives_the_figures() -> None:
    side, said = Recorded(), list[str]()
    found = Measuring(side, SIZES, said.append).figures()
    assert found.problems == []
    assert found.hop_ms == pytest.approx(2_000)
    assert found.single_per_s is None, "a size of 0 is left out"
    assert found.tasks_per_s is not None
    assert 0 < found.tasks_per_s < 4 / 1e9
    assert (side.asked.count(WIDE), side.asked.count(CHAIN)) == (2, 1)
    assert len(said) == 3


@pytest.mark.parametrize(
    ("side", "said"),
    [
        (Recorded(lost=WIDE), "has 1 attempts of 1 tasks on record instead of 2"),
        (Recorded(overlap=True), "chain_1 began before chain_0 had ended, which it needs"),
    ],
)
def test_wrong_runs_are_noticed(side: Recorded, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.runs_side.RECORDED_MOST_S", -1)
    problems = Measuring(side, SIZES, lambda _line: None).figures().problems
    assert len(problems) == 2
    assert problems[0].endswith(said)


def test_a_run_must_succeed_with_each_task_made_once() -> None:
    once = [Span("a", 1.0, 2.0), Span("b", 1.0, 2.0)]
    assert problem_of(Ended(True, 3.0, once), 2) is None
    assert problem_of(Ended(False, 3.0, once), 2) == "did not succeed"
    assert problem_of(Ended(True, 3.0, [*once, once[0]]), 2) == "has 3 attempts of 2 tasks on record instead of 2"


def test_processor_time_of_children_counts_when_they_have_ended() -> None:
    before = children_cpu_seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert children_cpu_seconds() - before >= 0.25


def test_targets_and_ratios() -> None:
    assert all(figure.met(figures()) for figure in FIGURES)
    assert [figure.met(figures(tasks_per_s=59.9, first_task_ms=500.1)) for figure in FIGURES].count(False) == 2
    lines = ratios({OURS: figures(), "peer": figures(tasks_per_s=6, hop_ms=0)})
    assert lines == [
        "against peer: runs: tasks/s 10x, cpu ms/task 1x, single: tasks/s 1x, cpu ms/task 1x, first ms p50 1x"
    ]
    assert ratios({"peer": figures()}) == []


@pytest.mark.parametrize("wrong", [["--runs", "x"], ["--concurrency", "0"], ["--without-peers", "--only", "prefect"]])
def test_bad_options_are_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        runs.main(wrong)
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_an_unknown_orchestrator_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.main(["--only", "cron"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "there are springline, springline behind 100,000 runs, springline on PostgreSQL, dagster" in said
