"""`springline run start | list | show | cancel | rerun`: documents for programs, pages for people."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from springline.cli.http import Answer, Api
from springline.cli.runs_page import run_text
from springline.client.table import new_key
from tests.cli.conftest import Cli, Served
from tests.cli.test_output import COLOURS, on_terminal
from tests.control.payloads import finished, started

PIPELINE = """
from springline.sdk import asset, daily

@asset(partitions=daily(start="2024-01-01"))
def raw(context): ...

@asset
def names(): ...

@asset(deps=[raw, names])
def report(): ...
"""


@pytest.fixture(autouse=True)
def deployed(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flights.py").write_text(PIPELINE)
    assert cli("deploy", "flights.py").code == 0


def append(api: Served, *events: dict[str, Any]) -> None:
    """Append events as another process does: a command may be under way here."""
    headers = {"Authorization": f"Bearer {os.environ['SPRINGLINE_TOKEN']}"}
    body = {"request_id": new_key(), "events": [{"data": one} for one in events]}
    assert httpx.post(f"{api.url}/api/v1/ledger/events", json=body, headers=headers).status_code == 200


def end(api: Served, run: str, task: str, outcome: str = "succeeded") -> None:
    error = {"error": {"category": "USER_CODE", "message": "no rows", "retryable": False}}
    more = error | {"error_message": "no rows"} if outcome == "failed" else {}
    append(api, started(task, 1, run), finished(outcome, task, 1, run, **more))


def test_a_run_is_started_and_the_next_command_is_told(cli: Cli) -> None:
    ended = cli("run", "start", "*report", "--partition", "2024-01-01", "--partition", "2024-01-02", "--priority", "5")
    found = ended.document
    assert (found["state"], found["tasks"]) == ("RUNNING", 4)
    assert found["run_key"].startswith("cli:")
    assert ended.hints == [f"`springline run show {found['run_id']} --watch` shows how far it is"]
    other = cli("run", "start", "names", "--field", "run_id").stdout.strip()
    assert other != found["run_id"]


def test_a_year_that_is_probably_mistyped_is_told(cli: Cli) -> None:
    ended = cli("run", "start", "*report", "--partition", "2024-01-01", "--partition", "2206-01-01")
    run = ended.document["run_id"]
    said = f"partition 2206-01-01 is of the year 2206: if another one was meant, `springline run cancel {run}` ends"
    assert ended.hints[0].startswith(said)


def test_a_run_that_has_to_wait_is_told_of(api: Served, cli: Cli) -> None:
    append(api, {"type": "springline_hold_changed", "change_id": "stop", "held": True, "changed_by": "ada"})
    ended = cli("run", "start", "names")
    assert ended.document["state"] == "REQUESTED"
    assert "has not begun: others are under way, or the workspace is held" in ended.hints[0]


def test_the_same_command_under_a_key_is_the_same_run(cli: Cli) -> None:
    command = ("run", "start", "names", "--key", "nightly:2024", "--label", "team=x", "--config", '{"rows": 3}')
    first = cli(*command).document
    again = cli(*command)
    assert again.document == first
    assert again.hints[0] == f"this was asked for before: run {first['run_id']}"
    ended = cli("run", "start", "names", "--key", "nightly:2024")
    assert (ended.code, ended.error["code"]) == (3, "KEY_REUSED")
    Path("config.json").write_text('{"rows": 3}')
    assert cli(*command[:-1], "config.json").document == first


@pytest.mark.parametrize(
    ("arguments", "field", "said"),
    [
        (["nmes"], "select", "names no asset"),
        (["raw"], "partitions", "none is asked for"),
        (["raw", "--partition", "2023-12-31"], "partitions", "before the first"),
        (["names", "--config", "[]"], "--config", "cannot be read"),
        (["names", "--config", "{"], "--config", "not json"),
        (["names", "--config", '{"a": 0.5}'], "config.a", "fraction"),
        (["names", "--label", "x"], "--label", "KEY=VALUE"),
        (["names", "--label", "x=1", "--label", "x=2"], "--label", "twice"),
        (["names", "--priority", "101"], "--priority", "less than"),
        (["names", "--key", "sched:a"], "run_key", "schedule"),
        ([], "selection", "missing"),
    ],
)
def test_what_cannot_be_started(api: Served, cli: Cli, arguments: list[str], field: str, said: str) -> None:
    before = api.paths()
    ended = cli("run", "start", *arguments)
    assert ended.code == 2
    assert ended.error["field"] == field
    assert said in ended.error["message"].lower().replace("key=value", "KEY=VALUE")
    assert api.paths() == before


def test_a_config_that_is_no_object_is_told_what_one_looks_like(cli: Cli) -> None:
    for text in ("[]", "rows: 3"):
        assert "Give an object such as" in str(cli("run", "start", "names", "--config", text).error["remedy"])


def test_who_runs_a_file_is_told_which_command_does(cli: Cli) -> None:
    ended = cli("run", "flow.py", "delays")
    assert (ended.code, ended.error["field"]) == (2, "command")
    assert "`springline materialize FILE ASSET`" in str(ended.error["remedy"])


def test_a_run_is_shown_with_its_tasks(api: Served, cli: Cli) -> None:
    run = cli("run", "start", "raw", "names", "--partition", "2024-01-01", "--label", "team=x").document["run_id"]
    end(api, run, "names", "failed")
    found = cli("run", "show", run).document
    assert {task["task_key"]: task["state"] for task in found["tasks"]} == {
        "names": "FAILED",
        "raw[2024-01-01]": "READY",
    }
    table = cli("run", "show", run, "-o", "csv").stdout.splitlines()
    assert table[0] == "task,state,attempt,started,duration,error"
    assert table[1].startswith("names,FAILED,1,20")
    assert table[1].endswith("s,no rows")
    page = cli("run", "show", run, "-o", "table").stdout
    assert "1 of 2 tasks have ended: 1 failed" in page
    assert "names, attempt 1\n  no rows\n" in page
    assert "team" in page
    assert "run_key" not in page, "nobody has chosen it"
    ended = cli("run", "show", "run_x")
    assert (ended.code, ended.error["code"], ended.error["field"]) == (2, "NOT_FOUND", "run_id")
    for odd in ("..", "a/b", ""):
        assert cli("run", "show", odd).error["field"] == "RUN_ID"


def test_runs_are_listed_by_state_and_label(api: Served, cli: Cli) -> None:
    first = cli("run", "start", "names", "--label", "team=x").document["run_id"]
    second = cli("run", "start", "names").document["run_id"]
    end(api, first, "names")
    found = cli("run", "list").document
    assert {one["run_id"] for one in found["runs"]} == {first, second}
    assert found["more"] is False
    assert [one["run_id"] for one in cli("run", "list", "--state", "succeeded").document["runs"]] == [first]
    assert len(cli("run", "list", "--state", "SUCCEEDED", "--state", "RUNNING").document["runs"]) == 2
    assert [one["run_id"] for one in cli("run", "list", "--label", "team=x").document["runs"]] == [first]
    assert cli("run", "list", "--limit", "2").document["more"] is False
    limited = cli("run", "list", "--limit", "1").document
    assert ([one["run_id"] for one in limited["runs"]], limited["more"]) == ([second], True)
    assert [one["run_id"] for one in cli("run", "list", "--limit", "7").document["runs"]] == [second, first]
    assert cli("run", "list", "--state", "DONE").error["field"].startswith("state")
    table = cli("run", "list", "-o", "csv").stdout.splitlines()
    assert table[0] == "run_id,state,tasks,done,failed,triggered,duration,run_key"
    assert any(line.startswith(f"{first},SUCCEEDED,1,1,0,") for line in table)


def test_a_run_is_cancelled_once(api: Served, cli: Cli) -> None:
    run = cli("run", "start", "names").document["run_id"]
    append(api, started("names", 1, run))
    ended = cli("run", "cancel", run, "--reason", "wrong day")
    assert ended.document == {"run_id": run, "state": "RUNNING", "cancel_requested": True}
    assert "--watch" in ended.hints[0]
    assert "RUNNING, to be cancelled" in cli("run", "list", "-o", "csv").stdout
    append(api, finished("cancelled", "names", 1, run))
    ended = cli("run", "cancel", run)
    assert (ended.code, ended.error["code"]) == (3, "EVENT_CONFLICT")
    assert cli("run", "cancel", "run_x").code == 2


def test_part_of_a_run_is_made_again(api: Served, cli: Cli) -> None:
    run = cli("run", "start", "raw", "names", "--partition", "2024-01-01").document["run_id"]
    assert cli("run", "rerun", run, "--failed").code == 3
    end(api, run, "raw[2024-01-01]")
    end(api, run, "names", "failed")
    found = cli("run", "rerun", run, "--failed").document
    assert [task["task_key"] for task in cli("run", "show", found["run_id"]).document["tasks"]] == ["names"]
    again = cli("run", "rerun", run, "--failed")
    assert again.document["run_id"] == found["run_id"]
    assert "asked for before" in again.hints[0]
    subset = cli("run", "rerun", run, "--task", "raw[2024-01-01]").document
    assert subset["run_key"].startswith(f"rerun:{run}:subset:")
    for wrong in ([], ["--failed", "--task", "names"]):
        assert cli("run", "rerun", run, *wrong).error["field"] == "--failed"
    assert cli("run", "rerun", run, "--task", "x").error["field"] == "tasks"


def test_a_run_that_could_not_be_planned_says_who_knows_why() -> None:
    counts = {f"tasks_{name}": 0 for name in ("total", "completed", "succeeded", "failed", "skipped", "cancelled")}
    run = {"run_id": "run_a", "state": "CANCELLED", "triggered_at": "2026-01-01T00:00:00Z", **counts}
    assert run_text({"run": run, "tasks": [], "dependencies": []}).endswith("next  springline explain run run_a\n")


def test_a_task_is_named_as_a_person_writes_it(cli: Cli) -> None:
    Path("flights.py").write_text(
        "from springline.sdk import asset, static\n@asset(partitions=static('a|b'))\ndef größe(): ...\n"
    )
    assert cli("deploy", "flights.py").code == 0
    run = cli("run", "start", "größe", "--partition", "a|b").document["run_id"]
    assert cli("run", "cancel", run).code == 0
    for named in ("größe[a|b]", "gr%C3%B6%C3%9Fe[a%7Cb]"):
        assert cli("run", "logs", run, named).document["lines"] == []
        assert cli("explain", "task", run, named).document["identity"] == f"{run} gr%C3%B6%C3%9Fe[a%7Cb]"
        assert cli("run", "rerun", run, "--task", named).document["tasks"] == 1
    assert cli("explain", "task", run, "größe[c").error["value"] == "größe[c"


SLEEP = "springline.cli.watching.time.sleep"


def looks_at(monkeypatch: pytest.MonkeyPatch, *, first_is_early: bool = False) -> list[str]:
    """Return the runs that commands look at, as they do; the first look may come before the run has begun."""
    real = Api.call
    looks: list[str] = []

    def call(self: Api, method: str, *path: str, **more: Any) -> Answer:
        if method == "GET" and path:
            looks.append(path[0])
            if first_is_early and len(looks) == 1:
                path = ("run_that_is_not_there",)
        return real(self, method, *path, **more)

    monkeypatch.setattr(Api, "call", call)
    return looks


def test_watching_ends_with_the_run_and_tells_by_the_exit_code(
    api: Served, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = iter(["succeeded", "failed"])
    looked = looks_at(monkeypatch)
    monkeypatch.setattr(SLEEP, lambda _: end(api, looked[-1], "names", next(outcomes)))
    ended = cli("run", "start", "names", "--watch")
    assert ended.document["run"]["state"] == "SUCCEEDED"
    run = ended.document["run"]["run_id"]
    assert ended.hints == [
        f"run {run} is RUNNING: 0 of 1 tasks have ended",
        f"run {run} is SUCCEEDED: 1 of 1 tasks have ended: 1 succeeded",
    ]
    ended = cli("run", "start", "names", "--watch")
    assert ended.code == 3
    assert json.loads(ended.stdout)["run"]["state"] == "FAILED"
    # A run that has ended is shown at once.
    assert cli("run", "show", run, "--watch").document["run"]["state"] == "SUCCEEDED"


def test_a_run_that_has_not_begun_is_waited_for(api: Served, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = looks_at(monkeypatch, first_is_early=True)
    monkeypatch.setattr(SLEEP, lambda _: end(api, looks[0], "names"))
    ended = cli("run", "start", "names", "--watch")
    assert ended.document["run"]["state"] == "SUCCEEDED"
    assert ended.hints[0] == f"run {looks[0]} is REQUESTED"
    # One that was never asked for is unknown, and not waited for.
    looks.clear()
    assert cli("run", "show", ended.document["run"]["run_id"], "--watch").code == 2


def test_ctrl_c_ends_the_watching_and_not_the_run(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SLEEP, interrupted)
    ended = cli("run", "start", "names", "--watch")
    assert ended.code == 130
    assert "goes on" in ended.hints[-1]


def test_a_lost_answer_starts_one_run_all_the_same(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    real = httpx.Client.send
    lost: list[str] = []

    def send(self: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        answer = real(self, request, **more)
        if request.method == "POST" and not lost:
            lost.append(str(request.url))
            raise httpx.ReadError("the connection broke")
        return answer

    monkeypatch.setattr(httpx.Client, "send", send)
    found = cli("run", "start", "names").document
    assert lost
    assert [one["run_id"] for one in cli("run", "list").document["runs"]] == [found["run_id"]]


def row(key: str, state: str, started: str | None = None, **more: Any) -> dict[str, Any]:
    at = None if started is None else f"2026-01-01T10:00:{started}Z"
    return {"task_key": key, "state": state, "attempt": 1, "started_at": at, "ready_at": "2026-01-01T10:00:00Z"} | more


def page(state: str, *tasks: dict[str, Any], **more: Any) -> str:
    counts = {f"tasks_{name}": 0 for name in ("total", "completed", "succeeded", "failed", "skipped", "cancelled")}
    run = {"run_id": "run_a", "state": state, "triggered_at": "2026-01-01T10:00:00.5Z", "run_key": "mine"} | counts
    needs = [{"downstream_task_key": "a", "upstream_task_key": "b"}]
    written = {name: more.pop(name) for name in ("writes", "checks", "metadata", "notes") if name in more}
    found = {"run": run | more, "tasks": list(tasks), "dependencies": needs} | written
    return run_text(found, datetime(2026, 1, 1, 10, 1, tzinfo=UTC))


def test_a_page_shows_tasks_as_they_began_with_errors_and_what_is_next() -> None:
    error = "ValueError: " + "the source answers 503, and this line is longer than eighty columns; " * 3
    shown = page(
        "FAILED",
        row("after", "SKIPPED"),
        row("b", "FAILED", "02", completed_at="2026-01-01T10:00:03Z", error_message=error),
        row("a", "SUCCEEDED", "02", completed_at="2026-01-01T10:00:04Z"),
        completed_at="2026-01-01T10:00:05.5Z",
    )
    assert re.findall(r"^(b|a|after) .*?(\S+) +(\S+)$", shown, re.MULTILINE) == [
        *(("b", "+1.5s", "1.0s"), ("a", "+1.5s", "2.0s"), ("after", "-", "-"))
    ]
    assert "duration   5.0s\n" in shown
    assert "run_key    mine\n" in shown
    assert f"b, attempt 1\n  {error.strip()}" in shown
    assert shown.endswith("next  springline run rerun run_a --failed\n")
    assert "next" not in page("SUCCEEDED", row("a", "SUCCEEDED", "04"))


def test_a_page_tells_what_checks_have_found() -> None:
    checks = [
        {"name": "row_count", "severity": "error", "passed": True, "message": "3 rows"},
        {"name": "unique(n)", "severity": "error", "passed": False, "message": "n=1\x1b 2 times"},
        {"name": "odd", "severity": "warn", "passed": False, "message": "too odd"},
    ]
    shown = page("FAILED", row("a", "FAILED", "02"), checks=[{"task_key": "a", "attempt": 1, "checks": checks}])
    lines = [line.split() for line in shown.splitlines()]
    places = [
        [one[2] for one in lines if one[:2] == ["a", "1"]].index(name) for name in ("unique(n)", "odd", "row_count")
    ]
    assert places == [0, 1, 2], "those that do not hold come first"
    assert ["a", "1", "odd", "warns", "too", "odd"] in lines
    assert "\x1b" not in shown


def test_a_page_tells_what_functions_have_told() -> None:
    told = [
        {"task_key": "a", "attempt": 2, "metadata": {"rows": 12, "share": 0.93, "said": "good\x1b day", "by": ["x"]}}
    ]
    shown = page("SUCCEEDED", row("a", "SUCCEEDED", "02"), metadata=told)
    lines = [line.split() for line in shown.splitlines()]
    assert lines[lines.index(["told", "by", "attempt", "name", "value"]) + 1 :][:4] == [
        ["a", "2", "rows", "12"],
        ["a", "2", "share", "0.93"],
        ["a", "2", "said", "good\\x1b", "day"],
        ["a", "2", "by", '["x"]'],
    ]
    assert "told by" not in page("SUCCEEDED", row("a", "SUCCEEDED", "02"), metadata=[])


def test_a_page_tells_what_no_end_of_an_attempt_does() -> None:
    notes = [{"task_key": "a", "attempt": 1, "note": "sealed", "text": "worker w sealed 2 write(s)\x1b, to t: those"}]
    lines = [line.split() for line in page("CANCELLED", row("a", "CANCELLED", "02"), notes=notes).splitlines()]
    assert ["a", "1", "worker", "w", "sealed", "2", "write(s)\\x1b,", "to", "t:", "those"] in lines


def test_a_page_tells_what_was_written() -> None:
    tables = [
        {"table": "raw", "version": 3, "operation": "append", "rows": 1200, "idempotency_key": "k"},
        {"table": "days", "version": 7},
    ]
    told = {"task_key": "a", "attempt": 2, "tables": tables}
    shown = page("SUCCEEDED", row("a", "SUCCEEDED", "02"), writes=[told])
    lines = [line.split() for line in shown.splitlines()]
    assert ["written", "by", "table", "version", "operation", "rows"] in lines
    assert ["a", "raw", "3", "append", "1200"] in lines
    assert ["a", "days", "7", "-", "-"] in lines
    assert "written by" not in page("SUCCEEDED", row("a", "SUCCEEDED", "02"))
    many = {"task_key": "a", "attempt": 1, "tables": tables * 40}
    assert "... and 30 more writes; -o json shows all" in page("SUCCEEDED", writes=[many])


def test_a_page_says_what_waits_and_for_how_long() -> None:
    shown = page(
        "RUNNING",
        row("runs", "RUNNING", "30"),
        row("here", "DISPATCHED"),
        row("there", "DISPATCHED", error_message="its worker was lost"),
        row("again", "RETRY_WAIT", "01", error_message="no", retry_not_before="2026-01-01T10:02:00.25Z"),
    )
    assert "30.0s so far" in shown
    assert "No worker has begun here and 1 more yet: all are busy, or none runs. `springline work FILE` starts" in shown
    assert "there, last failure\n  its worker was lost\n" in shown
    assert "again, attempt 1, again at 2026-01-01T10:02:00Z\n  no\n" in shown
    assert "next" not in shown
    assert "No worker" not in page("RUNNING", row("here", "DISPATCHED", ready_at="2026-01-01T10:00:55Z"))


def test_of_many_tasks_those_that_succeeded_are_left_out() -> None:
    many = [row(f"ok{number}", "SUCCEEDED", "01") for number in range(70)]
    shown = page("FAILED", *many, *(row(f"no{number}", "FAILED", "02", error_message="x") for number in range(12)))
    assert "ok1" not in shown
    assert "no11 " in shown
    assert "... and 70 more tasks; -o json shows all" in shown
    assert "... and 2 more errors" in shown
    assert "... and 70 more tasks" in page("SUCCEEDED", *many)


def test_a_page_fits_a_window_of_80_columns(api: Served, cli: Cli) -> None:
    run = cli("run", "start", "raw", "names", "--partition", "2024-01-01").document["run_id"]
    end(api, run, "names", "failed")
    for arguments in (("run", "show", run), ("run", "list")):
        code, shown = on_terminal(*arguments)
        assert code == 0
        assert all(len(line) <= 80 for line in COLOURS.sub("", shown).splitlines())
        assert "took" in shown
        assert "no room" not in shown


def test_a_run_that_goes_on_is_shown_with_what_it_says_of_itself(api: Served, cli: Cli) -> None:
    run = cli("run", "start", "names", "--field", "run_id").stdout.strip()
    shown = cli("run", "show", run).document
    doing = {"waits_for": ["names: no worker of code location flights"], "trouble": "load_run failed: no store"}
    text = run_text(shown, doing=doing)
    assert "waits: names: no worker of code location flights" in text
    assert "trouble: load_run failed: no store" in text
    # Nobody executes runs here, and the page does without.
    assert "waits:" not in cli("run", "show", run, "-o", "table").stdout
