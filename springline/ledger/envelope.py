"""Events as they stand in the ledger: the envelope, and reading it from the bytes of an object.

See docs/formats.md#envelope, docs/formats.md#reading-events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import DecodeError, Struct, inspect
from msgspec.json import Decoder, Encoder

from springline.ledger import events as e
from springline.ledger.json_text import read_json
from springline.ledger.shapes import Mode, ShapeError, only, pairs_of, reader_of, struct_reader, tag_of
from springline.ledger.timestamps import parse_timestamp

_MAX_U64: Final = 2**64 - 1
_READING: Final = Mode()


class MalformedEvent(ValueError):
    """Bytes that are no event. `reason` says what is wrong, with the path of the field."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Event(Struct, omit_defaults=True, gc=False, kw_only=True):
    """One event of the ledger. Take it as immutable.

    `data` is None for a type this version does not know: its payload is only in the stored bytes. `timestamp_ns` is
    `timestamp` in nanoseconds since 1970; it is not part of the text.
    """

    causation_id: str | None = None
    correlation_id: str | None = None
    data: e.Payload | None
    event_id: str
    event_type: str
    event_version: e.U32
    idempotency_key: str
    source: str
    tenant_id: str
    timestamp: e.Timestamp
    timestamp_ns: int = 0
    workspace_id: str


_decode = Decoder(Event).decode
_encode_into = Encoder(order="sorted").encode_into
_again = bytearray()


def parse_event(body: bytes) -> Event:
    """Return the event in the bytes of a ledger object; raises `MalformedEvent`.

    Accepted is what the reference accepts (docs/formats.md#reading-events): any valid JSON with the known fields in
    their types, in any order; fields it does not know are passed over, and so is the payload of an unknown `data.type`.
    All timestamps of known fields are checked, those that no projection uses too, so that folding an event never fails.
    """
    try:
        event = _decode(body)
        # The sorted form of what was read has no key twice. If it is the body again, then neither has the body.
        # (Threads share the buffer: what another one writes into it may differ from the body, never wrongly equal it.)
        _encode_into(event, _again)
        if _again == body:
            data = event.data
            check = _CHECKS.get(type(data))
            if check is not None:
                check(data)
            event.timestamp_ns = parse_timestamp(event.timestamp)
            return event
    except (DecodeError, ValueError, RecursionError):
        pass
    return _parse_exactly(body)


def _parse_exactly(body: bytes) -> Event:
    """Read an event that is not in canonical form, or say what is wrong with it."""
    try:
        value = read_json(body)
        fields = _read_envelope(value, "", _READING)
        data = only(pairs_of(value, ""), "data", "")
        known = tag_of(data, "type", "data") in e.PAYLOAD_TYPES
        payload = _read_payload(data, "data", _READING) if known else None
    except ShapeError as error:
        raise MalformedEvent(str(error)) from None
    except ValueError as error:
        raise MalformedEvent(f"not one JSON object in UTF-8: {error}") from None
    return Event(**fields, data=payload, timestamp_ns=parse_timestamp(fields["timestamp"]))


def _check_heartbeat(data: e.TaskHeartbeat) -> None:
    if data.heartbeat_at is not None:
        parse_timestamp(data.heartbeat_at)


def _check_output(data: e.TaskFinished | e.TaskCompletionRecorded) -> None:
    output, metrics = data.output, data.metrics
    if output is not None:
        _check_u64(output.row_count, output.byte_size)
        if output.published_at is not None:
            parse_timestamp(output.published_at)
    if metrics is not None:
        _check_u64(metrics.cpu_time_ms, metrics.peak_memory_bytes, metrics.io_read_bytes, metrics.io_write_bytes)


def _check_completion(data: e.TaskCompletionRecorded) -> None:
    _check_output(data)
    if data.output_visibility is not None and data.output_visibility.published_at is not None:
        parse_timestamp(data.output_visibility.published_at)


def _check_visibility(data: e.TaskOutputVisibilityChanged) -> None:
    if data.published_at is not None:
        parse_timestamp(data.published_at)


def _check_timer(data: e.TimerRequested) -> None:
    parse_timestamp(data.fire_at)


def _check_tick(data: e.ScheduleTicked) -> None:
    parse_timestamp(data.scheduled_for)


def _check_no_data(data: None) -> None:
    raise ValueError("data is null")


def _check_u64(*numbers: int | None) -> None:
    for number in numbers:
        if number is not None and number > _MAX_U64:
            raise ValueError(f"{number} does not fit 64 bits")


_CHECKS: Final[dict[type, Callable[[Any], None]]] = {
    type(None): _check_no_data,
    e.TaskHeartbeat: _check_heartbeat,
    e.TaskFinished: _check_output,
    e.TaskCompletionRecorded: _check_completion,
    e.TaskOutputVisibilityChanged: _check_visibility,
    e.TimerRequested: _check_timer,
    e.ScheduleTicked: _check_tick,
}
"""What decoding does not check, by payload."""


def _envelope_type() -> inspect.StructType:
    kind = inspect.type_info(Event)
    if not isinstance(kind, inspect.StructType):
        raise TypeError(f"{kind} is no struct")
    return inspect.StructType(
        kind.cls, tuple(field for field in kind.fields if field.name not in ("data", "timestamp_ns"))
    )


_read_envelope = struct_reader(_envelope_type(), build=dict)
_read_payload = reader_of(inspect.type_info(e.Payload))
