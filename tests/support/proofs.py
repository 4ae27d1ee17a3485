"""Proofs: tests whose outcome depends on code alone, and which `make test` runs when that code has changed.

Explorations without chance, and mutants, come to the same end every time over the same code. `tests/proofs.txt` holds,
for each file with such tests (marker `proof`), a fingerprint of all code they use: it was taken when they last
passed. While the fingerprint is the same, they count as long tests (marker `full`); when it differs, `make test` runs
them. After a run that passed, `python -m tests.support.proofs` takes the fingerprints anew.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests/proofs.txt"
PACKAGES = ("springline", "workflows", "activities", "entrypoints", "bench", "tests")
PROOFS: Mapping[str, tuple[str, ...]] = {
    "tests/control/test_backfill_world.py": (),
    "tests/control/test_mutants.py": (),
    "tests/control/test_run_world.py": (),
    "tests/control/test_schedule_world.py": (),
    "tests/control/test_sensor_world.py": (),
    "tests/damage/test_search.py": (),
    "tests/exhaustive/test_crash_windows.py": (),
    "tests/exhaustive/test_interleavings.py": (),
    "tests/exhaustive/test_ledger_rounds.py": (),
    "tests/exhaustive/test_mutants.py": (),
    "tests/model/test_commit_model.py": (),
    "tests/rebuild/test_golden_ledgers.py": ("tests/golden/ledgers",),
    "tests/sets/test_mutants.py": ("tests/golden/ledgers/plain",),
    "tests/work/test_write_sets.py": (),
    "tests/work/test_write_sets_real.py": (),
}
"""The files with proofs, and the folders of data that they read."""
REQUIREMENTS = "requirements/test.txt"
"""The versions of what is installed, on which all proofs depend."""


def stands(file: str) -> bool:
    """Say whether the proofs of a test file passed over the code that is there now."""
    return known().get(file) == fingerprint(file)


@cache
def known() -> dict[str, str]:
    """Return the fingerprints of the code over which proofs passed, by test file."""
    return dict(line.split() for line in FILE.read_text("utf-8").splitlines()) if FILE.exists() else {}


@cache
def fingerprint(file: str) -> str:
    """Return the fingerprint of the code and data that the proofs of a test file use, and of this Python's version."""
    found = hashlib.sha256(".".join(platform.python_version_tuple()[:2]).encode())
    for path in sorted(used_by(file)):
        content = (ROOT / path).read_bytes()
        found.update(f"\n{path} {len(content)}\n".encode() + content)
    return found.hexdigest()[:32]


def used_by(file: str) -> set[str]:
    """Return the paths of what a test file uses: what it and its conftests import on whatever way, and its data."""
    conftests = [folder / "conftest.py" for folder in Path(file).parents]
    entries = {file, *(str(one) for one in conftests if (ROOT / one).exists())}
    modules = {one.removesuffix(".py").replace("/", ".") for one in entries}
    modules |= {upstream for one in modules for upstream in graph().find_upstream_modules(one)}
    modules |= {".".join(one.split(".")[:parts]) for one in modules for parts in range(1, one.count(".") + 1)}
    found = [path for folder in PROOFS[file] for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {path_of(one) for one in modules} | {str(path.relative_to(ROOT)) for path in found} | {REQUIREMENTS}


@cache
def graph() -> grimp.ImportGraph:
    """Return which module imports which, imports within functions included."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def path_of(module: str) -> str:
    """Return the path of a module of ours."""
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def leave_out(items: Iterable[pytest.Item]) -> None:
    """Count proofs that stand among the long tests. Raises `pytest.UsageError` for one in a file that is not listed."""
    for item in items:
        if item.get_closest_marker("proof") is None:
            continue
        file = item.nodeid.split("::", 1)[0]
        if file not in PROOFS:
            raise pytest.UsageError(f"{file} has tests marked `proof`: list it in tests/support/proofs.py")
        if stands(file):
            item.add_marker(pytest.mark.full)


def main() -> None:
    """Take the fingerprints of all files with proofs, which have passed."""
    FILE.write_text("".join(f"{file} {fingerprint(file)}\n" for file in sorted(PROOFS)), "utf-8")


if __name__ == "__main__":
    main()
