"""SIGTERM: what a worker has under way is finished, its exit code is 0, and no commit notices."""

from __future__ import annotations

import asyncio
import os

import pytest
from temporalio.api.enums.v1 import EventType

from springline import names
from tests.server.cluster import Cluster, Ledger, until
from tests.server.killable_worker import MARK

SLOW_WRITE_S = 0.7
"""Long against a signal's way, short against the grace time."""


@pytest.mark.parametrize("activity", [names.RESERVE, names.WRITE_MARKER])
async def test_a_worker_that_is_told_to_end_finishes_its_activity_first(
    activity: str, cluster: Cluster, ledger: Ledger
) -> None:
    while len(cluster.workers) < 2:
        cluster.start_killable("--write-seconds", str(SLOW_WRITE_S))
    await cluster.ready(*cluster.workers)
    mark = cluster.orders / f"{MARK}.{activity}"
    mark.unlink(missing_ok=True)
    caller = ledger.caller()
    commit = asyncio.create_task(ledger.commit(caller, await ledger.request()))

    async def is_writing() -> bool:
        return mark.exists() and mark.read_text() != ""

    await until(is_writing, f"a worker writes in {activity}")
    (leaving,) = [child for child in cluster.workers if child.pid == int(mark.read_text())]
    assert not commit.done()
    code = await asyncio.to_thread(leaving.stop, 15)
    cluster.workers.remove(leaving)
    assert code == os.EX_OK, leaving.log_tail()
    await commit
    # Nothing was cut off: no activity needed a second attempt.
    history = await ledger.client.get_workflow_handle(ledger.workflow_id).fetch_history()
    attempts = [
        event.activity_task_started_event_attributes.attempt
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
    ]
    assert len(attempts) >= 3
    assert set(attempts) == {1}
    await ledger.check()


async def test_the_last_worker_leaves_and_its_commit_waits_in_storage_for_the_next(own_cluster: Cluster) -> None:
    ledger = await own_cluster.open()
    worker = own_cluster.start_killable("--write-seconds", str(SLOW_WRITE_S))
    await own_cluster.ready(worker)
    caller = ledger.caller()
    commit = asyncio.create_task(ledger.commit(caller, await ledger.request()))
    await until(ledger.is_reserved, "the commit is reserved")
    code = await asyncio.to_thread(worker.stop, 15)
    own_cluster.workers.remove(worker)
    assert code == os.EX_OK, worker.log_tail()
    assert not commit.done()
    own_cluster.fork_worker()
    await commit
    await ledger.check()
    await ledger.aclose()
