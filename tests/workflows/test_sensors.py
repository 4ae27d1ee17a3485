"""Sensors by Temporal: from what is new to runs, once each, and everything that interrupts them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
import uuid_utils
from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError
from temporalio.worker import Worker

import activities.sensors as sensor_activities
import workflows.sensor as sensor_module
from activities.sensors import EvaluationActivities
from entrypoints.temporal_sensors import TemporalSensors
from springline import names
from springline.control.sensors.deciding import MESSAGE_TRIES
from springline.control.sensors.messages import (
    AskedRun,
    EvaluationAnswer,
    EvaluationOrder,
    EvaluationOutcome,
    SensorAsked,
    SensorDecision,
    SensorDoing,
    WaitingMessage,
)
from springline.deployed.deploying import deploy
from springline.ledger.request import AppendRequest, NewEvent
from springline.ulids import new_ulid
from tests.support.definitions import asset, part
from tests.workflows.runs import until
from tests.workflows.runs_bench import LOCATION, RunsBench, now_ms
from workflows import lifecycle

pytestmark = pytest.mark.usefixtures("long_patience")

Evaluate = Callable[[EvaluationOrder], Awaitable[EvaluationAnswer]]


class SensorBench:
    """Sensors of a bench, and a worker of users that evaluates them as it is told."""

    def __init__(self, runs: RunsBench) -> None:
        self.runs = runs
        self.acts: dict[str, Evaluate] = {}
        self.orders: list[EvaluationOrder] = []
        self.stops: list[asyncio.Event] = []
        self.known: set[str] = set()
        self._deploys = 0

    async def evaluate(self, order: EvaluationOrder, stop: asyncio.Event) -> EvaluationAnswer:
        self.orders.append(order)
        self.stops.append(stop)
        act = self.acts.get(order.sensor_id)
        return EvaluationAnswer() if act is None else await act(order)

    async def deploy(self, *sensors: dict[str, Any]) -> None:
        self._deploys += 1
        wanted = part(LOCATION, asset("raw"), sensors=list(sensors))
        outcome = await deploy(self.runs.store, wanted, lambda: new_ulid(None, now_ms(), self._deploys))
        assert outcome.manifest_id is not None
        for one in sensors:
            self.known.add(one["sensor_id"])
            await self.runs.starts.wake_sensor(self.runs.scope, one["sensor_id"])

    def handle(self, sensor_id: str) -> Any:
        scope = self.runs.scope
        return self.runs.client.get_workflow_handle(names.sensor_workflow_id(scope.tenant, scope.workspace, sensor_id))

    async def status(self, sensor_id: str) -> SensorDoing:
        found = await TemporalSensors(self.runs.client).status(self.runs.scope, sensor_id)
        assert found is not None
        return found

    async def evaluate_now(self, sensor_id: str, **asked: Any) -> SensorDecision:
        decision: SensorDecision = await self.handle(sensor_id).execute_update(
            names.EVALUATE_UPDATE, SensorAsked(**asked), result_type=SensorDecision
        )
        return decision

    async def append(self, **data: Any) -> None:
        request = AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=data)])
        await self.runs.append_one(request)

    async def change(self, sensor_id: str, change: str, **more: Any) -> None:
        await self.append(
            type="springline_sensor_changed",
            sensor_id=sensor_id,
            change_id=str(uuid_utils.uuid7()),
            change=change,
            changed_by="tester",
            **more,
        )

    async def push(self, sensor_id: str, message_id: str, payload: Any = None) -> None:
        await self.append(type="springline_sensor_message", sensor_id=sensor_id, message_id=message_id, payload=payload)

    async def evaluations(self) -> list[dict[str, Any]]:
        return await self.runs.rows("sensor_evals")

    async def keys(self) -> list[str]:
        return sorted(str(row["run_key"]) for row in await self.runs.rows("run_key_index"))

    async def asked_for(self, *keys: str) -> None:
        async def there() -> bool:
            return await self.keys() == sorted(keys)

        await until(there, f"runs {keys} are asked for")


@pytest_asyncio.fixture(loop_scope="session")
async def sensors(runs: RunsBench) -> AsyncIterator[SensorBench]:
    bench = SensorBench(runs)
    queue = names.sensor_queue(runs.scope.tenant, runs.scope.workspace, LOCATION)
    async with Worker(runs.client, task_queue=queue, activities=[EvaluationActivities(bench).evaluate_sensor]):
        yield bench
        for name in bench.known:
            with contextlib.suppress(RPCError):
                runs.other_histories.append(await bench.handle(name).fetch_history())
                await bench.handle(name).terminate("the test has ended")


def poll(sensor_id: str, **more: Any) -> dict[str, Any]:
    return {"sensor_id": sensor_id, "kind": "poll", "interval_seconds": 1, "select": ["raw"], **more}


def counting(most: int) -> Evaluate:
    """Return a function that asks for one run at a time, up to a number that its cursor counts to."""

    async def act(order: EvaluationOrder) -> EvaluationAnswer:
        at = int(order.cursor or 0)
        if at >= most:
            return EvaluationAnswer()
        return EvaluationAnswer(requests=[AskedRun(run_key=f"k{at + 1}")], cursor=str(at + 1))

    return act


async def test_a_sensor_asks_once_for_what_is_new(sensors: SensorBench) -> None:
    sensors.acts["files"] = counting(3)
    await sensors.deploy(poll("files"))
    await sensors.asked_for("sensor:files:k1", "sensor:files:k2", "sensor:files:k3")

    async def is_quiet() -> bool:
        return (await sensors.status("files")).polls >= 2

    await until(is_quiet, "it finds nothing any more")
    assert len(await sensors.evaluations()) == 3, "a poll that finds nothing is no event"
    (state,) = await sensors.runs.rows("sensor_state")
    assert (state["cursor"], state["state_version"]) == ("3", 3)


async def steps_of(sensors: SensorBench, sensor_id: str) -> str:
    """Return the looks (`l`) and calls (`c`) of a sensor that its history has, in their order."""
    letters = {names.LOOK_AT_SENSOR: "l", names.EVALUATE_SENSOR: "c"}
    found = [
        letters.get(event.activity_task_scheduled_event_attributes.activity_type.name, "")
        async for event in sensors.handle(sensor_id).fetch_history_events()
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    return "".join(found)


async def series_is_ended(sensors: SensorBench, sensor_id: str) -> None:
    async def is_told() -> bool:
        events = [event async for event in sensors.handle(sensor_id).fetch_history_events()]
        return any(event.HasField("activity_task_cancel_requested_event_attributes") for event in events)

    await until(is_told, "its workflow ends the series")


async def has_polled(sensors: SensorBench, sensor_id: str, polls: int) -> None:
    async def there() -> bool:
        return len(sensors.orders) >= polls and (await sensors.status(sensor_id)).polls >= polls

    await until(there, f"{sensor_id} has found nothing {polls} times")


async def test_polls_that_find_nothing_are_tries_of_one_call(sensors: SensorBench) -> None:
    """Many sensors find nothing most of the time: nobody but Temporal and the function has work by that."""
    sensors.acts["files"] = counting(1)
    await sensors.deploy(poll("files"))
    await sensors.asked_for("sensor:files:k1")
    await has_polled(sensors, "files", 4)
    calls = (await steps_of(sensors, "files")).replace("l", "")
    assert calls == "cc", "a call that found something, and one for all polls behind it"
    sensors.acts["files"] = counting(2)
    await sensors.asked_for("sensor:files:k1", "sensor:files:k2")
    assert len(await sensors.evaluations()) == 2
    (at,) = {order.due_ms for order in sensors.orders[2:6]}
    assert at is not None


@pytest.mark.not_recorded
async def test_so_many_polls_later_the_rows_are_looked_at(
    sensors: SensorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor_module, "MOST_UNCOUNTED", 2)
    sensors.acts["files"] = counting(0)
    await sensors.deploy(poll("files"))
    await has_polled(sensors, "files", 7)
    assert (await steps_of(sensors, "files")).startswith("lclcl")
    status = await sensors.status("files")
    assert status.evaluations == status.polls, "each is counted once"


@pytest.mark.not_recorded
async def test_a_worker_of_an_older_build_makes_each_poll_alone(
    sensors: SensorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes over what it does not know, and answers the first poll."""
    monkeypatch.setattr(sensor_activities, "pause_to_next_ms", lambda *_args, **_more: None)
    monkeypatch.setattr(sensor_activities, "_of_series", lambda _order, answer, _took_s: answer)
    monkeypatch.setattr(sensor_module, "MOST_UNCOUNTED", 2)
    sensors.acts["files"] = counting(0)
    await sensors.deploy(poll("files"))
    await has_polled(sensors, "files", 6)
    assert (await steps_of(sensors, "files")).startswith("lccclc")


