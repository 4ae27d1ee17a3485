"""From an order to the end of its attempt: inputs from the store, a process for the function, its output kept.

What the function writes to tables counts once (docs/protocol.md#write-sets): an attempt reads the seal of its task
before anything else, and seals its own writes before any of them is committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeVar

from springline.control.runs.messages import AttemptEnded, AttemptOrder, FoundByCheck, TakenOutput, WrittenVersion
from springline.definitions.durations import duration_text
from springline.definitions.sizes import rough_size_text, size_text
from springline.ledger.nested import ErrorCategory, TaskOutcome
from springline.paths import Scope
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore, StoreError
from springline.storage.scoped import ScopedStore
from springline.work.frames import Job, JobInput, Made
from springline.work.log_keeper import LogKeeper
from springline.work.memory import MemoryOverrun
from springline.work.outputs import Output, read_output, store_output
from springline.work.pool import PipelineNotLoaded, ProcessPool
from springline.work.process import AttemptProcess, JobEnd, ProcessEnded, StopReason, Told, WritesSettled
from springline.work.seals import Seal, read_seal, seal, seal_of

T = TypeVar("T")

log = logging.getLogger("springline.attempt")

_SIGKILL = -9
_MOST_SETTLING = 3
"""Processes that one attempt has commit what is sealed, if they end before they have done it."""


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
class _Sealed:
    """An attempt whose function has returned, and whose task is sealed: by `seal`, its own or another one's.

    `settled`: what its process has made of the commits, None if the process has ended meanwhile.
    """

    made: Made
    seal: Seal
    settled: WritesSettled | None


@dataclass(frozen=True, slots=True)
class Watching:
    """What whoever asked for an attempt hears of it: its start in ms since 1970, and its progress."""

    started: Callable[[int], None]
    progress: Told


class AttemptMaker:
    """Makes the attempts of one code location.

    `store` is the whole one; `now_ms` reads the clock; `grace_s` is how long a function may take to end when it is told
    to stop; `location` and `assets` say what the pipeline declares, as `pool` has loaded it. `memory_bytes` is how much
    memory an attempt may use whose asset does not say it, None for any.
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
        memory_bytes: int | None = None,
    ) -> None:
        self._pool = pool
        self._store = store
        self._location = location
        self._assets = assets
        self._worker_id = worker_id
        self._grace_s = grace_s
        self._now_ms = now_ms
        self._memory_bytes = memory_bytes
        self._numbers = count(1)
        self._logs: dict[str, LogKeeper] = {}
        """Of the attempts under way."""

    @property
    def grace_s(self) -> float:
        """How long a function may take to end when it is told to stop."""
        return self._grace_s

    async def make(self, order: AttemptOrder, stop: asyncio.Event, watching: Watching) -> AttemptEnded:
        """Make an attempt; raises nothing that comes of it. It ends early when `stop` is set."""
        began = self._now_ms()
        # Runs that began under older builds may not say so: it is the run then.
        order = order if order.scope else order.model_copy(update={"scope": order.run_id})
        store = ScopedStore(self._store, Scope(order.tenant, order.workspace))
        kept = self._logs[order.attempt_id] = LogKeeper(store, order, self._worker_id, self._now_ms)
        try:
            ended = await self._ended(order, store, stop, watching, began)
            for line in (ended.stack_trace or ended.message or "").splitlines():
                kept.line(line)
        finally:
            self._logs.pop(order.attempt_id, None)
            await kept.aclose()
        return ended.model_copy(update={"log_chunks": kept.chunks})

    async def _ended(
        self, order: AttemptOrder, store: ObjectStore, stop: asyncio.Event, watching: Watching, began: int
    ) -> AttemptEnded:
        try:
            self._check(order)
            found = await self._seal(order, read_seal(store, order.scope, order.task_key))
            if found is not None:
                # Even if it is to stop: what is sealed is to be committed, whoever has sealed it.
                watching.started(began)
                return await self._finished(order, store, began, found)
            async with self._process(order, stop) as process:
                _go_on_unless(stop)
                began = self._now_ms()
                watching.started(began)
                made = await self._made(order, store, process, stop, watching, began)
            if isinstance(made, AttemptEnded):
                return made
            return await self._finished(order, store, began, made.seal, made)
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
    async def _process(self, order: AttemptOrder, stop: asyncio.Event) -> AsyncIterator[AttemptProcess]:
        manager = self._pool.process(self._memory_of(order))
        process = await _unless(stop, manager.__aenter__())
        try:
            yield process
        finally:
            # What the block raises is told as the attempt's end; the pool looks at the process alone.
            await manager.__aexit__(None, None, None)

    def _memory_of(self, order: AttemptOrder) -> int | None:
        return self._memory_bytes if order.memory_bytes is None else order.memory_bytes

    async def _made(
        self,
        order: AttemptOrder,
        store: ObjectStore,
        process: AttemptProcess,
        stop: asyncio.Event,
        watching: Watching,
        began: int,
    ) -> AttemptEnded | _Sealed:
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
            order.scope,
            order.task_key,
        )
        end = await process.make(
            job,
            bodies,
            stop=stop,
            timeout_s=None if order.timeout_ms is None else order.timeout_ms / 1_000,
            grace_s=self._grace_s,
            told=watching.progress,
            printed=self._printed(order),
            memory_bytes=self._memory_of(order),
        )
        made = end.made
        problem = _problem_of(order, end, self._grace_s)
        returned = problem is None and made is not None and made.category is None
        if returned and made is not None and made.form is not None:
            assert end.output is not None
            # Which attempt's output counts is decided with its writes: until then it has another name.
            kept = order if not made.writes else _before_seal(order)
            try:
                await store_output(store, kept, Output(made.form, end.output))
            except StoreError as error:
                problem = _Failed(f"the output cannot be stored: {error}", "INFRASTRUCTURE", "store")
        if problem is None and returned and made is not None and made.writes:
            return await self._sealing(order, store, process, made)
        if problem is not None:
            if made is None and end.overrun is not None:
                made = Made(job.number, peak_memory_bytes=end.overrun.used_bytes)
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

    async def _sealing(self, order: AttemptOrder, store: ObjectStore, process: AttemptProcess, made: Made) -> _Sealed:
        """Seal what a function has staged, and commit what counts."""
        wanted = seal_of(
            order,
            made.writes,
            worker_id=self._worker_id,
            sealed_at_ms=self._now_ms(),
            output=made.form is not None,
            metadata=made.metadata,
            checks=made.checks,
        )
        counts = await self._seal(order, seal(store, wanted))
        assert counts is not None
        ours = counts.attempt_id == wanted.attempt_id
        if not ours:
            log.info("%s %s is sealed by attempt %d already", order.run_id, order.task_key, counts.attempt)
        return _Sealed(made, counts, await self._settled(order, process, counts, ours=ours))

    async def _seal(self, order: AttemptOrder, work: Awaitable[Seal | None]) -> Seal | None:
        try:
            return await work
        except DamagedObject as error:
            raise _Failed(str(error), "CONFIGURATION", "seal_damaged", retryable=False) from error
        except StoreError as error:
            told = f"whether the writes of {order.task_key} are sealed cannot be known: {error}"
            raise _Failed(told, "INFRASTRUCTURE", "store") from error

    async def _settled(
        self, order: AttemptOrder, process: AttemptProcess, found: Seal, *, ours: bool
    ) -> WritesSettled | None:
        """Have a process commit what is sealed; None if it has ended before it was done."""
        writes = [one.model_dump() for one in found.writes]
        settled = await process.settle(writes, ours=ours, printed=self._printed(order))
        if isinstance(settled, WritesSettled):
            return settled
        log.warning("%s %s: the process %s while it committed", order.run_id, order.task_key, settled)
        return None

    async def _finished(
        self, order: AttemptOrder, store: ObjectStore, began: int, found: Seal, own: _Sealed | None = None
    ) -> AttemptEnded:
        """Commit what a task has sealed, to the end, and succeed with what the attempt told that has sealed it."""
        settled = None if own is None else own.settled
        for _ in range(_MOST_SETTLING):
            if settled is not None:
                break
            async with self._pool.process() as process:
                settled = await self._settled(order, process, found, ours=False)
        checks = [one.model_dump() for one in found.checks]
        made = replace(Made(0) if own is None else own.made, metadata=found.metadata, checks=checks)
        if settled is None:
            problem = _Failed(
                f"the writes of {order.task_key} are sealed, and the processes ended that were to commit them: mostly "
                "memory runs out. Give the worker more of it; the next attempt goes on",
                "INFRASTRUCTURE",
                "write_waits",
            )
            return self._failed(order, began, problem, made)
        if settled.error is not None:
            return self._failed(order, began, _unsettled(settled.error), made)
        if order.keeps_output:
            await self._take_output(order, store, found)
        tables = [
            WrittenVersion(
                table=one.table,
                version=done["version"],
                idempotency_key=one.key,
                operation=one.operation,
                rows=done["rows"],
            )
            for one, done in zip(found.writes, settled.done, strict=True)
        ]
        return self._end(order, began, "succeeded", made, tables=tables)

    async def _take_output(self, order: AttemptOrder, store: ObjectStore, found: Seal) -> None:
        """Keep the output of the attempt that counts as that of this one."""
        if not found.output:
            raise _Failed(
                f"other tasks take the output of {order.task_key}, and the attempt that has sealed its writes has left "
                f"none: `springline run rerun {order.run_id} --task '{order.task_key}'` calls the function again",
                "CONFIGURATION",
                "output_missing",
                retryable=False,
            )
        before = TakenOutput(task_key=order.task_key, attempt_id=_name_before(found.attempt_id), scope=order.scope)
        try:
            await store_output(store, order, await read_output(store, before))
        except DamagedObject as error:
            raise _Failed(str(error), "CONFIGURATION", "output_missing", retryable=False) from error
        except StoreError as error:
            raise _Failed(f"the output cannot be stored: {error}", "INFRASTRUCTURE", "store") from error

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
                told = f"the output for the parameter {one.argument} of {order.asset_key} cannot be had: {error}"
                if isinstance(error, DamagedObject):
                    # No further attempt finds another one.
                    raise _Failed(told, "CONFIGURATION", "input_missing", retryable=False) from error
                raise _Failed(told, "INFRASTRUCTURE", "input_missing") from error
            keys = [taken.partition_key for taken in one.outputs]
            inputs.append(JobInput(one.argument, one.many, keys, [output.form for output in found]))
            bodies += [output.data for output in found]
        return inputs, bodies

    def _printed(self, order: AttemptOrder) -> Callable[[str], None]:
        prefix = f"{order.run_id} {order.task_key}#{order.attempt}: "
        kept = self._logs.get(order.attempt_id)

        def printed(line: str) -> None:
            log.info("%s%s", prefix, line)
            if kept is not None:
                kept.line(line)

        return printed

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
        at_once = [] if made is None else [WrittenVersion(**one) for one in made.at_once]
        fields["tables"] = [*at_once, *fields.get("tables", [])]
        return AttemptEnded(
            outcome=outcome,
            worker_id=self._worker_id,
            started_at_ms=began,
            ended_at_ms=max(began, self._now_ms()),
            metadata={} if made is None else made.metadata,
            checks=[] if made is None else [FoundByCheck(**one) for one in made.checks],
            cpu_time_ms=None if made is None else made.cpu_time_ms,
            peak_memory_bytes=None if made is None else made.peak_memory_bytes,
            **fields,
        )


