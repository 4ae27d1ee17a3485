"""Idempotency markers: the permanent answer to a key (docs/formats.md#marker).

A marker is a pure function of its reservation, so that an owner and a helper that race write the same bytes.
The reference's six fields come first; markers of our own reservations add the fields that decide a replay when
the staged payload is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from springline import paths
from springline.bounds import shown
from springline.checked import WrongChecksum, verify, with_checksum
from springline.delta.coordinator import Inflight
from springline.delta.identity import (
    append_request_hash,
    content_hash_of_token,
    fingerprint_request_hash,
    legacy_request_hash,
    sha256_hex,
    strict_request_hash,
)
from springline.delta.messages import CommitMode, CommitRequest
from springline.delta.payload import fingerprint_of
from springline.errors import InvariantViolated, Refused
from springline.keys import check_key


@dataclass(frozen=True, slots=True)
class Marker:
    """The stored answer to one idempotency key. `committed_at_ms`: the reservation's start, Unix ms."""

    idempotency_key: str
    idempotency_key_hash: str
    request_hash: str
    version: int
    delta_log_path: str
    committed_at_ms: int
    mode: CommitMode | None = None
    read_version: int | None = None
    staged_path: str | None = None
    staged_version: str | None = None
    staged_payload_sha256: str | None = None
    fingerprint: str | None = None
    """The request's fingerprint, if its payload has one (`springline.delta.payload.fingerprint_of`)."""
    delta_log_sha256: str | None = None
    """The SHA-256 (hex) of the log file, which a round of several shares: a check finds later that it was altered."""

    @property
    def log_sha256(self) -> str | None:
        """Return the SHA-256 (hex) that the log file must have; None for a marker without it."""
        is_alone = self.mode is CommitMode.STRICT
        return self.delta_log_sha256 or (self.staged_payload_sha256 if is_alone else None)

    def encode(self, path: str) -> bytes:
        """Return the bytes of the object at `path`: compact JSON, reference fields first, with its checksum."""
        fields: dict[str, Any] = {
            "idempotency_key": self.idempotency_key,
            "idempotency_key_hash": self.idempotency_key_hash,
            "request_hash": self.request_hash,
            "version": self.version,
            "delta_log_path": self.delta_log_path,
            "committed_at_ms": self.committed_at_ms,
        }
        if self.mode is not None:
            fields |= {
                "mode": self.mode.value,
                "read_version": self.read_version,
                "staged_path": self.staged_path,
                "staged_version": self.staged_version,
                "staged_payload_sha256": self.staged_payload_sha256,
            }
            if self.fingerprint is not None:
                fields["fingerprint"] = self.fingerprint
            if self.delta_log_sha256 is not None:
                fields["delta_log_sha256"] = self.delta_log_sha256
        return with_checksum(orjson.dumps(fields), path)

    def answers(self, other: Marker) -> bool:
        """Say whether `other` is the same answer: key, version, path and request hash agree.

        See docs/protocol.md#commit-rules.
        """
        return (self.idempotency_key, self.version, self.delta_log_path, self.request_hash) == (
            other.idempotency_key,
            other.version,
            other.delta_log_path,
            other.request_hash,
        )


_MEMBERS = frozenset(Marker.__dataclass_fields__)


