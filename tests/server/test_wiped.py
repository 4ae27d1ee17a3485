"""Temporal loses everything: what is stored is enough to go on (docs/protocol.md#rule-2)."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from contextlib import suppress
from typing import Any

import pytest

from springline import names
from springline.exits import EXIT_DONE
from springline.local.stack import TEMPORAL
from tests.server.cluster import Cluster, Ledger
from tests.support.rows import SCOPE

WINDOWS = [(names.RESERVE, "after"), (names.WRITE_LOG, "after"), (names.WRITE_MARKER, "after")]


async def crash_in(cluster: Cluster, ledger: Ledger, activity: str, phase: str) -> None:
    """Leave a table as a worker does that dies in an activity while the whole of Temporal is lost."""
    await cluster.ready(cluster.start_killable())
    caller = ledger.caller()
    await ledger.commit(caller, await ledger.request())
    request = await ledger.request()
    cluster.order(activity, phase)
    lost = asyncio.create_task(caller.commit(SCOPE, ledger.table_id, request))
    await cluster.a_death()
    cluster.stack.wipe_temporal()
    lost.cancel()
    with suppress(asyncio.CancelledError):
        await lost
    await ledger.reconnect()
    ledger.interrupted = request


@pytest.mark.parametrize(("activity", "phase"), WINDOWS)
async def test_commits_go_on_in_an_empty_namespace(activity: str, phase: str, wiped_cluster: Cluster) -> None:
    ledger = await wiped_cluster.open()
    await crash_in(wiped_cluster, ledger, activity, phase)
    assert await ledger.is_reserved()
    wiped_cluster.fork_worker()
    caller = ledger.caller()
    # Somebody else comes first, and completes what the dead run left; then the interrupted caller asks again.
    new = await ledger.commit(caller, await ledger.request())
    assert new.result is not None
    assert new.result.version == 3
    assert ledger.interrupted is not None
    again = await ledger.commit(caller, ledger.interrupted)
    assert again.replayed
    assert again.result is not None
    assert again.result.version == 2
    await ledger.check()
    await ledger.aclose()


async def test_the_command_line_recovers_a_table_with_no_temporal_at_all(wiped_cluster: Cluster) -> None:
    ledger = await wiped_cluster.open()
    await crash_in(wiped_cluster, ledger, names.WRITE_LOG, "after")
    wiped_cluster.stack.kill(TEMPORAL)
    assert ledger.interrupted is not None
    report = await recover(wiped_cluster, ledger)
    (done,) = report["done"]
    assert (done["kind"], done["version"], done["keys"]) == ("completed", 2, [ledger.interrupted.idempotency_key])
    assert report["after"] == {"latest_version": 2, "inflight": None}
    assert await ledger.settle() == []

    wiped_cluster.stack.start_child(TEMPORAL)
    await ledger.reconnect()
    wiped_cluster.fork_worker()
    caller = ledger.caller()
    again = await ledger.commit(caller, ledger.interrupted)
    assert again.replayed
    assert again.result is not None
    assert again.result.version == 2
    await ledger.commit(caller, await ledger.request())
    await ledger.check()
    await ledger.aclose()


async def recover(cluster: Cluster, ledger: Ledger) -> dict[str, Any]:
    """Run `springline table recover` and return its report."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "springline.cli", "table", "recover", ledger.table_id),
        *("--store", cluster.store_folder.as_uri()),
        *("--tenant", SCOPE.tenant, "--workspace", SCOPE.workspace),
        env=cluster.stack.child_environment(),
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == EXIT_DONE, err.decode()
    report: dict[str, Any] = json.loads(out)
    return report
