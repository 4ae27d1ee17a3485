"""Every route there is, with every kind of token: who is let in, and that nobody learns what another tenant has."""

from __future__ import annotations

import copy
import re
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx
import jwt
from fastapi import FastAPI
from fastapi.routing import APIRoute

from springline.api.answers import is_callback
from springline.api.tokens import SCOPES
from springline.ledger.identifiers import attempt_id, callback_task_id, dispatch_id
from springline.paths import Scope
from springline.runs.task_tokens import TaskClaims, TaskTokens
from tests.api.conftest import EVENTS, V1, World, add, assert_refused, new_key, new_world
from tests.api.test_auth import GOOD, signed
from tests.support.definitions import asset
from tests.support.document_requests import Operation, example_of, operations_of
from tests.support.local_api import ACME, RIVAL, SECRET, TASK_TOKENS

PUBLIC: Final = frozenset({"/health", "/ready", "/version", "/metrics", "/openapi.json", "/docs", "/docs/{name}"})
WRITE: Final = frozenset(
    {
        f"POST {V1}/backfills",
        *(f"POST {V1}/backfills/{{backfill_id}}/{verb}" for verb in ("pause", "resume", "cancel", "retry-failed")),
        f"POST {V1}/delta/tables",
        f"POST {V1}/delta/tables/adopt",
        *(f"POST {V1}/delta/tables/{{table}}/commits{rest}" for rest in ("", "/stage", "/claim")),
        f"POST {V1}/ledger/events",
        f"POST {V1}/runs",
        *(f"POST {V1}/runs/{{run_id}}/{verb}" for verb in ("rerun", "cancel")),
        f"POST {V1}/schedules/{{schedule_id}}/trigger",
        *(f"POST {V1}/sensors/{{sensor_id}}/{verb}" for verb in ("evaluate", "messages")),
        "POST /internal/timers/fired",
    }
)
OPERATE: Final = frozenset(
    {
        f"GET {V1}/readiness",
        f"POST {V1}/ledger/ingest",
        f"POST {V1}/manifests",
        f"PUT {V1}/hold",
        f"PUT {V1}/pools/{{pool}}",
        f"PUT {V1}/schedules/{{schedule_id}}",
        f"DELETE {V1}/schedules/{{schedule_id}}",
        *(f"POST {V1}/schedules/{{schedule_id}}/{verb}" for verb in ("pause", "resume")),
        *(f"POST {V1}/sensors/{{sensor_id}}/{verb}" for verb in ("pause", "resume", "reset")),
        f"PUT {V1}/sensors/{{sensor_id}}/cursor",
        f"POST {V1}/rebuild",
        "POST /rebuild",
        f"DELETE {V1}/rebuild",
        f"POST {V1}/repair",
    }
)


