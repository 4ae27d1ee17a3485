"""What an evaluation of a sensor came to: which runs it asked for and what became of them, or why it asked for none.

An evaluation is named by its id, as `springline sensor history` has it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from springline.explaining.holds import HOLD_EVENT, is_hold
from springline.explaining.runs import of_request
from springline.explaining.sensors import asked_by_sensor, cursor_text, said_of
from springline.explaining.story import MARGIN_MS, Account, Aim, Evidence, Question, Subject, Verdict, ago, unknown
from springline.explaining.telling import MOST_NAMED, few
from springline.ledger.envelope import Event
from springline.ledger.events import RunRequested, SensorEvaluated, SensorMessage
from springline.projection.fold.automation import STALE_STATUS
from springline.projection.rows import EvaluationRow, RunKeyRow
from springline.published.snapshot import StateSnapshot
from springline.ulids import ulid_time_ms

_TABLES: Final = ("sensor_evals", "sensor_state", "run_key_index", "runs", "x_holds")
_URGENT: Final = (
    *(Verdict.OVERDUE, Verdict.FAILED, Verdict.HELD, Verdict.WAITS, Verdict.UNDER_WAY, Verdict.CANCELLED),
    *(Verdict.NO_RECORD, Verdict.DONE),
)
"""Of several runs the first of these is the verdict."""


def _row(rows: StateSnapshot, eval_id: str) -> EvaluationRow:
    found: Any = rows["sensor_evals"].get(eval_id)
    if found is None:
        remedy = "`springline sensor history SENSOR -o json` has the ids; retention removes old ones from the rows."
        raise unknown("evaluation", "eval_id", eval_id, remedy)
    return EvaluationRow(*found)


def _aim(evidence: Evidence, question: Question) -> Aim:
    row = _row(evidence.rows, question.identity)
    # A foreign event may have been recorded long after it was made.
    recorded_ms = ulid_time_ms(row.row_version) or row.evaluated_at
    message_id = json.loads(row.trigger_source).get("message_id")

    def concerns(event: Event) -> bool:
        data = event.data
        if isinstance(data, SensorEvaluated):
            return data.eval_id == row.eval_id
        if isinstance(data, RunRequested):
            return getattr(data.trigger_source_ref, "eval_id", None) == row.eval_id
        if isinstance(data, SensorMessage) and data.message_id != message_id:
            return False
        return asked_by_sensor(event, row.sensor_id) or is_hold(event)

    return Aim(recorded_ms - MARGIN_MS, recorded_ms + MARGIN_MS, (row.sensor_id, HOLD_EVENT), concerns)


def _answer(evidence: Evidence, question: Question) -> Account:
    row = _row(evidence.rows, question.identity)
    status = json.loads(row.status)
    source = json.loads(row.trigger_source)
    woken = f"after message {source['message_id']}" if source.get("source") == "push" else "by a poll"
    made = f"Sensor {row.sensor_id} was evaluated at {ago(row.evaluated_at, question.now_ms)}, {woken}"
    said = said_of(evidence.events, row.eval_id)
    code = None if said is None else said.reason_code
    steps = [f"springline explain sensor {row.sensor_id}"]
    if row.status == STALE_STATUS:
        text = (
            f"{made}, on version {row.expected_state_version} of its state, which was another one by then: "
            "it counts for nothing, and no run was asked for."
        )
        return Account(Verdict.SKIPPED, text, code, next_steps=steps)
    if status["status"] == "error":
        text = f"{made}, and failed: {status.get('message')}. Its cursor stayed {cursor_text(row.cursor_before)}."
        return Account(Verdict.FAILED, text, code, next_steps=steps)
    moved = (
        f"its cursor stayed {cursor_text(row.cursor_after)}"
        if row.cursor_before == row.cursor_after
        else f"its cursor moved from {cursor_text(row.cursor_before)} to {cursor_text(row.cursor_after)}"
    )
    asked = json.loads(row.run_requests or "[]")
    if not asked:
        polls = None if said is None else said.polls
        why = "it asked for no run" if polls is None else f"it stands for {polls} polls that found nothing"
        return Account(Verdict.SKIPPED, f"{made}: {why}, and {moved}.", code, next_steps=steps)
    return _of_runs(evidence.rows, row, asked, f"{made}: it asked for {len(asked)} run(s), and {moved}.", question)


def _of_runs(
    rows: StateSnapshot, row: EvaluationRow, asked: Sequence[dict[str, Any]], text: str, question: Question
) -> Account:
    """Say what became of the runs that an evaluation asked for: each key stands for the first request under it."""
    before, other = [], []
    accounts: list[tuple[str, Account]] = []
    for one in asked:
        key = str(one["run_key"])
        found: Any = rows["run_key_index"].get(key)
        request = None if found is None else RunKeyRow(*found)
        if request is not None and request.request_fingerprint != one["request_fingerprint"]:
            other.append(key)
        elif request is not None and request.row_version < row.row_version:
            before.append(key)
        accounts.append((key, of_request(rows, key, question.now_ms)))
    for keys, why in (
        (before, "was asked for before, and is that run"),
        (other, "stands for an older request of another kind, and asked for nothing: a conflict is on record"),
    ):
        if keys:
            text += f" Key {few(keys)} {why}."
    verdicts = Counter(account.verdict for _, account in accounts)
    verdict = next(one for one in _URGENT if one in verdicts)
    if len(accounts) == 1:
        account = accounts[0][1]
        return Account(verdict, f"{text} {account.text}", account.reason_code, account.waits_for, account.next_steps)
    text += " Of them " + ", ".join(f"{verdicts[one]} {_WORDS[one]}" for one in _URGENT if one in verdicts) + "."
    shown = [one for one in accounts if one[1].verdict is verdict][:MOST_NAMED]
    text += "".join(f" {key}: {account.text}" for key, account in shown)
    return Account(
        verdict,
        text,
        waits_for=list(dict.fromkeys(wait for _, account in shown for wait in account.waits_for)),
        next_steps=list(dict.fromkeys(step for _, account in shown for step in account.next_steps)),
    )


_WORDS: Final = {
    Verdict.OVERDUE: "should have begun",
    Verdict.FAILED: "failed",
    Verdict.HELD: "wait for the end of a hold",
    Verdict.WAITS: "wait",
    Verdict.UNDER_WAY: "are under way",
    Verdict.CANCELLED: "were cancelled",
    Verdict.NO_RECORD: "are no more on record",
    Verdict.DONE: "succeeded",
}


EVALUATIONS: Final = Subject("evaluation", (), _TABLES, _aim, _answer)
