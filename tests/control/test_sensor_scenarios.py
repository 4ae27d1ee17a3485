"""What other systems got wrong about sensors, by the report that tells of it: none of it happens here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from springline.control.sensors.deciding import Concluded, conclude, run_keys_of
from springline.control.sensors.messages import (
    AskedRun,
    EvaluationAnswer,
    EvaluationOutcome,
    SensorMemory,
    SensorView,
)
from springline.control.sensors.polling import next_evaluation
from springline.errors import Refusal
from springline.ledger.envelope import as_event
from springline.ledger.events import Payload, RunRequested
from springline.ledger.request import AppendRequest, NewEvent
from springline.sensors.reading import TABLES, TABLES_OF_KEYS, asked_before, sensor_view
from tests.control.ledger import Ledger
from tests.control.sensor_world import deployed, select


class Watched:
    """A workspace with one sensor, and evaluators that look, conclude and append."""

    def __init__(self, kind: str = "poll") -> None:
        self.ledger = Ledger()
        self.deployed = deployed("files", kind)
        self._requests = 0

    def view(self) -> SensorView:
        return sensor_view(self.ledger.published(TABLES), self.deployed)

    def conclude(self, view: SensorView, *run_keys: str | None, cursor: str | None = None) -> Concluded:
        answer = EvaluationAnswer(requests=[AskedRun(run_key=key) for key in run_keys], cursor=cursor)
        before = asked_before(self.ledger.published(TABLES_OF_KEYS), run_keys_of(view, answer))
        return conclude(view, answer, SensorMemory(), self.ledger.now_ms, select, before)

    def append(self, events: Sequence[Payload]) -> Refusal | None:
        return self.send(*(as_event(event) for event in events))

    def send(self, *events: dict[str, Any]) -> Refusal | None:
        self._requests += 1
        request_id = f"01946b1c-0000-7000-8000-{self._requests:012x}"
        listed = [NewEvent(data=one) for one in events]
        (outcome,) = self.ledger.round(AppendRequest(request_id=request_id, events=listed))
        return outcome.refusal

    def keys(self) -> Counter[str]:
        return Counter(event.data.run_key for event in self.ledger.events if isinstance(event.data, RunRequested))


def test_dagster_33962_two_daemons_after_a_rollout_fire_once() -> None:
    watched = Watched()
    old, new = watched.view(), watched.view()
    first = watched.conclude(old, None, None, cursor="2")
    second = watched.conclude(new, None, None, None, cursor="3")
    assert watched.append(first.events) is None
    refusal = watched.append(second.events)
    assert refusal is None or refusal.code == "EVENT_CONFLICT"
    assert len(watched.keys()) == 2, "the second daemon, who saw more, asks for the third alone, and later"
    assert watched.view().cursor == "2"
    assert watched.append(watched.conclude(watched.view(), None, cursor="3").events) is None
    assert len(watched.keys()) == 3


def test_dagster_9360_and_27990_one_run_key_is_one_run_in_one_evaluation_and_over_all() -> None:
    watched = Watched()
    assert watched.append(watched.conclude(watched.view(), "k", "k", cursor="1").events) is None
    assert watched.append(watched.conclude(watched.view(), "k", cursor="2").events) is None
    assert len(watched.ledger.state.run_keys.rows) == 1
    assert not list(watched.ledger.state.rows("run_key_conflicts"))


def test_a_sensor_that_names_all_that_is_there_each_time_records_what_is_new() -> None:
    """So the peers' own examples are written: each poll asks for every file in a folder, under its name."""
    watched = Watched()
    assert watched.append(watched.conclude(watched.view(), "a", "b").events) is None
    for _ in range(3):
        quiet = watched.conclude(watched.view(), "a", "b")
        assert quiet.events == [], "what was asked for is on record once"
        assert quiet.decision.outcome is EvaluationOutcome.NOTHING
        assert quiet.decision.message == "2 runs that it asks for were asked for before"
    new = watched.conclude(watched.view(), "a", "b", "c")
    assert (new.decision.outcome, new.decision.run_count) == (EvaluationOutcome.TRIGGERED, 1)
    assert new.decision.message == "2 runs that it asks for were asked for before"
    assert watched.append(new.events) is None
    assert watched.keys() == {f"sensor:files:{key}": 1 for key in "abc"}
    # A poll without a key asks for a run each time it is made.
    assert watched.append(watched.conclude(watched.view(), "a", None).events) is None
    assert len(watched.keys()) == 4
    # What moves the cursor is recorded whole: people are told that the key was asked for before.
    moved = watched.conclude(watched.view(), "a", "b", "c", cursor="3")
    assert (moved.decision.outcome, moved.decision.run_count) == (EvaluationOutcome.TRIGGERED, 3)
    assert watched.append(moved.events) is None
    assert watched.view().cursor == "3"
    assert len(watched.ledger.state.run_keys.rows) == 4


def test_another_request_under_a_key_that_is_taken_is_on_record_as_a_conflict_once() -> None:
    watched = Watched()
    assert watched.append(watched.conclude(watched.view(), "a").events) is None
    outcomes = []
    for _ in range(3):
        view = watched.view()
        answer = EvaluationAnswer(requests=[AskedRun(run_key="a", partitions=["2026-01-01"])])
        before = asked_before(watched.ledger.published(TABLES_OF_KEYS), run_keys_of(view, answer))
        found = conclude(view, answer, SensorMemory(), watched.ledger.now_ms, select, before)
        outcomes.append(found.decision.outcome)
        assert not found.events or watched.append(found.events) is None
    assert outcomes == [EvaluationOutcome.TRIGGERED, EvaluationOutcome.NOTHING, EvaluationOutcome.NOTHING]
    assert len(list(watched.ledger.state.rows("run_key_conflicts"))) == 1


