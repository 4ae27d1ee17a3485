"""The envelope in which an attempt is posted to its worker (docs/protocol.md#envelope)."""

from __future__ import annotations

from typing import Any

from springline.control.runs.messages import AttemptOrder
from springline.control.runs.remote import DEFAULT_HTTP_HEARTBEAT_MS
from springline.ledger.identifiers import callback_task_id, dispatch_id
from springline.ledger.timestamps import format_ms


def envelope_of(order: AttemptOrder, callback_url: str, token: str, expires_ms: int) -> dict[str, Any]:
    """Return the envelope of an attempt.

    Args:
        order: the attempt.
        callback_url: where the worker reaches the API.
        token: what the worker calls back with, for this attempt alone.
        expires_ms: until when the token is valid.
    """
    heartbeat_ms = order.heartbeat_ms or DEFAULT_HTTP_HEARTBEAT_MS
    payload = {
        "assetKey": order.asset_key,
        "codeVersion": order.code_version,
        "manifestId": order.manifest_id,
        "scope": order.scope,
        "timeoutMs": order.timeout_ms,
        "config": order.config,
    }
    envelope = {
        "tenantId": order.tenant,
        "workspaceId": order.workspace,
        "taskId": callback_task_id(order.run_id, order.task_key),
        "taskKey": order.task_key,
        "runId": order.run_id,
        "attempt": order.attempt,
        "attemptId": order.attempt_id,
        "dispatchId": dispatch_id(order.run_id, order.task_key, order.attempt),
        "executionLocationId": order.location,
        "partitionKey": order.partition_key,
        "heartbeatTimeoutSec": -(-heartbeat_ms // 1_000),
        "workerQueue": order.location,
        "callbackBaseUrl": callback_url.rstrip("/"),
        "taskToken": token,
        "tokenExpiresAt": format_ms(expires_ms),
        "payload": {name: value for name, value in payload.items() if value is not None},
    }
    return {name: value for name, value in envelope.items() if value is not None}
