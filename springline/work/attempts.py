"""From an order to the end of its attempt: inputs from the store, a process for the function, its output kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from springline.control.runs.messages import AttemptEnded, AttemptOrder
from springline.definitions.durations import duration_text
from springline.ledger.nested import ErrorCategory, TaskOutcome
from springline.paths import Scope
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore, StoreError
from springline.storage.scoped import ScopedStore
from springline.work.frames import Job, JobInput, Made
from springline.work.outputs import Output, read_output, store_output
from springline.work.pool import PipelineNotLoaded, ProcessPool
from springline.work.process import AttemptProcess, JobEnd, ProcessEnded, StopReason, Told

T = TypeVar("T")

log = logging.getLogger("springline.attempt")

_SIGKILL = -9


class _Failed(Exception):
    """Why an attempt fails; what follows from it for the run."""

    def __init__(
        self, message: str, category: ErrorCategory, reason_code: str, *, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.category = category
        self.reason_code = reason_code
        self.retryable = retryable


class _Stopped(Exception):
    """The attempt was to stop before its function was called."""


@dataclass(frozen=True, slots=True)
class Watching:
    """What whoever asked for an attempt hears of it: its start in ms since 1970, and its progress."""

    started: Callable[[int], None]
    progress: Told


class AttemptMaker:
    """Makes the attempts of one code location.

    `store` is the whole one; `now_ms` reads the clock; `grace_s` is how long a function may take to end when it is told
    to stop; `location` and `assets` say what the pipeline declares, as `pool` has loaded it.
    """

    def __init__(
        self,
        pool: ProcessPool,
        store: ObjectStore,
        *,
        location: str,
        assets: set[str],
        worker_id: str,
        grace_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self._pool = pool
        self._store = store
        self._location = location
        self._assets = assets
        self._worker_id = worker_id
        self._grace_s = grace_s
        self._now_ms = now_ms
        self._numbers = count(1)

    async def make(self, order: AttemptOrder, stop: asyncio.Event, watching: Watching) -> AttemptEnded:
        """Make an attempt; raises nothing that comes of it. It ends early when `stop` is set."""
        began = self._now_ms()
        try:
            self._check(order)
            async with self._process(stop) as process:
                _go_on_unless(stop)
                began = self._now_ms()
                watching.started(began)
                return await self._made(order, process, stop, watching, began)
        except _Stopped:
            return self._end(order, began, "cancelled", message="it was to stop before its function was called")
        except _Failed as failed:
            return self._failed(order, began, failed)
        except PipelineNotLoaded as error:
            unloaded = _Failed(
                f"{error}. Start workers of the file that was deployed", "INFRASTRUCTURE", "pipeline_not_loaded"
            )
            return self._failed(order, began, unloaded)

    def _check(self, order: AttemptOrder) -> None:
        if order.location != self._location or order.asset_key not in self._assets:
            raise _Failed(
                f"this worker of {self._location} lacks the asset {order.asset_key} of {order.location}, manifest "
                f"{order.manifest_id}: deploy and start workers of the same file",
                "INFRASTRUCTURE",
                "asset_missing",
            )

    @asynccontextmanager
    async def _process(self, stop: asyncio.Event) -> AsyncIterator[AttemptProcess]:
        manager = self._pool.process()
        process = await _unless(stop, manager.__aenter__())
        try:
            yield process
        finally:
            # What the block raises is told as the attempt's end; the pool looks at the process alone.
            await manager.__aexit__(None, None, None)

    async def _made(
        self, order: AttemptOrder, process: AttemptProcess, stop: asyncio.Event, watching: Watching, began: int
    ) -> AttemptEnded:
        store = ScopedStore(self._store, Scope(order.tenant, order.workspace))
        inputs, bodies = await _unless(stop, self._inputs(store, order))
        job = Job(
            next(self._numbers),
            order.asset_key,
            order.partition_key,
            order.run_id,
            order.attempt,
            order.config,
            order.keeps_output,
            inputs,
        )
        prefix = f"{order.run_id} {order.task_key}#{order.attempt}: "
        end = await process.make(
            job,
            bodies,
            stop=stop,
            timeout_s=None if order.timeout_ms is None else order.timeout_ms / 1_000,
            grace_s=self._grace_s,
            told=watching.progress,
            printed=lambda line: log.info("%s%s", prefix, line),
        )
        made = end.made
        problem = _problem_of(order, end, self._grace_s)
        if problem is None and made is not None and made.form is not None:
            assert end.output is not None
            try:
                await store_output(store, order, Output(made.form, end.output))
            except StoreError as error:
                problem = _Failed(f"the output cannot be stored: {error}", "INFRASTRUCTURE", "store")
        if problem is not None:
            return self._failed(order, began, problem, made)
        if made is None or (made.interrupted and made.category is not None):
            return self._end(
                order,
                began,
                "cancelled",
                made,
                message="its function has stopped" if made is not None else "its process was ended",
                stack_trace=None if made is None else made.stack_trace,
            )
        if made.category is not None:
            return self._end(
                order,
                began,
                "failed",
                made,
                category=made.category,
                message=made.message,
                stack_trace=made.stack_trace,
                retryable=made.retryable,
                reason_code=made.reason_code,
            )
        return self._end(order, began, "succeeded", made)

    async def _inputs(self, store: ObjectStore, order: AttemptOrder) -> tuple[list[JobInput], list[bytes]]:
        inputs: list[JobInput] = []
        bodies: list[bytes] = []
        for one in order.inputs:
            if not one.many and len(one.outputs) != 1:
                raise _Failed(
                    f"the parameter {one.argument} takes one output, and the order has {len(one.outputs)}",
                    "INFRASTRUCTURE",
                    "input_missing",
                )
            try:
                found = [await read_output(store, taken) for taken in one.outputs]
            except (DamagedObject, StoreError) as error:
                raise _Failed(
                    f"the output for the parameter {one.argument} of {order.asset_key} cannot be had: {error}",
                    "INFRASTRUCTURE",
                    "input_missing",
                ) from error
            keys = [taken.partition_key for taken in one.outputs]
            inputs.append(JobInput(one.argument, one.many, keys, [output.form for output in found]))
            bodies += [output.data for output in found]
        return inputs, bodies

    def _failed(self, order: AttemptOrder, began: int, failed: _Failed, made: Made | None = None) -> AttemptEnded:
        return self._end(
            order,
            began,
            "failed",
            made,
            category=failed.category,
            message=str(failed),
            stack_trace=None if made is None else made.stack_trace,
            retryable=failed.retryable,
            reason_code=failed.reason_code,
        )

    def _end(
        self, order: AttemptOrder, began: int, outcome: TaskOutcome, made: Made | None = None, **fields: Any
    ) -> AttemptEnded:
        if outcome == "cancelled":
            fields = {"category": "CANCELLED", "reason_code": "cancelled", "retryable": False, **fields}
        if outcome != "succeeded":
            log.warning("%s %s#%d %s: %s", order.run_id, order.task_key, order.attempt, outcome, fields["message"])
        return AttemptEnded(
            outcome=outcome,
            worker_id=self._worker_id,
            started_at_ms=began,
            ended_at_ms=max(began, self._now_ms()),
            metadata={} if made is None else made.metadata,
            cpu_time_ms=None if made is None else made.cpu_time_ms,
            peak_memory_bytes=None if made is None else made.peak_memory_bytes,
            **fields,
        )


def _problem_of(order: AttemptOrder, end: JobEnd, grace_s: float) -> _Failed | None:
    """Return why an attempt has failed whose process has not told the reason, or was stopped for its time."""
    if end.stopped is StopReason.TIMEOUT and (end.made is None or end.made.interrupted):
        assert order.timeout_ms is not None
        killed = f", and did not end within {grace_s:g} s when it was told to" if end.killed else ""
        return _Failed(
            f"{order.asset_key} took longer than its timeout, {duration_text(order.timeout_ms)}{killed}",
            "TIMEOUT",
            "timeout",
        )
    if end.ended is None or end.stopped is not None:
        return None
    return _problem_of_crash(order, end.ended)


def _problem_of_crash(order: AttemptOrder, ended: ProcessEnded) -> _Failed:
    if ended.code == _SIGKILL:
        return _Failed(
            f"the process of {order.asset_key} {ended} from outside: mostly by the kernel, when memory runs out. Give "
            "the worker more memory, or let it run fewer attempts at once (--concurrency)",
            "INFRASTRUCTURE",
            "process_killed",
        )
    return _Failed(
        f"the process of {order.asset_key} {ended} while its function ran; what it printed is in the worker's log",
        "USER_CODE",
        "process_ended",
    )


def _go_on_unless(stop: asyncio.Event) -> None:
    if stop.is_set():
        raise _Stopped


async def _unless(stop: asyncio.Event, work: Awaitable[T]) -> T:
    """Wait for `work`, or raise `_Stopped` as soon as `stop` is set; then `work` is cancelled."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise _Stopped
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
