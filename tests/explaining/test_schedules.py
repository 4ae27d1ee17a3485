"""Why a schedule ran or not at an instant: every answer from what the real evaluator and the real changes recorded."""

from __future__ import annotations

from typing import Any

import pytest

from springline.control.schedules.deciding import ScheduleView, TickReason, jitter_of
from springline.definitions.manifest import ScheduleDefinition
from springline.errors import Code, Refused
from springline.explaining.reading import explain
from springline.explaining.story import Explanation, Question, Verdict
from springline.explaining.subjects import SUBJECTS
from springline.ledger.timestamps import format_ms
from springline.published.reader import PublishedReader
from springline.schedules.changing import switched
from tests.schedules.test_evaluating import Place
from tests.support.definitions import asset, part
from tests.support.local_api import ACME

MINUTE = 60_000
EVERY_MINUTE = ScheduleDefinition(cron="* * * * *", select=["raw"], max_catchup_ticks=100)


@pytest.fixture
async def place() -> Place:
    place = Place()
    await place.deploy(part("flights", asset("raw")))
    return place


async def told(place: Place, schedule_id: str = "s", at_ms: int | None = None, **about: Any) -> Explanation:
    question = Question(identity=schedule_id, now_ms=place.now_ms(), at_ms=at_ms, **about)
    reader = PublishedReader(place.store)
    return await explain(place.store, reader, place.manifests, ACME, SUBJECTS["schedule"], question)


