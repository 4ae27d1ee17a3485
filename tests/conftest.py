"""What the whole suite shares: files in an order that keeps all cores busy, and what explorations counted."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import proofs

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


@pytest.hookimpl(tryfirst=True)
@pytest.fixture(autouse=True)
def as_loud_as_before() -> Iterator[None]:
    """Give the logs their level back: a command that is run in this process sets it for all that come after it."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first, and proofs that stand among the long tests."""

    def rank(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start)), len(LONGEST_FIRST))

    items.sort(key=rank)
    proofs.leave_out(items)


def pytest_collection() -> None:
    """Let no garbage be looked for while tests are collected: nearly all that is made then stays to the end."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Have the collector of garbage pass over what collection left, which stays to the end: hundreds of megabytes."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print which proofs stand, and what explorations counted.

    Tests record it as the property `explored`, "what: N unit, M unit".
    """
    standing = [file for file in proofs.PROOFS if proofs.stands(file)]
    if standing and "not full" in config.option.markexpr:
        terminalreporter.section("proved before, over the same code")
        for file in standing:
            terminalreporter.line(f"{file}: {proofs.known()[file]}")
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