async def test_what_happens_between_two_polls_is_seen_at_once(sensors: SensorBench) -> None:
    sensors.acts["files"] = counting(0)
    await sensors.deploy(poll("files", interval_seconds=60))
    await has_polled(sensors, "files", 1)
    found = await sensors.evaluate_now("files")
    assert found.outcome is EvaluationOutcome.NOTHING
    await sensors.change("files", "paused")

    async def is_paused() -> bool:
        return (await sensors.status("files")).waits == "it is paused"

    await until(is_paused, "it knows of the pause")
    assert (await sensors.status("files")).next_ms is None


async def test_a_poll_that_has_begun_counts_whatever_happens_meanwhile(sensors: SensorBench) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def act(order: EvaluationOrder) -> EvaluationAnswer:
        begun.set()
        await goes_on.wait()
        return EvaluationAnswer(requests=[AskedRun(run_key="k")], cursor="1")

    await sensors.deploy(poll("files"))
    await has_polled(sensors, "files", 2)
    sensors.acts["files"] = act
    await begun.wait()
    await sensors.runs.starts.wake_sensor(sensors.runs.scope, "files")
    await series_is_ended(sensors, "files")
    assert not sensors.stops[-1].is_set()
    sensors.acts["files"] = counting(0)
    goes_on.set()
    await sensors.asked_for("sensor:files:k")
    assert not any(stop.is_set() for stop in sensors.stops)