def decode_marker(data: bytes, path: str, key: str | None, *, root: str) -> Marker:
    """Check and parse the marker of `key` read from `path`; raises `InvariantViolated` if it is not one.

    `key` None: the caller checks the key. `root`: the table's, where the log file that it names must lie.
    """
    try:
        verify(data, _MEMBERS, path)
        fields = orjson.loads(data)
        mode = fields.get("mode")
        marker = Marker(
            idempotency_key=fields["idempotency_key"],
            idempotency_key_hash=fields["idempotency_key_hash"],
            request_hash=fields["request_hash"],
            version=int(fields["version"]),
            delta_log_path=fields["delta_log_path"],
            committed_at_ms=int(fields["committed_at_ms"]),
            mode=CommitMode(mode) if mode is not None else None,
            read_version=fields.get("read_version"),
            staged_path=fields.get("staged_path"),
            staged_version=fields.get("staged_version"),
            staged_payload_sha256=fields.get("staged_payload_sha256"),
            fingerprint=fields.get("fingerprint"),
            delta_log_sha256=fields.get("delta_log_sha256"),
        )
        expected = paths.delta_log(root, marker.version)
    except (WrongChecksum, paths.InvalidPath) as error:
        raise InvariantViolated(f"{path} is not an idempotency marker: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InvariantViolated(f"{path} is not an idempotency marker: {error!r}") from error
    if marker.delta_log_path != expected:
        raise InvariantViolated(
            f"{path} is not an idempotency marker: it names {shown(marker.delta_log_path)!r}, and "
            f"version {marker.version} of the table lies at {expected}"
        )
    if key is not None and marker.idempotency_key != key:
        raise InvariantViolated(f"{path} is the idempotency marker of {marker.idempotency_key!r}, and not of {key}")
    return marker


def markers_of(inflight: Inflight, log_path: str, payload_sha256: str) -> list[Marker]:
    """Return the markers of a reservation whose log file holds bytes with this hash.

    For a reservation of the reference, exactly the fields that it would have written.
    """
    if not inflight.members:
        return [
            Marker(
                idempotency_key=inflight.commit_id,
                idempotency_key_hash=sha256_hex(inflight.commit_id.encode()),
                request_hash=strict_request_hash(
                    inflight.commit_id, inflight.read_version, inflight.staged_path, payload_sha256
                ),
                version=inflight.version,
                delta_log_path=log_path,
                committed_at_ms=inflight.started_at_ms,
            )
        ]
    return [
        Marker(
            idempotency_key=member.key,
            idempotency_key_hash=sha256_hex(member.key.encode()),
            request_hash=member.request_hash,
            version=inflight.version,
            delta_log_path=log_path,
            committed_at_ms=inflight.started_at_ms,
            mode=member.mode,
            read_version=member.read_version,
            staged_path=member.staged_path,
            staged_version=member.staged_version,
            staged_payload_sha256=member.staged_payload_sha256,
            fingerprint=member.fingerprint,
            delta_log_sha256=payload_sha256,
        )
        for member in inflight.members
    ]


class Sameness(Enum):
    """Whether a request is the one that a marker was written for."""

    SAME = "same"
    DIFFERENT = "different"
    UNDECIDED = "undecided"
    """The payload's hash is needed and not known: read the committed log file."""


@dataclass(frozen=True, slots=True)
class Content:
    """Hash and fingerprint of a request's staged bytes, or of a log file."""

    sha256: str
    fingerprint: str | None = None


def sameness(marker: Marker, request: CommitRequest, content: Content | None) -> Sameness:
    """Say whether `request` is the one that `marker` answers.

    `content` is that of the request's staged bytes, None when they are gone. Markers of ours carry
    what is needed; of the reference's markers only a hash is known, so a request that names other staged
    bytes can need the hash of the committed log file, which holds exactly the staged bytes (`same_as_log`).
    """
    claimed = _claimed(request, content)
    if marker.mode is not None:
        if marker.mode != request.mode:
            return Sameness.DIFFERENT
        same_object = (marker.staged_path, marker.staged_version) == (request.staged_path, request.staged_version)
        if marker.fingerprint is not None:
            return Sameness.SAME if same_object else _by_fingerprint(marker, request, content)
        if request.mode is CommitMode.STRICT and marker.read_version != request.read_version:
            return Sameness.DIFFERENT
        if same_object:
            return Sameness.SAME  # Even if the staged bytes are gone or changed.
        if claimed is not None:
            same = claimed == marker.staged_payload_sha256
            return Sameness.SAME if same else Sameness.DIFFERENT
        return Sameness.UNDECIDED
    if request.mode is not CommitMode.STRICT:
        return Sameness.DIFFERENT
    key, read, path = request.idempotency_key, request.read_version, request.staged_path
    accepted = {legacy_request_hash(key, read, path, request.staged_version)}
    if claimed is not None:
        accepted.add(strict_request_hash(key, read, path, claimed))
    return Sameness.SAME if marker.request_hash in accepted else Sameness.UNDECIDED


def _claimed(request: CommitRequest, content: Content | None) -> str | None:
    return content.sha256 if content is not None else content_hash_of_token(request.staged_version)


def _by_fingerprint(marker: Marker, request: CommitRequest, content: Content | None) -> Sameness:
    if content is not None and content.fingerprint is not None:
        return Sameness.SAME if content.fingerprint == marker.fingerprint else Sameness.DIFFERENT
    if content is not None:
        return Sameness.DIFFERENT
    same_bytes = content_hash_of_token(request.staged_version) == marker.staged_payload_sha256
    # Other bytes may hold the same rows, and these are gone: only staging them again decides.
    return Sameness.SAME if same_bytes else Sameness.UNDECIDED


def same_as_log(marker: Marker, request: CommitRequest, content: Content | None, log: Content) -> Sameness:
    """Settle an undecided `sameness` with the content of the log file that the marker points to.

    Valid for commits whose log file holds exactly the staged bytes, which is every commit of the reference. It
    stays undecided if the request's bytes are gone and were another staged object than the committed one.
    """
    if marker.fingerprint is not None:
        return Sameness.UNDECIDED
    if marker.mode is None and content is not None and content.fingerprint is not None:
        return Sameness.SAME if content.fingerprint == log.fingerprint else Sameness.DIFFERENT
    claimed = _claimed(request, content)
    if marker.mode is None and claimed is not None:
        same = claimed == log.sha256 and request.read_version == marker.version - 1
        return Sameness.SAME if same else Sameness.DIFFERENT
    hashed = strict_request_hash(request.idempotency_key, request.read_version, request.staged_path, log.sha256)
    return Sameness.SAME if marker.request_hash == hashed else Sameness.UNDECIDED


def markers_from_log(version: int, log_path: str, log: bytes) -> list[Marker]:
    """Return the markers of the requests that a log file names, empty if it names none.

    A round of several names its members in `commitInfo.springline`; a single commit of our client names its
    key as `commitInfo.txnId`, and the file is its payload. A single commit's mode is told by `isBlindAppend`,
    which our client sets for appends only.
    """
    first, _, _ = log.partition(b"\n")
    try:
        info = orjson.loads(first)["commitInfo"]
        committed = _Committed(version, log_path, sha256_hex(log), int(info["timestamp"]))
        members = info.get("springline", {}).get("members")
        if members is not None:
            return [
                _marker(
                    check_key(one["key"]), CommitMode.APPEND, None, one["sha256"], one.get("fingerprint"), committed
                )
                for one in members
            ]
        key = check_key(info["txnId"])
        fingerprint = fingerprint_of(info)
        mode = CommitMode.APPEND if info.get("isBlindAppend") else CommitMode.STRICT
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, Refused):
        return []
    read_version = None if mode is CommitMode.APPEND else version - 1
    return [_marker(key, mode, read_version, committed.log_sha256, fingerprint, committed)]


