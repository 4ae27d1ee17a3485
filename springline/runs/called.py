"""Callbacks of workers over HTTP: read where their task stands, judge, append, and tell whether that was taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import uuid_utils

from springline.control.runs.callbacks import CalledTask, Caller, Judged, overtaken, taken_by_another
from springline.control.runs.standing import node_of
from springline.deployed.reading import ManifestReader
from springline.errors import Refused
from springline.ledger.envelope import MalformedEvent, as_event, parse_event
from springline.ledger.events import TaskHeartbeat, TaskStarted
from springline.ledger.request import AppendedEvent, AppendMode, AppendRequest, EventOutcome, NewEvent
from springline.paths import Scope, canonical_ulid_event
from springline.projection.rows import AttemptRow, RunRow, TaskRow
from springline.published.reader import PublishedReader
from springline.runs.launching import RunLedger
from springline.runs.loading import is_of_a_manifest
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

Judge = Callable[[CalledTask], Judged]
_TABLES: Final = ("runs", "tasks", "x_attempts")
_TRIES: Final = 3
"""How often a callback is judged while the state moves below it."""


@dataclass(frozen=True, slots=True)
class CalledBack:
    """What became of a callback. `replayed`: it repeats one that was taken before."""

    replayed: bool
    should_cancel: bool = False


class Callbacks:
    """Callbacks of one workspace. `store` is its part of the store."""

    def __init__(
        self, scope: Scope, store: ScopedStore, published: PublishedReader, manifests: ManifestReader, ledger: RunLedger
    ) -> None:
        self._scope = scope
        self._store: ObjectStore = store
        self._published = published
        self._manifests = manifests
        self._ledger = ledger

    async def take(self, caller: Caller, judge: Judge) -> CalledBack:
        """Record what a worker says of its attempt, once however often it says so; raises `Refused`.

        `judge` says by which events, over the rows as they are now.
        """
        message = ""
        called = CalledTask(None)
        for _ in range(_TRIES):
            called = await self._called(caller)
            judged = judge(called)
            if judged.is_repeat:
                return CalledBack(replayed=True, should_cancel=judged.should_cancel)
            request = AppendRequest(
                request_id=str(uuid_utils.uuid7()),
                mode=AppendMode.EACH,
                events=[NewEvent(data=as_event(event)) for event in judged.events],
            )
            outcome = await self._ledger.append(self._scope, request)
            if outcome.refusal is not None:
                raise Refused(outcome.refusal)
            # The start that an end brings along may be recorded already: what comes behind it decides.
            place = 1 if len(judged.events) > 1 and isinstance(judged.events[0], TaskStarted) else 0
            event, result = judged.events[place], outcome.results[place]
            if not isinstance(result, AppendedEvent):
                message = result.message
                continue
            if result.outcome is not EventOutcome.DUPLICATE:
                return CalledBack(replayed=False, should_cancel=judged.should_cancel)
            if isinstance(event, TaskStarted) and not await self._is_own(result.event_id, caller):
                raise taken_by_another(caller, called.task)
            if isinstance(event, TaskStarted | TaskHeartbeat):
                return CalledBack(replayed=True, should_cancel=judged.should_cancel)
            message = "an end of this attempt is recorded"
        raise overtaken(caller, called.task, message)

    async def _is_own(self, event_id: str, caller: Caller) -> bool:
        """Say whether the start that was recorded first is the caller's, or cannot be read any more."""
        stored = await self._store.get(canonical_ulid_event(event_id))
        if stored is None:
            return True
        try:
            event = parse_event(stored.data)
        except MalformedEvent:
            return True
        return not isinstance(event.data, TaskStarted) or event.data.worker_id == caller.worker_id

    async def _called(self, caller: Caller) -> CalledTask:
        """Read where the task of a callback stands."""
        snapshot = await self._published.snapshot(self._scope, _TABLES)

        def read() -> tuple[RunRow | None, TaskRow | None, list[AttemptRow]]:
            run: Any = snapshot["runs"].get(caller.run_id)
            task: Any = snapshot["tasks"].get((caller.run_id, caller.task_key))
            ended: Any = snapshot["x_attempts"].below((caller.run_id, caller.task_key))
            return (
                None if run is None else RunRow(*run),
                None if task is None else TaskRow(*task),
                [AttemptRow(*row) for row in ended],
            )

        run, task, ended = await asyncio.to_thread(read)
        if run is None or task is None:
            return CalledTask(None)
        manifest = None
        if is_of_a_manifest(run.code_version):
            assert run.code_version is not None
            # Without it, a failure would end a task that has retries left.
            manifest = await self._manifests.needed(self._store, self._scope, run.code_version)
        asset = None if manifest is None else manifest.manifest.nodes.get(node_of(task))
        if asset is None:
            return CalledTask(task, run.cancel_requested, ended)
        return CalledTask(task, run.cancel_requested, ended, asset.retries, asset.location, asset.code_version)
