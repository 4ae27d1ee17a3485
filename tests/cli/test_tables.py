"""`springline table create | adopt | status` and what can be wrong with the API they talk to."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from springline import paths
from springline.api.tokens import make_token
from springline.local.ports import free_ports
from tests.cli.conftest import SCHEMA, Cli, Served, payload
from tests.support.local_api import ACME, SECRET
from tests.support.tables import deltalake_table, load


def test_a_table_is_created_with_partitions_and_properties(api: Served, cli: Cli) -> None:
    made = cli(
        *("table", "create", "flights"),
        *(
            "--schema",
            '[{"name": "x", "type": "long"}, {"name": "day", "type": "string"}, {"name": "n", "type": "long"}]',
        ),
        *("--partition-by", "day,n", "--property", "delta.appendOnly=true", "--property", "owner=a=b"),
        *("--description", "what flew", "--location", "lake/flights"),
    ).document
    assert made["table"]["name"] == "flights"
    assert made["table"]["root"] == "/tables/acme/prod/lake/flights"
    assert made["location"].endswith("/lake/flights")
    status = cli("table", "status", "flights").document
    assert status["partition_columns"] == ["day", "n"]
    assert status["properties"] == {"delta.appendOnly": "true", "owner": "a=b"}
    assert (status["latest_version"], status["inflight"]) == (0, None)
    assert cli("table", "status", made["table"]["table_id"]).document == status


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_the_schema_comes_from_a_file_or_standard_input(how: str, api: Served, cli: Cli, tmp_path: Path) -> None:
    struct = {"type": "struct", "fields": [{"name": "x", "type": "long", "nullable": False, "metadata": {}}]}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(struct))
    source, stdin = ("-", json.dumps(struct)) if how == "stdin" else (str(file), None)
    cli("table", "create", "flights", "--schema", source, stdin=stdin)
    assert cli("table", "status", "flights", "--field", "columns.fields.0.nullable").stdout == "false\n"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--schema", "[{]"], "--schema"),
        (["--schema", "no-such-file.json"], "--schema"),
        (["--schema", "-"], "--schema"),
        (["--schema", SCHEMA, "--partition-by", "x,,y"], "--partition-by"),
        (["--schema", SCHEMA, "--property", "novalue"], "--property"),
        (["--schema", SCHEMA, "--property", "a=1", "--property", "a=2"], "--property"),
        (["--schema", SCHEMA, "--property", "=1"], "--property"),
        (["--schema", "[]"], "columns"),
        (["--schema", SCHEMA, "--partition-by", "y"], "partition_columns"),
        (["--schema", SCHEMA, "--location", "../other"], "location"),
    ],
)
def test_a_bad_creation_is_refused_by_field_and_writes_nothing(
    arguments: list[str], field: str, api: Served, cli: Cli
) -> None:
    ended = cli("table", "create", "flights", *arguments, stdin="no JSON")
    assert ended.code == 2
    assert ended.error["field"] == field
    assert api.paths() == set()


def test_a_schema_file_that_is_no_text_is_refused(api: Served, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "schema.bin"
    file.write_bytes(b"\xff\xfe")
    assert "UTF-8" in cli("table", "create", "flights", "--schema", str(file)).error["message"]


def test_a_name_that_is_taken_by_another_table_is_a_conflict(api: Served, cli: Cli, flights: str) -> None:
    ended = cli("table", "create", "flights", "--schema", SCHEMA, "--location", "elsewhere")
    assert ended.code == 3
    assert ended.error["code"] == "NAME_TAKEN"
    assert ended.error["requestId"]


def test_a_repeated_creation_finds_its_own_table(api: Served, cli: Cli) -> None:
    first = cli("table", "create", "flights", "--schema", SCHEMA).document
    after = api.paths()
    assert cli("table", "create", "flights", "--schema", SCHEMA).document == first
    assert api.paths() == after


def test_a_folder_of_another_engine_is_adopted(api: Served, cli: Cli, tmp_path: Path) -> None:
    load(api.store, "lake/other", deltalake_table(tmp_path / "table", versions=2))
    made = cli("table", "adopt", "other", "lake/other").document
    assert made["table"]["root"] == "lake/other"
    assert cli("table", "status", "other", "--field", "latest_version").stdout == "1\n"


def test_a_folder_without_a_table_is_not_adopted(api: Served, cli: Cli) -> None:
    ended = cli("table", "adopt", "other", "lake/other")
    assert ended.code == 2
    assert ended.error["code"] == "NOT_A_DELTA_TABLE"


@pytest.mark.parametrize("table", ["nobody", "01946b1c-0000-7000-8000-0000000000ff", "b?c", "x y"])
def test_an_unknown_table_is_bad_input(table: str, api: Served, cli: Cli) -> None:
    ended = cli("table", "status", table)
    assert ended.code == 2
    assert (ended.error["code"], ended.error["value"]) == ("TABLE_NOT_FOUND", table)


@pytest.mark.parametrize("table", ["", ".", "..", "a/b"])
def test_a_table_that_no_route_can_carry_is_bad_input(table: str, api: Served, cli: Cli) -> None:
    assert (cli("table", "status", table).code, cli("table", "status", table).error["field"]) == (2, "table")


# What can be wrong with the API.


def test_the_api_must_be_named(cli: Cli) -> None:
    ended = cli("table", "status", "flights")
    assert ended.code == 2
    assert ended.error["field"] == "--api"
    assert "SPRINGLINE_API_URL" in ended.error["remedy"]


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", "http://host:99999", "http://[::1"])
def test_an_address_must_be_a_web_address(url: str, cli: Cli) -> None:
    ended = cli("table", "status", "flights", "--api", url, "--token", "t")
    assert (ended.code, ended.error["field"], ended.error["value"]) == (2, "--api", url)


def test_a_token_must_be_given(api: Served, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPRINGLINE_TOKEN")
    ended = cli("table", "status", "flights")
    assert (ended.code, ended.error["code"], ended.error["field"]) == (2, "MISSING_TOKEN", "--token")


@pytest.mark.parametrize("token", ["Bearer abc", "abc\n", "ab\u00e9"])
def test_a_token_must_be_one(token: str, api: Served, cli: Cli) -> None:
    ended = cli("table", "status", "flights", "--token", token)
    assert (ended.code, ended.error["code"]) == (2, "INVALID_TOKEN")
    assert token.strip() not in ended.stderr


def test_a_token_that_has_expired_is_bad_input(api: Served, cli: Cli) -> None:
    old = make_token(SECRET, ACME, subject="tester", now_s=1_700_000_000)
    ended = cli("table", "status", "flights", "--token", old)
    assert (ended.code, ended.error["code"]) == (2, "INVALID_TOKEN")


def test_a_token_without_the_scope_is_bad_input(api: Served, cli: Cli) -> None:
    reader = make_token(SECRET, ACME, subject="tester", scopes=["read"])
    ended = cli("table", "create", "flights", "--schema", SCHEMA, "--token", reader)
    assert (ended.code, ended.error["code"]) == (2, "FORBIDDEN")


def test_nobody_listening_means_try_again(cli: Cli) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    ended = cli("table", "status", "flights", "--api", url, "--token", "t", "--wait", "0")
    assert ended.code == 4
    assert (ended.error["code"], ended.error["field"], ended.error["value"]) == ("UNAVAILABLE", "--api", url)
    assert "run the same command again" in ended.error["remedy"]
    assert "Traceback" not in ended.stderr


def test_a_call_is_repeated_for_as_long_as_asked(cli: Cli) -> None:
    (port,) = free_ports(1)
    ended = cli("table", "status", "flights", "--api", f"http://127.0.0.1:{port}", "--token", "t", "--wait", "0.3")
    assert ended.code == 4
    assert len(ended.hints) == 1
    assert "trying again for 0.3 s" in ended.hints[0]


def test_an_answer_of_something_else_is_told_from_ours(api: Served, cli: Cli) -> None:
    ended = cli("table", "status", "flights", "--api", f"{api.url}/elsewhere")
    assert (ended.code, ended.error["code"]) == (2, "ROUTE_NOT_FOUND")


def test_the_answers_of_a_proxy_are_told_from_ours(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([httpx.Response(502, text="bad gateway"), httpx.Response(418, text="teapot")])

    def answer(self: httpx.Client, request: httpx.Request) -> httpx.Response:
        response = next(answers)
        response.request = request
        return response

    monkeypatch.setattr(httpx.Client, "send", answer)
    busy = cli("table", "status", "flights", "--api", "http://proxy", "--token", "t", "--wait", "0")
    assert (busy.code, busy.error["code"]) == (4, "UNAVAILABLE")
    other = cli("table", "status", "flights", "--api", "http://proxy", "--token", "t")
    assert (other.code, other.error["code"], other.error["field"]) == (2, "INVALID_REQUEST", "--api")


def test_the_tables_are_listed_as_json_for_programs_and_side_by_side_for_people(api: Served, cli: Cli) -> None:
    assert cli("table", "list").document == {"tables": [], "damaged": [], "more": False}
    for name in ("raw_a", "raw_b", "mart"):
        assert cli("table", "create", name, "--schema", SCHEMA).code == 0
    listed = cli("table", "list").document
    assert [one["name"] for one in listed["tables"]] == ["raw_a", "raw_b", "mart"]
    assert listed["tables"][0]["location"] == cli("table", "status", "raw_a").document["location"]
    some = cli("table", "list", "--name-prefix", "raw_", "--limit", "1").document
    assert ([one["name"] for one in some["tables"]], some["more"]) == (["raw_a"], True)
    lines = cli("table", "list", "--format", "table").stdout.splitlines()
    assert lines[0].split() == ["name", "table_id", "created", "location"]
    assert [line.split()[0] for line in lines[2:]] == ["raw_a", "raw_b", "mart"]
    assert cli("table", "list", "--format", "csv").stdout.splitlines()[1].startswith("raw_a,")
    assert cli("table", "list", "--field", "tables.2.name").stdout == "mart\n"


def test_a_damaged_registry_entry_is_named_and_the_others_are_listed(api: Served, cli: Cli) -> None:
    assert cli("table", "create", "flights", "--schema", SCHEMA).code == 0
    damaged = paths.table_entry("01946b1c-0000-7000-8000-0000000000aa")
    api.store.seed(ACME.full(damaged), b"{")
    ended = cli("table", "list")
    assert [one["name"] for one in ended.document["tables"]] == ["flights"]
    assert [one["object"] for one in ended.document["damaged"]] == [damaged]
    assert damaged in ended.hints[0]


def test_the_history_of_a_table_is_shown_newest_first(api: Served, cli: Cli, flights: str) -> None:
    for number in range(3):
        ended = cli(
            *("commit", "flights", "--payload", "-", "--mode", "append", "--key", f"load/{number}"),
            stdin=payload(number),
        )
        assert ended.code == 0
    shown = cli("table", "history", flights).document
    assert [one["version"] for one in shown["versions"]] == [3, 2, 1, 0]
    assert not shown["more"]
    some = cli("table", "history", "flights", "--limit", "2").document
    assert ([one["version"] for one in some["versions"]], some["more"]) == ([3, 2], True)
    lines = cli("table", "history", "flights", "--format", "table").stdout.splitlines()
    assert lines[0].split() == ["version", "time", "operation", "rows_added", "rows_removed", "keys"]
    assert len(lines) == 6
    assert cli("table", "history", "nothing").error["code"] == "TABLE_NOT_FOUND"
