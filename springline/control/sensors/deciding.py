"""What becomes of what an evaluation of a sensor found: pure decisions.

An evaluation counts whole or not at all: its event names the state of the sensor that it was made on, is refused on any
other, and the runs that it asks for follow from it. What is decided on the same state with the same finding is the same
event, whoever decides and how often (docs/protocol.md#sensors).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from springline.control.admission.automation import check_run_key
from springline.control.sensors.messages import (
    AskedRun,
    EvaluationAnswer,
    EvaluationOutcome,
    SensorDecision,
    SensorMemory,
    SensorView,
    WaitingMessage,
)
from springline.control.sensors.polling import keeps_cursor, nothing_found
from springline.definitions.cursors import problem_of_cursor
from springline.definitions.limits import MAX_RUN_REQUESTS
from springline.definitions.selection import BadSelection
from springline.definitions.sensors import OF_CODE
from springline.errors import Refused
from springline.ledger.events import Payload, RunRequested, SensorEvaluated
from springline.ledger.identifiers import own_evaluation_id, sensor_run_key
from springline.ledger.json_text import canonical_json
from springline.ledger.member import MAX_MEMBER_BYTES, EvaluationMember, RunRequestedMember
from springline.ledger.nested import (
    EvalError,
    EvalNoNewData,
    EvalStatus,
    EvalTriggered,
    EvaluationRun,
    PollSource,
    PushSource,
    SensorRef,
)
from springline.ledger.request import MAX_REQUEST_EVENTS

MESSAGE_TRIES: Final = 5
"""Evaluations of one message that may fail; then it is answered with the error, and waits no longer."""
_MOST_TEXT: Final = 2_000
_OF_CODE: Final = "USER_CODE"
"""The reason of a failure that says none."""

SelectAssets = Callable[[Sequence[str]], list[str]]
"""Returns the assets that terms select; raises `BadSelection`."""
AskedBefore = Mapping[str, Collection[str]]
"""The fingerprints of all requests that are on record under a run key, by run key."""


@dataclass(slots=True)
class Concluded:
    """What becomes of an evaluation: events to be appended whole, which may be none, and how it is told."""

    decision: SensorDecision
    memory: SensorMemory
    events: list[Payload] = field(default_factory=list)


def conclude(
    view: SensorView,
    answer: EvaluationAnswer,
    memory: SensorMemory,
    began_ms: int,
    select: SelectAssets,
    before: AskedBefore | None = None,
) -> Concluded:
    """Return what becomes of what an evaluation found.

    A poll that keeps its cursor and asks once more for what it has asked for before has found nothing: many sensors
    name all that is there, each time, and leave it to the run keys that it is made once.

    Args:
        view: the sensor as it was when the evaluation began.
        answer: what was found.
        memory: what the workflow knew then.
        began_ms: when it began.
        select: makes assets of terms, by the manifest of the view.
        before: what is on record under the keys of `run_keys_of`, on the state of the view.
    """
    if answer.error is not None:
        return _failed(view, answer, memory, began_ms)
    try:
        _check_cursor(answer.cursor)
        requests = _requests(view, answer.requests, select)
    except _Unfit as unfit:
        wrong = EvaluationAnswer(error=str(unfit), category="USER_CODE", reason_code=unfit.reason_code)
        return _failed(view, wrong, memory, began_ms)
    if before:
        answer, requests = _without_known(answer, requests, before)
    quiet = nothing_found(view, answer, memory, began_ms)
    if quiet is not None:
        return Concluded(quiet.decision, quiet.memory)
    found = SensorDecision(
        at_ms=began_ms,
        outcome=EvaluationOutcome.TRIGGERED if requests else EvaluationOutcome.NO_NEW_DATA,
        message=answer.skip_reason,
        message_id=None if view.message is None else view.message.message_id,
        cursor_before=view.cursor,
        cursor_after=view.cursor if keeps_cursor(answer, view) else answer.cursor,
    )
    kept = SensorMemory(last_ms=began_ms, more=answer.more)
    status: EvalStatus = EvalTriggered() if requests else EvalNoNewData()
    event = _evaluated(view, found.cursor_after, status, requests, EvaluationMember())
    events: list[Payload] = [event, *_configured(view, event, requests)]
    if len(events) > MAX_REQUEST_EVENTS:
        message = f"at most {MAX_REQUEST_EVENTS - 1} runs with a config may be asked for at once"
        wrong = EvaluationAnswer(error=message, category="USER_CODE", reason_code="TOO_MANY_RUNS")
        return _failed(view, wrong, memory, began_ms)
    told = found.model_copy(
        update={"eval_id": event.eval_id, "runs": [one.told() for one in requests], "run_count": len(requests)}
    )
    return Concluded(told, kept, events)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation among several: the sensor and the memory before it, what was found, and what becomes of that."""

    view: SensorView
    memory: SensorMemory
    answer: EvaluationAnswer
    found: Concluded


