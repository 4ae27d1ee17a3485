"""Many callers of one workspace's ledger, in this process and in others, against a real server."""

from __future__ import annotations

import asyncio
import json
from statistics import quantiles

from springline.ledger.request import AppendOutcome, AppendRequest, VisibilityStatus
from tests.server.appends import Appends, Stopwatch
from tests.server.cluster import Cluster

CALLERS = 64
REQUESTS_EACH = 4


async def test_sixty_four_callers_share_rounds(cluster: Cluster, appends: Appends) -> None:
    await cluster.ready(cluster.fork_worker())
    caller = appends.caller()
    seconds: list[float] = []

    async def call() -> None:
        for _ in range(REQUESTS_EACH):
            watch = Stopwatch()
            await appends.append(caller, appends.request())
            seconds.append(watch.seconds)

    watch = Stopwatch()
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    total = watch.seconds
    status = await caller.status(appends.scope)
    assert status is not None
    assert status["rounds"] <= CALLERS * REQUESTS_EACH / 8
    print(f"{CALLERS} callers: {told(seconds)}; {len(seconds) / total:.0f} requests/s in {status['rounds']} rounds")
    await appends.check()


async def test_two_processes_append_to_one_ledger(cluster: Cluster, appends: Appends) -> None:
    if not cluster.workers:
        await cluster.ready(cluster.fork_worker())
    callers = [await appends.start_caller(name, callers=16, requests=3) for name in ("one", "two")]
    outputs = await asyncio.gather(*(caller.communicate() for caller in callers))
    assert [caller.returncode for caller in callers] == [0, 0]
    seconds = []
    for out, _ in outputs:
        for line in out.splitlines():
            answer = json.loads(line)
            outcome = AppendOutcome.model_validate(answer["outcome"])
            assert outcome.visibility_status is VisibilityStatus.VISIBLE
            assert not outcome.replayed
            appends.note(AppendRequest.model_validate(answer["request"]), outcome)
            seconds.append(answer["seconds"])
    assert len(seconds) == len(appends.answers) == 2 * 16 * 3
    print(f"2 processes of 16 callers: {told(seconds)}")
    await appends.check()


def told(seconds: list[float]) -> str:
    """Say how long appends took until their events were visible."""
    cuts = quantiles(seconds, n=100)
    return f"append to visible p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms"
