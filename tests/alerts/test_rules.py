"""Alert rules ask for metrics that there are, with labels that they have, and lead to runbooks that there are.

Whether they fire where they should is judged by Prometheus' own checker (`ops/alerts/springline.test.yml`), among the
long tests: it comes with Debian's `prometheus`.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from springline import names
from springline.control.repair import RepairKind
from springline.control.schedules.deciding import TickReason
from springline.local.binaries import promtool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "ops/alerts/springline.rules.yml"
TESTS = ROOT / "ops/alerts/springline.test.yml"
SUFFIXES = ("", "_total", "_seconds", "_bucket", "_seconds_bucket")
"""What the exporters add to our names: of counters, durations and histograms."""
CODES = {"OUTSIDE_WINDOW", "CATCHUP_LIMIT", "CANNOT_SELECT", "UNREADABLE"}


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    return found


def test_rules_ask_for_metrics_that_there_are() -> None:
    ours = {value for name, value in vars(names).items() if name.startswith("METRIC_")}
    exported = {name + suffix for name in ours for suffix in SUFFIXES}
    for rule in rules():
        asked = set(re.findall(r"\b(?:springline_[a-z_]+)\b(?=[{\[) ])", rule["expr"]))
        assert asked <= exported, rule["alert"]
        assert asked or rule["expr"].startswith("up{"), rule["alert"]


def test_rules_ask_for_kinds_and_reasons_that_there_are() -> None:
    text = RULES.read_text()
    kinds = {kind.value for kind in RepairKind}
    for pattern in re.findall(r'kind=~?"([^"]+)"', text):
        assert any(re.fullmatch(pattern, kind) for kind in kinds), pattern
    asked = {code for pattern in re.findall(r'reason=~"([^"]+)"', text) for code in pattern.split("|")}
    assert asked == CODES
    assert asked <= {str(reason) for reason in TickReason}


def test_every_kind_of_finding_has_a_rule() -> None:
    patterns = re.findall(r'findings_total\{kind=~?"([^"]+)"', RULES.read_text())
    for kind in RepairKind:
        assert any(re.fullmatch(pattern, kind.value) for pattern in patterns), kind


def test_each_rule_says_how_urgent_it_is_and_leads_to_a_runbook() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert (ROOT / rule["annotations"]["runbook"]).is_file(), rule["alert"]
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_each_rule_is_shown_to_fire() -> None:
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules()}


@pytest.mark.full
def test_rules_fire_where_they_should_and_nowhere_else() -> None:
    checked = subprocess.run(
        [promtool(), "test", "rules", TESTS], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
