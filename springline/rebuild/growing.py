"""The state of a set of events that grows batch by batch: State(L) after each, whatever comes when.

See docs/protocol.md#state-of-a-set.

Batches above everything folded so far are folded forward. A late event is folded where it belongs: the state goes
back to a point below it and everything above that point is folded again.

How far back that point lies is learned from the events. While none is late nothing is remembered, so that folding in
order costs nothing more. Once some were, the state keeps the rows that the last events changed and rolls back to
before them, twice as far as the latest of all was late; what comes from farther back refolds from the first event.
Farther back than half of all events nothing is kept: to fold all of them again costs little more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache

from springline.ledger.envelope import Event, parse_event
from springline.ledger.event_ids import event_id_ms
from springline.ledger.request import RefusalReason
from springline.paths import InvalidPath, Scope, event_id_from_ledger_path, ledger_day_prefix
from springline.projection.config import FoldConfig
from springline.projection.fold.loop import EventOutcome
from springline.projection.state import State
from springline.sequencer.foreign import EventVerdict, judge_body

Candidate = tuple[str, str, bytes]
"""Event id, path, body."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An object that was named and is no part of the set."""

    path: str
    reason: RefusalReason
    message: str


@dataclass(slots=True)
class Tally:
    """What was done so far. `repeated`: events that were delivered again; `refolded`: folds beyond the first."""

    batches: int = 0
    repeated: int = 0
    late: int = 0
    refolds: int = 0
    refolded: int = 0
    rejected: list[Rejected] = field(default_factory=list)


