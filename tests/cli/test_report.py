"""`springline report`: a file that a browser opens without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from springline.api.tokens import make_token
from tests.cli.conftest import Cli, Served
from tests.support.local_api import RIVAL, SECRET

PIPELINE = """
from springline.sdk import asset

@asset
def orders(): ...
"""


def test_a_report_is_written(api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("orders.py").write_text(PIPELINE)
    cli("deploy", "orders.py")
    run = cli("run", "start", "orders").document["run_id"]
    ended = cli("report")
    page = Path("report.html").read_text("utf-8")
    assert ended.document == {"out": "report.html", "bytes": len(page.encode())}
    assert ended.hints == ["open report.html in a browser"]
    assert page.startswith("<!DOCTYPE html>")
    assert run in page
    assert "acme/prod" in page
    monkeypatch.setenv("SPRINGLINE_TOKEN", make_token(SECRET, RIVAL, subject="rival"))
    cli("report", "--out", "rival.html", "--hours", "2")
    other = Path("rival.html").read_text("utf-8")
    assert run not in other
    assert "(2 h)" in other


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--since", "2025-01-01T00:00:00Z", "--hours", "3"], "--hours"),
        (["--since", "tomorrow"], "since"),
        (["--since", "2025-01-02T00:00:00Z", "--until", "2025-01-01T00:00:00Z"], "since"),
        (["--since", "0001-01-01T00:00:00Z"], "since"),
        (["--out", "no/such/folder.html"], "--out"),
    ],
)
def test_what_cannot_be_written_is_named(
    arguments: list[str], field: str, api: Served, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = cli("report", *arguments)
    assert (ended.code, ended.error["field"]) == (2, field)
    assert list(tmp_path.iterdir()) == []
