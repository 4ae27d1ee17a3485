"""Requests as they come, turned into drafts of events that are well formed by themselves."""

from __future__ import annotations

from springline.control.admission.cases import Draft
from springline.control.admission.keys import given_key
from springline.control.admission.refusals import invalid, value_at
from springline.control.admission.rules import CHECKS
from springline.control.admission.texts import check_text, check_texts
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
