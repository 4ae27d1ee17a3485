"""Reading and writing the idempotency markers of a reservation."""

from __future__ import annotations

from collections.abc import Sequence

from springline import paths
from springline.commit.table import Table
from springline.delta.coordinator import Inflight
from springline.delta.identity import sha256_hex, strict_request_hash
from springline.delta.judge import marker_is_ours
from springline.delta.marker import Marker, decode_marker
from springline.errors import InvariantViolated
from springline.storage.resolve import Other, put_once
from springline.storage.together import together


async def read_markers(table: Table, keys: Sequence[str]) -> list[Marker | None]:
    """Read the markers of `keys`, together; None where there is none."""
    names = [paths.delta_marker(table.table_id, key) for key in keys]
    stored = await together(*(table.store.get(name) for name in names))
    return [None if one is None else decode_marker(one.data, name) for name, one in zip(names, stored, strict=True)]


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
        )
        for member in inflight.members
    ]


async def write_markers(table: Table, inflight: Inflight, payload_sha256: str) -> None:
    """Write the markers of a reservation whose log file is written, together and create-only.

    Safe to repeat and to run twice at once. Raises `InvariantViolated` if a key already has another answer.
    """
    wanted = markers_of(inflight, table.log_path(inflight.version), payload_sha256)
    names = [paths.delta_marker(table.table_id, marker.idempotency_key) for marker in wanted]
    written = await together(
        *(put_once(table.store, name, marker.encode()) for name, marker in zip(names, wanted, strict=True))
    )
    for name, marker, result in zip(names, wanted, written, strict=True):
        if isinstance(result, Other):
            existing = decode_marker(result.data, name)
            if not marker_is_ours(existing, marker, inflight, payload_sha256):
                raise InvariantViolated(
                    f"{name} answers key {marker.idempotency_key} with version {existing.version}, "
                    f"but the log of version {marker.version} holds the same key"
                )
