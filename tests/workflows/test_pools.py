"""Pools by Temporal: runs that wait for slots, get them in turn, and give them back."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import pytest
import uuid_utils
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

import workflows.pool as pool_module
import workflows.run as run_module
from entrypoints import temporal_runs
from springline.checked import with_checksum
from springline.control.runs import patience
from springline.control.runs.messages import AttemptEnded, AttemptOrder, PoolRows
from springline.control.runs.planning import MOST_RUNNING_LABEL, PRIORITY_LABEL
from springline.control.runs.pools import PoolSlots
from springline.control.runs.progress import NOTICES_MS
from springline.deployed.pools import PoolSetting, set_pool
from springline.deployed.reading import read_latest
from springline.ledger.json_text import canonical_json
from springline.ledger.request import AppendRequest, NewEvent
from springline.paths import deployed_manifest
from springline.storage.port import IfAbsent
from tests.support.definitions import asset
from tests.workflows.runs import until
from tests.workflows.runs_bench import RunsBench, succeeded
from workflows import lifecycle

# A ledger that rests between two appends of a run would set a timer that fires while they come (see conftest.py).
pytestmark = pytest.mark.usefixtures("long_patience")


class Counted:
    """Attempts that go on until they are let go, and how many of them ran at once."""

    def __init__(self, runs: RunsBench) -> None:
        self.runs = runs
        self.open: list[AttemptOrder] = []
        self.most = 0
        self.made: list[str] = []
        self._released = asyncio.Condition()
        self._free: set[str] = set()
        self._all = False

    async def __call__(self, order: AttemptOrder) -> AttemptEnded:
        self.open.append(order)
        self.most = max(self.most, len(self.open))
        self.made.append(order.run_id)
        await self.runs.say_started(order)
        try:
            async with self._released:
                await self._released.wait_for(lambda: self._all or order.attempt_id in self._free)
        except asyncio.CancelledError:
            return succeeded().model_copy(
                update={"outcome": "cancelled", "category": "CANCELLED", "message": "stopped"}
            )
        finally:
            self.open.remove(order)
        return succeeded()

    async def release(self, *orders: AttemptOrder) -> None:
        """Let attempts end; without any, all that run and all that come."""
        async with self._released:
            self._free |= {order.attempt_id for order in orders}
            self._all = self._all or not orders
            self._released.notify_all()

    async def running(self, count: int) -> list[AttemptOrder]:
        """Wait until so many run."""

        async def are() -> bool:
            return len(self.open) == count

        await until(are, f"{count} attempts run")
        return list(self.open)


def pooled(number: int, **more: Any) -> dict[str, Any]:
    return asset(f"t{number}", pool="warehouse", **more)


async def test_attempts_of_all_runs_share_the_slots_of_a_pool(runs: RunsBench) -> None:
    await runs.deploy(*(pooled(number) for number in range(3)), pools={"warehouse": 2})
    counted = Counted(runs)
    keys = [f"t{number}" for number in range(3)]
    runs.acts.update(dict.fromkeys(keys, counted))
    first = await runs.launch("a", *keys)
    await counted.running(2)
    second = await runs.launch("b", *keys)

    told = {f"{key} waits for pool warehouse (2 of 2 taken)" for key in keys}
    await until(lambda: _waits(runs, second, told), "the second run says what it waits for")
    doing = await runs.pool_doing("warehouse")
    assert (doing.slots, len(doing.holders)) == (2, 2)
    assert {one.run_id for one in doing.waiting} == {first, second}
    while len(counted.made) < 6:
        await counted.running(2)
        await counted.release(counted.open[0])
        made = len(counted.made)

        async def goes_on(made: int = made) -> bool:
            return len(counted.made) > made or len(counted.made) == 6

        await until(goes_on, "the next attempt begins")
    await counted.release()
    for run_id in (first, second):
        assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    assert counted.most == 2
    # Two of the first run, and then in turn.
    assert counted.made[:4] == [first, first, first, second] or counted.made[:4] == [first, first, second, first]


async def _waits(runs: RunsBench, run_id: str, told: set[str]) -> bool:
    with contextlib.suppress(RPCError):
        return {one for one in (await runs.doing(run_id)).waits_for if " for pool " in one} == told
    return False


async def test_the_most_urgent_run_has_the_next_slot(runs: RunsBench) -> None:
    await runs.deploy(pooled(0), pools={"warehouse": 1})
    runs.acts["t0"] = counted = Counted(runs)
    first = await runs.launch("first", "t0")
    await counted.running(1)
    usual = await runs.launch("usual", "t0")
    told = {"t0 waits for pool warehouse (1 of 1 taken)"}
    await until(lambda: _waits(runs, usual, told), "the usual run waits")
    urgent = await runs.launch("urgent", "t0", labels={PRIORITY_LABEL: "5"})
    await until(lambda: _waits(runs, urgent, told), "the urgent run waits")
    await counted.release()
    for run_id in (first, urgent, usual):
        assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    assert (counted.made, counted.most) == ([first, urgent, usual], 1)


async def test_a_pool_that_is_lost_is_begun_anew_and_never_gives_too_much(runs: RunsBench) -> None:
    await runs.deploy(*(pooled(number) for number in range(2)), pools={"warehouse": 1})
    counted = Counted(runs)
    runs.acts.update({"t0": counted, "t1": counted})
    ids = [await runs.launch(key, "t0", "t1") for key in ("a", "b")]
    for number in range(4):
        (order,) = await counted.running(1)
        await runs.pool_handle("warehouse").terminate("by hand")
        assert len(counted.made) == number + 1
        await counted.release(order)

        async def goes_on(number: int = number) -> bool:
            return len(counted.made) > number + 1 or number == 3

        await until(goes_on, "the next attempt begins")
    for run_id in ids:
        assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    assert counted.most == 1


@pytest.mark.not_recorded
async def test_a_slot_of_a_lost_run_is_given_when_its_attempt_has_ended_on_record(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_MS", 1_000)
    monkeypatch.setattr(patience, "LEDGER_BEAT_MS", 1_500)
    monkeypatch.setattr(run_module, "FOREIGN_LOOKS_MS", 500)
    await runs.deploy(pooled(0, heartbeat_ms=1_000), pools={"warehouse": 1})
    runs.acts["t0"] = counted = Counted(runs)
    lost = await runs.launch("lost", "t0")
    await counted.running(1)
    await until(lambda: _is(runs, lost, "RUNNING"), "the attempt is on record")
    other = await runs.launch("other", "t0")
    await until(lambda: _waits(runs, other, {"t0 waits for pool warehouse (1 of 1 taken)"}), "the other run waits")
    await runs.run_handle(lost).terminate("by hand")
    await runs.starts.wake_launcher(runs.scope, [], looks=True)

    async def is_taken_over() -> bool:
        return [one["category"] for one in await runs.rows("x_attempts", lost)] == ["INFRASTRUCTURE"]

    assert counted.made == [lost]
    await until(is_taken_over, "the lost attempt has ended on record")
    await counted.release()
    for run_id in (lost, other):

        async def has_ended(run_id: str = run_id) -> bool:
            return await runs.run_state(run_id) == "SUCCEEDED"

        await until(has_ended, f"run {run_id} has ended")


async def test_a_slot_whose_worker_is_silent_is_kept_until_that_one_must_have_ended(runs: RunsBench) -> None:
    begun: list[tuple[str, int]] = []

    async def act(order: AttemptOrder) -> AttemptEnded:
        begun.append((order.run_id, order.attempt))
        if len(begun) == 1:
            await runs.say_started(order, grace_ms=500)
            # It beats no more, and learns nothing of that it is given up.
            await asyncio.Event().wait()
        return succeeded()

    await runs.deploy(pooled(0, heartbeat_ms=1_000), pools={"warehouse": 1})
    runs.acts["t0"] = act
    first = await runs.launch("first", "t0")
    await until(lambda: _is(runs, first, "RUNNING"), "the attempt is on record")
    second = await runs.launch("second", "t0")
    for run_id in (first, second):
        assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    history = (await runs.run_handle(first).fetch_history()).events
    (timed_out,) = [one for one in history if one.HasField("activity_task_timed_out_event_attributes")]
    timers = [one.timer_started_event_attributes.start_to_fire_timeout.ToMilliseconds() for one in history]
    assert timers.count(NOTICES_MS + 500) == 1
    assert sorted(begun) == sorted([(first, 1), (first, 2), (second, 1)])
    (lost,) = [one for one in await runs.rows("x_attempts", first) if one["outcome"] == "FAILED"]
    assert lost["ended_at"] >= timed_out.event_time.ToMilliseconds() + NOTICES_MS + 500


async def test_a_run_that_waits_can_be_cancelled_and_a_slot_goes_to_another(runs: RunsBench) -> None:
    await runs.deploy(pooled(0), pools={"warehouse": 1})
    runs.acts["t0"] = counted = Counted(runs)
    first = await runs.launch("first", "t0")
    await counted.running(1)
    second, third = await runs.launch("second", "t0"), await runs.launch("third", "t0")
    for run_id in (second, third):
        told = {"t0 waits for pool warehouse (1 of 1 taken)"}
        await until(lambda run_id=run_id, told=told: _waits(runs, run_id, told), "it waits")  # type: ignore[misc]
    await runs.cancel(second)
    assert (await runs.run_ended(second)).state == "CANCELLED"
    await counted.release()
    assert (await runs.run_ended(third)).state == "SUCCEEDED"
    assert counted.made == [first, third]


async def test_a_pool_that_is_made_larger_lets_more_begin_and_one_made_smaller_ends_nobody(runs: RunsBench) -> None:
    await runs.deploy(*(pooled(number) for number in range(4)), pools={"warehouse": 1})
    counted = Counted(runs)
    keys = [f"t{number}" for number in range(4)]
    runs.acts.update(dict.fromkeys(keys, counted))
    run_id = await runs.launch("a", *keys)
    await counted.running(1)
    await set_pool(runs.store, "warehouse", PoolSetting(slots=3, set_by="ada", set_at_ms=1))
    await counted.running(3)
    await set_pool(runs.store, "warehouse", PoolSetting(slots=0, set_by="ada", set_at_ms=2))
    await counted.release(*counted.open)

    async def are_on_record() -> bool:
        return sorted(one["state"] for one in await runs.rows("tasks", run_id)) == ["READY", *["SUCCEEDED"] * 3]

    await until(are_on_record, "what ran has succeeded")
    # How many were taken when the pool last told it of that depends on which ends were on record by then.
    waits = {f"t3 waits for pool warehouse ({taken} of 0 taken)" for taken in range(4)}

    async def waits_without_slots() -> bool:
        return {one for one in (await runs.doing(run_id)).waits_for if " for pool " in one} <= waits

    await until(waits_without_slots, "the last one waits")
    await set_pool(runs.store, "warehouse", None)
    await counted.running(1)
    await counted.release()
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    assert counted.most == 3


async def test_a_pool_without_a_size_has_no_limit(runs: RunsBench) -> None:
    """As manifests name them that were deployed before there were sizes: no deploy leaves one now."""
    await runs.deploy(pooled(0), pools={"warehouse": 1})
    await runs.deploy(asset("t0"), pools={})
    stored = await read_latest(runs.store)
    assert stored is not None
    plain = {
        **stored.plain,
        "manifest_id": "01JHMPDTN0000AQKFF00000009",
        "assets": [{**stored.plain["assets"][0], "pool": "old"}],
    }
    path = deployed_manifest("01JHMPDTN0000AQKFF00000009")
    await runs.store.put(path, with_checksum(canonical_json(plain), path), IfAbsent())
    runs.manifest_id = "01JHMPDTN0000AQKFF00000009"
    runs.acts["t0"] = counted = Counted(runs)
    ids = [await runs.launch(key, "t0") for key in "abc"]
    await counted.running(3)
    await counted.release()
    for run_id in ids:
        assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    with contextlib.suppress(RPCError):
        await runs.pool_handle("old").terminate("the test has ended")


async def test_a_run_has_no_more_tasks_at_once_than_was_asked_for(runs: RunsBench) -> None:
    await runs.deploy(*(asset(f"t{number}") for number in range(5)))
    counted = Counted(runs)
    keys = [f"t{number}" for number in range(5)]
    runs.acts.update(dict.fromkeys(keys, counted))
    run_id = await runs.launch("a", *keys, labels={MOST_RUNNING_LABEL: "2"})
    await counted.running(2)
    await counted.release()
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    assert counted.most == 2


@pytest.mark.not_recorded
async def test_a_pool_with_a_long_history_continues_as_new_and_one_that_nobody_wants_ends(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "DRAIN_EVENTS", 30)
    monkeypatch.setattr(pool_module, "IDLE", timedelta(seconds=1))
    await runs.deploy(*(pooled(number) for number in range(6)), pools={"warehouse": 1})
    run_id = await runs.launch("a", *(f"t{number}" for number in range(6)))
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"

    async def has_ended() -> bool:
        described = await runs.pool_handle("warehouse").describe()
        return bool(described.status == WorkflowExecutionStatus.COMPLETED)

    await until(has_ended, "the pool has ended")
    described = await runs.pool_handle("warehouse").describe()
    assert described.raw_description.workflow_execution_info.first_run_id != described.run_id


async def _is(runs: RunsBench, run_id: str, state: str) -> bool:
    return [one["state"] for one in await runs.rows("tasks", run_id)] == [state]


@pytest.mark.not_recorded
async def test_what_stands_in_line_when_its_run_is_cancelled_past_it_gives_its_place_back(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are given the one slot, as two pools might: the second waits on record, and is cancelled there."""
    monkeypatch.setattr(PoolSlots, "look", _with_two_slots(PoolSlots.look))
    await runs.deploy(pooled(0), pools={"warehouse": 1})
    runs.acts["t0"] = counted = Counted(runs)
    first = await runs.launch("first", "t0")
    await counted.running(1)
    second = await runs.launch("second", "t0")
    await until(lambda: _is(runs, second, "DISPATCHED"), "the second stands in line")
    data = {"type": "run_cancel_requested", "run_id": second, "requested_by": "somebody"}
    await runs.append_one(AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=data)]))
    assert (await runs.run_ended(second)).state == "CANCELLED"
    assert [one["note"] for one in await runs.rows("x_notes", second)] == ["ended_apart"]
    third = await runs.launch("third", "t0")
    await counted.release()
    for run_id in (first, third):
        assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    assert (counted.made, counted.most) == ([first, third], 1)


def _with_two_slots(look: Any) -> Any:
    def mutant(self: PoolSlots, rows: PoolRows, now_ms: int) -> Any:
        return look(self, rows.model_copy(update={"slots": 2}), now_ms)

    return mutant


@pytest.mark.not_recorded
async def test_the_shards_of_a_large_run_share_the_slots_while_it_continues_as_new(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal_runs, "SHARDS_FROM", 6)
    monkeypatch.setattr(run_module, "DRAIN_EVENTS", 120)
    keys = [f"t{number}" for number in range(12)]
    running, most = 0, 0

    async def act(order: AttemptOrder) -> AttemptEnded:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        return succeeded()

    runs.acts.update(dict.fromkeys(keys, act))
    await runs.deploy(*(pooled(number) for number in range(12)), pools={"warehouse": 2})
    run_id = await runs.launch("k", *keys)

    async def has_ended() -> bool:
        return await runs.run_state(run_id) == "SUCCEEDED"

    await until(has_ended, "the run ends")
    assert most == 2
    assert {one["attempt"] for one in await runs.rows("x_attempts", run_id)} == {1}
    described = await runs.run_handle(run_id).describe()
    assert described.raw_description.workflow_execution_info.first_run_id != described.run_id
