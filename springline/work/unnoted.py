"""What the seals of an ended run's tasks say that none of its events does, as notes on the attempts.

A seal is no commit (docs/protocol.md#write-sets). What it names that is not committed when the run ends waits: a rerun
of what failed commits it, and nothing else does.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Final, cast

from msgspec import json

from springline.control.runs.apart import SEALED, UNTOLD_MS, may_have_sealed, tells_writes, untold_detail
from springline.control.runs.ends import ENDED_APART
from springline.control.runs.standing import effects_scope
from springline.ledger.events import AttemptNoted
from springline.ledger.timestamps import format_ms
from springline.paths import Scope
from springline.projection.rows import AttemptRow, NoteRow, TaskRow
from springline.projection.schema import CANCELLED, SUCCEEDED
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.runs.loading import own_row
from springline.runs.untold import cancelled_ms, is_told
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.storage.together import each
from springline.work.seals import Seal, read_seal

TABLES: Final = ("runs", "tasks", "x_runs", "x_attempts", "x_notes")
_TABLES_BYTES: Final = 8 * 1024
"""The writes of a note take so much at most; `writes` counts all."""


async def unnoted_seals(store: ObjectStore, reader: PublishedReader, scope: Scope, run_id: str) -> list[AttemptNoted]:
    """Return the notes that a run lacks: of its tasks that did not succeed, what they have sealed.

    `store` is the whole store; each seal is read by its name. Raises `DamagedObject` if the published state cannot be
    read, and the store's errors.
    """
    snapshot = await reader.snapshot(scope, TABLES)
    tasks, kept = await asyncio.to_thread(_looked_at, snapshot, run_id)
    part = ScopedStore(store, scope)

    async def noted(task: TaskRow) -> AttemptNoted | None:
        try:
            found = await read_seal(part, kept, task.task_key)
        except DamagedObject as error:
            return _note_of_damage(snapshot, task, error)
        return None if found is None else _note_of(snapshot, task, found)

    return [one for one in await each(noted, tasks) if one is not None]


async def unnoted_ends(reader: PublishedReader, scope: Scope, run_id: str, now_ms: int) -> list[AttemptNoted]:
    """Return the notes on attempts of a run that a cancellation has ended on record, and of which nobody told an end.

    It has no workflow that could. Raises `DamagedObject` if the published state cannot be read, and the store's errors.
    """
    snapshot = await reader.snapshot(scope, TABLES)

    def found() -> list[AttemptNoted]:
        below: Any = snapshot["tasks"].below((run_id,))
        tasks = [TaskRow(*row) for row in below]
        ended = [one for one in tasks if one.state == CANCELLED and now_ms - cancelled_ms(one) >= UNTOLD_MS]
        return [
            AttemptNoted(run_id, one.task_key, one.attempt, one.attempt_id, ENDED_APART, untold_detail())
            for one in ended
            if one.attempt_id is not None and not is_told(snapshot, one)
        ]

    return await asyncio.to_thread(found)


def _looked_at(snapshot: StateSnapshot, run_id: str) -> tuple[list[TaskRow], str]:
    """Return the tasks whose seals are read, and the run under which they lie."""
    below: Any = {name: snapshot[name].below((run_id,)) for name in ("tasks", "x_attempts")}
    ended: defaultdict[str, list[AttemptRow]] = defaultdict(list)
    for row in below["x_attempts"]:
        ended[(attempt := AttemptRow(*row)).task_key].append(attempt)
    tasks = [TaskRow(*row) for row in below["tasks"]]
    found = [one for one in tasks if may_have_sealed(one, ended[one.task_key])]
    return found, effects_scope(run_id, own_row(snapshot, run_id))


def _note_of(snapshot: StateSnapshot, task: TaskRow, found: Seal) -> AttemptNoted | None:
    """Return the note on the attempt that has sealed; None if its end or a note tells of its writes already."""
    # A rerun may find what its parent has sealed: the note is the parent's, while that is kept.
    run_id = task.run_id if snapshot["runs"].get(found.run_id) is None else found.run_id
    key = (run_id, task.task_key, found.attempt_id)
    end: Any = snapshot["x_attempts"].get(key)
    if end is not None and AttemptRow(*end).outcome == SUCCEEDED:
        return None
    apart = _note(snapshot, *key, ENDED_APART)
    if _note(snapshot, *key, SEALED) is not None or (apart is not None and tells_writes(apart.detail)):
        return None
    detail = {
        "worker_id": found.worker_id,
        "sealed_at": format_ms(found.sealed_at_ms),
        "writes": len(found.writes),
        "tables": _tables(found),
    }
    return AttemptNoted(run_id, task.task_key, found.attempt, found.attempt_id, SEALED, detail)


def _note_of_damage(snapshot: StateSnapshot, task: TaskRow, error: DamagedObject) -> AttemptNoted | None:
    attempt_id = task.attempt_id
    if attempt_id is None or _note(snapshot, task.run_id, task.task_key, attempt_id, SEALED) is not None:
        return None
    return AttemptNoted(task.run_id, task.task_key, task.attempt, attempt_id, SEALED, {"damaged": str(error)})


def _note(snapshot: StateSnapshot, *key: str) -> NoteRow | None:
    row: Any = snapshot["x_notes"].get(key)
    return None if row is None else NoteRow(*cast(Any, row))


def _tables(found: Seal) -> list[dict[str, Any]]:
    """Return what a seal names, in order: the first of it, if all would not fit."""
    kept: list[dict[str, Any]] = []
    size = 0
    for one in found.writes:
        plain = {"table": one.table, "operation": one.operation, "rows": one.rows, "idempotency_key": one.key}
        size += len(json.encode(plain))
        if size > _TABLES_BYTES:
            break
        kept.append({name: value for name, value in plain.items() if value is not None})
    return kept
