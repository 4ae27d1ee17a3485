"""Requests and foreign events for tests of the ledger's ways in: runs of two tasks."""

from __future__ import annotations

from typing import Any

import uuid_utils

from springline.ledger.envelope import compose_event, payload_from
from springline.ledger.request import AppendMode, AppendRequest, NewEvent
from springline.paths import ObjectPath, Scope, canonical_ulid_event
from springline.storage.port import IfAbsent, ObjectStore, Stored
from springline.storage.scoped import ScopedStore
from tests.support.sequencer_world import NOW_MS, planned, started, triggered

__all__ = ["each_request", "planned", "put_foreign", "request", "run_request", "started", "triggered"]


def request(
    *payloads: dict[str, Any], request_id: str | None = None, mode: AppendMode = AppendMode.ALL
) -> AppendRequest:
    """Return a request to append these payloads, under a fresh id unless one is given."""
    chosen = str(uuid_utils.uuid7()) if request_id is None else request_id
    return AppendRequest(request_id=chosen, events=[NewEvent(data=data) for data in payloads], mode=mode)


def each_request(*payloads: dict[str, Any], request_id: str | None = None) -> AppendRequest:
    """Return a request whose payloads are taken each by itself."""
    return request(*payloads, request_id=request_id, mode=AppendMode.EACH)


def run_request(run_id: str, *, request_id: str | None = None) -> AppendRequest:
    """Return a request that starts and plans a run: two events."""
    return request(triggered(run_id), planned(run_id, "a", "b"), request_id=request_id)


async def put_foreign(
    store: ObjectStore, scope: Scope, event_id: str, data: dict[str, Any], *, body: bytes | None = None
) -> ObjectPath:
    """Write an event as another implementation does and return its path; `body` replaces what stands there."""
    path = canonical_ulid_event(event_id)
    event = compose_event(
        payload_from(data),
        event_id=event_id,
        timestamp_ms=NOW_MS,
        tenant=scope.tenant,
        workspace=scope.workspace,
    )
    stored = await ScopedStore(store, scope).put(path, event if body is None else body, IfAbsent())
    assert isinstance(stored, Stored)
    return path
