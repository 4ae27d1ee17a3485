"""Events as they are written: a payload checked and put into its envelope, as canonical bytes.

See docs/formats.md#envelope, docs/formats.md#canonical-json, docs/formats.md#event-keys.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import inspect
from msgspec.json import Encoder

from springline.ledger import events as e
from springline.ledger.envelope import Event, parse_event
from springline.ledger.keys import correlation_of, derived_key
from springline.ledger.shapes import Mode, ShapeError, reader_of
from springline.ledger.timestamps import format_ms

EVENT_VERSION: Final = 1

_WRITING: Final = Mode(strict=True, rewrite=True)
_encode = Encoder(order="sorted").encode
_read_payload = reader_of(inspect.type_info(e.Payload))


class InvalidPayload(ValueError):
    """Data that is no payload. `path` names the field (`tasks[0].key`, empty for the whole), `problem` says why."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}" if path else problem)
        self.path = path
        self.problem = problem


def payload_from(data: dict[str, Any]) -> e.Payload:
    """Return the payload in `data`, an object with its `type`, for writing; raises `InvalidPayload`.

    Stricter than reading: an unknown type or field is refused, because a writer means every field. Timestamps are
    brought into their written form.
    """
    try:
        payload: e.Payload = _read_payload(data, "", _WRITING)
    except ShapeError as error:
        raise InvalidPayload(error.path, error.problem) from None
    return payload


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
        idempotency_key: in place of the key that follows from the payload.
        causation_id: the id of the event that caused this one, if any.

    Raises `InvalidPayload` if the result could not be read back: such an event would stop every fold to come.
    """
    try:
        event = Event(
            causation_id=causation_id,
            correlation_id=correlation_of(payload),
            data=payload,
            event_id=event_id,
            event_type=type(payload).__name__,
            event_version=EVENT_VERSION,
            idempotency_key=derived_key(payload) if idempotency_key is None else idempotency_key,
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
