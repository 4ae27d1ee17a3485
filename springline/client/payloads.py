"""The payloads that this client commits: a `commitInfo`, then the actions, one a line."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from springline.client.engine import ENGINE_INFO


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a request, apart from the files that it wrote: its operation, and a fingerprint of its input."""

    operation: str
    fingerprint: str

    @property
    def text(self) -> str:
        """Return the form in which the server reports the identity of a committed key."""
        return f"{self.operation}:{self.fingerprint}"


def commit_info(
    key: str,
    parameters: Mapping[str, str],
    identity: Identity | None,
    *,
    metrics: Mapping[str, int] | None = None,
    blind: bool = False,
    operation: str = "WRITE",
    task: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a `commitInfo` action of now. It has the key as `txnId`, so that a lost coordinator can be rebuilt.

    `task`: the task of a run that has written it.
    """
    info: dict[str, Any] = {
        "timestamp": time.time_ns() // 1_000_000,
        "operation": operation,
        "operationParameters": dict(parameters),
        "isBlindAppend": blind,
        "engineInfo": ENGINE_INFO,
        "txnId": key,
    }
    if metrics is not None:
        info["operationMetrics"] = {name: str(value) for name, value in metrics.items()}
    ours: dict[str, Any] = {}
    if identity is not None:
        ours["request"] = {"operation": identity.operation, "fingerprint": identity.fingerprint}
    if task is not None:
        ours["task"] = dict(task)
    if ours:
        info["springline"] = ours
    return {"commitInfo": info}


def payload_of(actions: Sequence[Mapping[str, Any]]) -> bytes:
    """Return actions as the lines of a payload."""
    return b"".join(orjson.dumps(action) + b"\n" for action in actions)


def append_payload(
    adds: Sequence[Mapping[str, Any]],
    key: str,
    partition_by: Sequence[str],
    identity: Identity | None = None,
    metrics: Mapping[str, int] | None = None,
    task: Mapping[str, str] | None = None,
) -> bytes:
    """Return the payload of a blind append of these files."""
    parameters = {"mode": "Append", "partitionBy": orjson.dumps(list(partition_by)).decode()}
    info = commit_info(key, parameters, identity, metrics=metrics, blind=True, task=task)
    return payload_of([info, *({"add": add} for add in adds)])
