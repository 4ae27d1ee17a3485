"""Who a request is: keys, payload hashes and request hashes (docs/formats.md#request-hash, docs/protocol.md#commits).

A request whose payload carries a fingerprint (`springline.delta.payload.fingerprint_of`) is the same as another when
key, mode, operation and fingerprint agree, whatever files, bytes and `read_version` came with it: a writer that
tries again may have written its rows anew, against a later version of the table.

Any other request is the same as another when key, mode and payload hash agree, and for a strict commit
`read_version` too, whatever staged path carried the bytes. The reference system's hash binds the staged path as
well; markers hold that hash for strict commits, so that it can read ours and we can read its.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

import rfc8785

from springline.delta.marker import Marker
from springline.delta.request import CommitRequest, Mode

_CONTENT_TOKEN = "sha256:"


class Sameness(Enum):
    """Whether a request is the one a marker was written for."""

    SAME = "same"
    DIFFERENT = "different"
    UNDECIDED = "undecided"
    """The payload's hash is needed and not known: read the committed log file."""


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
    """Return the request hash of an append: neither staged path nor `read_version` is part of what it is."""
    return _hash_of({"idempotency_key": key, "mode": Mode.APPEND.value, "staged_payload_sha256": payload_sha256})


def fingerprint_request_hash(key: str, mode: Mode, fingerprint: str) -> str:
    """Return the request hash of a request that is known by its fingerprint: no bytes and no version are part of it."""
    return _hash_of({"idempotency_key": key, "mode": mode.value, "fingerprint": fingerprint})


def request_hash(request: CommitRequest, payload_sha256: str, fingerprint: str | None = None) -> str:
    """Return the hash that is recorded in reservation and marker for `request`."""
    if fingerprint is not None:
        return fingerprint_request_hash(request.idempotency_key, request.mode, fingerprint)
    if request.mode is Mode.APPEND:
        return append_request_hash(request.idempotency_key, payload_sha256)
    return strict_request_hash(request.idempotency_key, request.read_version, request.staged_path, payload_sha256)


def content_hash_of_token(staged_version: str | None) -> str | None:
    """Return the payload hash that a content-derived version token carries (local files), else None."""
    if staged_version is not None and staged_version.startswith(_CONTENT_TOKEN):
        return staged_version.removeprefix(_CONTENT_TOKEN)
    return None


@dataclass(frozen=True, slots=True)
class Content:
    """What is known of a request's staged bytes, or of a log file's: their hash and the fingerprint they carry."""

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
        if request.mode is Mode.STRICT and marker.read_version != request.read_version:
            return Sameness.DIFFERENT
        if same_object:
            return Sameness.SAME  # Whatever has become of the staged bytes since.
        if claimed is not None:
            same = claimed == marker.staged_payload_sha256
            return Sameness.SAME if same else Sameness.DIFFERENT
        return Sameness.UNDECIDED
    if request.mode is not Mode.STRICT:
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
    # Other bytes may hold the same rows, and these are gone: only staging them again will tell.
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
