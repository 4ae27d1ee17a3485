"""Around the routes: ids of requests, faults of ours, probes, metrics, the OpenAPI document."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import replace

import httpx
import pytest

from springline import names
from springline.api.app import create_app
from springline.api.metrics import CoalescerCollector
from springline.commit.coalescer import Coalescer
from springline.delta.registry import TableEntry
from springline.delta.request import CommitRequest, Outcome
from springline.delta.table_request import AdoptTable, CreateTable
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
        (StoreMisconfigured("no permission at secret-host"), 500, "INTERNAL"),
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
    from springline.commit.stage import stage

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

    async def commit(self, scope: Scope, table_id: str, request: CommitRequest) -> Outcome:
        return Outcome(idempotency_key=request.idempotency_key, refusal=self.outcome)


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
            assert answer.status_code == status
            checks = answer.json()["checks"]
            assert checks["store"] == "ok"
            if status == 503:
                assert answer.json()["ready"] is False
                assert "no route to temporal" in checks["temporal"]


async def test_a_probe_that_hangs_is_not_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("springline.api.service.PROBE_TIMEOUT_S", 0.01)
    app = create_app(replace(world.deps, probes={"store": slow}, metrics=fresh()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as client:
        answer = await client.get("/ready")
        assert answer.status_code == 503
        assert "no answer" in answer.json()["checks"]["store"]


async def test_metrics_count_by_route_and_status(world: World) -> None:
    assert isinstance(world.deps.commits, Coalescer)
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
        (operation,) = (
            found
            for (verb, template), found in operations.items()
            if verb == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        )
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