def conclude_each(
    view: SensorView,
    further: Sequence[WaitingMessage],
    answer: EvaluationAnswer,
    memory: SensorMemory,
    began_ms: int,
    select: SelectAssets,
    before: AskedBefore | None = None,
) -> list[Evaluated]:
    """Return what becomes of an evaluation and of those of further messages that were made with it, in order.

    Each is made on the sensor as the one before it leaves it. Behind a failure there is none.

    Args:
        further: the messages that the answer's `further` is about.
        view, answer, memory, began_ms, select, before: as of `conclude`.
    """
    made = [Evaluated(view, memory, answer, conclude(view, answer, memory, began_ms, select, before))]
    for message, one in zip(further, answer.further, strict=False):
        last = made[-1]
        if last.found.decision.outcome is EvaluationOutcome.ERROR:
            break
        left = last.view.model_copy(
            update={
                "message": message,
                "cursor": last.found.decision.cursor_after,
                "state_version": last.view.state_version + 1,
                "evaluated_ms": began_ms,
                "failed": False,
            }
        )
        found = conclude(left, one, last.found.memory, began_ms, select)
        made.append(Evaluated(left, last.found.memory, one, found))
    return made


def summarised(view: SensorView, memory: SensorMemory, now_ms: int) -> Concluded:
    """Return the event that sums up polls that found nothing."""
    event = _evaluated(view, view.cursor, EvalNoNewData(), [], EvaluationMember(polls=memory.polls))
    decision = SensorDecision(
        at_ms=now_ms,
        outcome=EvaluationOutcome.NO_NEW_DATA,
        message=f"{memory.polls} polls found nothing",
        cursor_before=view.cursor,
        cursor_after=view.cursor,
        eval_id=event.eval_id,
    )
    kept = memory.model_copy(update={"polls": 0, "polls_since_ms": None})
    return Concluded(decision, kept, [event])


def refused_as_error(
    view: SensorView, message: str, memory: SensorMemory, began_ms: int, select: SelectAssets
) -> Concluded:
    """Return the record of an evaluation whose events the ledger does not take, though the sensor has not changed."""
    answer = EvaluationAnswer(error=f"the ledger refused it: {message}", reason_code="REFUSED", category="USER_CODE")
    return conclude(view, answer, memory, began_ms, select)


def run_keys_of(view: SensorView, answer: EvaluationAnswer) -> list[str]:
    """Return the run keys of which is to be known what was asked for under them: those of a poll that keeps its cursor.

    What fails, moves the cursor or answers a message is recorded whole.
    """
    if answer.error is not None or view.message is not None or not keeps_cursor(answer, view):
        return []
    named = (one.run_key for one in answer.requests[:MAX_RUN_REQUESTS] if one.run_key is not None)
    return list(dict.fromkeys(sensor_run_key(view.sensor_id, one) for one in named))


def is_of_code(view: SensorView) -> bool:
    """Say whether a function of users evaluates a sensor."""
    return view.kind in OF_CODE


