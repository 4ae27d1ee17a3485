"""`springline work`: what it refuses, and the process that it becomes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from springline.work.request import WorkRequest
from tests.cli.conftest import Cli

FLOW = "from springline.sdk import asset\n@asset(queue='gpu')\ndef raw(): ...\n"
SCOPE = ("--tenant", "acme", "--workspace", "dev")


class Became(Exception):
    """Stands for the end of this process: it became another one."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("flow.py").write_text(FLOW)
    return tmp_path


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def execve(*call: Any) -> None:
        calls.append(call)
        raise Became

    monkeypatch.setattr(os, "execve", execve)
    return calls


def test_it_becomes_a_worker_with_the_settings_in_its_environment(
    became: list[Any], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    store = f"file://{tmp_path}/lake"
    with pytest.raises(Became):
        cli("work", "flow.py", *SCOPE, "--store", store, "--queue", "gpu", "--queue", "default", "--concurrency", "3")
    (program, command, environment) = became[0]
    assert (program, command[:4]) == (sys.executable, [sys.executable, "-P", "-m", "entrypoints.work"])
    assert WorkRequest.model_validate_json(command[4]) == WorkRequest(
        file="flow.py",
        tenant="acme",
        workspace="dev",
        location="flow",
        concurrency=3,
        queues=["gpu", "default"],
        python_path="/theirs",
    )
    assert environment["SPRINGLINE_STORE_URL"] == store
    assert environment["PYTHONPATH"].endswith(":/theirs")


def test_by_default_it_makes_as_many_attempts_at_once_as_there_are_processors(became: list[Any], cli: Cli) -> None:
    with pytest.raises(Became):
        cli("work", "flow.py", *SCOPE, "--store", "file:///lake", "--location", "mart", "--grace", "2.5")
    request = WorkRequest.model_validate_json(became[0][1][4])
    assert (request.concurrency, request.location, request.grace_s) == (os.cpu_count(), "mart", 2.5)
    assert request.memory_bytes is None


@pytest.mark.parametrize("by", ["option", "variable"])
def test_attempts_have_a_limit_of_memory_if_it_says_one(
    by: str, became: list[Any], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPRINGLINE_MEMORY_LIMIT", "2GiB" if by == "variable" else "3GiB")
    with pytest.raises(Became):
        cli("work", "flow.py", *SCOPE, "--store", "file:///lake", *(["--memory-limit", "2GiB"] * (by == "option")))
    assert WorkRequest.model_validate_json(became[0][1][4]).memory_bytes == 2**31


def test_a_limit_of_memory_that_is_none_is_refused_with_the_remedy(became: list[Any], cli: Cli) -> None:
    ended = cli("work", "flow.py", *SCOPE, "--store", "file:///lake", "--memory-limit", "2048")
    assert (ended.code, ended.error["field"], ended.error["value"]) == (2, "--memory-limit", "2048")
    assert ended.error["message"] == "--memory-limit '2048' does not say its unit: write '512MiB' or '2GiB'"
    assert "512MiB" in ended.error["remedy"]
    assert became == []


def test_a_file_that_is_not_valid_is_told_as_by_validate(became: list[Any], cli: Cli) -> None:
    Path("flow.py").write_text("from springline.sdk import asset\n@asset(retires=3)\ndef raw(): ...\n")
    ended = cli("work", "flow.py", *SCOPE, "--store", "file:///lake")
    told = json.loads(ended.stdout)
    assert (ended.code, told["ok"], [one["asset"] for one in told["problems"]]) == (2, False, ["raw"])
    assert ended.stdout == cli("validate", "flow.py").stdout
    assert became == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ([*SCOPE], "--store"),
        ([*SCOPE, "--store", "memory://x"], "--store"),
        (["--tenant", "A", "--workspace", "dev", "--store", "file:///lake"], "tenant"),
        ([*SCOPE, "--store", "file:///lake", "--concurrency", "0"], "--concurrency"),
        ([*SCOPE, "--store", "file:///lake", "--grace", "-1"], "--grace"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], field: str, became: list[Any], cli: Cli) -> None:
    ended = cli("work", "flow.py", *arguments)
    assert (ended.code, ended.error["field"]) == (2, field)
    assert became == []
