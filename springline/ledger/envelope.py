"""The envelope of events in the ledger: parsed from the bytes of an object, and composed into them.

See docs/formats.md#envelope, docs/formats.md#reading-events, docs/formats.md#canonical-json.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from msgspec import DecodeError, Struct, inspect, to_builtins
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace

from springline.ledger import events as e
from springline.ledger.json_text import read_json
from springline.ledger.member import written_member
from springline.ledger.nested import TIMESTAMP_MARK, U32, Timestamp
from springline.ledger.shapes import ReadingMode, ShapeError, only, pairs_of, reader_of, struct_reader, tag_of
from springline.ledger.timestamps import format_ms, parse_timestamp

_MAX_U64: Final = 2**64 - 1
_READING: Final = ReadingMode()

Check = Callable[[Any], object]
"""Raises `ValueError` for an invalid value."""


class MalformedEvent(ValueError):
    """Bytes that are not an event. `reason` says what is wrong, with the path of the field."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Event(Struct, omit_defaults=True, gc=False, kw_only=True):
    """One event of the ledger. Treat it as immutable.

    `data` is None for a type this version does not know: its payload is only in the stored bytes. `timestamp_ns` is
    `timestamp` in nanoseconds since 1970; it is not part of the text.
    """

    causation_id: str | None = None
    correlation_id: str | None = None
    data: e.Payload | None
    event_id: str
    event_type: str
    event_version: U32
    idempotency_key: str
    source: str
    tenant_id: str
    timestamp: Timestamp
    timestamp_ns: int = 0
    workspace_id: str


_decode = Decoder(Event).decode
_encode_into = Encoder(order="sorted").encode_into
_again = bytearray()


def parse_event(body: bytes) -> Event:
    """Return the event in the bytes of a ledger object; raises `MalformedEvent`.

    Accepts what the reference accepts (docs/formats.md#reading-events): any valid JSON with the known fields in
    their types, in any order; ignores unknown fields, and the payload of an unknown `data.type`.
    Checks the timestamps of all known fields, also of those that no projection uses, so that folding never fails.
    """
    try:
        event = _decode(body)
        # The sorted form of the event has no key twice. If it equals the body, then neither has the body.
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
    """Parse an event that is not in canonical form, or raise an error that says what is wrong with it."""
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


def _check_of(kind: inspect.Type) -> Check | None:
    """Return the check of values that decoding leaves out: instants, and integers of 64 bits; None if there is none."""
    if isinstance(kind, inspect.Metadata):
        return parse_timestamp if kind.extra == TIMESTAMP_MARK else _check_of(kind.type)
    if isinstance(kind, inspect.IntType):
        return _check_u64 if kind.le is None else None
    if isinstance(kind, inspect.StructType):
        return _check_of_struct(kind)
    if isinstance(kind, inspect.UnionType):
        checks = [_check_of(one) for one in kind.types if not isinstance(one, inspect.NoneType)]
        if len(checks) == 1:
            return checks[0]
    elif isinstance(kind, inspect.ListType):
        checks = [_check_of(kind.item_type)]
    elif isinstance(kind, inspect.DictType):
        checks = [_check_of(kind.key_type), _check_of(kind.value_type)]
    else:
        return None
    if any(check is not None for check in checks):
        raise TypeError(f"instants and integers of 64 bits are not checked in {kind}: put them into a struct")
    return None


def _check_of_struct(kind: inspect.StructType) -> Check | None:
    found = {one.name: check for one in kind.fields if (check := _check_of(one.type)) is not None}
    numbers = [name for name, check in found.items() if check is _check_u64]
    # Every event passes here: a struct's numbers are looked at together, and a lone part is called without a loop.
    parts = [_check_of_field(name, found[name]) for name in found if name not in numbers or len(numbers) == 1]
    if len(numbers) > 1:
        parts.insert(0, _check_of_numbers(attrgetter(*numbers)))
    if len(parts) < 2:
        return parts[0] if parts else None

    def check_parts(value: Any) -> None:
        for part in parts:
            part(value)

    return check_parts


