"""Decisions on a reservation from what is stored: the guards of the protocol, each by name.

See docs/protocol.md#commit-rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from springline.delta.coordinator import Inflight
from springline.delta.identity import strict_request_hash
from springline.delta.marker import Marker
from springline.delta.request import CommitRequest


class MarkerVerdict(Enum):
    """What the members' markers say of a reservation whose log is about to be written."""

    ABSENT = "absent"
    WRITTEN = "written"
    """Somebody completed this very reservation."""
    VOID = "void"
    """A member already has another version: writing the log would commit it twice (docs/protocol.md#rule-6)."""


def judge_markers(inflight: Inflight, log_path: str, markers: Sequence[Marker | None]) -> MarkerVerdict:
    """Judge a reservation by its members' markers, read after the reservation was read or written.

    See docs/protocol.md#rule-6.
    """
    present = [marker for marker in markers if marker is not None]
    if any((marker.version, marker.delta_log_path) != (inflight.version, log_path) for marker in present):
        return MarkerVerdict.VOID
    return MarkerVerdict.WRITTEN if present else MarkerVerdict.ABSENT


def is_own_reservation(inflight: Inflight, round_id: str, requests: Sequence[CommitRequest]) -> bool:
    """Say whether a reservation found in the coordinator is the one this round tried to make (docs/protocol.md#rule-6).

    A round of several is known by its round id; a single request by its key and its very staged object, so
    that another payload under the same key never passes for it.
    """
    if inflight.commit_id == round_id:
        return True
    if len(inflight.members) != 1 or inflight.members[0].key != inflight.commit_id:
        return False
    member = inflight.members[0]
    return any(
        (request.idempotency_key, request.mode, request.read_version, request.staged_path, request.staged_version)
        == (member.key, member.mode, member.read_version, member.staged_path, member.staged_version)
        for request in requests
    )


def marker_is_ours(existing: Marker, wanted: Marker, inflight: Inflight, payload_sha256: str) -> bool:
    """Say whether a marker that is already there answers this reservation (docs/protocol.md#rule-2).

    The reference, completing a single reservation of ours, writes its own request hash; that one counts too.
    """
    if existing.answers(wanted):
        return True
    reference_hash = strict_request_hash(
        wanted.idempotency_key, inflight.read_version, inflight.staged_path, payload_sha256
    )
    return (existing.idempotency_key, existing.version, existing.delta_log_path, existing.request_hash) == (
        wanted.idempotency_key,
        wanted.version,
        wanted.delta_log_path,
        reference_hash,
    )
