"""The member `springline` of an event's payload: what we say beyond the reference's fields.

The reference passes over it, as over every field that it does not know. We are strict when we write one: each type
of event has a struct of the fields that its member may have, and a member takes at most `MAX_MEMBER_BYTES`. We are
lenient when we read: a member, or a field of one, that is not as it should be counts as absent, so that no event of
another writer stops a fold (docs/events.md#what-is-ours).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct, inspect

from springline.ledger import events as e
from springline.ledger.nested import I64, U32, U64, Id, Text, Timestamp
from springline.ledger.shapes import ReadingMode, ShapeError, reader_of, struct_reader

MEMBER: Final = "springline"
MAX_MEMBER_BYTES: Final = 16 * 1024
"""The longest member, in bytes of canonical JSON."""

_READING: Final = ReadingMode()


class EventMember(Struct, omit_defaults=True, gc=False, kw_only=True):
    """The fields of a member. Every one is optional."""


class TableWrite(Struct, omit_defaults=True, gc=False):
    """A table that a task wrote, with the version and the key of its commit, and what was done to how many rows."""

    table: Text
    version: U32
    idempotency_key: Text | None = None
    operation: Text | None = None
    rows: U64 | None = None


class CheckResult(Struct, omit_defaults=True, gc=False):
    """The result of a check of a task's output."""

    name: Text
    severity: Literal["warn", "error"]
    passed: bool
    message: str | None = None


class RunTriggeredMember(EventMember):
    """Of a run: the request that it answers, the run whose sealed write sets it inherits, and its configuration."""

    request_event_id: Id | None = None
    effects_scope: Id | None = None
    config: dict[str, Any] | None = None


class PlanCreatedMember(EventMember):
    """Of a plan: the deployed manifest that it was compiled from."""

    manifest_id: Id | None = None


class CancelMember(EventMember):
    """Of a cancellation: its reason in a form for programs."""

    reason_code: Id | None = None


class StartMember(EventMember):
    """Of a start: when the worker began, by its clock, and the code location."""

    started_at: Timestamp | None = None
    location: Id | None = None


class EndMember(EventMember):
    """Of an end: the worker's times, every table written, the results of checks, and a reason for programs.

    `log_chunks`: how many chunks of the attempt's log are in the store.
    """

    started_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    reason_code: Id | None = None
    tables: list[TableWrite] | None = None
    checks: list[CheckResult] | None = None
    log_chunks: U32 | None = None


class DispatchMember(EventMember):
    """Of a dispatch: the code location that is to run the attempt."""

    location: Id | None = None


class DefinitionMember(EventMember):
    """Of a schedule's definition: what a cron line and a switch cannot say.

    `dialect` is that of the cron expression; without it, the reference's. `interval_seconds` replaces the expression.
    `deleted`: the definition has left its file, or was deleted. `location`: the code location whose file declares it.
    Of the instants up to `effective_from` the definition before decides, of those behind it this one; `replaces` is
    that one's event.
    """

    dialect: Literal["unix", "reference"] | None = None
    interval_seconds: U32 | None = None
    overlap: Literal["allow", "skip", "queue_one"] | None = None
    max_active_runs: U32 | None = None
    jitter_seconds: U32 | None = None
    deleted: bool | None = None
    location: Id | None = None
    effective_from: Timestamp | None = None
    replaces: Id | None = None


class TickMember(EventMember):
    """Of a tick: why it asked for no run, the range of instants that it stands for, and the time zone data used."""

    reason_code: Id | None = None
    range_from: Timestamp | None = None
    range_to: Timestamp | None = None
    instants: U32 | None = None
    tz_version: Text | None = None


class EvaluationMember(EventMember):
    """Of an evaluation: its reason for programs, and how many polls without a finding it sums up.

    `seen_version`: the version of the sensor's state that it was made on, and `seen_change` the last change by
    operators, empty for none. An evaluation that names them is refused if either is another one by now.
    """

    reason_code: Id | None = None
    polls: U32 | None = None
    seen_version: U32 | None = None
    seen_change: Text | None = None


class RunRequestedMember(EventMember):
    """Of a request for a run: its configuration, and the run that it repeats in part: of a subset, which tasks."""

    config: dict[str, Any] | None = None
    parent_run_id: Id | None = None
    rerun: Literal["failed", "subset"] | None = None
    tasks: list[Text] | None = None


