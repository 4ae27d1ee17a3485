"""`springline sensor ...`: documents for programs, what people see, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from springline.client.lake import Springline
from tests.cli.conftest import Cli, Served

PIPELINE = """
from springline.sdk import asset, sensor, table_sensor

@asset
def raw(): ...

@sensor(push=True, select=raw)
def hook(context): ...

@sensor(every="5s", select=raw)
def files(context): ...

prices = table_sensor("prices", table="none", select=raw)
"""


@pytest.fixture(autouse=True)
def deployed(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flights.py").write_text(PIPELINE)
    assert cli("deploy", "flights.py").document["sensors"]["added"] == ["files", "hook", "prices"]


def test_sensors_are_listed_shown_and_evaluated(cli: Cli) -> None:
    found = cli("sensor", "list").document["sensors"]
    assert [(one["sensor_id"], one["definition"]["kind"]) for one in found] == [
        ("files", "poll"),
        ("hook", "push"),
        ("prices", "table"),
    ]
    table = cli("sensor", "list", "-o", "table").stdout
    assert "table none, every 30s" in table
    assert "messages" in table
    assert cli("sensor", "evaluate", "prices").document["reason_code"] == "TABLE_NOT_FOUND"
    (evaluation,) = cli("sensor", "history", "prices").document["evaluations"]
    assert evaluation["status"]["status"] == "error"
    shown = cli("sensor", "show", "prices", "-o", "table").stdout
    assert "does not answer just now" in shown
    assert "error" in shown
    assert cli("sensor", "history", "prices", "--status", "triggered").document["evaluations"] == []
    assert cli("sensor", "dry-run", "files", "--cursor", "x").document["outcome"] == "nothing"
    assert "nothing" in cli("sensor", "dry-run", "files", "-o", "table").stdout


def test_a_message_is_pushed_once(cli: Cli) -> None:
    push = ("sensor", "push", "hook", '{"file": "a.csv"}', "--message-id", "m-1")
    assert cli(*push).document["replayed"] is False
    again = cli(*push)
    assert (again.code, again.document["replayed"]) == (0, True)
    assert cli("sensor", "list").document["sensors"][1]["messages"] == 1
    other = cli("sensor", "push", "hook", "1", "--message-id", "m-1")
    assert (other.code, json.loads(other.stdout or other.stderr)["code"]) == (3, "KEY_REUSED")
    Path("message.json").write_text("[1]")
    assert cli("sensor", "push", "hook", "@message.json", "--message-id", "m-2").code == 0
    for wrong in (("{", "m-3"), ("0.5", "m-3"), ("@missing.json", "m-3")):
        assert cli("sensor", "push", "hook", wrong[0], "--message-id", wrong[1]).code == 2


def test_operators_change_sensors(cli: Cli) -> None:
    assert cli("sensor", "pause", "files").document["changed"] is True
    assert "paused" in cli("sensor", "list", "-o", "table").stdout
    assert cli("sensor", "evaluate", "files").code == 3
    assert cli("sensor", "resume", "files").document["changed"] is True
    assert cli("sensor", "set-cursor", "files", "b.csv").document["changed"] is True
    assert cli("sensor", "list").document["sensors"][0]["cursor"] == "b.csv"
    assert cli("sensor", "reset", "files").document["changed"] is True
    assert cli("sensor", "list").document["sensors"][0].get("cursor") is None
    for verb in ("pause", "show", "evaluate", "reset"):
        assert cli("sensor", verb, "zzz").code == 2
        assert cli("sensor", verb, "a/b").code == 2


def test_the_client_does_the_same(api: Served) -> None:
    with Springline(api.url) as lake:
        assert [one["sensor_id"] for one in lake.sensors.list()] == ["files", "hook", "prices"]
        pushed = lake.sensors.push("hook", {"n": 1}, message_id="m-1")
        assert lake.sensors.push("hook", {"n": 1}, message_id="m-1")["event_id"] == pushed["event_id"]
        assert lake.sensors.dry_run("hook", payload={"n": 2})["outcome"] == "no_new_data"
        assert lake.sensors.evaluate("hook")["message_id"] == "m-1"
        assert lake.sensors.pause("files")["changed"]
        assert lake.sensors.resume("files")["changed"]
        assert lake.sensors.set_cursor("files", "c")["changed"]
        assert lake.sensors.get("files")["sensor"]["cursor"] == "c"
        assert lake.sensors.reset("files")["changed"]
