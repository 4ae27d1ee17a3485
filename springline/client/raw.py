"""Committing Delta actions unchanged, strictly, exactly once under a key."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import uuid_utils

from springline.client.http import ApiClient
from springline.delta.messages import CommitMode, CommitResult
from springline.delta.payload import read_actions
from springline.errors import Code, refused
from springline.keys import idempotency_key

OPERATION = "commit"
ENGINE_INFO = "Springline-Python"
MANUAL = "Manual Update"
"""Spark's name of the operation for a commit with handmade actions."""


def commit_actions(
    api: ApiClient,
    table: str,
    actions: str | bytes | Iterable[Mapping[str, Any]],
    *,
    read_version: int,
    key: str | None,
) -> CommitResult:
    """Stage and commit `actions` as version `read_version + 1`.

    The key identifies the actions, except `commitInfo`, and `read_version`. Raises `Refused`
    (STALE_READ_VERSION, with what was committed since; KEY_REUSED; INVALID_PAYLOAD; ...).
    """
    if isinstance(read_version, bool) or not isinstance(read_version, int):
        raise refused(
            Code.INVALID_REQUEST,
            "read_version is no whole number",
            field="read_version",
            value=repr(read_version)[:100],
            remedy="Give the version that the actions were computed from.",
        )
    chosen = str(uuid_utils.uuid7()) if key is None else idempotency_key(key)
    info, lines = _split(actions)
    content = orjson.dumps({"read_version": read_version, "actions": lines}, option=orjson.OPT_SORT_KEYS)
    ours = info.get("springline")
    request = {"operation": OPERATION, "fingerprint": hashlib.sha256(content).hexdigest()}
    completed = {"timestamp": int(time.time() * 1000), "operation": MANUAL, "engineInfo": ENGINE_INFO, **info}
    completed |= {"txnId": chosen, "springline": {**(ours if isinstance(ours, dict) else {}), "request": request}}
    payload = b"".join(orjson.dumps(line) + b"\n" for line in [{"commitInfo": completed}, *lines])
    url = f"/api/v1/delta/tables/{table}/commits"
    body = {"payload": payload.decode(), "read_version": read_version, "mode": CommitMode.STRICT.value}
    return CommitResult.model_validate(api.call("POST", url, body=body, headers={"Idempotency-Key": chosen}))


def _split(actions: str | bytes | Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the body of `commitInfo`, if there is one, and the other actions in order."""
    info: dict[str, Any] = {}
    others: list[dict[str, Any]] = []
    for _, line, _ in read_actions(_bytes(actions)):
        if line.kind == "commitInfo":
            if info:
                raise refused(
                    Code.INVALID_PAYLOAD,
                    "actions hold commitInfo twice",
                    field="actions",
                    value="commitInfo",
                    remedy="Leave one of them out.",
                )
            info = line.action
        else:
            others.append({line.kind: line.action})
    if not others:
        raise refused(
            Code.INVALID_PAYLOAD,
            "actions hold nothing to commit",
            field="actions",
            value=0,
            remedy="Give at least one action besides commitInfo.",
        )
    return info, others


def _bytes(actions: str | bytes | Iterable[Mapping[str, Any]]) -> bytes:
    try:
        if isinstance(actions, bytes):
            return actions
        if isinstance(actions, str):
            return actions.encode()
        return b"".join(orjson.dumps(dict(action)) + b"\n" for action in actions)
    except (TypeError, ValueError) as error:
        raise refused(
            Code.INVALID_PAYLOAD,
            f"actions are neither newline-delimited JSON nor dicts of one action each: {error}",
            field="actions",
            value=type(actions).__name__,
            remedy='Give them as [{"add": {...}}, ...], or as text with one JSON object a line.',
        ) from error
