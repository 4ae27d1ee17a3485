"""A worker killed with SIGKILL inside each activity, against a real server: commits go on, nothing is lost or doubled.

Two workers run, as in production. One of them dies at a precise write; the other goes on with what the dead one
had under way, as soon as the server misses its heartbeats.
"""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from springline import names
from springline.delta.messages import CommitMode, CommitRequest
from tests.server.cluster import Cluster, Ledger

ACTIVITIES = (names.RESERVE, names.WRITE_LOG, names.WRITE_MARKER, names.FINALIZE, names.FINALIZE_AND_RESERVE)
GO_ON_WITHIN_S = 9.0
"""It takes 1 to 3 s on a quiet machine. Who waits for a timeout that nobody shortened waits for 10 s or more."""


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("activity", ACTIVITIES)
async def test_commits_go_on_after_a_kill(activity: str, phase: str, cluster: Cluster, ledger: Ledger) -> None:
    two_workers(cluster)
    await cluster.ready(*cluster.workers)
    one, other = ledger.caller(), ledger.caller()
    await ledger.commit(one, await ledger.request())

    interrupted = await requests_of(ledger, activity)
    fresh = await ledger.request()
    cluster.order(activity, phase)
    commits = [asyncio.create_task(ledger.commit(one, request)) for request in interrupted]
    dead = await cluster.a_death()
    killed = time.monotonic()
    await ledger.commit(other, fresh)
    new_commit = time.monotonic() - killed
    await asyncio.gather(*commits)
    interrupted_commit = time.monotonic() - killed
    print(
        f"killed {phase} the write of {activity}: a new commit after {new_commit:.2f} s, "
        f"the interrupted ones after {interrupted_commit:.2f} s"
    )
    two_workers(cluster)
    assert dead.exit_code == -signal.SIGKILL
    assert max(new_commit, interrupted_commit) < GO_ON_WITHIN_S
    await ledger.check()


def two_workers(cluster: Cluster) -> None:
    while len(cluster.workers) < 2:
        cluster.start_killable()


async def requests_of(ledger: Ledger, activity: str) -> list[CommitRequest]:
    """Return requests whose commit runs `activity`: two that cannot share a version, where rounds are merged."""
    if activity != names.FINALIZE_AND_RESERVE:
        return [await ledger.request()]
    return [await ledger.request(mode=CommitMode.STRICT, read_version=1), await ledger.request(read_version=1)]


async def test_a_lone_worker_that_was_killed_is_replaced_by_a_fresh_process(own_cluster: Cluster) -> None:
    ledger = await own_cluster.open()
    await own_cluster.ready(own_cluster.start_killable())
    caller = ledger.caller()
    await ledger.commit(caller, await ledger.request())
    request, fresh = await ledger.request(), await ledger.request()
    own_cluster.order(names.WRITE_LOG, "after")
    interrupted = asyncio.create_task(ledger.commit(caller, request))
    await own_cluster.a_death()
    killed = time.monotonic()
    replacement = own_cluster.start_worker()
    new = asyncio.create_task(ledger.commit(ledger.caller(), fresh))
    await own_cluster.ready(replacement)
    started = time.monotonic() - killed
    await new
    await interrupted
    answered = time.monotonic() - killed
    print(f"a fresh worker was ready {started:.2f} s after the kill; commits went on after {answered:.2f} s")
    assert answered < started + GO_ON_WITHIN_S
    await ledger.check()
    await ledger.aclose()
