"""Claiming a version for a key: the log file says whose it is, and the answer is the same for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from springline import paths
from springline.paths import ObjectPath
from springline.storage.port import IfAbsent
from tests.api.conftest import TABLES, World, add, assert_refused, ndjson, new_key
from tests.support.local_api import ACME

PRINT = "5e" * 32
KEY = "01946b1c-0000-7000-8000-000000000001"


def log_of(key: str = KEY, *, app: str | None = None, print_: str = PRINT, operation: str = "delete") -> str:
    request = {"operation": operation, "fingerprint": print_}
    info = {"timestamp": 1_736_935_200_000, "operation": "DELETE", "txnId": key, "springline": {"request": request}}
    return ndjson({"commitInfo": info}, {"txn": {"appId": app or f"springline:{key}", "version": 1}})


async def put(world: World, table: str, version: int, log: str) -> None:
    """Commit a version as another writer does."""
    await world.store.put(ACME.full(await path_of(world, table, version)), log.encode(), IfAbsent())


async def path_of(world: World, table: str, version: int) -> ObjectPath:
    root = (await world.client.get(f"{TABLES}/{table}")).json()["table"]["root"]
    return paths.delta_log(root, version)


async def claimed(world: World, table: str, version: int, key: str = KEY, **more: Any) -> httpx.Response:
    body = {"version": version, "operation": "delete", "fingerprint": PRINT, "idempotency_key": key} | more
    return await world.client.post(f"{TABLES}/{table}/commits/claim", json=body)


async def test_a_claimed_version_is_the_answer_to_its_key(world: World) -> None:
    table = await world.create()
    await put(world, table, 1, log_of())
    answers = await asyncio.gather(*(claimed(world, table, 1) for _ in range(5)))
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].json() == {"version": 1, "delta_log_path": await path_of(world, table, 1)}
    assert sorted(answer.headers["Idempotency-Replayed"] for answer in answers) == ["false"] + ["true"] * 4
    view = (await world.client.get(f"{TABLES}/{table}/commits/{KEY}")).json()
    assert (view["fate"], view["version"], view["fingerprint"]) == ("committed", 1, f"delete:{PRINT}")
    # The sequencer goes on behind it, and does not take the key again.
    staged = await world.stage(table, add("a.parquet"))
    assert_refused(await world.commit(table, staged, KEY), 409, "KEY_REUSED", "idempotency_key")
    assert (await world.commit(table, staged)).json()["version"] == 2
    # The marker answers when the log file is long gone.
    world.store.remove(ACME.full(await path_of(world, table, 1)))
    assert (await claimed(world, table, 1)).json() == answers[0].json()


@pytest.mark.parametrize(
    ("log", "code", "status"),
    [
        (log_of(new_key()), "INVALID_REQUEST", 400),
        (log_of(app="springline:other"), "INVALID_REQUEST", 400),
        (log_of().splitlines()[0] + "\n", "INVALID_REQUEST", 400),
        ("not JSON\n", "INVALID_REQUEST", 400),
        (log_of(print_="00" * 32), "KEY_REUSED", 409),
        (log_of(operation="update"), "KEY_REUSED", 409),
        (None, "NOT_FOUND", 404),
    ],
)
async def test_a_version_that_is_not_the_key_s_is_refused(
    log: str | None, code: str, status: int, world: World
) -> None:
    table = await world.create()
    if log is not None:
        await put(world, table, 1, log)
    field = "idempotency_key" if code == "KEY_REUSED" else "version"
    before = {path for path in world.snapshot() if "idempotency" in path}
    assert_refused(await claimed(world, table, 1), status, code, field)
    if code != "KEY_REUSED":
        assert {path for path in world.snapshot() if "idempotency" in path} == before


async def test_a_key_of_a_commit_is_not_claimed(world: World) -> None:
    table = await world.create()
    key = new_key()
    await world.commit(table, await world.stage(table, add("a.parquet")), key)
    await put(world, table, 2, log_of(key))
    assert_refused(await claimed(world, table, 2, key), 409, "KEY_REUSED", "idempotency_key")


@pytest.mark.parametrize(
    "more", [{"version": -1}, {"version": True}, {"operation": "x" * 33}, {"fingerprint": "ab"}, {"more": 1}]
)
async def test_what_is_no_claim_is_refused(more: dict[str, Any], world: World) -> None:
    answer = await claimed(world, await world.create(), more.pop("version", 1), **more)
    assert answer.status_code == 400
