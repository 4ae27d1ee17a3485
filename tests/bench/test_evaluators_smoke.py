"""The benchmark of schedules: what needs no stack is measured small, and figures are judged and written down."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from bench import evaluators, failover
from bench.evaluators import THRESHOLDS, judged
from bench.evaluators_pure import decisions_a_second, pass_ms


def test_what_needs_no_stack_is_measured() -> None:
    assert decisions_a_second(schedules=3, instants=5) > 0
    assert pass_ms(400, 100) > 0


def test_figures_are_judged_by_their_limit() -> None:
    rate = next(one for one in THRESHOLDS if one.is_rate)
    time = next(one for one in THRESHOLDS if not one.is_rate)
    assert [judged(rate, rate.limit + more, 1.0).passed for more in (-1, 0, 1)] == [False, True, True]
    assert [judged(time, time.limit + more, 1.0).passed for more in (-0.01, 0, 0.01)] == [True, True, False]
    assert judged(time, None, 1.0, "too slow").passed is False
    assert all(one.why for one in THRESHOLDS)


def test_one_document_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "evaluators.json"
    monkeypatch.setattr(evaluators, "decisions_a_second", lambda: 60_000.0)
    assert evaluators.main(["--only", "decisions", "--out", str(out)]) == 0
    found = orjson.loads(out.read_bytes())
    (figure,) = found["figures"]
    assert (found["passed"], figure["name"], figure["value"], figure["passed"]) == (True, "decisions", 60_000.0, True)
    monkeypatch.setattr(evaluators, "decisions_a_second", lambda: 1.0)
    assert evaluators.main(["--only", "deci*", "--out", str(out)]) == 1
    assert evaluators.main(["--only", "other", "--out", str(out)]) == 2


def test_kills_are_judged_by_their_p99() -> None:
    good = failover.document_of([0.5] * 49 + [2.9])
    assert (good["passed"], good["kills"], good["p50_s"], good["p99_s"]) == (True, 50, 0.5, 2.9)
    assert failover.document_of([0.5] * 49 + [3.1])["passed"] is False
