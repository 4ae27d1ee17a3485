"""Requests to a workspace's ledger, their answers, and the weights of both.

Every message between a caller and the store has a limit in bytes: Temporal takes 2 MiB a message. A request counts by
its payloads, or by its answer if that is longer: so what an answer says of a refused event is bounded.

See docs/protocol.md#ledger-rounds, docs/formats.md#ledger-requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field

from springline import bounds
from springline.errors import Code, Refusal
from springline.packing import PACKED, packed_length

MAX_REQUEST_EVENTS = 500
MAX_INGEST_PATHS = 5_000


class AppendMode(StrEnum):
    """How the events of a request are taken."""

    ALL = "all"
    """All or none."""
    EACH = "each"
    """Each by itself, as if it came alone: a refused one is answered as refused, and takes no other with it."""


class EventOutcome(StrEnum):
    """The fold's outcome of an event."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    """Its idempotency key had been used: nothing changed."""
    NOT_APPLIED = "not_applied"
    """The state does not admit it (a stale attempt, for example): nothing changed, its key stays free."""
    UNKNOWN = "unknown"
    """A type of a newer version: kept, and ignored by the fold."""


class VisibilityStatus(StrEnum):
    """Whether readers see an event."""

    VISIBLE = "visible"
    PERSISTED_NOT_VISIBLE = "persisted_not_visible"


# Declared here and checked by code, request by request: these models are messages, too, and a bound that pydantic
# checks would refuse a whole batch for one of its members.
_Id = Annotated[
    str,
    Field(json_schema_extra=bounds.judged("A key that its event's type admits.", maxLength=bounds.MAX_ID, minLength=1)),
]
_RequestId = Annotated[
    str, Field(json_schema_extra={"maxLength": bounds.MAX_REQUEST_ID, "pattern": f"^{bounds.KEY_PATTERN}$"})
]
_Mode = Annotated[
    AppendMode,
    Field(
        description="all: the events are taken whole or not at all. each: they are judged in order, each by itself, on "
        "the state after those before it; a refused one takes no other with it. Part of what request_id stands for.",
        # Left out where it says nothing new: such a message is the same, byte for byte, in every build.
        exclude_if=lambda mode: mode is AppendMode.ALL,
    ),
]
_LedgerPath = Annotated[
    str,
    Field(
        json_schema_extra=bounds.judged("One line of characters that can be printed.", maxLength=bounds.MAX_LEDGER_PATH)
    ),
]


_DATA: Final = Field(
    json_schema_extra=bounds.judged(
        "The fields of an event of its `type`, and ids that can be addressed.", maxProperties=bounds.MAX_EVENT_FIELDS
    )
)
EventData = Annotated[dict[str, Any], _DATA]


class NewEvent(BaseModel):
    """One event to append. `data` is the payload with its `type`; the key is derived from it unless given.

    See docs/formats.md#event-keys.
    """

    model_config = ConfigDict(frozen=True)

    data: Annotated[dict[str, Any], _DATA, *PACKED]
    idempotency_key: _Id | None = None
    causation_id: _Id | None = None


class AppendRequest(BaseModel):
    """Events to append together, under a request id (a canonical UUIDv7) that has one answer for ever.

    `mode`: all or none of them, or each by itself. It is part of what the request id stands for.
    """

    model_config = ConfigDict(frozen=True)

    request_id: _RequestId
    mode: _Mode = AppendMode.ALL
    events: Annotated[list[NewEvent], Field(min_length=1, max_length=MAX_REQUEST_EVENTS)]

    @cached_property
    def payload_bytes(self) -> int:
        """Bytes that its events have as compact JSON, with their keys; of a long one, what it weighs in a round."""
        return sum(
            _weight(event.data) + len(event.idempotency_key or "") + len(event.causation_id or "")
            for event in self.events
        )


