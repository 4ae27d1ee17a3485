"""Why a sensor asks for nothing, what it waits for, and who paused it or set its cursor.

What is on record are evaluations that found something or failed, and one for each hour of polls that found nothing:
when it polled last is in no row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, cast

from springline import bounds
from springline.control.admission.automation import sensor_cursor
from springline.control.sensors.deciding import MESSAGE_TRIES
from springline.control.sensors.messages import SensorMemory, SensorView
from springline.control.sensors.polling import next_evaluation
from springline.control.sensors.standing import stuck_since_ms
from springline.explaining.holds import HOLD_EVENT, held_back, hold_of, is_hold
from springline.explaining.story import (
    A_DAY_MS,
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
from springline.ledger.events import RunRequested, SensorChanged, SensorEvaluated, SensorMessage
from springline.ledger.member import EvaluationMember, member_of
from springline.ledger.timestamps import format_ms
from springline.projection.fold.automation import STALE_STATUS
from springline.projection.rows import EvaluationRow
from springline.projection.schema import SENSOR_EVALS
from springline.published.lists import all_of, between, equals
from springline.published.snapshot import StateSnapshot
from springline.sensors.reading import (
    MOST_MESSAGES,
    TABLES,
    DeployedSensor,
    UnreadableSensor,
    deployed_sensor,
    let_go_ms,
    own_sensor_row,
    sensor_row,
    sensor_view,
    waiting_messages,
)

RUNBOOK: Final = "runbooks/sensor-stuck.md says how its workflow is found and brought back"
_LONGEST_CURSOR: Final = 120


def asked_by_sensor(event: Event, sensor_id: str) -> bool:
    """Say whether an event is a sensor's: an evaluation, a change, a message, or a run that it asked for."""
    data = event.data
    if isinstance(data, RunRequested):
        return getattr(data.trigger_source_ref, "sensor_id", None) == sensor_id
    return isinstance(data, SensorEvaluated | SensorChanged | SensorMessage) and data.sensor_id == sensor_id


def cursor_text(cursor: str | None) -> str:
    """Return a cursor for the middle of a sentence."""
    return "none" if cursor is None else repr(bounds.shown(cursor, _LONGEST_CURSOR))


def said_of(events: Sequence[Event], eval_id: str) -> EvaluationMember | None:
    """Return what is ours in the event of an evaluation, if that was read."""
    for event in events:
        if isinstance(event.data, SensorEvaluated) and event.data.eval_id == eval_id:
            return member_of(event.data, EvaluationMember)
    return None


def _aim(evidence: Evidence, question: Question) -> Aim:
    rows, sensor_id = evidence.rows, question.identity
    try:
        deployed = _deployed(evidence, sensor_id)
    except UnreadableSensor:
        deployed = None
    else:
        if deployed is None and sensor_row(rows, sensor_id) is None and own_sensor_row(rows, sensor_id) is None:
            raise unknown("sensor", "sensor_id", sensor_id, "`springline sensor list` shows the sensors.")

    def concerns(event: Event) -> bool:
        return asked_by_sensor(event, sensor_id) or is_hold(event)

    return Aim(question.now_ms - A_DAY_MS, question.now_ms, (sensor_id, HOLD_EVENT), concerns)


