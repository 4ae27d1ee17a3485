"""Reading and writing the idempotency markers of a reservation."""

from __future__ import annotations

from collections.abc import Sequence

from springline import paths
from springline.commit.table import Table
from springline.delta.coordinator import Inflight
from springline.delta.identity import sha256_hex, strict_request_hash
from springline.delta.judge import marker_is_ours
from springline.delta.marker import Marker, decode_marker
from springline.delta.recovered import markers_from_log
from springline.errors import InvariantViolated
from springline.storage.resolve import Other, put_once
from springline.storage.together import together

LOGS_TOGETHER = 32


async def read_markers(table: Table, keys: Sequence[str]) -> list[Marker | None]:
    """Read the markers of `keys`, together; None where there is none."""
    names = [paths.delta_marker(table.table_id, key) for key in keys]
    stored = await together(*(table.store.get(name) for name in names))
    return [
        None if one is None else decode_marker(one.data, name, key)
        for key, name, one in zip(keys, names, stored, strict=True)
    ]


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


async def write_markers(table: Table, inflight: Inflight, payload_sha256: str) -> None:
    """Write the markers of a reservation whose log file is written, together and create-only.

    Safe to repeat and to run twice at once. Raises `InvariantViolated` if a key already has another answer.
    """
    wanted = markers_of(inflight, table.log_path(inflight.version), payload_sha256)
    names = [paths.delta_marker(table.table_id, marker.idempotency_key) for marker in wanted]
    written = await together(
        *(put_once(table.store, name, marker.encode(name)) for name, marker in zip(names, wanted, strict=True))
    )
    for name, marker, result in zip(names, wanted, written, strict=True):
        if isinstance(result, Other):
            existing = decode_marker(result.data, name, marker.idempotency_key)
            if not marker_is_ours(existing, marker, inflight, payload_sha256):
                raise InvariantViolated(
                    f"{name} answers key {marker.idempotency_key} with version {existing.version}, "
                    f"but the log of version {marker.version} holds the same key"
                )


async def answer_named_keys(table: Table, versions: Sequence[int]) -> set[str]:
    """Write the markers of all keys that the log files of some versions name; return these keys.

    For versions that the coordinator did not tell of: somebody committed them past the sequencer, or an older copy of
    the coordinator is back, and a request that is in the log must not be committed once more.
    """
    keys: set[str] = set()
    for start in range(0, len(versions), LOGS_TOGETHER):
        some = versions[start : start + LOGS_TOGETHER]
        logs = await together(*(table.store.get(table.log_path(version)) for version in some))
        found = [
            marker
            for version, log in zip(some, logs, strict=True)
            if log is not None
            for marker in markers_from_log(version, table.log_path(version), log.data)
        ]
        names = [paths.delta_marker(table.table_id, marker.idempotency_key) for marker in found]
        await together(
            *(put_once(table.store, name, marker.encode(name)) for name, marker in zip(names, found, strict=True))
        )
        keys.update(marker.idempotency_key for marker in found)
    return keys
