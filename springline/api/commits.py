"""Routes of commits: stage, commit, claim, and the fate of a key (docs/formats.md#commit-request)."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Header, Path, Request, Response
from pydantic import Field

from springline import bounds, paths
from springline.api.context import FromDeps, Reader, Writer, errors
from springline.api.models import ClaimBody, CommitBody, CommittedBody, StageBody, StagedBody
from springline.api.tables import TableParam
from springline.api.urls import CheckedRouter
from springline.commit.claim import VersionClaim
from springline.commit.claim import claim as claim_version
from springline.commit.inspect import Fate, KeyView, key_view
from springline.commit.requests import JUDGED_AT_ONCE_BYTES
from springline.commit.staging import Staged
from springline.commit.staging import stage as put_staged
from springline.delta.messages import CommitOutcome, CommitRequest
from springline.delta.payload import parse_payload
from springline.errors import Code, Refused, refused
from springline.keys import HEADER_FIELD, key_of
from springline.storage.port import ObjectStore

REPLAYED_HEADER = "Idempotency-Replayed"

router = CheckedRouter(prefix="/api/v1/delta/tables/{table}/commits", tags=["commits"])

KeyHeader = Annotated[
    Annotated[
        str,
        Field(
            max_length=bounds.MAX_KEY,
            json_schema_extra=bounds.judged(
                "A commit needs the key here or in the body.", pattern=f"^{bounds.KEY_PATTERN}$"
            ),
        ),
    ]
    | None,
    Header(
        alias=HEADER_FIELD,
        description="Canonical lower-case UUIDv7; here, in the body, or the same in both.",
    ),
]

KeyParam = Annotated[
    str,
    Path(
        max_length=bounds.MAX_KEY,
        description="The idempotency key.",
        json_schema_extra={"pattern": f"^{bounds.KEY_PATTERN}$"},
        examples=["01946b1c-0000-7000-8000-000000000001"],
    ),
]


@router.post(
    "/stage",
    summary="Stage a payload",
    response_description="Where the payload lies; a commit names both values.",
    responses=errors(400, 404, 409, 413, 503),
)
async def stage(
    table: TableParam,
    body: StageBody,
    workspace: Writer,
    deps: FromDeps,
    request: Request,
    idempotency_key: KeyHeader = None,
) -> StagedBody:
    """Check Delta actions and put them where a commit can name them. Nothing of the table changes.

    With a key, staging may be repeated: the same payload under the same key is staged once.
    """
    header = _header_key(request)
    name = deps.new_name() if header is None and body.idempotency_key is None else key_of(header, body.idempotency_key)
    entry = await workspace.registry.entry(table)
    staged = await _judged_and_staged(workspace.store, entry.table_id, name, body.payload)
    return StagedBody(staged_path=staged.path, staged_version=staged.version)


@router.post(
    "",
    summary="Commit a payload",
    response_description="The version it became. The header Idempotency-Replayed tells a repeated answer.",
    responses=errors(400, 404, 409, 413, 503),
)
async def commit(
    table: TableParam,
    body: CommitBody,
    workspace: Writer,
    deps: FromDeps,
    request: Request,
    response: Response,
    idempotency_key: KeyHeader = None,
) -> CommittedBody:
    """Commit a payload exactly once per key: one that was staged, or one in the request, which is staged first.

    After a lost answer, or 503, send the same request again under the same key: the answer is the same one.
    """
    key = key_of(_header_key(request), body.idempotency_key)
    entry = await workspace.registry.entry(table)
    if body.payload is None:
        staged = _named(body, entry.table_id)
    else:
        _only_payload(body)
        # A name that is never used twice, because the same request may come with other bytes under the same key.
        staged = await _judged_and_staged(workspace.store, entry.table_id, deps.new_name(), body.payload)
    outcome = await deps.commits.commit(
        workspace.scope,
        entry.table_id,
        CommitRequest(
            idempotency_key=key,
            mode=body.mode,
            read_version=body.read_version,
            staged_path=staged.path,
            staged_version=staged.version,
        ),
    )
    if outcome.refusal is not None:
        raise Refused(outcome.refusal)
    return _committed(outcome, response)


@router.post(
    "/claim",
    summary="Claim a version for a key",
    response_description="The version of the key. The header Idempotency-Replayed tells a repeated answer.",
    responses=errors(400, 404, 409, 413, 503),
)
async def claim(
    table: TableParam,
    body: ClaimBody,
    workspace: Writer,
    request: Request,
    response: Response,
    idempotency_key: KeyHeader = None,
) -> CommittedBody:
    """Have a key answered with a version that a Delta library committed for it on the table itself.

    The version's log file must carry the key: as `commitInfo.txnId`, as a `txn` of the application `springline:{key}`,
    and with `commitInfo.springline.request`. The table does not change. Safe to repeat.
    """
    key = key_of(_header_key(request), body.idempotency_key)
    entry = await workspace.registry.entry(table)
    wanted = VersionClaim(key, body.version, f"{body.operation}:{body.fingerprint}")
    outcome = await claim_version(workspace.table(entry), wanted)
    return _committed(outcome, response)


@router.get("/{key}", summary="What became of a key", responses=errors(404, 409, 503))
async def explain(
    table: TableParam,
    key: KeyParam,
    workspace: Reader,
) -> KeyView:
    """Tell from storage alone whether a key is committed or in flight; 404 if this table knows nothing of it."""
    entry = await workspace.registry.entry(table)
    view = await key_view(workspace.table(entry), key)
    if view.fate is Fate.UNKNOWN_KEY:
        raise refused(
            Code.KEY_NOT_FOUND,
            view.meaning,
            field="key",
            value=key,
            remedy="Send the commit, again or for the first time, under this key.",
        )
    return view


async def _judged_and_staged(store: ObjectStore, table_id: str, name: str, payload: str) -> Staged:
    """Stage a payload that is right by itself; raises `Refused` for one that is not."""
    data = payload.encode()
    if len(data) > JUDGED_AT_ONCE_BYTES:
        # Off the event loop: checking 5 MiB of actions would delay other requests.
        await asyncio.to_thread(parse_payload, data)
    else:
        parse_payload(data)
    return await put_staged(store, table_id, name, data)


def _named(body: CommitBody, table_id: str) -> Staged:
    """Return the staged payload that a commit names; raises `Refused` if it names none, or one of another table."""
    for name in ("staged_path", "staged_version"):
        if getattr(body, name) is None:
            raise refused(
                Code.INVALID_REQUEST,
                f"{name}: is missing",
                field=name,
                value=None,
                remedy=f"add {name}, which staging the payload returned, or send the payload itself as `payload`",
            )
    try:
        paths.parse_delta_staged(table_id, body.staged_path or "")
    except paths.InvalidPath as error:
        raise refused(
            Code.INVALID_PATH, str(error), field="staged_path", value=body.staged_path, remedy=error.remedy
        ) from None
    return Staged(paths.ObjectPath(body.staged_path or ""), body.staged_version or "")


def _only_payload(body: CommitBody) -> None:
    for name in ("staged_path", "staged_version"):
        if getattr(body, name) is not None:
            raise refused(
                Code.INVALID_REQUEST,
                f"{name} is sent together with payload, and a commit has one payload",
                field=name,
                value=getattr(body, name),
                remedy=f"leave out {name}, or the payload if it is staged",
            )


def _committed(outcome: CommitOutcome, response: Response) -> CommittedBody:
    """Answer with the version of an outcome that has one, and say whether it is a repeated answer."""
    assert outcome.result is not None
    response.headers[REPLAYED_HEADER] = "true" if outcome.replayed else "false"
    return CommittedBody(version=outcome.result.version, delta_log_path=outcome.result.delta_log_path)


def _header_key(request: Request) -> str | None:
    """Return the key in the header; raises `Refused` (KEYS_DIFFER) if it is sent more than once, differently."""
    sent = request.headers.getlist(HEADER_FIELD)
    if len(set(sent)) > 1:
        raise refused(
            Code.KEYS_DIFFER,
            f"the header {HEADER_FIELD} is sent {len(sent)} times with different keys",
            field=HEADER_FIELD,
            value=[key[:100] for key in sent[:5]],
            remedy="Send one key.",
        )
    return sent[0] if sent else None
