"""Heartbeats of a step that loads a state say how far it is; the workflow is told now and then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities import ledger
from activities.ledger import Loading
from springline import names
from springline.sequencer.messages import WorkspaceRef
from workflows.ledger_messages import LedgerStatus, describe


class Told:
    """Stands for a client whose workflow handle notes signals."""

    def __init__(self) -> None:
        self.signals: list[tuple[str, str]] = []

    def get_workflow_handle(self, workflow_id: str, *, run_id: str | None) -> Told:
        assert (workflow_id, run_id) == ("test", "test-run")
        return self

    async def signal(self, name: str, text: str) -> None:
        self.signals.append((name, text))


async def details_of(told: Told | None, texts: list[str | None]) -> list[tuple[Any, ...]]:
    environment = ActivityEnvironment() if told is None else ActivityEnvironment(client=told)  # type: ignore[arg-type]
    found: list[tuple[Any, ...]] = []
    environment.on_heartbeat = lambda *details: found.append(details)

    async def run() -> None:
        left = iter(texts)
        loading = Loading(lambda: next(left))
        for _ in texts:
            loading.tell()
            await asyncio.sleep(0)

    await environment.run(run)
    return found


async def test_heartbeats_say_how_far_loading_is() -> None:
    assert await details_of(None, [None, "a", "b", None]) == [(), ("a",), ("b",), ()]


async def test_the_workflow_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    await details_of(told, ["a", "b"])
    assert told.signals == [], "what is soon over is not told"
    monkeypatch.setattr(ledger, "TOLD_EVERY_S", 0.0)
    await details_of(told, [None, "a", None])
    assert told.signals == [(names.LOADING_SIGNAL, "a")]


def test_the_details_show_it_behind_the_phase() -> None:
    status = LedgerStatus(phase="round 7: judging", loading="loading the state: 1 of 2 files read")
    shown = describe(WorkspaceRef(tenant="acme", workspace="prod"), status, [])
    assert "**Now:** round 7: judging (loading the state: 1 of 2 files read)" in shown