class _Unfit(Exception):
    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request with its assets; `key` None: its run key follows from the evaluation."""

    key: str | None
    place: int
    assets: tuple[str, ...]
    partitions: tuple[str, ...]
    config: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """What was asked for, whatever the definitions are at the time."""
        content = {"assets": list(self.assets), "partitions": list(self.partitions), "config": self.config}
        return hashlib.sha256(canonical_json(content)).hexdigest()

    def told(self) -> dict[str, Any]:
        """Return the request for people."""
        return {"run_key": self.key, "assets": list(self.assets), "partitions": list(self.partitions)}


def _requests(view: SensorView, asked: Sequence[AskedRun], select: SelectAssets) -> list[_Asked]:
    """Return the requests of an evaluation, each run key once. Raises `_Unfit`."""
    if len(asked) > MAX_RUN_REQUESTS:
        raise _Unfit("TOO_MANY_RUNS", f"it asks for {len(asked)} runs at once, and {MAX_RUN_REQUESTS} is the most")
    selected: dict[tuple[str, ...], tuple[str, ...]] = {}
    by_key: dict[str, _Asked] = {}
    found: list[_Asked] = []
    for place, one in enumerate(asked):
        terms = tuple(one.select or view.select)
        if not terms:
            raise _Unfit("CANNOT_SELECT", f"run request {place} selects nothing, and neither does the sensor")
        try:
            if terms not in selected:
                selected[terms] = tuple(select(terms))
            request = _Asked(
                None if one.run_key is None else _run_key(view, one.run_key),
                place,
                selected[terms],
                tuple(sorted(set(one.partitions))),
                one.config,
            )
            request.fingerprint  # noqa: B018 - a config that is no canonical JSON is told here
        except BadSelection as error:
            raise _Unfit("CANNOT_SELECT", f"run request {place}: {error}") from error
        except ValueError as error:
            raise _Unfit("BAD_RESULT", f"run request {place} has a config that no event can hold: {error}") from error
        if len(canonical_json(one.config)) > MAX_MEMBER_BYTES - 1_024:
            raise _Unfit("BAD_RESULT", f"run request {place} has a config that is too large for an event")
        if request.key is None:
            found.append(request)
            continue
        before = by_key.setdefault(request.key, request)
        if before is request:
            found.append(request)
        elif before.fingerprint != request.fingerprint:
            raise _Unfit(
                "BAD_RESULT", f"run requests {before.place} and {place} have one run key and ask for two things"
            )
    return found


def _without_known(
    answer: EvaluationAnswer, requests: Sequence[_Asked], before: AskedBefore
) -> tuple[EvaluationAnswer, list[_Asked]]:
    """Return a poll's answer and its requests without those that are on record already."""
    new = [one for one in requests if one.key is None or one.fingerprint not in before.get(one.key, ())]
    known = len(requests) - len(new)
    if not known:
        return answer, list(requests)
    said = "1 run that it asks for was" if known == 1 else f"{known} runs that it asks for were"
    reason = f"{answer.skip_reason}; " if answer.skip_reason else ""
    kept = [answer.requests[one.place] for one in new]
    return answer.model_copy(update={"requests": kept, "skip_reason": f"{reason}{said} asked for before"}), new


def _run_key(view: SensorView, run_key: str) -> str:
    if len(run_key) > 512 or any(not one.isprintable() for one in run_key):
        raise _Unfit("BAD_RESULT", f"the run key {run_key[:80]!r} is too long, or cannot be printed")
    key = sensor_run_key(view.sensor_id, run_key)
    try:
        check_run_key(key, "run_key")
    except Refused as error:
        raise _Unfit("BAD_RESULT", error.refusal.message) from error
    return key


def _check_cursor(cursor: str | None) -> None:
    problem = None if cursor is None else problem_of_cursor(cursor)
    if problem is not None:
        raise _Unfit(problem.reason_code, f"its cursor {problem.message}. {problem.remedy}")


