"""The page on deploying a change, followed to the letter with callers at work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import polars as pl

from springline.client import Springline
from springline.config import PREFIX
from springline.local.stack import EmbeddedStack
from tests.server.runbook import RUNBOOKS, SCOPE, follow

PAGE = RUNBOOKS / "deploy.md"
OLD, NEW = "1.0", "1.1"
PAUSE_S = 0.2
"""How long the caller waits between its requests: what is deployed has work at any time, and the time to start."""
ROWS = pl.DataFrame({"city": ["Oslo"]})


@contextmanager
def appending(stack: EmbeddedStack) -> Iterator[list[str]]:
    """Append events, one request soon after the other, until the block ends; return what was answered in the end."""
    answered: list[str] = []
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        lake = Springline(stack.api_url, stack.token())
        run = {
            "plan_id": "p",
            "type": "run_triggered",
            "root_assets": [],
            "trigger": {"type": "manual", "user_id": "a"},
        }
        try:
            while not stop.is_set():
                done = lake.ledger.append([run | {"run_id": f"run-{len(answered)}"}])
                answered.append(done.events[0].event_id)
                stop.wait(PAUSE_S)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield answered
    finally:
        stop.set()
        thread.join(60)
    assert failures == []


def test_a_change_is_deployed_and_taken_back_and_a_wedged_run_is_freed(tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    with EmbeddedStack(tmp_path / "stack", scope=SCOPE, workers=1, environment={f"{PREFIX}BUILD_ID": OLD}) as stack:
        lake = Springline(stack.api_url, stack.token())
        lake.create_table("flights", schema=ROWS)
        with appending(stack) as answered:
            printed = follow(PAGE, stack, folder, OLD_BUILD=OLD, NEW_BUILD=NEW)
        assert len(answered) > 10
        assert f'"{OLD}"' in printed["1. Before"][0]
        bearer = {"Authorization": f"Bearer {stack.token()}"}
        status = httpx.get(f"{stack.api_url}/api/v1/readiness", headers=bearer, timeout=10)
        assert status.json()["warnings"] == {}