async def test_a_poll_that_has_begun_and_finds_nothing_ends_its_series(sensors: SensorBench) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def act(order: EvaluationOrder) -> EvaluationAnswer:
        begun.set()
        await goes_on.wait()
        return EvaluationAnswer(skip_reason="nothing new")

    await sensors.deploy(poll("files"))
    await has_polled(sensors, "files", 2)
    sensors.acts["files"] = act
    await begun.wait()
    await sensors.change("files", "paused")
    await series_is_ended(sensors, "files")
    goes_on.set()

    async def is_paused() -> bool:
        return (await sensors.status("files")).waits == "it is paused"

    await until(is_paused, "it knows of the pause")
    status = await sensors.status("files")
    assert status.polls == len(sensors.orders) == status.evaluations


async def test_a_pause_lasts_and_a_cursor_is_set_and_reset(sensors: SensorBench) -> None:
    sensors.acts["files"] = counting(2)
    await sensors.deploy(poll("files"))
    await sensors.asked_for("sensor:files:k1", "sensor:files:k2")
    await sensors.change("files", "paused")

    async def is_paused() -> bool:
        return (await sensors.status("files")).waits == "it is paused"

    await until(is_paused, "it knows of the pause")
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await sensors.evaluate_now("files")
    assert "it is paused" in str(refused.value.cause)
    tried = await sensors.evaluate_now("files", dry_run=True, cursor="0")
    assert (tried.outcome, tried.recorded, tried.cursor_after) == (EvaluationOutcome.TRIGGERED, False, "1")
    assert [one["run_key"] for one in tried.runs] == ["sensor:files:k1"]
    await sensors.change("files", "reset")
    sensors.acts["files"] = counting(3)
    await sensors.change("files", "resumed")
    # Back at the beginning it asks for the same keys: those runs are not made again.
    await sensors.asked_for("sensor:files:k1", "sensor:files:k2", "sensor:files:k3")
    await sensors.change("files", "cursor_set", cursor="1")

    async def has_read_again() -> bool:
        (state,) = await sensors.runs.rows("sensor_state")
        return bool(state["cursor"] == "3" and state["state_version"] == 7)

    await until(has_read_again, "it has read again from its new cursor")
    assert await sensors.keys() == ["sensor:files:k1", "sensor:files:k2", "sensor:files:k3"]


async def test_a_message_is_evaluated_once_and_a_failing_one_is_tried_again(sensors: SensorBench) -> None:
    tries = []

    async def act(order: EvaluationOrder) -> EvaluationAnswer:
        assert order.message is not None
        tries.append(order.message.message_id)
        if len(tries) < 3:
            return EvaluationAnswer(error="ValueError: no luck", category="USER_CODE")
        return EvaluationAnswer(requests=[AskedRun(run_key=str(order.message.payload["file"]))])

    sensors.acts["hook"] = act
    await sensors.deploy({"sensor_id": "hook", "kind": "push", "select": ["raw"]})
    await sensors.push("hook", "m-1", {"file": "a.csv"})
    await sensors.asked_for("sensor:hook:a.csv")
    assert tries == ["m-1"] * 3
    assert await sensors.runs.rows("x_messages") == []
    statuses = [row["status"] for row in await sensors.evaluations()]
    assert sum("no luck" in one for one in statuses) == 2


async def pushed_while_paused(sensors: SensorBench, *message_ids: str) -> None:
    """Deploy a push sensor, and let so many messages wait for it when it begins."""
    await sensors.change("hook", "paused")
    for number, message_id in enumerate(message_ids):
        await sensors.push("hook", message_id, {"number": number})
    await sensors.deploy({"sensor_id": "hook", "kind": "push", "select": ["raw"]})
    await sensors.change("hook", "resumed")


def in_turn(one: Callable[[WaitingMessage], EvaluationAnswer]) -> Evaluate:
    """Return a function that finds something on each message of an order, as workers of users do."""

    async def act(order: EvaluationOrder) -> EvaluationAnswer:
        assert order.message is not None
        return one(order.message).model_copy(update={"further": [one(message) for message in order.further]})

    return act


