"""Backfills by Temporal: from a request to the last chunk, and everything that interrupts them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.service import RPCError

from springline import names
from springline.control.runs.messages import AttemptEnded, AttemptOrder
from tests.support.definitions import asset
from tests.workflows.runs import until
from tests.workflows.runs_bench import RunsBench, failed, succeeded
from workflows import lifecycle

pytestmark = pytest.mark.usefixtures("long_patience")

DAILY = {"kind": "daily", "start": "2024-01-01"}
T10 = {"select": ["raw"], "start": "2024-01-01", "end": "2024-01-25", "chunk_size": 10, "max_concurrent_runs": 2}


async def row_of(runs: RunsBench, backfill_id: str) -> dict[str, Any]:
    (found,) = [row for row in await runs.rows("backfills") if row["backfill_id"] == backfill_id]
    return found


async def is_in(runs: RunsBench, backfill_id: str, state: str) -> None:
    async def there() -> bool:
        return str((await row_of(runs, backfill_id))["state"]) == state

    await until(there, f"backfill {backfill_id} is {state}")


async def has_ended(runs: RunsBench, backfill_id: str) -> None:
    async def ended() -> bool:
        with contextlib.suppress(RPCError):
            described = await runs.backfill_handle(backfill_id).describe()
            return bool(described.status is WorkflowExecutionStatus.COMPLETED)
        return False

    await until(ended, f"the evaluator of {backfill_id} has ended")


async def chunks(runs: RunsBench, backfill_id: str) -> list[str | None]:
    rows = [row for row in await runs.rows("x_chunks") if row["backfill_id"] == backfill_id]
    return [row["outcome"] for row in sorted(rows, key=lambda row: int(row["chunk_index"]))]


def attempts(runs: RunsBench) -> Counter[str]:
    return Counter(order.task_key for order in runs.orders)


class Gate:
    """Lets attempts wait until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0

    async def act(self, order: AttemptOrder) -> AttemptEnded:
        self.waiting += 1
        while not self.open.is_set():
            # One that gives no sign of life for ten seconds counts as lost, and is made again.
            activity.heartbeat()
            await asyncio.sleep(0.05)
        return succeeded()


async def test_t10_paused_resumed_failed_and_what_failed_again(runs: RunsBench) -> None:
    await runs.deploy(asset("raw", partitions=DAILY, retries=0))
    gate = Gate()

    async def fails(order: AttemptOrder) -> AttemptEnded:
        return failed()

    runs.acts = {"raw[2024-01-01]": gate.act, "raw[2024-01-13]": fails}
    created = await runs.ask_backfill(asked=T10, request_id="t10")
    assert (created.state, created.total_partitions, created.chunks) == ("RUNNING", 25, 3)
    again = await runs.ask_backfill(asked=T10, request_id="t10")
    assert (again.backfill_id, again.replayed) == (created.backfill_id, True)

    async def second_has_failed() -> bool:
        return gate.waiting == 1 and await chunks(runs, created.backfill_id) == [None, "FAILED", None]

    await until(second_has_failed, "the third chunk has taken the place of the second")
    paused = await runs.ask_backfill(verb="pause", backfill_id=created.backfill_id)
    assert paused.state == "PAUSED"
    gate.open.set()

    async def all_have_ended() -> bool:
        return None not in await chunks(runs, created.backfill_id)

    await until(all_have_ended, "what was planned has ended")
    assert (await row_of(runs, created.backfill_id))["state"] == "PAUSED"
    await runs.ask_backfill(verb="resume", backfill_id=created.backfill_id)
    await is_in(runs, created.backfill_id, "FAILED")
    await has_ended(runs, created.backfill_id)
    assert await chunks(runs, created.backfill_id) == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert len(attempts(runs)) == 25
    assert set(attempts(runs).values()) == {1}

    runs.acts = {}
    child = await runs.ask_backfill(verb="retry-failed", backfill_id=created.backfill_id)
    await is_in(runs, child.backfill_id, "SUCCEEDED")
    await has_ended(runs, child.backfill_id)
    assert (await row_of(runs, child.backfill_id))["parent_backfill_id"] == created.backfill_id
    assert attempts(runs)["raw[2024-01-13]"] == 2
    assert sum(attempts(runs).values()) == 26


async def test_a_refused_request_names_what_is_wrong_and_makes_nothing(runs: RunsBench) -> None:
    await runs.deploy(asset("raw", partitions=DAILY), asset("whole"))
    with pytest.raises(WorkflowFailureError) as caught:
        await runs.ask_backfill(asked={"select": ["whole"], "all": True})
    assert "has no partitions" in str(caught.value.cause)
    assert await runs.rows("backfills") == []


async def test_a_cancelled_backfill_cancels_its_runs_and_plans_nothing_more(runs: RunsBench) -> None:
    await runs.deploy(asset("raw", partitions=DAILY))
    gate = Gate()
    runs.acts = {f"raw[2024-01-{day:02}]": gate.act for day in range(1, 32)}
    created = await runs.ask_backfill(asked=T10 | {"chunk_size": 2}, request_id="c")

    async def two_run() -> bool:
        return gate.waiting == 4

    await until(two_run, "two runs are under way")
    await runs.ask_backfill(verb="cancel", backfill_id=created.backfill_id)
    await has_ended(runs, created.backfill_id)
    assert await chunks(runs, created.backfill_id) == ["CANCELLED", "CANCELLED"]
    assert {run["state"] for run in await runs.rows("runs")} == {"CANCELLED"}
    gate.open.set()


async def test_an_evaluator_that_is_lost_comes_back_by_repair(runs: RunsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("springline.control.repair.SETTLED_MS", 0)
    await runs.deploy(asset("raw", partitions=DAILY))
    gate = Gate()
    runs.acts = {"raw[2024-01-01]": gate.act}
    created = await runs.ask_backfill(asked=T10, request_id="lost")

    async def waits() -> bool:
        return gate.waiting == 1

    await until(waits, "the first chunk is under way")
    await runs.backfill_handle(created.backfill_id).terminate("lost")
    gate.open.set()
    await runs.repair()
    assert (await runs.repair_status()).made == {"backfill_without_evaluator": 1}
    await is_in(runs, created.backfill_id, "SUCCEEDED")
    await has_ended(runs, created.backfill_id)
    assert set(attempts(runs).values()) == {1}


async def test_an_evaluator_goes_on_as_another_run(runs: RunsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "DRAIN_EVENTS", 25)
    await runs.deploy(asset("raw", partitions=DAILY))
    created = await runs.ask_backfill(asked=T10 | {"chunk_size": 4}, request_id="long")
    await is_in(runs, created.backfill_id, "SUCCEEDED")
    await has_ended(runs, created.backfill_id)
    assert len(await chunks(runs, created.backfill_id)) == 7
    assert set(attempts(runs).values()) == {1}
    status = await runs.backfill_handle(created.backfill_id).query(names.STATUS_QUERY)
    assert (status["state"], status["progress"]["done"], status["passes"] < 7) == ("SUCCEEDED", 25, True)
