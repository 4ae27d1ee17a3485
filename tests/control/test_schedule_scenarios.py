"""What other schedulers got wrong, by the report that tells of it: none of it happens here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from springline.control.schedules.deciding import ScheduleView, decide, manual_tick, replaced
from springline.definitions.instants import timing_of
from springline.definitions.schedules import ScheduledRun
from springline.ledger.envelope import as_event
from springline.ledger.events import Payload, RunRequested, ScheduleDefinitionUpserted, ScheduleTicked
from springline.ledger.member import DefinitionMember
from springline.projection.config import FoldConfig
from springline.schedules.reading import TABLES, known_schedule
from tests.control.ledger import Ledger

MANIFEST, LATER = "01JHMPDTN0000AQKFF00000001", "01JHMPDTN0000AQKFF00000002"
T0 = int(datetime(2025, 1, 15, 10, tzinfo=UTC).timestamp())


class One:
    """A workspace with one schedule, and an evaluator that reads, decides and appends. Times in seconds since `T0`."""

    def __init__(self, cron: str = "* * * * *", zone: str = "UTC") -> None:
        self.ledger = Ledger(FoldConfig("acme", "prod"))
        self.ledger.now_ms = T0 * 1_000
        self.define(0, cron, zone)

    def view(self, manifest: str = MANIFEST) -> ScheduleView:
        snapshot = self.ledger.published(TABLES)
        known = known_schedule(snapshot, "s")
        assert known is not None
        return replace(known.view, manifest_id=manifest)

    def define(self, at: float, cron: str, zone: str = "UTC", enabled: bool = True) -> None:
        said = DefinitionMember(dialect="unix")
        definition = ScheduleDefinitionUpserted(
            "s",
            cron,
            zone,
            9_999,
            100,
            ["a"],
            enabled=enabled,
            code_version=MANIFEST,
            springline=msgspec.to_builtins(said),
        )
        known = self.view() if self.ledger.events else None
        version = None if known is None else known.version
        self.append(replaced(known, version, definition, int((T0 + at) * 1_000), plan).events)

    def append(self, events: Sequence[Payload]) -> None:
        if events:
            self.ledger.append(*map(as_event, events))

    def evaluate(self, at: float, manifest: str = MANIFEST) -> list[int]:
        """Evaluate at a time; return the instants for which runs were asked, in seconds since `T0`."""
        decided = decide(self.view(manifest), int((T0 + at) * 1_000), plan)
        self.append(decided.events)
        return [
            int(str(one.run_key).rpartition(":")[2]) - T0 for one in decided.events if isinstance(one, RunRequested)
        ]

    def asked(self) -> Counter[str]:
        return Counter(event.data.run_key for event in self.ledger.events if isinstance(event.data, RunRequested))


def plan(terms: Sequence[str], instant: datetime) -> ScheduledRun:
    return ScheduledRun(tuple(terms), None)


def test_an_edited_line_refires_nothing() -> None:
    """Dagster #13597: cron edited, and the old time came again. Argo #4445, Temporal: baselines move on update."""
    one = One("0 * * * *")
    assert one.evaluate(3_600) == [3_600]
    one.define(3_700, "30 * * * *")
    one.define(3_710, "0 * * * *")
    assert one.evaluate(3_800) == []
    assert one.evaluate(7_200) == [7_200]
    assert set(one.asked().values()) == {1}


def test_an_edit_loses_nothing_that_was_due_before_it() -> None:
    """Prefect #17703, #17508: an update races the loop."""
    one = One()
    one.define(150, "0 * * * *")
    assert sorted(one.asked()) == [f"sched:s:{T0 + 60}", f"sched:s:{T0 + 120}"]


def test_a_redeploy_changes_no_key() -> None:
    """Prefect #18894, #17281: the key held the id of a row that every deploy makes anew, or its form changed."""
    one, other = One(), One()
    one.evaluate(60, MANIFEST)
    other.evaluate(60, LATER)
    assert one.asked() == other.asked() == Counter([f"sched:s:{T0 + 60}"])


