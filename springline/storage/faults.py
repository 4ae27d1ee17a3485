"""A wrapper that injects faults into a store: those of a network, a quota and a dying process.

Tests decide every operation by a hook; benchmarks set latency and quota. The wrapper also counts requests by
kind of operation and of path, counts sequential steps, and keeps a trace of all requests and answers.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from springline.paths import ObjectPath
from springline.storage.operations import (
    WRITES,
    Decision,
    Hook,
    Operation,
    OperationKind,
    Outcome,
    Traced,
    on,
    path_kind,
    plan,
)
from springline.storage.port import (
    ObjectInfo,
    ObjectStore,
    Precondition,
    PutResult,
    Stored,
    StoredObject,
    StoreRetry,
    StoreUnknown,
)

__all__ = [
    "ActorStore",
    "Decision",
    "FaultyStore",
    "Hook",
    "LateOperation",
    "Operation",
    "OperationKind",
    "Outcome",
    "ProcessDied",
    "Quota",
    "Traced",
    "on",
    "path_kind",
    "plan",
]

R = TypeVar("R")


class ProcessDied(BaseException):
    """The process that made the call died. Not an `Exception`: code under test must not be able to handle it."""


@dataclass(slots=True)
class Quota:
    """The limit of writes to one object name: GCS takes about one per second and answers 429 above it.

    `per_second` writes at even distance; `clock` returns monotonic seconds. A write that is throttled, or refused by
    its precondition, does not count.
    """

    per_second: float = 1.0
    clock: Callable[[], float] = time.monotonic


class LateOperation:
    """A write in flight whose caller no longer waits for the answer."""

    def __init__(self, operation: Operation, act: Callable[[], Awaitable[object]]) -> None:
        self.operation = operation
        self._act: Callable[[], Awaitable[object]] | None = act

    async def deliver(self) -> None:
        """Let the write arrive now; a second delivery does nothing."""
        act, self._act = self._act, None
        if act is not None:
            await act()


class FaultyStore(ObjectStore):
    """`inner` behind faults, latency and a quota. Without any of them it behaves exactly like `inner`.

    `hook` decides every operation. `latency` is the duration of a call in seconds, or a function of the
    operation; calls overlap. With `quota`, writes to one name are limited. `kind_of_path` names the groups of
    `requests`. `keep_trace` = False drops the trace, for benchmarks, because the trace keeps every payload.

    Calls made on the store itself are those of the actor `main`; `actor(name)` is the same store used by
    another process. An actor that died stays dead: every further call of it raises `ProcessDied` and is not
    counted, and its calls under way do not happen.
    """

    def __init__(
        self,
        inner: ObjectStore,
        *,
        hook: Hook | None = None,
        latency: float | Callable[[Operation], float] = 0.0,
        quota: Quota | None = None,
        kind_of_path: Callable[[ObjectPath], str] = path_kind,
        keep_trace: bool = True,
    ) -> None:
        self.inner = inner
        self.hook = hook
        self.latency = latency
        self.quota = quota
        self.requests: Counter[tuple[OperationKind, str]] = Counter()
        """Calls by kind of operation and of path."""
        self.steps: Counter[str] = Counter()
        """Sequential steps by actor: a call that starts while the actor has none in flight begins a step. Set a
        latency above zero so that calls made together certainly overlap."""
        self.trace: list[Traced] = []
        self.late: list[LateOperation] = []
        """Writes in flight without a caller, in the order in which they were sent."""
        self.dead: set[str] = set()
        self._kind_of_path = kind_of_path
        self._keep_trace = keep_trace
        self._calls: Counter[str] = Counter()
        self._index = 0
        self._in_flight: Counter[str] = Counter()
        self._last_write: dict[ObjectPath, float] = {}
        self._main = ActorStore(self, "main")

    def actor(self, name: str) -> ActorStore:
        """Return this store as used by the process `name`."""
        return ActorStore(self, name)

    def count(self, kind: OperationKind | None = None, path_group: str | None = None) -> int:
        """Return how many calls were made, of one kind and one group of paths if given."""
        return sum(
            number
            for (one_kind, group), number in self.requests.items()
            if kind in (None, one_kind) and path_group in (None, group)
        )

    def forget(self) -> None:
        """Reset all counts and the trace; faults, deaths and late writes stay."""
        self.requests.clear()
        self.steps.clear()
        self.trace.clear()

    async def deliver_late(self) -> None:
        """Let every late write arrive, in the order in which they were sent."""
        while self.late:
            await self.late.pop(0).deliver()

    @property
    def url(self) -> str | None:
        """The URL of the store behind."""
        return self.inner.url

    async def linked_elsewhere(self, folder: ObjectPath) -> str | None:
        """Ask the store behind; nothing is injected."""
        return await self.inner.linked_elsewhere(folder)

    async def get(self, path: ObjectPath) -> StoredObject | None:
        """Return the object, or None."""
        return await self._main.get(path)

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        """Write if the precondition holds."""
        return await self._main.put(path, data, precondition)

    async def head(self, path: ObjectPath) -> ObjectInfo | None:
        """Return size and token, or None."""
        return await self._main.head(path)

    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        """Delete the object if its token is `if_version`."""
        return await self._main.delete(path, if_version=if_version)

    async def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below `prefix`; the whole listing is one operation."""
        async for info in self._main.list(prefix, start_after=start_after):
            yield info

    async def aclose(self) -> None:
        """Close the wrapped store."""
        await self.inner.aclose()

    async def run(
        self,
        actor: str,
        kind: OperationKind,
        path: ObjectPath,
        act: Callable[[], Awaitable[R]],
        told: Callable[[R], Outcome],
        *,
        precondition: Precondition | None = None,
        data: bytes | None = None,
        if_version: str | None = None,
    ) -> R:
        """Make one call of `actor`: `act` performs it on the wrapped store, `told` names its answer."""
        if actor in self.dead:
            raise ProcessDied(actor)
        operation = Operation(self._index, kind, path, actor, self._calls[actor], precondition, data, if_version)
        self._index += 1
        self._calls[actor] += 1
        self.requests[kind, self._kind_of_path(path)] += 1
        if self._in_flight[actor] == 0:
            self.steps[actor] += 1
        self._in_flight[actor] += 1
        try:
            decision = Decision.PROCEED if self.hook is None else await self.hook(operation)
            await asyncio.sleep(self.latency if isinstance(self.latency, float | int) else self.latency(operation))
            return await self._decided(operation, decision, act, told)
        finally:
            self._in_flight[actor] -= 1

    async def _decided(
        self,
        operation: Operation,
        decision: Decision,
        act: Callable[[], Awaitable[R]],
        told: Callable[[R], Outcome],
    ) -> R:
        if operation.actor in self.dead or decision is Decision.DIE_BEFORE:
            raise self._died(operation, happened=False)
        if decision is Decision.FAIL_BEFORE:
            self._note(operation, Outcome.RETRY, happened=False)
            raise StoreRetry(f"injected before {operation.kind} {operation.path}")
        if decision in (Decision.LATE, Decision.DIE_LATE) and operation.kind in WRITES:
            self.late.append(LateOperation(operation, act))
        if decision is Decision.DIE_LATE:
            raise self._died(operation, happened=False)
        if decision in (Decision.LATE, Decision.LOSE):
            raise self._unclear(operation, happened=False)
        result = await self._perform(operation, act, told)
        if decision is Decision.DIE_AFTER:
            raise self._died(operation, happened=True)
        if decision is Decision.FAIL_AFTER:
            raise self._unclear(operation, happened=True)
        self._note(operation, told(result), happened=True)
        return result

    async def _perform(self, operation: Operation, act: Callable[[], Awaitable[R]], told: Callable[[R], Outcome]) -> R:
        limited = self.quota is not None and operation.kind in WRITES
        before = self._take_turn(operation) if limited else None
        try:
            result = await act()
        except Exception:
            self._note(operation, Outcome.ERROR, happened=True)
            raise
        if limited and told(result) not in (Outcome.STORED, Outcome.DELETED):
            self._give_back_turn(operation.path, before)
        return result

    def _take_turn(self, operation: Operation) -> float | None:
        """Claim the name's next write slot, before the first await; return the time of the previous write."""
        assert self.quota is not None
        now, last = self.quota.clock(), self._last_write.get(operation.path)
        if last is not None and (now - last) * self.quota.per_second < 1.0:
            self._note(operation, Outcome.THROTTLED, happened=False)
            raise StoreRetry(f"quota: {operation.path} takes {self.quota.per_second:g} writes per second")
        self._last_write[operation.path] = now
        return last

    def _give_back_turn(self, path: ObjectPath, before: float | None) -> None:
        if before is None:
            self._last_write.pop(path, None)
        else:
            self._last_write[path] = before

    def _died(self, operation: Operation, *, happened: bool) -> ProcessDied:
        self.dead.add(operation.actor)
        self._note(operation, Outcome.DIED, happened=happened)
        return ProcessDied(operation.actor)

    def _unclear(self, operation: Operation, *, happened: bool) -> StoreUnknown | StoreRetry:
        """Return the error for a lost answer: a failed read can always be repeated."""
        text = f"injected: no answer to {operation.kind} {operation.path}"
        if operation.kind in WRITES:
            self._note(operation, Outcome.UNKNOWN, happened=happened)
            return StoreUnknown(text)
        self._note(operation, Outcome.RETRY, happened=happened)
        return StoreRetry(text)

    def _note(self, operation: Operation, outcome: Outcome, *, happened: bool) -> None:
        if self._keep_trace:
            self.trace.append(Traced(operation, outcome, happened))


