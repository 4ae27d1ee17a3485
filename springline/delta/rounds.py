"""Rounds: which requests share one version, their log bytes, and the bytes that fill an abandoned version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson

from springline.delta.conflicts import ABANDONED_OPERATION
from springline.delta.coordinator import RESERVATION_TTL_MS, Inflight, Member
from springline.delta.identity import content_hash_of_token, request_hash, sha256_hex
from springline.delta.messages import CommitMode, CommitRequest
from springline.delta.payload import Payload

MAX_MEMBERS = 500
MAX_ROUND_BYTES = 4 * 1024 * 1024
ENGINE_INFO = "Springline"
WRITER = "springline/1"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request that may be committed now: its entry in the reservation, and its checked payload."""

    member: Member
    payload: Payload


def candidate_of(request: CommitRequest, payload: Payload) -> Candidate:
    """Return the candidate of a request with this payload."""
    fingerprint = payload.request_fingerprint
    member = Member(
        key=request.idempotency_key,
        mode=request.mode,
        read_version=request.read_version,
        staged_path=request.staged_path,
        staged_version=request.staged_version,
        staged_payload_sha256=payload.sha256,
        request_hash=request_hash(request, payload.sha256, fingerprint),
        fingerprint=fingerprint,
    )
    return Candidate(member, payload)


def may_join(candidate: Candidate, paths: set[str], txn_apps: set[str], size: int) -> bool:
    """Say whether an append fits a round that already has these paths, applications and bytes.

    See docs/protocol.md#commit-rounds.
    """
    return (
        candidate.payload.paths.isdisjoint(paths)
        and candidate.payload.txn_apps.isdisjoint(txn_apps)
        and size + len(candidate.payload.data) <= MAX_ROUND_BYTES
    )


def choose_round(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Choose the requests that commit now: the first alone if it is strict, else all appends that fit with it.

    Two members with one path or one `txn` application id never share a round; the head is always in it, so
    that every request is reached.
    """
    if not candidates:
        return ()
    head = candidates[0]
    if head.member.mode is CommitMode.STRICT:
        return (head,)
    chosen: list[Candidate] = []
    paths: set[str] = set()
    txn_apps: set[str] = set()
    size = 0
    for candidate in candidates:
        if candidate.member.mode is not CommitMode.APPEND or len(chosen) == MAX_MEMBERS:
            continue
        if chosen and not may_join(candidate, paths, txn_apps, size):
            continue
        chosen.append(candidate)
        paths |= candidate.payload.paths
        txn_apps |= candidate.payload.txn_apps
        size += len(candidate.payload.data)
    return tuple(chosen)


def merged_payload(round_id: str, now_ms: int, chosen: Sequence[Candidate]) -> bytes:
    """Return the log bytes of a round of several appends: one commitInfo, then the members' actions in order."""
    info = {
        "commitInfo": {
            "timestamp": now_ms,
            "operation": "WRITE",
            "operationParameters": {"mode": "Append"},
            "isBlindAppend": True,
            "engineInfo": ENGINE_INFO,
            "springline": {
                "round_id": round_id,
                "members": [_named(one.member) for one in chosen],
            },
        }
    }
    lines = [orjson.dumps(info)]
    for one in chosen:
        lines.extend(one.payload.data_lines)
    return b"\n".join(lines) + b"\n"


def _named(member: Member) -> dict[str, str]:
    """Return a member's fields in the log: enough to write its marker again."""
    named = {"key": member.key, "sha256": member.staged_payload_sha256}
    return named if member.fingerprint is None else named | {"fingerprint": member.fingerprint}


def reservation(
    *,
    commit_id: str,
    version: int,
    staged_path: str,
    staged_version: str,
    payload_sha256: str,
    now_ms: int,
    members: Sequence[Member],
) -> Inflight:
    """Return the reservation of `version` for `members`, whose log bytes are staged under `staged_path`."""
    return Inflight(
        commit_id=commit_id,
        read_version=version - 1,
        version=version,
        staged_path=staged_path,
        staged_version=staged_version,
        started_at_ms=now_ms,
        expires_at_ms=now_ms + RESERVATION_TTL_MS,
        writer=WRITER,
        mode=members[0].mode,
        staged_payload_sha256=payload_sha256,
        members=tuple(members),
    )


def reservation_of_one(version: int, member: Member, now_ms: int) -> Inflight:
    """Return the reservation of `version` for one member, whose own staged bytes are the log's."""
    return reservation(
        commit_id=member.key,
        version=version,
        staged_path=member.staged_path,
        staged_version=member.staged_version,
        payload_sha256=member.staged_payload_sha256,
        now_ms=now_ms,
        members=(member,),
    )


def fill_payload(inflight: Inflight) -> bytes:
    """Return the commit that fills an abandoned version: only a commitInfo that names the request.

    A pure function of the reservation, so that helpers that race fill with the same bytes (docs/protocol.md#rule-4).
    """
    info = {
        "commitInfo": {
            "timestamp": inflight.started_at_ms,
            "operation": ABANDONED_OPERATION,
            "operationParameters": {},
            "engineInfo": ENGINE_INFO,
            "springline": {"abandoned": {"commit_id": inflight.commit_id, "keys": list(inflight.keys)}},
        }
    }
    return orjson.dumps(info) + b"\n"


def is_log_of(inflight: Inflight, log: bytes, staged: bytes | None) -> bool:
    """Say whether an existing log file is this reservation's: equal bytes, or the recorded hash.

    See docs/protocol.md#rule-3.
    """
    if staged is not None:
        return log == staged
    expected = recorded_payload_hash(inflight)
    return expected is not None and sha256_hex(log) == expected


def recorded_payload_hash(inflight: Inflight) -> str | None:
    """Return the reservation's payload hash, from its own field or from a content-derived version token."""
    return inflight.staged_payload_sha256 or content_hash_of_token(inflight.staged_version)


def is_staged_payload(inflight: Inflight, data: bytes, version: str) -> bool:
    """Say whether the staged object still holds the bytes that were reserved."""
    expected = inflight.staged_payload_sha256
    if expected is not None:
        return sha256_hex(data) == expected
    return version == inflight.staged_version


def moved(inflight: Inflight, latest: int) -> Inflight:
    """Return the reservation moved behind `latest`, for an append whose version a foreign writer took."""
    return replace(inflight, version=latest + 1, read_version=latest)
