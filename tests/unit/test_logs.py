"""Log lines: one a record, whatever a message repeats of what a caller sent."""

from __future__ import annotations

import json
import logging
import os

import pytest

from entrypoints.logs import MAX_MESSAGE, JsonFormatter, TextFormatter, configure_logging
from springline.config import load_settings


def record(message: str, error: Exception | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    return logging.LogRecord("springline.api", logging.INFO, "", 0, "%s", (message,), info)


def test_a_message_cannot_pass_for_another_line() -> None:
    forged = "x\n2026-01-01 00:00:00,000 ERROR springline.api: forged\r\x1b[31m\u2028\ud800"
    text = TextFormatter().format(record(forged))
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    assert "\\n2026-01-01" in text
    told = json.loads(JsonFormatter().format(record(forged)))
    assert told["message"].startswith("x\n2026")


def test_a_message_is_not_longer_than_anybody_reads() -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        assert len(formatter.format(record("x" * 3_000_000))) < MAX_MESSAGE + 500


def test_tracebacks_keep_their_lines() -> None:
    text = TextFormatter().format(record("failed", ValueError("why")))
    assert text.splitlines()[-1] == "    ValueError: why"


def test_an_error_cannot_pass_for_another_line() -> None:
    forged = "x\n2026-01-01 00:00:00,000 ERROR springline.api: forged\r2026-01-01 ERROR\x1b[31m\u2028\x85y"
    one = record("failed", ValueError(forged))
    one.stack_info = forged
    lines = TextFormatter().format(one).split("\n")
    assert lines[0].endswith("failed")
    assert all(line.startswith("    ") and line.isprintable() for line in lines[1:])


def test_a_variable_that_nobody_reads_is_told_first(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("SPRINGLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SPRINGLINE_RETENTION", "30")
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "memory://logs")
    before = logging.root.handlers[:], logging.root.level
    try:
        configure_logging(load_settings())
    finally:
        logging.root.handlers[:], level = before
        logging.root.setLevel(level)
    (told,) = capfd.readouterr().err.splitlines()
    assert told.endswith("SPRINGLINE_RETENTION is set, and nothing reads it: did you mean SPRINGLINE_RETENTION_DAYS?")
