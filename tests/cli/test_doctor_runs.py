"""What `springline doctor` finds about the runs of a workspace: nobody looks, nothing helps, nothing is heard."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from springline.cli.doctor_runs import repair_findings, schedule_findings, silent_findings
from springline.cli.findings import FindingState
from springline.control.repair import SETTLED_MS
from tests.cli.conftest import Cli, Served

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PIPELINE = "from springline.sdk import asset\n\n@asset\ndef names(): ...\n"


def view(**more: Any) -> dict[str, Any]:
    return {"running": True, "trouble": None, "last": None, **more}


def item(**more: Any) -> dict[str, Any]:
    return {"kind": "run_without_workflow", "subject": "run_1", "why": "it is", "times": 0, "error": None, **more}


def last(*items: dict[str, Any], trouble: list[str] | None = None) -> dict[str, Any]:
    return {"items": list(items), "trouble": trouble or [], "waiting_requests": 0}


def test_a_workspace_with_runs_needs_repair_and_one_without_does_not() -> None:
    (found,) = repair_findings(view(running=False), has_work=True)
    assert (found.name, found.state) == ("repair", FindingState.UNREACHABLE)
    assert "springline repair run" in str(found.remedy)
    assert repair_findings(view(running=False), has_work=False) == []
    assert repair_findings(view(), has_work=True) == []


def test_what_is_being_repaired_is_fine_and_what_stays_is_not() -> None:
    assert repair_findings(view(last=last(item())), has_work=True) == []
    (stays,) = repair_findings(view(last=last(item(times=3))), has_work=True)
    assert stays.what == "run_without_workflow run_1: it is, still after 3 repair(s)"
    assert "runbooks/repair.md" in str(stays.remedy)
    (fails,) = repair_findings(view(last=last(item(error="no way"))), has_work=True)
    assert fails.what.endswith("and the repair fails: no way")
    many = repair_findings(view(last=last(*[item(times=1)] * 5)), has_work=True)
    assert [one.state for one in many] == [FindingState.WRONG] * 4
    assert many[-1].what == "2 more findings stay"


def test_what_cannot_be_looked_at_is_told() -> None:
    failed, unseen = repair_findings(view(trouble="no store", last=last(trouble=["a round"])), has_work=True)
    assert "no store" in failed.what
    assert unseen.what == "a round"


@pytest.mark.parametrize(
    ("started_s", "heard_s", "is_silent"),
    [(400, None, True), (400, 350, True), (400, 10, False), (10, None, False), (None, None, False)],
)
def test_an_attempt_of_which_nothing_is_heard_is_told(
    started_s: int | None, heard_s: int | None, is_silent: bool
) -> None:
    def at(ago_s: int | None) -> str | None:
        return None if ago_s is None else (NOW - timedelta(seconds=ago_s)).isoformat()

    task = {
        "task_key": "raw",
        "run_id": "run_1",
        "heartbeat_timeout_sec": 300,
        "started_at": at(started_s),
        "last_heartbeat_at": at(heard_s),
    }
    found = silent_findings([task], NOW)
    assert bool(found) is is_silent
    if found:
        assert "raw of run run_1" in found[0].what
        assert "runbooks/run-stuck.md" in str(found[0].remedy)


def test_doctor_asks_the_api(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ("--store", tmp_path.as_uri())

    def named(name: str) -> list[dict[str, Any]]:
        found = cli("doctor", *store, "--field", "findings").stdout
        return [one for one in json.loads(found) if one["name"] == name]

    assert [one["ok"] for one in named("runs")] == [True]
    Path("flights.py").write_text(PIPELINE)
    assert cli("deploy", "flights.py").code == 0
    run = cli("run", "start", "names", "--field", "run_id").stdout.strip()
    now_ms = int(time.time() * 1_000)
    api.repairs.workflows.broken.add(run)
    api.repairs.now_ms = now_ms + 2 * SETTLED_MS
    cli("repair", "run")
    (found,) = named("repair")
    assert run in found["what"]
    assert "no way to it" in found["what"]
    api.repairs.is_away = True
    (found,) = named("repair")
    assert "nothing looks after the workspace" in found["what"]
    monkeypatch.setenv("SPRINGLINE_TOKEN", "not.a.token")
    assert [one["state"] for one in named("runs")] == ["skipped"]


def schedule(**more: Any) -> dict[str, Any]:
    on: dict[str, Any] = {"schedule_id": "s", "code_version": "01JHMPJNXR000AQKFF0000000S", "settings": {}}
    on |= {"overdue_since": None}
    return on | {"next_due_at": "2026-01-03T00:00:00Z"} | more


def test_schedules_that_nobody_decides_on_and_that_are_never_due_are_told() -> None:
    assert schedule_findings([], NOW) == []
    assert schedule_findings([schedule(code_version="theirs", next_due_at=None)], NOW) == []
    (good,) = schedule_findings([schedule(overdue_since="2026-01-01T23:59:59Z")], NOW)
    assert (good.name, good.state) == ("schedules", FindingState.OK)
    earlier = schedule(schedule_id="t", overdue_since="2026-01-01T22:00:00Z")
    late = [schedule(overdue_since="2026-01-01T23:00:00Z"), earlier]
    (found,) = schedule_findings(late, NOW)
    assert found.state is FindingState.WRONG
    assert "the instant 2026-01-01T22:00:00Z of t, and 1 more" in found.what
    assert "runbooks/schedule-drift.md" in str(found.remedy)
    (never,) = schedule_findings([schedule(next_due_at=None)], NOW)
    assert "1 that are on are never due, such as s" in never.what
