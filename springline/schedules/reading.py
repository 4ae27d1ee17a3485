"""Reading where the schedules of a workspace stand: their definitions, and up to which instant each is decided on.

A schedule whose definition names no deployed manifest is another system's, and left to it, as its runs are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, cast

import orjson

from springline.control.schedules.deciding import ScheduleView
from springline.definitions.config_models import problems_of_request, told_in_one
from springline.definitions.instants import BadTiming
from springline.definitions.manifest import DeployedManifest, DeployedNode
from springline.definitions.schedules import CANNOT_SELECT, NothingToMake, ScheduledRun, ScheduledSelection
from springline.definitions.selection import with_tasks
from springline.ledger.identifiers import is_manual_tick, is_tick_note, schedule_run_key, tick_note_id
from springline.ledger.member import DefinitionMember
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
from springline.projection.rows import DefinitionRow, RunRow, ScheduleRow, ScheduleStateRow
from springline.projection.schema import RUNNING, RUNS, SCHEDULE, TRIGGERED, Row
from springline.published.lists import equals
from springline.published.snapshot import StateSnapshot
from springline.runs.loading import is_of_a_manifest
from springline.ulids import ulid_time_ms

TABLES: Final = (
    *("schedule_definitions", "schedule_state", "schedule_ticks", "x_definitions", "x_holds"),
    *("runs", "run_key_index"),
)
"""What reading needs of the published state."""
_PAGE: Final = 1_000
_SPANS_S: Final = (600, 3_600, 6 * 3_600, 36 * 3_600, 7 * 86_400)
"""How far back requests are looked for whose runs have not begun."""


@dataclass(frozen=True, slots=True)
class KnownSchedule:
    """A schedule with its settings, as the rows have it. `location`: the code location whose file declares it."""

    view: ScheduleView
    member: DefinitionMember
    location: str | None
    code_version: str | None
    created_at_ms: int


def known_schedules(snapshot: StateSnapshot, manifest_id: str | None = None) -> list[KnownSchedule]:
    """Return the schedules of the workspace that are ours, by id; where their runs stand is not read.

    `manifest_id`: the definitions by which their runs are made, if any are.
    """
    rows = [ScheduleRow(*cast(Any, row)) for row in snapshot["schedule_definitions"]]
    # All at once: looked up one by one, they would be most of a pass over thousands of schedules.
    own = {row.definition_id: row for row in map(_definition, snapshot["x_definitions"].below((SCHEDULE,)))}
    states = {row.schedule_id: row for row in map(_state, snapshot["schedule_state"])}
    return [
        _known(snapshot, row, own.get(row.schedule_id), states.get(row.schedule_id), manifest_id)
        for row in rows
        if is_of_a_manifest(row.code_version)
    ]


def known_schedule(snapshot: StateSnapshot, schedule_id: str) -> KnownSchedule | None:
    """Return one schedule, None if there is none or it is another system's."""
    row = snapshot["schedule_definitions"].get(schedule_id)
    if row is None:
        return None
    definition = ScheduleRow(*cast(Any, row))
    if not is_of_a_manifest(definition.code_version):
        return None
    own, state = snapshot["x_definitions"].get((SCHEDULE, schedule_id)), snapshot["schedule_state"].get(schedule_id)
    return _known(
        snapshot,
        definition,
        None if own is None else _definition(own),
        None if state is None else _state(state),
    )


def defined_by(snapshot: StateSnapshot, schedule_id: str) -> str | None:
    """Return the event that defined a schedule, of another system, too; None if there is none."""
    row = snapshot["schedule_definitions"].get(schedule_id)
    return None if row is None else ScheduleRow(*cast(Any, row)).row_version


def with_runs(snapshot: StateSnapshot, views: Sequence[ScheduleView]) -> list[ScheduleView]:
    """Return schedules with the number of their runs without an end, where that decides anything."""
    limited = [view for view in views if view.limit is not None]
    if not limited:
        return list(views)
    rows = snapshot["runs"].select(equals(RUNS, "state", [TRIGGERED, RUNNING]))
    running = [run.run_key for run in (RunRow(*cast(Any, row)) for row in rows) if run.run_key is not None]
    asked = {view.schedule_id: _asked_for(snapshot, view) for view in limited}
    wanted = {run_id for runs in asked.values() for run_id in runs.values()}
    # A run that is there and not among those under way has ended.
    begun = {run_id for run_id in wanted if snapshot["runs"].has(run_id)}
    counts = {}
    for view in limited:
        prefix = _prefix(view)
        waiting = {key for key, run_id in asked[view.schedule_id].items() if run_id not in begun}
        counts[view.schedule_id] = len(waiting | {key for key in running if key.startswith(prefix)})
    return [replace(view, active=counts.get(view.schedule_id, 0)) if view.limit else view for view in views]


