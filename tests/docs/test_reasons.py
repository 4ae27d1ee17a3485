"""The page on events names every reason code that runs and attempts write, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from springline.control.runs.planning import PlanProblem
from springline.runs.requests import USER_REQUEST

ROOT = Path(__file__).parents[2]
SOURCES = (
    *("springline/control/runs/progress.py", "springline/work/attempts.py", "springline/work/child.py"),
    "workflows/run.py",
)
PLACES = {"_Failed": 2, "_Refused": 1}
"""Where these errors take the code."""


def codes_in(source: str) -> Iterator[str]:
    """Return the reason codes that a module writes as constants."""
    for node in ast.walk(ast.parse(source)):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.Call):
            found += [one.value for one in node.keywords if one.arg == "reason_code"]
            if isinstance(node.func, ast.Name) and node.func.id in PLACES:
                found.append(node.args[PLACES[node.func.id]])
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found += [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "reason_code"]
        yield from (str(one.value) for one in found if isinstance(one, ast.Constant) and one.value is not None)


def test_every_reason_code_is_on_the_page() -> None:
    _, _, page = (ROOT / "docs/events.md").read_text().partition('<a id="reason-codes"></a>')
    page, _, _ = page.partition("**Tables of our own.**")
    told = set(re.findall(r"`(\w+)`", page)) - {"reason_code", "run_cancel_requested", "task_completion_recorded"}
    written = {USER_REQUEST, *map(str, PlanProblem)}
    for file in SOURCES:
        written |= set(codes_in((ROOT / file).read_text()))
    assert written == told
