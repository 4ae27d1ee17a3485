"""Asking for a run: a request is recorded once for its key, and answered with its run. All who ask come here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import uuid_utils

from springline.control.runs.planning import unplanned_run_events
from springline.definitions.manifest import DeployedManifest
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refused, refused
from springline.ledger.envelope import as_event
from springline.ledger.events import Payload
from springline.ledger.request import AppendOutcome, AppendRequest, NewEvent
from springline.paths import Scope
from springline.projection.golden import golden_row
from springline.projection.rows import RunKeyRow
from springline.projection.schema import RUN_KEY_INDEX, RUNS, X_HOLDS, X_RUN_KEYS
from springline.published.lists import equals
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.runs.launching import RunLedger, origin_of, read_request
from springline.runs.loading import is_held, is_of_a_manifest
from springline.runs.requests import USER_REQUEST, KeyedRequest, key_reused
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

REQUESTED: Final = "REQUESTED"
"""The state of a run that is asked for and has not begun."""


class RunLaunches(Protocol):
    """Telling that a run is asked for."""

    async def launch(self, scope: Scope, run_key: str) -> None:
        """Let a run that is requested begin, and wait for that a moment; whatever fails, the launcher looks again."""


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A run that was asked for, as the published state has it.

    `run_id` None: the request is recorded, and readers do not see it yet. `tasks` None: not known. `replayed`: the same
    request was made before under its key, and nothing was written.
    """

    run_id: str | None
    run_key: str
    manifest_id: str | None
    state: str
    tasks: int | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class RunRequests:
    """Where requests for runs of one workspace come in. `store` is the whole store."""

    store: ObjectStore
    reader: PublishedReader
    manifests: ManifestReader
    ledger: RunLedger
    launches: RunLaunches
    scope: Scope

    async def request(self, wanted: KeyedRequest) -> RequestedRun:
        """Record a request that is new, let its run begin, and tell of it; raises `Refused`."""
        replayed = await self._is_known(wanted)
        planned: int | None = None
        if not replayed:
            manifest = await what_is_deployed(self.manifests, ScopedStore(self.store, self.scope), self.scope)
            # Off the event loop: a plan may have thousands of tasks.
            event, tasks = await asyncio.to_thread(wanted.compile, manifest)
            planned = len(tasks)
            outcome = await append_event(self.ledger, self.scope, event)
            replayed = outcome.events[0].outcome == "duplicate"
        await self.launches.launch(self.scope, wanted.run_key)
        return await self._told(wanted, replayed=replayed, planned=planned)

    async def withdraw(self, run_id: str, requested_by: str, reason: str | None) -> bool:
        """Cancel a run that is asked for before it begins; False if there is no such request, or its run has begun.

        Raises `Refused`: the request is another system's, or the workspace is held. Raises `DamagedObject`.
        """
        snapshot = await self.reader.snapshot(self.scope, [RUNS.name, RUN_KEY_INDEX.name, X_HOLDS.name])
        row = await asyncio.to_thread(waiting_request, snapshot, run_id)
        if row is None:
            return False
        if not is_of_a_manifest(row.code_version):
            raise refused(
                Code.EVENT_CONFLICT,
                f"run {run_id!r} is asked for by another system, which begins it",
                field="run_id",
                value=run_id,
                remedy="Cancel it there, or here when it has begun.",
            )
        if is_held(snapshot):
            raise refused(
                Code.EVENT_CONFLICT,
                f"run {run_id!r} has not begun, and a held workspace begins nothing, not even to cancel it",
                field="run_id",
                value=run_id,
                remedy="Cancel it again when the hold is taken off: springline hold release.",
            )
        data = await read_request(ScopedStore(self.store, self.scope), row)
        origin = await origin_of(self.reader, self.scope, row, data)
        try:
            await append_event(
                self.ledger, self.scope, *unplanned_run_events(origin, USER_REQUEST, reason, requested_by)
            )
        except Refused:
            now = await self.reader.snapshot(self.scope, [RUNS.name, RUN_KEY_INDEX.name])
            if await asyncio.to_thread(waiting_request, now, run_id) is None:
                # The launcher was faster.
                return False
            raise
        return True

    async def _is_known(self, wanted: KeyedRequest) -> bool:
        """Say whether the same request was made before under its key; raises `Refused` if another one was."""
        snapshot = await self.reader.snapshot(self.scope, [X_RUN_KEYS.name])
        row = await asyncio.to_thread(snapshot[X_RUN_KEYS.name].get, wanted.run_key)
        if row is None:
            return False
        first = golden_row(X_RUN_KEYS, row)
        if first["request_fingerprint"] != wanted.fingerprint:
            raise key_reused(wanted.run_key, first["run_id"])
        return True

    async def _told(self, wanted: KeyedRequest, *, replayed: bool, planned: int | None) -> RequestedRun:
        snapshot = await self.reader.snapshot(self.scope, [X_RUN_KEYS.name, RUN_KEY_INDEX.name, RUNS.name])

        def read() -> tuple[dict[str, Any] | None, dict[str, Any], dict[str, Any]]:
            first = snapshot[X_RUN_KEYS.name].get(wanted.run_key)
            if first is None:
                return None, {}, {}
            known = golden_row(X_RUN_KEYS, first)
            asked = snapshot[RUN_KEY_INDEX.name].get(wanted.run_key)
            run = snapshot[RUNS.name].get(known["run_id"])
            return (
                known,
                {} if asked is None else golden_row(RUN_KEY_INDEX, asked),
                {} if run is None else golden_row(RUNS, run),
            )

        first, asked, run = await asyncio.to_thread(read)
        if first is not None and first["request_fingerprint"] != wanted.fingerprint:
            # Another request under the key came between: that one stays.
            raise key_reused(wanted.run_key, first["run_id"])
        return RequestedRun(
            run_id=None if first is None else first["run_id"],
            run_key=wanted.run_key,
            manifest_id=run.get("code_version") or asked.get("code_version"),
            state=run.get("state", REQUESTED),
            tasks=run.get("tasks_total") or planned,
            replayed=replayed,
        )