def _evaluated(
    view: SensorView, cursor_after: str | None, status: EvalStatus, asked: Sequence[_Asked], said: EvaluationMember
) -> SensorEvaluated:
    source: PushSource | PollSource
    source = PollSource(view.state_version) if view.message is None else PushSource(view.message.message_id)
    content = {
        "source": msgspec.to_builtins(source),
        "change": view.change_id,
        "before": view.cursor,
        "after": cursor_after,
        "status": msgspec.to_builtins(status),
        "requests": [[one.key, one.fingerprint] for one in asked],
        "said": msgspec.to_builtins(said),
    }
    digest = hashlib.sha256(canonical_json(content)).hexdigest()
    eval_id = own_evaluation_id(view.sensor_id, view.state_version, digest)
    member = msgspec.structs.replace(said, seen_version=view.state_version, seen_change=view.change_id)
    return SensorEvaluated(
        sensor_id=view.sensor_id,
        eval_id=eval_id,
        trigger_source=source,
        status=status,
        cursor_before=view.cursor,
        cursor_after=cursor_after,
        expected_state_version=view.state_version,
        run_requests=[
            EvaluationRun(
                run_key=_key_of(one, view, eval_id),
                request_fingerprint=one.fingerprint,
                asset_selection=list(one.assets),
                partition_selection=list(one.partitions) or None,
                code_version=view.manifest_id,
            )
            for one in asked
        ],
        springline=msgspec.to_builtins(member),
    )


def _key_of(one: _Asked, view: SensorView, eval_id: str) -> str:
    # The id of an evaluation is made of what it says: the key is not told twice for two things.
    return one.key if one.key is not None else sensor_run_key(view.sensor_id, f"{eval_id}:{one.place}")


def _configured(view: SensorView, event: SensorEvaluated, asked: Sequence[_Asked]) -> list[RunRequested]:
    """Return the requests that have a config, which the evaluation itself has no place for; others follow from it."""
    return [
        RunRequested(
            run_key=request.run_key,
            request_fingerprint=request.request_fingerprint,
            asset_selection=request.asset_selection,
            trigger_source_ref=SensorRef(view.sensor_id, event.eval_id),
            partition_selection=request.partition_selection,
            code_version=request.code_version,
            springline=msgspec.to_builtins(RunRequestedMember(config=one.config)),
        )
        for one, request in zip(asked, event.run_requests, strict=True)
        if one.config
    ]


def _failed(view: SensorView, answer: EvaluationAnswer, memory: SensorMemory, began_ms: int) -> Concluded:
    """Return the record of a failure: the cursor stays, nothing is asked for, and a message is tried again."""
    assert answer.error is not None
    message = view.message
    tries = 0
    if message is not None and answer.counts:
        tries = 1 + (memory.tries if memory.trying == message.message_id else 0)
    text = answer.error[:_MOST_TEXT]
    given_up = tries >= MESSAGE_TRIES
    if message is not None:
        left = f"given up after {tries} tries" if given_up else "it is tried again"
        text = f"message {message.message_id}, {left}: {text}"
    # While a message is tried again, its failures are on record as those of polls: its own key stays free.
    recorded = view if given_up else view.model_copy(update={"message": None})
    code = answer.reason_code or _OF_CODE
    event = _evaluated(recorded, view.cursor, EvalError(text), [], EvaluationMember(reason_code=code))
    decision = SensorDecision(
        at_ms=began_ms,
        outcome=EvaluationOutcome.ERROR,
        reason_code=code,
        message=text,
        message_id=None if message is None else message.message_id,
        cursor_before=view.cursor,
        cursor_after=view.cursor,
        eval_id=event.eval_id,
    )
    kept = SensorMemory(
        last_ms=began_ms,
        # The message behind one that was given up is not to wait for it.
        failures=0 if given_up else memory.failures + 1,
        trying=None if message is None or given_up else message.message_id,
        tries=0 if given_up else tries,
    )
    return Concluded(decision, kept, [event])
