"""Changing schedules: what the old definition still owes, then the new one, in one request.

Whoever changes a schedule decides on its instants up to now as its evaluator would, by the same rule and under the same
keys: so it does not matter who of the two comes first. The new definition holds for the instants behind.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import msgspec
import uuid_utils

from springline.control.schedules.deciding import manual_tick, owed_at_edit, replaced
from springline.definitions.manifest import DefinedSchedule, DeployedManifest, ScheduleDefinition
from springline.definitions.schedules import NothingToMake
from springline.errors import Code, Refusal, Refused, refused
from springline.ledger.envelope import as_event
from springline.ledger.events import Payload, RunRequested, ScheduleDefinitionUpserted, ScheduleTicked
from springline.ledger.identifiers import manual_name_of, manual_schedule_run_key
from springline.ledger.member import DefinitionMember
from springline.ledger.request import AppendRequest, NewEvent
from springline.paths import Scope
from springline.projection.schema import X_RUN_KEYS
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.runs.launching import RunLedger
from springline.runs.loading import is_held
from springline.schedules.reading import (
    TABLES,
    KnownSchedule,
    defined_by,
    known_schedule,
    known_schedules,
    planner,
    with_runs,
)
from springline.storage.together import each

TRIES: Final = 20
"""How often rows are read again after somebody else was first."""
PAUSE_S: Final = 0.05
_AT_ONCE: Final = 16
_LATEST: Final = "~"
"""Instead of the manifest of a deploy that has not begun: no other one is later."""
_OF_A_CHANGE: Final = ("effective_from", "replaces")
"""What the member of a definition says of the change, not of the schedule."""

Make = Callable[[KnownSchedule | None], ScheduleDefinitionUpserted | None]
"""The new definition of a schedule, given the one that there is; None if nothing changes. Raises `Refused`."""


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """A schedule that is to be changed."""

    schedule_id: str
    make: Make


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change came to. `ticks`: those that the old definition owed; `defined`: whether there is a new one."""

    schedule_id: str
    created: bool
    defined: bool
    ticks: int = 0


@dataclass(frozen=True, slots=True)
class Triggered:
    """What a user triggered by hand. `wanted`: the request for its run, None if it was made before under its id."""

    run_key: str
    wanted: RunRequested | None = None


