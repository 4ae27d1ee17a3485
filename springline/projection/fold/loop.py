"""The loop: folds each event once, in the order of ids, after deleting rows that are too old by then.

See docs/events.md#fold-loop, docs/events.md#fold-retention.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from springline.ledger.envelope import Event
from springline.ledger.events import EVENT_TYPES, Owner, by_payload
from springline.ledger.request import EventOutcome
from springline.ledger.timestamps import NS_PER_MS
from springline.projection.catalog import refresh_pending
from springline.projection.fold import Handler, automation, dispatch, ours, runs, tasks, timers
from springline.projection.rows import NOTHING_PENDING, UsedKeyRow
from springline.projection.schema import Key
from springline.projection.state import State
from springline.projection.tables import GroupedTable, RowTable
from springline.ulids import ulid_time_ms

_APPLIED, _DUPLICATE = EventOutcome.APPLIED, EventOutcome.DUPLICATE
_NOT_APPLIED, _UNKNOWN = EventOutcome.NOT_APPLIED, EventOutcome.UNKNOWN

HANDLERS: Final[dict[type, Handler[Any]]] = by_payload(
    (*runs.HANDLERS, *tasks.HANDLERS, *dispatch.HANDLERS, *timers.HANDLERS, *automation.HANDLERS, *ours.HANDLERS)
)
"""The handler of each type of event."""

_FOLDS: Final = {kind: row.fold for kind, row in HANDLERS.items() if not EVENT_TYPES[kind].is_ours}
_OURS: Final = {kind: row.fold for kind, row in HANDLERS.items() if EVENT_TYPES[kind].is_ours}
_EFFECTS: Final = ours.EFFECTS
_OF_A_RUN: Final = frozenset(kind for kind, row in EVENT_TYPES.items() if row.owner is Owner.RUN)


class EventOutOfPlace(ValueError):
    """An event that cannot be folded here: of another scope, or not above the last one."""


def fold_event(state: State, event: Event) -> EventOutcome:
    """Fold one event into a state and return its outcome.

    Raises `EventOutOfPlace` for an event of another tenant or workspace, or whose id is not above the state's
    `last_event_id`; the state is as before then.
    """
    event_id = event.event_id
    if event_id <= state.last_event_id:
        raise EventOutOfPlace(f"event {event_id!r} is not above {state.last_event_id!r}: fold again from below it")
    if event.tenant_id != state.config.tenant or event.workspace_id != state.config.workspace:
        raise EventOutOfPlace(f"event {event_id!r} belongs to {event.tenant_id!r}, {event.workspace_id!r}")
    state.last_event_id = event_id
    if state.prunes:
        advance_frontier(state, event_id)
    key = event.idempotency_key
    if key in state.keys.rows:
        return _DUPLICATE
    data: Any = event.data
    kind = type(data)
    handler = _FOLDS.get(kind)
    if handler is None:
        return _fold_ours(state, event, kind)
    at_ms = event.timestamp_ns // NS_PER_MS
    if not handler(state, event_id, at_ms, data):
        return _NOT_APPLIED
    if kind in _OF_A_RUN:
        family = state.families.of.get(data.run_id)
        if family is not None:
            run = family.run
            if run is not None and run.pending is not NOTHING_PENDING:
                refresh_pending(state.families, family, at_ms)
    event_type = event.event_type
    state.keys.put(key, UsedKeyRow(event_id, _TYPE_NAMES.get(event_type, event_type), at_ms))
    effect = _EFFECTS.get(kind)
    if effect is not None:
        effect(state, event_id, at_ms, data)
    return _APPLIED


def _fold_ours(state: State, event: Event, kind: type) -> EventOutcome:
    """Fold an event of a type that the reference does not know: one of ours, or of a newer version."""
    handler = _OURS.get(kind)
    if handler is None:
        return _UNKNOWN
    key = event.idempotency_key
    if key in state.own_keys.rows:
        return _DUPLICATE
    at_ms = event.timestamp_ns // NS_PER_MS
    data: Any = event.data
    if not handler(state, event.event_id, at_ms, data):
        return _NOT_APPLIED
    state.own_keys.put(key, UsedKeyRow(event.event_id, kind.__name__, at_ms))
    return _APPLIED


def fold_all(state: State, events: Iterable[Event]) -> Counter[EventOutcome]:
    """Fold many events into a state, and count their outcomes: the entry point for callers with more than one.

    Raises as `fold_event`: those before the bad one are folded. Python's cyclic garbage collection is paused meanwhile,
    also for what `events` does: folding makes no cycles, and searching millions of objects for them takes longer than
    the fold.
    """
    # The outcome of nearly all events is counted without a look-up.
    applied, others = 0, []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for event in events:
            outcome = fold_event(state, event)
            if outcome is _APPLIED:
                applied += 1
            else:
                others.append(outcome)
    finally:
        if collecting:
            gc.enable()
    outcomes = Counter(others)
    if applied:
        outcomes[_APPLIED] = applied
    return outcomes


_TYPE_NAMES: Final = {kind.__name__: kind.__name__ for kind in EVENT_TYPES}
"""Names of event types, by themselves: one string for all rows instead of one for each."""

MS_PER_DAY: Final = 86_400_000
KEPT_DAYS: Final = 30
"""How long evaluations and idempotency keys are kept."""


def advance_frontier(state: State, event_id: str) -> None:
    """Move the frontier to the time in an event's id, if it has one that is later, and delete what is too old."""
    now_ms = ulid_time_ms(event_id)
    if now_ms is None or (state.frontier_ms is not None and now_ms <= state.frontier_ms):
        return
    state.frontier_ms = now_ms
    for table in state.aging:
        table.remove_before(now_ms - KEPT_DAYS * MS_PER_DAY)
    if state.expiry is not None and state.config.retention_days is not None:
        limit_ms = now_ms - state.config.retention_days * MS_PER_DAY
        for run_id in state.expiry.take_expired(state.families, limit_ms):
            _expire(state, run_id)


def _expire(state: State, run_id: str) -> None:
    """Delete a run with all rows that name it, and its run keys with their conflicts."""
    state.families.remove(run_id)
    run_keys = _group(state.run_keys, run_id)
    for run_key in run_keys:
        for conflict in _group(state.conflicts, str(run_key)):
            state.conflicts.remove(conflict)
        state.run_keys.remove(run_key)
    for table in (state.timers, state.outbox, state.own_runs, state.attempts, state.notes):
        for key in _group(table, run_id):
            table.remove(key)


def _group(table: RowTable[Any], group: str) -> tuple[Key, ...]:
    return table.in_group(group) if isinstance(table, GroupedTable) else ()
