"""What ends by age, before an event is folded (docs/events.md#fold-retention).

Nothing is swept: heaps know what is oldest, and the tables that runs reach into know their rows by run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from springline.ledger.event_ids import event_id_ms
from springline.projection.schema import Key
from springline.projection.tables import GroupedTable, RowTable

if TYPE_CHECKING:
    from springline.projection.state import State

MS_PER_DAY: Final = 86_400_000
KEPT_DAYS: Final = 30
"""How long evaluations and idempotency keys are kept."""


def advance_frontier(state: State, event_id: str) -> None:
    """Move the frontier to the time in an event's id, if it has one that is later, and delete what is too old."""
    now_ms = event_id_ms(event_id)
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
    """Delete a run with all that names it, and its run keys with their conflicts."""
    state.families.remove(run_id)
    run_keys = _group(state.run_keys, run_id)
    for run_key in run_keys:
        for conflict in _group(state.conflicts, str(run_key)):
            state.conflicts.remove(conflict)
        state.run_keys.remove(run_key)
    for table in (state.timers, state.outbox):
        for key in _group(table, run_id):
            table.remove(key)


def _group(table: RowTable[Any], group: str) -> tuple[Key, ...]:
    return table.in_group(group) if isinstance(table, GroupedTable) else ()
