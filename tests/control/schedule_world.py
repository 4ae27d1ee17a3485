"""Schedules under every misfortune: their real decisions, the real admission and fold, and everything else by dice.

Evaluators read, decide and append, each when a die says so, with rows that may be old, by clocks that go apart; answers
are lost, appends come late, twice or never, two evaluators are at work at once, users edit, pause, resume and trigger,
the workspace is held, runs begin and end, hours pass. What is left on record is compared with instants that
`tests.definitions.clock_walk` computes apart.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from springline.control.schedules import deciding
from springline.control.schedules.deciding import ScheduleView, manual_tick
from springline.definitions.schedules import OVERLAPS, ScheduledRun
from springline.errors import Code
from springline.ledger.envelope import as_event
from springline.ledger.events import EVENT_TYPES, Payload, RunRequested, ScheduleDefinitionUpserted, ScheduleTicked
from springline.ledger.member import DefinitionMember, TickMember, member_of
from springline.ledger.nested import TickTriggered
from springline.ledger.request import AppendRequest, NewEvent
from springline.ledger.timestamps import parse_timestamp
from springline.published.snapshot import StateSnapshot
from springline.schedules.reading import TABLES, known_schedule, known_schedules, with_runs
from tests.control.ledger import Ledger
from tests.definitions.clock_walk import walked

MANIFEST = "01JHMPDTN0000AQKFF00000001"
LINES = ("* * * * *", "*/5 * * * *", "0 * * * *", "30 2 * * *", "*/20 1-3 * * *", "0 */2 * * *", "15,45 * * * 1-5")
ZONES = ("UTC", "Europe/Oslo", "America/New_York", "Australia/Lord_Howe")
STARTS = (1_736_935_200, 1_743_296_400 - 7_200, 1_762_063_200 - 7_200, 1_743_865_200 - 3_600)
"""A day without a change, and hours before changes of the zones."""


def plan(terms: Sequence[str], instant: datetime) -> ScheduledRun:
    return ScheduledRun(tuple(sorted(terms)), None)


@dataclass
class Pending:
    """Events that somebody has decided on and not appended yet; `of` is sent again if its answer is lost."""

    events: list[Payload]
    is_edit: bool = False


@dataclass
class Evaluator:
    """Somebody who decides; `skew_s`: how far the clock is off."""

    skew_s: int
    snapshot: Any = None
    pending: list[Pending] = field(default_factory=list)


class ScheduleWorld:
    """A workspace with schedules; `dice` decide everything."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.ledger = Ledger()
        self.ledger.now_ms = dice.choice(STARTS) * 1_000 + dice.randrange(1_000)
        self.calm = False
        self.evaluators = [Evaluator(0)]
        self.edits: list[Pending] = []
        self.late: list[Pending] = []
        """Appends of evaluators that are gone: the sequencer may still get them."""
        self.names = [f"s{number}" for number in range(dice.randint(1, 3))]
        self.counts: Counter[str] = Counter()
        self._requests = 0
        for name in self.names:
            self._edit(name)

    # What the rows say.

    def snapshot(self) -> StateSnapshot:
        return self.ledger.published(TABLES)

    @property
    def held(self) -> bool:
        return self.ledger.state.is_held

    def append(self, events: Sequence[Payload]) -> Code | None:
        self._requests += 1
        request = AppendRequest(
            request_id=f"01946b1c-0000-7000-8000-{self._requests:012x}",
            events=[NewEvent(data=as_event(event)) for event in events],
        )
        (outcome,) = self.ledger.round(request)
        self.counts["events"] += len(events)
        if outcome.refusal is None:
            return None
        self.counts["refused"] += 1
        assert outcome.refusal.code in (Code.EVENT_CONFLICT, Code.KEY_REUSED), outcome.refusal
        return outcome.refusal.code

    # What happens.

    def step(self) -> None:
        self.ledger.now_ms += self.dice.choice((1, 20, 900))
        actions: list[tuple[float, Any]] = [(4, self.read), (5, self.decide), (5, self.send), (2, self.runs_move)]
        if not self.calm:
            actions += [
                (0.6, self.send_late),
                (0.3, self.lose_evaluator),
                (0.2, self.second_evaluator),
                (0.5, self.begin_edit),
                (1.0, self.finish_edit),
                (0.2, self.trigger),
                (0.15, self.hold),
            ]
        actions.append((3, self.pass_time))
        self.dice.choices([action for _, action in actions], [weight for weight, _ in actions])[0]()

    def read(self) -> None:
        self.dice.choice(self.evaluators).snapshot = self.snapshot()

    def decide(self) -> None:
        one = self.dice.choice(self.evaluators)
        if one.snapshot is None or one.pending:
            return
        if any(row[1] for row in one.snapshot["x_holds"]):
            return
        now_ms = self.ledger.now_ms + 1_000 * one.skew_s
        for view in with_runs(one.snapshot, [known.view for known in known_schedules(one.snapshot)]):
            decided = deciding.decide(replace(view, manifest_id=MANIFEST), now_ms, plan)
            if decided.events:
                one.pending.append(Pending(decided.events))
        # Some decide again and again on what they have once read.
        if self.dice.random() < 0.7:
            one.snapshot = None

    def send(self) -> None:
        one = self.dice.choice(self.evaluators)
        if not one.pending:
            return
        pending = one.pending.pop(0)
        self.append(pending.events)
        if not self.calm and self.dice.random() < 0.2:
            # The answer is lost: it comes again, now or much later.
            (one.pending if self.dice.random() < 0.5 else self.late).append(pending)

    def send_late(self) -> None:
        if self.late:
            self.append(self.late.pop(self.dice.randrange(len(self.late))).events)

    def lose_evaluator(self) -> None:
        gone = self.dice.choice(self.evaluators)
        self.evaluators.remove(gone)
        self.late += gone.pending
        if not self.evaluators:
            self.evaluators.append(Evaluator(self.dice.choice((0, -2, 3))))

    def second_evaluator(self) -> None:
        if len(self.evaluators) < 2:
            self.evaluators.append(Evaluator(self.dice.choice((0, -2, 3))))

    def begin_edit(self) -> None:
        """A user reads the rows, and sends what was decided on them later, or never."""
        name = self.dice.choice(self.names)
        known = known_schedule(self.snapshot(), name)
        assert known is not None
        kind = self.dice.choice(("switch", "switch", "line", "overlap"))
        definition = self._definition(name, known.view, kind)
        now_ms = self.ledger.now_ms + self.dice.choice((0, -1_500, 700))
        view = replace(known.view, manifest_id=MANIFEST)
        decided = deciding.replaced(view, view.version, definition, now_ms, plan)
        events = decided.events
        if self.held and len(events) > 1:
            return
        self.edits.append(Pending(events, is_edit=True))

    def finish_edit(self) -> None:
        if self.edits:
            self.append(self.edits.pop(self.dice.randrange(len(self.edits))).events)

    def trigger(self) -> None:
        known = known_schedule(self.snapshot(), self.dice.choice(self.names))
        assert known is not None
        self.append(manual_tick(replace(known.view, manifest_id=MANIFEST), self.ledger.now_ms, plan))

    def hold(self) -> None:
        self._hold(not self.held)

    def _hold(self, held: bool) -> None:
        self._requests += 1
        data = {"type": "springline_hold_changed", "change_id": f"c{self._requests}", "held": held, "changed_by": "u"}
        request_id = f"01946b1c-0000-7000-8000-{self._requests:012x}"
        self.ledger.round(AppendRequest(request_id=request_id, events=[NewEvent(data=data)]))

    def runs_move(self) -> None:
        """A run that is asked for begins; one that is under way ends."""
        state = self.ledger.state
        asked = [row for row in state.run_keys.rows.values() if state.run(row.run_id) is None]
        active = [family.run for family in state.families.of.values() if family.run and family.run.state != "CANCELLED"]
        if asked and (not active or self.dice.random() < 0.6) and not self.held:
            row = self.dice.choice(asked)
            data = {
                "type": "run_triggered",
                "run_id": row.run_id,
                "plan_id": f"plan:{row.run_id}",
                "trigger": {"type": "cron", "schedule_id": "s"},
                "root_assets": ["a"],
                "run_key": row.run_key,
            }
            self._raw(data)
        elif active:
            run = self.dice.choice(active)
            self._raw({"type": "run_cancel_requested", "run_id": run.run_id, "requested_by": "dice"})

    def _raw(self, data: dict[str, Any]) -> None:
        self._requests += 1
        request_id = f"01946b1c-0000-7000-8000-{self._requests:012x}"
        self.ledger.round(AppendRequest(request_id=request_id, events=[NewEvent(data=data)]))

    def pass_time(self) -> None:
        self.ledger.now_ms += 1_000 * self.dice.choice(
            (1, 7, 30, 60, 300, 1_800) if self.calm else (1, 30, 60, 900, 7_200)
        )

    # Edits.

    def _edit(self, name: str) -> None:
        definition = self._definition(name, None, "line")
        assert self.append(deciding.replaced(None, None, definition, self.ledger.now_ms, plan).events) is None

    def _definition(self, name: str, view: ScheduleView | None, kind: str) -> ScheduleDefinitionUpserted:
        dice = self.dice
        cron = dice.choice(LINES) if view is None or kind == "line" else view.cron
        zone = dice.choice(ZONES) if view is None or kind == "line" else view.timezone
        overlap = dice.choice(OVERLAPS)
        member = DefinitionMember(
            dialect="unix",
            overlap=overlap if view is None or kind == "overlap" else view.overlap,
            jitter_seconds=dice.choice((None, 20)),
        )
        return ScheduleDefinitionUpserted(
            schedule_id=name,
            cron_expression=cron,
            timezone=zone,
            catchup_window_minutes=dice.choice((10, 120, 2_000)),
            max_catchup_ticks=dice.choice((1, 3, 50)),
            asset_selection=["a"],
            enabled=True if view is None else (not view.enabled if kind == "switch" else view.enabled),
            code_version=MANIFEST,
            springline=msgspec.to_builtins(member),
        )

    # The end.

    def live(self, misfortunes: int) -> None:
        """Let things happen, then only good ones until nothing is owed."""
        for _ in range(misfortunes):
            self.step()
        self.calm = True
        self._hold(False)
        while self.late:
            self.send_late()
        while self.edits:
            self.finish_edit()
        self.evaluators = [Evaluator(0)]
        for _ in range(400):
            one = self.evaluators[0]
            one.snapshot, one.pending = self.snapshot(), []
            self.decide()
            if not one.pending:
                if all(known.view.active == 0 for known in known_schedules(self.snapshot())) and not self._waits():
                    return
                self.runs_move()
            while one.pending:
                self.send()
        raise AssertionError("the evaluator finds no end")

    def _waits(self) -> bool:
        """Say whether an instant waits for a run: a decision without events that is to be repeated soon."""
        views = with_runs(self.snapshot(), [known.view for known in known_schedules(self.snapshot())])
        return any(view.limit is not None and view.active >= view.limit for view in views)

    def check(self) -> None:
        """Check what must hold however it went."""
        requests = [event.data for event in self.ledger.events if isinstance(event.data, RunRequested)]
        keys = Counter(one.run_key for one in requests)
        assert all(count == 1 for count in keys.values()), f"run keys asked for twice: {keys}"
        assert not list(self.ledger.state.rows("run_key_conflicts"))
        ticks = [event.data for event in self.ledger.events if isinstance(event.data, ScheduleTicked)]
        triggered = {one.run_key for one in ticks if isinstance(one.status, TickTriggered)}
        assert triggered == keys.keys(), "ticks and requests"
        current: dict[str, str] = {}
        for event in self.ledger.events:
            if isinstance(event.data, ScheduleDefinitionUpserted):
                current[event.data.schedule_id] = event.event_id
            elif isinstance(event.data, ScheduleTicked) and ":manual:" not in event.data.tick_id:
                assert event.data.definition_version == current[event.data.schedule_id], "by an old definition"
        for name in self.names:
            self._check_schedule(name, [one for one in ticks if one.schedule_id == name])
        self.counts["ticks"] += len(ticks)
        self.counts["runs"] += len(requests)

    def _check_schedule(self, name: str, ticks: Sequence[ScheduleTicked]) -> None:
        definitions = [
            (event.event_id, event.data)
            for event in self.ledger.events
            if isinstance(event.data, ScheduleDefinitionUpserted) and event.data.schedule_id == name
        ]
        decided: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for one in ticks:
            if ":manual:" in one.tick_id:
                continue
            said = member_of(one, TickMember)
            last = parse_timestamp(one.scheduled_for) // 10**9
            first = last if said is None or said.range_from is None else parse_timestamp(said.range_from) // 10**9
            decided[one.definition_version].append((first, last, 1 if said is None else said.instants or 1))
        done = 0
        now = self.ledger.now_ms // 1_000
        for place, (event_id, data) in enumerate(definitions):
            begin = max(done, _effective_of(data))
            mine = sorted(decided.pop(event_id, []))
            greatest = max((last for _, last, _ in mine), default=0)
            is_last = place + 1 == len(definitions)
            jitter = 0
            if is_last:
                view = known_schedule(self.snapshot(), name)
                assert view is not None
                jitter = deciding.jitter_of(view.view)
            end = max(greatest, now - jitter if is_last else _effective_of(definitions[place + 1][1]))
            if is_last and not data.enabled:
                end = greatest
            wanted = list(walked(data.cron_expression, data.timezone, begin, end))
            covered: Counter[int] = Counter()
            for first, last, count in mine:
                inside = [at for at in wanted if first <= at <= last]
                assert len(inside) == count, f"{name}: {count} instants are on record, {len(inside)} there are"
                covered.update(inside)
            lost = [at for at in wanted if not covered[at]]
            assert not lost, (
                f"{name}: without a record, by {event_id}, {place} of {len(definitions)}: {lost[:5]}, "
                f"{json.dumps(as_event(data))}"
            )
            assert all(count == 1 for count in covered.values()), f"{name}: decided on twice"
            done = max(begin, end)
        assert not decided, f"ticks of no definition: {decided}"


def _effective_of(data: ScheduleDefinitionUpserted) -> int:
    said = member_of(data, DefinitionMember)
    assert said is not None
    assert said.effective_from is not None
    return parse_timestamp(said.effective_from) // 10**9


assert ScheduleTicked in EVENT_TYPES
