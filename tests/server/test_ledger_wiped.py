"""Temporal loses everything in the middle of a ledger round: what is stored is enough to go on.

See docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from springline import names
from springline.ledger.request import AppendRequest
from tests.server.appends import Appends
from tests.server.cluster import Cluster

WINDOWS = [
    (names.ADMIT, "after"),
    (names.APPEND_EVENTS, "after"),
    (names.FOLD, "after"),
    (names.PUBLISH, "before"),
    (names.PUBLISH, "after"),
]


@pytest.mark.parametrize(("activity", "phase"), WINDOWS)
async def test_a_round_goes_on_in_an_empty_namespace(activity: str, phase: str, wiped_cluster: Cluster) -> None:
    appends = await Appends.open(wiped_cluster)
    interrupted = await crash_in(wiped_cluster, appends, activity, phase)
    wiped_cluster.fork_worker()
    caller = appends.caller()
    # Somebody else comes first, and makes visible what the dead run left; then the interrupted caller asks again.
    new = await appends.append(caller, appends.request())
    again = await caller.append(appends.scope, interrupted)
    assert again.replayed
    assert again.events[-1].event_id < new.events[0].event_id
    appends.note(interrupted, again)
    await appends.check()
    await appends.aclose()


async def crash_in(cluster: Cluster, appends: Appends, activity: str, phase: str) -> AppendRequest:
    """Leave a workspace as a worker does that dies in an activity while the whole of Temporal is lost."""
    await cluster.ready(cluster.start_killable())
    caller = appends.caller()
    await appends.append(caller, appends.request())
    request = appends.request()
    cluster.order(activity, phase)
    lost = asyncio.create_task(caller.append(appends.scope, request))
    await cluster.a_death()
    cluster.stack.wipe_temporal()
    lost.cancel()
    with suppress(asyncio.CancelledError):
        await lost
    await appends.reconnect()
    return request
