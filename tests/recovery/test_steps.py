"""What a commit costs in storage calls, counted through the real activities (calls made together are one step)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from activities.messages import TableRef
from springline.delta.request import Mode
from springline.storage.faults import FaultyStore, Kind
from springline.storage.memory import MemoryStore
from tests.support.commit_rounds import Rounds
from tests.support.rows import SCOPE, TABLE_ID, adding, create_rows_table

MAX_STEPS = 7
"""Of a lone commit, its staging included."""
LATENCY_S = 0.002
"""Makes calls that are made together overlap, so that they count as one step."""


async def a_warm_process() -> tuple[FaultyStore, Rounds]:
    """Return a process that has committed to the table before, and its store."""
    store = FaultyStore(MemoryStore(), latency=LATENCY_S)
    entry = await create_rows_table(store)
    process = Rounds(store, TableRef(tenant=SCOPE.tenant, workspace=SCOPE.workspace, table_id=TABLE_ID), entry.root)
    for number in range(2):
        (outcome,) = await process.commit(await process.stage(adding(f"warm-{number}"), read_version=number))
        assert outcome.result is not None
    store.forget()
    return store, process


@pytest.mark.parametrize("mode", Mode)
async def test_a_lone_commit_takes_few_sequential_steps_and_never_lists(
    mode: Mode, record_property: Callable[[str, object], None]
) -> None:
    store, process = await a_warm_process()
    request = await process.stage(adding("counted"), mode=mode, read_version=2)
    staging = store.steps["main"]
    (outcome,) = await process.commit(request)
    assert outcome.result is not None
    assert outcome.result.version == 3
    steps = store.steps["main"]
    print(f"a lone {mode} commit: {staging} step to stage, {steps - staging} to commit, {store.count()} requests")
    record_property("explored", f"a lone {mode} commit: {steps} sequential steps, {store.count()} storage requests")
    assert staging == 1
    assert steps <= MAX_STEPS
    assert store.count(Kind.LIST) == 0


async def test_rounds_that_follow_each_other_write_the_coordinator_once_each() -> None:
    store, process = await a_warm_process()
    strict = await process.stage(adding("strict"), mode=Mode.STRICT, read_version=2)
    appends = [await process.stage(adding(f"append-{number}"), read_version=2) for number in range(9)]
    store.forget()
    outcomes = await process.commit(strict, *appends)
    assert [outcome.result and outcome.result.version for outcome in outcomes] == [3] + [4] * 9
    # One for the first reservation, one that finalizes it and reserves the second, one to finalize that.
    assert store.count(Kind.PUT, "delta/coordinator") == 3
    # The second round also stages its merged payload, and saves the write and the read of its own finalize.
    assert store.steps["main"] <= 2 * (MAX_STEPS - 1)
    assert store.count(Kind.LIST) == 0


async def test_a_cold_process_replays_without_a_write_and_without_listing() -> None:
    store, process = await a_warm_process()
    request = await process.stage(adding("counted"), mode=Mode.STRICT, read_version=2)
    first = await process.commit(request)
    store.forget()
    cold = Rounds(store, process.ref, process.table.root)
    (again,) = await cold.commit(request)
    assert again.replayed
    assert again.result == first[0].result
    assert store.count(Kind.PUT) == 0
    assert store.count(Kind.LIST) == 0
