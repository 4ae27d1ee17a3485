"""Help is at hand at once: nothing that a command needs is loaded for it, and it says what the command says."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from springline.cli.app import GROUPS, build_app
from springline.cli.lazy import Entry, LazyGroup
from tests.cli.conftest import Cli, all_is_well

ROOT = Path(__file__).parents[2]
HEAVY = ("pydantic", "httpx", "jwt", "rich", "orjson", "pyarrow", "deltalake", "temporalio", "duckdb", "asyncio")
MOST_MODULES = 250
"""Python, Typer and this command line are about 165 today; each of the heavy libraries would add as many."""


def entries() -> Iterator[tuple[str, Entry]]:
    root = get_command(build_app(all_is_well))
    assert isinstance(root, LazyGroup)
    for name, entry in root.entries.items():
        yield name, entry
    for group, (_, of_group) in GROUPS.items():
        for name, entry in of_group.items():
            yield f"{group} {name}", entry


@pytest.mark.parametrize(("name", "entry"), [*entries()], ids=[name for name, _ in entries()])
def test_the_line_of_help_is_the_first_sentence_of_the_command(name: str, entry: Entry) -> None:
    said = " ".join((inspect.getdoc(entry.function()) or "").split("\n\n")[0].split())
    first = re.split(r"(?<=[.])\s(?=[A-Z])", said, maxsplit=1)[0]
    assert entry.help == first


def test_every_command_is_found_under_the_name_of_its_line(cli: Cli) -> None:
    for name, entry in entries():
        said = cli(*name.split(), "--help").stdout
        assert said.startswith(f"Usage: springline {name} "), said
        assert entry.help in " ".join(said.split())


@pytest.mark.parametrize(
    "arguments", [[], ["-h"], ["--help"], ["table"], ["rebuild", "-h"], ["--version"]], ids=" ".join
)
def test_help_loads_no_heavy_library(arguments: list[str]) -> None:
    script = (
        "import json, os, sys\nfrom springline.cli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as ended: code = ended.code\n"
        f"print(json.dumps([code, len(sys.modules), [one for one in {HEAVY} if one in sys.modules]]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout
    code, modules, heavy = json.loads(done.stderr)
    assert (code, heavy) == (0, [])
    assert modules <= MOST_MODULES


@pytest.mark.parametrize("group", [[], *([name] for name in GROUPS)], ids=" ".join)
def test_a_bare_call_shows_the_help_that_is_asked_for(group: list[str], cli: Cli) -> None:
    bare = cli(*group)
    assert (bare.code, bare.stderr) == (0, "")
    assert bare.stdout == cli(*group, "--help").stdout == cli(*group, "-h").stdout


def test_the_version_is_the_installed_one(cli: Cli) -> None:
    assert cli("--version").stdout == f"springline {importlib.metadata.version('springline')}\n"


def test_a_misspelt_command_is_told_the_nearest(cli: Cli) -> None:
    ended = cli("tabel")
    assert ended.code == 2
    assert "Did you mean 'table'" in ended.error["message"]


def complete(line: str) -> list[str]:
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "springline.cli"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ
        | {"_SPRINGLINE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
    )
    return done.stdout.split()


def test_shells_complete_commands_and_options(tmp_path: Path) -> None:
    assert complete("springline reb") == ["rebuild"]
    assert complete("springline table cl") == ["clean-staging"]
    assert complete("springline table list --name") == ["--name-prefix"]
    assert complete("springline table list -o c") == ["csv"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str, cli: Cli) -> None:
    said = cli("completion", shell).stdout
    assert "_SPRINGLINE_COMPLETE" in said
    assert f"complete_{shell}" in said


def test_bash_takes_its_completion(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(cli("completion", "bash").stdout)
    ask = f"""source {script}; COMP_WORDS=(springline ledger ta); COMP_CWORD=2
        _springline_completion springline; echo "${{COMPREPLY[@]}}" """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", ask], capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}
    )
    assert done.stdout == "tail\n"


WHERE = ("table", "list", "--api", "http://127.0.0.1:1", "--token", "x", "--wait", "0.2")


def test_quiet_leaves_hints_out(cli: Cli) -> None:
    assert len(cli(*WHERE).hints) == 1
    assert cli(*WHERE, "-q").hints == []
    assert cli("-q", *WHERE).hints == []


@pytest.mark.parametrize(("arguments", "shown"), [(WHERE, False), ((*WHERE, "-v"), False), ((*WHERE, "-vv"), True)])
def test_verbose_shows_log_lines(arguments: tuple[str, ...], shown: bool) -> None:
    command = [sys.executable, "-m", "springline.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 4
    assert ("DEBUG httpcore" in done.stderr) is shown