def _name_before(attempt_id: str) -> str:
    """Return the name under which an attempt's output lies until its task is sealed."""
    return f"{attempt_id}-sealed"


def _before_seal(order: AttemptOrder) -> AttemptOrder:
    return order.model_copy(update={"attempt_id": _name_before(order.attempt_id)})


def _unsettled(error: dict[str, Any]) -> _Failed:
    """Return why a task fails whose writes are sealed, and not all committed."""
    if error["again"]:
        told = f"{error['message']}. It is sealed, and the next attempt goes on with it"
        return _Failed(told, "INFRASTRUCTURE", error["reason_code"])
    told = (
        f"{error['message']} It is sealed: when the table allows it, a rerun of what failed goes on with it; a rerun "
        "that names the task calls its function again"
    )
    return _Failed(told, "CONFIGURATION", error["reason_code"], retryable=False)


def _problem_of(order: AttemptOrder, end: JobEnd, grace_s: float) -> _Failed | None:
    """Return why an attempt has failed whose process has not told the reason, or was stopped for its time."""
    if end.stopped is StopReason.TIMEOUT and (end.made is None or end.made.interrupted):
        assert order.timeout_ms is not None
        killed = (
            f", and did not end within {grace_s:g} s when it was told to" if end.killed and end.overrun is None else ""
        )
        return _Failed(
            f"{order.asset_key} took longer than its timeout, {duration_text(order.timeout_ms)}{killed}",
            "TIMEOUT",
            "timeout",
        )
    if end.stopped is StopReason.MEMORY and (end.made is None or end.made.interrupted):
        assert end.overrun is not None
        return _problem_of_memory(order, end.overrun)
    if end.ended is None or end.stopped is not None:
        return None
    return _problem_of_crash(order, end.ended)


