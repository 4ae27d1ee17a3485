"""A world in memory for write sets: attempts of one task over one store, which die and wait at every step.

The real `AttemptMaker` makes them, with the real seals. Only the process and the tables are models: a process stages
and commits what a program says, and a table keeps one commit for each key.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from springline.client.staging import TaskOfWrites, write_key
from springline.control.runs.messages import AttemptEnded, AttemptOrder
from springline.paths import ObjectPath
from springline.storage.memory import MemoryStore
from springline.storage.port import Precondition, PutResult, StoredObject
from springline.work.attempts import AttemptMaker, Watching
from springline.work.frames import Job, Made, ValueForm
from springline.work.process import JobEnd, ProcessEnded, WritesSettled
from tests.support.local_api import ACME
from tests.work.conftest import order

Json = dict[str, Any]
Rows = list[Any]


@dataclass(frozen=True)
class Step:
    """One write of a program: what it does with which rows of a table."""

    operation: str
    table: str
    rows: tuple[Any, ...] = ()


def applied(rows: Rows, operation: str, given: Sequence[Any]) -> Rows:
    """Return a table's rows after an operation; a merge inserts what is not there, by the first letter."""
    if operation == "append":
        return [*rows, *given]
    if operation == "overwrite":
        return list(given)
    if operation == "delete":
        return [row for row in rows if row not in given]
    known = {row[0] for row in given}
    return [*(row for row in rows if row[0] not in known), *given]


class Died(BaseException):
    """A worker was killed."""


@dataclass
class ModelTable:
    """A table: its rows, and of each key its version and what it stands for."""

    rows: Rows = field(default_factory=list)
    keys: dict[str, tuple[int, str]] = field(default_factory=dict)


