"""What an ended run's seals say: noted once on the attempt that sealed, wherever its worker died, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from springline.control.runs.apart import SEALED
from springline.ledger.envelope import as_event
from springline.ledger.events import AttemptNoted
from springline.paths import ObjectPath, write_seal
from springline.published.reader import PublishedReader
from springline.work.unnoted import unnoted_seals
from tests.support.one_thread import one_thread
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import SCOPE, ask, planned, triggered
from tests.work.test_write_sets import varying
from tests.work.write_world import Attempt, World

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
OF_ONE = {"run_id": "run_1", "task_key": "t", "attempt": 1, "attempt_id": "a-t-1"}
DISPATCHED = {"type": "dispatch_requested", "dispatch_id": "dispatch:run_1:t:1", "worker_queue": "flow"} | OF_ONE
STARTED = {"type": "task_started", "worker_id": "w1"} | OF_ONE
CANCELLED = {"type": "run_cancel_requested", "run_id": "run_1", "requested_by": "ada"}


def ended(outcome: str, category: str | None = None, **more: Any) -> dict[str, Any]:
    error = {} if category is None else {"error": {"category": category, "message": "no", "retryable": False}}
    return {"type": "task_completion_recorded", "worker_id": "w1", "outcome": outcome} | OF_ONE | error | more


LOST = ended("failed", "INFRASTRUCTURE")
APART = {"type": "springline_attempt_noted", "note": "ended_apart"} | OF_ONE


class Ended:
    """A run of one task on the ledger, over the store of a world in which its attempt was made."""

    def __init__(self, world: World, run_id: str = "run_1") -> None:
        self.world = world
        self.run = Run(world.store)
        self.reader = PublishedReader(world.store)
        self.run_id = run_id
        self._requests = 0

    async def append(self, *events: Mapping[str, Any]) -> None:
        self._requests += 1
        (outcome,) = await self.run.append(ask(self._requests, *events))
        assert outcome.refusal is None, outcome.refusal

    async def begin(self, *events: Mapping[str, Any]) -> None:
        await self.append(triggered(self.run_id), planned(self.run_id, "t"), *events)

    async def notes(self) -> list[AttemptNoted]:
        """Return what is to be noted, and note it: a second look finds nothing more."""
        found = await unnoted_seals(self.world.store, self.reader, SCOPE, self.run_id)
        if found:
            await self.append(*map(as_event, found))
        assert await unnoted_seals(self.world.store, self.reader, SCOPE, self.run_id) == []
        return found


@pytest.mark.parametrize(
    "record",
    [
        [DISPATCHED, CANCELLED],
        [DISPATCHED, CANCELLED, APART | {"detail": {"outcome": "failed", "message": "no sign of life"}}],
        [DISPATCHED, STARTED, CANCELLED, LOST],
        [DISPATCHED, STARTED, CANCELLED, ended("cancelled", "CANCELLED")],
        [DISPATCHED, STARTED, ended("failed", "CONFIGURATION")],
    ],
    ids=["untold", "apart", "lost", "cancelled", "failed"],
)
async def test_wherever_the_worker_dies_what_it_has_sealed_is_on_record(record: list[dict[str, Any]]) -> None:
    healthy = Attempt(1)
    await World(varying).run(healthy)
    sealed = 0
    for at in range(len(healthy.steps)):
        world = World(varying)
        await world.run(Attempt(1, {at: "die"}))
        place = Ended(world)
        await place.begin(*record)
        found = await place.notes()
        assert len(found) == world.is_sealed(), f"the worker died {healthy.steps[at]}"
        for note in found:
            assert (note.run_id, note.task_key, note.attempt, note.attempt_id) == ("run_1", "t", 1, "a-t-1")
            assert (note.note, note.detail["writes"]) == (SEALED, 5)
            assert note.detail["tables"][0]["table"] == "t1"
            sealed += 1
    assert 0 < sealed < len(healthy.steps)


@pytest.mark.parametrize(
    "record",
    [
        [DISPATCHED, STARTED, ended("succeeded")],
        [DISPATCHED, CANCELLED, APART | {"detail": {"outcome": "succeeded"}}],
    ],
    ids=["its end", "a note"],
)
async def test_what_is_told_already_is_not_noted(record: list[dict[str, Any]]) -> None:
    world = World(varying)
    await world.run(Attempt(1))
    assert world.is_sealed()
    place = Ended(world)
    await place.begin(*record)
    assert await place.notes() == []


async def test_no_seal_is_read_of_what_its_function_has_failed() -> None:
    world = World(varying)
    place = Ended(world)
    await place.begin(DISPATCHED, STARTED, ended("failed", "USER_CODE"))
    world.store.seed(_seal_of(world), b"not even looked at")
    assert await place.notes() == []


async def test_a_rerun_notes_on_its_parent_what_that_has_sealed() -> None:
    """A worker of the parent that was thought dead has sealed behind the end of its run."""
    world = World(varying)
    place = Ended(world)
    await place.begin(DISPATCHED, CANCELLED)
    assert await place.notes() == []
    await world.run(Attempt(1, {15: "die"}))
    assert world.is_sealed()
    again = OF_ONE | {"run_id": "run_2", "attempt_id": "other", "dispatch_id": "dispatch:run_2:t:1"}
    rerun = triggered("run_2") | {"springline": {"effects_scope": "run_1"}}
    await place.append(rerun, planned("run_2", "t"), DISPATCHED | again, CANCELLED | {"run_id": "run_2"})
    place.run_id = "run_2"
    (note,) = await place.notes()
    assert (note.run_id, note.attempt_id) == ("run_1", "a-t-1")


async def test_a_damaged_seal_is_told_and_hides_no_other() -> None:
    world = World(varying)
    place = Ended(world)
    await place.begin(DISPATCHED, CANCELLED)
    world.store.seed(_seal_of(world), json.dumps({"format": 1}).encode())
    (note,) = await place.notes()
    assert "effects/run_1/" in note.detail["damaged"]


def _seal_of(_world: World) -> ObjectPath:
    return SCOPE.full(write_seal("run_1", "t"))
