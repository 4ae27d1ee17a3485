"""The comparison of instants: we name what is right by hand, peers' programs are programs, and what differs is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import instants
from bench.instants import CASES, OURS, Case, document_of, ours, told
from bench.instants_peers import PROGRAMS, answered_by, seconds
from springline.local.run import ToolFailed


def test_we_name_what_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "instants.json"
    assert instants.main(["--only", OURS, "--out", str(out)]) == 0
    assert f"{OURS}: {len(CASES)} of {len(CASES)}" in capsys.readouterr().out
    assert json.loads(out.read_text())["right"] == {OURS: len(CASES)}


def test_a_lost_a_doubled_and_an_accepted_line_are_noticed() -> None:
    answers = [ours(case.asked) for case in CASES]
    for at, case in enumerate(CASES):
        answer = answers[at]
        if isinstance(answer, str):
            wrong = [seconds(case.start)]
            assert not document_of({OURS: [*answers[:at], wrong, *answers[at + 1 :]]})["passed"]
            continue
        for changed in (answer[:-1], [*answer[:1], answer[0] + 1, *answer[1:]], "refused"):
            assert not document_of({OURS: [*answers[:at], changed, *answers[at + 1 :]]})["passed"], case


def test_instants_are_told_on_the_clock_of_their_zone() -> None:
    case = Case("x", "30 2 * * *", "Europe/Oslo", "2026-03-28T23:00", "2026-03-29T22:00", ())
    assert told(case, [seconds("2026-03-29T01:00")]) == "29 Mar 03:00+02:00"
    assert told(case, []) == "none"
    assert told(case, [0, 900, 1_800, 5_400]) == "4 times, 0:15:00 to 1:00:00 apart"
    assert told(case, "ValueError: no line") == "fails"


@pytest.mark.parametrize("peer", list(PROGRAMS))
def test_the_programs_of_peers_are_programs(peer: str) -> None:
    compile(PROGRAMS[peer][1], "named.py", "exec")


def test_a_peer_is_asked_through_its_program(tmp_path: Path) -> None:
    program = PROGRAMS["Prefect"][1]
    functions = program[program.index("\n\n") : program.index("answers = []")]
    fake = """
def instants(line, zone, start, end):
    if line == "bad":
        raise ValueError("no  line")
    yield from (start - 1, start, end - 1, end)
"""
    asked = [("good", "UTC", 10, 20), ("bad", "UTC", 10, 20)]
    answers = answered_by(Path(sys.executable), program.replace(functions, f"\n{fake}\n"), asked, tmp_path)
    assert answers == [[10, 19], "ValueError: no line"]
    with pytest.raises(ToolFailed, match="names no instants"):
        answered_by(Path(sys.executable), "raise SystemExit(3)", asked, tmp_path)
