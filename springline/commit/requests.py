"""Reading the stored objects of requests: their markers and their staged payloads.

See docs/protocol.md#commits, docs/protocol.md#rule-6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from springline import paths
from springline.batching import refused_alone
from springline.commit.complete import read_markers
from springline.commit.table import CommitTable
from springline.delta.identity import sha256_hex
from springline.delta.markers import Content, Marker, Sameness, same_as_log, sameness
from springline.delta.messages import CommitMode, CommitOutcome, CommitRequest, CommitResult
from springline.delta.payload import Payload, check_blind_append, fingerprint_of, parse_payload
from springline.delta.rounds import Candidate, candidate_of
from springline.errors import Code, InvariantViolated, Refusal, Refused
from springline.keys import check_key
from springline.storage.port import StoredObject
from springline.storage.together import together

_REUSED = "Send the same payload, mode and read_version to have the first answer, or use a new UUIDv7."
_REUSED_BY_FINGERPRINT = (
    "If these are the rows of that commit, changed since, they are in the table already: read its version before "
    "you write them again. Use a new key only for rows that the table does not have."
)
JUDGED_AT_ONCE_BYTES = 16 * 1024
"""Payloads up to this size are judged on the event loop, in well under a millisecond; larger ones off it."""
PARSED_WEIGHT = 6
"""The memory of a parsed payload, as a multiple of its bytes: measured from 5 to 6."""


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """One request with its stored objects: a marker, else a candidate for a round, else why it is refused.

    `refusal` counts only without a marker. `content` is known for any existing payload, also for one that would
    be refused today: a committed request is answered again by it, even if the rules have changed.
    """

    request: CommitRequest
    marker: Marker | None = None
    candidate: Candidate | None = None
    refusal: Refusal | None = None
    content: Content | None = None

    @property
    def key(self) -> str:
        """Return the request's idempotency key."""
        return self.request.idempotency_key


async def read_requests(table: CommitTable, requests: Sequence[CommitRequest]) -> list[StoredRequest]:
    """Read markers and staged payloads of all `requests`, together."""
    malformed = {index: refusal for index, one in enumerate(requests) if (refusal := _malformed(table, one))}
    wellformed = [one for index, one in enumerate(requests) if index not in malformed]
    unread = [request for request in wellformed if table.payloads.get(_payload_name(request)) is None]
    markers, staged = await together(
        _markers(table, wellformed),
        together(*(table.store.get(paths.relative_path(request.staged_path)) for request in unread)),
    )
    stored = {_payload_name(request): one for request, one in zip(unread, staged, strict=True)}
    known = iter(markers)
    found: list[StoredRequest] = []
    for index, request in enumerate(requests):
        marker = malformed.get(index) or next(known)
        if isinstance(marker, Refusal):
            found.append(StoredRequest(request, refusal=marker))
        else:
            found.append(await _with_payload(table, request, marker, stored.get(_payload_name(request))))
    return found


async def _with_payload(
    table: CommitTable, request: CommitRequest, marker: Marker | None, stored: StoredObject | None
) -> StoredRequest:
    try:
        payload = await _payload(table, request, stored)
        if request.mode is CommitMode.APPEND:
            check_blind_append(payload)
        content = Content(payload.sha256, payload.request_fingerprint)
        candidate = candidate_of(request, payload) if marker is None else None
    except Refused as error:
        intact = stored is not None and stored.version == request.staged_version
        known_by = _content_of(stored.data) if stored is not None and intact and marker is not None else None
        return StoredRequest(request, marker, refusal=error.refusal, content=known_by)
    except Exception as error:
        return StoredRequest(request, marker, refusal=failed(request.idempotency_key, error))
    return StoredRequest(request, marker, candidate, content=content)


def failed(key: str, error: Exception) -> Refusal:
    """Return the refusal of the request of `key`, which met an unforeseen error; raises a foreseen one again."""
    return refused_alone(error, what="its payload was judged", field="idempotency_key", identity=key)


