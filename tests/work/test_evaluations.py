"""Evaluations of sensors in processes: their ends, whatever user code does; nobody waits for one that hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from springline.control.sensors.messages import EvaluationOrder, WaitingMessage
from springline.work import evaluations
from springline.work.evaluations import EvaluationMaker
from springline.work.pool import ProcessPool

FLOW = """
import os, signal, time
from springline.sdk import RunRequest, SensorResult, asset, sensor

@asset
def raw(): ...

@sensor
def good(context):
    return SensorResult([RunRequest("a", config={"cursor": context.cursor})], cursor="1")

@sensor(push=True)
async def pushed(context):
    return RunRequest(context.message.payload["file"])

@sensor(push=True)
def counts(context):
    at = int(context.cursor or 0)
    if context.message.payload == "bad":
        raise ValueError("no luck")
    run_key = f"{at}-{context.message.message_id}" * context.message.payload
    return SensorResult([RunRequest(run_key)], cursor=str(at + 1))

@sensor
def raises():
    raise ValueError("no luck")

@sensor
def hangs():
    time.sleep(600)

@sensor
def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    while True:
        pass

@sensor
def ends():
    os._exit(3)

@sensor
def garbage():
    return object()

@sensor
def floods():
    return [RunRequest(str(number)) for number in range(100_000)]

@sensor
def swells():
    return SensorResult(cursor="x" * 1_000_000)
"""
NAMES = {"good", "pushed", "counts", "raises", "hangs", "deaf", "ends", "garbage", "floods", "swells"}


@pytest.fixture
async def maker(tmp_path: Path) -> AsyncIterator[EvaluationMaker]:
    file = tmp_path / "flow.py"
    file.write_text(FLOW)
    pool = ProcessPool(str(file), 3, lambda _line: None)
    yield EvaluationMaker(pool, location="flow", sensors=NAMES)
    await pool.aclose()


def order(sensor_id: str, **more: Any) -> EvaluationOrder:
    plain: dict[str, Any] = {"tenant": "acme", "workspace": "dev", "location": "flow", "sensor_id": sensor_id}
    plain |= {"manifest_id": "01JHMP8000000000000000000A", "timeout_ms": 60_000}
    return EvaluationOrder.model_validate(plain | more)


async def test_what_a_function_returns_is_the_answer(maker: EvaluationMaker) -> None:
    answer = await maker.evaluate(order("good", cursor="0"), asyncio.Event())
    assert (answer.error, answer.cursor, answer.requests[0].config) == (None, "1", {"cursor": "0"})
    message = WaitingMessage(message_id="m", payload={"file": "a.csv"}, received_ms=1)
    answer = await maker.evaluate(order("pushed", message=message), asyncio.Event())
    assert [one.run_key for one in answer.requests] == ["a.csv"]


def messages(*payloads: Any) -> list[WaitingMessage]:
    return [
        WaitingMessage(message_id=f"m{number}", payload=payload, received_ms=1)
        for number, payload in enumerate(payloads)
    ]


async def test_messages_of_one_order_are_evaluated_in_turn_until_one_fails(maker: EvaluationMaker) -> None:
    first, *further = messages(1, 1, 1, "bad", 1)
    answer = await maker.evaluate(order("counts", cursor="5", message=first, further=further), asyncio.Event())
    answers = [answer, *answer.further]
    assert [[run.run_key for run in one.requests] for one in answers] == [["5-m0"], ["6-m1"], ["7-m2"], []]
    assert [one.cursor for one in answers] == ["6", "7", "8", None]
    assert [one.error is None for one in answers] == [True, True, True, False]
    first, *further = messages("bad", 1)
    answer = await maker.evaluate(order("counts", message=first, further=further), asyncio.Event())
    assert (answer.error is None, answer.further) == (False, [])


async def test_one_order_takes_neither_long_nor_much(maker: EvaluationMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *further = messages(1, 1, 1)
    monkeypatch.setattr(evaluations, "TOGETHER_S", 0.0)
    answer = await maker.evaluate(order("counts", message=first, further=further), asyncio.Event())
    assert (answer.cursor, answer.further) == ("1", [])
    monkeypatch.undo()
    first, *further = messages(1, 1, 40_000, 1)
    monkeypatch.setattr(evaluations, "_MOST_FOUND", 10_000)
    answer = await maker.evaluate(order("counts", message=first, further=further), asyncio.Event())
    assert [one.cursor for one in answer.further] == ["2"]


async def test_bad_functions_end_their_evaluation_alone_and_say_why(maker: EvaluationMaker) -> None:
    began = time.monotonic()
    names = ["raises", "ends", "garbage", "floods", "swells", "hangs", "deaf", "good"]
    short = {"hangs", "deaf"}
    answers = dict(
        zip(
            names,
            await asyncio.gather(
                *(
                    maker.evaluate(order(name, timeout_ms=1_000 if name in short else 60_000), asyncio.Event())
                    for name in names
                )
            ),
            strict=True,
        )
    )
    assert answers["good"].error is None
    told = {name: (one.category, one.reason_code) for name, one in answers.items() if one.error is not None}
    assert told == {
        "raises": ("USER_CODE", "USER_CODE"),
        "ends": ("USER_CODE", "PROCESS_ENDED"),
        "garbage": ("USER_CODE", "BAD_RESULT"),
        "floods": ("USER_CODE", "TOO_MANY_RUNS"),
        "swells": ("USER_CODE", "CURSOR_TOO_LARGE"),
        "hangs": ("TIMEOUT", "TIMEOUT"),
        "deaf": ("TIMEOUT", "TIMEOUT"),
    }
    assert "no luck" in (answers["raises"].error or "")
    assert all(one.counts for one in answers.values())
    assert time.monotonic() - began < 120


async def test_sensors_that_hang_hold_up_no_others(tmp_path: Path) -> None:
    """There are as many that hang as usual processes; further ones are started, and end behind them."""
    file = tmp_path / "flow.py"
    file.write_text(FLOW)
    pool = ProcessPool(str(file), 2, lambda _line: None, most=4, patience_s=0.05)
    maker = EvaluationMaker(pool, location="flow", sensors=NAMES)
    stop = asyncio.Event()
    hanging = [asyncio.create_task(maker.evaluate(order("hangs", timeout_ms=600_000), stop)) for _ in range(3)]
    try:
        for _ in range(2_400):
            if pool.processes < len(hanging):
                await asyncio.sleep(0.05)
        for _ in range(3):
            assert (await maker.evaluate(order("good"), asyncio.Event())).error is None
        assert not any(one.done() for one in hanging)
        assert pool.processes == 4
    finally:
        stop.set()
        ended = await asyncio.gather(*hanging)
    assert {one.reason_code for one in ended} == {"WORKER_STOPPED"}
    assert pool.processes == 1
    await pool.aclose()


async def test_a_worker_without_the_sensor_says_so_and_costs_no_try(maker: EvaluationMaker) -> None:
    answer = await maker.evaluate(order("other"), asyncio.Event())
    assert (answer.reason_code, answer.counts) == ("SENSOR_MISSING", False)
