"""`springline ledger append | ingest | tail`: over the API, and from the store."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from springline.ledger.request import AppendRequest, NewEvent
from springline.ledger.timestamps import format_ms
from springline.paths import ObjectPath
from springline.storage.local import LocalStore
from springline.ulids import nth_ulid, ulid_time_ms
from tests.api.conftest import new_key
from tests.api.test_ledger import foreign
from tests.cli.conftest import Cli, Ended, Served
from tests.support.local_api import ACME
from tests.support.local_ledger import LocalLedger
from tests.support.pipeline import Json, plan_created, run_triggered, succeeded_run, task

ROOT = Path(__file__).parents[2]
RUN, PLAN = run_triggered("run-1"), plan_created("run-1", ("a", []))


def lines(*objects: Any) -> str:
    return "".join(json.dumps(one) + "\n" for one in objects)


FORMS: dict[str, str] = {
    "lines of payloads": lines(RUN, PLAN),
    "lines with a blank one": lines(RUN) + "\n" + lines(PLAN),
    "lines of events": lines({"data": RUN}, {"data": PLAN}),
    "a list of payloads": json.dumps([RUN, PLAN]),
    "a list of events": json.dumps([{"data": RUN}, {"data": PLAN}], indent=2),
    "a request": json.dumps({"events": [{"data": RUN}, {"data": PLAN}]}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("source", ["file", "standard input"])
def test_events_come_in_several_forms(form: str, source: str, api: Served, tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "events"
    file.write_text(FORMS[form])
    if source == "file":
        ended = cli("ledger", "append", "--file", str(file))
    else:
        ended = cli("ledger", "append", "--file", "-", stdin=FORMS[form])
    assert [event["event_type"] for event in ended.document["events"]] == ["RunTriggered", "PlanCreated"]
    assert ended.document["visibility_status"] == "visible"
    assert ended.document["request_id"] in ended.hints[0]


def test_data_is_given_on_the_command_line(api: Served, cli: Cli) -> None:
    ended = cli("ledger", "append", "--data", json.dumps(RUN), "--data", json.dumps(PLAN))
    assert len(ended.document["events"]) == 2


def test_a_request_id_makes_the_command_repeatable(api: Served, tmp_path: Path, cli: Cli) -> None:
    request_id = new_key()
    options = ("--data", json.dumps(RUN), "--request-id", request_id)
    first = cli("ledger", "append", *options).document
    again = cli("ledger", "append", *options).document
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert again["events"][0]["event_id"] == first["events"][0]["event_id"]
    named = tmp_path / "request.json"
    named.write_text(json.dumps({"request_id": request_id, "events": [{"data": RUN}]}))
    assert cli("ledger", "append", "--file", str(named)).document["replayed"] is True
    other = cli("ledger", "append", "--data", json.dumps(PLAN), "--request-id", request_id)
    assert (other.code, other.error["code"]) == (3, "KEY_REUSED")


START = task("task_started", "run-1", "a")
EACH = ("ledger", "append", "--each", "--file", "-")


def test_events_are_taken_each_by_itself(api: Served, cli: Cli) -> None:
    ended = cli(*EACH, stdin=lines(START, RUN, PLAN))
    assert ended.code == 3
    document = json.loads(ended.stdout)
    assert [one["index"] for one in document["refused"]] == [0]
    assert [event["event_type"] for event in document["events"]] == ["RunTriggered", "PlanCreated"]
    assert document["visibility_status"] == "visible"
    assert cli(*EACH, stdin=lines(START)).code == 0, "now it is taken"


def test_a_request_in_a_file_may_say_how_it_is_taken(api: Served, cli: Cli) -> None:
    request = {"request_id": new_key(), "mode": "each", "events": [{"data": RUN}, {"data": START}]}
    first = cli("ledger", "append", "--file", "-", stdin=json.dumps(request))
    assert first.code == 3
    again = cli(*EACH, "--request-id", request["request_id"], stdin=lines(RUN, START))
    assert again.code == 3
    assert json.loads(again.stdout)["replayed"] is True
    for mode in ("all", None):
        ended = cli("ledger", "append", "--file", "-", stdin=json.dumps(request | {"mode": mode}))
        assert (ended.code, ended.error["code"]) == (3, "KEY_REUSED")
    forced = cli(*EACH, stdin=json.dumps(request | {"mode": "all"}))
    assert json.loads(forced.stdout)["replayed"] is True
    ended = cli("ledger", "append", "--file", "-", stdin=json.dumps(request | {"mode": "some"}))
    assert (ended.code, ended.error["field"]) == (2, "mode")


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([RUN, PLAN], 0),
        ([RUN, RUN], 0),
        ([START], 3),
        ([RUN, {"type": "x"}], 2),
        ([{"type": "x"}, START, RUN], 3),
    ],
    ids=["all taken", "one of them known", "the state does not admit it", "wrong by itself", "both"],
)
def test_the_exit_code_tells_why_events_were_refused(events: list[Json], code: int, api: Served, cli: Cli) -> None:
    assert cli(*EACH, stdin=lines(*events)).code == code


def test_what_became_of_each_event_is_a_row(api: Served, cli: Cli) -> None:
    cancelled = {"type": "run_cancel_requested", "run_id": "run-1", "requested_by": "ada"}
    asked = [RUN, cancelled, {"type": "x"}, START, PLAN, RUN]
    again = (*EACH, "--request-id", new_key())
    ended = cli(*again, "-o", "csv", stdin=lines(*asked))
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert [(row["event"], row["type"], row["outcome"]) for row in rows] == [
        ("0", "run_triggered", "applied"),
        ("1", "run_cancel_requested", "applied"),
        ("2", "x", "refused"),
        ("3", "task_started", "refused"),
        ("4", "plan_created", "applied"),
        ("5", "run_triggered", "duplicate"),
        ("", "RunCancelRequested", "added"),
    ]
    assert [bool(row["event_id"]) for row in rows] == [True, True, False, False, True, True, True]
    assert rows[3]["why"].startswith("EVENT_CONFLICT: run 'run-1' has no task 'a'")
    assert "4 of 6 event(s) taken, 2 refused" in ended.hints[-1]
    table = cli(*again, "-o", "table", stdin=lines(*asked)).stdout
    assert "EVENT_CONFLICT: run 'run-1' has no task 'a' [events[3].data.task_key = a] Append the run's plan" in table
    assert cli(*again, "--field", "refused.0.code", stdin=lines(*asked)).stdout.strip() == "INVALID_REQUEST"


BAD: list[tuple[list[str], str | None, int, str]] = [
    ([], None, 2, "--data"),
    (["--file", "-", "--data", "{}"], "", 2, "--file"),
    (["--file", "/nowhere/x"], None, 2, "--file"),
    (["--file", "-"], "", 2, "--file"),
    (["--file", "-"], "[]", 2, "--file"),
    (["--file", "-"], "{", 2, "--file, line 1"),
    (["--file", "-"], lines(RUN) + "nonsense\n", 2, "--file, line 2"),
    (["--file", "-"], "7", 2, "--file"),
    (["--file", "-"], json.dumps([{"run_id": "x"}]), 2, "--file"),
    (["--data", "nonsense"], None, 2, "--data"),
    (["--data", json.dumps({"data": "x"})], None, 2, "--data"),
    (["--data", json.dumps(RUN), "--request-id", "x"], None, 2, "--request-id"),
    (["--file", "-"], json.dumps({"request_id": "x", "events": [{"data": RUN}]}), 2, "--request-id"),
    (["--file", "-"], lines(*[RUN] * 501), 2, "--file"),
    (["--data", json.dumps(RUN | {"plan_id": 7})], None, 2, "events[0].data.plan_id"),
    (["--data", json.dumps(PLAN)], None, 3, "events[0].data.run_id"),
]


@pytest.mark.parametrize(("options", "stdin", "code", "field"), BAD)
def test_bad_input_is_named_and_writes_nothing(
    options: list[str], stdin: str | None, code: int, field: str, api: Served, cli: Cli
) -> None:
    ended = cli("ledger", "append", *options, stdin=stdin)
    assert (ended.code, ended.error["field"]) == (code, field)
    assert not api.paths()


def test_an_api_that_is_not_there_says_how_to_repeat(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setenv("SPRINGLINE_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SPRINGLINE_TOKEN", "x")
    ended = cli("ledger", "append", "--data", json.dumps(RUN), "--wait", "0")
    assert (ended.code, ended.error["code"]) == (4, "UNAVAILABLE")
    assert "--request-id 01" in ended.error["remedy"]


@pytest.fixture
def listed(api: Served) -> list[ObjectPath]:
    """Leave three foreign events in the store."""
    paths = []
    for number in range(3):
        path, body = foreign(number)
        api.store.seed(ACME.full(path), body)
        paths.append(path)
    return paths


def test_foreign_events_are_taken_in(listed: list[ObjectPath], tmp_path: Path, cli: Cli) -> None:
    document = cli("ledger", "ingest", *listed[:1]).document
    assert (document["accepted"], document["known"]) == (1, 0)
    assert document["visibility_status"] == "visible"
    for content in ("\n".join(listed), json.dumps({"event_paths": listed})):
        file = tmp_path / "paths"
        file.write_text(content)
        document = cli("ledger", "ingest", "--paths", str(file)).document
        assert document["accepted"] + document["known"] == 3
    assert document["known"] == 3
    assert cli("ledger", "ingest", "--paths", "-", stdin="\n".join(listed)).document["known"] == 3


def test_a_refused_event_is_told_in_the_exit_code(listed: list[ObjectPath], cli: Cli) -> None:
    ended = cli("ledger", "ingest", "x/y.json", *listed)
    assert ended.code == 3
    document = json.loads(ended.stdout)
    assert document["accepted"] == 3
    assert [(one["path"], one["reason"]) for one in document["refused"]] == [("x/y.json", "not_a_ledger_path")]


def test_many_paths_go_in_parts_and_are_added_up(
    listed: list[ObjectPath], monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setattr("springline.cli.ledger.MAX_INGEST_PATHS", 2)
    ended = cli("ledger", "ingest", *listed, "x/y.json", "x/z.json")
    document = json.loads(ended.stdout)
    assert (document["accepted"], len(document["refused"])) == (3, 2)
    assert document["outcomes"] == {"applied": 3}


@pytest.mark.parametrize(
    ("arguments", "stdin", "field"),
    [
        ([], None, "PATH"),
        (["--paths", "/nowhere/x"], None, "--paths"),
        (["--paths", "-"], "", "PATH"),
        (["--paths", "-"], "{", "--paths"),
        (["--paths", "-"], '{"paths": []}', "--paths"),
        (["--paths", "-"], '{"event_paths": [7]}', "--paths"),
    ],
)
def test_a_wrong_list_is_named(arguments: list[str], stdin: str | None, field: str, api: Served, cli: Cli) -> None:
    ended = cli("ledger", "ingest", *arguments, stdin=stdin)
    assert (ended.code, ended.error["field"]) == (2, field)


class Store:
    """A local store whose ledger a sequencer in this process writes."""

    def __init__(self, root: Path) -> None:
        self.where = ("--tenant", "acme", "--workspace", "prod", "--store", root.as_uri())
        self._ledger = LocalLedger(LocalStore(root))

    def append(self, *payloads: Json) -> list[str]:
        request = AppendRequest(request_id=new_key(), events=[NewEvent(data=payload) for payload in payloads])
        outcome = asyncio.run(self._ledger.append(ACME, request))
        assert outcome.refusal is None
        return [event.event_id for event in outcome.events]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def shown(ended: Ended) -> list[str]:
    assert ended.code == 0, ended
    return [json.loads(line)["event_id"] for line in ended.stdout.splitlines()]


def test_the_last_events_are_shown(store: Store, cli: Cli) -> None:
    assert cli("ledger", "tail", *store.where).error["code"] == "NOT_FOUND", "of a workspace that is not there"
    ids = [one for number in range(4) for one in store.append(*succeeded_run(f"run-{number}"))]
    assert shown(cli("ledger", "tail", *store.where)) == ids[-10:]
    assert shown(cli("ledger", "tail", *store.where, "--count", "3")) == ids[-3:]
    assert shown(cli("ledger", "tail", *store.where, "--count", "0")) == []
    assert shown(cli("ledger", "tail", *store.where, "--from", ids[5])) == ids[5:]
    assert shown(cli("ledger", "tail", *store.where, "--from", "0")) == ids
    assert shown(cli("ledger", "tail", *store.where, "--from", nth_ulid(ids[-1], 1))) == []
    assert shown(cli("ledger", "tail", *store.where, "--from", ids[5].lower())) == ids[5:]
    since = format_ms(ulid_time_ms(ids[0]) or 0)
    assert shown(cli("ledger", "tail", *store.where, "--from", since)) == ids
    assert shown(cli("ledger", "tail", *store.where, "--from", since[:10])) == ids
    assert shown(cli("ledger", "tail", *store.where, "--from", "2100-01-01T00:00:00+01:00")) == []
    for wrong in ("nonsense", ids[0] + "0", "9", "2026-13-01", "yesterday"):
        error = cli("ledger", "tail", *store.where, "--from", wrong, "--paths").error
        assert (error["code"], error["field"], error["value"]) == ("INVALID_REQUEST", "--from", wrong)
    line = cli("ledger", "tail", *store.where, "--count", "1").stdout
    assert json.loads(line)["data"]["type"] == "task_finished"


def test_paths_are_shown_for_a_fold(store: Store, tmp_path: Path, cli: Cli) -> None:
    for number in range(4):
        store.append(*succeeded_run(f"run-{number}"))
    listed, out = tmp_path / "paths.json", tmp_path / "state.json"
    listed.write_text(cli("ledger", "tail", *store.where, "--from", "0", "--paths").stdout)
    folded = cli("state", "fold", *store.where, "--manifest", str(listed), "--out", str(out), "--batch", "3").document
    assert folded["events"] == 16
    assert folded["digest"] == cli("state", "digest", *store.where).document["digest"]
    assert cli("state", "diff", str(out), *store.where).document["equal"] is True


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--from", "x", "--count", "1"], "--count"),
        (["--paths", "--follow"], "--paths"),
        (["--count", "-1"], "--count"),
    ],
)
def test_options_that_exclude_each_other(store: Store, options: list[str], field: str, cli: Cli) -> None:
    ended = cli("ledger", "tail", *store.where, *options)
    assert (ended.code, ended.error["field"]) == (2, field)


def test_following_shows_events_as_they_become_visible(store: Store) -> None:
    first = store.append(RUN)
    following = subprocess.Popen(
        [sys.executable, "-m", "springline.cli", "ledger", "tail", *store.where, "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    ended = threading.Timer(60, following.kill)
    ended.start()
    try:
        assert following.stdout is not None
        read: Callable[[], str] = following.stdout.readline
        assert json.loads(read())["event_id"] == first[0]
        for number in range(3):
            expected = store.append(*succeeded_run(f"more-{number}"))
            assert [json.loads(read())["event_id"] for _ in expected] == expected
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=30)
        assert following.returncode == 130
        assert "Traceback" not in said
    finally:
        ended.cancel()
        following.kill()
        following.wait()


def test_a_refusal_of_the_api_carries_its_request_id(api: Served, cli: Cli) -> None:
    ended = cli("ledger", "append", "--data", json.dumps(PLAN))
    assert ended.error["requestId"]
