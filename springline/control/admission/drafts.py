"""Requests as they come, turned into drafts of events that are well formed by themselves.

Ids and keys may be written if they are not empty, not too long and without NUL.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from springline.control.admission.cases import Draft, given_key, invalid, shown, value_at
from springline.control.admission.rules import CHECKS
from springline.ledger.envelope import InvalidPayload, payload_from
from springline.ledger.request import MAX_REQUEST_EVENTS, AppendRequest, NewEvent


def drafts_of(request: AppendRequest, now_ms: int) -> list[Draft]:
    """Return a request's events, checked by themselves; raises `Refused` naming the first field that is wrong."""
    count = len(request.events)
    if not 1 <= count <= MAX_REQUEST_EVENTS:
        raise invalid("events", count, f"are {count}", f"Give 1 to {MAX_REQUEST_EVENTS} events.")
    return [_draft(event, f"events[{index}]", now_ms) for index, event in enumerate(request.events)]


def _draft(event: NewEvent, field: str, now_ms: int) -> Draft:
    try:
        data = payload_from(event.data)
    except InvalidPayload as error:
        at = f"{field}.data.{error.path}" if error.path else f"{field}.data"
        raise invalid(at, value_at(event.data, error.path), error.problem, "Correct it, or leave it out.") from None
    check_texts(data, f"{field}.data")
    check = CHECKS.get(type(data))
    if check is not None:
        check(data, f"{field}.data", now_ms)
    for name in ("idempotency_key", "causation_id"):
        text: str | None = getattr(event, name)
        if text is not None:
            _check_free_text(text, f"{field}.{name}")
    key = event.idempotency_key
    return Draft(data, None if key is None else given_key(data, key, f"{field}.idempotency_key"), event.causation_id)


def _check_free_text(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(field, text, "holds half of a surrogate pair, which is no character", "Correct it.") from None
    check_text(text, field)


MAX_TEXT_BYTES: Final = 1_024
"""Longest id or key."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IDENTITIES: Final = _words(
    "run_id plan_id run_key task_key attempt_id dispatch_id timer_id schedule_id tick_id sensor_id eval_id message_id "
    "backfill_id parent_backfill_id chunk_id client_request_id key asset_key"
)
"""Fields that say what an event is about; an empty one is a mistake."""

_TEXTS: Final = _IDENTITIES | _words(
    "cloud_task_id worker_id worker_queue request_fingerprint definition_version partition_key code_version user_id "
    "request_id materialization_id upstream_materialization_id webhook_id requested_by changed_by timezone "
    "cron_expression asset_selection partition_selection partition_keys root_assets"
)
"""All fields whose text, or whose list of texts, is compared, joined or shown; messages and cursors are free."""


def check_text(text: str, field: str, *, may_be_empty: bool = False) -> None:
    """Raise `Refused` unless `text` may be an id or key."""
    if "\0" in text:
        raise invalid(field, text, "holds a NUL character", "Leave it out.")
    if not text and not may_be_empty:
        raise invalid(field, text, "is empty", "Give it, or leave the field out where it is optional.")
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise invalid(field, text, f"has {size} bytes: {shown(text)}", f"Give at most {MAX_TEXT_BYTES} bytes.")


def check_addressable(text: str, field: str) -> None:
    """Raise `Refused` unless `text` may be the id of what has a URL of its own."""
    if text in (".", ".."):
        remedy = "Give it another name: in a URL these mean a folder."
        raise invalid(field, text, "cannot be addressed by a URL", remedy)
    if any(ord(one) < 32 or one == "\x7f" for one in text):
        remedy = "Leave control characters, such as line ends, out."
        raise invalid(field, text, "holds a control character and cannot be addressed by a URL", remedy)


def check_texts(shape: Struct, field: str) -> None:
    """Check every id and key in a payload or a shape within it; raises `Refused` naming the first that is wrong."""
    for name, told in zip(shape.__struct_fields__, shape.__struct_encode_fields__, strict=True):
        value = getattr(shape, name)
        if isinstance(value, str):
            if name in _TEXTS:
                check_text(value, f"{field}.{told}", may_be_empty=name not in _IDENTITIES)
        elif isinstance(value, Struct):
            check_texts(value, f"{field}.{told}")
        elif isinstance(value, list):
            _check_list(value, name in _TEXTS, f"{field}.{told}")


def _check_list(values: list[object], are_texts: bool, field: str) -> None:
    for index, value in enumerate(values):
        if isinstance(value, Struct):
            check_texts(value, f"{field}[{index}]")
        elif isinstance(value, str) and are_texts:
            check_text(value, f"{field}[{index}]")