def _problem_of_memory(order: AttemptOrder, beyond: MemoryOverrun) -> _Failed:
    others = beyond.processes - 1
    those = "" if not others else f" with the process{'' if others == 1 else 'es'} that it has started"
    if order.memory_bytes is None:
        whose, remedy = (
            "the limit of its worker",
            "give it a memory=... of its own, or raise the worker's --memory-limit",
        )
    else:
        whose, remedy = "its limit", "raise its memory=..."
    return _Failed(
        f"{order.asset_key} used {rough_size_text(beyond.used_bytes)} of memory{those}, more than {whose}, "
        f"{size_text(beyond.limit_bytes)}, and its process was ended; {rough_size_text(beyond.before_bytes)} were used "
        f"before its function was called. Let it work on less at once, or {remedy}",
        "USER_CODE",
        "memory_limit",
    )


def _problem_of_crash(order: AttemptOrder, ended: ProcessEnded) -> _Failed:
    if ended.code == _SIGKILL:
        return _Failed(
            f"the process of {order.asset_key} {ended} from outside: mostly by the kernel, when memory runs out. Give "
            "the worker more memory, or let it run fewer attempts at once (--concurrency)",
            "INFRASTRUCTURE",
            "process_killed",
        )
    return _Failed(
        f"the process of {order.asset_key} {ended} while its function ran; what it printed last is in "
        f"`springline run logs {order.run_id}`",
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
