"""Telling many sensors that they were deployed: a deploy waits a moment, and all are told."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from entrypoints import temporal_sensors
from entrypoints.temporal_sensors import TemporalSensors
from springline import names
from springline.control.sensors.messages import SensorAsked
from springline.errors import Refused
from springline.paths import Scope

SCOPE = Scope("acme", "prod")
SENSORS = [f"s{number}" for number in range(100)]


class SlowServer:
    """Starts no workflow before `goes_on`; `fails`: then it starts none either."""

    def __init__(self, *, fails: bool = False) -> None:
        self.goes_on = asyncio.Event()
        self.fails = fails
        self.started: list[str] = []

    async def start_workflow(self, name: str, *, id: str, **_how: Any) -> None:
        await self.goes_on.wait()
        if self.fails:
            raise RPCError("it is gone", RPCStatusCode.UNAVAILABLE, b"")
        self.started.append(id)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal_sensors, "WAKE_S", 0)


async def _ended() -> None:
    await asyncio.gather(*asyncio.all_tasks() - {cast("asyncio.Task[None]", asyncio.current_task())})


async def test_sensors_that_a_deploy_does_not_wait_for_are_told_behind_its_answer() -> None:
    server = SlowServer()
    await TemporalSensors(cast(Client, server)).wake(SCOPE, SENSORS)
    assert server.started == []
    server.goes_on.set()
    await _ended()
    assert sorted(server.started) == sorted(names.sensor_workflow_id("acme", "prod", one) for one in SENSORS)


async def test_a_server_that_is_gone_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = SlowServer(fails=True)
    server.goes_on.set()
    await TemporalSensors(cast(Client, server)).wake(SCOPE, SENSORS)
    await _ended()
    assert "sensors of acme/prod were not told: it is gone" in caplog.text


class RefusingServer:
    """Has a sensor that cannot be evaluated."""

    async def execute_update_with_start_workflow(self, *_what: Any, **_how: Any) -> Any:
        raise WorkflowUpdateFailedError(ApplicationError("no message waits", type=names.INVALID_REQUEST))


@pytest.mark.parametrize(("dry_run", "remedy"), [(True, "give the dry run the payload"), (False, "Resume it")])
async def test_a_remedy_fits_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, *, dry_run: bool, remedy: str) -> None:
    monkeypatch.setattr(temporal_sensors, "WithStartWorkflowOperation", lambda *_what, **_how: None)
    with pytest.raises(Refused) as caught:
        await TemporalSensors(cast(Client, RefusingServer())).evaluate(SCOPE, "s", SensorAsked(dry_run=dry_run))
    said = caught.value.refusal.remedy or ""
    assert remedy in said
    assert ("a dry run is possible" in said) is not dry_run
