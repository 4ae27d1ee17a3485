"""`@sensor` and ready-made sensors: declaring what is watched, and which runs are asked for when something is new.

A declaration never raises. What is wrong with it is kept, and told with everything else that is wrong with the file.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, overload

from springline.definitions.durations import duration_ms
from springline.definitions.ids import meant, problem_of_id
from springline.definitions.limits import (
    DEFAULT_SENSOR_INTERVAL_S,
    DEFAULT_SENSOR_TIMEOUT_S,
    MAX_SELECT,
    MAX_SENSOR_INTERVAL_S,
    MAX_SENSOR_TIMEOUT_S,
    MAX_TERM,
)
from springline.definitions.sensors import RUN_ENDS, RunEnd, SensorKind, problems_of_sensor
from springline.sdk.assets import Asset
from springline.sdk.collecting import Declarations
from springline.sdk.declaring import DeclaredNode
from springline.sdk.errors import SourceProblem
from springline.sdk.selecting import NoTerm, terms_of

if TYPE_CHECKING:
    import logging

_OPTIONS: Final = ("sensor_id", "every", "timeout", "select", "push")
_OTHER_NAMES: Final = {
    "name": "sensor_id",
    "interval": "every",
    "minimum_interval": "every",
    "minimum_interval_seconds": "every",
    "asset_selection": "select",
    "assets": "select",
    "target": "select",
    "job": "select",
}
"""What other tools call it."""
_ONE_FOR_EACH: Final = "Write a function of its own for the sensor: it says which runs are asked for."


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that a sensor asks for.

    Args:
        run_key: what the run is for, such as a file's name: a sensor asks once for each key, for ever. Without one,
            every request is another run, so that a cursor alone keeps it from being asked for twice.
        select: what is made, as for a run; by default what the sensor selects.
        partitions: keys of partitions; each is made of every selected asset that has it.
        config: what the functions find in `context.config`.
    """

    run_key: str | None = None
    select: str | Asset[..., Any] | Sequence[str | Asset[..., Any]] | None = None
    partitions: str | Sequence[str] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SensorResult:
    """What an evaluation of a sensor comes to.

    Args:
        run_requests: runs that are asked for, 500 at most.
        cursor: how far the sensor has read, as text; None keeps the cursor as it is. It moves together with the
            requests, or not at all.
        skip_reason: why there is none, for people.
    """

    run_requests: Sequence[RunRequest] = ()
    cursor: str | None = None
    skip_reason: str | None = None


@dataclass(frozen=True, slots=True)
class PushedMessage:
    """A message that was pushed to a sensor. `payload` is JSON."""

    message_id: str
    payload: Any
    received_at: datetime


class SensorContext:
    """The evaluation that a function makes.

    In a unit test of one function: `new_files(SensorContext(cursor="a.csv"))`.

    Attributes:
        sensor_id: the sensor's id.
        cursor: what the last evaluation has left as its cursor, or an operator has set; None before the first.
        last_evaluated_at: when the last one was that is on record; None before the first.
        message: what was pushed; None if nothing was, as in every poll.
    """

    def __init__(
        self,
        sensor_id: str = "sensor",
        *,
        cursor: str | None = None,
        last_evaluated_at: datetime | None = None,
        message: PushedMessage | None = None,
    ) -> None:
        self.sensor_id = sensor_id
        self.cursor = cursor
        self.last_evaluated_at = last_evaluated_at
        self.message = message

    @property
    def log(self) -> logging.Logger:
        """The logger of the sensor, `springline.sensor.ID`."""
        import logging  # noqa: PLC0415 - importing the library must be quick

        return logging.getLogger(f"springline.sensor.{self.sensor_id}")


