"""The rebuild benchmark: a small cell runs, is checked and written down, and what is compared is told."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from bench import rebuild
from bench.rebuild_run import Measured, Workbench


def test_a_cell_runs_is_verified_and_is_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rebuild.json"
    assert rebuild.main(["--events", "2000", "--only", "objects-2k-w1", "--out", str(out)]) == 0
    (row,) = orjson.loads(out.read_bytes())
    assert (row["cell"], row["events"], row["workers"], row["right"]) == ("objects-2k-w1", 2_000, 1, True)
    assert row["events_per_s"] > 0
    assert 0 < row["share"] < 1
    assert row["read_s"] > 0
    assert row["fold_s"] > 0
    assert "objects-2k-w1" in capsys.readouterr().out


def test_a_wrong_state_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Workbench, segments: bool, workers: int, latency_s: float) -> Measured:
        return Measured(seconds=1.0, read_s=0.1, fold_s=0.1, peak_mib=1.0, right=False)

    monkeypatch.setattr(Workbench, "measure", wrong)
    options = ["--events", "1000", "--only", "segments-1k-w2", "--out", str(tmp_path / "rebuild.json")]
    assert rebuild.main(options) == 1


def test_an_unknown_cell_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert rebuild.main(["--only", "nothing"]) == 2
    assert "no cell is called nothing" in capsys.readouterr().out
