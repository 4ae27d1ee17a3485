"""Alerts fire on a stack that is broken: by the stack's own metrics, Prometheus' own checker, and Prometheus itself."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from springline import names
from springline.exits import EXIT_DONE, EXIT_TRY_AGAIN
from springline.local.binaries import prometheus, promtool
from springline.local.ports import LOOPBACK, free_ports
from springline.local.processes import Child
from springline.paths import latest_manifest_index
from tests.alerts.test_rules import RULES
from tests.server.runbook import SCOPE
from tests.server.test_runbooks_runs import springline, wait_until
from tests.server.test_runbooks_schedules import PIPELINE
from tests.support.forked_stack import ForkedStack

LOOKS = 5
EVALUATIONS = 25
FASTER = 20
SILENT_EVALUATIONS = 20
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
        wait_until(lambda: looked(stack)["items"] != [])
        (item, *_) = looked(stack)["items"]
        assert item["kind"] == "schedules_overdue"
        for _ in range(LOOKS):
            scrapes.append(scraped(stack))
            looked(stack)
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
        looked(stack)
        seen = scraped(stack, "springline_[a-z_]+_timestamp_seconds")
    assert fires("SpringlineSensorsFail", scrapes, tmp_path), scrapes
    assert not fires("SpringlineSensorsFail", scrapes[:1] * len(scrapes), tmp_path), "one failure is none"
    # It is evaluated, and nothing stands still: what is measured of that is as young as the look.
    for alert in ("SpringlineSensorsStuck", "SpringlineMessagesWait", "SpringlineBackfillsStalled"):
        assert not fires(alert, [seen] * 60, tmp_path), seen
        late = {
            series: value - (0 if series.startswith(names.METRIC_REPAIR_LAST_PASS) else 7_200)
            for series, value in seen.items()
        }
        assert fires(alert, [late] * 60, tmp_path), late


@pytest.mark.full
def test_prometheus_itself_fires_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    """Spans of rules are a twentieth. First nothing is wrong, then the manifest is damaged, then the worker is dead."""
    folder = tmp_path / "operator"
    folder.mkdir()
    (folder / "beats.py").write_text(PIPELINE)
    with ForkedStack(tmp_path / "stack", scope=SCOPE, workers=1) as stack, watched(stack, tmp_path) as judge:
        springline(stack, "deploy", str(folder / "beats.py"))
        wait_until(lambda: len(springline(stack, "schedule", "history", "often")["ticks"]) > 1)
        looked(stack)
        wait_until(lambda: len(judge.values("springline_schedule_ticks_total")) > 0)
        wait_until(lambda: judge.evaluations() > SILENT_EVALUATIONS)
        assert judge.firing() == set()
        lake = Path(stack.store_url.removeprefix("file://")) / SCOPE.prefix
        good = (lake / latest_manifest_index()).read_bytes()
        (lake / latest_manifest_index()).write_bytes(b"{")

        def undecided() -> bool:
            looked(stack)
            return "SpringlineSchedulesUndecided" in judge.firing()

        wait_until(undecided)
        assert judge.firing() <= {"SpringlineSchedulesUndecided", "SpringlineSchedulesLate"}
        (lake / latest_manifest_index()).write_bytes(good)
        wait_until(lambda: judge.firing() <= {"SpringlineSchedulesLate"})
        (worker,) = stack.worker_names
        stack.kill(worker)
        wait_until(lambda: "SpringlineWorkerDown" in judge.firing())
        stack.restart(worker)
        wait_until(lambda: "SpringlineWorkerDown" not in judge.firing())


@dataclass
class Prometheus:
    """A Prometheus that watches a stack; `url` is its API."""

    url: str

    def firing(self) -> set[str]:
        """Return the alerts that fire."""
        alerts = self._asked("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def values(self, query: str) -> list[dict[str, Any]]:
        """Return what a query comes to now."""
        found: list[dict[str, Any]] = self._asked("query", query=query)["result"]
        return found

    def evaluations(self) -> float:
        """Return how often it has evaluated a group of rules."""
        found = self.values("min(prometheus_rule_group_iterations_total)")
        return float(found[0]["value"][1]) if found else 0.0

    def _asked(self, path: str, **asked: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=asked)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data


@contextmanager
def watched(stack: ForkedStack, folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus with our rules, whose spans are shorter, that scrapes a stack's workers each second."""
    (port,) = free_ports(1)
    own = f"{LOOPBACK}:{port}"
    workers = [f"{LOOPBACK}:{stack._ports[f'{name}/metrics']}" for name in stack.worker_names]
    (folder / "rules.yml").write_text(faster(RULES.read_text()))
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": "springline-worker", "static_configs": [{"targets": workers}]},
            {"job_name": "prometheus", "static_configs": [{"targets": [own]}]},
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    command: list[str | Path] = [
        *(prometheus(), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'series'}"),
        *(f"--web.listen-address={own}", "--log.level=warn"),
    ]
    child = Child("prometheus", command, env={}, cwd=folder, log=folder / "prometheus.log")
    child.start()
    try:
        ready = f"http://{own}/-/ready"
        wait_until(lambda: answers(ready))
        yield Prometheus(f"http://{own}")
    finally:
        child.stop(10)


def answers(url: str) -> bool:
    """Say whether somebody answers at a URL, and well."""
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def faster(rules: str) -> str:
    """Return rules whose spans are a twentieth: what is written of seconds within expressions stays."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[2]) * {"s": 1, "m": 60, "h": 3_600}[found[3]]
        return f"{found[1]}{max(1, seconds // FASTER)}s"

    return re.sub(r"(\[|for: |offset )([0-9]+)([smh])\b", shorter, rules)


def looked(stack: ForkedStack) -> dict[str, Any]:
    """Have somebody look what stands still, and return the report: of what cannot be looked at, too."""
    found: dict[str, Any] = springline(stack, "repair", "run", codes=(EXIT_DONE, EXIT_TRY_AGAIN))
    return found


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