def next_minute(place: Place, number: int = 1) -> int:
    return (place.now_ms() // MINUTE + number) * MINUTE


async def hold(place: Place, *, held: bool, change_id: str) -> None:
    await place.append(
        {
            "type": "springline_hold_changed",
            "change_id": change_id,
            "held": held,
            "changed_by": "ann",
            "reason": "moving",
        }
    )


async def test_an_instant_that_ran_names_its_run_and_who_decided(place: Place) -> None:
    await place.define("s", EVERY_MINUTE)
    due = next_minute(place)
    place.ahead_ms = 3 * MINUTE
    await place.evaluate()
    found = await told(place, at_ms=due)
    # The launcher is not there, and the request is as young as the real clock says.
    assert found.verdict in (Verdict.UNDER_WAY, Verdict.OVERDUE)
    assert f"sched:s:{due // 1_000}" in found.answer
    ticks = [one for one in found.decisions if one.event == "schedule_ticked"]
    assert {one.who for one in ticks} == {"ScheduleEvaluator"}
    assert any(format_ms(due) in one.what for one in ticks)
    assert found.is_complete


async def test_an_instant_to_come_and_one_that_never_is(place: Place) -> None:
    await place.define("s", EVERY_MINUTE)
    due = next_minute(place, 2)
    assert (await told(place, at_ms=due)).verdict is Verdict.NOT_DUE
    odd = await told(place, at_ms=due + 7_000)
    assert odd.verdict is Verdict.NO_INSTANT
    assert f"the next is {format_ms(due + MINUTE)}" in odd.answer
    before = await told(place, at_ms=due - 100 * MINUTE)
    assert before.verdict is Verdict.NO_INSTANT
    assert "No definition held then" in before.answer


async def test_an_instant_that_nobody_decides_on_is_overdue_and_says_what_to_do(place: Place) -> None:
    await place.define("s", EVERY_MINUTE)
    due = next_minute(place)
    place.ahead_ms = 5 * MINUTE
    for found in (await told(place, at_ms=due), await told(place)):
        assert found.verdict is Verdict.OVERDUE
        assert found.waits_for == ["its evaluator"]
        assert "springline repair run" in found.next_steps
    await place.evaluate()
    assert (await told(place)).verdict is Verdict.NOT_DUE


async def test_a_pause_is_told_while_it_lasts_and_afterwards(place: Place) -> None:
    await place.define("s", EVERY_MINUTE)
    await place.change("s", switched("s", enabled=False))
    due = next_minute(place)
    place.ahead_ms = 3 * MINUTE
    during = await told(place, at_ms=due)
    assert (during.verdict, during.reason_code) == (Verdict.OFF, TickReason.PAUSED)
    assert during.next_steps == ["springline schedule resume s"]
    assert (await told(place)).verdict is Verdict.OFF
    await place.change("s", switched("s", enabled=True))
    after = await told(place, at_ms=due)
    assert (after.verdict, after.reason_code) == (Verdict.SKIPPED, TickReason.PAUSED)
    (tick,) = [one for one in after.decisions if format_ms(due) in one.what and one.event == "schedule_ticked"]
    assert tick.who == "the change of its definition"


async def test_a_long_outage_is_one_tick_that_stands_for_each_of_its_instants(place: Place) -> None:
    await place.define("s", EVERY_MINUTE.model_copy(update={"max_catchup_ticks": 1}))
    first = next_minute(place)
    place.ahead_ms = 60 * MINUTE
    await place.evaluate()
    for number in (0, 20, 40):
        found = await told(place, at_ms=first + number * MINUTE)
        assert (found.verdict, found.reason_code) == (Verdict.SKIPPED, TickReason.CATCHUP_LIMIT)
        assert "It stands for" in found.answer
    assert "springline schedule trigger s" in found.next_steps


async def test_a_hold_is_told_with_who_and_why(place: Place) -> None:
    await place.define("s", EVERY_MINUTE)
    due = next_minute(place)
    await hold(place, held=True, change_id="c1")
    place.ahead_ms = 5 * MINUTE
    found = await told(place, at_ms=due)
    assert found.verdict is Verdict.HELD
    assert "by ann" in found.answer
    assert "(moving)" in found.answer
    assert found.waits_for == ["the end of the hold"]
    await hold(place, held=False, change_id="c2")
    assert (await told(place, at_ms=due)).verdict is Verdict.OVERDUE


async def test_an_instant_in_line_behind_a_run_waits_for_its_end(place: Place) -> None:
    await place.define("s", EVERY_MINUTE.model_copy(update={"overlap": "queue_one", "max_catchup_ticks": 5}))
    place.ahead_ms = 90_000
    await place.evaluate()
    place.ahead_ms += MINUTE
    due = (place.now_ms() // MINUTE) * MINUTE
    await place.evaluate()
    found = await told(place, at_ms=due)
    assert (found.verdict, found.reason_code) == (Verdict.WAITS, TickReason.OVERLAP)
    assert found.waits_for == ["the end of a run of the schedule"]


async def test_what_ran_at_once_is_skipped_with_its_reason(place: Place) -> None:
    await place.define("s", EVERY_MINUTE.model_copy(update={"overlap": "skip"}))
    place.ahead_ms = 90_000
    await place.evaluate()
    place.ahead_ms += MINUTE
    due = (place.now_ms() // MINUTE) * MINUTE
    await place.evaluate()
    found = await told(place, at_ms=due)
    assert (found.verdict, found.reason_code) == (Verdict.SKIPPED, TickReason.OVERLAP)


async def test_an_older_definition_decides_on_instants_before_the_change(place: Place) -> None:
    """Behind the change it is due at half past each minute: an instant of before is judged by what held then."""
    await place.define("s", ScheduleDefinition(cron="0 0 1 1 *", select=["raw"]))
    early = next_minute(place)
    place.ahead_ms = 2 * MINUTE
    await place.define("s", EVERY_MINUTE)
    found = await told(place, at_ms=early)
    assert found.verdict is Verdict.NO_INSTANT
    assert "01-01T00:00:00Z" in found.answer
    changes = [one for one in found.decisions if one.event == "schedule_definition_upserted"]
    assert len(changes) == 2


async def test_a_definition_that_left_its_file_is_off(place: Place) -> None:
    await place.append(
        {
            "type": "schedule_definition_upserted",
            "schedule_id": "theirs",
            "cron_expression": "0 0 * * * * *",
            "timezone": "UTC",
            "catchup_window_minutes": 0,
            "max_catchup_ticks": 1,
            "asset_selection": ["raw"],
            "enabled": True,
        }
    )
    found = await told(place, "theirs", at_ms=next_minute(place))
    assert found.verdict is Verdict.OFF
    assert "another system's" in found.answer


async def test_an_unknown_schedule_is_refused_with_what_lists_them(place: Place) -> None:
    with pytest.raises(Refused) as raised:
        await told(place, "nobody")
    assert raised.value.refusal.code is Code.NOT_FOUND
    assert "springline schedule list" in (raised.value.refusal.remedy or "")


async def test_only_events_of_the_time_given_are_read(place: Place) -> None:
    await place.define("s", EVERY_MINUTE)
    now = place.now_ms()
    none = await told(place, since_ms=now + 10 * MINUTE, until_ms=now + 20 * MINUTE)
    assert (none.events_read, none.decisions) == (0, [])
    backwards = await told(place, since_ms=now, until_ms=now - MINUTE)
    assert backwards.events_read == 0
    some = await told(place, since_ms=now - MINUTE, until_ms=now + MINUTE)
    assert [one.event for one in some.decisions] == ["schedule_definition_upserted"]


async def test_the_next_instant_is_told_apart_from_when_its_jitter_has_it_decided_on(place: Place) -> None:
    await place.define("s", ScheduleDefinition(cron="* * * * *", select=["raw"], jitter_seconds=50))
    due = next_minute(place)
    delay_s = jitter_of(ScheduleView("s", "", "* * * * *", "UTC", (), 0, jitter_s=50))
    assert delay_s > 0
    found = await told(place)
    assert f"the next is {format_ms(due)}, decided on {delay_s} s later by its jitter." in found.answer
    assert (await told(place, at_ms=due)).verdict is not Verdict.NO_INSTANT