@dataclass(frozen=True, slots=True)
class _Committed:
    """The fields that all requests of a log file share."""

    version: int
    log_path: str
    log_sha256: str
    timestamp: int


def _marker(
    key: str,
    mode: CommitMode,
    read_version: int | None,
    payload_sha256: str,
    fingerprint: str | None,
    committed: _Committed,
) -> Marker:
    if fingerprint is not None:
        request_hash = fingerprint_request_hash(key, mode, fingerprint)
    elif mode is CommitMode.APPEND:
        request_hash = append_request_hash(key, payload_sha256)
    else:
        request_hash = strict_request_hash(key, read_version, "", payload_sha256)
    return Marker(
        idempotency_key=key,
        idempotency_key_hash=sha256_hex(key.encode()),
        request_hash=request_hash,
        version=committed.version,
        delta_log_path=committed.log_path,
        committed_at_ms=committed.timestamp,
        mode=mode,
        read_version=read_version,
        staged_payload_sha256=payload_sha256,
        fingerprint=fingerprint,
        delta_log_sha256=committed.log_sha256,
    )


class MarkerVerdict(Enum):
    """The verdict of the members' markers on a reservation whose log is about to be written."""

    ABSENT = "absent"
    WRITTEN = "written"
    """Another process has completed exactly this reservation."""
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

    A round of several is identified by its round id; a single request by its key and its staged object, so
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
    """Say whether an existing marker answers this reservation (docs/protocol.md#rule-2).

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