def test_a_message_is_answered_by_an_evaluation_that_names_what_was_asked_for_before() -> None:
    watched = Watched("push")
    for number in range(2):
        watched.send({"type": "springline_sensor_message", "sensor_id": "files", "message_id": f"m-{number}"})
        assert watched.append(watched.conclude(watched.view(), "a").events) is None
    assert watched.view().message is None
    assert len(watched.ledger.state.run_keys.rows) == 1


def test_dagster_15155_an_evaluation_of_many_counts_whole_after_a_crash_at_its_middle() -> None:
    watched = Watched()
    found = watched.conclude(watched.view(), *(str(number) for number in range(60)), cursor="60")
    # Whoever was to append is gone: nothing counts, and the next one asks for the same, once.
    again = watched.conclude(watched.view(), *(str(number) for number in range(60)), cursor="60")
    assert again.events == found.events
    assert watched.append(again.events) is None
    assert watched.append(found.events) is None
    assert set(watched.keys().values()) == {1}
    assert len(watched.keys()) == 60


def test_dagster_11631_a_failed_sensor_is_resumed_without_deleting_anything() -> None:
    watched = Watched()
    failed = conclude(watched.view(), EvaluationAnswer(error="no luck"), SensorMemory(), 0, select)
    assert watched.append(failed.events) is None
    watched.send(changed("paused"))
    assert next_evaluation(watched.view(), SensorMemory(), watched.ledger.now_ms).due_ms is None
    watched.send(changed("resumed"))
    assert next_evaluation(watched.view(), SensorMemory(), watched.ledger.now_ms).due_ms is not None
    assert watched.append(watched.conclude(watched.view(), "k", cursor="1").events) is None
    assert watched.keys() == {"sensor:files:k": 1}


def test_dagster_17080_a_backlog_is_visible() -> None:
    watched = Watched("push")
    for number in range(12):
        message = {"type": "springline_sensor_message", "sensor_id": "files", "message_id": f"m-{number:02}"}
        assert watched.send(message) is None
        watched.ledger.now_ms += 1_000
    view = watched.view()
    assert view.backlog == 12
    assert view.message is not None
    assert view.message.message_id == "m-00", "the oldest is first"
    assert view.oldest_ms is not None
    assert watched.ledger.now_ms - view.oldest_ms >= 12_000


def test_temporal_11162_a_full_buffer_skips_nothing_and_reports_no_success() -> None:
    watched = Watched()
    too_many = watched.conclude(watched.view(), *(str(number) for number in range(501)), cursor="501")
    assert watched.append(too_many.events) is None
    assert watched.view().cursor is None, "nothing of it counts, and the cursor stays"
    assert watched.keys() == {}
    assert too_many.decision.reason_code == "TOO_MANY_RUNS"


def test_prefect_3629_a_run_key_never_expires() -> None:
    watched = Watched()
    assert watched.append(watched.conclude(watched.view(), "k", cursor="1").events) is None
    watched.ledger.now_ms += 400 * 86_400_000
    watched.send(changed("reset"))
    assert watched.append(watched.conclude(watched.view(), "k", cursor="1").events) is None
    assert len(watched.ledger.state.run_keys.rows) == 1


def test_a_cursor_that_goes_backwards_makes_no_run_again() -> None:
    watched = Watched()
    for cursor, keys in (("b", ["a", "b"]), ("a", ["b"]), ("b", ["b", "c"])):
        assert watched.append(watched.conclude(watched.view(), *keys, cursor=cursor).events) is None
    assert sorted(watched.ledger.state.run_keys.rows) == ["sensor:files:a", "sensor:files:b", "sensor:files:c"]
    assert watched.view().cursor == "b"


def test_an_evaluation_that_was_under_way_does_not_undo_an_operators_cursor() -> None:
    watched = Watched()
    assert watched.append(watched.conclude(watched.view(), "a", cursor="1").events) is None
    under_way = watched.conclude(watched.view(), "b", cursor="2")
    watched.send(changed("cursor_set", cursor="9"))
    refusal = watched.append(under_way.events)
    assert refusal is not None
    assert refusal.code == "EVENT_CONFLICT"
    assert watched.view().cursor == "9"
    # An evaluation that says nothing of a cursor keeps the operator's, and after a reset none.
    assert watched.append(watched.conclude(watched.view(), "c").events) is None
    assert watched.view().cursor == "9"
    watched.send(changed("reset"))
    assert watched.append(watched.conclude(watched.view(), "d").events) is None
    assert watched.view().cursor is None


def changed(change: str, **more: Any) -> dict[str, Any]:
    changed.count += 1  # type: ignore[attr-defined]
    name = f"c{changed.count}"  # type: ignore[attr-defined]
    plain = {"type": "springline_sensor_changed", "sensor_id": "files", "change_id": name, "changed_by": "u"}
    return {**plain, "change": change, **more}


changed.count = 0  # type: ignore[attr-defined]
