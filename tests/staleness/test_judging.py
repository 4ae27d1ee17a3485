"""When a partition is stale: each reason, their order, and since when."""

from __future__ import annotations

from typing import Any

import pytest

from springline.staleness.judging import Materialization, PartitionState, UpstreamPart, judge

NOW = 1_000_000
MADE = Materialization(500_000, "2")
OLDER, NEWER = UpstreamPart("raw", 400_000, False), UpstreamPart("raw", 600_000, False)
GAP = UpstreamPart("raw", 700_000, True)


def state_of(made: Materialization | None = MADE, **known: Any) -> tuple[str, int | None, str | None]:
    given: dict[str, Any] = {"code_version": "2", "upstream": [], "freshness_ms": None, "ends_ms": None, "now_ms": NOW}
    found = judge(made, **(given | known))
    return found.state.value, found.since_ms, found.upstream


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, ("CURRENT", None, None)),
        ({"upstream": [OLDER]}, ("CURRENT", None, None)),
        ({"upstream": [UpstreamPart("raw", 500_000, False)]}, ("CURRENT", None, None)),
        ({"made": None}, ("NEVER_MATERIALIZED", None, None)),
        ({"made": None, "ends_ms": 900_000}, ("NEVER_MATERIALIZED", 900_000, None)),
        ({"made": None, "ends_ms": NOW}, ("NEVER_MATERIALIZED", NOW, None)),
        ({"made": None, "ends_ms": NOW + 1}, ("OPEN", None, None)),
        ({"code_version": "3"}, ("CODE_CHANGED", NOW, None)),
        ({"code_version": None}, ("CURRENT", None, None)),
        ({"made": Materialization(500_000)}, ("CURRENT", None, None)),
        ({"upstream": [GAP]}, ("UPSTREAM_NEVER_MATERIALIZED", None, "raw")),
        ({"upstream": [NEWER]}, ("UPSTREAM_CHANGED", 600_000, "raw")),
        ({"upstream": [NEWER, UpstreamPart("b", 550_000, False)]}, ("UPSTREAM_CHANGED", 550_000, "b")),
        ({"freshness_ms": 500_000}, ("CURRENT", None, None)),
        ({"freshness_ms": 499_999}, ("FRESHNESS_POLICY", 999_999, None)),
        ({"freshness_ms": 1, "ends_ms": 500_000}, ("CURRENT", None, None)),
        ({"freshness_ms": 1, "ends_ms": 500_001}, ("FRESHNESS_POLICY", 500_001, None)),
    ],
)
def test_each_reason(known: dict[str, Any], said: tuple[str, int | None, str | None]) -> None:
    assert state_of(**known) == said


def test_the_first_reason_that_holds_is_told() -> None:
    everything: dict[str, Any] = {"code_version": "3", "upstream": [NEWER, GAP], "freshness_ms": 1}
    assert state_of(made=None, **everything)[0] == "NEVER_MATERIALIZED"
    assert state_of(**everything)[0] == "CODE_CHANGED"
    assert state_of(**(everything | {"code_version": "2"}))[0] == "UPSTREAM_NEVER_MATERIALIZED"
    assert state_of(upstream=[NEWER], freshness_ms=1)[0] == "UPSTREAM_CHANGED"
    assert state_of(freshness_ms=1)[0] == "FRESHNESS_POLICY"


def test_what_is_open_or_current_is_not_stale() -> None:
    stale = {one for one in PartitionState if one not in (PartitionState.CURRENT, PartitionState.OPEN)}
    assert len(stale) == 5
