"""Around the routes: ids of requests, faults of ours, probes, metrics, the OpenAPI document."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from dataclasses import replace
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute

from springline import names
from springline.api.app import create_app
from springline.api.metrics import CoalescerCollector
from springline.api.urls import query_parameters, read_url
from springline.commit.coalescer import CommitCoalescer
from springline.delta.messages import CommitOutcome, CommitRequest
from springline.delta.table_request import AdoptTable, CreateTable, TableEntry
from springline.errors import Code, Refusal
from springline.paths import ObjectPath, Scope
from springline.storage.memory import MemoryStore
from springline.storage.port import (
    Precondition,
    PutResult,
    StoredObject,
    StoreMisconfigured,
    StoreRetry,
    StoreUnknown,
)
from tests.api.conftest import ROUTES, TABLES, World, add, assert_refused, fresh, ndjson, new_key


async def test_request_ids_are_echoed_or_made(world: World) -> None:
    answer = await world.client.get("/health", headers={"X-Request-Id": "abc-1.2:3"})
    assert answer.headers["X-Request-Id"] == "abc-1.2:3"
    for bad in ("", "a b", "x" * 129, "a\u00e9".encode("latin-1").decode("latin-1")):
        made = (await world.client.get("/health", headers={b"X-Request-Id": bad.encode("latin-1")})).headers[
            "X-Request-Id"
        ]
        assert made != bad
        assert len(made) == 26
    answer = await world.client.get(f"{TABLES}/nope", headers={"X-Request-Id": "mine"})
    assert answer.json()["requestId"] == "mine"


async def test_unknown_routes_and_methods(world: World) -> None:
    assert_refused(await world.client.get("/nowhere"), 404, "ROUTE_NOT_FOUND", "path", value="/nowhere")
    assert_refused(await world.client.get("/api/v1/nowhere"), 404, "ROUTE_NOT_FOUND", "path")
    assert_refused(await world.client.get(f"{TABLES}/"), 404, "ROUTE_NOT_FOUND", "path")
    answer = await world.client.delete(f"{TABLES}/flights")
    assert_refused(answer, 405, "METHOD_NOT_ALLOWED", "method", remedy="GET", value="DELETE")
    assert answer.headers["Allow"] == "GET"
    assert (await world.client.put(TABLES)).headers["Allow"] == "GET, POST"


class Broken(MemoryStore):
    """A store whose reads fail with `fault`."""

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.fault = fault

    async def get(self, path: ObjectPath) -> StoredObject | None:
        raise self.fault


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (StoreRetry("throttled at secret-host"), 503, "UNAVAILABLE"),
        (StoreUnknown("timed out at secret-host"), 503, "UNAVAILABLE"),
        (StoreMisconfigured("no permission at secret-host"), 500, "STORE_MISCONFIGURED"),
        (RuntimeError("bug at secret-host"), 500, "INTERNAL"),
    ],
)
async def test_faults_of_ours_say_nothing_of_the_inside(
    world: World, fault: Exception, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(replace(world.deps, store=Broken(fault), metrics=fresh()))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=world.bearer()) as client:
        with caplog.at_level(logging.ERROR, "springline.api"):
            answer = await client.get(f"{TABLES}/flights", headers={"X-Request-Id": "find-me"})
        if code == "STORE_MISCONFIGURED":
            body = assert_refused(answer, status, code, "store", remedy="operator")
            assert "again" not in body["remedy"]
        else:
            assert_refused(answer, status, code, None, remedy="again")
        assert "secret-host" not in answer.text
        assert "Traceback" not in answer.text
        if status == 503:
            assert int(answer.headers["Retry-After"]) > 0
        else:
            assert "find-me" in caplog.text
            assert "secret-host" in caplog.text


class Unclear(MemoryStore):
    """A store whose first puts happen and are reported as unknown or refused as throttled."""

    def __init__(self, faults: list[Exception]) -> None:
        super().__init__()
        self.faults = faults

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        if not self.faults or not path.endswith(".json") or "/staging/" not in path:
            return await super().put(path, data, precondition)
        fault = self.faults.pop(0)
        if isinstance(fault, StoreUnknown):
            await super().put(path, data, precondition)
        raise fault


@pytest.mark.parametrize(
    "faults", [[StoreUnknown("lost")], [StoreRetry("busy")] * 2, [StoreRetry("busy"), StoreUnknown("lost")]]
)
async def test_staging_survives_lost_answers_and_throttling(faults: list[Exception]) -> None:
    from springline.commit.staging import stage

    store = Unclear(list(faults))
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    data = ndjson(add("a")).encode()
    table = "01946b1c-0000-7000-8000-0000000000aa"
    staged = await stage(store, table, "one", data, pause=pause)
    assert store.objects[staged.path].data == data
    assert store.objects[staged.path].version == staged.version
    again = await stage(store, table, "one", data, pause=pause)
    assert again == staged


class Refusing:
    """A commit port that answers with what it is told."""

    def __init__(self, outcome: Refusal) -> None:
        self.outcome = outcome

    async def commit(self, scope: Scope, table_id: str, request: CommitRequest) -> CommitOutcome:
        return CommitOutcome(idempotency_key=request.idempotency_key, refusal=self.outcome)


async def test_no_answer_in_time_is_503_with_the_remedy_to_repeat(world: World) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    refusal = Refusal(code=Code.UNAVAILABLE, message="not known yet", field="idempotency_key", remedy="same key")
    app = create_app(replace(world.deps, commits=Refusing(refusal), metrics=fresh()))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=world.bearer()) as client:
        answer = await client.post(
            f"{TABLES}/{table}/commits", json={"read_version": 0, **staged, "idempotency_key": new_key()}
        )
        assert_refused(answer, 503, "UNAVAILABLE", "idempotency_key", remedy="same key")
        assert int(answer.headers["Retry-After"]) > 0


async def test_health_ready_version_need_no_token(world: World) -> None:
    async def good() -> None:
        return None

    async def bad() -> None:
        raise ConnectionError("no route to temporal")

    async def slow() -> None:
        await asyncio.Event().wait()

    for probes, status in (({"store": good}, 200), ({"store": good, "temporal": bad}, 503)):
        app = create_app(replace(world.deps, probes=probes, metrics=fresh()))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as client:
            assert (await client.get("/health")).json() == {"status": "ok"}
            assert (await client.get("/version")).json()["name"] == "springline"
            answer = await client.get("/ready")
            assert (answer.status_code, answer.json()) == (status, {"ready": status == 200})
            assert (await client.get("/api/v1/readiness")).status_code == 401
            for scopes in (["read"], ["write"]):
                denied = await client.get("/api/v1/readiness", headers=world.bearer(scopes=scopes))
                assert_refused(denied, 403, "FORBIDDEN", "scope")
            told = await client.get("/api/v1/readiness", headers=world.bearer(scopes=["operate"]))
            assert (told.status_code, told.json()["ready"]) == (200, status == 200)
            assert told.json()["checks"]["store"] == "ok"
            if status == 503:
                assert "no route to temporal" in told.json()["checks"]["temporal"]


async def test_a_probe_that_hangs_is_not_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("springline.api.service.PROBE_TIMEOUT_S", 0.01)
    app = create_app(replace(world.deps, probes={"store": slow}, metrics=fresh()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as client:
        assert (await client.get("/ready")).status_code == 503
        told = await client.get("/api/v1/readiness", headers=world.bearer())
        assert "no answer" in told.json()["checks"]["store"]


async def test_many_who_ask_whether_it_is_ready_cost_one_look(world: World) -> None:
    looks = 0

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.01)

    app = create_app(replace(world.deps, probes={"store": counted}, metrics=fresh()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as client:
        answers = await asyncio.gather(*(client.get("/ready") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert looks == 1


async def test_the_docs_come_from_here_and_lead_nowhere_else(world: World) -> None:
    page = await world.client.get("/docs")
    assert "text/html" in page.headers["Content-Type"]
    assert "'self'" in page.headers["Content-Security-Policy"]
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert "//" not in "".join(named)
    for name in named:
        if not name.startswith("data:"):
            answer = await world.client.get(f"/{name}")
            assert answer.status_code == 200
            assert len(answer.content) > 100
    assert "//" not in (await world.client.get("/docs/start.js")).text.partition("\n")[2]
    assert (await world.client.get("/openapi.json")).json()["openapi"].startswith("3.1")
    for path in ("/docs/README.md", "/docs/..%2Fdocs.py", "/docs/nope.js", "/redoc"):
        assert_refused(await world.client.get(path), 404, "ROUTE_NOT_FOUND", "path")


def test_the_files_of_the_docs_are_those_of_the_package_they_are_said_to_be_of() -> None:
    assets = files("springline.api").joinpath("assets")
    told = dict(re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", assets.joinpath("README.md").read_text()))
    assert {"swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE"} < set(told)
    for name, digest in told.items():
        assert hashlib.sha256(assets.joinpath(name).read_bytes()).hexdigest() == digest
    there = {one.name for one in assets.iterdir()}
    assert there == {*told, "README.md", "start.js"}


async def test_query_parameters_are_known_and_hold_or_are_refused(world: World) -> None:
    """By one mechanism, on every route there is."""
    document = (await world.client.get("/openapi.json")).json()
    paths = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    for method, template in [*paths, ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/docs/start.js")]:
        path = re.sub(r"\{\w+\}", "x", template)
        answer = await world.client.request(method, f"{path}?no_such=1", json={}, headers=world.bearer_for(path))
        assert_refused(answer, 400, "INVALID_REQUEST", "no_such", remedy="takes")
        parameters = document["paths"].get(template, {}).get(method.lower(), {}).get("parameters", ())
        for one in parameters:
            if one["in"] == "query" and one["schema"].get("type") != "array":
                twice = f"{one['name']}=1&{one['name']}=1"
                answer = await world.client.request(method, f"{path}?{twice}", json={})
                assert_refused(answer, 400, "INVALID_REQUEST", one["name"], remedy="once", value=["1", "1"])


async def test_every_route_checks_its_url_by_what_the_document_says(world: World) -> None:
    routes = [route for route in world.app.routes if isinstance(route, APIRoute)]
    assert [one for one in routes if read_url not in {of.call for of in one.dependant.dependencies}] == []
    described = {
        (path, method.upper()): {
            one["name"]: one["schema"].get("type") == "array"
            for one in operation.get("parameters", ())
            if one["in"] == "query"
        }
        for path, operations in world.app.openapi()["paths"].items()
        for method, operation in operations.items()
    }
    assert query_parameters(world.app.routes) == described
    assert any(any(of.values()) for of in described.values())


async def test_whatever_an_id_holds_a_url_can_name_it(world: World) -> None:
    ids = ("a/b", "a%2Fb", "a%b", "a b", "\u00e9/\u00fc", "a?b", "a#b", "..x", "a/../b", "/", "%", "+", ".a")
    for run_id in ids:
        await world.appended(
            {
                "type": "run_triggered",
                "run_id": run_id,
                "plan_id": f"plan:{run_id}",
                "trigger": {"type": "manual", "user_id": "ada"},
                "root_assets": ["a"],
            }
        )
    for run_id in ids:
        answer = await world.client.get(f"/api/v1/runs/{quote(run_id, safe='')}")
        assert answer.status_code == 200, (run_id, answer.text)
        assert answer.json()["run"]["run_id"] == run_id
        tasks = await world.client.get(f"/api/v1/runs/{quote(run_id, safe='')}/tasks")
        assert tasks.status_code == 200, (run_id, tasks.text)


@pytest.mark.parametrize("bad", [".", "..", "a\nb", "\x1b[31m", "\x7f", "a\rb"])
async def test_an_id_that_no_url_can_name_is_refused_at_entry(world: World, bad: str) -> None:
    events: dict[str, dict[str, Any]] = {
        "run_id": {
            "type": "run_triggered",
            "run_id": bad,
            "plan_id": "plan:x",
            "trigger": {"type": "manual", "user_id": "ada"},
            "root_assets": ["a"],
        },
        "schedule_id": {
            "type": "schedule_definition_upserted",
            "schedule_id": bad,
            "cron_expression": "0 4 * * *",
            "timezone": "UTC",
            "catchup_window_minutes": 60,
            "asset_selection": ["a"],
            "max_catchup_ticks": 1,
            "enabled": True,
        },
        "backfill_id": {
            "type": "backfill_created",
            "backfill_id": bad,
            "client_request_id": "one",
            "asset_selection": ["a"],
            "partition_selector": {"type": "explicit", "partition_keys": ["2025-01-01"]},
            "total_partitions": 1,
            "chunk_size": 1,
            "max_concurrent_runs": 1,
        },
    }
    for field, event in events.items():
        body = assert_refused(await world.append(event), 400, "INVALID_REQUEST", f"events[0].data.{field}")
        assert "addressed" in body["message"], body


async def test_metrics_count_by_route_and_status(world: World) -> None:
    assert isinstance(world.deps.commits, CommitCoalescer)
    world.deps.metrics.register(CoalescerCollector(world.deps.commits.counts))
    table = await world.create()
    await world.commit(table, await world.stage(table, add("a.parquet")))
    await world.client.get(f"{TABLES}/nope")
    await world.client.get("/anything/at/all")
    text = (await world.client.get("/metrics")).text
    route = f"{TABLES}/{{table}}"
    assert f'{names.METRIC_HTTP_REQUESTS}_total{{method="POST",route="{route}/commits",status="200"}} 1.0' in text
    assert f'{names.METRIC_HTTP_REQUESTS}_total{{method="GET",route="{route}",status="404"}} 1.0' in text
    assert 'route="unmatched",status="404"' in text
    assert "/anything" not in text
    assert f"{names.METRIC_COALESCED_REQUESTS}_total 1.0" in text


async def test_the_openapi_document_tells_everything(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    for method, path in ROUTES[:-1]:
        matching = {
            template: found
            for (verb, template), found in operations.items()
            if verb == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        }
        operation = matching[path] if path in matching else matching.popitem()[1]
        assert operation["summary"]
        assert operation["description"]
        assert operation["security"], "the token is part of the description"
        assert "422" not in operation["responses"]
        for status in ("401", "403", "500"):
            schema = operation["responses"][status]["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith("/ErrorBody")
    for name in ("StageBody", "CommitBody", "ErrorBody", "CommittedBody"):
        assert document["components"]["schemas"][name]["examples"]
    for path in (TABLES, f"{TABLES}/adopt"):
        examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for example in examples.values():
            answer = await world.client.post(path, json=example["value"])
            assert answer.status_code in (200, 201) or answer.json()["code"] == "NOT_A_DELTA_TABLE", answer.text
    assert "HTTPValidationError" not in document["components"]["schemas"]


class Unused:
    """Tables that must not be asked."""

    async def create(self, scope: Scope, spec: CreateTable) -> TableEntry:
        raise AssertionError("a creation that is plainly wrong reached the workflow")

    async def adopt(self, scope: Scope, spec: AdoptTable) -> TableEntry:
        raise AssertionError("an adoption that is plainly wrong reached the workflow")


async def test_what_is_plainly_wrong_is_refused_without_a_workflow(world: World) -> None:
    app = create_app(replace(world.deps, tables=Unused(), metrics=fresh()))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=world.bearer()) as client:
        for body in ({"name": "a b", "location": "x"}, {"name": "ok", "location": "../x"}):
            assert (await client.post(f"{TABLES}/adopt", json=body)).status_code == 400
            columns = [{"name": "x", "type": "long"}]
            assert (await client.post(TABLES, json=body | {"columns": columns})).status_code == 400
