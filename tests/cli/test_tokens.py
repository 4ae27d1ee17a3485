"""`springline token`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest

from springline.api.auth import SharedSecret, TokenVerifier
from springline.paths import Scope
from tests.cli.conftest import Cli

SECRET = "a secret that only this test knows, long enough"
WHERE = ("--tenant", "acme", "--workspace", "prod")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SPRINGLINE_JWT_SECRET", SECRET)
    return SECRET


async def test_the_api_takes_the_token(secret: str, cli: Cli) -> None:
    made = cli("token", *WHERE, "--subject", "ada").document
    principal = await TokenVerifier(SharedSecret(secret)).verify(f"Bearer {made['token']}")
    assert principal.scope == Scope("acme", "prod")
    assert principal.subject == "ada"
    assert principal.scopes == {"read", "write", "operate"}


def test_life_and_scopes_are_as_asked(secret: str, cli: Cli) -> None:
    before = int(time.time())
    made = cli("token", *WHERE, "--ttl", "60", "--scope", "read,write", "--scope", "operate").document
    claims = jwt.decode(made["token"], secret, algorithms=["HS256"], audience="springline")
    assert claims["scope"] == made["scope"] == "read write operate"
    assert before + 60 <= claims["exp"] <= int(time.time()) + 60
    assert (made["tenant"], made["workspace"]) == ("acme", "prod")


def test_audience_and_issuer_are_the_configured_ones(secret: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_JWT_AUDIENCE", "lake")
    monkeypatch.setenv("SPRINGLINE_JWT_ISSUER", "us")
    made = cli("token", *WHERE, "--field", "token")
    claims = jwt.decode(made.stdout.strip(), secret, algorithms=["HS256"], audience="lake", issuer="us")
    assert claims["sub"] == "cli"


@pytest.mark.parametrize("value", [None, "", "short"])
def test_without_a_usable_secret_nothing_is_made(value: str | None, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv("SPRINGLINE_JWT_SECRET", value)
    ended = cli("token", *WHERE)
    assert (ended.code, ended.error["field"], ended.error["value"]) == (2, "SPRINGLINE_JWT_SECRET", None)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((*WHERE, "--scope", "read,admin"), "--scope"),
        ((*WHERE, "--scope", ""), "--scope"),
        (("--tenant", "A", "--workspace", "prod"), "tenant"),
        (("--tenant", "acme", "--workspace", "a/b"), "workspace"),
    ],
)
def test_bad_options_are_bad_input(arguments: tuple[str, ...], field: str, secret: str, cli: Cli) -> None:
    ended = cli("token", *arguments)
    assert (ended.code, ended.error["field"]) == (2, field)


def test_a_shell_can_take_the_token_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "springline.cli", "token", *WHERE, "--field", "token"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"SPRINGLINE_JWT_SECRET": SECRET},
        timeout=60,
    )
    assert jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"], audience="springline")["tenant"] == "acme"
    with pytest.raises(json.JSONDecodeError):
        json.loads(done.stdout)


@pytest.mark.parametrize("subject", ["", "a\nb", "\u00e9" * 513])
def test_a_subject_that_the_api_would_refuse_is_refused_here(secret: str, cli: Cli, subject: str) -> None:
    ended = cli("token", *WHERE, "--subject", subject)
    assert (ended.code, ended.error["field"]) == (2, "--subject")