async def answer_of_marker(table: CommitTable, found: StoredRequest, marker: Marker) -> CommitOutcome:
    """Answer a request whose key has a marker: the first result again, or a conflict if the request is another."""
    request = found.request
    content = found.content
    same = sameness(marker, request, content)
    if same is Sameness.UNDECIDED:
        log = await table.store.get(paths.workspace_path(marker.delta_log_path))
        if log is not None:
            same = same_as_log(marker, request, content, _content_of(log.data))
    if same is Sameness.SAME:
        result = CommitResult(version=marker.version, delta_log_path=marker.delta_log_path)
        return CommitOutcome(idempotency_key=request.idempotency_key, result=result, replayed=True)
    if same is Sameness.UNDECIDED and found.refusal is not None:
        # Its bytes are gone: it may be the committed request, staged once more. Staging it again decides.
        return CommitOutcome(idempotency_key=request.idempotency_key, refusal=found.refusal)
    refusal = Refusal(
        code=Code.KEY_REUSED,
        message=(
            f"idempotency key {request.idempotency_key} already belongs to another request, "
            f"which was committed as version {marker.version}"
        ),
        field="idempotency_key",
        value=request.idempotency_key,
        remedy=_REUSED_BY_FINGERPRINT if marker.fingerprint is not None else _REUSED,
    )
    return CommitOutcome(idempotency_key=request.idempotency_key, refusal=refusal)


def _content_of(data: bytes) -> Content:
    """Return hash and fingerprint of a log file or a payload, which may be any writer's and is not judged yet."""
    first, _, _ = data.partition(b"\n")
    try:
        fingerprint = fingerprint_of(orjson.loads(first).get("commitInfo"))
    except (ValueError, AttributeError):
        fingerprint = None
    return Content(sha256_hex(data), fingerprint)


async def _markers(table: CommitTable, requests: Sequence[CommitRequest]) -> list[Marker | Refusal | None]:
    """Read the requests' markers; a damaged one refuses its own request only."""
    keys = [request.idempotency_key for request in requests]
    try:
        return list(await read_markers(table, keys))
    except InvariantViolated:
        return list(await together(*(_marker_or_refusal(table, key) for key in keys)))


async def _marker_or_refusal(table: CommitTable, key: str) -> Marker | Refusal | None:
    try:
        (marker,) = await read_markers(table, [key])
    except InvariantViolated as error:
        return Refusal(
            code=Code.STORED_DAMAGED,
            message=str(error),
            field="idempotency_key",
            value=key,
            remedy="The stored answer to this key is damaged: `springline table recover --replace-damaged --markers` "
            "writes it anew of the log; runbooks/coordinator-lost.md tells more.",
        )
    return marker


def _payload_name(request: CommitRequest) -> str:
    return f"{request.staged_path}@{request.staged_version}"


def _malformed(table: CommitTable, request: CommitRequest) -> Refusal | None:
    """Return why a request can name neither a marker nor a payload of this table, also if it came by the CLI."""
    try:
        check_key(request.idempotency_key)
        paths.parse_delta_staged(table.table_id, request.staged_path)
    except Refused as error:
        return error.refusal
    except paths.InvalidPath as error:
        return Refusal(
            code=Code.INVALID_PATH,
            message=str(error),
            field="staged_path",
            value=request.staged_path,
            remedy="Send the staged_path that staging this table's payload returned.",
        )
    except Exception as error:
        return failed(request.idempotency_key, error)
    return None


async def _payload(table: CommitTable, request: CommitRequest, stored: StoredObject | None) -> Payload:
    known = table.payloads.get(_payload_name(request))
    if known is not None:
        return known
    if stored is None:
        raise Refused(
            Refusal(
                code=Code.STAGED_MISSING,
                message=f"there is no staged payload at {request.staged_path}",
                field="staged_path",
                value=request.staged_path,
                remedy="Stage the payload again and commit what staging returns; the same key may be used.",
            )
        )
    if stored.version != request.staged_version:
        raise Refused(
            Refusal(
                code=Code.STAGED_CHANGED,
                message=f"{request.staged_path} is not the object that was staged: its version is another",
                field="staged_version",
                value=request.staged_version,
                remedy=f"Send the version that staging returned; the object now has version {stored.version}.",
            )
        )
    if len(stored.data) > JUDGED_AT_ONCE_BYTES:
        payload = await asyncio.to_thread(parse_payload, stored.data, complete=False)
    else:
        payload = parse_payload(stored.data, complete=False)
    table.payloads.put(_payload_name(request), payload, weight=PARSED_WEIGHT * len(stored.data))
    return payload
