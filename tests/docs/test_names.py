"""One class name, one thing: no two classes of the product share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("springline", "workflows", "activities", "entrypoints")
KNOWN = {"Kind", "RowChange", "Step", "Ticket"}
"""Names that still stand for two things."""


def classes() -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for file in [ROOT / "worker.py", *(file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py")))]:
        for node in ast.walk(ast.parse(file.read_text())):
            # A private class is a detail of its module.
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(f"{file.relative_to(ROOT)}:{node.lineno}")
    return found


def test_no_two_classes_share_a_name() -> None:
    shared = {name: places for name, places in classes().items() if len(places) > 1}
    assert {name: places for name, places in shared.items() if name not in KNOWN} == {}


def test_classes_are_looked_at() -> None:
    assert len(classes()) > 300
