"""Idempotency markers: the permanent answer to a key (docs/formats.md#marker).

A marker is a pure function of its reservation, so that an owner and a helper that race write the same bytes.
The reference's six fields come first; markers of our own reservations add what makes a replay decidable when
the staged payload is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from springline.checked import WrongChecksum, verify, with_checksum
from springline.delta.request import Mode
from springline.errors import InvariantViolated


@dataclass(frozen=True, slots=True)
class Marker:
    """The stored answer to one idempotency key. `committed_at_ms`: the reservation's start, Unix ms."""

    idempotency_key: str
    idempotency_key_hash: str
    request_hash: str
    version: int
    delta_log_path: str
    committed_at_ms: int
    mode: Mode | None = None
    read_version: int | None = None
    staged_path: str | None = None
    staged_version: str | None = None
    staged_payload_sha256: str | None = None
    fingerprint: str | None = None
    """What the request is, where its payload says so (`springline.delta.payload.fingerprint_of`)."""
    delta_log_sha256: str | None = None
    """The SHA-256 (hex) of the log file, which a round of several shares: it shows later that the file was altered."""

    @property
    def log_sha256(self) -> str | None:
        """Return the SHA-256 (hex) that the log file must have; None of a marker that does not know it."""
        is_alone = self.mode is Mode.STRICT
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


def decode_marker(data: bytes, path: str, key: str | None) -> Marker:
    """Parse the marker of `key` read from `path`, once it was checked; raises `InvariantViolated` if it is none.

    `key` None: whose it is, is for the caller to check.
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
            mode=Mode(mode) if mode is not None else None,
            read_version=fields.get("read_version"),
            staged_path=fields.get("staged_path"),
            staged_version=fields.get("staged_version"),
            staged_payload_sha256=fields.get("staged_payload_sha256"),
            fingerprint=fields.get("fingerprint"),
            delta_log_sha256=fields.get("delta_log_sha256"),
        )
    except WrongChecksum as error:
        raise InvariantViolated(f"{path} is not an idempotency marker: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InvariantViolated(f"{path} is not an idempotency marker: {error!r}") from error
    if key is not None and marker.idempotency_key != key:
        raise InvariantViolated(f"{path} is the idempotency marker of {marker.idempotency_key!r}, and not of {key}")
    return marker