def test_two_evaluators_ask_once() -> None:
    """Dagster #33962, Argo #12625: two daemons after a rollout, two controllers."""
    one = One()
    view = one.view()
    for _ in range(2):
        one.append(decide(view, (T0 + 60) * 1_000, plan).events)
    assert one.asked() == Counter([f"sched:s:{T0 + 60}"])


def test_nothing_is_asked_for_again_when_its_run_is_gone() -> None:
    """Argo #14719, Prefect's keys of 24 hours, Dagster PR #14555: the dedupe must outlive what it dedupes."""
    one = One()
    one.evaluate(60)
    ticks, keys = one.ledger.state.ticks, one.ledger.state.run_keys
    assert ticks.rows
    assert keys.rows
    for table in (ticks, keys, one.ledger.state.schedule_states):
        for key in list(table.rows):
            table.remove(key)
    one.ledger.state.accept()
    assert one.evaluate(119) == []
    assert one.evaluate(120) == [120]


def test_a_restart_fires_nothing_early() -> None:
    """Flyte #2106, #2885: a restart fires before the time."""
    one = One("0 4 * * *")
    for at in range(0, 3_600, 600):
        assert one.evaluate(at) == []


def test_nothing_fires_before_it_existed_or_was_enabled_again() -> None:
    """The reference (W-33); Dagster before 0.13.5, Argo #4445: re-enabling backfilled the gap."""
    one = One()
    assert one.evaluate(30) == []
    one.define(90, "* * * * *", enabled=False)
    one.define(600, "* * * * *")
    assert one.evaluate(610) == []
    assert one.evaluate(660) == [660]
    assert one.asked().total() == 2


def test_every_second_fires_every_second() -> None:
    """The reference (W-32): a tick one second after the last is skipped, and a schedule runs at half its rate."""
    one = One("* * * * * *")
    assert [at for second in range(1, 11) for at in one.evaluate(second)] == list(range(1, 11))


def test_a_run_by_hand_makes_nothing_vanish() -> None:
    """The reference (W-42): a manual or failed tick moves the marker to now, and what was due in between is gone."""
    one = One()
    one.evaluate(60)
    one.append(manual_tick(one.view(), (T0 + 170) * 1_000, plan))
    assert one.evaluate(180) == [120, 180]


def test_what_cannot_be_read_is_noted_once() -> None:
    """The reference (W-34): one failed tick for each look."""
    one = One("* * * * *", "Mars/Base")
    for at in range(0, 600, 60):
        assert one.evaluate(at) == []
    ticks = [event.data for event in one.ledger.events if isinstance(event.data, ScheduleTicked)]
    assert len(ticks) == 1


def test_after_an_outage_each_instant_has_a_record() -> None:
    """Dagster, Argo, Flyte, Prefect: what was missed beyond a limit is gone without a trace."""
    one = One()
    one.ledger.now_ms = (T0 + 86_400) * 1_000
    runs = one.evaluate(86_400)
    assert len(runs) == 100
    assert runs[-1] == 86_400
    (dropped,) = [event.data for event in one.ledger.events if isinstance(event.data, ScheduleTicked)][:1]
    assert dropped.tick_id == f"s:{T0 + 60}-{T0 + 86_400 - 6_000}"


@pytest.mark.parametrize("line", ["30 2 * * *", "0 2 * * *"])
def test_a_night_without_its_hour_has_its_run(line: str) -> None:
    """Argo, Flyte and Temporal skip the day; Prefect fires an hour early."""
    day = int(datetime(2025, 3, 9, 4, tzinfo=UTC).timestamp())
    found = timing_of(line, "America/New_York").between(day, day + 20 * 3_600, 10)
    assert found == [int(datetime(2025, 3, 9, 7, tzinfo=UTC).timestamp())]


def test_a_night_with_its_hour_twice_has_one_run() -> None:
    """Argo, Flyte and Temporal fire twice."""
    day = int(datetime(2025, 11, 2, 3, tzinfo=UTC).timestamp())
    found = timing_of("30 1 * * *", "America/New_York").between(day, day + 20 * 3_600, 10)
    assert found == [int(datetime(2025, 11, 2, 5, 30, tzinfo=UTC).timestamp())]
