"""The event of an attempt's end, from what its worker said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import DecodeError, Struct, json
from msgspec.structs import replace

from springline.control.runs.messages import AttemptEnded, FoundByCheck, WrittenVersion
from springline.ledger.events import TaskCompletionRecorded
from springline.ledger.nested import CompletionVisibility, ErrorCategory, TaskError, TaskMetrics, TaskOutput
from springline.ledger.timestamps import format_ms

UNSEEN_WORKER: Final = "springline"
"""The worker in events about attempts that no worker has answered for."""
ENDED_APART: Final = "ended_apart"
"""The note on an attempt that its worker ended when it was the task's own no more."""
METADATA: Final = "metadata"
"""The note on an attempt that has what its function told by `context.add_metadata`."""
_MESSAGE_CHARACTERS: Final = 1_000
_TRACE_CHARACTERS: Final = 8_000
_TABLES_BYTES: Final = 10 * 1024
"""The tables of an end take so much of its member at most (`springline.ledger.member.MAX_MEMBER_BYTES`)."""
_CHECKS_BYTES: Final = 5 * 1024
"""Likewise, what checks have found."""
_CHECK_CHARACTERS: Final = 300


def unseen_end(
    category: ErrorCategory,
    message: str | None,
    now_ms: int,
    *,
    reason_code: str | None = None,
    worker_id: str | None = None,
) -> AttemptEnded:
    """Return the end of an attempt of which no worker has said how it was; cancelled, by that category, else failed.

    `worker_id`: the worker that had it, if one is known.
    """
    return AttemptEnded(
        outcome="cancelled" if category == "CANCELLED" else "failed",
        worker_id=worker_id or UNSEEN_WORKER,
        started_at_ms=now_ms,
        ended_at_ms=now_ms,
        category=category,
        message=message,
        reason_code=reason_code,
    )


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
    if said.tables:
        member["tables"] = written_tables(said.tables)
    if said.checks:
        member["checks"] = found_by_checks(said.checks)
    if said.log_chunks:
        member["log_chunks"] = said.log_chunks
    metrics = None
    if said.cpu_time_ms is not None or said.peak_memory_bytes is not None:
        metrics = TaskMetrics(cpu_time_ms=said.cpu_time_ms, peak_memory_bytes=said.peak_memory_bytes)
    end = replace(end, metrics=metrics, springline=member or None)
    if end.outcome == "succeeded" and end.asset_key is None:
        # A task of the pipeline: nothing is materialized, and there is nothing that could become visible.
        return end
    if end.outcome == "succeeded":
        return replace(
            end,
            materialization_id=end.attempt_id,
            output=_output(end.attempt_id, said.tables),
            output_visibility=CompletionVisibility(visibility_state="visible"),
        )
    message = short_message(said.message or "no message")
    if end.outcome == "skipped":
        return replace(end, error_message=message)
    error = TaskError(
        category=said.category or "USER_CODE",
        message=message,
        stack_trace=None if said.stack_trace is None else cut_trace(said.stack_trace),
        retryable=again,
    )
    return replace(end, error_message=message, error=error)


def written_tables(written: Sequence[WrittenVersion]) -> list[dict[str, Any]]:
    """Return what was written as the member of an end has it: the last of it, if all would not fit into one."""
    kept: list[dict[str, Any]] = []
    size = 0
    for one in reversed(written):
        plain = one.model_dump(exclude_none=True)
        size += len(json.encode(plain))
        if size > _TABLES_BYTES:
            break
        kept.append(plain)
    return kept[::-1]


def found_by_checks(found: Sequence[FoundByCheck]) -> list[dict[str, Any]]:
    """Return what checks have found as the member of an end has it.

    If all would not fit into one, those that hold lose their messages first, then are left out, the last ones first.
    """
    told = [
        {
            **one.model_dump(exclude_none=True),
            **({} if one.message is None else {"message": _cut(one.message, _CHECK_CHARACTERS)}),
        }
        for one in found
    ]
    for one in told:
        if _size(told) > _CHECKS_BYTES and one["passed"]:
            one.pop("message", None)
    for passed in (True, False):
        while _size(told) > _CHECKS_BYTES and any(one["passed"] is passed for one in told):
            last = max(place for place, one in enumerate(told) if one["passed"] is passed)
            del told[last]
    return told


def metadata_detail(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the detail of a note that has an attempt's metadata: as text, as events have no fractions."""
    return {"json": json.encode(metadata).decode()}


def metadata_in(detail: str | None) -> dict[str, Any]:
    """Return the metadata of a note's detail, empty if it has none that can be read."""
    try:
        found = json.decode(json.decode(detail or "{}", type=_MetadataDetail).json)
    except DecodeError:
        return {}
    return {name: _readable(one) for name, one in found.items()} if isinstance(found, dict) else {}


def _readable(value: Any) -> Any:
    """Return a value of metadata whose numbers readers of JSON take: older builds recorded those beyond 64 bits."""
    if isinstance(value, dict):
        return {name: _readable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_readable(one) for one in value]
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**64 else value


class _MetadataDetail(Struct):
    json: str = "{}"


def _size(plain: Any) -> int:
    return len(json.encode(plain))


def _output(attempt_id: str, written: Sequence[WrittenVersion]) -> TaskOutput:
    """Return the output of an attempt: with table and version, if it has written one table alone."""
    output = TaskOutput(materialization_id=attempt_id, output_visibility_state="VISIBLE")
    if len({one.table for one in written}) != 1:
        return output
    last = written[-1]
    rows = last.rows if len(written) == 1 else None
    return replace(output, delta_table=last.table, delta_version=last.version, row_count=rows)


def short_message(text: str) -> str:
    """Return a message of an attempt as events have it: cut, if it is long."""
    return _cut(text, _MESSAGE_CHARACTERS)


def cut_trace(text: str) -> str:
    """Return a stack trace of an attempt as events have it: cut, if it is long."""
    return _cut(text, _TRACE_CHARACTERS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
