"""The interceptor of all activities: heartbeats, translation of errors, timing, the number of the attempt.

An activity is plain: an order, a call into `springline`, an answer. The differences between activities are declared
beside their names, by `step`. `worker.build_workers` gives the interceptor to every worker.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, FailureError
from temporalio.service import RPCError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from springline import names
from springline.errors import Code, InvariantViolated, Refusal, Refused
from springline.paths import InvalidPath
from springline.storage.port import StoreMisconfigured, StoreRetry, StoreUnknown
from springline.storage.threads import long_job
from springline.storage.together import beside

F = TypeVar("F", bound=Callable[..., Any])

HEARTBEAT_S = 0.3
PATIENCE = timedelta(seconds=60)
"""How long a step that has fixed nothing yet is retried; then its callers get an error."""
SURPRISES = 5
"""Attempts after which an unforeseen error is final."""
MANY_SURPRISES = 10
"""Unforeseen errors after which a step ends that outlasts faults: 10 s of a commit's retries, 45 s of a rebuild's."""
_REMEMBERED = 1_000
_ATTEMPT = "attempt"
_TIMED = {
    names.METRIC_STEP_SECONDS: "Time of one attempt of a step on a Delta table.",
    names.METRIC_LEDGER_STEP_SECONDS: "Time of one attempt of a ledger step.",
    names.METRIC_REBUILD_STEP_SECONDS: "Time of one attempt of a rebuild's step.",
    names.METRIC_RUN_STEP_SECONDS: "Time of one attempt of a run's step.",
}


@dataclass(frozen=True, slots=True)
class Step:
    """The declarations of an activity.

    `seconds`: the metric that has its times, None for none. `bounded`: nothing is fixed before its end, so it gives up
    on a fault that has lasted for `PATIENCE`. `outlasts`: it ends for good after `MANY_SURPRISES` unforeseen errors,
    not counting faults of the store and of Temporal in between; others end at their fifth attempt. `shown`:
    operators read the message of such an error; else callers get its type only. `long`: it waits for its turns after
    all other work. `around` returns, for an order, a context manager that is entered while the activity runs.
    """

    name: str
    seconds: str | None
    bounded: bool = False
    outlasts: bool = False
    shown: bool = False
    long: bool = False
    around: Callable[[Any], AbstractContextManager[None]] | None = None


def step(
    name: str,
    seconds: str | None,
    *,
    bounded: bool = False,
    outlasts: bool = False,
    shown: bool = False,
    long: bool = False,
    around: Callable[[Any], AbstractContextManager[None]] | None = None,
) -> Callable[[F], F]:
    """Define the activity `name`, and declare what it needs around it: the fields of `Step`."""

    def defined(function: F) -> F:
        setattr(function, _DECLARED, Step(name, seconds, bounded, outlasts, shown, long, around))
        return activity.defn(name=name)(function)

    return defined


_DECLARED = "__springline_step__"


@contextmanager
def ledger_asked() -> Iterator[None]:
    """Around a call of the ledger: one that does not answer now is asked again by Temporal, as a passing fault."""
    try:
        yield
    except Refused as error:
        if error.refusal.code is not Code.UNAVAILABLE:
            raise
        raise ApplicationError(
            error.refusal.message, type=names.LEDGER_UNAVAILABLE, category=ApplicationErrorCategory.BENIGN
        ) from error


def step_of(function: Callable[..., Any]) -> Step:
    """Return what an activity declares; raises `TypeError` for one that `step` has not defined."""
    declared = getattr(function, _DECLARED, None)
    if not isinstance(declared, Step):
        raise TypeError(f"activity {function!r} is not defined by activities.interceptor.step")
    return declared


class StepInterceptor(Interceptor):
    """Puts around every activity of a worker what all of them need."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Return what runs one attempt."""
        return _Attempt(next)


class _Attempt(ActivityInboundInterceptor):
    """One attempt of an activity."""

    _heartbeats: _Heartbeats

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        """Take the activity's own heartbeats in."""
        self._heartbeats = _Heartbeats(outbound)
        super().init(self._heartbeats)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Run the activity; raise its errors in Temporal's types."""
        step, info = step_of(input.fn), activity.info()
        around = nullcontext() if step.around is None else step.around(*input.args)
        turns = long_job(lost=info.attempt - 1) if step.long else nullcontext()
        began = time.perf_counter()
        try:
            async with self._heartbeats.beating():
                with turns, around:
                    answer = await super().execute_activity(input)
        except Exception as error:
            failure = failure_of(error, step, info)
            if failure is error:
                raise
            raise failure from error
        finally:
            _record(step, time.perf_counter() - began)
        return _numbered(answer, info.attempt)


# Heartbeats: a killed worker is noticed within the heartbeat timeout, not the activity's.