@dataclass
class Attempt:
    """An attempt under way. `at`: what happens at which of its steps; `steps`: those that it has gone through."""

    number: int
    at: dict[int, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    function_began: bool = False

    async def step(self, name: str) -> str | None:
        """Go through a step: die, wait until the others are done, or learn that the process is to end."""
        self.steps.append(name)
        action = self.at.get(len(self.steps) - 1)
        if action == "die":
            raise Died(name)
        if action == "cancel":
            self.stop.set()
        if action == "wait":
            self.waits.set()
            await self.goes_on.wait()
        return action


class SteppedStore(MemoryStore):
    """A store of one worker over shared objects; each request has a step before and behind it."""

    def __init__(self, shared: MemoryStore, attempt: Attempt) -> None:
        super().__init__()
        self._shared = shared
        self._attempt = attempt

    async def get(self, path: ObjectPath) -> StoredObject | None:
        await self._attempt.step(f"before get {_kind(path)}")
        return await self._shared.get(path)

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        await self._attempt.step(f"before put {_kind(path)}")
        done = await self._shared.put(path, data, precondition)
        await self._attempt.step(f"behind put {_kind(path)}")
        return done


def _kind(path: ObjectPath) -> str:
    return "seal" if "/effects/" in path else "output"


@dataclass
class World:
    """What survives: objects, tables, and what was staged, by its hash. `programs`: by number of the attempt."""

    programs: Callable[[int], Sequence[Step]]
    process: Callable[[World, Attempt], Any] = field(default_factory=lambda: ModelProcess)
    store: MemoryStore = field(default_factory=MemoryStore)
    tables: dict[str, ModelTable] = field(default_factory=dict)
    staged: dict[str, Step] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    told: list[AttemptEnded] = field(default_factory=list)
    run_id: str = "run_1"
    """The run under which the task is sealed."""
    sealed_before: list[int] = field(default_factory=list)
    """Attempts whose function began although the task was sealed when they began."""

    def is_sealed(self) -> bool:
        return any("/effects/" in path for path in self.store.objects)

    async def run(
        self, attempt: Attempt, *, run_id: str | None = None, keeps_output: bool = False
    ) -> AttemptEnded | None:
        """Make an attempt; None if its worker dies."""
        sealed = self.is_sealed()
        maker = AttemptMaker(
            ModelPool(self, attempt),  # type: ignore[arg-type]
            SteppedStore(self.store, attempt),
            location="flow",
            assets={"t"},
            worker_id=f"w{attempt.number}",
            grace_s=1,
            now_ms=lambda: 1_000,
        )
        wanted: AttemptOrder = order(
            "t",
            attempt=attempt.number,
            run_id=run_id or self.run_id,
            scope=self.run_id,
            tenant=ACME.tenant,
            workspace=ACME.workspace,
            keeps_output=keeps_output,
        )
        try:
            ended = await maker.make(wanted, attempt.stop, Watching(lambda _: None, lambda *_: None))
            await attempt.step("report")
        except Died:
            return None
        if sealed and attempt.function_began:
            self.sealed_before.append(attempt.number)
        self.told.append(ended)
        return ended

    def rows(self) -> dict[str, Rows]:
        return {name: table.rows for name, table in sorted(self.tables.items()) if table.rows}

    def expected(self, number: int) -> dict[str, Rows]:
        """Return the rows that are there if exactly this attempt's writes count."""
        tables: dict[str, Rows] = {}
        for one in self.programs(number):
            tables[one.table] = applied(tables.get(one.table, []), one.operation, one.rows)
        return {name: rows for name, rows in sorted(tables.items()) if rows}

    def sealed_by(self) -> int | None:
        """Return the number of the attempt that has sealed the task, None if none has."""
        found = [stored.data for path, stored in self.store.objects.items() if "/effects/" in path]
        assert len(found) <= 1
        return int(json.loads(found[0])["attempt"]) if found else None


def key_of(task: TaskOfWrites, table: str, number: int, _job: Job) -> str:
    """Return the key of the `number`-th write of a table, as the library for tables makes it."""
    return write_key(task, table, number)


class ModelPool:
    """A pool whose processes are models."""

    def __init__(self, world: World, attempt: Attempt) -> None:
        self._world = world
        self._attempt = attempt

    @asynccontextmanager
    async def process(self, _memory_bytes: int | None = None) -> AsyncIterator[Any]:
        yield self._world.process(self._world, self._attempt)


class ModelProcess:
    """A process that stages and commits as the real one does, in the same order."""

    def __init__(self, world: World, attempt: Attempt) -> None:
        self._world = world
        self._attempt = attempt
        self._mine: list[str] = []

    async def make(self, job: Job, _bodies: Sequence[bytes], **_: Any) -> JobEnd:
        self._attempt.function_began = True
        writes: list[Json] = []
        task = TaskOfWrites(job.scope, job.task_key)
        of_table: Counter[str] = Counter()
        for number, one in enumerate(self._world.programs(job.attempt), 1):
            if await self._attempt.step(f"before stage {number}") == "end process":
                return JobEnd(None, ended=ProcessEnded(-9))
            content = json.dumps([one.operation, one.table, one.rows, job.attempt]).encode()
            digest = hashlib.sha256(content).hexdigest()
            self._world.staged[digest] = one
            self._mine.append(digest)
            of_table[one.table] += 1
            writes.append(
                {
                    "number": number,
                    "table": one.table,
                    "operation": one.operation,
                    "key": key_of(task, one.table, of_table[one.table], job),
                    "staged": f"effects/x/{digest}",
                    "sha256": digest,
                    "rows": len(one.rows),
                }
            )
        if await self._attempt.step("function has returned") == "end process":
            return JobEnd(None, ended=ProcessEnded(-9))
        form = ValueForm("json") if job.keeps_output else None
        made = Made(job.number, metadata={"attempt": job.attempt}, writes=writes, form=form)
        return JobEnd(made, str(job.attempt).encode() if form is not None else None)

    async def settle(self, writes: Sequence[Json], *, ours: bool, printed: Any) -> WritesSettled | ProcessEnded:
        done: list[Json] = []
        for one in writes:
            if await self._attempt.step(f"before commit {one['number']}") == "end process":
                return ProcessEnded(-9)
            if one["table"] in self._world.refuses:
                self._discard(ours=ours)
                return WritesSettled(done, {"again": False, "reason_code": "write_refused", "message": "no."})
            table = self._world.tables.setdefault(one["table"], ModelTable())
            if one["key"] not in table.keys:
                step = self._world.staged[one["sha256"]]
                table.rows = applied(table.rows, step.operation, step.rows)
                table.keys[one["key"]] = (len(table.keys) + 1, one["sha256"])
            version, content = table.keys[one["key"]]
            if content != one["sha256"]:
                self._discard(ours=ours)
                return WritesSettled(done, {"again": False, "reason_code": "write_refused", "message": "other rows."})
            done.append({"version": version, "rows": one["rows"]})
        self._discard(ours=ours)
        if await self._attempt.step("behind commits") == "end process":
            return ProcessEnded(-9)
        return WritesSettled(done, None)

    def _discard(self, *, ours: bool) -> None:
        if not ours:
            for digest in self._mine:
                self._world.staged.pop(digest, None)