@dataclass(frozen=True, slots=True)
class Schedules:
    """The schedules of one workspace, to be changed.

    `now_ms` tells the time in ms since 1970. All methods raise `Refused`, also if the ledger does not answer
    (UNAVAILABLE), `DamagedObject`, and the store's errors.
    """

    reader: PublishedReader
    ledger: RunLedger
    scope: Scope
    now_ms: Callable[[], int]

    async def change(self, changes: Sequence[ScheduleChange], manifest: DeployedManifest | None) -> list[Changed]:
        """Change schedules, each by itself; what does not change is not written. `manifest`: the latest one."""
        return await each(lambda one: self._change(one, manifest), changes, concurrency=_AT_ONCE)

    async def deployed(self, location: str, manifest: DeployedManifest) -> list[Changed]:
        """Let the schedules of a code location be those of a manifest; what left its file is off, and marked as gone.

        Whether one is on stays what operators made it.
        """
        declared = [
            DefinedSchedule.model_validate({name: value for name, value in one.items() if name != "location"})
            for one in manifest.schedules
            if one.get("location") == location and "schedule_id" in one
        ]
        if not declared and not len((await self.reader.snapshot(self.scope, ("x_definitions",)))["x_definitions"]):
            return []
        snapshot = await self.reader.snapshot(self.scope, TABLES)
        known = await asyncio.to_thread(known_schedules, snapshot)
        names = {one.schedule_id for one in declared}
        gone = [
            one.view.schedule_id
            for one in known
            if one.location == location and not one.view.deleted and one.view.schedule_id not in names
        ]
        changes = [
            *(ScheduleChange(one.schedule_id, _from_file(one, location, manifest.manifest_id)) for one in declared),
            *(ScheduleChange(name, _removed(location, manifest.manifest_id)) for name in gone),
        ]
        return await self.change(changes, manifest)

    async def check_held(
        self, location: str, declared: Sequence[DefinedSchedule], manifest: DeployedManifest | None
    ) -> None:
        """Refuse a deploy that `deployed` could not complete, because the workspace is held, before it begins.

        `declared`: the schedules of the file. `manifest`: the latest one. Raises `Refused` (EVENT_CONFLICT) if one that
        the deploy changes owes ticks.
        """
        if not is_held(await self.reader.snapshot(self.scope, ("x_holds",))):
            return
        snapshot = await self.reader.snapshot(self.scope, TABLES)
        plan = planner(manifest)

        def owed() -> tuple[str, int] | None:
            makes = {one.schedule_id: _from_file(one, location, _LATEST) for one in declared}
            for one in known_schedules(snapshot):
                name = one.view.schedule_id
                if makes.get(name, _removed(location, _LATEST))(one) is None:
                    continue
                (view,) = with_runs(snapshot, [one.view])
                events = owed_at_edit(view, self.now_ms(), plan).events
                if events:
                    return name, sum(isinstance(event, ScheduleTicked) for event in events)
            return None

        found = await asyncio.to_thread(owed)
        if found is not None:
            raise _held(*found)

    async def trigger(
        self, schedule_id: str, manifest: DeployedManifest | None, request_id: str | None = None
    ) -> Triggered:
        """Ask for a run of a schedule now, whether it is on or off; with a request id once for ever."""
        name = None if request_id is None else manual_name_of(request_id)
        run_key = None if name is None else manual_schedule_run_key(schedule_id, name)
        if run_key is not None and await self._is_asked_for(run_key):
            return Triggered(run_key)
        snapshot = await self.reader.snapshot(self.scope, TABLES)
        known = await asyncio.to_thread(known_schedule, snapshot, schedule_id)
        if known is None or known.view.deleted:
            raise no_schedule(schedule_id)
        view = replace(known.view, manifest_id=_id_of(manifest))
        try:
            events = manual_tick(view, self.now_ms(), planner(manifest), name)
        except NothingToMake as error:
            raise refused(
                Code.DEFINITION_CONFLICT,
                f"schedule {schedule_id} can make nothing now: {error.message}",
                field="schedule_id",
                value=schedule_id,
                remedy="Correct the selection, or deploy what it selects.",
            ) from error
        refusal = await self._append(events)
        if refusal is not None:
            if run_key is not None and await self._is_asked_for(run_key):
                # The same request at the same time was first.
                return Triggered(run_key)
            raise Refused(refusal.model_copy(update={"field": "schedule_id", "value": schedule_id}))
        wanted = cast(RunRequested, events[-1])
        return Triggered(wanted.run_key, wanted)

    async def _change(self, change: ScheduleChange, manifest: DeployedManifest | None) -> Changed:
        plan = planner(manifest)
        ticks = 0
        for attempt in range(TRIES):
            snapshot = await self.reader.snapshot(self.scope, TABLES)
            known = await asyncio.to_thread(_with_runs, snapshot, change.schedule_id)
            definition = change.make(known)
            if definition is None:
                return Changed(change.schedule_id, created=False, defined=False)
            view = None if known is None else replace(known.view, manifest_id=_id_of(manifest))
            version = defined_by(snapshot, change.schedule_id)
            decided = await asyncio.to_thread(replaced, view, version, definition, self.now_ms(), plan)
            events, more = decided.events, decided.more
            owed = sum(not isinstance(event, ScheduleDefinitionUpserted) for event in events)
            if owed and is_held(snapshot):
                raise _held(change.schedule_id, owed)
            refusal = await self._append(events)
            if refusal is None:
                ticks += sum(isinstance(event, ScheduleTicked) for event in events)
                if not more:
                    return Changed(change.schedule_id, created=known is None, defined=True, ticks=ticks)
                continue
            if refusal.code not in (Code.EVENT_CONFLICT, Code.KEY_REUSED):
                raise Refused(refusal.model_copy(update={"field": None, "value": change.schedule_id}))
            # Its evaluator, or somebody else, was first.
            await asyncio.sleep(PAUSE_S * (attempt + 1))
        raise refused(
            Code.UNAVAILABLE,
            f"schedule {change.schedule_id} was changed by others all the while",
            field="schedule_id",
            value=change.schedule_id,
            remedy="Send the same request again.",
        )

    async def _is_asked_for(self, run_key: str) -> bool:
        snapshot = await self.reader.snapshot(self.scope, (X_RUN_KEYS.name,))
        return await asyncio.to_thread(snapshot[X_RUN_KEYS.name].get, run_key) is not None

    async def _append(self, events: Sequence[Payload]) -> Refusal | None:
        request = AppendRequest(
            request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event)) for event in events]
        )
        return (await self.ledger.append(self.scope, request)).refusal


def put_definition(schedule_id: str, asked: ScheduleDefinition, enabled: bool | None, manifest_id: str) -> Make:
    """Return the change that gives a schedule a definition; one of a file is refused. `enabled` None: as it is."""

    def make(known: KnownSchedule | None) -> ScheduleDefinitionUpserted | None:
        if known is not None and known.location is not None and not known.view.deleted:
            raise refused(
                Code.DEFINITION_CONFLICT,
                f"schedule {schedule_id} belongs to code location {known.location}",
                field="schedule_id",
                value=schedule_id,
                remedy="Change it in its file and deploy that, or choose another id. It can be paused and resumed.",
            )
        on = enabled if enabled is not None else known is None or known.view.deleted or known.view.enabled
        return _unless_same(known, _definition(schedule_id, asked, on, None, manifest_id))

    return make


def switched(schedule_id: str, *, enabled: bool) -> Make:
    """Return the change that pauses or resumes a schedule."""

    def make(known: KnownSchedule | None) -> ScheduleDefinitionUpserted | None:
        if known is None or known.view.deleted:
            raise no_schedule(schedule_id)
        return None if known.view.enabled == enabled else _again(known, enabled=enabled)

    return make


