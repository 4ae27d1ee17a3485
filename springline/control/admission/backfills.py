"""Backfills, their chunks and states (docs/events.md#fold-automation)."""

from __future__ import annotations

from typing import Final

from springline.control.admission.cases import Case, Ruling, Write
from springline.control.admission.keys import repeated
from springline.control.admission.refusals import invalid
from springline.control.admission.texts import check_addressable
from springline.ledger.events import BackfillChunkPlanned, BackfillCreated, BackfillStateChanged
from springline.ledger.identifiers import backfill_chunk_id, backfill_run_key
from springline.ledger.keys import derived_key
from springline.projection.rows import BackfillRow
from springline.projection.state import State

FINISHED_BACKFILL: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
"""Terminal states of a backfill."""

_LEGAL: Final = {
    "PENDING": ("RUNNING", "CANCELLED"),
    "RUNNING": ("PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"),
    "PAUSED": ("RUNNING", "CANCELLED"),
}


def check_backfill(data: BackfillCreated, field: str, now_ms: int) -> None:
    """Refuse a backfill that could plan or run nothing, or that no URL could name."""
    check_addressable(data.backfill_id, f"{field}.backfill_id")
    for name in ("chunk_size", "max_concurrent_runs"):
        if getattr(data, name) < 1:
            raise invalid(f"{field}.{name}", 0, "is 0: the backfill would never get on", "Give 1 or more.")


def check_chunk(data: BackfillChunkPlanned, field: str, now_ms: int) -> None:
    """Refuse a chunk without partitions, and one whose id or run key is not its own: it would not be counted."""
    if not data.partition_keys:
        raise invalid(
            f"{field}.partition_keys", [], "is empty: the chunk's run would have no tasks", "Name partitions."
        )
    own_id = backfill_chunk_id(data.backfill_id, data.chunk_index)
    if data.chunk_id != own_id:
        raise invalid(f"{field}.chunk_id", data.chunk_id, "is not that of backfill and index", f"Give {own_id}.")
    own_key = backfill_run_key(data.backfill_id, data.chunk_index)
    if data.run_key != own_key:
        raise invalid(f"{field}.run_key", data.run_key, "is not that of backfill and index", f"Give {own_key}.")


def admit_backfill(state: State, case: Case[BackfillCreated]) -> Ruling:
    """Admit a backfill under a new id."""
    data = case.data
    if state.backfill(data.backfill_id) is not None:
        first = repeated(state, data, derived_key(data), case.key_field)
        if first is not None:
            return first
        raise case.conflict(
            "backfill_id", f"backfill {data.backfill_id!r} exists already", "Give the new backfill an id of its own."
        )
    return Write(data)


def admit_chunk(state: State, case: Case[BackfillChunkPlanned]) -> Ruling:
    """Admit a new chunk of a backfill that has not ended, under a run key that nobody used."""
    data = case.data
    backfill = _backfill(state, case)
    if backfill.state in FINISHED_BACKFILL:
        raise case.conflict(
            "backfill_id", f"backfill {data.backfill_id!r} has ended: {backfill.state}", "Plan no more."
        )
    if state.chunk(data.chunk_id) is not None:
        raise case.conflict("chunk_index", f"chunk {data.chunk_id!r} is planned", "Plan each chunk once.")
    if state.run_key(data.run_key) is not None or state.event_with_key(f"run:{data.run_key}") is not None:
        raise case.conflict(
            "run_key",
            f"run key {data.run_key!r} was used: the chunk would never get its run",
            "Use another backfill id.",
        )
    return Write(data)


def admit_state_change(state: State, case: Case[BackfillStateChanged]) -> Ruling:
    """Admit the next change of a backfill's state, if it is a legal one."""
    data = case.data
    backfill = _backfill(state, case)
    if data.from_state != backfill.state:
        raise case.conflict("from_state", f"the backfill is {backfill.state}", "Read its state and decide again.")
    if data.state_version != backfill.state_version + 1:
        raise case.conflict(
            "state_version",
            f"its next state version is {backfill.state_version + 1}",
            "Read its state and decide again.",
        )
    legal = _LEGAL.get(backfill.state, ())
    if data.to_state not in legal:
        raise case.conflict(
            "to_state",
            f"a backfill that is {backfill.state} does not become {data.to_state}",
            f"Choose one of {', '.join(legal)}." if legal else "It has ended.",
        )
    return Write(data)


def _backfill(state: State, case: Case[BackfillChunkPlanned] | Case[BackfillStateChanged]) -> BackfillRow:
    backfill = state.backfill(case.data.backfill_id)
    if backfill is None:
        raise case.conflict(
            "backfill_id", f"there is no backfill {case.data.backfill_id!r}", "Append its backfill_created first."
        )
    return backfill
