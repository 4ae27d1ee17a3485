"""The identity of a request: keys, payload and request hashes (docs/formats.md#request-hash, docs/protocol.md#commits).

A request whose payload carries a fingerprint (`springline.delta.payload.fingerprint_of`) is the same as another when
key, mode, operation and fingerprint agree, even if files, bytes and `read_version` differ: a writer that
tries again may have written its rows again, against a later version of the table.

Any other request is the same as another when key, mode and payload hash agree, and for a strict commit
`read_version`, too; the staged path does not matter. The reference system's hash includes the staged path;
markers hold that hash for strict commits, so that each system can read the other's.
"""

from __future__ import annotations

import hashlib

import rfc8785

from springline.delta.messages import CommitMode, CommitRequest

_CONTENT_TOKEN = "sha256:"


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def _hash_of(fields: dict[str, str | int | None]) -> str:
    return sha256_hex(rfc8785.dumps(fields))


def strict_request_hash(key: str, read_version: int | None, staged_path: str, payload_sha256: str) -> str:
    """Return the reference's request hash, which is ours for strict commits (docs/formats.md#request-hash)."""
    return _hash_of(
        {
            "idempotency_key": key,
            "read_version": read_version,
            "staged_path": staged_path,
            "staged_payload_sha256": payload_sha256,
        }
    )


def legacy_request_hash(key: str, read_version: int | None, staged_path: str, staged_version: str) -> str:
    """Return the reference's older hash, over the request itself; accepted on replay, never written."""
    return _hash_of(
        {
            "idempotency_key": key,
            "read_version": read_version,
            "staged_path": staged_path,
            "staged_version": staged_version,
        }
    )


def append_request_hash(key: str, payload_sha256: str) -> str:
    """Return the request hash of an append: neither staged path nor `read_version` is part of its identity."""
    return _hash_of({"idempotency_key": key, "mode": CommitMode.APPEND.value, "staged_payload_sha256": payload_sha256})


def fingerprint_request_hash(key: str, mode: CommitMode, fingerprint: str) -> str:
    """Return the hash of a request that is identified by its fingerprint, without bytes and version."""
    return _hash_of({"idempotency_key": key, "mode": mode.value, "fingerprint": fingerprint})


def request_hash(request: CommitRequest, payload_sha256: str, fingerprint: str | None = None) -> str:
    """Return the hash that is recorded in reservation and marker for `request`."""
    if fingerprint is not None:
        return fingerprint_request_hash(request.idempotency_key, request.mode, fingerprint)
    if request.mode is CommitMode.APPEND:
        return append_request_hash(request.idempotency_key, payload_sha256)
    return strict_request_hash(request.idempotency_key, request.read_version, request.staged_path, payload_sha256)


def content_hash_of_token(staged_version: str | None) -> str | None:
    """Return the payload hash in a content-derived version token (local files), else None."""
    if staged_version is not None and staged_version.startswith(_CONTENT_TOKEN):
        return staged_version.removeprefix(_CONTENT_TOKEN)
    return None


TXN_VERSION = 1
"""A key commits once, so its application has one version only."""

_PREFIX = "springline:"


def txn_app_id(key: str) -> str:
    """Return the application id of the transaction that stands for an idempotency key."""
    return f"{_PREFIX}{key}"


def is_own(app_id: str) -> bool:
    """Say whether an application id is one under which only our own operations commit."""
    return app_id.startswith(_PREFIX)
