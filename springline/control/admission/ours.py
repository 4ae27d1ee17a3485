"""Events of our own types (docs/events.md#what-is-ours)."""

from __future__ import annotations

from typing import Final

from springline.control.admission.automation import check_chunk_id
from springline.control.admission.cases import (
    Case,
    EventRule,
    Ruling,
    Write,
    check_addressable,
    check_no_colon,
    invalid,
    repeated,
)
from springline.control.admission.tasks import check_attempt
from springline.ledger.events import (
    AttemptNoted,
    BackfillChunkEnded,
    HoldChanged,
    SensorChanged,
    SensorMessage,
    derived_key,
)
from springline.projection.state import State

_AGAIN: Final = "Read its state and decide again."


def admit_hold(state: State, case: Case[HoldChanged]) -> Ruling:
    """Admit a hold where there is none, and its end where there is one."""
    data = case.data
    if data.held == state.is_held:
        raise case.conflict("held", f"the workspace is {'' if data.held else 'not '}held already", _AGAIN)
    return Write(data)


def missed_hold(state: State, data: HoldChanged) -> str | None:
    """Return why a hold whose key was used is not in effect: its caller must not take it for done."""
    if data.held == state.is_held:
        return None
    said = "is" if state.is_held else "is not"
    return f"the workspace {said} held, and the key of change {data.change_id!r} was used"


def _check_sensor_id(data: SensorChanged | SensorMessage, field: str) -> None:
    """Refuse the id of a sensor that cannot be part of a URL or of a key."""
    check_addressable(data.sensor_id, f"{field}.sensor_id")
    check_no_colon(data.sensor_id, f"{field}.sensor_id")


def check_sensor_change(data: SensorChanged, field: str, now_ms: int) -> None:
    """Refuse a cursor that is not set, and a change that sets none; ids that cannot be part of a URL or of a key."""
    _check_sensor_id(data, field)
    if data.change == "cursor_set" and data.cursor is None:
        raise invalid(f"{field}.cursor", None, "is missing in a change that sets it", "Give it, or use `reset`.")
    if data.change != "cursor_set" and data.cursor is not None:
        raise invalid(
            f"{field}.cursor", data.cursor, f"has no meaning for {data.change}", "Leave it out, or use `cursor_set`."
        )


def admit_sensor_change(state: State, case: Case[SensorChanged]) -> Ruling:
    """Admit a change of a sensor: a pause of one that is active, the end of a pause, or another cursor."""
    data = case.data
    paused = state.is_paused(data.sensor_id)
    if data.change in ("paused", "resumed") and paused == (data.change == "paused"):
        said = "paused" if paused else "not paused"
        raise case.conflict("change", f"sensor {data.sensor_id!r} is {said} already", _AGAIN)
    return Write(data)


def missed_sensor_change(state: State, data: SensorChanged) -> str | None:
    """Return why a pause, or the end of one, whose key was used is not in effect."""
    paused = state.is_paused(data.sensor_id)
    if data.change not in ("paused", "resumed") or paused == (data.change == "paused"):
        return None
    said = "is" if paused else "is not"
    return f"sensor {data.sensor_id!r} {said} paused, and the key of change {data.change_id!r} was used"


def check_message(data: SensorMessage, field: str, now_ms: int) -> None:
    """Refuse ids that cannot be part of a URL or of a key."""
    _check_sensor_id(data, field)
    check_addressable(data.message_id, f"{field}.message_id")


def admit_message(state: State, case: Case[SensorMessage]) -> Ruling:
    """Admit a message once, whatever keys its events have: an evaluation answers it."""
    data = case.data
    first = repeated(state, data, derived_key(data), case.key_field)
    if first is not None:
        return first
    waits = state.message(data.sensor_id, data.message_id) is not None
    evaluated = not waits and state.event_with_key(f"sensor_eval:{data.sensor_id}:msg:{data.message_id}") is not None
    if evaluated or waits:
        raise case.conflict(
            "message_id",
            f"sensor {data.sensor_id!r} {'was evaluated for' if evaluated else 'has'} message {data.message_id!r}",
            "Give each message an id of its own.",
        )
    return Write(data)


def check_chunk_end(data: BackfillChunkEnded, field: str, now_ms: int) -> None:
    """Refuse the end of a chunk whose id is not its own, and one object of keys that is named by half."""
    check_chunk_id(data, field)
    if (data.keys_path is None) != (data.keys_sha256 is None):
        missing = "keys_path" if data.keys_path is None else "keys_sha256"
        raise invalid(f"{field}.{missing}", None, "is missing beside the other", "Name the object by path and SHA-256.")


def admit_chunk_end(state: State, case: Case[BackfillChunkEnded]) -> Ruling:
    """Admit the end of a planned chunk, once; it counts no more partitions than the chunk has."""
    data = case.data
    row = state.own_chunk(data.chunk_id)
    if row is None or row.backfill_id != data.backfill_id:
        raise case.conflict(
            "chunk_id",
            f"backfill {data.backfill_id!r} has no chunk {data.chunk_id!r}",
            "Append its backfill_chunk_planned first.",
        )
    if row.outcome is not None:
        raise case.conflict("chunk_id", f"chunk {data.chunk_id!r} has ended: {row.outcome}", "End each chunk once.")
    counted = data.done + len(data.failed or ()) + len(data.skipped or ())
    if counted > row.partitions:
        raise case.conflict(
            "done", f"{counted} partitions are counted, and the chunk has {row.partitions}", "Count each once."
        )
    return Write(data)


def check_note(data: AttemptNoted, field: str, now_ms: int) -> None:
    """Refuse attempt 0, and an attempt id or note that cannot be part of a key."""
    check_attempt(data, field, now_ms)
    check_no_colon(data.attempt_id, f"{field}.attempt_id")
    check_no_colon(data.note, f"{field}.note")


def admit_note(state: State, case: Case[AttemptNoted]) -> Ruling:
    """Admit a note on an attempt of a known run, each note once."""
    data = case.data
    first = repeated(state, data, derived_key(data), case.key_field)
    if first is not None:
        return first
    if state.run(data.run_id) is None:
        raise case.conflict("run_id", f"there is no run {data.run_id!r}", "Append its run_triggered first.")
    if state.note(data.run_id, data.task_key, data.attempt_id, data.note) is not None:
        raise case.conflict("note", f"attempt {data.attempt_id!r} has the note {data.note!r}", "Note each thing once.")
    return Write(data)


RULES: Final = (
    EventRule(HoldChanged, admit_hold, check=None, missed=missed_hold),
    EventRule(SensorChanged, admit_sensor_change, check=check_sensor_change, missed=missed_sensor_change),
    EventRule(SensorMessage, admit_message, check=check_message, missed=None),
    EventRule(BackfillChunkEnded, admit_chunk_end, check=check_chunk_end, missed=None),
    EventRule(AttemptNoted, admit_note, check=check_note, missed=None),
)