class BackfillMember(EventMember):
    """Of a backfill: the order of its partitions, its priority, one task for each partition or one with the list, and
    the object that lists its partitions.

    `request_fingerprint`: what was asked for under its request id. `asked_by`: the user who asked. The fields `stale_`
    are of a backfill of what was stale: the published revision and the instant that it was judged by, how many
    partitions were stale, counted for each asset, and the reasons that counted, None for all.
    """

    order: Literal["oldest_first", "newest_first"] | None = None
    priority: I64 | None = None
    request_fingerprint: Id | None = None
    mode: Literal["task_for_each", "task_with_list"] | None = None
    keys_path: Text | None = None
    keys_sha256: Id | None = None
    asked_by: Text | None = None
    stale_revision: Id | None = None
    stale_as_of: Timestamp | None = None
    stale_partitions: U64 | None = None
    stale_reasons: list[Text] | None = None


class ReasonMember(EventMember):
    """Of a change: its reason in a form for programs."""

    reason_code: Id | None = None


_MEMBERS: Final[dict[type, type[EventMember]]] = {
    e.RunTriggered: RunTriggeredMember,
    e.PlanCreated: PlanCreatedMember,
    e.RunCancelRequested: CancelMember,
    e.TaskStarted: StartMember,
    e.TaskFinished: EndMember,
    e.TaskCompletionRecorded: EndMember,
    e.DispatchRequested: DispatchMember,
    e.TimerRequested: ReasonMember,
    e.ScheduleDefinitionUpserted: DefinitionMember,
    e.ScheduleTicked: TickMember,
    e.SensorEvaluated: EvaluationMember,
    e.RunRequested: RunRequestedMember,
    e.BackfillCreated: BackfillMember,
    e.BackfillStateChanged: ReasonMember,
}
"""The members that we write, by type of event. A type that is not here has none."""

M = TypeVar("M", bound=EventMember)
_Reader = Callable[[Any, str, ReadingMode], Any]


@cache
def _struct_of(member: type[EventMember]) -> inspect.StructType:
    kind = inspect.type_info(member)
    if not isinstance(kind, inspect.StructType):
        raise TypeError(f"{kind} is no struct")
    return kind


@cache
def _readers(member: type[EventMember]) -> dict[str, _Reader]:
    return {field.name: reader_of(field.type) for field in _struct_of(member).fields}


@cache
def _whole_reader(member: type[EventMember]) -> _Reader:
    return struct_reader(_struct_of(member))


def member_type(payload: type) -> type[EventMember] | None:
    """Return the type of the member that payloads of a type may have, None for none."""
    return _MEMBERS.get(payload)


def written_member(data: e.Payload, mode: ReadingMode) -> dict[str, Any] | None:
    """Return the member of a payload that is to be written, checked, None if it has none.

    Raises `ShapeError` for a member that the type does not have, a field of it that is wrong, and one that is too long.
    """
    value = data.springline
    if value is None:
        return None
    kind = member_type(type(data))
    if kind is None:
        raise ShapeError(MEMBER, f"is no field of {type(data).__name__}: leave it out")
    read: dict[str, Any] = msgspec.to_builtins(_whole_reader(kind)(value, MEMBER, mode))
    size = len(msgspec.json.encode(read))
    if size > MAX_MEMBER_BYTES:
        raise ShapeError(MEMBER, f"has {size} bytes, at most {MAX_MEMBER_BYTES} are taken: put more into an object")
    return read


def typed_member(data: e.Payload) -> EventMember | None:
    """Return the member of a payload as its type has it, as `member_of`; None if it has none."""
    kind = member_type(type(data))
    return None if kind is None else member_of(data, kind)


def member_of(data: Any, kind: type[M]) -> M | None:
    """Return the member of a payload as far as it is as it should be; None if the payload has none."""
    value = data.springline
    if type(value) is not dict or len(msgspec.json.encode(value)) > MAX_MEMBER_BYTES:
        return None
    found: dict[str, Any] = {}
    for name, read in _readers(kind).items():
        item = value.get(name)
        if item is None:
            continue
        try:
            found[name] = read(item, name, _READING)
        except ShapeError:
            continue
    return kind(**found)