def planner(manifest: DeployedManifest | None) -> Callable[[Sequence[str], datetime], ScheduledRun]:
    """Return what makes runs of selections, by a manifest. It keeps the last selection: instants come in a row."""
    nodes = {} if manifest is None else manifest.nodes
    kept: dict[tuple[str, ...], ScheduledSelection] = {}

    def plan(terms: Sequence[str], instant: datetime) -> ScheduledRun:
        if not nodes:
            raise NothingToMake(CANNOT_SELECT, "no asset is deployed in the workspace. Deploy a pipeline file")
        selected = kept.get(tuple(terms))
        if selected is None:
            selected = ScheduledSelection(cast(Mapping[str, Any], nodes), terms)
            _check_made_without(nodes, selected.assets)
            kept.clear()
            kept[tuple(terms)] = selected
        return selected.run_at(instant)

    return plan


def _check_made_without(nodes: Mapping[str, DeployedNode], assets: Sequence[str]) -> None:
    """Raise `NothingToMake` if assets take no run without a config for certain, and a schedule's runs have none."""
    chosen = with_tasks(cast(Mapping[str, Any], nodes), assets)
    found = problems_of_request([nodes[key] for key in chosen], {})
    if found:
        raise NothingToMake(
            CANNOT_SELECT, f"runs of a schedule have no config: {told_in_one(found)}. Give the fields defaults"
        )


def _definition(row: Row) -> DefinitionRow:
    return DefinitionRow(*cast(Any, row))


def _state(row: Row) -> ScheduleStateRow:
    return ScheduleStateRow(*cast(Any, row))


def _known(
    snapshot: StateSnapshot,
    row: ScheduleRow,
    own: DefinitionRow | None,
    state: ScheduleStateRow | None,
    manifest_id: str | None = None,
) -> KnownSchedule:
    member = DefinitionMember() if own is None else _member(own.settings)
    since = _since_s(row, member)
    view = ScheduleView(
        schedule_id=row.schedule_id,
        version=row.row_version,
        cron=row.cron_expression,
        timezone=row.timezone,
        select=tuple(orjson.loads(row.asset_selection or "[]")),
        evaluated_to=_evaluated_to(row.schedule_id, own, state, since),
        dialect=member.dialect or "reference",
        interval_s=member.interval_seconds,
        enabled=row.enabled,
        deleted=bool(member.deleted),
        window_minutes=row.catchup_window_minutes,
        max_catchup_ticks=row.max_catchup_ticks,
        overlap=member.overlap or "allow",
        max_active_runs=member.max_active_runs or None,
        jitter_s=member.jitter_seconds or 0,
        manifest_id=manifest_id,
    )
    if not _is_readable(view):
        note = snapshot["schedule_ticks"].get(tick_note_id(row.schedule_id, row.row_version))
        view = replace(view, noted=note is not None)
    return KnownSchedule(view, member, member.location, row.code_version, row.created_at)


def _is_readable(view: ScheduleView) -> bool:
    try:
        view.timing()
    except BadTiming:
        return False
    return True


def _member(settings: str | None) -> DefinitionMember:
    found = orjson.loads(settings) if isinstance(settings, str) else settings
    return DefinitionMember(**found) if isinstance(found, dict) else DefinitionMember()


def _since_s(row: ScheduleRow, member: DefinitionMember) -> int:
    """Return the last second of which the definition before decides."""
    if member.effective_from is not None:
        return parse_timestamp(member.effective_from) // NS_PER_MS // 1_000
    return (ulid_time_ms(row.row_version) or row.created_at) // 1_000


def _evaluated_to(schedule_id: str, own: DefinitionRow | None, last: ScheduleStateRow | None, since: int) -> int:
    """Return the last instant that is decided on: that of the greatest tick, if the definition is older."""
    if own is not None and own.decided_to is not None:
        return max(since, own.decided_to // 1_000)
    # A file of an older build: its ticks came from elsewhere, in order.
    if last is None or last.last_scheduled_for is None or last.last_tick_id is None:
        return since
    if is_manual_tick(schedule_id, last.last_tick_id) or is_tick_note(schedule_id, last.last_tick_id):
        return since
    return max(since, last.last_scheduled_for // 1_000)


def _asked_for(snapshot: StateSnapshot, view: ScheduleView) -> dict[str, str]:
    """Return the runs that a schedule has asked for lately, by their keys: of a week, or as many as fit a page.

    Of those that have not begun only as many are counted as matter: what was asked for long ago has begun.
    """
    prefix, keys = _prefix(view), snapshot["run_key_index"]
    # A colon is the character behind the digits: those triggered by hand lie behind, and go by no time.
    behind = f"{prefix}:"
    by_hand = keys.texts("run_id", after=behind, before=prefix[:-1] + chr(ord(prefix[-1]) + 1), most=_PAGE)
    rows: list[tuple[str, str]] = []
    for span in reversed(_SPANS_S):
        after = schedule_run_key(view.schedule_id, max(0, view.evaluated_to - span))
        rows = keys.texts("run_id", after=after, before=behind, most=_PAGE + 1)
        if len(rows) <= _PAGE:
            break
    return dict(rows + by_hand)


def _prefix(view: ScheduleView) -> str:
    """Return what the keys of a schedule's runs begin with."""
    return schedule_run_key(view.schedule_id, 0)[:-1]
