"""Request markers: the one permanent answer to a request id (docs/protocol.md#ledger-rounds).

A marker depends on its round's record alone, so that every sequencer that finishes the round writes the same bytes. It
is written before the round becomes visible; a visible round has all its markers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from springline.checked import WrongChecksum, verify, with_checksum
from springline.errors import Code, InvariantViolated, Refusal
from springline.ledger.json_text import canonical_json
from springline.ledger.request import (
    AppendedEvent,
    AppendMode,
    AppendOutcome,
    AppendRequest,
    EventOutcome,
    RefusedAppend,
)
from springline.paths import orchestration_request
from springline.published.files import checksum_of
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once
from springline.storage.together import each

FORMAT = 1
PUTS_TOGETHER = 16
_RESTORE = "its request cannot be repeated until an operator restores the object; all others go on"


class AnsweredEvent(Struct, frozen=True):
    """An event of an answered request, as `AppendedEvent` has it."""

    event_id: str
    event_type: str
    idempotency_key: str
    ledger_path: str
    outcome: EventOutcome
    completed: bool = False


class AnsweredRefusal(Struct, frozen=True, omit_defaults=True):
    """A refused event of an answered request `each`, as `RefusedAppend` has it."""

    index: int
    code: str
    message: str
    field: str | None = None
    value: Any = None
    remedy: str | None = None


class RequestMarker(Struct, frozen=True, kw_only=True):
    """The stored answer to one request.

    `round`: the round that answers it, None if all of its keys had been used before and no round was needed. `refused`:
    only if any was; without it the marker has the bytes that every build gives it.
    """

    format: int = FORMAT
    request_id: str
    payload_sha256: str
    round: int | None
    events: list[AnsweredEvent]
    refused: list[AnsweredRefusal] | UnsetType = UNSET

    @property
    def weight(self) -> int:
        """How many events it answers for."""
        return len(self.events) + (0 if self.refused is UNSET else len(self.refused))


_decode = msgspec.json.Decoder(RequestMarker).decode
_MEMBERS = frozenset(RequestMarker.__struct_fields__)


def payload_sha256(request: AppendRequest) -> str:
    """Return the hash of what a request asks for, which tells a repeat from another request with its id.

    Of a request that is taken whole it is that of its events as canonical JSON. In one `each` an event that has none is
    refused alone, so they are hashed as JSON of any values, together with the mode. Raises `ValueError` if a request
    that is taken whole has an event without canonical JSON, such as for a number with a fraction.
    """
    events = [event.model_dump(exclude_none=True) for event in request.events]
    if request.mode is AppendMode.ALL:
        return checksum_of(canonical_json(events))
    asked = {"mode": request.mode.value, "events": events}
    return checksum_of(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode())


def marker_of(outcome: AppendOutcome, payload: str, number: int | None) -> RequestMarker:
    """Return the marker of a request that is answered so, by round `number`; `payload` is its `payload_sha256`."""
    answered = [
        AnsweredEvent(e.event_id, e.event_type, e.idempotency_key, e.ledger_path, e.outcome, e.completed)
        for e in outcome.events
    ]
    refused = [
        AnsweredRefusal(one.index, one.code.value, one.message, one.field, one.value, one.remedy)
        for one in outcome.refused
    ]
    return RequestMarker(
        request_id=outcome.request_id,
        payload_sha256=payload,
        round=number,
        events=answered,
        refused=refused or UNSET,
    )


def outcome_of(marker: RequestMarker, *, replayed: bool) -> AppendOutcome:
    """Return a marker's answer; the caller sets whether it is visible."""
    refused = [] if marker.refused is UNSET else marker.refused
    return AppendOutcome(
        request_id=marker.request_id,
        events=[AppendedEvent.model_validate(msgspec.structs.asdict(event)) for event in marker.events],
        refused=[RefusedAppend.model_validate(msgspec.structs.asdict(one)) for one in refused],
        replayed=replayed,
    )


def encode_marker(marker: RequestMarker) -> bytes:
    """Return the marker's bytes, with their checksum."""
    return with_checksum(msgspec.json.encode(marker))


def decode_marker(data: bytes, request_id: str) -> RequestMarker:
    """Check and parse the marker read for `request_id`; raises `DamagedObject`."""
    path = orchestration_request(request_id)
    try:
        verify(data, _MEMBERS)
        marker = _decode(data)
    except (WrongChecksum, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedObject(path, f"is no request marker: {error}", _RESTORE) from error
    if (marker.format, marker.request_id) != (FORMAT, request_id):
        raise DamagedObject(path, f"is the marker of {marker.request_id!r} in format {marker.format}", _RESTORE)
    return marker


async def read_markers(store: ObjectStore, request_ids: Sequence[str]) -> dict[str, RequestMarker | Refusal]:
    """Read the markers of `request_ids`, all at the same time; an id without one is left out.

    A damaged marker refuses its own request (INTERNAL) and no other.
    """
    found = await store.read_many([orchestration_request(one) for one in request_ids])
    answers: dict[str, RequestMarker | Refusal] = {}
    for request_id, data in zip(request_ids, found, strict=True):
        if data is None:
            continue
        try:
            answers[request_id] = decode_marker(data, request_id)
        except InvariantViolated as error:
            answers[request_id] = Refusal(
                code=Code.STORED_DAMAGED,
                message=str(error),
                field="request_id",
                value=request_id,
                remedy="Call an operator, who restores the stored answer; a new request_id appends the events again.",
            )
    return answers


def key_reused(request_id: str) -> Refusal:
    """Return the refusal of a request whose id belongs to a request with other events or another mode."""
    return Refusal(
        code=Code.KEY_REUSED,
        message=f"request_id {request_id} already belongs to a request with other events or another mode",
        field="request_id",
        value=request_id,
        remedy="Send the same events in the same mode to have the first answer again, or use a new UUIDv7.",
    )


def incomplete(request_id: str) -> Refusal:
    """Return the refusal of a request whose marker does not answer for all of its events.

    A build that knew no requests `each` wrote it: it finished the round of a newer one, and left refused events out.
    """
    path = orchestration_request(request_id)
    return Refusal(
        code=Code.STORED_DAMAGED,
        message=f"{path} lacks refused events of the request; all others that it asked for are recorded",
        field="request_id",
        value=request_id,
        remedy="Read the state, and send the events that it lacks in a new request.",
    )


async def write_markers(store: ObjectStore, markers: Sequence[RequestMarker]) -> Mapping[str, RequestMarker | None]:
    """Write `markers`, create-only; safe to repeat.

    Returns the ids that had a marker with other content before, with that marker, or None if it is damaged. Raises the
    store's errors; the markers written until then stay.
    """

    async def write(marker: RequestMarker) -> RequestMarker | DamagedObject | None:
        result = await put_once(store, orchestration_request(marker.request_id), encode_marker(marker))
        if not isinstance(result, Other):
            return None
        try:
            return decode_marker(result.data, marker.request_id)
        except DamagedObject as error:
            return error

    results = await each(write, markers, concurrency=PUTS_TOGETHER)
    return {
        marker.request_id: None if isinstance(result, DamagedObject) else result
        for marker, result in zip(markers, results, strict=True)
        if result is not None
    }
