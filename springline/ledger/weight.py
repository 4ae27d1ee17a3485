"""What an append request weighs on its way to the sequencer and back, so that no message grows out of its limits.

Everything between a caller and the store has a limit in bytes: Temporal takes 2 MiB a message. A request counts by
its payloads, and by its answer where that is the longer one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from springline.bounds import MAX_LEDGER_PATH, problem_of_bounded
from springline.errors import Code, Refusal
from springline.ledger.request import AppendRequest, IngestRequest

MAX_ROUND_EVENTS = 1_000
MAX_ROUND_BYTES = 1 << 20
"""A round takes requests up to this; none may be heavier by itself."""

EVENT_WEIGHT = 512
"""Bytes an event counts for at least: what is told of it is about so long."""
MESSAGE_EVENTS = 2_500
MESSAGE_BYTES = MAX_ROUND_BYTES + (1 << 18)
"""The most that one message to the sequencer may hold in all."""


def payload_bytes(request: AppendRequest) -> int:
    """Return how many bytes the request's events have as compact JSON, with their keys."""
    return sum(
        _length(event.data) + len(event.idempotency_key or "") + len(event.causation_id or "")
        for event in request.events
    )


def request_weight(request: AppendRequest) -> int:
    """Return what a request counts for, in bytes: its payloads, or its answer if that is longer."""
    return max(payload_bytes(request), EVENT_WEIGHT * len(request.events))


def too_heavy(request: AppendRequest) -> Refusal | None:
    """Return why a request fits no round, or None if it does."""
    size = payload_bytes(request)
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
        problem = problem_of_bounded(path, MAX_LEDGER_PATH, in_bytes=True)
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
    events = size = 0
    for request in requests:
        events += len(request.events)
        size += payload_bytes(request)
    return events <= MESSAGE_EVENTS and size <= MESSAGE_BYTES


def _length(data: dict[str, Any]) -> int:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode("utf-8", "surrogatepass"))