def _answer(evidence: Evidence, question: Question) -> Account:
    rows, sensor_id, now_ms = evidence.rows, question.identity, question.now_ms
    recent = _recent(rows, sensor_id, now_ms)
    last = _last_text(rows, sensor_id, now_ms) + _stale_text(recent)
    waiting = _waiting_text(rows, sensor_id, now_ms)
    try:
        deployed = _deployed(evidence, sensor_id)
    except UnreadableSensor as error:
        text = f"Nobody evaluates it: {error}. {last}"
        return Account(Verdict.FAILED, text, next_steps=["use the build that has deployed it, or deploy it again"])
    if deployed is None or evidence.manifest is None:
        text = f"The sensor is not deployed: it has left its file, or is another system's. {last}{waiting}"
        return Account(Verdict.OFF, text, next_steps=["deploy the pipeline file that declares it"])
    view = sensor_view(rows, deployed)
    about = f" {last}{waiting} Its cursor is {cursor_text(view.cursor)}{_set_by(rows, sensor_id, now_ms)}."
    if view.paused:
        text = f"The sensor is paused: {_paused_by(evidence, sensor_id, now_ms)}.{about}"
        return Account(Verdict.OFF, text, next_steps=[f"springline sensor resume {sensor_id}"])
    held = hold_of(rows)
    if held is not None:
        text = f"Nothing is evaluated: the workspace is held {held.text(now_ms)}.{about}"
        return held_back(text)
    late_ms = stuck_since_ms(view, let_go_ms(rows, evidence.manifest, deployed), now_ms)
    if late_ms is not None:
        return _stuck(view, late_ms, now_ms, about)
    failures = _failures(recent)
    if failures:
        return _failing(evidence, view, failures, now_ms, about)
    if view.message is not None:
        text = f"A message is evaluated at once, and {_many(view.backlog)} wait(s).{about}"
        return Account(Verdict.UNDER_WAY, text)
    if view.kind == "push":
        return Account(Verdict.WAITS, f"It is evaluated for each message, and none waits.{about}", None, ["a message"])
    text = f"It is evaluated every {lasted(view.interval_ms)}; a poll that finds nothing new is no event.{about}"
    return Account(Verdict.NOT_DUE, text, None, [_watched(view)], [f"springline sensor dry-run {sensor_id}"])


def _stuck(view: SensorView, late_ms: int, now_ms: int, about: str) -> Account:
    what = "A message should have been evaluated" if view.message is not None else "It should have been evaluated"
    whose = f"a worker of code location {view.location}" if view.kind in ("poll", "push") else "a worker of ours"
    text = f"{what} by {ago(late_ms, now_ms)}, and nothing is on record.{about}"
    return Account(
        Verdict.OVERDUE, text, waits_for=["its workflow", whose], next_steps=[RUNBOOK, "springline repair run"]
    )


def _failing(
    evidence: Evidence, view: SensorView, failures: Sequence[EvaluationRow], now_ms: int, about: str
) -> Account:
    latest = failures[-1]
    error = str(json.loads(latest.status).get("message"))
    message = view.message
    tried = message is not None and error.startswith(f"message {message.message_id}, it is tried again")
    memory = SensorMemory(
        last_ms=latest.evaluated_at,
        failures=len(failures),
        trying=message.message_id if message is not None and tried else None,
    )
    due_ms = next_evaluation(view, memory, now_ms).due_ms
    when = "" if due_ms is None else f" It is tried again at {format_ms(due_ms)}" + (
        f", in {lasted(due_ms - now_ms)}." if due_ms > now_ms else ", which is due."
    )  # fmt: skip
    tries = f" A message is answered with its error after {MESSAGE_TRIES} tries." if tried else ""
    text = f"The last {len(failures)} evaluation(s) failed, the latest with: {error}.{when}{tries}{about}"
    steps = [f"springline explain evaluation {latest.eval_id}", f"springline sensor dry-run {view.sensor_id}"]
    waits = [] if due_ms is None else [f"its next try, not before {format_ms(due_ms)}"]
    said = said_of(evidence.events, latest.eval_id)
    return Account(Verdict.FAILED, text, None if said is None else said.reason_code, waits, steps)


def _deployed(evidence: Evidence, sensor_id: str) -> DeployedSensor | None:
    return None if evidence.manifest is None else deployed_sensor(evidence.manifest, sensor_id)


def _recent(rows: StateSnapshot, sensor_id: str, now_ms: int) -> list[EvaluationRow]:
    """Return the evaluations of the last day, the latest first."""
    wanted = all_of(
        [
            equals(SENSOR_EVALS, "sensor_id", [sensor_id]),
            between(SENSOR_EVALS, "evaluated_at", now_ms - A_DAY_MS, None),
        ]
    )
    assert wanted is not None
    found = [EvaluationRow(*cast(Any, row)) for row in rows["sensor_evals"].select(wanted)]
    return sorted(found, key=lambda one: one.row_version, reverse=True)


