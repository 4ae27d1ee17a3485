"""Answering a key with a version that its caller committed without the sequencer.

In our client delta-rs does delete, update, merge and optimize on the table itself, with the key as a `txn` of the
commit (`springline.client.changes`). Such a version is committed as soon as its log file exists, like any other
writer's; it only lacks the marker, which answers the key for ever. The caller's claim alone proves nothing: the
log file of the version must have the key.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from springline import paths
from springline.commit.complete import read_markers
from springline.commit.table import CommitTable
from springline.delta.identity import txn_app_id
from springline.delta.markers import Marker, decode_marker, markers_from_log
from springline.delta.messages import CommitOutcome, CommitResult
from springline.errors import Code, refused
from springline.storage.resolve import Created, Other, put_once


@dataclass(frozen=True, slots=True)
class VersionClaim:
    """The claim that `version` is the commit of `key`. `fingerprint`: the request, as `operation:fingerprint`."""

    key: str
    version: int
    fingerprint: str


async def claim(table: CommitTable, wanted: VersionClaim) -> CommitOutcome:
    """Write the marker of a key whose version is committed already, and return its answer.

    Safe to repeat and to run twice at once: the marker is create-only, and an existing one has the same answer.
    Raises `Refused`: KEY_REUSED if the key is another request's, NOT_FOUND if the version has no log file,
    INVALID_REQUEST if that file does not have the key; and `InvariantViolated` if the existing marker is damaged.
    """
    (marker,) = await read_markers(table, [wanted.key])
    if marker is None:
        marker = await _from_log(table, wanted)
        path = paths.delta_marker(table.table_id, wanted.key)
        written = await put_once(table.store, path, marker.encode(path))
        if isinstance(written, Created):
            return _answer(wanted, marker, replayed=False)
        if isinstance(written, Other):
            marker = decode_marker(written.data, path, wanted.key, root=table.root)
    return _answer(wanted, marker, replayed=True)


def _answer(wanted: VersionClaim, marker: Marker, *, replayed: bool) -> CommitOutcome:
    if marker.fingerprint != wanted.fingerprint:
        raise refused(
            Code.KEY_REUSED,
            f"idempotency key {wanted.key} already belongs to another request, which was committed as version "
            f"{marker.version}",
            field="idempotency_key",
            value=wanted.key,
            remedy="Repeat exactly the operation that was first sent under this key, or use a new key.",
        )
    result = CommitResult(version=marker.version, delta_log_path=marker.delta_log_path)
    return CommitOutcome(idempotency_key=wanted.key, result=result, replayed=replayed)


async def _from_log(table: CommitTable, wanted: VersionClaim) -> Marker:
    """Return the marker for the log file of the version."""
    path = table.log_path(wanted.version)
    log = await table.store.get(path)
    if log is None:
        raise refused(
            Code.NOT_FOUND,
            f"version {wanted.version} of the table has no log file",
            field="version",
            value=wanted.version,
            remedy="Claim the version that holds the commit of this key.",
        )
    markers = [one for one in markers_from_log(wanted.version, path, log.data) if one.idempotency_key == wanted.key]
    if len(markers) != 1 or not _carries(log.data, wanted.key):
        raise refused(
            Code.INVALID_REQUEST,
            f"version {wanted.version} of the table does not carry the key {wanted.key} as txnId and txn",
            field="version",
            value=wanted.version,
            remedy="Claim the version that holds the commit of this key.",
        )
    return markers[0]


def _carries(log: bytes, key: str) -> bool:
    """Say whether a log file, of any writer, has the `txn` action of `key`."""
    app_id = txn_app_id(key)
    for line in log.split(b"\n"):
        if app_id.encode() not in line:
            continue
        try:
            if orjson.loads(line)["txn"]["appId"] == app_id:
                return True
        except (ValueError, KeyError, TypeError):
            continue
    return False
