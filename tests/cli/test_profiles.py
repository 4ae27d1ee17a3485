"""Where tenant, workspace, store, URL and token come from: option, variable, profile, in this order."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from springline.cli.presence import check_workspace
from springline.cli.profiles import profile_file
from springline.errors import Refused
from springline.paths import Scope
from springline.storage.local import LocalStore
from tests.cli.conftest import Cli, Served
from tests.support.local_api import SECRET

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJ0ZW5hbnQiOiJhY21lIn0.signature"


def lines(cli: Cli, *arguments: str) -> str:
    return cli(*arguments).stdout


def test_a_profile_is_kept_shown_used_and_forgotten(cli: Cli) -> None:
    made = cli("profile", "set", "prod", "--api", "https://lake", "--token", TOKEN, "--tenant", "acme").document
    assert made["used"] is True, "the first one is used"
    assert made["token"] == "...nature"
    cli("profile", "set", "dev", "--workspace", "dev")
    cli("profile", "set", "prod", "--workspace", "prod", "--tenant", "")
    assert stat.S_IMODE(profile_file().stat().st_mode) == 0o600
    assert [file.name for file in profile_file().parent.iterdir()] == ["profiles.toml"]
    shown = cli("profile", "show").document
    assert (shown["name"], shown["api"], shown["tenant"], shown["workspace"]) == ("prod", "https://lake", None, "prod")
    assert cli("profile", "use", "dev").document["used"] is True
    listed = cli("profile", "list")
    assert listed.document["used"] == "dev"
    assert [one["name"] for one in listed.document["profiles"]] == ["prod", "dev"]
    assert TOKEN not in listed.stdout + cli("profile", "list", "-o", "csv").stdout
    assert cli("profile", "remove", "dev").document["profiles"] == ["prod"]
    assert cli("profile", "show").error["code"] == "NOT_FOUND"


def test_a_token_can_be_given_by_standard_input(cli: Cli) -> None:
    cli("profile", "set", "x", "--token", "-", stdin=f"{TOKEN}\n")
    assert f'token = "{TOKEN}"' in profile_file().read_text()


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("set", "a b"), "NAME"),
        (("set", "x", "--token", "t", "--token-file", "f"), "--token-file"),
        (("use", "nope"), "NAME"),
        (("remove", "nope"), "NAME"),
        (("show", "nope"), "NAME"),
    ],
)
def test_bad_input_is_refused(arguments: tuple[str, ...], field: str, cli: Cli) -> None:
    ended = cli("profile", *arguments)
    assert (ended.code, ended.error["field"]) == (2, field)


def test_an_unknown_profile_is_refused_with_those_that_exist(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("profile", "set", "prod", "--api", "https://lake")
    error = cli("table", "list", "--profile", "prd").error
    assert (error["field"], error["value"]) == ("--profile", "prd")
    assert "prod" in error["remedy"]
    monkeypatch.setenv("SPRINGLINE_PROFILE", "prd")
    assert cli("table", "list").error["value"] == "prd"


def test_a_file_that_is_none_is_named(cli: Cli) -> None:
    profile_file().parent.mkdir(parents=True)
    profile_file().write_text("used = ")
    assert "cannot be read" in cli("table", "list").error["message"]


def test_others_who_can_read_the_file_are_warned_of(cli: Cli) -> None:
    cli("profile", "set", "x", "--api", "https://lake")
    profile_file().chmod(0o644)
    assert any("chmod 600" in hint for hint in cli("profile", "list").hints)


def test_option_goes_before_variable_and_variable_before_profile(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("profile", "set", "one", "--api", "http://127.0.0.1:1/one", "--token", "t")
    cli("profile", "set", "two", "--api", "http://127.0.0.1:1/two", "--token", "t")

    def asked(*arguments: str) -> str:
        value: str = cli("table", "list", "--wait", "0", *arguments).error["value"]
        return value.rsplit("/", 1)[1]

    assert asked() == "one"
    assert asked("--profile", "two") == "two"
    monkeypatch.setenv("SPRINGLINE_PROFILE", "two")
    assert asked() == "two"
    assert asked("--profile", "one") == "one"
    monkeypatch.setenv("SPRINGLINE_API_URL", "http://127.0.0.1:1/variable")
    assert asked() == "variable"
    assert asked("--profile", "one") == "variable"
    assert asked("--api", "http://127.0.0.1:1/option") == "option"


def test_the_token_comes_from_the_closest_of_text_and_file(
    api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(os.environ["SPRINGLINE_TOKEN"] + "\n")
    bad.write_text("wrong\n")

    def code(*arguments: str) -> int:
        return cli("table", "list", *arguments).code

    assert code("--token-file", str(bad)) == 2, "an option goes before the variable"
    monkeypatch.setenv("SPRINGLINE_TOKEN_FILE", str(bad))
    assert code() == 0, "of two variables the token itself counts"
    assert code("--token", "wrong") == 2
    monkeypatch.delenv("SPRINGLINE_TOKEN")
    assert code() == 2
    assert code("--token-file", str(good)) == 0
    monkeypatch.delenv("SPRINGLINE_TOKEN_FILE")
    cli("profile", "set", "x", "--token-file", str(good))
    assert code() == 0
    assert code("--token", "wrong") == 2
    error = cli("table", "list", "--token", "a", "--token-file", str(good)).error
    assert error["field"] == "--token-file"
    error = cli("table", "list", "--token-file", str(tmp_path / "missing")).error
    assert (error["code"], error["field"]) == ("MISSING_TOKEN", "--token-file")


async def test_tenant_and_workspace_come_from_variables_and_profiles(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPRINGLINE_JWT_SECRET", SECRET)
    assert "SPRINGLINE_TENANT" in cli("token").error["remedy"]
    cli("profile", "set", "x", "--tenant", "acme", "--workspace", "prod")
    made = cli("token").document
    assert (made["tenant"], made["workspace"]) == ("acme", "prod")
    monkeypatch.setenv("SPRINGLINE_WORKSPACE", "dev")
    made = cli("token").document
    assert (made["tenant"], made["workspace"]) == ("acme", "dev")
    assert cli("token", "--workspace", "test").document["workspace"] == "test"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    for tenant, workspace in (("acme", "dev"), ("acme", "prod"), ("acme", "prod-2"), ("zulu", "main")):
        folder = tmp_path / "lake" / f"tenant={tenant}" / f"workspace={workspace}" / "ledger"
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}.json").write_text("{}")
    return tmp_path / "lake"


@pytest.mark.parametrize(
    "command",
    [
        ["state", "show"],
        ["state", "digest"],
        ["query", "SELECT 1"],
        ["ledger", "tail"],
        ["table", "verify", "flights"],
        ["table", "recover", "flights"],
        ["rebuild", "plan"],
    ],
    ids=" ".join,
)
def test_a_workspace_of_which_the_store_holds_nothing_is_an_error(command: list[str], lake: Path, cli: Cli) -> None:
    ended = cli(*command, "--tenant", "acme", "--workspace", "prd", "--store", lake.as_uri())
    assert (ended.code, ended.error["code"], ended.error["field"]) == (2, "NOT_FOUND", "--workspace")
    assert ended.error["remedy"].startswith("Did you mean acme/prod? It holds acme/dev, acme/prod")
    assert "zulu/main" in ended.error["remedy"]
    ended = cli(*command, "--tenant", "acne", "--workspace", "prod", "--store", lake.as_uri())
    assert (ended.code, ended.error["field"]) == (2, "--tenant")


def test_a_store_without_any_workspace_says_so_and_is_not_made(tmp_path: Path, cli: Cli) -> None:
    ended = cli("state", "show", "--tenant", "a", "--workspace", "b", "--store", (tmp_path / "none").as_uri())
    assert (ended.code, ended.error["code"]) == (2, "NOT_FOUND")
    assert "no workspace at all" in ended.error["remedy"]
    assert not (tmp_path / "none").exists()


async def test_at_most_ten_workspaces_are_named(tmp_path: Path) -> None:
    for number in range(40):
        folder = tmp_path / "tenant=t" / f"workspace=w{number:02}" / "ledger"
        folder.mkdir(parents=True)
        (folder / "x.json").write_text("{}")
    store = LocalStore(tmp_path)
    with pytest.raises(Refused) as told:
        await check_workspace(store, Scope("t", "other"))
    await store.aclose()
    remedy = told.value.refusal.remedy or ""
    assert [f"t/w{number:02}" in remedy for number in range(12)] == [True] * 10 + [False] * 2
    assert "and more" in remedy