class ActorStore(ObjectStore):
    """A `FaultyStore` as used by one process. Closing it leaves the store open, because others use it, too."""

    def __init__(self, store: FaultyStore, name: str) -> None:
        self._store = store
        self.name = name

    @property
    def url(self) -> str | None:
        """The URL of the store behind."""
        return self._store.inner.url

    async def linked_elsewhere(self, folder: ObjectPath) -> str | None:
        """Ask the store behind; nothing is injected."""
        return await self._store.inner.linked_elsewhere(folder)

    async def get(self, path: ObjectPath) -> StoredObject | None:
        """Return the object, or None."""
        inner = self._store.inner
        return await self._store.run(self.name, OperationKind.GET, path, lambda: inner.get(path), _told_read)

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        """Write if the precondition holds."""
        inner = self._store.inner
        return await self._store.run(
            self.name,
            OperationKind.PUT,
            path,
            lambda: inner.put(path, data, precondition),
            _told_put,
            precondition=precondition,
            data=data,
        )

    async def head(self, path: ObjectPath) -> ObjectInfo | None:
        """Return size and token, or None."""
        inner = self._store.inner
        return await self._store.run(self.name, OperationKind.HEAD, path, lambda: inner.head(path), _told_read)

    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        """Delete the object if its token is `if_version`."""
        inner = self._store.inner
        return await self._store.run(
            self.name,
            OperationKind.DELETE,
            path,
            lambda: inner.delete(path, if_version=if_version),
            _told_delete,
            if_version=if_version,
        )

    async def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below `prefix`; the whole listing is one operation."""
        inner = self._store.inner

        async def collect() -> tuple[ObjectInfo, ...]:
            return tuple([info async for info in inner.list(prefix, start_after=start_after)])

        for info in await self._store.run(self.name, OperationKind.LIST, prefix, collect, lambda _: Outcome.LISTED):
            yield info


def _told_read(result: object) -> Outcome:
    return Outcome.ABSENT if result is None else Outcome.FOUND


def _told_put(result: PutResult) -> Outcome:
    return Outcome.STORED if isinstance(result, Stored) else Outcome.PRECONDITION_FAILED


def _told_delete(deleted: bool) -> Outcome:
    return Outcome.DELETED if deleted else Outcome.NOT_DELETED
