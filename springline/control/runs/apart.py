"""Attempts whose ends do not tell what became of their writes: which tasks are looked at, and what a note says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import DecodeError, json

from springline.control.runs.ends import ENDED_APART
from springline.projection.rows import AttemptRow, TaskRow
from springline.projection.schema import SUCCEEDED

SEALED: Final = "sealed"
"""The note on an attempt that has sealed writes, of a task that did not succeed."""
_BEFORE_SEALING: Final = frozenset({"USER_CODE", "TIMEOUT", "DATA_QUALITY"})
"""An attempt that its worker has ended so has sealed nothing."""


def may_have_sealed(task: TaskRow, attempts: Sequence[AttemptRow]) -> bool:
    """Say whether writes of a task may be sealed, and no end on record tells it.

    Args:
        task: the task of a run that has ended.
        attempts: those of its attempts that have an end.

    Returns: whether it has not succeeded, and one of its attempts has no end, or one that says nothing of its writes.
    """
    if task.state == SUCCEEDED:
        return False
    told = {one.attempt for one in attempts if one.category in _BEFORE_SEALING}
    return not told.issuperset(range(1, task.attempt + 1))


UNTOLD_MS: Final = 60_000
"""An attempt that a cancellation has ended on record is told of by its run's workflow within this, if there is one."""


def untold_detail() -> dict[str, Any]:
    """Return what a note has of an attempt of whose end nobody is left to tell."""
    told = "its run was cancelled while no workflow of it was there, and nothing tells how this attempt ended"
    return {"outcome": "failed", "message": told}


def tells_writes(detail: str | None) -> bool:
    """Say whether a note of an end, by its detail, has the versions that the attempt has written."""
    return detail_of(detail).get("outcome") == "succeeded"


def detail_of(detail: str | None) -> dict[str, Any]:
    """Return the detail of a note, empty if it has none that can be read."""
    try:
        found: Any = json.decode(detail or "{}")
    except DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def note_words(run_id: str, note: str, detail: str | None) -> str:
    """Return a note on an attempt of a run in words, without a full stop.

    Args:
        run_id: the attempt's run.
        note: what it is, `ended_apart` or `sealed`; any other is named.
        detail: more of it, as the row has it.
    """
    said = detail_of(detail)
    if note == ENDED_APART:
        told = f": {said['message']}" if said.get("message") else ""
        wrote = _names(said.get("tables"))
        return (
            f"it ended {str(said.get('outcome', 'somehow')).upper()} when it was not the task's own any more"
            + (f", and wrote {wrote}" if wrote else "")
            + told
        )
    if note == SEALED and "damaged" in said:
        return f"whether it sealed writes cannot be known: {said['damaged']}"
    if note == SEALED:
        wrote = _names(said.get("tables"))
        return (
            f"worker {said.get('worker_id')} sealed {said.get('writes')} write(s), to {wrote}: those "
            f"that no version has yet are committed by `springline run rerun {run_id} --failed`"
        )
    return note


def _names(tables: Any) -> str:
    found = tables if isinstance(tables, list) else []
    return ", ".join(sorted({str(one.get("table")) for one in found if isinstance(one, dict)}))
