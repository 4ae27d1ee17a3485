"""The HTTP surface over a store in memory, with the real protocol behind it and no Temporal."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from uuid_utils import uuid7

from springline.api.answers import is_callback
from springline.api.app import create_app
from springline.api.ports import Deps
from springline.api.tokens import make_token
from springline.commit.coalescer import CommitCoalescer
from springline.paths import ObjectPath, Scope
from springline.runs.task_tokens import TaskClaims
from springline.storage.memory import MemoryStore
from tests.support.local_api import ACME, SECRET, TASK_TOKENS, local_deps
from tests.support.local_ledger import LocalLedger
from tests.support.local_rebuilds import LocalRebuilds
from tests.support.local_repairs import LocalRepairs
from tests.support.local_runs import LocalRuns
from tests.support.local_sequencer import LocalSequencer

TABLES = "/api/v1/delta/tables"
V1 = "/api/v1"
EVENTS = f"{V1}/ledger/events"


def new_key() -> str:
    return str(uuid7())


def add(path: str, size: int = 10, partition: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "add": {"path": path, "partitionValues": partition or {}, "size": size, "modificationTime": 1_736_935_200_000}
        | {"dataChange": True}
    }


def ndjson(*actions: dict[str, Any]) -> str:
    return "".join(orjson.dumps(action).decode() + "\n" for action in actions)


@dataclass
class World:
    """A store, the application over it, and a client with a good token."""

    store: MemoryStore
    deps: Deps
    client: httpx.AsyncClient
    sequencer: LocalSequencer
    ledger: LocalLedger
    rebuilds: LocalRebuilds
    runs: LocalRuns
    repairs: LocalRepairs
    app: FastAPI

    def token(self, scope: Scope = ACME, **options: Any) -> str:
        return make_token(SECRET, scope, **({"subject": "tester"} | options))

    def bearer(self, scope: Scope = ACME, **options: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(scope, **options)}"}

    def bearer_for(self, path: str) -> dict[str, str]:
        """Return a token that opens a path: workers call back with tokens of attempts."""
        if not is_callback(path):
            return self.bearer()
        now_s = int(time.time())
        claims = TaskClaims(ACME, "ct1_x", "r", 1, "att_x")
        return {"Authorization": f"Bearer {TASK_TOKENS.make(claims, now_s=now_s, expires_s=now_s + 600)}"}

    def snapshot(self) -> dict[ObjectPath, str]:
        return {path: stored.version for path, stored in self.store.objects.items()}

    async def create(self, name: str = "flights", **more: Any) -> str:
        body = {"name": name, "columns": [{"name": "x", "type": "long"}]} | more
        answer = await self.client.post(TABLES, json=body)
        assert answer.status_code == 201, answer.text
        table_id: str = answer.json()["table"]["table_id"]
        return table_id

    async def stage(self, table: str, *actions: dict[str, Any]) -> dict[str, str]:
        answer = await self.client.post(f"{TABLES}/{table}/commits/stage", json={"payload": ndjson(*actions)})
        assert answer.status_code == 200, answer.text
        staged: dict[str, str] = answer.json()
        return staged

    async def append(self, *events: dict[str, Any], request_id: str | None = None, **more: Any) -> httpx.Response:
        """Append payloads, or whole events with `data`."""
        body = {
            "request_id": request_id or new_key(),
            "events": [event if "data" in event else {"data": event} for event in events],
        } | more
        return await self.client.post(EVENTS, json=body)

    async def appended(self, *events: dict[str, Any]) -> dict[str, Any]:
        answer = await self.append(*events)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def commit(self, table: str, staged: dict[str, str], key: str | None = None, **body: Any) -> httpx.Response:
        return await self.client.post(
            f"{TABLES}/{table}/commits",
            json={"read_version": 0, "mode": "append", **staged, "idempotency_key": key or new_key()} | body,
        )


@asynccontextmanager
async def new_world() -> AsyncIterator[World]:
    store = MemoryStore(name="lake")
    sequencer = LocalSequencer(store)
    ledger = LocalLedger(store)
    rebuilds = LocalRebuilds(store)
    runs = LocalRuns(store, ledger)
    repairs = LocalRepairs(store, runs)
    coalescer = CommitCoalescer(sequencer, deadline_s=5.0)
    deps = replace(
        local_deps(store, sequencer, coalescer), ledger=ledger, rebuilds=rebuilds, runs=runs, repairs=repairs
    )
    app = create_app(deps)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        made = World(store, deps, client, sequencer, ledger, rebuilds, runs, repairs, app)
        client.headers.update(made.bearer())
        yield made
    await coalescer.aclose()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with new_world() as made:
        yield made


def assert_refused(
    answer: httpx.Response, status: int, code: str, field: str | None, *, remedy: str = "", value: Any = ...
) -> dict[str, Any]:
    """Check status, code, field, remedy and form of an error answer; return its body."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    assert body["field"] == field, body
    assert body["message"], body
    assert remedy.lower() in (body["remedy"] or "").lower(), body
    assert body["remedy"], body
    if value is not ...:
        assert body["value"] == value, body
    assert body["requestId"] == answer.headers["X-Request-Id"]
    assert set(body) <= {
        "code",
        "message",
        "field",
        "value",
        "remedy",
        "latest_version",
        "commits_since",
        "requestId",
        *(["error"] if is_callback(answer.request.url.path) else []),
    }
    return body


def fresh() -> CollectorRegistry:
    """Return a metrics registry of its own for a further application."""
    return CollectorRegistry()


LISTS = ["runs", "tasks", "partitions", "timers", "schedules", "ticks", "sensors", "evaluations", "backfills"]
ROUTES = [
    ("POST", TABLES),
    ("POST", f"{TABLES}/adopt"),
    ("GET", TABLES),
    ("GET", f"{TABLES}/flights"),
    ("GET", f"{TABLES}/flights/history"),
    ("POST", f"{TABLES}/flights/commits/stage"),
    ("POST", f"{TABLES}/flights/commits"),
    ("POST", f"{TABLES}/flights/commits/claim"),
    ("GET", f"{TABLES}/flights/commits/01946b1c-0000-7000-8000-000000000001"),
    ("POST", EVENTS),
    ("POST", f"{V1}/ledger/ingest"),
    ("GET", f"{V1}/ledger/status"),
    ("GET", f"{V1}/state/digest"),
    *[("GET", f"{V1}/{name}") for name in LISTS],
    *[
        ("GET", f"{V1}/{name}")
        for name in ("runs/x", "runs/x/doing", "runs/x/tasks", "runs/x/attempts", "schedules/x/ticks")
    ],
    *[("GET", f"{V1}/{name}") for name in ("sensors/x/evaluations", "backfills/x")],
    *[("POST", f"{V1}/{name}") for name in ("runs", "runs/x/cancel", "runs/x/rerun")],
    ("POST", f"{V1}/manifests"),
    *[("GET", f"{V1}/{name}") for name in ("manifests/latest", f"manifests/{'0' * 26}", "assets", "assets/x")],
    *[(method, f"{V1}/repair") for method in ("GET", "POST")],
    ("POST", "/internal/timers/fired"),
    ("GET", "/api/v1/nothing"),
]
