"""The tutorial, as a newcomer goes through it: in an empty folder, with files of their own, on a stack of its own."""

from __future__ import annotations

import os
from pathlib import Path

from tests.server.runbook import ROOT, Shell, matches
from tests.server.test_readme import runnable

TUTORIAL = ROOT / "docs/tutorial.md"


def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    page = tmp_path / "tutorial.md"
    page.write_text(runnable(work, page=TUTORIAL))
    kept = ("SPRINGLINE_TEMPORAL_CLI", "SPRINGLINE_CACHE_DIR")
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if name in kept or not name.startswith(("TEMPORAL_", "SPRINGLINE_"))
        },
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(ROOT),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    try:
        printed = Shell(tmp_path / "programs", tmp_path, environment).follow(page)
    except AssertionError as error:
        log = work / "dev.log"
        error.add_note(log.read_text("utf-8") if log.exists() else "no stack was started")
        raise
    told = [(block.output, text) for block, text in printed if block.output is not None]
    assert len(told) >= 8
    for output, text in told:
        assert matches(output, text), f"printed:\n{text}\nnot:\n{output}"
