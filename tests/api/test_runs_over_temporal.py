"""Asking for runs on real processes: API, Temporal development server, worker. Nobody takes their attempts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from tests.api.conftest import V1
from tests.support.definitions import asset
from tests.support.forked_stack import ForkedStack

RUNS = f"{V1}/runs"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    root: Path = tmp_path_factory.mktemp("stack")
    with ForkedStack(root, scope=Scope("acme", "dev"), workers=1) as running:
        yield running


@pytest.fixture
async def client(stack: EmbeddedStack) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {stack.token()}"}
    async with httpx.AsyncClient(base_url=stack.api_url, headers=headers, timeout=240) as made:
        body = {"location": "a", "assets": [asset("raw"), asset("report", "raw")]}
        assert (await made.post(f"{V1}/manifests", json=body)).status_code in (200, 201)
        yield made


async def start(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await client.post(RUNS, json={"select": ["*"], **more})
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_run_has_begun_when_it_is_answered(client: httpx.AsyncClient) -> None:
    first = await start(client, run_key="k")
    assert (first["state"], first["tasks"]) == ("RUNNING", 2)
    assert await start(client, run_key="k") == first
    run = (await client.get(f"{RUNS}/{first['run_id']}")).json()
    assert [task["task_key"] for task in run["tasks"]] == ["raw", "report"]


async def test_a_run_cancels_itself_within_seconds_and_is_made_again(client: httpx.AsyncClient) -> None:
    run = (await start(client))["run_id"]
    began = time.monotonic()
    answer = await client.post(f"{RUNS}/{run}/cancel", json={"reason": "wrong day"})
    assert answer.status_code in (200, 202), answer.text
    while (found := (await client.get(f"{RUNS}/{run}")).json()["run"])["state"] != "CANCELLED":
        assert time.monotonic() - began < 120, found
    again = await client.post(f"{RUNS}/{run}/rerun", json={"from": "failed"})
    assert again.status_code == 201, again.text
    assert (again.json()["state"], again.json()["tasks"]) == ("RUNNING", 2)
    run = (await client.get(f"{RUNS}/{again.json()['run_id']}")).json()["run"]
    assert run["labels"] == {"springline/parent_run_id": found["run_id"]}
