"""What is common to all commands: documents, errors, exit codes, help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from springline.cli.app import build_app
from springline.cli.failures import refusal_of
from springline.config import ConfigurationError, Problem
from springline.errors import InvariantViolated
from springline.storage.port import StoreMisconfigured, StoreUnknown
from tests.cli.conftest import Cli, all_is_well
from tests.cli.test_help import entries

COMMANDS = [name.split() for name, _ in entries()]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", [[], ["table"], *COMMANDS], ids=" ".join)
def test_every_command_has_help(command: list[str], cli: Cli) -> None:
    ended = cli(*command, "--help")
    assert ended.code == 0
    assert ended.stdout.startswith("Usage: springline")
    assert ended.stderr == ""


def test_the_help_states_the_exit_codes_and_where_errors_go(cli: Cli) -> None:
    said = " ".join(cli("--help").stdout.split())
    assert "0 done, 2 bad input, 3 conflict, 4 try again" in said
    assert "standard error" in said


def test_the_help_lists_every_command() -> None:
    help_text = CliRunner().invoke(build_app(all_is_well), ["--help"]).stdout
    lines = help_text.split("Commands:")[1].splitlines()
    listed = {line.split()[0] for line in lines if line.strip() and not line.startswith("   ")}
    assert listed == {command[0] for command in COMMANDS}


def test_a_document_is_indented_by_two_or_on_one_line(cli: Cli) -> None:
    version = cli("version").document
    assert set(version) == {"name", "version"}
    assert cli("version").stdout == json.dumps(version, indent=2) + "\n"
    assert cli("version", "--compact").stdout == json.dumps(version, separators=(",", ":")) + "\n"


def test_one_field_of_a_document_is_printed_without_quotes(cli: Cli) -> None:
    assert cli("version", "--field", "name").stdout == "springline\n"


def test_an_unknown_field_is_refused_with_those_that_exist(cli: Cli) -> None:
    error = cli("version", "--field", "name.first").error
    assert (error["code"], error["field"], error["value"]) == ("INVALID_REQUEST", "--field", "name.first")
    assert "name, version" in cli("version", "--field", "nome").error["remedy"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["nonsense"], "command"),
        (["table", "drop", "x"], "command"),
        (["state", "drop"], "command"),
        (["state", "fold", "--tenant", "a", "--workspace", "b", "--out", "x"], "--manifest"),
        (["state", "show", "--tenant", "a"], "--workspace"),
        (["query", "--tenant", "a", "--workspace", "b"], "sql"),
        (["query", "SELECT 1", "--tenant", "a", "--workspace", "b", "--format", "xml"], "--format"),
        (["version", "--nonsense"], "--nonsense"),
        (["commit", "flights"], "--payload"),
        (["commit", "flights", "--payload", "-", "--mode", "loose"], "--mode"),
        (["commit", "flights", "--payload", "-", "--read-version", "x"], "--read-version"),
        (["commit", "flights", "--payload", "-", "--read-version", "-2"], "--read-version"),
        (["table", "recover", "x", "--tenant", "acme"], "--workspace"),
        (["token", "--tenant", "a", "--workspace", "b", "--ttl", "0"], "--ttl"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_is_bad_input(arguments: list[str], field: str, cli: Cli) -> None:
    ended = cli(*arguments)
    assert ended.code == 2
    assert (ended.error["code"], ended.error["field"]) == ("INVALID_REQUEST", field)
    assert "--help" in ended.error["remedy"]


def test_expected_errors_become_refusals_and_faults_of_the_program_do_not() -> None:
    codes = {
        InvariantViolated("x"): 3,
        StoreMisconfigured("x"): 2,
        StoreUnknown("x"): 4,
        ConfigurationError([Problem("SPRINGLINE_X", "is wrong", "Set it.")]): 2,
    }
    for error, code in codes.items():
        refusal = refusal_of(error)
        assert refusal is not None
        assert refusal.exit_code == code
        assert refusal.remedy
    assert refusal_of(KeyError("x")) is None


def test_the_console_script_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "springline.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=60,
        )

    good = run("version", "--compact")
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["name"] == "springline"
    bad = run("table", "recover", "x", "--tenant", "ACME", "--workspace", "prod", "--store", tmp_path.as_uri())
    assert (bad.returncode, bad.stdout) == (2, "")
    assert json.loads(bad.stderr)["field"] == "tenant"