def without(schedule_id: str) -> Make:
    """Return the change that deletes a schedule; one of a file is refused."""

    def make(known: KnownSchedule | None) -> ScheduleDefinitionUpserted | None:
        if known is None:
            raise no_schedule(schedule_id)
        if known.view.deleted:
            return None
        if known.location is not None:
            raise refused(
                Code.DEFINITION_CONFLICT,
                f"schedule {schedule_id} belongs to code location {known.location}",
                field="schedule_id",
                value=schedule_id,
                remedy="Leave it out of its file and deploy that. It can be paused until then.",
            )
        return _again(known, enabled=False, deleted=True)

    return make


def no_schedule(schedule_id: str) -> Refused:
    """Return the refusal of a schedule that there is not."""
    return refused(
        Code.NOT_FOUND,
        f"the workspace has no schedule {schedule_id!r}",
        field="schedule_id",
        value=schedule_id,
        remedy="`springline schedule list` shows them; one that was deleted or left its file is there no more.",
    )


def _from_file(declared: DefinedSchedule, location: str, manifest_id: str) -> Make:
    def make(known: KnownSchedule | None) -> ScheduleDefinitionUpserted | None:
        if _is_of_a_later_deploy(known, location, manifest_id):
            return None
        on = known is None or known.view.deleted or known.view.enabled
        return _unless_same(known, _definition(declared.schedule_id, declared, on, location, manifest_id))

    return make


def _removed(location: str, manifest_id: str) -> Make:
    def make(known: KnownSchedule | None) -> ScheduleDefinitionUpserted | None:
        if known is None or known.view.deleted or known.location != location:
            return None
        if _is_of_a_later_deploy(known, location, manifest_id):
            return None
        gone = _again(known, enabled=False, deleted=True)
        return msgspec.structs.replace(gone, code_version=manifest_id)

    return make


def _is_of_a_later_deploy(known: KnownSchedule | None, location: str, manifest_id: str) -> bool:
    """Say whether a deploy behind this one has changed a schedule: of two at once, the first may append last."""
    return known is not None and known.location == location and (known.code_version or "") > manifest_id


def _with_runs(snapshot: StateSnapshot, schedule_id: str) -> KnownSchedule | None:
    known = known_schedule(snapshot, schedule_id)
    if known is None:
        return None
    (view,) = with_runs(snapshot, [known.view])
    return replace(known, view=view)


def _definition(
    schedule_id: str, asked: ScheduleDefinition, enabled: bool, location: str | None, manifest_id: str
) -> ScheduleDefinitionUpserted:
    member = DefinitionMember(
        dialect="unix",
        interval_seconds=asked.interval_seconds,
        overlap=None if asked.overlap == "allow" else asked.overlap,
        max_active_runs=asked.max_active_runs,
        jitter_seconds=asked.jitter_seconds or None,
        location=location,
    )
    return ScheduleDefinitionUpserted(
        schedule_id=schedule_id,
        cron_expression=asked.cron if asked.cron is not None else f"@every {asked.interval_seconds}s",
        timezone=asked.timezone,
        catchup_window_minutes=asked.catchup_window_minutes,
        max_catchup_ticks=asked.max_catchup_ticks,
        asset_selection=list(asked.select),
        enabled=enabled,
        code_version=manifest_id,
        springline=msgspec.to_builtins(member),
    )


def _again(known: KnownSchedule, *, enabled: bool, deleted: bool = False) -> ScheduleDefinitionUpserted:
    """Return the definition as it is, on or off."""
    view = known.view
    member = msgspec.structs.replace(known.member, deleted=deleted or None)
    return ScheduleDefinitionUpserted(
        schedule_id=view.schedule_id,
        cron_expression=view.cron,
        timezone=view.timezone,
        catchup_window_minutes=view.window_minutes,
        max_catchup_ticks=view.max_catchup_ticks,
        asset_selection=list(view.select),
        enabled=enabled,
        code_version=known.code_version,
        springline=msgspec.to_builtins(member),
    )


def _unless_same(known: KnownSchedule | None, wanted: ScheduleDefinitionUpserted) -> ScheduleDefinitionUpserted | None:
    """Return a definition unless it says what there is: the manifest and the time of the change count for nothing."""
    if known is None:
        return wanted
    current = _again(known, enabled=known.view.enabled, deleted=known.view.deleted)
    return None if _compared(current) == _compared(wanted) else wanted


def _compared(definition: ScheduleDefinitionUpserted) -> str:
    plain = msgspec.to_builtins(definition)
    member = {name: value for name, value in (plain.get("springline") or {}).items() if name not in _OF_A_CHANGE}
    return json.dumps({**plain, "springline": member, "code_version": None}, sort_keys=True)


def _id_of(manifest: DeployedManifest | None) -> str | None:
    return None if manifest is None else manifest.manifest_id


def _held(schedule_id: str, ticks: int) -> Refused:
    return refused(
        Code.EVENT_CONFLICT,
        f"the workspace is held, and schedule {schedule_id} owes {ticks} tick{'' if ticks == 1 else 's'} that would "
        "have to be recorded first",
        field="schedule_id",
        value=schedule_id,
        remedy="Take the hold off first. While it lasts no schedule asks for a run.",
    )
