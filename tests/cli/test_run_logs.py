"""`springline run logs`, its route and `lake.runs.logs`: what attempts have printed."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from springline.api.tokens import make_token
from springline.client import Springline
from springline.errors import Refused
from springline.paths import ObjectPath, log_chunk
from springline.runs.attempt_logs import LogLine, chunk_object
from tests.cli.conftest import Cli, Served
from tests.cli.test_runs import append, end
from tests.control.payloads import finished, started
from tests.support.local_api import ACME, RIVAL, SECRET

FLOW = "from springline.sdk import asset\n\n@asset\ndef a(): ...\n\n@asset\ndef b(): ...\n"


def printed(api: Served, run: str, task: str, attempt: int, number: int, *lines: tuple[int, str]) -> None:
    data = chunk_object(run, task, attempt, number, "w1", [LogLine(at, text) for at, text in lines])
    api.store.seed(ObjectPath(f"{ACME.prefix}/{log_chunk(run, task, attempt, number)}"), data)


@pytest.fixture
def run(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("flow.py").write_text(FLOW)
    assert cli("deploy", "flow.py").code == 0
    found: str = cli("run", "start", "*").document["run_id"]
    append(api, started("a", 1, found), started("b", 1, found))
    printed(api, found, "a", 1, 1, (1_000, "first"), (3_000, "third \x1b[31m"))
    printed(api, found, "a", 1, 2, (4_000, "fourth"))
    printed(api, found, "b", 1, 1, (2_000, "second"))
    return found


def test_lines_of_all_tasks_come_by_their_instants(cli: Cli, run: str) -> None:
    found = cli("run", "logs", run).document
    assert [(one["task_key"], one["text"]) for one in found["lines"]] == [
        *(("a", "first"), ("b", "second"), ("a", "third \x1b[31m"), ("a", "fourth")),
    ]
    shown = cli("run", "logs", run, "a", "-o", "table").stdout
    assert shown.splitlines() == [
        "00:00:01 a#1  first",
        "00:00:03 a#1  third \\u001b[31m",
        "00:00:04 a#1  fourth",
    ]
    assert cli("run", "logs", run, "b", "--attempt", "1", "--field", "lines.0.text").stdout == "second\n"


def test_what_there_is_not(cli: Cli, run: str) -> None:
    assert "no task 'c'" in cli("run", "logs", run, "c").error["message"]
    assert cli("run", "logs", "run_none").error["code"] == "NOT_FOUND"
    assert cli("run", "logs", run, "a", "--attempt", "2").error["field"] == "attempt"


def test_following_ends_with_the_run_and_tells_how(
    api: Served, cli: Cli, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            printed(api, run, "b", 1, 2, (5_000, "more"))
            end(api, run, "a")
        else:
            printed(api, run, "b", 1, 3, (6_000, "last"))
            end(api, run, "b", "failed")

    monkeypatch.setattr("springline.cli.run_logs.time.sleep", pause)
    ended = cli("run", "logs", run, "--follow", "-o", "table")
    assert ended.code == 3
    assert [line.split("  ", 1)[1] for line in ended.stdout.splitlines()] == [
        *("first", "second", "third \\u001b[31m", "fourth", "more", "last"),
    ]
    assert f"run {run} is FAILED" in ended.hints


def test_the_client_reads_it_and_strangers_do_not(api: Served, cli: Cli, run: str) -> None:
    with Springline() as lake:
        assert [one["text"] for one in lake.runs.logs(run, "a")] == ["first", "third \x1b[31m", "fourth"]
    stranger = make_token(SECRET, RIVAL, subject="stranger")
    answer = httpx.get(
        f"{api.url}/api/v1/runs/{run}/logs", params={"task_key": "a"}, headers={"Authorization": f"Bearer {stranger}"}
    )
    assert answer.status_code == 404


def test_a_client_waits_for_the_end_of_its_run(
    api: Served, cli: Cli, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Springline() as lake:
        started_run = lake.run("a", run_key="mine")
        assert lake.run("a", run_key="mine").run_id == started_run.run_id
        with pytest.raises(TimeoutError, match="goes on"):
            started_run.wait(0)
        monkeypatch.setattr("springline.client.runs.time.sleep", lambda _: end(api, started_run.run_id, "a"))
        assert started_run.wait()["run"]["state"] == "SUCCEEDED"


@pytest.mark.parametrize(("lost", "seen"), [(2, ["first", "second", "third \x1b[31m"]), (1, ["second", "fourth"])])
def test_a_lost_part_of_a_log_is_named_and_the_rest_is_shown(
    api: Served, cli: Cli, run: str, lost: int, seen: list[str]
) -> None:
    append(api, finished("succeeded", "a", 1, run, springline={"log_chunks": 2}), finished("succeeded", "b", 1, run))
    path = log_chunk(run, "a", 1, lost)
    api.store.remove(ObjectPath(f"{ACME.prefix}/{path}"))
    for command in (("run", "logs", run), ("run", "logs", run, "--follow")):
        ended = cli(*command)
        assert ended.code == 3
        assert any(path in one and "Restore it from a copy" in one for one in ended.hints), ended.hints
    document = json.loads(cli("run", "logs", run).stdout)
    assert [one["text"] for one in document["lines"]] == seen
    ((damaged),) = document["damaged"]
    assert (damaged["task_key"], damaged["attempt"]) == ("a", 1)
    with Springline() as lake, pytest.raises(Refused, match=path):
        list(lake.runs.logs(run, "a"))
