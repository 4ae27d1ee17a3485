"""Alerts fire on a stack that is broken: by the stack's own metrics, and Prometheus' own checker."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from springline import names
from springline.local.binaries import promtool
from springline.local.ports import LOOPBACK
from springline.paths import latest_manifest_index
from tests.alerts.test_rules import RULES
from tests.server.runbook import SCOPE
from tests.server.test_runbooks_runs import springline, wait_until
from tests.server.test_runbooks_schedules import PIPELINE
from tests.support.forked_stack import ForkedStack

LOOKS = 5
EVALUATIONS = 25
SENSOR = """
from springline.sdk import asset, table_sensor

@asset
def report() -> None: ...

prices = table_sensor("prices", table="no-such-table", select=report, every="1h")
"""


@pytest.mark.full
def test_the_alert_fires_when_an_evaluator_cannot_decide(tmp_path: Path) -> None:
    """The object that names the latest manifest is damaged: each pass fails, and Repair cannot help."""
    folder = tmp_path / "operator"
    folder.mkdir()
    (folder / "beats.py").write_text(PIPELINE)
    scrapes: list[dict[str, float]] = []
    with ForkedStack(tmp_path / "stack", scope=SCOPE, workers=1) as stack:
        springline(stack, "deploy", str(folder / "beats.py"))
        wait_until(lambda: len(springline(stack, "schedule", "history", "often")["ticks"]) > 1)
        scrapes.append(scraped(stack))
        lake = Path(stack.store_url.removeprefix("file://")) / SCOPE.prefix
        (lake / latest_manifest_index()).write_bytes(b"{")
        wait_until(lambda: springline(stack, "repair", "run")["items"] != [])
        (item, *_) = springline(stack, "repair", "show")["last"]["items"]
        assert item["kind"] == "schedules_overdue"
        for _ in range(LOOKS):
            scrapes.append(scraped(stack))
            springline(stack, "repair", "run")
    alert = "SpringlineSchedulesUndecided"
    assert fires(alert, scrapes, tmp_path), scrapes
    assert not fires(alert, scrapes[:1] * len(scrapes), tmp_path), "it is silent while nothing is wrong"


@pytest.mark.full
def test_the_alert_fires_when_a_sensor_fails_again_and_again(tmp_path: Path) -> None:
    """The table that it watches is not there; what an operator tries does not help."""
    folder = tmp_path / "operator"
    folder.mkdir()
    (folder / "prices.py").write_text(SENSOR)
    scrapes: list[dict[str, float]] = []
    with ForkedStack(tmp_path / "stack", scope=SCOPE, workers=1) as stack:
        springline(stack, "deploy", str(folder / "prices.py"))
        wait_until(lambda: springline(stack, "sensor", "history", "prices")["evaluations"] != [])
        for _ in range(EVALUATIONS):
            scrapes.append(scraped(stack, "springline_sensor_evaluations_total"))
            springline(stack, "sensor", "evaluate", "prices")
        told = springline(stack, "explain", "sensor", "prices")
        assert (told["verdict"], told["reason_code"]) == ("FAILED", "TABLE_NOT_FOUND")
        springline(stack, "repair", "run")
        looked = scraped(stack, "springline_[a-z_]+_timestamp_seconds")
    assert fires("SpringlineSensorsFail", scrapes, tmp_path), scrapes
    assert not fires("SpringlineSensorsFail", scrapes[:1] * len(scrapes), tmp_path), "one failure is none"
    # It is evaluated, and nothing stands still: what is measured of that is as young as the look.
    for alert in ("SpringlineSensorsStuck", "SpringlineMessagesWait", "SpringlineBackfillsStalled"):
        assert not fires(alert, [looked] * 60, tmp_path), looked
        late = {
            series: value - (0 if series.startswith(names.METRIC_REPAIR_LAST_PASS) else 7_200)
            for series, value in looked.items()
        }
        assert fires(alert, [late] * 60, tmp_path), late


def scraped(stack: ForkedStack, metrics: str = "springline_repair_findings_total") -> dict[str, float]:
    """Return what the worker shows of the metrics whose name is matched, by series."""
    (worker,) = stack.worker_names
    text = httpx.get(f"http://{LOOPBACK}:{stack._ports[f'{worker}/metrics']}/metrics").text
    found = re.findall(rf"^({metrics}\{{[^}}]*\}}) ([0-9.e+]+)$", text, re.MULTILINE)
    return {series: float(value) for series, value in found}


def fires(alert: str, scrapes: list[dict[str, float]], folder: Path) -> bool:
    """Say whether an alert fires at the end of scrapes that lie a minute apart."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for series in {name for one in scrapes for name in one}:
        values[series] = [str(one.get(series, "_")) for one in scrapes]
    test: dict[str, Any] = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": " ".join(found)} for name, found in values.items()],
                "alert_rule_test": [
                    {"alertname": alert, "eval_time": f"{len(scrapes) - 1}m", "exp_alerts": []},
                ],
            }
        ],
    }
    file = folder / "scraped.test.yml"
    file.write_text(yaml.safe_dump(test))
    checked = subprocess.run([promtool(), "test", "rules", file], capture_output=True, text=True, check=False)
    said = checked.stdout + checked.stderr
    assert checked.returncode == 0 or "got:[" in said, said
    return checked.returncode != 0 and alert in said
