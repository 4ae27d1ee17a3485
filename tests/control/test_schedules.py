"""What becomes of the instants of a schedule, and what the ledger takes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.control.schedules.deciding import (
    LONG_RANGE,
    LOOKS_AGAIN_MS,
    MOST_IN_RANGE,
    MOST_TICKS,
    Decided,
    ScheduleView,
    decide,
    jitter_of,
    manual_tick,
    owed_at_edit,
    replaced,
)
from springline.definitions.schedules import NothingToMake, ScheduledRun
from springline.errors import Code
from springline.ledger.envelope import as_event
from springline.ledger.events import (
    Payload,
    RunRequested,
    ScheduleDefinitionUpserted,
    ScheduleTicked,
    derived_key,
)
from springline.ledger.member import TickMember, member_of
from springline.ledger.nested import TickFailed, TickSkipped
from tests.control.ledger import Ledger

CORPUS = Path(__file__).parents[1] / "golden/schedule_keys.json"
T0 = int(datetime(2025, 1, 15, 10, tzinfo=UTC).timestamp())
MINUTE = ScheduleView(
    "s", "01JHMPDTN0000AQKFF00000001", "* * * * *", "UTC", ("a",), T0, dialect="unix", max_catchup_ticks=100
)


def plan(terms: Sequence[str], instant: datetime) -> ScheduledRun:
    return ScheduledRun(tuple(sorted(terms)), (f"{instant:%Y-%m-%d}",))


def at(seconds: float) -> int:
    return int((T0 + seconds) * 1_000)


def told(decided: Decided | Sequence[Payload]) -> list[tuple[str, str | None]]:
    """Return ids and reasons of ticks, None for those that ask for a run."""
    events = decided.events if isinstance(decided, Decided) else decided
    found = []
    for event in events:
        if isinstance(event, ScheduleTicked):
            said = member_of(event, TickMember)
            assert said is not None
            found.append((event.tick_id.removeprefix("s:"), said.reason_code))
    return found


def test_nothing_is_due_before_its_time_and_the_next_instant_is_named() -> None:
    decided = decide(MINUTE, at(59.999), plan)
    assert (decided.events, decided.next_ms, decided.more) == ([], at(60), False)


@given(
    st.builds(
        replace,
        st.just(MINUTE),
        cron=st.sampled_from(["* * * * *", "*/7 3 * * *", "30 2 * * *", "0 0 30 2 *", "0 0 29 2 1", "what"]),
        timezone=st.sampled_from(["UTC", "Europe/Oslo", "Pacific/Apia", "Nowhere"]),
        interval_s=st.none() | st.integers(1, 90_000),
        evaluated_to=st.integers(T0 - 200_000, T0 + 200_000),
        window_minutes=st.integers(0, 3_000),
        max_catchup_ticks=st.integers(1, 5),
        overlap=st.sampled_from(["allow", "skip", "queue_one"]),
        jitter_s=st.sampled_from([0, 0, 50, 4_000]),
        active=st.integers(0, 2),
        enabled=st.booleans(),
        noted=st.booleans(),
    ),
    st.integers(-100_000, 300_000),
)
def test_a_schedule_that_is_passed_over_is_one_of_which_nothing_follows(view: ScheduleView, seconds: int) -> None:
    decided = decide(view, at(seconds), plan)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ScheduleView, "first_instant", lambda one: one.evaluated_to - 10**12)
        assert decide(view, at(seconds), plan) == decided


def test_an_instant_that_is_due_asks_for_a_run_under_its_own_name() -> None:
    decided = decide(replace(MINUTE, manifest_id="M"), at(60), plan)
    tick, request = decided.events
    assert isinstance(tick, ScheduleTicked)
    assert isinstance(request, RunRequested)
    assert (tick.tick_id, tick.run_key) == (f"s:{T0 + 60}", f"sched:s:{T0 + 60}")
    assert (tick.scheduled_for, tick.definition_version) == ("2025-01-15T10:01:00Z", MINUTE.version)
    assert (tick.partition_selection, request.partition_selection) == (["2025-01-15"], ["2025-01-15"])
    assert (request.code_version, request.run_key) == ("M", tick.run_key)
    assert decided.next_ms == at(120)


def test_missed_instants_are_caught_up_oldest_first_and_those_before_are_skipped_on_record() -> None:
    view = replace(MINUTE, max_catchup_ticks=2)
    decided = decide(view, at(5 * 60), plan)
    assert told(decided) == [
        (str(T0 + 60), "CATCHUP_LIMIT"),
        (str(T0 + 120), "CATCHUP_LIMIT"),
        (str(T0 + 180), "CATCHUP_LIMIT"),
        (str(T0 + 240), None),
        (str(T0 + 300), None),
    ]


def test_what_lies_outside_of_the_window_is_skipped_on_record() -> None:
    view = replace(MINUTE, window_minutes=2)
    assert told(decide(view, at(5 * 60), plan)) == [
        *((str(T0 + 60 * minute), "OUTSIDE_WINDOW") for minute in (1, 2, 3)),
        (str(T0 + 240), None),
        (str(T0 + 300), None),
    ]


def test_a_long_range_is_one_tick_that_counts_its_instants() -> None:
    view = replace(MINUTE, max_catchup_ticks=1)
    decided = decide(view, at((LONG_RANGE + 2) * 60), plan)
    dropped, _, _ = decided.events
    assert isinstance(dropped, ScheduleTicked)
    first, last = T0 + 60, T0 + 60 * (LONG_RANGE + 1)
    assert (dropped.tick_id, dropped.scheduled_for) == (f"s:{first}-{last}", "2025-01-15T10:11:00Z")
    said = member_of(dropped, TickMember)
    assert said is not None
    assert (said.range_from, said.range_to, said.instants) == ("2025-01-15T10:01:00Z", "2025-01-15T10:11:00Z", 11)
    assert isinstance(dropped.status, TickSkipped)


def test_ten_thousand_missed_instants_are_one_record_and_hold_up_nothing() -> None:
    view = replace(MINUTE, cron="* * * * * *", window_minutes=1_000_000, max_catchup_ticks=10_000)
    decided = decide(view, at(20_000), plan)
    assert decided.more
    assert sum(isinstance(event, RunRequested) for event in decided.events) == MOST_TICKS
    assert told(decided)[0] == (f"{T0 + 1}-{T0 + 10_000}", "CATCHUP_LIMIT")
    later = replace(view, evaluated_to=T0 + 10_000 + MOST_TICKS)
    assert told(decide(later, at(20_000), plan))[0] == (str(T0 + 10_101), None)


def test_a_range_of_more_instants_than_one_tick_takes_goes_on_in_the_next() -> None:
    view = replace(MINUTE, cron="* * * * * *", window_minutes=1)
    decided = decide(view, at(MOST_IN_RANGE + 1_000), plan)
    assert told(decided) == [(f"{T0 + 1}-{T0 + MOST_IN_RANGE}", "OUTSIDE_WINDOW")]
    assert (decided.more, decided.next_ms) == (True, at(MOST_IN_RANGE + 1_000))


def test_skip_leaves_out_what_falls_into_a_run_that_has_not_ended() -> None:
    view = replace(MINUTE, overlap="skip", active=1)
    assert told(decide(view, at(120), plan)) == [(str(T0 + 60), "OVERLAP"), (str(T0 + 120), "OVERLAP")]
    assert told(decide(replace(view, active=0), at(120), plan)) == [(str(T0 + 60), None), (str(T0 + 120), "OVERLAP")]
    assert told(decide(replace(view, max_active_runs=3), at(120), plan)) == [
        (str(T0 + 60), None),
        (str(T0 + 120), None),
    ]


def test_one_waits_and_a_later_one_takes_its_place() -> None:
    view = replace(MINUTE, overlap="queue_one", active=1)
    decided = decide(view, at(60), plan)
    assert (decided.events, decided.next_ms) == ([], at(60) + LOOKS_AGAIN_MS)
    assert told(decide(view, at(120), plan)) == [(str(T0 + 60), "OVERLAP")]
    assert told(decide(replace(view, evaluated_to=T0 + 60, active=0), at(130), plan)) == [(str(T0 + 120), None)]


def test_a_limit_holds_for_allowed_overlap_too() -> None:
    view = replace(MINUTE, max_active_runs=2, active=1)
    assert told(decide(view, at(120), plan)) == [(str(T0 + 60), None), (str(T0 + 120), "OVERLAP")]


def test_jitter_follows_from_the_name_and_moves_no_instant() -> None:
    views = [replace(MINUTE, schedule_id=f"s{number}", jitter_s=30) for number in range(200)]
    delays = [jitter_of(view) for view in views]
    assert delays == [jitter_of(view) for view in views]
    assert (min(delays), max(delays)) == (0, 30)
    one = next(view for view in views if jitter_of(view) == 17)
    assert decide(one, at(60 + 16.9), plan).events == []
    decided = decide(one, at(60 + 17), plan)
    tick = decided.events[0]
    assert isinstance(tick, ScheduleTicked)
    assert (tick.scheduled_for, decided.next_ms) == ("2025-01-15T10:01:00Z", at(120 + 17))


@pytest.mark.parametrize("view", [replace(MINUTE, enabled=False), replace(MINUTE, deleted=True)])
def test_what_is_off_or_gone_decides_nothing(view: ScheduleView) -> None:
    assert decide(view, at(600), plan) == Decided()


def test_a_definition_that_cannot_be_read_is_noted_once_and_asks_for_nothing() -> None:
    view = replace(MINUTE, timezone="Mars/Base")
    decided = decide(view, at(60), plan)
    (note,) = decided.events
    assert isinstance(note, ScheduleTicked)
    assert isinstance(note.status, TickFailed)
    assert note.tick_id == f"s:failed:{view.version}"
    assert decided.next_ms is None
    assert "Mars/Base" in str(decided.aside)
    assert decide(replace(view, noted=True), at(60), plan).events == []


@pytest.mark.parametrize("code", ["CANNOT_SELECT", "NO_PARTITION"])
def test_an_instant_that_can_make_nothing_is_skipped_with_its_reason(code: str) -> None:
    def nothing(terms: Sequence[str], instant: datetime) -> ScheduledRun:
        raise NothingToMake(code, "no asset is called that")

    decided = decide(MINUTE, at(60), nothing)
    assert told(decided) == [(str(T0 + 60), code)]
    assert (decided.aside is not None) is (code == "CANNOT_SELECT")
    assert decided.next_ms == at(120)


def test_an_edit_first_decides_on_what_the_old_definition_owes() -> None:
    new = ScheduleDefinitionUpserted("s", "0 * * * *", "UTC", 60, 1, ["b"], enabled=True, code_version="M")
    decided = replaced(replace(MINUTE, jitter_s=3_600), MINUTE.version, new, at(125.5), plan)
    assert told(decided) == [(str(T0 + 60), None), (str(T0 + 120), None)]
    definition = decided.events[-1]
    assert isinstance(definition, ScheduleDefinitionUpserted)
    assert definition.springline == {"effective_from": "2025-01-15T10:02:05Z", "replaces": MINUTE.version}


def test_a_clock_that_is_behind_puts_no_change_before_the_one_that_it_follows() -> None:
    new = ScheduleDefinitionUpserted("s", "0 * * * *", "UTC", 60, 1, ["b"], enabled=True, code_version="M")
    (definition,) = replaced(MINUTE, MINUTE.version, new, at(-5), plan).events
    assert isinstance(definition, ScheduleDefinitionUpserted)
    assert (definition.springline or {})["effective_from"] == "2025-01-15T10:00:00Z"


def test_instants_of_a_pause_are_on_record_when_it_ends() -> None:
    paused = replace(MINUTE, enabled=False)
    assert told(owed_at_edit(paused, at(125), plan)) == [(str(T0 + 60), "PAUSED"), (str(T0 + 120), "PAUSED")]


def test_an_instant_that_waits_is_decided_on_when_the_definition_changes() -> None:
    view = replace(MINUTE, overlap="queue_one", active=1)
    assert told(owed_at_edit(view, at(65), plan)) == [(str(T0 + 60), "OVERLAP")]


def views_of(decided: Decided, view: ScheduleView) -> ScheduleView:
    """Return the schedule after what was decided is on record."""
    for event in decided.events:
        if isinstance(event, ScheduleTicked):
            until = datetime.fromisoformat(event.scheduled_for)
            view = replace(view, evaluated_to=max(view.evaluated_to, int(until.timestamp())))
    return view


def test_the_same_instants_come_whether_the_evaluator_is_up_or_was_down() -> None:
    base = replace(
        MINUTE, cron="*/10 1-3 * * *", timezone="Europe/Oslo", evaluated_to=1_743_274_800, window_minutes=9_999
    )
    end = base.evaluated_to + 2 * 86_400
    seen = []
    for step in (60, 3_600, 6 * 3_600, 2 * 86_400):
        view, ticks = base, []
        for now in range(base.evaluated_to, end + 1, step):
            decided = decide(view, now * 1_000, plan)
            ticks += [(event.tick_id, event.run_key) for event in decided.events if isinstance(event, ScheduleTicked)]
            view = views_of(decided, view)
        seen.append(ticks)
    assert all(ticks == seen[0] for ticks in seen)
    assert len(seen[0]) > 20


# What the ledger takes.


def definition(enabled: bool = True, **member: object) -> dict[str, object]:
    data = ScheduleDefinitionUpserted("s", "* * * * *", "UTC", 60, 10, ["a"], enabled=enabled, code_version="M")
    return as_event(msgspec.structs.replace(data, springline={"dialect": "unix", **member} if member else None))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def defined(ledger: Ledger) -> ScheduleView:
    (event,) = ledger.append(definition(effective_from="2025-01-15T10:00:00Z"))
    return replace(MINUTE, version=event.event_id)


def test_a_range_that_was_skipped_is_not_decided_on_again(ledger: Ledger) -> None:
    view = replace(defined(ledger), max_catchup_ticks=1)
    ledger.append(*map(as_event, decide(view, at(20 * 60), plan).events))
    # By hand, so that the last tick on record says nothing of what is decided on.
    ledger.append(*map(as_event, manual_tick(view, at(20 * 60 + 5), plan)))
    zombie = decide(replace(view, max_catchup_ticks=100), at(19 * 60), plan)
    assert ledger.refused(*map(as_event, zombie.events)).code is Code.EVENT_CONFLICT
    later = decide(replace(view, evaluated_to=T0 + 20 * 60), at(21 * 60), plan)
    ledger.append(*map(as_event, later.events))


def test_a_tick_of_a_definition_that_was_replaced_is_refused_even_if_it_was_skipped(ledger: Ledger) -> None:
    view = defined(ledger)
    ledger.append(definition(effective_from="2025-01-15T10:00:30Z", replaces=view.version))
    for active in (0, 1):
        owed = decide(replace(view, overlap="skip", active=active), at(60), plan)
        assert ledger.refused(*map(as_event, owed.events)).code is Code.EVENT_CONFLICT


def test_a_definition_that_was_decided_on_an_older_one_is_refused(ledger: Ledger) -> None:
    view = defined(ledger)
    stale = definition(enabled=False, effective_from="2025-01-15T10:00:20Z", replaces=view.version)
    ledger.append(definition(effective_from="2025-01-15T10:00:30Z", replaces=view.version))
    assert ledger.refused(stale).code is Code.EVENT_CONFLICT
    assert ledger.refused(definition(effective_from="2025-01-15T10:00:40Z")).code is Code.EVENT_CONFLICT


def test_no_run_is_asked_for_by_a_tick_that_was_skipped(ledger: Ledger) -> None:
    view = defined(ledger)
    ledger.append(*map(as_event, decide(replace(view, overlap="skip", active=1), at(60), plan).events))
    _, request = decide(view, at(60), plan).events
    assert ledger.refused(as_event(request)).code is Code.EVENT_CONFLICT


# Identity.


def keys() -> dict[str, list[str]]:
    """Return the ids and keys of ticks and requests of many decisions."""
    found: dict[str, list[str]] = {}
    for name in ("nightly", "eu.sales-2", "ærlig"):
        for cron, zone in (("* * * * *", "UTC"), ("30 2 * * *", "Europe/Oslo"), ("0 */2 * * *", "America/New_York")):
            view = replace(MINUTE, schedule_id=name, cron=cron, timezone=zone, max_catchup_ticks=3, jitter_s=0)
            events = [*decide(view, at(3 * 86_400), plan).events, *manual_tick(view, at(7), plan)]
            found[f"{name} {cron} {zone}"] = [
                f"{getattr(event, 'tick_id', '')} {getattr(event, 'run_key', '')} {derived_key(event)}"
                for event in events
            ]
    return found


def test_identities_are_those_that_were_recorded_once_and_for_ever() -> None:
    """A key that a build changes would ask for every run that is already asked for a second time."""
    assert keys() == json.loads(CORPUS.read_text("utf-8"))