class AppendedEvent(BaseModel):
    """An event of an answered request.

    `completed`: the sequencer added it, because without it the run could never end.
    An event whose key had been used before the request is not written again: its id and path are those of the
    event that used the key, and its outcome is `duplicate`.
    """

    model_config = ConfigDict(frozen=True)

    event_id: str
    event_type: str
    idempotency_key: str
    ledger_path: str
    outcome: EventOutcome
    completed: bool = False


class RefusedAppend(Refusal):
    """Why one event of a request `each` was refused. `index`: its place in the request, from 0."""

    index: int

    @classmethod
    def of(cls, index: int, refusal: Refusal) -> Self:
        """Return the refusal of the event at `index`, in at most `REFUSED_BYTES` bytes of an answer."""
        value = refusal.value
        if not (value is None or isinstance(value, bool | int)):
            value = _cut(value if isinstance(value, str) else json.dumps(value), _VALUE_BYTES)
        return cls(
            index=index,
            code=refusal.code,
            message=_cut(refusal.message, _MESSAGE_BYTES),
            field=None if refusal.field is None else _cut(refusal.field, _FIELD_BYTES),
            value=value,
            remedy=None if refusal.remedy is None else _cut(refusal.remedy, _REMEDY_BYTES),
        )


class AppendOutcome(BaseModel):
    """The outcome of one request: its events, or a `refusal` of the whole.

    `events`: those taken, in the order of the request, then completions. `refused`: those of a request `each` that were
    not, in its order. `replayed`: the request had been answered before, and this is that answer again.
    """

    model_config = ConfigDict(frozen=True)

    request_id: str
    events: list[AppendedEvent] = []
    refused: list[RefusedAppend] = []
    visibility_status: VisibilityStatus | None = None
    manifest_id: str | None = None
    manifest_revision: str | None = None
    replayed: bool = False
    refusal: Refusal | None = None

    @property
    def results(self) -> list[AppendedEvent | RefusedAppend]:
        """What became of each requested event, in the order of the request; empty if that was refused as a whole."""
        refused = {one.index: one for one in self.refused}
        taken = iter([event for event in self.events if not event.completed])
        results: list[AppendedEvent | RefusedAppend] = []
        while (one := refused.get(len(results)) or next(taken, None)) is not None:
            results.append(one)
        return results


class RefusalReason(StrEnum):
    """Why a foreign event was not accepted."""

    NOT_A_LEDGER_PATH = "not_a_ledger_path"
    WRONG_PATH = "wrong_path"
    NOT_A_ULID = "not_a_ulid"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    OTHER_SCOPE = "other_scope"
    OTHER_BODY = "other_body"
    """A known id has another body: the first accepted one counts, this one is damage."""
    FAILED = "failed"
    """This event met an unforeseen error: the fault is ours, and the caller may send it again."""
    BELOW_ADOPTED = "below_adopted"
    """It lies below the state that was taken over from the reference; only a full rebuild can place it."""


class RefusedEvent(BaseModel):
    """A foreign event that was refused; its record is at `record_path`."""

    model_config = ConfigDict(frozen=True)

    path: str
    reason: RefusalReason
    message: str
    record_path: str | None = None


class IngestRequest(BaseModel):
    """Foreign events to accept, by their explicit ledger paths, which may be late, repeated and in any order."""

    model_config = ConfigDict(frozen=True)

    event_paths: Annotated[list[_LedgerPath], Field(min_length=1, max_length=MAX_INGEST_PATHS)]


class IngestOutcome(BaseModel):
    """The outcome of the foreign events of one request.

    `accepted` of them are new (`late` of those below the watermark), `known` had been accepted before, `deferred`
    lie too far in the future, or did not fit into the round: send them again later; all others are in
    `refused`, of which an answer lists at most the first thousand, and `refused_total` counts them all.
    """

    model_config = ConfigDict(frozen=True)

    accepted: int = 0
    late: int = 0
    known: int = 0
    deferred: list[str] = []
    refused: list[RefusedEvent] = []
    refused_total: int = 0
    outcomes: dict[EventOutcome, int] = {}
    visibility_status: VisibilityStatus | None = None
    manifest_id: str | None = None
    manifest_revision: str | None = None
    refusal: Refusal | None = None