_running: ContextVar[_Heartbeats] = ContextVar("springline_heartbeats")


class _Heartbeats(ActivityOutboundInterceptor):
    """Heartbeats from a timer. They carry what the activity gave its last own heartbeat."""

    def __init__(self, next: ActivityOutboundInterceptor) -> None:
        super().__init__(next)
        self._details: tuple[Any, ...] = ()
        self.calls: list[Callable[[], None]] = []

    def heartbeat(self, *details: Any) -> None:
        """Keep the details for the next heartbeats."""
        self._details = details

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Heartbeat every `HEARTBEAT_S` seconds while the block runs."""
        _running.set(self)
        async with beside(self._beat()):
            yield

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for call in self.calls:
                call()
            self.next.heartbeat(*self._details)


def each_heartbeat(call: Callable[[], None]) -> None:
    """Run `call` before every heartbeat of the current activity; `activity.heartbeat` sets the details."""
    heartbeats = _running.get(None)
    if heartbeats is not None:
        heartbeats.calls.append(call)


# Errors: which are final, and which are tried again.


def failure_of(error: Exception, step: Step, info: activity.Info) -> Exception:
    """Return the failure for Temporal of a step's error; `error` itself if Temporal should see that, and retry.

    Passing faults of the store are benign and retried; a refusal, an invalid name (operators also start runs by
    hand), a misconfigured store and a broken invariant are final.
    """
    match error:
        case FailureError() | RPCError():
            failure: Exception = error
        case Refused():
            failure = _refused(error.refusal)
        case InvalidPath():
            failure = _refused(
                Refusal(
                    code=Code.INVALID_REQUEST,
                    message=str(error),
                    field=error.field,
                    value=error.value,
                    remedy=error.remedy,
                )
            )
        case StoreRetry():
            failure = ApplicationError(str(error), type=names.STORE_RETRY, category=ApplicationErrorCategory.BENIGN)
        case StoreUnknown():
            failure = ApplicationError(str(error), type=names.STORE_UNKNOWN, category=ApplicationErrorCategory.BENIGN)
        case StoreMisconfigured():
            failure = ApplicationError(str(error), type=names.STORE_MISCONFIGURED, non_retryable=True)
        case InvariantViolated():
            failure = ApplicationError(str(error), type=names.INVARIANT_VIOLATED, non_retryable=True)
        case _:
            return _surprise(error, step, info)
    return _patience_ends(failure, info) if step.bounded else failure


def _refused(refusal: Refusal) -> ApplicationError:
    return ApplicationError(
        refusal.message,
        refusal.model_dump(mode="json"),
        type=refusal.code.value,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )


def _patience_ends(failure: Exception, info: activity.Info) -> Exception:
    """Make a fault final that has lasted for `PATIENCE`.

    The time is the server's, from when the step was first scheduled to when this attempt began, so that an attempt that
    works is never cut short, however long it takes.
    """
    lasted = info.started_time - info.scheduled_time
    if not isinstance(failure, ApplicationError) or failure.non_retryable or lasted < PATIENCE:
        return failure
    return ApplicationError(
        f"{failure.message} (tried {info.attempt} times within {lasted.total_seconds():.0f} s)",
        type=failure.type,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )


_surprised: OrderedDict[tuple[str, str], int] = OrderedDict()
"""How often steps that outlast faults met unforeseen errors in this process, by run and activity."""


def _surprise(error: Exception, step: Step, info: activity.Info) -> Exception:
    """Make an unforeseen error final if it comes again, because it would block the sequencer for ever."""
    if not step.outlasts:
        if info.attempt < SURPRISES:
            return error
    else:
        key = (info.workflow_run_id or "", info.activity_id)
        met = _surprised.pop(key, 0) + 1
        if met < MANY_SURPRISES:
            _surprised[key] = met
            while len(_surprised) > _REMEMBERED:
                _surprised.popitem(last=False)
            return error
    # The trace, for the Web UI and the log, has the internals of the error.
    said = f": {error}" if step.shown else ""
    return ApplicationError(
        f"an unforeseen error, {type(error).__name__}{said}", type=names.UNFORESEEN, non_retryable=True
    )


# Time and attempt.


def _record(step: Step, seconds: float) -> None:
    if step.seconds is not None:
        histogram = activity.metric_meter().create_histogram_timedelta(step.seconds, _TIMED[step.seconds])
        histogram.record(timedelta(seconds=seconds), {"step": step.name})


def _numbered(answer: Any, attempt: int) -> Any:
    """Return an answer with the number of its attempt, if it has such a field."""
    if not isinstance(answer, BaseModel) or getattr(answer, _ATTEMPT, attempt) == attempt:
        return answer
    return answer.model_copy(update={_ATTEMPT: attempt})
