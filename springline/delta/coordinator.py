"""The coordinator object: a table's latest version and the one reservation in flight.

See docs/formats.md#coordinator, docs/protocol.md#commit-rounds.

The reference's fields keep their names, order and meaning; ours follow them. A reservation without `members`
was written by the reference and stands for one strict request whose key is `commit_id`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from springline.checked import WrongChecksum, verify, with_checksum
from springline.delta.messages import CommitMode
from springline.errors import InvariantViolated
from springline.paths import MAX_VERSION

RESERVATION_TTL_MS = 300_000
"""Written as `expires_at_ms` for readers of the old format; our code never waits for it."""


@dataclass(frozen=True, slots=True)
class Member:
    """One request of a reservation, with all that its marker needs."""

    key: str
    mode: CommitMode
    read_version: int
    staged_path: str
    staged_version: str
    staged_payload_sha256: str
    request_hash: str
    fingerprint: str | None = None
    """The request's fingerprint, if its payload has one (`springline.delta.payload.fingerprint_of`)."""


@dataclass(frozen=True, slots=True)
class Inflight:
    """A reserved version and its requests.

    `commit_id` is the key of a single request, so that the reference can recover it, or the round id of
    several. `staged_path` names the bytes that become the log file.
    """

    commit_id: str
    read_version: int | None
    version: int
    staged_path: str
    staged_version: str
    started_at_ms: int
    expires_at_ms: int
    writer: str | None = None
    mode: CommitMode | None = None
    staged_payload_sha256: str | None = None
    members: tuple[Member, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the idempotency keys this reservation commits."""
        return tuple(member.key for member in self.members) or (self.commit_id,)

    @property
    def identity(self) -> str:
        """Return the identity of this reservation, which stays when it moves to another version.

        The commit id alone does not suffice: a single request's id is its key, and a key can come back with another
        payload after its reservation was abandoned. Nor does the hash of a request that is identified by its
        fingerprint: it can come back with other bytes.
        """
        if not self.members:
            return f"{self.commit_id}/{self.read_version}/{self.staged_path}"
        if len(self.members) == 1:
            member = self.members[0]
            bytes_ = "" if member.fingerprint is None else f"/{member.staged_payload_sha256}"
            return f"{self.commit_id}/{member.request_hash}{bytes_}"
        return self.commit_id


@dataclass(frozen=True, slots=True)
class Coordinator:
    """The state of a table's coordinator object; `latest_version` is -1 before version 0."""

    latest_version: int
    inflight: Inflight | None = None

    def encode(self, path: str) -> bytes:
        """Return the bytes of the object at `path`: compact JSON in the reference's field order, with its checksum."""
        data = orjson.dumps(
            {
                "latest_version": self.latest_version,
                "inflight": None if self.inflight is None else _encode_inflight(self.inflight),
            }
        )
        return with_checksum(data, path)


_MEMBERS = frozenset({"latest_version", "inflight"})


def _encode_inflight(inflight: Inflight) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "commit_id": inflight.commit_id,
        "read_version": inflight.read_version,
        "version": inflight.version,
        "staged_path": inflight.staged_path,
        "staged_version": inflight.staged_version,
        "started_at_ms": inflight.started_at_ms,
        "expires_at_ms": inflight.expires_at_ms,
    }
    if inflight.members:
        fields |= {
            "writer": inflight.writer,
            "mode": inflight.mode.value if inflight.mode else None,
            "staged_payload_sha256": inflight.staged_payload_sha256,
            "members": [encode_member(member) for member in inflight.members],
        }
    return fields


def encode_member(member: Member) -> dict[str, str | int]:
    """Return a member's fields in the coordinator object."""
    fields: dict[str, str | int] = {
        "key": member.key,
        "mode": member.mode.value,
        "read_version": member.read_version,
        "staged_path": member.staged_path,
        "staged_version": member.staged_version,
        "staged_payload_sha256": member.staged_payload_sha256,
        "request_hash": member.request_hash,
    }
    return fields if member.fingerprint is None else fields | {"fingerprint": member.fingerprint}


def decode_coordinator(data: bytes, path: str) -> Coordinator:
    """Check and parse a coordinator object read from `path`; raises `InvariantViolated` if it is not one."""
    try:
        verify(data, _MEMBERS, path)
        fields = orjson.loads(data)
        raw = fields.get("inflight")
        return Coordinator(_version(fields["latest_version"]), None if raw is None else _decode_inflight(raw))
    except WrongChecksum as error:
        raise InvariantViolated(f"{path} is not a coordinator object: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InvariantViolated(f"{path} is not a coordinator object: {error!r}") from error


def _version(value: Any) -> int:
    version = int(value)
    if not -1 <= version <= MAX_VERSION:
        raise ValueError(f"{version} is no version")
    return version


def _decode_inflight(raw: dict[str, Any]) -> Inflight:
    mode = raw.get("mode")
    return Inflight(
        commit_id=str(raw["commit_id"]),
        read_version=raw.get("read_version"),
        version=_version(raw["version"]),
        staged_path=str(raw["staged_path"]),
        staged_version=str(raw["staged_version"]),
        started_at_ms=int(raw["started_at_ms"]),
        expires_at_ms=int(raw["expires_at_ms"]),
        writer=raw.get("writer"),
        mode=CommitMode(mode) if mode is not None else None,
        staged_payload_sha256=raw.get("staged_payload_sha256"),
        members=tuple(
            Member(
                key=str(member["key"]),
                mode=CommitMode(member["mode"]),
                read_version=int(member["read_version"]),
                staged_path=str(member["staged_path"]),
                staged_version=str(member["staged_version"]),
                staged_payload_sha256=str(member["staged_payload_sha256"]),
                request_hash=str(member["request_hash"]),
                fingerprint=member.get("fingerprint"),
            )
            for member in raw.get("members") or ()
        ),
    )
