"""`@sensor` and ready-made sensors: what they declare, what is wrong with them, what their functions may return."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from springline.definitions.manifest import DefinedSensor
from springline.sdk import (
    PushedMessage,
    RunRequest,
    Sensor,
    SensorContext,
    SensorResult,
    asset,
    evaluate_sensor,
    objects_sensor,
    run_sensor,
    sensor,
    table_sensor,
)
from springline.sdk.describing import described, sensor_definition
from springline.sdk.evaluating import BadResult, plain_result
from springline.sdk.loading import examine
from springline.sdk.resolving import resolve

EXAMPLE = Path(__file__).parents[2] / "docs/examples/sensors.py"


@asset
def raw() -> int:
    return 1


def said(*sensors: Sensor) -> list[str]:
    return [f"{one.message}. {one.remedy}" for one in resolve([raw], (), sensors).problems]


def test_a_sensor_is_declared_with_its_defaults_and_as_it_is_deployed() -> None:
    @sensor
    def files(context: SensorContext) -> None: ...

    @sensor(every="5m", timeout="10s", select=raw, push=True, sensor_id="hook")
    def other() -> None: ...

    watched = table_sensor("t", table="prices", select="raw")
    assert said(files, other, watched) == []
    assert (files.sensor_id, files.kind, files.interval_seconds, files.timeout_seconds) == ("files", "poll", 30, 60)
    assert (other.sensor_id, other.kind, other.interval_seconds, other.takes_context) == ("hook", "push", 300, False)
    for one in (files, other, watched):
        DefinedSensor.model_validate(sensor_definition(one))


def nothing(context: Any) -> None: ...


WRONG: list[tuple[Sensor, str]] = [
    (sensor(every="soon")(nothing), "has every 'soon', which is no duration"),
    (sensor(every="0.5s")(nothing), "has every '0.5s'"),
    (sensor(timeout="2h")(nothing), "has timeout '2h', which is out of range"),
    (sensor(minimum_interval=3)(nothing), "has the unknown option minimum_interval. Did you mean every?"),
    (sensor(select=3)(nothing), "selects 3, which is no asset"),
    (sensor(select="zzz")(nothing), "cannot be: the selection 'zzz' names no asset"),
    (sensor(sensor_id="a:b")(nothing), "has an id that"),
    (sensor(push="yes")(nothing), "has push 'yes'"),
    (sensor(lambda one, two: None), "has an id that"),
    (objects_sensor("o", prefix="../x", select="raw"), "the prefix '../x' is no place"),
    (table_sensor("t", table="x", select=[]), "it asks for nothing"),
    (run_sensor("r", on="late", select="raw"), "waits for runs that are 'late'"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("declared", "told"), WRONG)
def test_what_is_wrong_is_told_with_its_remedy(declared: Sensor, told: str) -> None:
    assert any(told in one for one in said(declared)), said(declared)


def test_two_sensors_of_one_id_are_told() -> None:
    first, second = sensor(nothing), sensor(nothing)
    assert any("has the id of the sensor at" in one for one in said(first, second))


def twice() -> Iterator[RunRequest]:
    yield RunRequest("a")
    yield RunRequest("b", partitions="2024-01-31")


def endless() -> Iterator[RunRequest]:
    while True:
        yield RunRequest()


GOOD: list[tuple[Any, int, str | None]] = [
    (lambda: None, 0, None),
    (lambda: RunRequest("a"), 1, None),
    (lambda: [RunRequest("a"), RunRequest("b")], 2, None),
    (lambda: SensorResult([RunRequest("a", select=raw)], cursor="c"), 1, "c"),
    (twice, 2, None),
]


@pytest.mark.parametrize(("function", "count", "cursor"), GOOD)
def test_what_a_function_may_return(function: Any, count: int, cursor: str | None) -> None:
    found = evaluate_sensor(sensor(sensor_id="s")(function))
    assert (len(found.run_requests), found.cursor) == (count, cursor)


GARBAGE: list[tuple[Any, str]] = [
    (3, "BAD_RESULT"),
    ("a.csv", "BAD_RESULT"),
    ({"runs": []}, "BAD_RESULT"),
    ([1, 2], "BAD_RESULT"),
    (SensorResult("abc"), "BAD_RESULT"),  # type: ignore[arg-type]
    (SensorResult(cursor=7), "BAD_RESULT"),  # type: ignore[arg-type]
    (SensorResult(cursor="\ud800"), "BAD_CURSOR"),
    (SensorResult(cursor="a\0b"), "BAD_CURSOR"),
    (SensorResult(cursor="x" * 10_000_000), "CURSOR_TOO_LARGE"),
    (RunRequest(""), "BAD_RESULT"),
    (RunRequest("a", select=object()), "BAD_RESULT"),  # type: ignore[arg-type]
    (RunRequest("a", partitions=[1]), "BAD_RESULT"),  # type: ignore[list-item]
    (RunRequest("a", config={"when": datetime.now(UTC)}), "BAD_RESULT"),
    (RunRequest("a", config={"share": float("nan")}), "BAD_RESULT"),
    (RunRequest("a", config={"text": "x" * 300_000}), "RESULT_TOO_LARGE"),
    ([RunRequest(str(number)) for number in range(100_000)], "TOO_MANY_RUNS"),
]


@pytest.mark.parametrize(("value", "reason"), GARBAGE)
def test_garbage_is_told_and_is_no_result(value: Any, reason: str) -> None:
    with pytest.raises(BadResult) as told:
        plain_result(value, "s")
    assert told.value.reason_code == reason


def test_an_endless_generator_is_drawn_from_as_far_as_is_allowed() -> None:
    with pytest.raises(BadResult) as told:
        evaluate_sensor(sensor(sensor_id="s")(endless))
    assert told.value.reason_code == "TOO_MANY_RUNS"


def test_the_example_is_valid_and_does_what_it_says(tmp_path: Path) -> None:
    loaded = examine(EXAMPLE)
    assert loaded.problems == []
    assert [one["sensor_id"] for one in described(loaded)["sensors"]] == ["new_files", "orders", "new_prices"]
    module = sys.modules[loaded.module.__name__] if loaded.module is not None else None
    assert module is not None
    module.LANDING = tmp_path  # type: ignore[attr-defined]
    files, orders, _ = loaded.pipeline.sensors
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_text("x")
    first = evaluate_sensor(files)
    assert ([one.run_key for one in first.run_requests], first.cursor) == (["a.csv", "b.csv"], "b.csv")
    assert evaluate_sensor(files, cursor="b.csv").skip_reason == "no new file"
    message = PushedMessage("m-1", {"order": 17}, datetime.now(UTC))
    assert [one.run_key for one in evaluate_sensor(orders, message=message).run_requests] == ["17"]


async def test_an_async_function_is_evaluated_in_a_test_as_a_worker_does() -> None:
    @sensor(select="a")
    async def found(context: SensorContext) -> RunRequest:
        await asyncio.sleep(0)
        return RunRequest(run_key=context.cursor)

    asked = evaluate_sensor(found, cursor="7").run_requests
    assert [one.run_key for one in asked] == ["7"]
