"""What the whole suite shares: what explorations counted is printed at the end."""

from __future__ import annotations

from collections import Counter

import pytest


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
