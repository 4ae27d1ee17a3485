"""The commit protocol, explored exhaustively: clean with all its rules, broken without any one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from tests.model.explore import explore
from tests.model.states import MISSING, STALE, USED, Request, Rules, Scenario

APART = ((0,), (1,))
# Two callers under one key: the same payload staged once or twice, or two payloads.
SHARED = Scenario((Request(0, 0), Request(0, 0)), APART, crashes=1, lost=1, deletes=1)
RESTAGED = Scenario((Request(0, 0, staged=0), Request(0, 0, staged=1)), APART, crashes=1, lost=1, deletes=1)
# The same payload written twice: other bytes, known by the same fingerprint.
ROWS = Scenario((Request(0, 0, staged=0), Request(0, 0, staged=1, form=1)), APART, crashes=1, lost=1, deletes=1)
REUSED = Scenario((Request(0, 0, staged=0), Request(0, 1, staged=1)), APART, crashes=1, lost=1, deletes=1)
# Two keys.
APPENDS = Scenario((Request(0, 0, staged=0), Request(1, 1, staged=1)), APART, crashes=1, lost=1, foreign=1)
STRICT = Scenario(
    (Request(0, 0, strict=True, staged=0), Request(1, 1, strict=True, staged=1)),
    APART,
    crashes=1,
    lost=1,
    foreign=1,
)
STRICT_SAME = Scenario(
    (Request(0, 0, strict=True, staged=0), Request(0, 0, strict=True, staged=1)),
    APART,
    crashes=1,
    lost=1,
    deletes=1,
)
MIXED = Scenario(
    (Request(0, 0, strict=True, staged=0), Request(1, 1, staged=1)),
    APART,
    crashes=1,
    lost=0,
    deletes=1,
    foreign=1,
)
# One caller commits two requests as one version, another one of them alone.
GROUP = Scenario((Request(0, 0, staged=0), Request(1, 1, staged=1)), ((0, 1), (0,)), crashes=1, lost=0, deletes=1)
# Three callers; a caller without requests only helps.
THREE = Scenario((Request(0, 0),), ((0,), (0,), (0,)), crashes=1, lost=0)

CLEAN = {
    "same-key": SHARED,
    "same-key-staged-twice": RESTAGED,
    "same-key-written-twice": ROWS,
    "strict": STRICT,
    "strict-same-key": STRICT_SAME,
    "strict-and-append": MIXED,
    "group": GROUP,
    "three": THREE,
}

LARGE = {
    "other-payload": replace(REUSED, foreign=1),
    "same-key-staged-twice": replace(RESTAGED, foreign=1),
    "same-key-written-twice": replace(ROWS, foreign=1),
    "same-key-written-twice-and-another-payload": Scenario(
        (Request(0, 0, staged=0), Request(0, 0, staged=1, form=1), Request(0, 1, staged=2)),
        ((0,), (1,), (2,)),
        crashes=1,
        lost=0,
    ),
    "appends": replace(APPENDS, deletes=1),
    "strict": replace(STRICT, deletes=1),
    "strict-and-append": replace(MIXED, lost=1),
    "group": replace(GROUP, lost=1),
    "same-key-two-crashes": replace(SHARED, crashes=2),
    "three-two-keys": Scenario(
        (Request(0, 0, staged=0), Request(1, 1, staged=1)), ((0,), (0,), (1,)), crashes=1, lost=0
    ),
    "two-and-a-helper": Scenario((Request(0, 0),), ((0,), (0,), ()), crashes=1, lost=1),
    "three-staged-gone": replace(THREE, crashes=0, deletes=1),
    "three-lost-answer": replace(THREE, crashes=0, lost=1),
}

Record = Callable[[str, object], None]


def assert_clean(scenario: Scenario, record: Record) -> None:
    report = explore(scenario)
    assert report.violation is None, "\n".join([report.violation, *report.trace])
    record("explored", f"commit model: {report.states} states, {report.transitions} transitions")


@pytest.mark.proof
@pytest.mark.parametrize("name", CLEAN)
def test_the_full_protocol_is_clean(name: str, record_property: Record) -> None:
    assert_clean(CLEAN[name], record_property)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LARGE)
def test_the_full_protocol_is_clean_at_length(name: str, record_property: Record) -> None:
    assert_clean(LARGE[name], record_property)


# Each rule left out: the invariant that must break, and where to look.
BROKEN = [
    ("owner_reads_markers", "I2", SHARED),
    ("helper_reads_markers", "I2", SHARED),
    ("helper_reads_markers", "I2", APPENDS),
    ("fill", "I2", RESTAGED),
    ("fill", "I2", ROWS),
    ("owner_reads_markers", "I2", ROWS),
    ("helper_reads_markers", "I2", ROWS),
    ("fill", "I6", SHARED),
    ("compare_bytes", "I3", APPENDS),
    ("reread_before_conflict", "I6", SHARED),
    ("reread_before_conflict", "I6", STRICT_SAME),
    ("settle_before_refusal", "I6", SHARED),
    ("settle_before_refusal", "I6", STRICT_SAME),
    ("read_back", "I2", SHARED),
    ("check_commit_id", "I2", REUSED),
    ("payload_after_reservation", "I6", SHARED),
    ("own_marker_is_ours", "I4", SHARED),
    ("fill_yields", "I3", SHARED),
    ("abandon", "I8", SHARED),
    ("move_appends", "I8", APPENDS),
]


@pytest.mark.proof
@pytest.mark.parametrize(("rule", "invariant", "scenario"), BROKEN, ids=lambda v: v if isinstance(v, str) else "")
def test_without_one_rule_an_invariant_breaks(rule: str, invariant: str, scenario: Scenario) -> None:
    report = explore(replace(scenario, rules=Rules(**{rule: False})), only=frozenset({invariant}))
    assert report.violation is not None
    assert report.violation.startswith(invariant)
    assert report.trace


def test_every_rule_is_left_out_once() -> None:
    assert {rule for rule, _, _ in BROKEN} == {f.name for f in fields(Rules)}


def test_the_scenarios_reach_the_outcomes_they_are_there_for() -> None:
    """A model in which nothing ever conflicts would be clean as well."""
    calm = [replace(s, crashes=0, lost=0) for s in (GROUP, STRICT, REUSED)]
    group, strict, reused = (explore(s).answered for s in calm)
    assert {1, 2, MISSING} <= {answer for ending in group for _, answer in ending}
    assert {1, STALE} == {answer for ending in strict for _, answer in ending}
    assert ((0, 1), (1, USED)) in reused
    assert ((0, USED), (1, 1)) in reused
