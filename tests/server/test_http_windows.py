"""The three crash windows over HTTP: a worker dies after its effect, and the caller only sees a slower answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from temporalio.api.enums.v1 import EventType

from springline import names
from tests.server.cluster import Cluster, Ledger

WINDOWS = (names.RESERVE, names.WRITE_LOG, names.WRITE_MARKER)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("http"), api=True) as cluster:
        yield cluster


@pytest.mark.parametrize("window", WINDOWS)
async def test_window_over_http(window: str, cluster: Cluster, ledger: Ledger) -> None:
    while len(cluster.workers) < 2:
        cluster.start_killable()
    await cluster.ready(*cluster.workers)
    async with httpx.AsyncClient(
        base_url=f"{cluster.stack.api_url}/api/v1/delta/tables",
        headers={"Authorization": f"Bearer {cluster.stack.token()}"},
        timeout=240,
    ) as api:
        await http_window(window, cluster, ledger, api)


async def http_window(window: str, cluster: Cluster, ledger: Ledger, api: httpx.AsyncClient) -> None:
    request = await ledger.request()
    document = request.model_dump(mode="json", exclude={"idempotency_key"})
    headers = {"Idempotency-Key": request.idempotency_key}

    async def commit() -> httpx.Response:
        return await api.post(f"/{ledger.table_id}/commits", json=document, headers=headers)

    cluster.order(window, "after")
    waiting = asyncio.create_task(commit())
    await cluster.a_death()
    first = await waiting
    assert first.status_code == 200, first.text
    answer: dict[str, Any] = first.json()
    assert answer == {"version": 1, "delta_log_path": ledger.table.log_path(1)}

    for _ in range(3):
        again = await commit()
        assert (again.status_code, again.json()) == (200, answer)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert (await api.get(f"/{ledger.table_id}")).json()["inflight"] is None
    fate = (await api.get(f"/{ledger.table_id}/commits/{request.idempotency_key}")).json()
    assert (fate["fate"], fate["version"]) == ("committed", 1)

    runs = [one.run_id async for one in ledger.client.list_workflows(f"WorkflowId = '{ledger.workflow_id}'")]
    attempts = {
        event.activity_task_started_event_attributes.attempt
        for run_id in runs
        for event in (await ledger.client.get_workflow_handle(ledger.workflow_id, run_id=run_id).fetch_history()).events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
    }
    assert attempts == {1, 2}
