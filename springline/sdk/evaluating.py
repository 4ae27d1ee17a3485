"""One evaluation of a sensor's function: what it returned, judged and in plain form.

`springline work` evaluates by this module, and so do tests of a pipeline: `evaluate_sensor(new_files, cursor=None)`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from springline.definitions.cursors import problem_of_cursor
from springline.definitions.limits import MAX_RUN_REQUESTS
from springline.sdk.attempting import Attempts, outside_of_any_loop
from springline.sdk.selecting import NoTerm, terms_of
from springline.sdk.sensors import RunRequest, Sensor, SensorContext, SensorResult

MOST_ANSWER_BYTES: Final = 256 * 1024
"""What one evaluation may say, as JSON: it is carried by workflows and becomes events."""
_MOST_SKIP: Final = 1_000

Json = dict[str, Any]


class BadResult(Exception):
    """What a sensor's function has returned is no result. `reason_code` is for programs."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code


def called(sensor: Sensor, context: SensorContext) -> Any:
    """Call the function of a sensor, and return what it gave; generators are drawn from here, as far as is allowed."""
    assert sensor.function is not None
    value = sensor.function(context) if sensor.takes_context else sensor.function()
    if inspect.isgenerator(value):
        return list(islice(value, MAX_RUN_REQUESTS + 1))
    return value


def plain_result(value: Any, name: str) -> Json:
    """Return a result in plain form: `requests`, `cursor`, `skip_reason`. Raises `BadResult`."""
    if inspect.iscoroutine(value) or isinstance(value, AsyncIterable):
        raise BadResult("BAD_RESULT", f"sensor {name} returned something async that was not awaited")
    result = _result_of(value, name)
    many = _bounded(result.run_requests, name)
    requests = [_plain_request(one, number, name) for number, one in enumerate(many)]
    if result.cursor is not None and not isinstance(result.cursor, str):
        kind = type(result.cursor).__name__
        raise BadResult("BAD_RESULT", f"sensor {name} returned a {kind} as its cursor: give a text, or None to keep it")
    if result.cursor is not None:
        _check_cursor(result.cursor, name)
    skip = None if result.skip_reason is None else _printable(str(result.skip_reason))[:_MOST_SKIP]
    plain = {"requests": requests, "cursor": result.cursor, "skip_reason": skip}
    try:
        size = len(json.dumps(plain, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise BadResult("BAD_RESULT", f"sensor {name} returned something that is no JSON: {error}") from None
    if size > MOST_ANSWER_BYTES:
        raise BadResult(
            "RESULT_TOO_LARGE",
            f"sensor {name} returned {size:,} bytes, and {MOST_ANSWER_BYTES:,} is the most: ask for fewer runs at once",
        )
    return plain


def _result_of(value: Any, name: str) -> SensorResult:
    if value is None:
        return SensorResult()
    if isinstance(value, SensorResult):
        return value
    if isinstance(value, RunRequest):
        return SensorResult([value])
    if isinstance(value, list | tuple):
        whole = [one for one in value if isinstance(one, SensorResult)]
        if whole and len(value) == 1:
            return whole[0]
        return SensorResult(value)
    raise BadResult(
        "BAD_RESULT",
        f"sensor {name} returned a {type(value).__name__}: return a SensorResult, RunRequests, or None",
    )


def _bounded(requests: Any, name: str) -> list[Any]:
    if not isinstance(requests, Iterable) or isinstance(requests, str | bytes | Mapping):
        kind = type(requests).__name__
        raise BadResult("BAD_RESULT", f"sensor {name} returned a {kind} as its run requests: give a list")
    many = list(islice(requests, MAX_RUN_REQUESTS + 1))
    if len(many) > MAX_RUN_REQUESTS:
        raise BadResult(
            "TOO_MANY_RUNS",
            f"sensor {name} asks for more than {MAX_RUN_REQUESTS} runs at once: ask for the first {MAX_RUN_REQUESTS}, "
            "and move the cursor behind those; the next evaluation asks for the others",
        )
    return many


def _plain_request(one: Any, number: int, name: str) -> Json:
    where = f"run request {number} of sensor {name}"
    if not isinstance(one, RunRequest):
        raise BadResult("BAD_RESULT", f"{where} is a {type(one).__name__}: give a RunRequest")
    if one.run_key is not None and (not isinstance(one.run_key, str) or not one.run_key):
        raise BadResult("BAD_RESULT", f"{where} has a run_key that is no text, or empty")
    try:
        select = list(dict.fromkeys(terms_of(one.select)))
    except NoTerm:
        raise BadResult("BAD_RESULT", f"{where} selects what is no asset") from None
    partitions = [one.partitions] if isinstance(one.partitions, str) else list(one.partitions or ())
    if any(not isinstance(key, str) for key in partitions):
        raise BadResult("BAD_RESULT", f"{where} has a partition that is no text")
    if not isinstance(one.config, Mapping) or any(not isinstance(key, str) for key in one.config):
        raise BadResult("BAD_RESULT", f"{where} has a config that is no dict by text")
    return {"run_key": one.run_key, "select": select, "partitions": partitions, "config": dict(one.config)}


def _check_cursor(cursor: str, name: str) -> None:
    problem = problem_of_cursor(cursor)
    if problem is not None:
        said = f"sensor {name} returned a cursor that {problem.message}. {problem.remedy}"
        raise BadResult(problem.reason_code, said)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text.encode("utf-8", "replace").decode())


def evaluate_sensor(sensor: Sensor, *, cursor: str | None = None, message: Any = None) -> SensorResult:
    """Evaluate a sensor of code in this process, as in a test: return what it would ask for.

    Raises what its function raises, and `BadResult` for what is no result.
    """
    context = SensorContext(sensor.sensor_id, cursor=cursor, message=message)

    def make() -> Any:
        attempts = Attempts()
        try:
            made = attempts.call(lambda: called(sensor, context))
        finally:
            attempts.close()
        if made.error is not None:
            raise made.error
        return made.value

    plain = plain_result(outside_of_any_loop(make), sensor.sensor_id)
    asked = plain["requests"]
    requests = [RunRequest(one["run_key"], one["select"], one["partitions"], one["config"]) for one in asked]
    return SensorResult(requests, plain["cursor"], plain["skip_reason"])
