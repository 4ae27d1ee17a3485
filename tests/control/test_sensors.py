"""Decisions about sensors: when one is due, and what becomes of what an evaluation found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from springline.control.sensors.deciding import MESSAGE_TRIES, conclude, conclude_each, summarised
from springline.control.sensors.messages import (
    AskedRun,
    EvaluationAnswer,
    EvaluationOrder,
    EvaluationOutcome,
    PollSeries,
    SensorDoing,
    SensorMemory,
    SensorView,
    WaitingMessage,
)
from springline.control.sensors.polling import (
    LONGEST_PAUSE_MS,
    SUMMARY_MS,
    after_quiet,
    in_series,
    next_evaluation,
    nothing_found,
    owes_summary,
    pause_to_next_ms,
    series_of,
    surely_made,
)
from springline.definitions.selection import BadSelection
from springline.ledger.events import RunRequested, SensorEvaluated
from springline.ledger.nested import EvalError, PollSource, PushSource
from tests.control.sensor_world import MANIFEST, select

NOW = 1_736_935_200_000


def view(**more: Any) -> SensorView:
    plain: dict[str, Any] = {
        "sensor_id": "files",
        "kind": "poll",
        "location": "flights",
        "interval_ms": 30_000,
        "timeout_ms": 60_000,
        "select": ["a"],
        "manifest_id": MANIFEST,
    }
    return SensorView.model_validate(plain | more)


def message(name: str = "m-1", **more: Any) -> WaitingMessage:
    return WaitingMessage(message_id=name, received_ms=NOW - 5_000, **more)


def concluded(answer: EvaluationAnswer, memory: SensorMemory | None = None, **more: Any) -> Any:
    return conclude(view(**more), answer, memory or SensorMemory(), NOW, select)


def test_a_poll_is_due_at_first_and_then_after_its_interval() -> None:
    assert next_evaluation(view(), SensorMemory(), NOW).is_due(NOW)
    assert next_evaluation(view(), SensorMemory(last_ms=NOW), NOW).due_ms == NOW + 30_000
    assert next_evaluation(view(evaluated_ms=NOW - 10_000), SensorMemory(), NOW).due_ms == NOW + 20_000
    assert next_evaluation(view(), SensorMemory(last_ms=NOW, more=True), NOW).due_ms == NOW
    # A clock that was set back delays it by one interval at most.
    assert next_evaluation(view(evaluated_ms=NOW + 10**9), SensorMemory(), NOW).due_ms == NOW + 30_000


def test_a_failing_sensor_is_evaluated_later_and_later() -> None:
    pauses = [
        (next_evaluation(view(), SensorMemory(last_ms=NOW, failures=count), NOW).due_ms or 0) - NOW
        for count in (1, 2, 3, 20, 10_000)
    ]
    assert pauses == [60_000, 120_000, 240_000, LONGEST_PAUSE_MS, LONGEST_PAUSE_MS]
    slow = view(interval_ms=3_600_000)
    assert next_evaluation(slow, SensorMemory(last_ms=NOW, failures=5), NOW).due_ms == NOW + 3_600_000
    # What was forgotten is on record: the last evaluation failed.
    assert next_evaluation(view(evaluated_ms=NOW, failed=True), SensorMemory(), NOW).due_ms == NOW + 60_000


@pytest.mark.parametrize("what", ["paused", "held"])
def test_a_pause_and_a_hold_stop_polls_and_messages(what: str) -> None:
    for more in ({}, {"message": message()}):
        found = next_evaluation(view(**{what: True}, **more), SensorMemory(), NOW)
        assert (found.due_ms, found.waits is None) == (None, False)


def test_a_message_is_due_at_once_and_one_that_failed_a_little_later() -> None:
    assert next_evaluation(view(kind="push"), SensorMemory(), NOW).due_ms is None
    waiting = view(kind="push", message=message())
    assert next_evaluation(waiting, SensorMemory(last_ms=NOW), NOW).is_due(NOW)
    tried = SensorMemory(last_ms=NOW, trying="m-1", tries=1, failures=1)
    assert next_evaluation(waiting, tried, NOW).due_ms == NOW + 2_000
    assert next_evaluation(view(kind="push", message=message("m-2")), tried, NOW).is_due(NOW)


def test_a_poll_that_finds_nothing_is_no_event_and_an_hour_of_them_is_one() -> None:
    found = concluded(EvaluationAnswer(), cursor="c")
    assert (found.events, found.decision.outcome) == ([], EvaluationOutcome.NOTHING)
    assert concluded(EvaluationAnswer(cursor="c"), cursor="c").events == []
    memory = found.memory
    assert (memory.polls, memory.polls_since_ms) == (1, NOW)
    assert not owes_summary(view(), memory, NOW + SUMMARY_MS - 1)
    assert owes_summary(view(), memory, NOW + SUMMARY_MS)
    (event,) = summarised(view(cursor="c"), memory, NOW).events
    assert isinstance(event, SensorEvaluated)
    assert (event.cursor_after, event.springline["polls"]) == ("c", 1)


def test_a_poll_that_finds_nothing_needs_neither_rows_nor_a_selection() -> None:
    sensor, memory = view(cursor="a"), SensorMemory(last_ms=1_000, failures=2)
    for answer in (EvaluationAnswer(), EvaluationAnswer(cursor="a", skip_reason="nothing new", more=True)):
        quiet = nothing_found(sensor, answer, memory, 5_000)
        assert quiet is not None
        found = conclude(sensor, answer, memory, 5_000, select)
        assert (found.decision, found.memory, found.events) == (quiet.decision, quiet.memory, [])
        assert (quiet.memory.polls, quiet.memory.failures) == (1, 0)
    for answer in (
        EvaluationAnswer(error="no", category="USER_CODE"),
        EvaluationAnswer(requests=[AskedRun(run_key="k")]),
        EvaluationAnswer(cursor="b"),
    ):
        assert nothing_found(sensor, answer, memory, 5_000) is None
    assert nothing_found(view(message=message()), EvaluationAnswer(), memory, 5_000) is None


def series(**more: Any) -> PollSeries | None:
    memory = more.pop("memory", SensorMemory())
    plain: dict[str, Any] = {"begins_ms": NOW, "ends_ms": NOW + 300_000, "most": 21}
    return series_of(view(**{key: more.pop(key) for key in list(more) if key not in plain}), memory, **plain | more)


def test_polls_are_made_in_a_series_until_the_rows_are_to_be_looked_at() -> None:
    assert series() == PollSeries(every_ms=30_000, until_ms=NOW + 300_000, most=21)
    assert series(ends_ms=NOW + 30_001) is not None
    assert series(ends_ms=NOW + 30_000) is None, "the second one would begin when the rows are to be looked at"
    assert series(most=1) is None
    assert series(message=message()) is None
    for polls, until_ms in ((5, NOW + 60_000), (0, NOW + 300_000)):
        memory = SensorMemory(polls=polls, polls_since_ms=NOW + 60_000 - SUMMARY_MS)
        found = series(memory=memory)
        assert found is not None
        assert found.until_ms == until_ms, "an hour of them is put on record"


def order(**more: Any) -> EvaluationOrder:
    plain: dict[str, Any] = {"tenant": "t", "workspace": "w", "location": "flights", "sensor_id": "files"}
    polls = PollSeries(every_ms=30_000, until_ms=NOW + 300_000, most=5)
    return EvaluationOrder(**plain | {"manifest_id": MANIFEST, "timeout_ms": 60_000, "series": polls} | more)


def test_a_series_goes_on_as_long_as_it_finds_nothing() -> None:
    def pause_ms(answer: EvaluationAnswer, *, tries: int = 1, began_ms: int = NOW, **more: Any) -> int | None:
        return pause_to_next_ms(order(**more), answer, tries=tries, began_ms=began_ms)

    assert pause_ms(EvaluationAnswer()) == 30_000
    assert pause_ms(EvaluationAnswer(cursor="c", skip_reason="nothing new"), cursor="c") == 30_000
    assert pause_ms(EvaluationAnswer(), tries=4) == 30_000
    ends = [
        pause_ms(EvaluationAnswer(), tries=5),
        pause_ms(EvaluationAnswer(), began_ms=NOW + 270_000),
        pause_ms(EvaluationAnswer(), series=None),
        pause_ms(EvaluationAnswer(), message=message()),
        pause_ms(EvaluationAnswer(more=True)),
        pause_ms(EvaluationAnswer(cursor="d"), cursor="c"),
        pause_ms(EvaluationAnswer(requests=[AskedRun()])),
        pause_ms(EvaluationAnswer(error="no", category="USER_CODE")),
    ]
    assert ends == [None] * len(ends)


def test_polls_that_nobody_tells_of_are_counted_as_far_as_they_are_sure() -> None:
    polls = PollSeries(every_ms=1_000, until_ms=NOW + 300_000, most=5)
    made = [surely_made(polls, NOW, NOW + later) for later in (-500, 0, 999, 1_000, 2_999, 3_000, 90_000)]
    assert made == [0, 0, 0, 1, 2, 3, 4]
    memory = SensorMemory(last_ms=NOW - 9_000, failures=2)
    assert after_quiet(memory, 0, NOW, NOW) == memory
    told = after_quiet(memory, 3, NOW, NOW + 2_000)
    assert told == SensorMemory(last_ms=NOW + 2_000, polls=3, polls_since_ms=NOW)
    assert after_quiet(told, 2, NOW + 3_000, NOW + 4_000).polls_since_ms == NOW


def test_what_a_sensor_does_has_the_polls_of_which_its_workflow_has_not_heard() -> None:
    doing = SensorDoing(sensor_id="files", evaluations=7, polls=4, next_ms=NOW, every_ms=1_000)
    seen = in_series(doing, tries=1, next_ms=NOW, began_ms=None)
    assert seen == doing, "nothing is made yet"
    seen = in_series(doing, tries=3, next_ms=NOW + 2_000, began_ms=NOW + 2_001)
    assert (seen.polls, seen.evaluations, seen.next_ms, seen.evaluating_since_ms) == (6, 9, NOW + 2_000, NOW + 2_001)


def test_a_poll_that_finds_nothing_behind_a_failure_ends_the_waiting() -> None:
    failed = view(evaluated_ms=NOW, failed=True)
    assert next_evaluation(failed, SensorMemory(), NOW).due_ms == NOW + 60_000
    quiet = nothing_found(failed, EvaluationAnswer(), SensorMemory(last_ms=NOW, failures=1), NOW + 60_000)
    assert quiet is not None
    assert next_evaluation(failed, quiet.memory, NOW + 60_000).due_ms == NOW + 90_000
    # What is on record may be younger than what a workflow knows: another one has evaluated.
    assert next_evaluation(failed, SensorMemory(last_ms=NOW - 1_000), NOW).due_ms == NOW + 60_000


def test_an_evaluation_is_one_event_that_names_what_it_was_made_on() -> None:
    answer = EvaluationAnswer(requests=[AskedRun(run_key="k", partitions=["b", "a", "a"])], cursor="d")
    found = concluded(answer, cursor="c", state_version=7, change_id="01X")
    (event,) = found.events
    assert isinstance(event, SensorEvaluated)
    assert event.trigger_source == PollSource(7)
    assert (event.cursor_before, event.cursor_after, event.expected_state_version) == ("c", "d", 7)
    assert event.springline == {"seen_version": 7, "seen_change": "01X"}
    (request,) = event.run_requests
    assert (request.run_key, request.asset_selection, request.partition_selection, request.code_version) == (
        "sensor:files:k",
        ["a"],
        ["a", "b"],
        MANIFEST,
    )
    assert concluded(answer, cursor="c", state_version=7, change_id="01X").events == found.events
    other = EvaluationAnswer(requests=[AskedRun(run_key="other")], cursor="d")
    (second,) = concluded(other, cursor="c", state_version=7, change_id="01X").events
    assert second.eval_id != event.eval_id


def test_an_absent_cursor_keeps_it() -> None:
    (event,) = concluded(EvaluationAnswer(requests=[AskedRun(run_key="k")]), cursor="c").events
    assert event.cursor_after == "c"


def test_a_request_with_a_config_follows_its_evaluation() -> None:
    answer = EvaluationAnswer(requests=[AskedRun(run_key="k", config={"rows": 3}), AskedRun(run_key="l")])
    evaluation, request = concluded(answer).events
    assert isinstance(request, RunRequested)
    assert (request.run_key, request.springline) == ("sensor:files:k", {"config": {"rows": 3}})
    assert request.request_fingerprint == evaluation.run_requests[0].request_fingerprint


def failing(terms: Any) -> list[str]:
    raise BadSelection("zzz", "the selection 'zzz' names no asset.", "There are a.")


BAD: list[tuple[str, EvaluationAnswer]] = [
    ("CURSOR_TOO_LARGE", EvaluationAnswer(cursor="x" * 16_385)),
    ("CURSOR_TOO_LARGE", EvaluationAnswer(cursor="\u00e4" * 9_000)),
    ("BAD_CURSOR", EvaluationAnswer(cursor="a\0b")),
    ("BAD_CURSOR", EvaluationAnswer(cursor="a\ud800")),
    ("TOO_MANY_RUNS", EvaluationAnswer(requests=[AskedRun(run_key=str(n), config={"n": n}) for n in range(500)])),
    ("BAD_RESULT", EvaluationAnswer(requests=[AskedRun(run_key="k", config={"share": 0.5})])),
    ("BAD_RESULT", EvaluationAnswer(requests=[AskedRun(run_key="k", config={"text": "x" * 20_000})])),
    ("BAD_RESULT", EvaluationAnswer(requests=[AskedRun(run_key="a\nb")])),
    ("BAD_RESULT", EvaluationAnswer(requests=[AskedRun(run_key="x" * 600)])),
    ("BAD_RESULT", EvaluationAnswer(requests=[AskedRun(run_key="k"), AskedRun(run_key="k", partitions=["p"])])),
    ("TIMEOUT", EvaluationAnswer(error="it took longer than its timeout, 60 s", reason_code="TIMEOUT")),
]


def is_an_error_on_record(reason: str, answer: EvaluationAnswer) -> None:
    """Assert that an evaluation with this answer failed for the reason, asks for nothing and keeps its cursor."""
    found = concluded(answer, cursor="c", state_version=3)
    (event,) = found.events
    assert isinstance(event.status, EvalError)
    assert (event.cursor_after, event.run_requests) == ("c", [])
    assert event.springline["reason_code"] == reason
    assert (found.decision.outcome, found.decision.reason_code) == (EvaluationOutcome.ERROR, reason)
    assert found.memory.failures == 1


@pytest.mark.parametrize(("reason", "answer"), BAD)
def test_what_cannot_be_is_an_error_on_record_that_asks_for_nothing(reason: str, answer: EvaluationAnswer) -> None:
    is_an_error_on_record(reason, answer)


def test_far_too_many_runs_are_an_error_on_record_too() -> None:
    # Apart: they take seconds to make, which each process of a run of the tests would do to collect them.
    asked = [AskedRun(run_key=str(number)) for number in range(100_000)]
    is_an_error_on_record("TOO_MANY_RUNS", EvaluationAnswer(requests=asked))


def test_a_selection_of_nothing_is_an_error_for_the_whole_evaluation() -> None:
    answer = EvaluationAnswer(requests=[AskedRun(run_key="k", select=["zzz"])], cursor="d")
    found = conclude(view(cursor="c"), answer, SensorMemory(), NOW, failing)
    assert (found.decision.reason_code, found.decision.cursor_after) == ("CANNOT_SELECT", "c")
    nothing = conclude(view(select=[]), EvaluationAnswer(requests=[AskedRun()]), SensorMemory(), NOW, select)
    assert nothing.decision.reason_code == "CANNOT_SELECT"


def test_a_message_is_tried_again_and_then_given_up_with_its_reason() -> None:
    memory = SensorMemory()
    for number in range(1, MESSAGE_TRIES):
        found = concluded(EvaluationAnswer(error="no luck"), memory, kind="push", message=message())
        (event,) = found.events
        # Its own key stays free: the message goes on waiting.
        assert isinstance(event.trigger_source, PollSource)
        memory = found.memory
        assert (memory.trying, memory.tries) == ("m-1", number)
    found = concluded(EvaluationAnswer(error="no luck"), memory, kind="push", message=message())
    (event,) = found.events
    assert event.trigger_source == PushSource("m-1")
    assert f"given up after {MESSAGE_TRIES} tries" in event.status.message
    assert found.memory == SensorMemory(last_ms=NOW)


def test_a_lost_worker_costs_a_message_no_try() -> None:
    memory = SensorMemory()
    for _ in range(20):
        found = concluded(EvaluationAnswer(error="gone", counts=False), memory, kind="push", message=message())
        memory = found.memory
        assert isinstance(found.events[0].trigger_source, PollSource)
    assert memory.tries == 0


def test_messages_that_are_evaluated_together_come_to_what_they_would_alone() -> None:
    first = view(kind="push", message=message("m-1"), cursor="c0", state_version=7, failed=True, evaluated_ms=1)
    answers = [EvaluationAnswer(cursor="c1"), EvaluationAnswer(requests=[AskedRun()]), EvaluationAnswer(cursor="c3")]
    together = answers[0].model_copy(update={"further": answers[1:]})
    before = SensorMemory(failures=2, trying="m-1", tries=2)
    made = conclude_each(first, [message("m-2"), message("m-3"), message("m-4")], together, before, NOW, select)
    alone, memory, cursor = [], before, "c0"
    for number, answer in enumerate(answers):
        at = view(kind="push", message=message(f"m-{number + 1}"), cursor=cursor, state_version=7 + number)
        found = conclude(at, answer, memory, NOW, select)
        memory, cursor = found.memory, found.decision.cursor_after or cursor
        alone.append(found)
    assert [one.found.events for one in made] == [one.events for one in alone]
    assert [one.found.decision for one in made] == [one.decision for one in alone]
    assert [one.found.decision.cursor_after for one in made] == ["c1", "c1", "c3"]
    assert made[-1].found.memory == memory


def test_what_was_found_behind_a_failure_counts_for_nothing() -> None:
    first = view(kind="push", message=message("m-1"))
    large = EvaluationAnswer(cursor="x" * 1_000_000)
    answer = EvaluationAnswer(further=[large, EvaluationAnswer(requests=[AskedRun(run_key="k")])])
    made = conclude_each(first, [message("m-2"), message("m-3")], answer, SensorMemory(), NOW, select)
    assert [one.found.decision.reason_code for one in made] == [None, "CURSOR_TOO_LARGE"]
    assert made[-1].found.memory.trying == "m-2"


def test_what_is_told_of_an_evaluation_is_json() -> None:
    found = concluded(EvaluationAnswer(requests=[AskedRun(run_key="k")]))
    assert json.loads(found.decision.model_dump_json())["run_count"] == 1