def _check_of_field(name: str, check: Check) -> Check:
    get = attrgetter(name)

    def check_field(value: Any) -> None:
        item = get(value)
        if item is not None:
            check(item)

    return check_field


def _check_of_numbers(get: Callable[[Any], tuple[int | None, ...]]) -> Check:
    def check_numbers(value: Any) -> None:
        for number in get(value):
            if number is not None and number > _MAX_U64:
                _check_u64(number)

    return check_numbers


def _check_u64(number: int) -> None:
    if number > _MAX_U64:
        raise ValueError(f"{number} does not fit 64 bits")


def _check_no_data(data: None) -> None:
    raise ValueError("data is null")


_CHECKS: Final[dict[type, Check]] = {type(None): _check_no_data} | {
    kind: check for kind in e.EVENT_TYPES if (check := _check_of(inspect.type_info(kind))) is not None
}
"""Checks that decoding leaves out, by payload."""


def _envelope_type() -> inspect.StructType:
    kind = inspect.type_info(Event)
    if not isinstance(kind, inspect.StructType):
        raise TypeError(f"{kind} is no struct")
    return inspect.StructType(
        kind.cls, tuple(field for field in kind.fields if field.name not in ("data", "timestamp_ns"))
    )


_read_envelope = struct_reader(_envelope_type(), build=dict)
_read_payload = reader_of(inspect.type_info(e.Payload))

EVENT_VERSION: Final = 1

_WRITING: Final = ReadingMode(strict=True, rewrite=True)
_encode = Encoder(order="sorted").encode


class InvalidPayload(ValueError):
    """Data that is not a payload. `path` names the field (`tasks[0].key`, empty for the whole), `problem` says why."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}" if path else problem)
        self.path = path
        self.problem = problem


def payload_from(data: dict[str, Any]) -> e.Payload:
    """Return the payload in `data`, an object with its `type`, for writing; raises `InvalidPayload`.

    Stricter than reading: an unknown type or field is refused, because a writer means every field. Timestamps are
    converted to their written form.
    """
    try:
        payload: e.Payload = _read_payload(data, "", _WRITING)
        member = written_member(payload, _WRITING)
    except ShapeError as error:
        raise InvalidPayload(error.path, error.problem) from None
    return payload if payload.springline is None else replace(payload, springline=member)


def as_event(payload: e.Payload) -> dict[str, Any]:
    """Return a payload as the `data` that `payload_from` reads."""
    plain: dict[str, Any] = to_builtins(payload)
    return plain


def compose_event(
    payload: e.Payload,
    *,
    event_id: str,
    timestamp_ms: int,
    tenant: str,
    workspace: str,
    idempotency_key: str | None = None,
    causation_id: str | None = None,
) -> bytes:
    """Return the canonical bytes of an event.

    Args:
        payload: as `payload_from` makes it, or code.
        event_id: its id, a canonical ULID.
        timestamp_ms: the producer's time, in milliseconds since 1970 UTC.
        tenant: the tenant's id.
        workspace: the workspace's id.
        idempotency_key: replaces the key derived from the payload.
        causation_id: the id of the event that caused this one, if any.

    Raises `InvalidPayload` if the result could not be read back: such an event would stop all later folds.
    """
    try:
        event = Event(
            causation_id=causation_id,
            correlation_id=e.correlation_of(payload),
            data=payload,
            event_id=event_id,
            event_type=type(payload).__name__,
            event_version=EVENT_VERSION,
            idempotency_key=e.derived_key(payload) if idempotency_key is None else idempotency_key,
            source=f"arco-flow/{tenant}/{workspace}",
            tenant_id=tenant,
            timestamp=format_ms(timestamp_ms),
            workspace_id=workspace,
        )
        body = _encode(event)
        parse_event(body)
    except ValueError as error:
        raise InvalidPayload("", f"cannot be written: {error}") from None
    return body
