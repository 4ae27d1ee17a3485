"""Two hundred callers on one table, on a server that admits ten updates at a time, as Temporal Cloud does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest

from entrypoints.temporal import TemporalCommitGateway
from springline.batching import TryAgain
from springline.commit.coalescer import CommitCoalescer
from springline.delta.messages import CommitOutcome, CommitRequest
from springline.local import devserver
from springline.paths import Scope
from tests.server.cluster import Cluster, timed

PROCESSES = 40
"""Each with a coalescer of its own, which keeps up to two updates under way: far more than ten in all."""
CALLERS_EACH = 5
COMMITS_EACH = 3
ADMITTED = 10
SUGGESTED_EVENTS = 200


@pytest.fixture
def server_as_it_comes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A server that is tuned but for the limit of updates in flight, and suggests a new run early."""
    tuned = {key: value for key, value in devserver.DYNAMIC_CONFIG.items() if "maxInFlightUpdates" not in key}
    assert len(tuned) == len(devserver.DYNAMIC_CONFIG) - 1
    tuned["limit.historyCount.suggestContinueAsNew"] = str(SUGGESTED_EVENTS)
    monkeypatch.setattr(devserver, "DYNAMIC_CONFIG", tuned)
    with Cluster(tmp_path_factory.mktemp("callers")) as cluster:
        yield cluster


class Watched(TemporalCommitGateway):
    """The gateway, watched: how many batches are under way at once, and why batches are sent again."""

    under_way = 0
    peak = 0
    reasons: ClassVar[Counter[str]] = Counter()

    async def commit(
        self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
    ) -> list[CommitOutcome]:
        Watched.under_way += 1
        Watched.peak = max(Watched.peak, Watched.under_way)
        try:
            return await super().commit(scope, table_id, requests, batch_id=batch_id)
        except TryAgain as error:
            Watched.reasons[str(error).partition(":")[0]] += 1
            raise
        finally:
            Watched.under_way -= 1


async def test_no_caller_ever_sees_the_eleventh_update_nor_a_run_that_rolls_over(server_as_it_comes: Cluster) -> None:
    cluster = server_as_it_comes
    ledger = await cluster.open()
    await cluster.ready(cluster.fork_worker())
    callers = [CommitCoalescer(Watched(ledger.client, checkpoint_interval=0)) for _ in range(PROCESSES)]
    requests = [await ledger.request() for _ in range(PROCESSES * CALLERS_EACH * COMMITS_EACH)]

    async def call(number: int) -> None:
        for request in requests[number :: PROCESSES * CALLERS_EACH]:
            await ledger.commit(callers[number % PROCESSES], request)

    seconds = await timed(asyncio.gather(*(call(number) for number in range(PROCESSES * CALLERS_EACH))))
    assert len(ledger.answers) == len(requests)
    for caller in callers:
        await caller.aclose()
    runs = [description async for description in ledger.client.list_workflows(f"WorkflowId = '{ledger.workflow_id}'")]
    print(
        f"{len(requests)} commits of {PROCESSES * CALLERS_EACH} callers in {seconds:.1f} s and {await ledger.latest()} "
        f"versions by {len(runs)} runs; {Watched.peak} updates at once; sent again: {dict(Watched.reasons)}"
    )
    assert Watched.peak > ADMITTED
    assert Watched.reasons["RollingOver"] > 0
    await ledger.check()
    await ledger.aclose()
