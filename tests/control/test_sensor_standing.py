"""When a sensor should have been evaluated, by what is on record of it."""

from __future__ import annotations

from typing import Any

import pytest

from springline.control.sensors.messages import SensorMemory, SensorView, WaitingMessage
from springline.control.sensors.polling import SUMMARY_MS, next_evaluation, owes_summary
from springline.control.sensors.standing import LATE_MS, patience_ms, stuck_since_ms

T0 = 1_700_000_000_000
TIMEOUT = 60_000
MESSAGE = WaitingMessage(message_id="m", received_ms=T0)


def view(kind: str = "poll", **more: Any) -> SensorView:
    return SensorView(
        sensor_id="s", kind=kind, location="l", interval_ms=30_000, timeout_ms=TIMEOUT, manifest_id="m", **more
    )


def test_a_message_is_late_a_minute_behind_what_its_evaluation_may_take() -> None:
    waits = view("push", message=MESSAGE, oldest_ms=T0, backlog=1)
    late_ms = T0 + TIMEOUT + LATE_MS
    assert stuck_since_ms(waits, 0, late_ms - 1) is None
    assert stuck_since_ms(waits, 0, late_ms + 5) == late_ms
    # What was recorded of it since, or lets it go on, is the beginning of another such time.
    assert stuck_since_ms(waits, late_ms, late_ms + 5) is None
    assert stuck_since_ms(waits.model_copy(update={"evaluated_ms": late_ms}), 0, late_ms + 5) is None


@pytest.mark.parametrize("change", [{"paused": True}, {"held": True}])
def test_what_is_to_stand_still_is_never_late(change: dict[str, Any]) -> None:
    for one in (view(), view("push", message=MESSAGE, oldest_ms=T0)):
        assert stuck_since_ms(one, 0, T0 + 10**9) is not None
        assert stuck_since_ms(one.model_copy(update=change), 0, T0 + 10**9) is None


def test_a_push_sensor_without_messages_waits_for_ever() -> None:
    assert patience_ms(view("push")) is None
    assert stuck_since_ms(view("push"), 0, T0 * 2) is None


@pytest.mark.parametrize("interval_ms", [1_000, 30_000, 3_600_000, 86_400_000])
@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("lost", [False, True])
def test_a_sensor_that_is_evaluated_when_it_is_due_is_never_late(interval_ms: int, failed: bool, lost: bool) -> None:
    """Polls that find nothing until they are summed up, or the next failure; once the workflow is begun anew."""
    one = view(evaluated_ms=T0, failed=failed).model_copy(update={"interval_ms": interval_ms})
    memory = SensorMemory(last_ms=T0, failures=9 if failed else 0)
    is_lost, now = lost, T0
    while True:
        due = next_evaluation(one, memory, now).due_ms
        assert due is not None
        now = due + TIMEOUT
        if failed or owes_summary(one, memory, now):
            break
        if is_lost and memory.polls_since_ms is not None and now - memory.polls_since_ms > SUMMARY_MS // 2:
            is_lost, memory = False, SensorMemory()
        since = memory.polls_since_ms if memory.polls else due
        memory = SensorMemory(last_ms=due, polls=memory.polls + 1, polls_since_ms=since)
    assert stuck_since_ms(one, T0, now) is None
