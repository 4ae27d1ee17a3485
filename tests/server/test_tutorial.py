"""The tutorial, as a newcomer goes through it: in an empty folder, with files of their own, on a stack of its own."""

from __future__ import annotations

from pathlib import Path

from tests.server.runbook import ROOT, matches
from tests.server.test_readme import followed

TUTORIAL = ROOT / "docs/tutorial.md"


def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    printed = followed(tmp_path, TUTORIAL)
    told = [(block.output, text) for block, text in printed if block.output is not None]
    assert len(told) >= 8
    for output, text in told:
        assert matches(output, text), f"printed:\n{text}\nnot:\n{output}"
