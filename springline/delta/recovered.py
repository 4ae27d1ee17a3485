"""What a log file alone says of the requests it committed: for a table that lost its coordinator object."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from springline.delta.identity import (
    append_request_hash,
    fingerprint_request_hash,
    sha256_hex,
    strict_request_hash,
)
from springline.delta.keys import check_key
from springline.delta.marker import Marker
from springline.delta.payload import fingerprint_of
from springline.delta.request import Mode
from springline.errors import Refused


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
                _marker(check_key(one["key"]), Mode.APPEND, None, one["sha256"], one.get("fingerprint"), committed)
                for one in members
            ]
        key = check_key(info["txnId"])
        fingerprint = fingerprint_of(info)
        mode = Mode.APPEND if info.get("isBlindAppend") else Mode.STRICT
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, Refused):
        return []
    read_version = None if mode is Mode.APPEND else version - 1
    return [_marker(key, mode, read_version, committed.log_sha256, fingerprint, committed)]


@dataclass(frozen=True, slots=True)
class _Committed:
    """What the requests of a log file share."""

    version: int
    log_path: str
    log_sha256: str
    timestamp: int


def _marker(
    key: str,
    mode: Mode,
    read_version: int | None,
    payload_sha256: str,
    fingerprint: str | None,
    committed: _Committed,
) -> Marker:
    if fingerprint is not None:
        request_hash = fingerprint_request_hash(key, mode, fingerprint)
    elif mode is Mode.APPEND:
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
