"""Idempotency markers: the permanent answer to a key (S 1.8).

A marker is a pure function of its reservation, so that an owner and a helper that race write the same bytes.
The reference's six fields come first; markers of our own reservations add what makes a replay decidable when
the staged payload is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

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

    def encode(self) -> bytes:
        """Return the object's bytes: compact JSON, reference fields first, ours only where known."""
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
        return orjson.dumps(fields)

    def answers(self, other: Marker) -> bool:
        """Say whether `other` is the same answer: key, version, path and request hash agree (design 3.3)."""
        return (self.idempotency_key, self.version, self.delta_log_path, self.request_hash) == (
            other.idempotency_key,
            other.version,
            other.delta_log_path,
            other.request_hash,
        )


def decode_marker(data: bytes, path: str) -> Marker:
    """Parse a marker read from `path`; raises `InvariantViolated` if it is none."""
    try:
        fields = orjson.loads(data)
        mode = fields.get("mode")
        return Marker(
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
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvariantViolated(f"{path} is not an idempotency marker: {error!r}") from error
