"""The page on events names every reason code that runs and attempts write, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from springline.control.runs.planning import PlanProblem
from springline.control.schedules.deciding import TickReason
from springline.runs.requests import USER_REQUEST

ROOT = Path(__file__).parents[2]
SOURCES = (
    *("springline/control/runs/progress.py", "springline/work/attempts.py", "springline/work/child.py"),
    *("springline/work/writes.py", "workflows/run.py", "springline/control/sensors/deciding.py"),
    *("springline/sensors/ready_made.py", "springline/work/evaluations.py", "springline/sdk/evaluating.py"),
    *("workflows/sensor.py", "springline/definitions/cursors.py"),
)
PLACES = {"_Failed": 2, "_Refused": 1, "_Unfit": 0, "BadResult": 0, "_failure": 1, "_error": 1, "CursorProblem": 0}
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
    told = set(re.findall(r"`(\w+)`", page)) - {
        *("reason_code", "run_cancel_requested", "task_completion_recorded", "schedule_ticked", "sensor_evaluated"),
    }
    # What a function raises has its category for a reason.
    written = {USER_REQUEST, "USER_CODE", *map(str, PlanProblem), *map(str, TickReason)}
    for file in SOURCES:
        written |= set(codes_in((ROOT / file).read_text()))
    assert written == told
