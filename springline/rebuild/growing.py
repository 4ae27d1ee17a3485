"""The state of a set of events that grows batch by batch: State(L) after each batch, in any order of arrival.

See docs/protocol.md#state-of-a-set.

A batch above all events so far is folded forward. For a late event the state is rolled back to a point below it, and
everything above that point is folded again.

How far back that point lies adapts to the events. While none is late, no undo data is kept, so that folding in order
costs nothing more. Once some were late, the state keeps the rows that the last events changed, for twice as many events
as the latest one was late, and can roll back to before them; an event from farther back refolds from the first one.
Undo data never covers more than half of all events: to fold all of them again costs little more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache

from springline.ledger.envelope import Event, parse_event
from springline.ledger.request import EventOutcome, RefusalReason
from springline.paths import InvalidPath, Scope, event_id_from_ledger_path, ledger_day_prefix
from springline.projection.config import FoldConfig
from springline.projection.fold.loop import fold_all
from springline.projection.state import State
from springline.sequencer.foreign import EventVerdict, judge_body
from springline.ulids import ulid_time_ms

Candidate = tuple[str, str, bytes]
"""Event id, path, body."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A named object that is not in the set."""

    path: str
    reason: RefusalReason
    message: str


@dataclass(slots=True)
class Tally:
    """Counts so far. `repeated`: events that were delivered again; `refolded`: folds beyond an event's first."""

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
        """How many events the state has after a rollback."""
        self._point_counts: Counter[EventOutcome] = Counter()
        self._reach = 0
        """How many events back late events are expected."""

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
        """Return how many events had which outcome in the fold."""
        return Counter(self._counts)

    def add(self, batch: Iterable[tuple[str, bytes | None]]) -> None:
        """Add objects by path and content (None: there is no such object), in any order."""
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
        """Return the candidates for events, by id; reject the rest."""
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
        """Add an event to the set and return it; None if the set has it, or it is rejected."""
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
        """Fold events above all earlier ones, in order."""
        self._counts += fold_all(self._state, self._noted(events))

    def _noted(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            self._ids.append(event.event_id)
            yield event

    def _fold_again(self, ids: Iterable[str]) -> None:
        self._fold(parse_event(self._bodies[event_id]) for event_id in ids)

    def _fold_late(self, ids: list[str]) -> None:
        """Fold events of which at least the first is late; `ids` ascend."""
        greatest = self._ids[-1]
        at = bisect_left(self._ids, ids[0])
        self.tally.late += bisect_left(ids, greatest)
        self.tally.refolds += 1
        self._reach = max(self._reach, 2 * (len(self._ids) - at + len(ids)))
        self._go_back(at)
        above = sorted([*self._above_point(), *ids])
        self._fold_with_point(above)

    def _move_point(self) -> None:
        """Move the point so that it stays about `_reach` events below the greatest one."""
        held = len(self._ids)
        if self._state.tracking and self._reach <= held // 2 and held - self._point > 2 * self._reach:
            self._go_back(held)
            self._fold_with_point(self._above_point())

    def _go_back(self, at: int) -> None:
        """Roll the state back to a point at or below `at` events."""
        if self._state.tracking and self._point <= at:
            self._state.rollback()
        else:
            self._state, self._point, self._point_counts = State(self._config), 0, Counter()
        self._counts = Counter(self._point_counts)

    def _above_point(self) -> list[str]:
        """Remove the ids above the point, and return them."""
        above = self._ids[self._point :]
        del self._ids[self._point :]
        self.tally.refolded += len(above)
        return above

    def _fold_with_point(self, ids: list[str]) -> None:
        """Fold `ids`, the events above the point, and set a new point `_reach` events below the greatest."""
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
    """Return why `path` is not the one name of an event with this id; None if it is, or the id cannot tell.

    An id that is not a ULID has no day: then the event's own time decides, which `judge` checks.
    """
    ms = ulid_time_ms(event_id)
    return None if ms is None else _judge_folder(path, event_id, ms // _DAY_MS)


def judge(path: str, event_id: str, body: bytes, scope: Scope) -> Event | EventVerdict:
    """Return the event in an object, or why it is refused; its id must be that of its path."""
    judged = judge_body(event_id, body, scope)
    if isinstance(judged, Event) and ulid_time_ms(event_id) is None:
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
