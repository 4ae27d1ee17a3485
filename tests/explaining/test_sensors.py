"""Why a sensor asks for nothing, and what its evaluations came to: from what the real steps and changes recorded."""

from __future__ import annotations

from typing import Any

import pytest

from springline.control.sensors.messages import AskedRun, EvaluationAnswer, EvaluationOrder, SensorAsked, SensorDecision
from springline.errors import Code, Refused
from springline.explaining.reading import explain
from springline.explaining.story import Explanation, Question, Verdict
from springline.explaining.subjects import SUBJECTS
from springline.published.reader import PublishedReader
from springline.sensors.changing import Sensors
from springline.storage.scoped import ScopedStore
from tests.control.payloads import evaluated, hold, run_request
from tests.schedules.test_evaluating import Place
from tests.support.definitions import asset, part
from tests.support.local_api import ACME
from tests.support.local_sensors import LocalSensors

FILES = {"sensor_id": "files", "kind": "poll", "interval_seconds": 30, "select": ["raw"]}
HOOK = {"sensor_id": "hook", "kind": "push", "select": ["raw"]}
RAISES = EvaluationAnswer(error="ValueError: no bucket", category="USER_CODE", reason_code="USER_CODE")
MINUTE = 60_000
HOUR = 3_600_000


class Sensed(Place):
    """A workspace with sensors; `finds`: what their functions find next."""

    def __init__(self) -> None:
        super().__init__()
        self.local = LocalSensors(self.store, self.ledger)
        self.sensors = Sensors(
            ScopedStore(self.store, ACME), PublishedReader(self.store), self.manifests, self.ledger, ACME
        )

    async def finds(self, sensor_id: str, answer: EvaluationAnswer) -> SensorDecision:
        async def act(order: EvaluationOrder) -> EvaluationAnswer:
            return answer

        self.local.acts[sensor_id] = act
        return await self.local.evaluate(ACME, sensor_id, SensorAsked())

    async def told(self, identity: str, subject: str = "sensor", **about: Any) -> Explanation:
        question = Question(identity=identity, now_ms=self.now_ms(), **about)
        return await explain(self.store, PublishedReader(self.store), self.manifests, ACME, SUBJECTS[subject], question)


@pytest.fixture
async def place() -> Sensed:
    place = Sensed()
    await place.deploy(part("flights", asset("raw"), sensors=[FILES, HOOK]))
    return place


def asks(*keys: str, cursor: str | None = None, **more: Any) -> EvaluationAnswer:
    return EvaluationAnswer(requests=[AskedRun(run_key=key, **more) for key in keys], cursor=cursor)


async def test_a_sensor_that_polls_names_its_last_evaluation_and_the_runs_it_asked_for(place: Sensed) -> None:
    done = await place.finds("files", asks("a", "b", cursor="b"))
    found = await place.told("files")
    assert found.verdict is Verdict.NOT_DUE
    assert f"{done.eval_id}" in found.answer
    assert "asked for 2 run(s): sensor:files:a, sensor:files:b" in found.answer
    assert "Its cursor is 'b'" in found.answer
    assert found.waits_for == ["its function to find something"]
    told = [(one.who, one.event) for one in found.decisions]
    assert told == [("SensorEvaluator", "sensor_evaluated"), *[("sensor files", "run_requested")] * 2]


async def test_a_pause_is_told_with_who_and_when_also_if_the_cursor_was_set_behind_it(place: Sensed) -> None:
    await place.finds("files", asks("a", cursor="a"))
    await place.sensors.change("files", "paused", "ann")
    found = await place.told("files")
    assert found.verdict is Verdict.OFF
    assert "ann paused it" in found.answer
    assert found.next_steps == ["springline sensor resume files"]
    await place.sensors.change("files", "cursor_set", "bob", "z")
    found = await place.told("files")
    assert "ann paused it" in found.answer
    assert "Its cursor is 'z', set by bob" in found.answer
    assert [one.what for one in found.decisions if one.who in ("ann", "bob")] == [
        "paused sensor files",
        "set the cursor of sensor files to 'z'",
    ]
    # Without the events of then, the rows say who changed it last.
    later = await place.told("files", since_ms=place.now_ms() + HOUR)
    assert "its cursor was changed meanwhile, by bob" in later.answer
    assert later.decisions == []


async def test_a_failing_sensor_tells_its_error_how_often_and_when_it_is_tried_again(place: Sensed) -> None:
    await place.finds("files", asks("a", cursor="a"))
    for _ in range(3):
        await place.finds("files", RAISES)
    found = await place.told("files")
    assert (found.verdict, found.reason_code) == (Verdict.FAILED, "USER_CODE")
    assert "The last 3 evaluation(s) failed, the latest with: ValueError: no bucket" in found.answer
    # 30 s, doubled three times.
    assert "in 3 min" in found.answer
    (waits,) = found.waits_for
    assert waits.startswith("its next try, not before")
    failed = await place.told(found.next_steps[0].split()[-1], "evaluation")
    assert (failed.verdict, failed.reason_code) == (Verdict.FAILED, "USER_CODE")
    assert "Its cursor stayed 'a'" in failed.answer
    await place.finds("files", asks("b", cursor="b"))
    assert (await place.told("files")).verdict is Verdict.NOT_DUE


