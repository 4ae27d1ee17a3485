"""`tests/fast.txt` names tests that there are: one that was renamed would silently take its time again."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.test_citations import ROOT, defines

FAST = (ROOT / "tests/fast.txt").read_text().splitlines()


def test_everything_that_is_named_exists() -> None:
    paths = [line.removeprefix("--ignore=") for line in FAST if line.startswith(("tests/", "--ignore="))]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    left_out = [line.removeprefix("--deselect=").split("::") for line in FAST if line.startswith("--deselect=")]
    assert [test for test in left_out if not defines(ROOT / test[0], ".".join(test[1:]))] == []


def test_the_targets_of_the_contributing_guide_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(
        re.findall(r"(?:^|`)make ([a-z-]+)", "\n".join(Path(ROOT / page).read_text() for page in _PAGES), re.MULTILINE)
    )
    assert {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md")