def _failures(recent: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    """Return those that failed behind the last one that did not, the oldest first."""
    failed: list[EvaluationRow] = []
    for row in recent:
        if row.status == STALE_STATUS:
            continue
        # A message that was given up is answered: what is behind it does not wait.
        if json.loads(row.status)["status"] != "error" or json.loads(row.trigger_source).get("source") == "push":
            break
        failed.append(row)
    return failed[::-1]


def _stale_text(recent: Sequence[EvaluationRow]) -> str:
    stale = sum(row.status == STALE_STATUS for row in recent)
    return "" if not stale else f" {stale} evaluation(s) of the last day were made on an older state, and count not."


def _last_text(rows: StateSnapshot, sensor_id: str, now_ms: int) -> str:
    state = sensor_row(rows, sensor_id)
    if state is None or state.last_evaluation_at is None:
        return "No evaluation is on record."
    when = ago(state.last_evaluation_at, now_ms)
    found: Any = None if state.last_eval_id is None else rows["sensor_evals"].get(state.last_eval_id)
    if found is None:
        return f"The last evaluation on record was at {when}."
    row = EvaluationRow(*found)
    asked = json.loads(row.run_requests or "[]")
    keys = ", ".join(str(one["run_key"]) for one in asked[:3]) + (" ..." if len(asked) > 3 else "")
    status = json.loads(row.status)
    became = f"asked for {len(asked)} run(s): {keys}" if asked else ": ".join(map(str, status.values()))
    return f"The last evaluation on record, {row.eval_id} at {when}: {became}."


def _waiting_text(rows: StateSnapshot, sensor_id: str, now_ms: int) -> str:
    messages = waiting_messages(rows, sensor_id)
    if not messages:
        return ""
    oldest = min(messages, key=lambda one: one.row_version)
    return f" {_many(len(messages))} wait(s), the oldest, {oldest.message_id}, since {ago(oldest.received_at, now_ms)}."


def _many(messages: int) -> str:
    return f"{messages:,} message(s)" + (" or more" if messages >= MOST_MESSAGES else "")


def _set_by(rows: StateSnapshot, sensor_id: str, now_ms: int) -> str:
    state, own = sensor_row(rows, sensor_id), own_sensor_row(rows, sensor_id)
    if own is None or own.cursor_event_id is None or sensor_cursor(state, own) != own.cursor:
        return ""
    if state is not None and state.row_version > own.cursor_event_id:
        return ""
    who = f" by {own.changed_by}, {ago(own.changed_at, now_ms)}" if own.row_version == own.cursor_event_id else ""
    return f", set{who} behind the last evaluation"


def _paused_by(evidence: Evidence, sensor_id: str, now_ms: int) -> str:
    own = own_sensor_row(evidence.rows, sensor_id)
    assert own is not None
    said = [event for event in evidence.events if isinstance(event.data, SensorChanged)]
    of_it = [event for event in said if cast(SensorChanged, event.data).change == "paused"]
    if of_it:
        data = cast(SensorChanged, of_it[-1].data)
        return f"{data.changed_by} paused it, {ago(of_it[-1].timestamp_ns // 1_000_000, now_ms)}"
    if own.cursor_event_id == own.row_version:
        # The last change was one of the cursor: who paused it is in an older event.
        return f"its cursor was changed meanwhile, by {own.changed_by}, {ago(own.changed_at, now_ms)}"
    return f"{own.changed_by} paused it, {ago(own.changed_at, now_ms)}"


def _watched(view: SensorView) -> str:
    match view.kind:
        case "table":
            return f"a new version of table {view.table}"
        case "asset":
            return f"asset {view.asset} to be made"
        case "objects":
            return f"an object below {view.prefix}"
        case "run":
            return f"the end of a run: {', '.join(view.ends)}"
    return "its function to find something"


SENSORS: Final = Subject("sensor", (), TABLES, _aim, _answer, by_definitions=True)