async def test_messages_that_wait_are_evaluated_by_one_order(sensors: SensorBench) -> None:
    sensors.acts["hook"] = in_turn(lambda message: EvaluationAnswer(requests=[AskedRun(run_key=message.message_id)]))
    await pushed_while_paused(sensors, "m-3", "m-1", "m-2")
    await sensors.asked_for("sensor:hook:m-1", "sensor:hook:m-2", "sensor:hook:m-3")
    (order,) = sensors.orders
    assert order.message is not None
    # In the order in which they came, whatever they are called.
    assert [one.message_id for one in (order.message, *order.further)] == ["m-3", "m-1", "m-2"]
    evaluations = {row["expected_state_version"]: row["trigger_source"] for row in await sensors.evaluations()}
    assert [json.loads(evaluations[version])["message_id"] for version in (0, 1, 2)] == ["m-3", "m-1", "m-2"]
    assert await sensors.runs.rows("x_messages") == []

    async def told() -> bool:
        doing = await sensors.status("hook")
        return [one.message_id for one in doing.decisions] == ["m-3", "m-1", "m-2"] and doing.evaluations == 3

    await until(told, "all of them are told of")


async def test_a_message_that_the_ledger_does_not_take_hurts_none_beside_it(sensors: SensorBench) -> None:
    await sensors.append(
        type="run_triggered",
        run_id="r",
        plan_id="p",
        run_key="sensor:hook:m-2",
        root_assets=["raw"],
        trigger={"type": "manual", "user_id": "ada"},
    )
    sensors.acts["hook"] = in_turn(lambda message: EvaluationAnswer(requests=[AskedRun(run_key=message.message_id)]))
    await pushed_while_paused(sensors, "m-1", "m-2", "m-3")
    await sensors.asked_for("sensor:hook:m-1", "sensor:hook:m-3")
    statuses = [str(row["status"]) for row in await sensors.evaluations()]
    assert sum("the ledger refused it" in one for one in statuses) == MESSAGE_TRIES
    assert sum("triggered" in one for one in statuses) == 2
    assert await sensors.runs.rows("x_messages") == []
    orders = [order.message.message_id for order in sensors.orders if order.message is not None]
    assert orders == ["m-1", *["m-2"] * (MESSAGE_TRIES - 1), "m-3"]


async def test_a_failing_sensor_is_backed_off_and_holds_up_nobody(sensors: SensorBench) -> None:
    async def bad(order: EvaluationOrder) -> EvaluationAnswer:
        return EvaluationAnswer(error="ValueError: no luck", category="USER_CODE", reason_code="USER_CODE")

    sensors.acts |= {"bad": bad, "good": counting(2)}
    await sensors.deploy(poll("bad"), poll("good"))
    await sensors.asked_for("sensor:good:k1", "sensor:good:k2")

    async def is_backed_off() -> bool:
        doing = await sensors.status("bad")
        return doing.failures >= 2 and doing.next_ms is not None

    await until(is_backed_off, "it has failed twice")
    doing = await sensors.status("bad")
    assert doing.decisions[-1].reason_code == "USER_CODE"
    assert doing.decisions[-1].cursor_after is None


async def test_a_ready_made_sensor_asks_for_each_new_object(sensors: SensorBench) -> None:
    from springline.paths import ObjectPath
    from springline.storage.port import IfAbsent

    for name in ("incoming/a", "incoming/b"):
        await sensors.runs.store.put(ObjectPath(name), b"x", IfAbsent())
    watch = {"sensor_id": "landed", "kind": "objects", "prefix": "incoming/", "interval_seconds": 1, "select": ["raw"]}
    await sensors.deploy(watch)
    await sensors.asked_for("sensor:landed:incoming/a", "sensor:landed:incoming/b")
    await sensors.runs.store.put(ObjectPath("incoming/c"), b"x", IfAbsent())
    await sensors.asked_for("sensor:landed:incoming/a", "sensor:landed:incoming/b", "sensor:landed:incoming/c")


async def test_a_sensor_goes_on_as_another_run_and_ends_with_its_file(
    sensors: SensorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "DRAIN_EVENTS", 30)
    sensors.acts["files"] = counting(6)
    await sensors.deploy(poll("files"))
    first = (await sensors.handle("files").describe()).run_id
    await sensors.asked_for(*(f"sensor:files:k{number}" for number in range(1, 7)))

    async def is_another() -> bool:
        return bool((await sensors.handle("files").describe()).run_id != first)

    await until(is_another, "it is another run")

    async def has_counted() -> bool:
        return (await sensors.status("files")).evaluations >= 6

    await until(has_counted, "it has gone on counting")
    await sensors.deploy()

    async def has_ended() -> bool:
        return (await sensors.handle("files").describe()).close_time is not None

    await until(has_ended, "its workflow has ended")