def waiting_request(snapshot: StateSnapshot, run_id: str) -> RunKeyRow | None:
    """Return the request for a run that has not begun; None if there is none, or it has."""
    if snapshot[RUNS.name].get(run_id) is not None:
        return None
    rows = snapshot[RUN_KEY_INDEX.name].select(equals(RUN_KEY_INDEX, "run_id", [run_id]))
    return next((RunKeyRow(*cast(Any, row)) for row in rows), None)


async def append_event(ledger: RunLedger, scope: Scope, *events: Payload) -> AppendOutcome:
    """Append events and return their outcome; raises `Refused`, naming the field of the caller's own request."""
    request = AppendRequest(
        request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event)) for event in events]
    )
    outcome = await ledger.append(scope, request)
    if outcome.refusal is not None:
        field = (outcome.refusal.field or "").removeprefix("events[0].data.") or None
        raise Refused(outcome.refusal.model_copy(update={"field": field}))
    return outcome


async def what_is_deployed(manifests: ManifestReader, store: ObjectStore, scope: Scope) -> DeployedManifest:
    """Return the definitions of a workspace; `store` is its part. Raises `Refused` (NOT_FOUND) if it has none."""
    found = await manifests.latest(store, scope)
    if found is None or not found.manifest.nodes:
        raise nothing_deployed()
    return found.manifest


def nothing_deployed() -> Refused:
    """Return the refusal of a request that needs definitions in a workspace that has none."""
    return refused(
        Code.NOT_FOUND,
        "nothing is deployed in this workspace",
        field="manifest",
        remedy="Deploy a pipeline file first: `springline deploy FILE`.",
    )
