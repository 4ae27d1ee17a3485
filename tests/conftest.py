"""What the whole suite shares: files in an order that keeps all cores busy, and what explorations counted."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is: no test fails for it.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

LONGEST_FIRST = (
    "tests/local/",
    "tests/server/",
    "tests/linearizability/",
    "tests/damage/",
    "tests/exhaustive/",
    "tests/workflows/",
    "tests/api/test_schemathesis.py",
    "tests/api/test_over_temporal.py",
    "tests/cli/test_dev.py",
    "tests/cli/test_installed.py",
    "tests/cli/test_output.py",
    "tests/model/",
    "tests/sets/",
    "tests/judging/",
    "tests/bench/",
)
"""Whole files go to the processes of a run, in this order and then the rest: no long file is left for the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first."""

    def rank(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start)), len(LONGEST_FIRST))

    items.sort(key=rank)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what explorations counted: tests record it as the property `explored`, "what: N unit, M unit"."""
    totals: dict[str, Counter[str]] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name != "explored":
                continue
            what, counts = str(value).split(": ", 1)
            for count in counts.split(", "):
                number, unit = count.split(" ", 1)
                totals.setdefault(what, Counter())[unit] += int(number)
    if totals:
        terminalreporter.section("explored")
        for what, counter in sorted(totals.items()):
            terminalreporter.line(f"{what}: " + ", ".join(f"{n:,} {unit}" for unit, n in counter.items()))