async def test_a_message_that_fails_is_tried_again_and_then_given_up(place: Sensed) -> None:
    await place.sensors.push("hook", "m1", {"file": "a"})
    await place.sensors.push("hook", "m2", {"file": "b"})
    await place.finds("hook", RAISES)
    found = await place.told("hook")
    assert found.verdict is Verdict.FAILED
    assert "2 message(s) wait(s), the oldest, m1" in found.answer
    assert "A message is answered with its error after 5 tries" in found.answer
    # A second, doubled once.
    assert "in 1 s" in found.answer or "in 2 s" in found.answer or "which is due" in found.answer
    for _ in range(4):
        given_up = await place.finds("hook", RAISES)
    found = await place.told("hook")
    assert found.verdict is Verdict.UNDER_WAY
    assert "1 message(s) wait(s), the oldest, m2" in found.answer
    assert "given up after 5 tries" in found.answer
    evaluation = await place.told(given_up.eval_id or "", "evaluation")
    assert (evaluation.verdict, "after message m1" in evaluation.answer) == (Verdict.FAILED, True)
    await place.finds("hook", EvaluationAnswer())
    assert (await place.told("hook")).waits_for == ["a message"]


async def test_a_message_that_nobody_evaluates_is_overdue(place: Sensed) -> None:
    await place.sensors.push("hook", "m1", {})
    assert (await place.told("hook")).verdict is Verdict.UNDER_WAY
    place.ahead_ms = 3 * MINUTE
    found = await place.told("hook")
    assert found.verdict is Verdict.OVERDUE
    assert found.waits_for == ["its workflow", "a worker of code location flights"]
    assert "springline repair run" in found.next_steps
    await place.append(hold(changed_by="ann", reason="moving"))
    assert (await place.told("hook")).verdict is Verdict.HELD


async def test_a_poll_of_which_nothing_is_on_record_for_hours_is_overdue(place: Sensed) -> None:
    await place.finds("files", asks("a"))
    place.ahead_ms = 2 * HOUR - MINUTE
    assert (await place.told("files")).verdict is Verdict.NOT_DUE
    place.ahead_ms = 2 * HOUR + 5 * MINUTE
    assert (await place.told("files")).verdict is Verdict.OVERDUE
    # What lets it go on again is the beginning of another such time.
    await place.sensors.change("files", "reset", "ann")
    place.ahead_ms = 2 * HOUR - MINUTE
    assert (await place.told("files")).verdict is Verdict.NOT_DUE


async def test_a_sensor_that_left_its_file_says_so(place: Sensed) -> None:
    await place.finds("files", asks("a", cursor="a"))
    await place.deploy(part("flights", asset("raw"), sensors=[HOOK]))
    found = await place.told("files")
    assert found.verdict is Verdict.OFF
    assert "it has left its file" in found.answer
    assert "asked for 1 run(s): sensor:files:a" in found.answer


async def test_an_evaluation_tells_what_became_of_its_runs(place: Sensed) -> None:
    one = await place.finds("files", asks("a", cursor="1"))
    found = await place.told(one.eval_id or "", "evaluation")
    # The launcher is not there, and the request is as young as the real clock says.
    assert found.verdict in (Verdict.UNDER_WAY, Verdict.OVERDUE)
    assert "it asked for 1 run(s), and its cursor moved from none to '1'" in found.answer
    assert {event.event for event in found.decisions} == {"sensor_evaluated", "run_requested"}
    await place.append(hold(changed_by="ann"))
    assert (await place.told(one.eval_id or "", "evaluation")).verdict is Verdict.HELD


async def test_a_key_that_was_asked_for_before_is_told(place: Sensed) -> None:
    await place.finds("files", asks("a", "b", cursor="1"))
    again = await place.finds("files", asks("a", "c", cursor="2"))
    found = await place.told(again.eval_id or "", "evaluation")
    assert "Key sensor:files:a was asked for before, and is that run." in found.answer
    other = await place.finds("files", asks("b", cursor="3", partitions=["2024-01-01"]))
    found = await place.told(other.eval_id or "", "evaluation")
    assert "Key sensor:files:b stands for an older request of another kind" in found.answer


async def test_an_evaluation_without_runs_says_what_moved(place: Sensed) -> None:
    moved = await place.finds("files", EvaluationAnswer(cursor="9"))
    found = await place.told(moved.eval_id or "", "evaluation")
    assert found.verdict is Verdict.SKIPPED
    assert "it asked for no run, and its cursor moved from none to '9'" in found.answer


async def test_an_evaluation_on_an_older_state_counts_for_nothing(place: Sensed) -> None:
    await place.append(evaluated("e1", sensor_id="theirs"))
    stale = evaluated("e2", sensor_id="theirs", expected_state_version=0, run_requests=[run_request("k9")])
    await place.append(stale)
    found = await place.told("e2", "evaluation")
    assert found.verdict is Verdict.SKIPPED
    assert "on version 0 of its state, which was another one by then" in found.answer
    sensor = await place.told("theirs")
    assert sensor.verdict is Verdict.OFF
    assert "1 evaluation(s) of the last day were made on an older state" in sensor.answer


@pytest.mark.parametrize(("subject", "field"), [("sensor", "sensor_id"), ("evaluation", "eval_id")])
async def test_what_is_not_there_is_refused(place: Sensed, subject: str, field: str) -> None:
    with pytest.raises(Refused) as raised:
        await place.told("nobody", subject)
    assert (raised.value.refusal.code, raised.value.refusal.field) == (Code.NOT_FOUND, field)
    assert "springline sensor" in (raised.value.refusal.remedy or "")
