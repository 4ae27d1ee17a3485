"""The event of an attempt's end, from what its worker said."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from springline.control.runs.messages import AttemptEnded
from springline.ledger.events import TaskCompletionRecorded
from springline.ledger.nested import CompletionVisibility, TaskError, TaskMetrics, TaskOutput
from springline.ledger.timestamps import format_ms

_MESSAGE_CHARACTERS: Final = 1_000
_TRACE_CHARACTERS: Final = 8_000


def completion(end: TaskCompletionRecorded, said: AttemptEnded, *, again: bool, seen: bool) -> TaskCompletionRecorded:
    """Return the event of an end with what its worker said of it.

    Args:
        end: which attempt of which task has ended, and how.
        said: what its worker said.
        again: whether another attempt follows a failure.
        seen: whether a worker has said it: else its times are nobody's.
    """
    member: dict[str, Any] = {}
    if seen:
        member = {"started_at": format_ms(said.started_at_ms), "ended_at": format_ms(said.ended_at_ms)}
    if said.reason_code is not None:
        member["reason_code"] = said.reason_code
    metrics = None
    if said.cpu_time_ms is not None or said.peak_memory_bytes is not None:
        metrics = TaskMetrics(cpu_time_ms=said.cpu_time_ms, peak_memory_bytes=said.peak_memory_bytes)
    end = replace(end, metrics=metrics, springline=member or None)
    if end.outcome == "succeeded":
        return replace(
            end,
            materialization_id=end.attempt_id,
            output=TaskOutput(materialization_id=end.attempt_id, output_visibility_state="VISIBLE"),
            output_visibility=CompletionVisibility(visibility_state="visible"),
        )
    message = short_message(said.message or "no message")
    if end.outcome == "skipped":
        return replace(end, error_message=message)
    error = TaskError(
        category=said.category or "USER_CODE",
        message=message,
        stack_trace=None if said.stack_trace is None else _cut(said.stack_trace, _TRACE_CHARACTERS),
        retryable=again,
    )
    return replace(end, error_message=message, error=error)


def short_message(text: str) -> str:
    """Return a message of an attempt as events have it: cut, if it is long."""
    return _cut(text, _MESSAGE_CHARACTERS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