class Sensor:
    """A sensor as it is declared; called, it calls its function.

    Attributes:
        sensor_id: unique in the workspace.
        function: what evaluates it; None of a ready-made one.
        file, line: where it is declared.
        problems: what is wrong with the declaration by itself.
    """

    def __init__(
        self,
        kind: SensorKind,
        sensor_id: Any,
        options: Mapping[str, Any],
        frame: FrameType | None,
        function: Callable[..., Any] | None = None,
    ) -> None:
        self.file = "<unknown>" if frame is None else frame.f_code.co_filename
        self.line = None if frame is None else frame.f_lineno
        self.kind: SensorKind = kind
        self.function = function
        self.sensor_id = str(sensor_id)
        self._problems: list[tuple[str, str]] = []
        problem = problem_of_id(sensor_id)
        if problem is not None:
            self._problems.append((f"has an id that {problem[0]}", problem[1]))
        self.interval_seconds = self._seconds(
            "every", options.get("every"), MAX_SENSOR_INTERVAL_S, DEFAULT_SENSOR_INTERVAL_S
        )
        self.timeout_seconds = self._seconds(
            "timeout", options.get("timeout"), MAX_SENSOR_TIMEOUT_S, DEFAULT_SENSOR_TIMEOUT_S
        )
        self.select = self._selection(options.get("select"))
        self.table = self._watched("table", options)
        self.asset = self._watched("asset", options)
        self.prefix = self._watched("prefix", options)
        self.ends: list[RunEnd] = list(options.get("ends") or ())
        self.takes_context = False if function is None else self._takes_context(function)
        for wrong in problems_of_sensor(self):
            self._problems.append((f"cannot be: {wrong.message}", wrong.remedy))
        DECLARED_SENSORS.add(self)

    def __repr__(self) -> str:
        return f"<sensor {self.sensor_id}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, as in a test of it."""
        if self.function is None:
            raise TypeError(f"sensor {self.sensor_id} is ready-made: it has no function to call")
        return self.function(*args, **kwargs)

    @property
    def problems(self) -> list[SourceProblem]:
        """What is wrong with the declaration by itself."""
        return [self.problem(message, remedy) for message, remedy in self._problems]

    def problem(self, message: str, remedy: str) -> SourceProblem:
        """Return a problem of this sensor, at its place."""
        return SourceProblem(self.file, self.line, f"sensor {self.sensor_id} {message}", remedy)

    def refuse(self, message: str, remedy: str) -> None:
        """Note a problem."""
        self._problems.append((message, remedy))

    def _seconds(self, name: str, value: Any, most: int, default: int) -> int:
        if value is None:
            return default
        try:
            ms = duration_ms(value)
        except ValueError as error:
            self.refuse(f"has {name} {_short(value)}, which {error}", "Give a duration such as '30s'.")
            return default
        if ms % 1_000 or not 1 <= ms // 1_000 <= most:
            said = f"Give whole seconds, from 1 s to {most:,} s."
            self.refuse(f"has {name} {_short(value)}, which is out of range", said)
            return default
        return ms // 1_000

    def _watched(self, name: str, options: Mapping[str, Any]) -> str | None:
        value = options.get(name)
        if value is None or (isinstance(value, str) and (value or name == "prefix")):
            return value
        self.refuse(f"has {name} {_short(value)}, which names none", f"Give a text: {name}='flights'.")
        # Whatever it is, it is given: that it lacks is not to be told, too.
        return str(value)

    def _selection(self, value: Any) -> list[str]:
        try:
            terms = list(dict.fromkeys(terms_of(value)))
        except NoTerm:
            self.refuse(f"selects {_short(value)}, which is no asset", "Give select='*delays', an asset, or a list.")
            return []
        if len(terms) > MAX_SELECT or any(len(term) > MAX_TERM for term in terms):
            remedy = f"Give at most {MAX_SELECT}, of at most {MAX_TERM} characters each."
            self.refuse(f"selects {len(terms)} terms", remedy)
            return []
        return terms

    def _takes_context(self, function: Callable[..., Any]) -> bool:
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            self.refuse("has a function whose parameters cannot be read", "Give a function.")
            return False
        needed = [one for one in parameters if one.default is one.empty and one.kind not in (one.VAR_KEYWORD,)]
        if len(needed) > 1:
            names = ", ".join(one.name for one in needed)
            self.refuse(f"has a function that takes {names}", "It takes the context, or nothing.")
        return bool(needed)


DECLARED_SENSORS: Final[Declarations[Sensor]] = Declarations()


@overload
def sensor(function: Callable[..., Any], /) -> Sensor: ...


@overload
def sensor(
    *,
    sensor_id: str | None = None,
    every: str | timedelta | None = None,
    timeout: str | timedelta | None = None,
    select: str | Asset[..., Any] | Sequence[str | Asset[..., Any]] | None = None,
    push: bool = False,
) -> Callable[[Callable[..., Any]], Sensor]: ...


@overload
def sensor(**unknown: Any) -> Callable[[Callable[..., Any]], Sensor]: ...


