"""Attempts whose ends do not tell what became of their writes: which tasks are looked at, and what a note says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import DecodeError, json

from springline.projection.rows import AttemptRow, TaskRow
from springline.projection.schema import CANCELLED, SUCCEEDED

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


def is_untold(task: TaskRow, attempts: Sequence[AttemptRow], noted: bool) -> bool:
    """Say whether the last attempt of a cancelled task has no end on record; `noted`: there is a note of one."""
    if task.state != CANCELLED or task.attempt_id is None or noted:
        return False
    return all(one.attempt_id != task.attempt_id for one in attempts)


def tells_writes(detail: str | None) -> bool:
    """Say whether a note of an end, by its detail, has the versions that the attempt has written."""
    try:
        found: Any = json.decode(detail or "{}")
    except DecodeError:
        return False
    return isinstance(found, dict) and found.get("outcome") == "succeeded"
