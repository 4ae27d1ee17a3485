"""What a person sees on a terminal of 80 columns, and what programs get; and Ctrl-C, which ends anything at once."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from springline.cli import watching
from springline.cli.present import document_text, error_text, rows_text
from springline.cli.session import begin
from tests.cli.conftest import SCHEMA, Cli, Served
from tests.cli.test_terminals import NASTY, STEERING, Terminal

ROOT = Path(__file__).parents[2]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(
    *arguments: str, lines: int = 40, interrupt_after: str | None = None, variables: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run the command line in a pseudo-terminal of 80 columns; return its exit code and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
    # What runs the tests may say how large its own terminal is, and rich would believe that.
    inherited = {name: value for name, value in os.environ.items() if name not in {"LINES", "COLUMNS"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "springline.cli", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env=inherited | {"TERM": "xterm"} | dict(variables or {}),
        start_new_session=True,
        # Where the tests run in the background, Ctrl-C is ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # What a terminal says when its last user has gone.
        while part := os.read(ours, 65536):
            shown += part
            if interrupt_after is not None and interrupt_after.encode() in shown:
                process.send_signal(signal.SIGINT)
                interrupt_after = None
    os.close(ours)
    return process.wait(30), shown.decode().replace("\r\n", "\n")


@pytest.fixture
def tables(api: Served, cli: Cli) -> str:
    table_id: str = cli("table", "create", "flights", "--schema", SCHEMA).document["table"]["table_id"]
    return table_id


def test_a_list_is_a_table_that_fits_and_ids_are_whole(tables: str) -> None:
    code, shown = on_terminal("table", "list")
    assert code == 0
    assert COLOURS.search(shown)
    lines = COLOURS.sub("", shown).splitlines()
    assert lines[0].split() == ["name", "table_id", "created"]
    assert lines[1].split()[:2] == ["flights", tables]
    assert all(len(line) <= 80 for line in lines[:2])
    assert lines[2] == "springline: there was no room for location; -o json and -o csv show all"


def test_a_document_is_names_and_values(tables: str) -> None:
    code, shown = on_terminal("table", "status", "flights")
    lines = COLOURS.sub("", shown).splitlines()
    assert code == 0
    # What has no blank and does not fit is broken by the terminal alone, so that it is copied as one line.
    assert all(len(line) <= 80 or " " not in line.strip().split("  ", 1)[1].strip() for line in lines)
    assert f"  table_id       {tables}" in lines
    assert "latest_version       0" in lines
    assert re.search(r"^    x +long +yes", COLOURS.sub("", shown), re.MULTILINE)


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_colour_gets_none(tables: str, variables: dict[str, str]) -> None:
    for command in (["table", "status", "flights"], ["table", "list"], ["table", "status", "nope"]):
        assert "\x1b" not in on_terminal(*command, variables=variables)[1]


def test_an_error_is_one_line_in_red_and_json_where_that_is_asked_for(tables: str) -> None:
    code, shown = on_terminal("table", "status", "flihgts")
    assert code == 2
    assert shown.startswith("\x1b[1;31mTABLE_NOT_FOUND: \x1b[0m\x1b[31m")
    line = COLOURS.sub("", shown).rstrip()
    assert "\n" not in line
    assert "flihgts" in line
    code, shown = on_terminal("table", "status", "flihgts", "-o", "json")
    assert json.loads(shown)["code"] == "TABLE_NOT_FOUND"
    assert "Usage" not in on_terminal("table", "status")[1]


def test_the_form_can_be_chosen_for_every_command(tables: str, cli: Cli) -> None:
    as_json = cli("table", "status", "flights", "-o", "json").document
    assert as_json == cli("table", "status", "flights").document
    rows = list(csv.reader(io.StringIO(cli("table", "status", "flights", "-o", "csv").stdout)))
    assert rows[0] == ["name", "value"]
    assert ["table.table_id", tables] in rows
    assert ["columns.fields.0.name", "x"] in rows
    text = cli("table", "status", "flights", "-o", "table").stdout
    assert "\x1b" not in text, "colours are for terminals"
    assert f"  table_id       {tables}\n" in text
    listed = cli("table", "list", "--format", "table").stdout
    assert listed.splitlines()[0].split() == ["name", "table_id", "created", "location"]
    code, shown = on_terminal("table", "list", "--compact")
    assert json.loads(shown)["tables"][0]["name"] == "flights"
    assert code == 0


def test_nothing_in_a_document_a_table_or_an_error_steers(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    nested: dict[str, Any] = {NASTY: NASTY, "list": [{NASTY: NASTY}], "texts": [NASTY] * 9, "inside": {NASTY: [NASTY]}}
    error = {
        "code": "X",
        "message": NASTY,
        "field": NASTY,
        "value": {NASTY: NASTY},
        "remedy": NASTY,
        "requestId": NASTY,
    }
    for text in (document_text(nested), rows_text([NASTY], [[NASTY]])[0], error_text(error)):
        assert not STEERING & set(COLOURS.sub("", text))


def test_long_lists_are_cut_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    text = document_text({"items": [{"n": number} for number in range(50)], "none": [], "nothing": None, "yes": True})
    assert "... and 30 more; -o json shows all" in text
    assert re.search(r"^none +none$", text, re.MULTILINE)
    assert re.search(r"^nothing +-$", text, re.MULTILINE)
    assert re.search(r"^yes +yes$", text, re.MULTILINE)


# What moves.


def test_watching_prints_a_document_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    states = iter([{"n": 1}, {"n": 1}, {"n": 2}, {"n": 2}, {"n": 1}])
    pauses: list[float] = []
    with pytest.raises(StopIteration):
        watching.watched(lambda: next(states), pause=pauses.append)
    assert capsys.readouterr().out == '{"n":1}\n{"n":2}\n{"n":1}\n'
    assert len(pauses) == 5


@pytest.mark.parametrize(
    ("lines", "seen"),
    [(60, "sequencer"), (24, "Taller than this window")],
    ids=["a document that fits", "a document that is taller"],
)
def test_watching_on_a_terminal_is_in_place_and_ctrl_c_leaves_nothing(tables: str, lines: int, seen: str) -> None:
    code, shown = on_terminal("table", "status", "flights", "--watch", lines=lines, interrupt_after=seen)
    assert code == 130
    assert "sequencer" in shown, "it is shown to its end in any window"
    assert ("Taller than this window" in shown) == (lines == 24)
    assert "Traceback" not in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1, "the cursor is hidden, and there again"


# Until then the interpreter itself answers Ctrl-C, with a traceback and any code.
BEGUN = """
import os
from springline.cli import __main__ as script
ends_at_once = script.ends_at_once
def begun():
    ends_at_once()
    os.write(1, b"begun")
