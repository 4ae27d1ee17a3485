"""What no request can say is refused by the command, without asking the API and without a traceback."""

from __future__ import annotations

from datetime import date

import pytest

from springline.client.http import ApiClient
from springline.errors import Code, Refused
from tests.cli.conftest import Cli

BYTE = "\udcff"
"""What Python makes of a byte that is no UTF-8."""
API = ("--api", "http://127.0.0.1:9", "--token", "t", "--wait", "0")
PUSH = ("sensor", "push", "hook", "--message-id", "m")


@pytest.mark.parametrize(
    "command",
    [
        ("schedule", "show", BYTE),
        ("run", "list", "--label", f"team={BYTE}"),
        ("run", "start", "raw", "--key", BYTE),
        ("sensor", "set-cursor", "hook", BYTE),
        ("backfill", "create", "raw", "--partition", BYTE),
        ("explain", "partition", "raw", BYTE),
        ("validate", f"{BYTE}.py"),
        ("query", f"SELECT '{BYTE}'"),
    ],
)
def test_bytes_that_are_no_text(cli: Cli, command: tuple[str, ...]) -> None:
    found = cli(*command)
    assert (found.code, found.error["code"]) == (2, Code.INVALID_REQUEST)
    assert "no UTF-8" in found.error["message"]


@pytest.mark.parametrize("host", ["a..b", "xn--", "ü..x", "a" * 64, "a\tb"])
def test_hosts_that_no_name_service_knows(cli: Cli, host: str) -> None:
    found = cli("schedule", "list", "--api", f"http://{host}", "--token", "t", "--wait", "0")
    assert (found.code, found.error["field"]) == (2, "--api")


@pytest.mark.parametrize(
    "text", ["NaN", '{"a": [1e999]}', "[-Infinity]", '"\\ud800"', "[" * 100_000, "[" * 9_000 + "]" * 9_000]
)
@pytest.mark.parametrize("command", [PUSH, ("sensor", "dry-run", "hook", "--payload")])
def test_payloads_that_are_no_json(cli: Cli, command: tuple[str, ...], text: str) -> None:
    found = cli(*command, text, *API)
    assert (found.code, found.error["field"]) == (2, "JSON")
    assert len(found.error["value"]) <= 200


@pytest.mark.parametrize(
    ("value", "said"), [(float("nan"), "NaN or Infinity"), ("\ud800", "no Unicode"), (float("inf"), "NaN or Infinity")]
)
def test_the_client_refuses_what_it_cannot_send(value: object, said: str) -> None:
    client = ApiClient("http://127.0.0.1:9", "t", deadline_s=0)
    with pytest.raises(Refused, match=said):
        client.call("POST", "/x", body={"payload": value})


@pytest.mark.parametrize(
    ("config", "field", "said"),
    [
        ({"days": [date(2024, 1, 31)]}, "config.days[0]", r"config\.days\[0\] is a date, which JSON does not have"),
        ({"a": {(1, 2): 3}}, "a name in config.a", "a name in config.a is a tuple"),
    ],
)
def test_the_client_names_what_is_no_json(config: object, field: str, said: str) -> None:
    client = ApiClient("http://127.0.0.1:9", "t", deadline_s=0)
    with pytest.raises(Refused, match=said) as raised:
        client.call("POST", "/x", body={"config": config})
    assert raised.value.refusal.field == field