def needed(method: str, path: str) -> str:
    """Return the scope that a route needs; a new one that changes something has to be put into a list."""
    if f"{method} {path}" in WRITE:
        return "write"
    if f"{method} {path}" in OPERATE:
        return "operate"
    assert method == "GET", f"who may {method} {path}?"
    return "read"


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Return method and path of every route, described in the document or not."""
    return [
        (method, one.path) for one in app.routes if isinstance(one, APIRoute) for method in sorted(one.methods or ())
    ]


def named(path: str, name: str = "x") -> str:
    return re.sub(r"\{\w+\}", name, path).replace("/explain/x/", "/explain/run/")


def of_attempt(**more: Any) -> str:
    now_s = int(time.time())
    claims = TaskClaims(ACME, "x", "r", 1, "att_x")
    return TASK_TOKENS.make(claims, now_s=now_s, expires_s=now_s + 600, **more)


def wrong_tokens() -> list[str | None]:
    now_s = int(time.time())
    claims = TaskClaims(ACME, "x", "r", 1, "att_x")
    every = {"scope": " ".join(SCOPES)}
    return [
        None,
        "junk",
        signed(GOOD | every | {"exp": 1}),
        signed(GOOD | every | {"aud": "elsewhere"}),
        signed(GOOD | every, "another secret that is long enough"),
        signed(GOOD | every, SECRET * 2, algorithm="HS384"),
        jwt.encode(GOOD | every, "", algorithm="none"),
        signed(GOOD | every | {"tenant": "acme/workspace=prod"}),
        TASK_TOKENS.make(claims, now_s=1, expires_s=2),
        TaskTokens("another secret that is long enough").make(claims, now_s=now_s, expires_s=now_s + 600),
    ]


async def test_every_route_lets_in_whom_it_is_for_and_nobody_else(world: World) -> None:
    routes = routes_of(world.app)
    assert {path for _, path in routes} >= PUBLIC
    assert {f"{method} {path}" for method, path in routes} >= WRITE | OPERATE
    del world.client.headers["Authorization"]

    async def ask(method: str, path: str, token: str | None) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await world.client.request(method, named(path), headers=headers, content=b"{}")

    for method, path in routes:
        if path in PUBLIC:
            assert (await ask(method, path, None)).status_code in (200, 404), path
            continue
        # Tokens of users and of attempts do not pass for each other, though one secret has signed both.
        others = world.token() if is_callback(path) else of_attempt()
        for token in (*wrong_tokens(), others):
            answer = await ask(method, path, token)
            assert_refused(answer, 401, "INVALID_TOKEN" if token else "MISSING_TOKEN", answer.json()["field"])
            assert not token or token not in answer.text
        if is_callback(path):
            assert (await ask(method, path, of_attempt())).status_code == 400
            continue
        scope = needed(method, path)
        for granted in ([], [one for one in SCOPES if one != scope]):
            answer = await ask(method, path, world.token(scopes=granted))
            assert_refused(answer, 403, "FORBIDDEN", "scope", remedy=scope)
        assert (await ask(method, path, world.token(scopes=[scope]))).status_code not in (401, 403), path
    assert not world.store.objects


RUN: Final = "run_j6jvo6bdv773wa242jsrxjtwti"
_CHANGING: Final = re.compile(
    r"[0-9A-HJKMNP-TV-Z]{26}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|run_[a-z2-7]{26}|[0-9a-f]{12,64}"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)|\b1[0-9]{9,12}\b"
    r"|\b\d+ m?s\b|\"[a-z_]*seconds\": ?[0-9.]+"
)


@dataclass
class Held:
    """What a tenant has, by the names that others may guess."""

    backfill_id: str
    manifest_id: str
    table_id: str
    staged: dict[str, str]
    cursors: dict[str, str]
    key: str

    def value(self, name: str, path: str) -> str:
        """Return what stands for a name in a path."""
        values = {
            **{"run_id": RUN, "table": self.table_id, "backfill_id": self.backfill_id},
            "key": "zebra" if "/assets/" in path else self.key,
            **{"manifest_id": self.manifest_id, "schedule_id": "zebra-nightly", "sensor_id": "zebra-hook"},
            **{"pool": "zebra-pool", "subject": "run", "identity": RUN, "task_id": callback_task_id(RUN, "raw.a")},
        }
        return values[name]


async def filled(world: World) -> Held:
    """Let ACME have some of everything."""
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(world.app),
        base_url="http://api.test",
        headers=world.bearer(ACME, subject="tester-of-acme"),
    )

    async def done(method: str, path: str, body: Any, **more: Any) -> dict[str, Any]:
        answer = await client.request(method, path, json=body, **more)
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    daily = {"kind": "daily", "start": "2024-01-01"}
    assets = [asset("zebra", partitions=daily, pool="zebra-pool"), asset("zebra-mart")]
    hook = {"sensor_id": "zebra-hook", "kind": "push", "select": ["zebra-mart"]}
    code = {"location": "zebra-code", "assets": assets, "sensors": [hook]}
    manifest = await done("POST", f"{V1}/manifests", code | {"pools": [{"name": "zebra-pool", "slots": 3}]})
    schedule = {"cron": "0 4 * * *", "timezone": "UTC", "select": ["zebra-mart"]}
    await done("PUT", f"{V1}/schedules/zebra-nightly", schedule)
    await done("PUT", f"{V1}/pools/zebra-pool", {"slots": 2})
    await done("POST", f"{V1}/sensors/zebra-hook/messages", {"message_id": "zebra", "payload": {"zebra": 1}})
    wanted = {"select": ["zebra"], "start": "2024-01-01", "end": "2024-01-25", "request_id": "zebra"}
    backfill = await done("POST", f"{V1}/backfills", wanted)
    table = await world.create("zebra")
    staged = await world.stage(table, add("zebra.parquet"))
    key = new_key()
    assert (await world.commit(table, staged, key)).status_code == 200
    document = world.app.openapi()
    run = document["paths"][EVENTS]["post"]["requestBody"]["content"]["application/json"]["examples"]["run"]["value"]
    await done("POST", EVENTS, copy.deepcopy(run))
    await done("POST", f"{V1}/runs", {"select": ["zebra-mart"], "run_key": "zebra"})
    await done("PUT", f"{V1}/hold", {"held": True, "reason": "zebra"})
    cursors = {}
    for name in ("runs", "tasks", "assets", "delta/tables"):
        page = (await client.get(f"{V1}/{name}", params={"limit": 1})).json()
        if page["next_cursor"] is not None:
            cursors[f"{V1}/{name}"] = page["next_cursor"]
    assert cursors
    await client.aclose()
    return Held(backfill["backfill_id"], manifest["manifest_id"], table, staged, cursors, key)


async def asked_everything(world: World, scope: Scope, held: Held) -> list[tuple[str, int, str]]:
    """Send every request there is, with the names of what ACME has; return the answers without what always changes."""
    document = world.app.openapi()
    now_s = int(time.time())
    number = attempt_id(dispatch_id(RUN, "raw.a", 1))
    claims = TaskClaims(scope, callback_task_id(RUN, "raw.a"), RUN, 1, number)
    attempt = TASK_TOKENS.make(claims, now_s=now_s, expires_s=now_s + 600)
    told = []
    for operation in operations_of(document):
        if operation.path in PUBLIC:
            continue
        names = re.findall(r"\{(\w+)\}", operation.path)
        path = operation.path.format_map({name: quote(held.value(name, operation.path), safe="") for name in names})
        body = _body_of(document, operation, held, number)
        headers = {"Authorization": f"Bearer {attempt}"} if is_callback(path) else world.bearer(scope)
        for query in _queries_of(operation, held):
            answer = await world.client.request(operation.method, path, json=body, params=query, headers=headers)
            said = answer.text.replace(scope.tenant, "TENANT")
            if operation.path == "/report":  # A drawing has places that depend on the moment.
                said = f"{'zebra' in said} {'acme' in said}"
            said = _CHANGING.sub("*", said.replace(answer.headers["X-Request-Id"], "*"))
            told.append((f"{operation.method} {path} {query}", answer.status_code, said))
    return told


def _queries_of(operation: Operation, held: Held) -> list[dict[str, Any]]:
    needs = {one["name"]: "raw.a" for one in operation.parameters("query") if one.get("required")}
    cursor = held.cursors.get(operation.path) if operation.method == "GET" else None
    return [needs] if cursor is None else [needs, {**needs, "cursor": cursor}]


def _body_of(document: dict[str, Any], operation: Operation, held: Held, attempt: str) -> Any:
    body = example_of(document, operation)
    if isinstance(body, dict):
        body |= {name: held.staged[name] for name in ("staged_path", "staged_version") if name in body}
        if "attemptId" in body:
            body["attemptId"] = attempt
    return body


async def test_what_a_stranger_is_told_is_the_same_whatever_another_tenant_has(world: World) -> None:
    """Asked by name for all of it: no answer is of it or depends on it, nor a page by a cursor of another's."""
    held = await filled(world)
    before = world.snapshot()
    beside = await asked_everything(world, RIVAL, held)
    assert {path: version for path, version in world.snapshot().items() if path in before} == before
    async with new_world() as empty:
        alone = await asked_everything(empty, RIVAL, held)
    for one, other in zip(beside, alone, strict=True):
        assert one == other
    statuses = {status for _, status, _ in alone}
    assert {200, 201, 404} <= statuses and not statuses & {401, 403, 500}
