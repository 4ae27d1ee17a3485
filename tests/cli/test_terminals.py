"""What a table, an event or an error holds may be anybody's text: it never steers the terminal of who looks at it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from springline.bounds import steers_no_terminal
from springline.cli.documents import emit, hint, rendered, write_out
from springline.cli.grid import csv_text, table_text
from springline.cli.rebuild_progress import Bar
from springline.rebuild.messages import RebuildView, RunStatus, Step

NASTY = "a\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202eb\u2028c\x7f\U000e0041\tz"
STEERING = {one for one in NASTY if not one.isprintable() and one != "\t"}


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        return None


@pytest.mark.parametrize(
    "show",
    [
        lambda: emit({NASTY: [NASTY]}),
        lambda: emit({NASTY: [NASTY]}, compact=True),
        lambda: emit({"a": NASTY}, field="a"),
        lambda: hint(NASTY),
        lambda: write_out(table_text([NASTY, "n"], [[NASTY, 1], [{"x": NASTY}, 2]])),
        lambda: write_out(csv_text([NASTY], [[NASTY]])),
    ],
    ids=["json", "compact", "field", "hint", "table", "csv"],
)
def test_nothing_that_is_shown_steers(monkeypatch: pytest.MonkeyPatch, show: Callable[[], None]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    show()
    assert terminal.text
    # Our own colours aside.
    assert not STEERING & set(re.sub(r"\x1b\[[0-9;]*m", "", terminal.text))


def test_json_says_the_same_with_what_is_escaped() -> None:
    document: dict[str, Any] = {NASTY: [NASTY, {"x": NASTY * 2}], "plain": "\u00e9\u4e2d"}
    for compact in (False, True):
        text = rendered(document, compact=compact)
        assert json.loads(text) == document
        assert "\u00e9\u4e2d" in text


def test_programs_get_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": NASTY}, field="a")
    assert capsys.readouterr().out == NASTY + "\n"
    assert steers_no_terminal("a\nb\tc") == "a\nb\tc"


def test_what_a_rebuild_tells_of_a_failure_steers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = pty.openpty()
    with os.fdopen(write_end, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "200")
        step = Step(
            name="read", attempt=2, started=True, last_failure="\x1b]0;owned\x07 [link=http://evil]x[/link] [/]"
        )
        with Bar() as bar:
            bar.show(RebuildView(workflow_id="w", run_id="r", status=RunStatus.RUNNING, phase="a\x1b[2J", steps=[step]))
        stream.flush()
        os.set_blocking(read_end, False)
        shown = ""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(read_end, 65536):
                shown += part.decode()
    os.close(read_end)
    assert "[link=http://evil]x[/link]" in shown
    assert "\x1b]0;owned" not in shown
    assert "\x1b[2J" not in shown
