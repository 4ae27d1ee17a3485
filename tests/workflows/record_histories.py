"""Record the histories of all workflow tests anew: `python -m tests.workflows.record_histories`.

To be run, and its result looked at, only when workflow code changed in a way that running workflows need not
survive. Otherwise the saved histories stay as they are: they stand for the runs of users.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("histories")


def main() -> int:
    """Run the tests of this folder with recording on; return pytest's exit code."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    os.environ["SPRINGLINE_RECORD_HISTORIES"] = str(FOLDER)
    return pytest.main([str(Path(__file__).parent), "-q", "-p", "no:xdist", "-m", "not replays and not full"])


if __name__ == "__main__":
    sys.exit(main())
