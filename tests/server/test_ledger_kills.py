"""A worker killed with SIGKILL inside each step of a ledger round, against a real server.

See docs/protocol.md#ledger-rounds.

Two workers run, as in production. One of them dies at a precise request to the store; the other goes on with what the
dead one had under way, as soon as the server misses its heartbeats. No event is lost or doubled.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from springline import names
from tests.server.appends import Appends, Stopwatch
from tests.server.cluster import Cluster

DEATHS = [
    (names.OPEN_LEDGER, "reading"),
    (names.ADMIT, "before"),
    (names.ADMIT, "after"),
    (names.APPEND_EVENTS, "before"),
    (names.APPEND_EVENTS, "after"),
    (names.FOLD, "before"),
    (names.FOLD, "after"),
    (names.PUBLISH, "before"),
    (names.PUBLISH, "after"),
]
FOREIGN_DEATHS = [
    (names.ADMIT_FOREIGN, "before"),
    (names.ADMIT_FOREIGN, "after"),
    (names.FOLD, "before"),
    (names.PUBLISH, "after"),
]
"""Where a worker dies over late events, which are folded from a checkpoint."""
VISIBLE_WITHIN_S = 9.0
"""It takes 1.2 to 2 s on a quiet machine: heartbeats missed for 1 s, a workflow given up by the dead worker's own queue
after 0.5 s, and what a worker needs that has seen neither the workflow nor the state. Who waits for a timeout that
nobody shortened waits for 10 s or more."""


@pytest.mark.parametrize(("activity", "phase"), DEATHS)
async def test_events_are_visible_soon_after_a_kill(
    activity: str, phase: str, cluster: Cluster, appends: Appends
) -> None:
    two_workers(cluster)
    await cluster.ready(*cluster.workers)
    one, other = appends.caller(), appends.caller()
    if activity != names.OPEN_LEDGER:
        await appends.append(one, appends.request())
    cluster.order(activity, phase)
    interrupted = asyncio.create_task(appends.append(one, appends.request()))
    dead = await cluster.a_death()
    watch = Stopwatch()
    await appends.append(other, appends.request())
    new = watch.seconds
    await interrupted
    old = watch.seconds
    print(f"killed {phase} a request of {activity}: new events visible after {new:.2f} s, interrupted ones {old:.2f} s")
    two_workers(cluster)
    assert dead.exit_code == -signal.SIGKILL
    assert max(new, old) < VISIBLE_WITHIN_S
    await appends.check()


@pytest.mark.parametrize(("activity", "phase"), FOREIGN_DEATHS)
async def test_foreign_events_are_taken_in_once_though_the_worker_dies(
    activity: str, phase: str, cluster: Cluster, appends: Appends
) -> None:
    two_workers(cluster)
    await cluster.ready(*cluster.workers)
    caller = appends.caller()
    await appends.append(caller, appends.request())
    paths = [await appends.put_foreign(number) for number in range(5)]
    cluster.order(activity, phase)
    ingest = asyncio.create_task(appends.ingest(caller, paths))
    dead = await cluster.a_death()
    watch = Stopwatch()
    outcome = await ingest
    seconds = watch.seconds
    print(f"killed {phase} a request of {activity}: late events visible after {seconds:.2f} s")
    two_workers(cluster)
    assert dead.exit_code == -signal.SIGKILL
    assert (outcome.accepted, outcome.late, outcome.refused) == (5, 5, [])
    assert seconds < VISIBLE_WITHIN_S
    await appends.check()


def two_workers(cluster: Cluster) -> None:
    while len(cluster.workers) < 2:
        cluster.start_killable()
