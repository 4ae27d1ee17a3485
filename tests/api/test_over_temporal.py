"""The whole way in, on real processes: API, Temporal development server, worker; with kills and absences."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from uuid_utils import uuid7

from springline.api.service import SHARED_S
from springline.local.stack import API, TEMPORAL, EmbeddedStack
from springline.paths import Scope
from tests.api.conftest import TABLES, add, ndjson, new_key
from tests.support.forked_stack import ForkedStack

DEADLINE_S = 6.0
COLUMNS = [{"name": "x", "type": "long"}]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    environment = {"SPRINGLINE_COMMIT_DEADLINE": str(DEADLINE_S)}
    root: Path = tmp_path_factory.mktemp("stack")
    with ForkedStack(root, scope=Scope("acme", "dev"), workers=1, environment=environment) as running:
        yield running


@pytest.fixture
async def client(stack: EmbeddedStack) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {stack.token()}"}
    limits = httpx.Limits(max_connections=300)
    async with httpx.AsyncClient(base_url=stack.api_url, headers=headers, timeout=240, limits=limits) as made:
        yield made


async def create(client: httpx.AsyncClient) -> str:
    name = f"t{uuid7()}".replace("-", "")
    answer = await client.post(TABLES, json={"name": name, "columns": COLUMNS})
    assert answer.status_code == 201, answer.text
    table_id: str = answer.json()["table"]["table_id"]
    return table_id


async def staged(client: httpx.AsyncClient, table: str) -> dict[str, Any]:
    payload = ndjson(add(f"{new_key()}.parquet"))
    answer = await client.post(f"{TABLES}/{table}/commits/stage", json={"payload": payload})
    assert answer.status_code == 200, answer.text
    return {"read_version": 0, "mode": "append", "idempotency_key": new_key(), **answer.json()}


async def commit(client: httpx.AsyncClient, table: str, body: dict[str, Any]) -> httpx.Response:
    return await client.post(f"{TABLES}/{table}/commits", json=body)


async def commit_until_told(client: httpx.AsyncClient, table: str, body: dict[str, Any]) -> dict[str, Any]:
    """Do as the remedy says: after 503 send the same request again under the same key."""
    for _ in range(20):
        answer = await commit(client, table, body)
        if answer.status_code != 503:
            assert answer.status_code == 200, answer.text
            result: dict[str, Any] = answer.json()
            return result
        assert answer.json()["code"] == "UNAVAILABLE"
        assert int(answer.headers["Retry-After"]) > 0
        await asyncio.sleep(0.2)
    raise AssertionError("never committed")


async def versions_in_log(client: httpx.AsyncClient, stack: EmbeddedStack, table: str) -> list[int]:
    status = (await client.get(f"{TABLES}/{table}")).json()
    folder = Path(status["location"].removeprefix("file://")) / "_delta_log"
    return sorted(int(path.stem) for path in folder.glob("*.json"))


async def test_200_concurrent_callers_on_one_table_all_succeed(client: httpx.AsyncClient, stack: EmbeddedStack) -> None:
    table = await create(client)
    bodies = [await staged(client, table) for _ in range(200)]
    answers = await asyncio.gather(*(commit(client, table, body) for body in bodies))
    assert [answer.status_code for answer in answers] == [200] * 200
    versions = {answer.json()["version"] for answer in answers}
    assert sorted(versions) == list(range(1, len(versions) + 1)), "versions are contiguous"
    assert len(versions) < 200, "appends that wait together become one version"
    assert await versions_in_log(client, stack, table) == list(range(len(versions) + 1))
    again = await asyncio.gather(*(commit(client, table, body) for body in bodies))
    assert [answer.json() for answer in again] == [answer.json() for answer in answers]


async def test_refusals_come_back_through_the_workflows(client: httpx.AsyncClient) -> None:
    name = f"t{uuid7()}".replace("-", "")
    body = {"name": name, "columns": COLUMNS, "location": f"warehouse/{name}"}
    assert (await client.post(TABLES, json=body)).status_code == 201
    assert (await client.post(TABLES, json=body)).status_code == 200
    other = await client.post(TABLES, json={"name": f"{name}x", "columns": COLUMNS, "location": f"warehouse/{name}"})
    assert (other.status_code, other.json()["code"], other.json()["field"]) == (409, "ROOT_TAKEN", "location")
    taken = await client.post(TABLES, json={"name": name, "columns": COLUMNS})
    assert (taken.status_code, taken.json()["code"], taken.json()["field"]) == (409, "NAME_TAKEN", "name")
    adopt = await client.post(f"{TABLES}/adopt", json={"name": f"{name}y", "location": "nothing/here"})
    assert (adopt.status_code, adopt.json()["code"]) == (400, "NOT_A_DELTA_TABLE")

    good = await staged(client, name)
    stale = await commit(client, name, good | {"mode": "strict", "read_version": 9})
    assert (stale.status_code, stale.json()["code"]) == (409, "FUTURE_READ_VERSION")
    assert stale.json()["latest_version"] == 0
    first = await commit(client, name, good)
    assert first.status_code == 200
    reused = await commit(client, name, (await staged(client, name)) | {"idempotency_key": good["idempotency_key"]})
    assert (reused.status_code, reused.json()["code"]) == (409, "KEY_REUSED")


async def test_the_same_creation_many_times_at_once(client: httpx.AsyncClient) -> None:
    name = f"t{uuid7()}".replace("-", "")
    body = {"name": name, "columns": COLUMNS}
    answers = await asyncio.gather(*(client.post(TABLES, json=body) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["table"]["table_id"] for answer in answers}) == 1


async def test_different_creations_of_one_name_at_once(client: httpx.AsyncClient) -> None:
    name = f"t{uuid7()}".replace("-", "")
    bodies = [{"name": name, "columns": [{"name": f"x{number}", "type": "long"}]} for number in range(5)]
    answers = await asyncio.gather(*(client.post(TABLES, json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"NAME_TAKEN"}


async def test_without_a_worker_callers_are_told_to_repeat_and_nothing_is_doubled(
    client: httpx.AsyncClient, stack: EmbeddedStack
) -> None:
    table = await create(client)
    (worker,) = stack.worker_names
    bodies = [await staged(client, table) for _ in range(5)]
    await asyncio.to_thread(stack.child(worker).stop, 10)
    try:
        began = time.monotonic()
        answers = await asyncio.gather(*(commit(client, table, body) for body in bodies))
        assert [answer.status_code for answer in answers] == [503] * 5
        assert DEADLINE_S - 1 < time.monotonic() - began < DEADLINE_S + 30
        for answer, body in zip(answers, bodies, strict=True):
            assert answer.json()["value"] == body["idempotency_key"]
            assert "same key" in answer.json()["remedy"]
    finally:
        await asyncio.to_thread(stack.start_child, worker)
    results = await asyncio.gather(*(commit_until_told(client, table, body) for body in bodies))
    versions = {result["version"] for result in results}
    assert await versions_in_log(client, stack, table) == list(range(max(versions) + 1))


async def test_a_killed_worker_and_a_killed_server_cost_time_and_nothing_else(
    client: httpx.AsyncClient, stack: EmbeddedStack
) -> None:
    table = await create(client)
    (worker,) = stack.worker_names
    results: list[dict[str, Any]] = []
    stop = asyncio.Event()

    async def writer() -> None:
        while not stop.is_set():
            body = await staged(client, table)
            results.append({"key": body["idempotency_key"], **await commit_until_told(client, table, body)})

    writers = [asyncio.create_task(writer()) for _ in range(4)]
    for victim in (worker, TEMPORAL, worker):
        await asyncio.sleep(1.0)
        await asyncio.to_thread(stack.kill, victim)
        await asyncio.to_thread(stack.start_child, victim)
    await asyncio.sleep(1.0)
    stop.set()
    await asyncio.gather(*writers)
    for result in results:
        fate = (await client.get(f"{TABLES}/{table}/commits/{result['key']}")).json()
        assert (fate["fate"], fate["version"]) == ("committed", result["version"])
    log = await versions_in_log(client, stack, table)
    assert log == list(range(len(log)))
    assert {result["version"] for result in results} == set(log) - {0}


async def test_sigterm_lets_a_waiting_commit_finish(client: httpx.AsyncClient, stack: EmbeddedStack) -> None:
    table = await create(client)
    bodies = [await staged(client, table) for _ in range(20)]
    api = stack.child(API)
    waiting = [asyncio.create_task(commit(client, table, body)) for body in bodies]
    await asyncio.sleep(0.03)
    try:
        await asyncio.to_thread(api.stop, 15)
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert api.exit_code == 0
        told = [answer for answer in answers if isinstance(answer, httpx.Response)]
        assert told, "requests under way were cut off"
        assert {answer.status_code for answer in told} == {200}
    finally:
        await asyncio.to_thread(stack.start_child, API)


async def test_ready_says_what_is_missing(client: httpx.AsyncClient, stack: EmbeddedStack) -> None:
    await asyncio.to_thread(stack.kill, TEMPORAL)
    try:
        await asyncio.sleep(2 * SHARED_S)
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()) == (503, {"ready": False})
        told = await client.get("/api/v1/readiness")
        assert told.json()["checks"]["store"] == "ok"
        assert told.json()["checks"]["temporal"] != "ok"
        assert (await client.get("/health")).status_code == 200
    finally:
        await asyncio.to_thread(stack.start_child, TEMPORAL)
    for _ in range(50):
        answer = await client.get("/ready")
        if answer.status_code == 200:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"not ready again: {answer.text}")
