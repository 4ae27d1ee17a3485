"""`springline stage | commit | explain`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from uuid_utils import uuid7

from springline.keys import check_key, idempotency_key
from springline.local.ports import free_ports
from tests.cli.conftest import Cli, Served, payload


def new_key() -> str:
    return str(uuid7())


@pytest.fixture
def actions(tmp_path: Path) -> str:
    file = tmp_path / "actions.ndjson"
    file.write_text(payload())
    return str(file)


def test_a_file_is_committed_under_a_key_that_was_shown_first(cli: Cli, flights: str, actions: str) -> None:
    ended = cli("commit", "flights", "--payload", actions, "--read-version", "0")
    document = ended.document
    key = check_key(document["idempotency_key"])
    assert document == {
        "idempotency_key": key,
        "replayed": False,
        "version": 1,
        "delta_log_path": f"/tables/acme/prod/{flights}/_delta_log/{1:020}.json",
    }
    assert ended.hints == [f"idempotency key {key}; after a lost answer run the same command with --key {key}"]


def test_standard_input_is_committed_as_an_append_to_the_latest_version(cli: Cli, flights: str) -> None:
    for number in (1, 2):
        document = cli("commit", flights, "--payload", "-", "--mode", "append", stdin=payload(number)).document
        assert document["version"] == number


def test_the_same_command_with_the_key_is_answered_the_same(cli: Cli, flights: str, actions: str) -> None:
    key = new_key()
    arguments = ("commit", "flights", "--payload", actions, "--read-version", "0", "--key", key)
    first, second = cli(*arguments).document, cli(*arguments).document
    assert second == first | {"replayed": True}


def test_a_stale_read_version_is_a_conflict_that_says_what_came_since(cli: Cli, flights: str, actions: str) -> None:
    cli("commit", "flights", "--payload", actions, "--read-version", "0")
    ended = cli("commit", "flights", "--payload", actions, "--read-version", "0")
    assert ended.code == 3
    assert ended.error["code"] == "STALE_READ_VERSION"
    assert ended.error["latest_version"] == 1
    assert [since["version"] for since in ended.error["commits_since"]] == [1]
    assert ended.error["requestId"]


def test_a_key_with_another_payload_is_a_conflict(cli: Cli, flights: str, actions: str) -> None:
    key = new_key()
    cli("commit", "flights", "--payload", actions, "--read-version", "0", "--key", key)
    ended = cli("commit", "flights", "--payload", "-", "--read-version", "0", "--key", key, stdin=payload(2))
    assert (ended.code, ended.error["code"]) == (3, "KEY_REUSED")


def test_a_strict_commit_needs_its_read_version(api: Served, cli: Cli, flights: str, actions: str) -> None:
    before = api.paths()
    ended = cli("commit", "flights", "--payload", actions)
    assert (ended.code, ended.error["field"]) == (2, "--read-version")
    assert api.paths() == before


@pytest.mark.parametrize(
    ("stdin", "code"),
    [
        (b"\xff", "INVALID_PAYLOAD"),
        (b"no JSON", "INVALID_PAYLOAD"),
        (b'{"nothing":{}}', "INVALID_PAYLOAD"),
        (b"", "INVALID_PAYLOAD"),
        (b" " * (6 * 1024 * 1024), "PAYLOAD_TOO_LARGE"),
    ],
)
def test_a_bad_payload_is_bad_input(stdin: bytes, code: str, api: Served, cli: Cli, flights: str) -> None:
    before = api.paths()
    ended = cli("commit", "flights", "--payload", "-", "--read-version", "0", stdin=stdin)
    assert (ended.code, ended.error["code"]) == (2, code)
    assert api.paths() == before


def test_a_payload_file_must_be_there(cli: Cli, flights: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    ended = cli("commit", "flights", "--payload", missing, "--read-version", "0")
    assert (ended.code, ended.error["field"], ended.error["value"]) == (2, "--payload", missing)
    assert cli("commit", "flights", "--payload", str(tmp_path), "--read-version", "0").code == 2


def test_an_append_of_anything_but_adds_is_bad_input(cli: Cli, flights: str) -> None:
    remove = json.dumps({"remove": {"path": "x", "dataChange": True}})
    ended = cli("commit", "flights", "--payload", "-", "--mode", "append", stdin=remove)
    assert (ended.code, ended.error["code"]) == (2, "NOT_AN_APPEND")


def test_when_nobody_answers_the_key_to_repeat_with_is_told(cli: Cli, actions: str) -> None:
    (port,) = free_ports(1)
    options = ("--api", f"http://127.0.0.1:{port}", "--token", "t", "--wait", "0")
    ended = cli("commit", "flights", "--payload", actions, "--read-version", "0", *options)
    assert ended.code == 4
    (shown,) = ended.hints
    key = check_key(shown.rpartition(" ")[2])
    assert f"--key {key}" in ended.error["remedy"]


def test_what_became_of_a_key_is_told(cli: Cli, flights: str, actions: str) -> None:
    key = new_key()
    unknown = cli("explain", "commit", "flights", key)
    assert (unknown.code, unknown.error["code"], unknown.error["value"]) == (2, "KEY_NOT_FOUND", key)
    cli("commit", "flights", "--payload", actions, "--read-version", "0", "--key", key)
    view = cli("explain", "commit", "flights", key).document
    assert (view["fate"], view["version"], view["idempotency_key"]) == ("committed", 1, key)
    assert "version 1" in cli("explain", "commit", flights, key, "--field", "meaning").stdout


@pytest.mark.parametrize("text", ["airflow/load/2026-01-01", "a b?c#d%2F/../é", "x" * 500])
def test_a_text_is_a_key_and_is_shown_with_the_uuid_it_stands_for(
    cli: Cli, flights: str, actions: str, text: str
) -> None:
    key = idempotency_key(text)
    said = f"key {text!r} stands for {key}"
    arguments = ("commit", "flights", "--payload", actions, "--read-version", "0")
    first = cli(*arguments, "--key", text)
    assert first.hints[0] == said
    assert first.document["idempotency_key"] == key
    assert cli(*arguments, "--key", key).document == first.document | {"replayed": True}
    ended = cli("explain", "commit", "flights", text)
    assert ended.hints == [said]
    assert (ended.document["key"], ended.document["idempotency_key"]) == (text, key)
    assert (ended.document["fate"], ended.document["version"]) == ("committed", 1)
    assert cli("explain", "commit", "flights", key).document == {
        name: value for name, value in ended.document.items() if name != "key"
    }
    unknown = cli("explain", "commit", "flights", "another text")
    assert (unknown.code, unknown.error["code"]) == (2, "KEY_NOT_FOUND")
    assert idempotency_key("another text") in unknown.hints[0]


@pytest.mark.parametrize("bad", ["", "x" * 501])
def test_a_text_that_can_be_no_key_is_refused(cli: Cli, flights: str, actions: str, bad: str) -> None:
    ended = cli("explain", "commit", "flights", bad)
    assert (ended.code, ended.error["code"], ended.error["field"]) == (2, "INVALID_KEY", "key")
    ended = cli("commit", "flights", "--payload", actions, "--read-version", "0", "--key", bad)
    assert (ended.code, ended.error["code"], ended.error["field"]) == (2, "INVALID_KEY", "--key")
    assert ended.error["value"] == bad[:100]


def test_staging_prints_the_request_that_commits_it(api: Served, cli: Cli, flights: str, actions: str) -> None:
    key = new_key()
    arguments = ("stage", "flights", "--payload", actions, "--mode", "append", "--key", key)
    request = cli(*arguments).document
    staged_path = f"delta/staging/{flights}/{key}.json"
    assert request == {
        "idempotency_key": key,
        "mode": "append",
        "read_version": 0,
        "staged_path": staged_path,
        "staged_version": request["staged_version"],
    }
    after = api.paths()
    assert any(path.endswith(staged_path) for path in after)
    assert cli(*arguments).document == request
    assert api.paths() == after
    assert cli("table", "status", "flights", "--field", "latest_version").stdout == "0\n"