script.ends_at_once = begun
script.main()
"""


@pytest.mark.parametrize(
    "command",
    [
        ["state", "show", "--watch"],
        ["ledger", "tail", "--follow"],
        ["ledger", "tail", "--watch", "-o", "csv"],
        ["table", "list", "--wait", "60", "--api", "http://127.0.0.1:1", "--token", "x"],
        ["stage", "flights", "--payload", "-", "--api", "http://127.0.0.1:1", "--token", "x"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("after_s", [0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 2.5])
def test_ctrl_c_ends_anything_at_once_and_leaves_nothing(command: list[str], after_s: float, tmp_path: Path) -> None:
    folder = tmp_path / "tenant=acme" / "workspace=prod" / "ledger"
    folder.mkdir(parents=True)
    (folder / "x.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    process = subprocess.Popen(
        [sys.executable, "-c", BEGUN, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ
        | {"SPRINGLINE_STORE_URL": tmp_path.as_uri(), "SPRINGLINE_TENANT": "acme", "SPRINGLINE_WORKSPACE": "prod"},
    )
    assert process.stdout is not None
    assert process.stdout.read(5) == b"begun"
    time.sleep(after_s)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert time.monotonic() - began < 10
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.communicate()
    assert all(line.startswith("springline: ") for line in said.splitlines()), said
    assert sorted(tmp_path.rglob("*")) == before