def sensor(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Declare a sensor: the function looks for something new, and says which runs are to be made for it.

    It is called at least `every` seconds apart, one call after the other, with a `SensorContext`. It returns a
    `SensorResult`, one `RunRequest` or several (or yields them), or None if there is nothing. An evaluation counts
    whole or not at all: its runs are asked for and its cursor moves together. One that raises, takes longer than
    `timeout` or returns something else asks for nothing, is on record, and is tried again later and later.

    Args:
        sensor_id: unique in the workspace; by default the function's name.
        every: the least time between two calls; by default 30 s.
        timeout: how long a call may take; by default 60 s.
        select: what a request makes that does not say it itself.
        push: it is called for each message that is pushed to it instead, and never by time.
    """

    frame = sys._getframe(1)
    positional = function if isinstance(function, str) else None
    if positional is not None:
        options.setdefault("sensor_id", positional)
        function = None

    def declared(found: Callable[..., Any]) -> Sensor:
        kind: SensorKind = "push" if options.get("push") is True else "poll"
        name = options.get("sensor_id") or getattr(found, "__name__", None)
        made = Sensor(kind, name, options, frame, found)
        for option in options:
            if option not in _OPTIONS:
                instead = _OTHER_NAMES.get(option)
                near = f"Did you mean {instead}? " if instead else meant(option, _OPTIONS)
                made.refuse(f"has the unknown option {option}", f"{near}There are {', '.join(_OPTIONS)}.")
        if positional is not None:
            made.refuse("has an option without a name", "Give options by name: @sensor(sensor_id='new_files').")
        if isinstance(found, DeclaredNode):
            made.refuse(f"is declared above the {found.kind} {found.key}", _ONE_FOR_EACH)
        if options.get("push") not in (None, True, False):
            made.refuse(f"has push {_short(options['push'])}", "Give push=True, or leave it out.")
        code = getattr(found, "__code__", None)
        if code is not None:
            made.file, made.line = code.co_filename, code.co_firstlineno
        return made

    return declared if function is None else declared(function)


_Select = str | Asset[..., Any] | Sequence[str | Asset[..., Any]]
_Every = str | timedelta | None


def table_sensor(sensor_id: str, *, table: str, select: _Select, every: _Every = None) -> Sensor:
    """Declare a sensor that asks for a run when a Delta table has a new version, by whoever it was committed.

    One run for the latest version: versions that came together are one. Its config has `table` and `version`.
    """
    return Sensor("table", sensor_id, {"table": table, "select": select, "every": every}, sys._getframe(1))


def asset_sensor(sensor_id: str, *, asset: str | Asset[..., Any], select: _Select, every: _Every = None) -> Sensor:
    """Declare a sensor that asks for a run for each materialisation of an asset, also of another code location.

    The run makes the same partition, if what it selects has partitions. Its config has `asset`, `partition` and
    `run_id`.
    """
    key = asset.key if isinstance(asset, DeclaredNode) else asset
    return Sensor("asset", sensor_id, {"asset": key, "select": select, "every": every}, sys._getframe(1))


def objects_sensor(sensor_id: str, *, prefix: str, select: _Select, every: _Every = None) -> Sensor:
    """Declare a sensor that asks for a run for each new object below a prefix of the workspace's part of the store.

    New is what comes behind the cursor in the order of names: give objects names that grow, such as times. Its config
    has `object`.
    """
    return Sensor("objects", sensor_id, {"prefix": prefix, "select": select, "every": every}, sys._getframe(1))


def run_sensor(
    sensor_id: str, *, select: _Select, on: RunEnd | Sequence[RunEnd] = "failed", every: _Every = None
) -> Sensor:
    """Declare a sensor that asks for a run when a run ends: failed, succeeded or cancelled.

    Runs that it has asked for itself do not count. Its config has `run_id` and `state`.
    """
    ends: list[Any] = list(on) if isinstance(on, Iterable) and not isinstance(on, str) else [on]
    known = [one for one in ends if one in RUN_ENDS]
    made = Sensor("run", sensor_id, {"ends": known or ["failed"], "select": select, "every": every}, sys._getframe(1))
    if known != ends or not ends:
        made.refuse(f"waits for runs that are {_short(on)}", f"There are {', '.join(RUN_ENDS)}.")
    return made


def at_instant(ms: int) -> datetime:
    """Return an instant in ms since 1970, in UTC."""
    return datetime.fromtimestamp(ms / 1_000, UTC)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