class GrowingState:
    """State(L) of the events added so far, under `config`."""

    def __init__(self, config: FoldConfig) -> None:
        self.tally = Tally()
        self._config = config
        self._scope = Scope(config.tenant, config.workspace)
        self._state = State(config)
        self._ids: list[str] = []
        self._counts: Counter[EventOutcome] = Counter()
        self._bodies: dict[str, bytes] = {}
        self._last: tuple[str, str] | None = None
        self._point = 0
        """How many events the state holds when it is rolled back."""
        self._point_counts: Counter[EventOutcome] = Counter()
        self._reach = 0
        """How far back late events are expected."""

    @property
    def state(self) -> State:
        """The state of all events added so far."""
        return self._state

    @property
    def last(self) -> tuple[str, str] | None:
        """Id and path of the greatest event, None before the first."""
        return self._last

    @property
    def bodies(self) -> dict[str, bytes]:
        """The events of the set, by id."""
        return self._bodies

    def outcomes(self) -> Counter[EventOutcome]:
        """Return what the fold made of the events."""
        return Counter(self._counts)

    def add(self, batch: Iterable[tuple[str, bytes | None]]) -> None:
        """Add objects by path and content, None for one that is not there; in any order."""
        self.tally.batches += 1
        candidates = self._candidates(batch)
        if not candidates:
            return
        if not self._ids or candidates[0][0] > self._ids[-1]:
            self._fold(event for event in map(self._accepted, candidates) if event is not None)
        else:
            ids = [candidate[0] for candidate in candidates if self._accepted(candidate) is not None]
            if ids and ids[0] < self._ids[-1]:
                self._fold_late(ids)
            else:
                self._fold_again(ids)
        self._move_point()

    def _candidates(self, batch: Iterable[tuple[str, bytes | None]]) -> list[Candidate]:
        """Return what may be events, by id; the rest is rejected."""
        found: list[Candidate] = []
        for path, body in batch:
            event_id = event_id_from_ledger_path(path)
            if event_id is None:
                self._reject(path, RefusalReason.NOT_A_LEDGER_PATH, "no event of the ledger has such a path")
            elif body is None:
                self._reject(path, RefusalReason.MISSING, "there is no such object")
            else:
                found.append((event_id, path, body))
        found.sort()
        return found

    def _accepted(self, candidate: Candidate) -> Event | None:
        """Take an event into the set and return it; None if it is in it, or rejected."""
        event_id, path, body = candidate
        known = self._bodies.get(event_id)
        judged: Event | EventVerdict | None = misplaced(path, event_id)
        if judged is None and known == body:
            self.tally.repeated += 1
            return None
        judged = judged or judge(path, event_id, body, self._scope)
        if isinstance(judged, Event) and known is not None:
            judged = EventVerdict(RefusalReason.OTHER_BODY, "another body stands under this id, and was there first")
        if isinstance(judged, EventVerdict):
            self._reject(path, judged.reason, judged.message)
            return None
        self._bodies[event_id] = body
        if self._last is None or event_id > self._last[0]:
            self._last = event_id, path
        return judged

    def _fold(self, events: Iterable[Event]) -> None:
        """Fold events above all others, in order."""
        self._counts += self._state.fold_all(self._noted(events))

    def _noted(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            self._ids.append(event.event_id)
            yield event

    def _fold_again(self, ids: Iterable[str]) -> None:
        self._fold(parse_event(self._bodies[event_id]) for event_id in ids)

    def _fold_late(self, ids: list[str]) -> None:
        """Fold events of which the first is not above all others; `ids` ascend."""
        greatest = self._ids[-1]
        at = bisect_left(self._ids, ids[0])
        self.tally.late += bisect_left(ids, greatest)
        self.tally.refolds += 1
        self._reach = max(self._reach, 2 * (len(self._ids) - at + len(ids)))
        self._go_back(at)
        above = sorted([*self._above_point(), *ids])
        self._fold_with_point(above)

    def _move_point(self) -> None:
        """Keep the point within reach of the greatest event, and not much farther away."""
        held = len(self._ids)
        if self._state.tracking and self._reach <= held // 2 and held - self._point > 2 * self._reach:
            self._go_back(held)
            self._fold_with_point(self._above_point())

    def _go_back(self, at: int) -> None:
        """Bring the state to a point at or below `at` events."""
        if self._state.tracking and self._point <= at:
            self._state.rollback()
        else:
            self._state, self._point, self._point_counts = State(self._config), 0, Counter()
        self._counts = Counter(self._point_counts)

    def _above_point(self) -> list[str]:
        """Take the ids above the point away, and return them."""
        above = self._ids[self._point :]
        del self._ids[self._point :]
        self.tally.refolded += len(above)
        return above

    def _fold_with_point(self, ids: list[str]) -> None:
        """Fold `ids`, the events above the point, and set a new point within reach of the greatest."""
        held = self._point + len(ids)
        keeps = self._reach <= held // 2
        below = max(0, len(ids) - self._reach) if keeps else len(ids)
        self._state.tracking = False
        self._fold_again(ids[:below])
        if keeps:
            self._state.tracking = True
            self._point, self._point_counts = len(self._ids), Counter(self._counts)
        self._fold_again(ids[below:])

    def _reject(self, path: str, reason: RefusalReason, message: str) -> None:
        self.tally.rejected.append(Rejected(path, reason, message))


_DAY_MS = 86_400_000
_DAY_NS = _DAY_MS * 1_000_000
_EPOCH = date(1970, 1, 1)


def misplaced(path: str, event_id: str) -> EventVerdict | None:
    """Say why `path` is not the one name that an event with this id may have; None if it is, or the id says nothing.

    An id that is no ULID names no day: then the event's own time has to be looked at, which `judge` does.
    """
    ms = event_id_ms(event_id)
    return None if ms is None else _judge_folder(path, event_id, ms // _DAY_MS)


def judge(path: str, event_id: str, body: bytes, scope: Scope) -> Event | EventVerdict:
    """Return the event that an object holds, or why it is refused; its id is that of its path."""
    judged = judge_body(event_id, body, scope)
    if isinstance(judged, Event) and event_id_ms(event_id) is None:
        return _judge_folder(path, event_id, judged.timestamp_ns // _DAY_NS) or judged
    return judged


def _judge_folder(path: str, event_id: str, day: int) -> EventVerdict | None:
    folder = _folder(day)
    if folder is None:
        return EventVerdict(RefusalReason.WRONG_PATH, "the event's day is none that a folder can name")
    if path != f"{folder}/{event_id}.json":
        return EventVerdict(RefusalReason.WRONG_PATH, f"the event belongs into the folder {folder}")
    return None


@lru_cache(maxsize=4096)
def _folder(day: int) -> str | None:
    try:
        return ledger_day_prefix(_EPOCH + timedelta(days=day))
    except (OverflowError, InvalidPath):
        return None
