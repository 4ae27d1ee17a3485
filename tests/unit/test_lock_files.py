"""The lock files: complete, hashed, of one mind, and free of addresses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("build", "run", "test")
_PINNED = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)


def locked(name: str) -> dict[str, set[str]]:
    """Package -> versions (more than one where Python versions need different ones)."""
    pins: dict[str, set[str]] = {}
    for match in _PINNED.finditer((ROOT / "requirements" / f"{name}.txt").read_text()):
        pins.setdefault(match["name"], set()).add(match["version"])
    return pins


def required(requirements: list[str]) -> set[str]:
    names = {re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0] for requirement in requirements}
    return {name.lower().replace("_", "-") for name in names} - {"springline"}


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=[^ #])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert entries
    for entry in entries:
        assert _PINNED.match(entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


@pytest.mark.parametrize("name", FILES)
def test_no_lock_file_names_an_address(name: str) -> None:
    assert "://" not in (ROOT / "requirements" / f"{name}.txt").read_text()


def test_what_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    assert required(project["project"]["dependencies"]) <= locked("run").keys()
    assert required([*extras["demo"], *extras["test"]]) <= locked("test").keys()
    assert required(project["build-system"]["requires"]) <= locked("build").keys()


def test_tests_run_against_what_production_runs() -> None:
    run, test = locked("run"), locked("test")
    assert {name: test.get(name) for name in run} == run
