"""Save the histories of workflow tests that have none yet: `python -m tests.workflows.record_histories [--anew]`.

What is saved stays: it stands for the runs that users have under way at a deploy, made by the code of its day.
`--anew` replaces everything, for a change that running workflows need not survive.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("histories")


def main() -> int:
    """Run the tests of this folder with recording on; return pytest's exit code."""
    FOLDER.mkdir(exist_ok=True)
    if "--anew" in sys.argv[1:]:
        for old in FOLDER.glob("*.json"):
            old.unlink()
    with tempfile.TemporaryDirectory() as made:
        os.environ["SPRINGLINE_RECORD_HISTORIES"] = made
        code = pytest.main([str(Path(__file__).parent), "-q", "-p", "no:xdist", "-m", "not replays and not full"])
        for file in Path(made).glob("*.json"):
            if not (FOLDER / file.name).exists() and not any(FOLDER.glob(f"{scenario_of(file)}--[0-9]*.json")):
                (FOLDER / f"{file.stem}.new").write_text(file.read_text())
    for file in FOLDER.glob("*.new"):
        print(f"saved {file.stem}")
        file.rename(file.with_suffix(".json"))
    return code


def scenario_of(file: Path) -> str:
    """Return the name of the test that a history was made by."""
    return file.stem.rpartition("--")[0]


if __name__ == "__main__":
    sys.exit(main())