MAX_ROUND_EVENTS = 1_000
MAX_ROUND_BYTES = 1 << 20
"""The most weight of a round's requests, and of a single one."""

_UNPACKED_TO_ROUND = 8
"""Bytes of a packed event for each byte of a round's weight: a round with a plan of the most bytes has no other."""
EVENT_WEIGHT = 512
"""The least weight of an event in bytes, because its part of the answer is about so long."""
REFUSED_BYTES = 1_024
"""The most bytes that an answer says of a refused event, and the least weight of an event that is taken by itself."""
_MESSAGE_BYTES, _FIELD_BYTES, _VALUE_BYTES, _REMEDY_BYTES = 320, 128, 144, 240
"""The parts of that, as JSON; the names of the fields and the code take the rest."""
MESSAGE_EVENTS = 2_500
"""The most events of one message to the sequencer; one that is taken by itself counts for two, as its answer does."""
MESSAGE_BYTES = MAX_ROUND_BYTES + (1 << 18)
"""The most bytes of one message to the sequencer."""

_EVENT_WEIGHTS: Final = {AppendMode.ALL: EVENT_WEIGHT, AppendMode.EACH: REFUSED_BYTES}


def answer_weight(request: AppendRequest) -> int:
    """Return how long the answer to a request may become, in bytes."""
    return _EVENT_WEIGHTS[request.mode] * len(request.events)


def request_weight(request: AppendRequest) -> int:
    """Return the weight of a request in bytes: its payloads, or its answer if that is longer."""
    return max(request.payload_bytes, answer_weight(request))


def too_heavy(request: AppendRequest) -> Refusal | None:
    """Return why a request fits no round, or None if it does."""
    size = request.payload_bytes
    if size <= MAX_ROUND_BYTES:
        return None
    return Refusal(
        code=Code.PAYLOAD_TOO_LARGE,
        message=f"the events have {size} bytes, and at most {MAX_ROUND_BYTES} fit together",
        field="events",
        value=len(request.events),
        remedy="Send fewer events in a request, and data of this size as objects of their own, by reference.",
    )


def ingest_out_of_bounds(request: IngestRequest) -> Refusal | None:
    """Return why paths of foreign events cannot travel to the sequencer, or None if they can."""
    for index, path in enumerate(request.event_paths):
        problem = bounds.problem_of_bounded(path, bounds.MAX_LEDGER_PATH, in_bytes=True)
        if problem is not None:
            return Refusal(
                code=Code.INVALID_REQUEST,
                message=f"event_paths[{index}] {problem[0]}",
                field=f"event_paths[{index}]",
                value=path,
                remedy=problem[1],
            )
    return None


def fits_a_message(requests: Iterable[AppendRequest]) -> bool:
    """Say whether these requests, and their answers, may travel together."""
    answers = size = 0
    for request in requests:
        answers += answer_weight(request)
        size += request.payload_bytes
    return answers <= MESSAGE_EVENTS * EVENT_WEIGHT and size <= MESSAGE_BYTES


def _weight(data: dict[str, Any]) -> int:
    """Return what an event weighs in a round; a long plan travels packed, and its round holds it as it is."""
    packed = packed_length(data)
    return _length(data) if packed is None else max(packed, _length(data) // _UNPACKED_TO_ROUND)


def _length(data: dict[str, Any]) -> int:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode("utf-8", "surrogatepass"))


def _cut(text: str, most: int) -> str:
    """Return `text`, cut so that it takes at most `most` bytes as JSON."""
    if _json_bytes(text) <= most:
        return text
    left, kept = most - _json_bytes("..."), 0
    for one in text:
        left -= _json_bytes(one) - _json_bytes("")
        if left < 0:
            break
        kept += 1
    return text[:kept] + "..."


def _json_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())
