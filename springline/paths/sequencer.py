"""Paths of the sequencer's objects beside the state: rounds, request markers, refusals, garbage reports.

See docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

import re
from typing import Final

from springline.paths.components import MAX_U64, made_by
from springline.paths.scope import ObjectPath, count, segment, sha256_of

_STATE: Final = "state/orchestration"

_ROUND = re.compile(r"state/orchestration/rounds/([0-9]{20})\.json")
_REQUEST = re.compile(r"state/orchestration/requests/[0-9a-f]{2}/([^/]+)\.json")
_GARBAGE = re.compile(r"state/orchestration/garbage/([^/]+)\.json")


def orchestration_rounds_prefix() -> ObjectPath:
    """Return the folder of round records, without a trailing slash."""
    return ObjectPath(f"{_STATE}/rounds")


def orchestration_round(number: int) -> ObjectPath:
    """Return the name of a round record, which is created before the round's first event.

    See docs/protocol.md#ledger-rounds.
    """
    return ObjectPath(f"{orchestration_rounds_prefix()}/{count('round', number, most=MAX_U64):020}.json")


def parse_orchestration_round(path: str) -> int | None:
    """Return the number in a round record's path, or None for another path."""
    match = _ROUND.fullmatch(path)
    return int(match[1]) if match is not None and made_by(path, orchestration_round, int(match[1])) else None


def orchestration_request(request_id: str) -> ObjectPath:
    """Return the name of the marker that holds the answer to a request; `request_id` is one segment.

    Markers are spread over 256 folders by the SHA-256 of the id, so that no name prefix becomes a hot spot.
    """
    name = segment("request_id", request_id)
    return ObjectPath(f"{_STATE}/requests/{sha256_of('request_id', name)[:2]}/{name}.json")


def parse_orchestration_request(path: str) -> str | None:
    """Return the request id in a marker's path, or None for another path."""
    match = _REQUEST.fullmatch(path)
    return match[1] if match is not None and made_by(path, orchestration_request, match[1]) else None


def orchestration_refused_prefix() -> ObjectPath:
    """Return the folder where refused events are recorded, without a trailing slash.

    See docs/protocol.md#ledger-rounds.
    """
    return ObjectPath(f"{_STATE}/refused")


def orchestration_refused(name: str) -> ObjectPath:
    """Return the name of the record of a refused event; `name` is one segment, without `.json`."""
    return ObjectPath(f"{orchestration_refused_prefix()}/{segment('refusal name', name)}.json")


def orchestration_garbage_prefix() -> ObjectPath:
    """Return the folder of garbage reports, without a trailing slash."""
    return ObjectPath(f"{_STATE}/garbage")


def orchestration_garbage(name: str) -> ObjectPath:
    """Return the name of a garbage report; `name` is one segment, without `.json`."""
    return ObjectPath(f"{orchestration_garbage_prefix()}/{segment('report name', name)}.json")


def parse_orchestration_garbage(path: str) -> str | None:
    """Return the name in a garbage report's path, or None for another path."""
    match = _GARBAGE.fullmatch(path)
    return match[1] if match is not None and made_by(path, orchestration_garbage, match[1]) else None
