"""Which tests make histories of every shape: what the short pass without cached workflows runs.

A shape is told by its steps: which event follows which, and which activity it is of. The saved histories hold those
of every test; the fewest tests whose histories show each step once are chosen, the same ones every time.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

FOLDER = Path(__file__).with_name("histories")
Step = tuple[str, str]


def scenario_of_test(name: str) -> str:
    """Return the part that a test's name has in the names of its histories."""
    return name.removeprefix("test_").replace("[", "--").replace("]", "")


@functools.cache
def scenarios_of_every_shape() -> frozenset[str]:
    """Return the scenarios whose histories together hold every step of all saved histories."""
    steps: dict[str, set[Step]] = {}
    for file in sorted(FOLDER.glob("*.json")):
        history = json.loads(file.read_text())
        steps.setdefault(_scenario_of_file(file, _kind_of_workflow(history)), set()).update(_steps(history))
    return frozenset(_cover(steps))


def _cover(steps: Mapping[str, set[Step]]) -> Iterator[str]:
    left = set().union(*steps.values())
    while left:
        best = max(sorted(steps), key=lambda name: len(steps[name] & left))
        left -= steps[best]
        yield best


def _scenario_of_file(file: Path, kind: str) -> str:
    """Return the scenario of a history: its name without the kind of workflow and the number of the run."""
    name, _, number = file.stem.rpartition("--")
    return (name if number.isdecimal() else file.stem).removeprefix(f"{kind}--")


def _steps(history: dict[str, list[dict[str, object]]]) -> set[Step]:
    kinds = ["", *(kind for event in history["events"] if "WORKFLOW_TASK" not in (kind := _kind(event))), ""]
    return {(f"{_kind_of_workflow(history)}: {before}", after) for before, after in itertools.pairwise(kinds)}


def _kind_of_workflow(history: dict[str, list[dict[str, object]]]) -> str:
    started = history["events"][0]["workflowExecutionStartedEventAttributes"]
    assert isinstance(started, dict)
    return str(started["workflowType"]["name"])


def _kind(event: dict[str, object]) -> str:
    scheduled = event.get("activityTaskScheduledEventAttributes")
    activity = scheduled["activityType"]["name"] if isinstance(scheduled, dict) else ""
    return f"{event['eventType']} {activity}".strip()
