"""The page on failure modes: each row names a test and a runbook that there are, and no runbook is left out."""

from __future__ import annotations

import re

from tests.docs.test_citations import NAME, ROOT, defines

PAGE = (ROOT / "docs/failure-modes.md").read_text()
RUNBOOK = re.compile(r"\]\(\.\./runbooks/([\w-]+\.md)\)")
WHOLE = {"README.md", "temporal-cli.md"}
"""Pages that are for no trouble of their own."""


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the rows of the table under a heading."""
    _, _, behind = PAGE.partition(f"## {heading}\n")
    table, _, _ = behind.partition("\n## ")
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def named_in(cell: str) -> list[tuple[str, str]]:
    """Return the tests that a cell names, each of which must be a test."""
    found = NAME.findall(cell)
    for file, name in found:
        assert name.startswith("test_"), f"{file}::{name} is no test"
        assert defines(ROOT / file, name), f"{file}::{name} is not there"
    return found


def test_each_failure_has_a_test_and_says_what_heals() -> None:
    failures = rows("What fails, and what comes of it")
    assert len(failures) >= 15
    for what, users, heals, operator, tests in failures:
        assert all((users, heals, operator)), what
        assert named_in(tests), f"{what}: no test"
        for page in RUNBOOK.findall(operator):
            assert (ROOT / "runbooks" / page).is_file(), f"{what}: there is no runbook {page}"


def test_each_fault_of_each_service_has_a_test() -> None:
    services = rows("Five faults in every service")
    assert len(services) >= 6
    for service, *cells in services:
        assert len(cells) == 5
        assert all(named_in(cell) for cell in cells), service


def test_every_runbook_is_for_a_failure() -> None:
    there = {page.name for page in (ROOT / "runbooks").glob("*.md")} - WHOLE
    assert set(RUNBOOK.findall(PAGE)) == there
