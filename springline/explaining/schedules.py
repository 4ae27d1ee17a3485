"""Why a schedule did or did not run at an instant, or what it waits for now.

An instant is decided on once, and what was decided is a tick. Where there is none, the definition that held then says
whether there should be one: it decides on the instants behind its `effective_from` (docs/protocol.md#schedules).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from springline.control.schedules.deciding import TickReason, jitter_of
from springline.definitions.instants import BadTiming, Timing, timing_of
from springline.explaining.holds import HOLD_EVENT, held_back, hold_of, is_hold
from springline.explaining.runs import of_request
from springline.explaining.story import (
    A_DAY_MS,
    MARGIN_MS,
    Account,
    Aim,
    Evidence,
    Question,
    Subject,
    Verdict,
    ago,
    lasted,
    unknown,
)
from springline.ledger.envelope import Event
from springline.ledger.events import RunRequested, ScheduleDefinitionUpserted, ScheduleTicked
from springline.ledger.identifiers import is_manual_tick, tick_id
from springline.ledger.member import DefinitionMember, TickMember, member_of
from springline.ledger.nested import TickFailed, TickSkipped
from springline.ledger.timestamps import NS_PER_MS, format_ms, parse_timestamp
from springline.projection.rows import DefinitionRow, ScheduleRow, TickRow
from springline.projection.schema import SCHEDULE, SCHEDULE_TICKS
from springline.published.lists import all_of, between, equals, matching
from springline.published.snapshot import StateSnapshot
from springline.schedules.reading import TABLES, KnownSchedule, known_schedule, with_runs
from springline.ulids import ulid_time_ms

_TABLES: Final = (*TABLES, "x_runs")
LATE_MS: Final = 10_000
"""An instant that is not decided on so long after it was due is overdue."""
_NOT_OF_ONE_INSTANT: Final = r":manual:[^:]+$|:[0-9]+-[0-9]+$"
_RUNBOOK: Final = "runbooks/schedule-drift.md says how its evaluator is found and brought back"


@dataclass(frozen=True, slots=True)
class _Definition:
    """A definition: from which second on it holds, and what it says. `timing` None: it cannot be read."""

    since_s: int
    version: str
    enabled: bool
    deleted: bool
    timing: Timing | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Tick:
    """What was decided of an instant. `range_text`: of which instants, if of many."""

    tick_id: str
    status: str
    why: str | None
    reason_code: str | None
    decided_ms: int | None
    run_key: str | None
    range_text: str | None = None


def _aim(evidence: Evidence, question: Question) -> Aim:
    rows, schedule_id, now_ms = evidence.rows, question.identity, question.now_ms
    row = rows["schedule_definitions"].get(schedule_id)
    if row is None:
        raise unknown("schedule", "schedule_id", schedule_id, "`springline schedule list` shows the schedules.")
    definition = ScheduleRow(*cast(Any, row))
    since_ms, until_ms = now_ms - A_DAY_MS, now_ms
    if question.at_ms is not None:
        since_ms = question.at_ms - MARGIN_MS
        tick = _tick_row(rows, schedule_id, question.at_ms)
        if tick is not None:
            decided = ulid_time_ms(tick.row_version)
            until_ms = now_ms if decided is None else decided + MARGIN_MS
            # By a clock that was ahead it was decided on before it came.
            since_ms = min(since_ms, until_ms - 2 * MARGIN_MS)
        known = known_schedule(rows, schedule_id)
        if tick is None and known is not None and question.at_ms <= _since_s(known) * 1_000:
            # An older definition held then: it is in the events alone.
            since_ms = min(since_ms, _first_defined_ms(rows, definition))

    def concerns(event: Event) -> bool:
        data = event.data
        if isinstance(data, RunRequested):
            return getattr(data.trigger_source_ref, "schedule_id", None) == schedule_id
        of_it = isinstance(data, ScheduleDefinitionUpserted | ScheduleTicked) and data.schedule_id == schedule_id
        return of_it or is_hold(event)

    return Aim(since_ms, until_ms, (schedule_id, HOLD_EVENT), concerns)


def _answer(evidence: Evidence, question: Question) -> Account:
    rows, schedule_id = evidence.rows, question.identity
    known = known_schedule(rows, schedule_id)
    if question.at_ms is None:
        return _now(rows, known, question)
    at = question.at_ms // 1_000
    tick = _tick_on_record(evidence, schedule_id, question.at_ms)
    if tick is not None:
        return _decided(rows, schedule_id, tick, at, question.now_ms)
    if known is None:
        text = "The schedule is another system's: it names no manifest deployed here, and nothing here decides on it."
        return Account(Verdict.OFF, text, next_steps=["deploy the pipeline file that declares it"])
    return _undecided(evidence, known, at, question.now_ms)


def _now(rows: StateSnapshot, known: KnownSchedule | None, question: Question) -> Account:
    """Say where a schedule stands, without an instant: what is due first."""
    if known is None:
        return Account(Verdict.OFF, "The schedule is another system's, and nothing here decides on it.")
    view, now = known.view, question.now_ms // 1_000
    if view.deleted:
        gone = "was deleted" if known.location is None else "has left its file"
        return Account(Verdict.OFF, f"The schedule {gone}: {_since_text(known, question.now_ms)}.")
    if not view.enabled:
        resume = f"springline schedule resume {view.schedule_id}"
        text = f"The schedule is paused: {_since_text(known, question.now_ms)}."
        return Account(Verdict.OFF, text, TickReason.PAUSED, next_steps=[resume])
    try:
        upcoming = next(view.timing().after(view.evaluated_to), None)
    except BadTiming as error:
        return Account(Verdict.FAILED, f"The definition cannot be read: {error}", TickReason.UNREADABLE)
    if upcoming is None:
        return Account(Verdict.NOT_DUE, "Its cron line names no instant of the next 41 years.")
    due = upcoming + jitter_of(view)
    if due > now:
        last, behind = format_ms(view.evaluated_to * 1_000), format_ms(upcoming * 1_000)
        later = f", decided on {due - upcoming} s later by its jitter" if due > upcoming else ""
        return Account(Verdict.NOT_DUE, f"Every instant up to {last} is decided on; the next is {behind}{later}.")
    return _waiting(rows, known, upcoming, question.now_ms)


def _decided(rows: StateSnapshot, schedule_id: str, tick: _Tick, at: int, now_ms: int) -> Account:
    when = "" if tick.decided_ms is None else f", {lasted(max(0, tick.decided_ms - at * 1_000))} after its instant"
    among = "" if tick.range_text is None else f" It stands for {tick.range_text}."
    if tick.status == "triggered":
        answer = of_request(rows, tick.run_key or "", now_ms)
        return Account(
            answer.verdict,
            f"It was decided to run{when}: run key {tick.run_key}. {answer.text}",
            answer.reason_code,
            answer.waits_for,
            answer.next_steps,
        )
    verdict = Verdict.SKIPPED if tick.status == "skipped" else Verdict.FAILED
    said = "It was decided not to run" if verdict is Verdict.SKIPPED else "The definition could not be evaluated"
    return Account(
        verdict, f"{said}{when}: {tick.why}.{among}", tick.reason_code, next_steps=_after_skip(schedule_id, tick)
    )


def _after_skip(schedule_id: str, tick: _Tick) -> list[str]:
    steps = {
        TickReason.OUTSIDE_WINDOW: [_RUNBOOK, "a longer catchup_window_minutes catches up further back"],
        TickReason.CATCHUP_LIMIT: [_RUNBOOK, "a larger max_catchup_ticks catches up more instants"],
        TickReason.OVERLAP: ["look at its runs that had not ended: `springline run list`"],
        TickReason.CANNOT_SELECT: ["deploy the assets that it selects, or correct the selection"],
    }
    found = next((text for code, text in steps.items() if code == tick.reason_code), [])
    return [*found, f"springline schedule trigger {schedule_id}"] if tick.status == "skipped" else found


def _undecided(evidence: Evidence, known: KnownSchedule, at: int, now_ms: int) -> Account:
    """Say why nothing is on record of an instant."""
    schedule_id = known.view.schedule_id
    definition = _in_force(evidence.events, known, at)
    if definition is None:
        first = format_ms(_first_defined_ms(evidence.rows, None, schedule_id))
        text = (
            f"No definition held then: the first one on record is of {first}. Nothing is due before a schedule exists."
        )
        return Account(Verdict.NO_INSTANT, text)
    is_current = definition.version == known.view.version
    if definition.deleted:
        return Account(Verdict.OFF, "The schedule was deleted then, or had left its file.")
    if definition.timing is None:
        return Account(
            Verdict.FAILED, f"The definition of then cannot be read: {definition.problem}", TickReason.UNREADABLE
        )
    if next(definition.timing.after(at - 1), None) != at:
        return Account(Verdict.NO_INSTANT, _not_due_text(definition, at))
    if not definition.enabled:
        behind = (
            "its instants go on record as skipped when it is resumed" if is_current else "it was not resumed in time"
        )
        since = format_ms(definition.since_s * 1_000)
        steps = [f"springline schedule resume {schedule_id}"] if is_current else []
        return Account(Verdict.OFF, f"The schedule was paused, since {since}; {behind}.", TickReason.PAUSED, [], steps)
    if at <= known.view.evaluated_to:
        text = "It was decided on, and the tick is not among the rows nor among the events that were read."
        return Account(Verdict.NO_RECORD, text, next_steps=["give --since and --until around the time of the decision"])
    if at * 1_000 > now_ms:
        return Account(Verdict.NOT_DUE, f"It is due in {lasted(at * 1_000 - now_ms)}.")
    return _waiting(evidence.rows, known, at, now_ms)


def _waiting(rows: StateSnapshot, known: KnownSchedule, at: int, now_ms: int) -> Account:
    """Say what an instant waits for that has come and is not decided on."""
    (view,) = with_runs(rows, [known.view])
    held = hold_of(rows)
    if held is not None:
        text = f"The instant {format_ms(at * 1_000)} is due, and the workspace is held: {held.text(now_ms)}."
        return held_back(text)
    due_ms = (at + jitter_of(view)) * 1_000
    if due_ms > now_ms:
        text = f"Its jitter of at most {view.jitter_s} s puts it off to {format_ms(due_ms)}."
        return Account(Verdict.NOT_DUE, text)
    if view.overlap == "queue_one" and view.limit is not None and view.active >= view.limit:
        text = f"{view.active} run(s) of the schedule have not ended, and it queues one instant behind {view.limit}."
        return Account(Verdict.WAITS, text, TickReason.OVERLAP, ["the end of a run of the schedule"])
    late = now_ms - due_ms
    if late < LATE_MS:
        return Account(
            Verdict.UNDER_WAY, f"The instant {format_ms(at * 1_000)} came {lasted(late)} ago and is being decided on."
        )
    text = f"The instant {format_ms(at * 1_000)} came {lasted(late)} ago, and its evaluator has not decided on it."
    return Account(Verdict.OVERDUE, text, waits_for=["its evaluator"], next_steps=[_RUNBOOK, "springline repair run"])


def _not_due_text(definition: _Definition, at: int) -> str:
    assert definition.timing is not None
    before = definition.timing.latest(max(definition.since_s, at - 400 * 86_400), at - 1, 1)
    behind = next(definition.timing.after(at), None)
    near = [f"the one before is {format_ms(one * 1_000)}" for one in before]
    near += [] if behind is None else [f"the next is {format_ms(behind * 1_000)}"]
    return "The schedule is not due at that instant: " + " and ".join(near or ["it never is"]) + "."


def _in_force(events: Iterable[Event], known: KnownSchedule, at: int) -> _Definition | None:
    """Return the definition that decides on an instant: the last one that holds from before it."""
    view = known.view
    current = _read(known.view.timing, _since_s(known), view.version, enabled=view.enabled, deleted=view.deleted)
    found = {current.version: current}
    for event in events:
        data = event.data
        if isinstance(data, ScheduleDefinitionUpserted) and event.event_id not in found:
            found[event.event_id] = _of_event(event, data)
    held = [one for one in found.values() if one.since_s < at]
    return max(held, key=lambda one: (one.since_s, one.version), default=None)


def _of_event(event: Event, data: ScheduleDefinitionUpserted) -> _Definition:
    said = member_of(data, DefinitionMember) or DefinitionMember()
    since_ms = ulid_time_ms(event.event_id) or event.timestamp_ns // NS_PER_MS
    if said.effective_from is not None:
        since_ms = parse_timestamp(said.effective_from) // NS_PER_MS

    def timing() -> Timing:
        dialect = said.dialect or "reference"
        return timing_of(data.cron_expression, data.timezone, dialect=dialect, interval_s=said.interval_seconds)

    return _read(timing, since_ms // 1_000, event.event_id, enabled=data.enabled, deleted=bool(said.deleted))


def _read(timing: Any, since_s: int, version: str, *, enabled: bool, deleted: bool) -> _Definition:
    try:
        return _Definition(since_s, version, enabled, deleted, timing())
    except BadTiming as error:
        return _Definition(since_s, version, enabled, deleted, None, str(error))


def _since_s(known: KnownSchedule) -> int:
    """Return from which second on the current definition decides."""
    if known.member.effective_from is not None:
        return parse_timestamp(known.member.effective_from) // NS_PER_MS // 1_000
    return (ulid_time_ms(known.view.version) or known.created_at_ms) // 1_000


def _since_text(known: KnownSchedule, now_ms: int) -> str:
    return f"since {ago(_since_s(known) * 1_000, now_ms)}, by event {known.view.version}"


def _first_defined_ms(rows: StateSnapshot, definition: ScheduleRow | None, schedule_id: str = "") -> int:
    name = schedule_id if definition is None else definition.schedule_id
    own: Any = rows["x_definitions"].get((SCHEDULE, name))
    if own is not None:
        return int(DefinitionRow(*own).first_defined_at)
    row: Any = rows["schedule_definitions"].get(name)
    return int(ScheduleRow(*row).created_at)


def _tick_row(rows: StateSnapshot, schedule_id: str, at_ms: int) -> TickRow | None:
    """Return the tick of an instant, or that of many instants that stands for it, too."""
    ticks, at = rows["schedule_ticks"], at_ms // 1_000
    row: Any = ticks.get(tick_id(schedule_id, at))
    if row is not None:
        return TickRow(*row)
    wanted = all_of(
        [
            equals(SCHEDULE_TICKS, "schedule_id", [schedule_id]),
            between(SCHEDULE_TICKS, "scheduled_for", at_ms, None),
            matching(SCHEDULE_TICKS, "tick_id", _NOT_OF_ONE_INSTANT),
        ]
    )
    assert wanted is not None
    found = [TickRow(*cast(Any, one)) for one in ticks.select(wanted)]
    # What was triggered by hand goes before what was skipped.
    found.sort(key=lambda one: not is_manual_tick(schedule_id, one.tick_id))
    return next((one for one in found if _stands_for(one, at)), None)


def _stands_for(tick: TickRow, at: int) -> bool:
    if is_manual_tick(tick.schedule_id, tick.tick_id):
        return tick.scheduled_for == at * 1_000
    first, dash, last = tick.tick_id.rpartition(":")[2].partition("-")
    return bool(dash) and int(first) <= at <= int(last)


def _tick_on_record(evidence: Evidence, schedule_id: str, at_ms: int) -> _Tick | None:
    """Return what was decided of an instant, by the rows, and by the events where retention has removed the row."""
    row = _tick_row(evidence.rows, schedule_id, at_ms)
    names = {tick_id(schedule_id, at_ms // 1_000)} if row is None else {row.tick_id}
    for event in evidence.events:
        data = event.data
        if isinstance(data, ScheduleTicked) and data.schedule_id == schedule_id:
            is_it = data.tick_id in names or (row is None and _in_range(data, at_ms))
            if is_it:
                return _of_tick(event, data)
    if row is None:
        return None
    status = json.loads(row.status)
    why = status.get("reason") or status.get("error")
    return _Tick(row.tick_id, status["status"], why, None, ulid_time_ms(row.row_version), row.run_key)


def _in_range(data: ScheduleTicked, at_ms: int) -> bool:
    said = member_of(data, TickMember)
    if said is None or said.range_from is None or said.range_to is None:
        return False
    return parse_timestamp(said.range_from) <= at_ms * NS_PER_MS <= parse_timestamp(said.range_to)


def _of_tick(event: Event, data: ScheduleTicked) -> _Tick:
    said = member_of(data, TickMember) or TickMember()
    status, why = "triggered", None
    if isinstance(data.status, TickSkipped):
        status, why = "skipped", data.status.reason
    elif isinstance(data.status, TickFailed):
        status, why = "failed", data.status.error
    among = None if said.instants is None else f"{said.instants} instants from {said.range_from} to {said.range_to}"
    return _Tick(data.tick_id, status, why, said.reason_code, ulid_time_ms(event.event_id), data.run_key, among)


SCHEDULES: Final = Subject("schedule", ("at",), _TABLES, _aim, _answer)
