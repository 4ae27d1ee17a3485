"""What every activity has around it: heartbeats, translated errors, the attempt's number; and that all have it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

import worker
from activities import interceptor
from activities.interceptor import MANY_SURPRISES, SURPRISES, StepInterceptor, each_heartbeat, step, step_of
from activities.messages import Probed
from springline import names
from springline.delta.messages import LogOutcome
from springline.errors import Code, InvariantViolated, refused
from springline.paths import Scope
from springline.storage.memory import MemoryStore
from springline.storage.port import StoreMisconfigured, StoreRetry, StoreUnknown
from tests.activities.environment import StepEnvironment

Activity = Callable[[], Awaitable[Any]]


def raising(error: Exception, **declared: Any) -> Activity:
    @step("raises", None, **declared)
    async def raises() -> None:
        raise error

    return raises


async def failed(
    activity: Activity, *, attempt: int = 1, lasted_s: float = 0.0, activity_id: str = "test"
) -> Exception:
    """Return what Temporal is told of an attempt that fails."""
    environment = StepEnvironment()
    info = environment.info
    environment.info = dataclasses.replace(
        info, attempt=attempt, activity_id=activity_id, started_time=info.scheduled_time + timedelta(seconds=lasted_s)
    )
    with pytest.raises(Exception) as raised:
        await environment.run(activity)
    return raised.value


# Errors.


@pytest.mark.parametrize(
    ("error", "kind", "final"),
    [
        (StoreRetry("away"), names.STORE_RETRY, False),
        (StoreUnknown("who knows"), names.STORE_UNKNOWN, False),
        (StoreMisconfigured("no bucket"), names.STORE_MISCONFIGURED, True),
        (InvariantViolated("damaged"), names.INVARIANT_VIOLATED, True),
        (refused(Code.INVALID_REQUEST, "no", field="x", remedy="Send y."), Code.INVALID_REQUEST.value, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_errors_of_the_domain_are_told_as_what_they_are(error: Exception, kind: str, final: bool) -> None:
    told = await failed(raising(error))
    assert isinstance(told, ApplicationError)
    assert (told.type, told.non_retryable) == (kind, final)
    assert told.__cause__ is error


async def test_a_refusal_travels_whole() -> None:
    told = await failed(
        raising(refused(Code.NOT_FOUND, "no such table", field="table", value="t", remedy="Create it."))
    )
    assert isinstance(told, ApplicationError)
    assert told.category is ApplicationErrorCategory.BENIGN
    assert told.details[0]["remedy"] == "Create it."


async def test_a_name_that_cannot_be_is_a_refusal() -> None:
    @step("scopes", None)
    async def scopes() -> None:
        Scope("No!", "w")

    told = await failed(scopes)
    assert isinstance(told, ApplicationError)
    assert (told.type, told.details[0]["field"]) == (Code.INVALID_REQUEST.value, "tenant")


async def test_a_step_that_has_fixed_nothing_gives_up_on_a_fault_that_lasts() -> None:
    fault, lasts = StoreRetry("the store is away"), interceptor.PATIENCE.total_seconds()
    for declared, lasted_s, final in (
        ({"bounded": True}, lasts, True),
        ({"bounded": True}, 1, False),
        ({}, lasts, False),
    ):
        told = await failed(raising(fault, **declared), attempt=9, lasted_s=lasted_s)
        assert isinstance(told, ApplicationError)
        assert (told.type, told.non_retryable) == (names.STORE_RETRY, final)
    assert "tried 9 times within 60 s" in str(await failed(raising(fault, bounded=True), attempt=9, lasted_s=lasts))


async def test_an_error_that_nobody_has_foreseen_is_final_after_some_attempts() -> None:
    error = KeyError("inside")
    assert await failed(raising(error), attempt=SURPRISES - 1) is error
    told = await failed(raising(error), attempt=SURPRISES)
    assert isinstance(told, ApplicationError)
    assert (told.type, told.non_retryable, str(told)) == (
        names.UNFORESEEN,
        True,
        "Unforeseen: an unforeseen error, KeyError",
    )


async def test_a_step_that_outlasts_faults_ends_after_so_many_whatever_the_store_did_between() -> None:
    surprise = raising(KeyError("inside"), outlasts=True, shown=True)
    for _ in range(MANY_SURPRISES - 1):
        assert isinstance(await failed(surprise, attempt=99), KeyError)
        for _ in range(20):
            passing = await failed(raising(StoreRetry("away"), outlasts=True), attempt=99)
            assert isinstance(passing, ApplicationError)
            assert not passing.non_retryable
    told = await failed(surprise, attempt=99)
    assert isinstance(told, ApplicationError)
    assert (told.type, told.non_retryable) == (names.UNFORESEEN, True)
    assert "KeyError: 'inside'" in str(told)
    assert isinstance(await failed(surprise, activity_id="another"), KeyError)


async def test_that_temporal_does_not_answer_is_no_surprise() -> None:
    error = RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
    assert await failed(raising(error), attempt=SURPRISES) is error


# Heartbeats.


async def test_heartbeats_go_on_by_themselves_and_carry_what_the_activity_said_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interceptor, "HEARTBEAT_S", 0.01)
    environment = StepEnvironment()
    beats: list[tuple[Any, ...]] = []
    environment.on_heartbeat = lambda *details: beats.append(details)

    async def until(details: tuple[Any, ...]) -> None:
        async with asyncio.timeout(10):
            while beats.count(details) < 2:  # noqa: ASYNC110 - the timer beats
                await asyncio.sleep(0.01)

    @step("works", None)
    async def works() -> None:
        calls = 0

        def call() -> None:
            nonlocal calls
            calls += 1

        each_heartbeat(call)
        await until(())
        activity.heartbeat(7)
        await until((7,))
        assert calls >= len(beats)

    await environment.run(works)
    ended = len(beats)
    await asyncio.sleep(0.05)
    assert len(beats) == ended


# Answers.


async def test_an_answer_says_of_which_attempt_it_is() -> None:
    environment = StepEnvironment()
    environment.info = dataclasses.replace(environment.info, attempt=3)

    @step("answers", None)
    async def answers() -> LogOutcome:
        return LogOutcome(kind="logged", version=1)

    assert (await environment.run(answers)).attempt == 3

    @step("has no room for it", None)
    async def probes() -> Probed:
        return Probed(store_id="s", build_id="b", identity="i")

    assert (await environment.run(probes)).store_id == "s"


# All have it.


class _Client:
    """Stands for a client: nothing is called."""

    def __getattr__(self, name: str) -> Any:
        return None


def test_every_activity_of_every_worker_is_declared_and_intercepted(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(worker, "Worker", lambda client, **options: made.append(options))
    monkeypatch.setattr(worker, "workflow_runner", lambda *_: None)
    worker.build_workers(cast(Client, _Client()), MemoryStore(), queues=names.ALL_QUEUES)
    assert [one["task_queue"] for one in made] == list(names.ALL_QUEUES)
    for options in made:
        assert [type(one) for one in options["interceptors"]] == [StepInterceptor]
        for function in options["activities"]:
            declared = step_of(function)
            assert activity._Definition.must_from_callable(function).name == declared.name
            assert declared.seconds is not None or declared.name == names.PROBE


def test_an_activity_that_declares_nothing_is_refused() -> None:
    @activity.defn
    async def bare() -> None: ...

    with pytest.raises(TypeError, match=r"interceptor\.step"):
        step_of(bare)
