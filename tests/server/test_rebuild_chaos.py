"""A rebuild whose workers are killed again and again and whose server goes away once: it ends, and it is right."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from bench.ledgers import realistic_ledger
from springline import names
from springline.ledger.envelope import parse_event
from springline.local.processes import peak_memory_bytes
from springline.local.stack import TEMPORAL
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_all
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.rebuild.plan import slices_of
from springline.rebuild.sources import from_index
from tests.server.appends import Appends
from tests.server.cluster import Cluster
from tests.server.rebuilds import Rebuilds
from tests.server.recording_worker import Work, works

Record = Callable[[str, object], None]

MOST_MIB = 1024
RECORDING = "tests.server.recording_worker"
WORK = "work"
"""The folder in which workers write down what they did."""


async def test_a_small_rebuild_under_kills(own_cluster: Cluster, record_property: Record) -> None:
    await chaos(own_cluster, 40_000, every_s=0.5, kills=4, restart_after=1, record=record_property)


@pytest.mark.full
@pytest.mark.timeout(1_800)
async def test_a_million_events_under_kills(own_cluster: Cluster, record_property: Record) -> None:
    await chaos(own_cluster, 1_000_000, every_s=4.0, kills=1_000, restart_after=2, record=record_property)


async def chaos(
    cluster: Cluster, events: int, *, every_s: float, kills: int, restart_after: int, record: Record
) -> None:
    appends = await Appends.open(cluster)
    rebuilds = Rebuilds(appends)
    scope = appends.scope
    bodies = realistic_ledger(11, events, tenant=scope.tenant, workspace=scope.workspace)
    expected = folded(bodies, FoldConfig(scope.tenant, scope.workspace))
    event_paths = rebuilds.write_events(bodies)
    del bodies
    run_id, peaks, killed, seconds = await under_kills(
        cluster, rebuilds, {"event_paths": event_paths}, every_s=every_s, kills=kills, restart_after=restart_after
    )
    result = await rebuilds.result(run_id)
    assert (result["events_processed"], result["digest_after"]) == (events, expected)
    attempts = await rebuilds.attempts(run_id)
    every = [attempt for some in attempts.values() for attempt in some]
    done = works(cluster.folder / WORK)
    read, fold = ([one for one in done if one.name == name] for name in (names.READ_SLICE, names.FOLD_SHARD))
    print(
        f"{events:,} events from objects in {seconds:.1f} s under {killed} kills and a restart of the server: "
        f"peak {max(peaks):.0f} MiB, {sum(every) / len(every):.2f} attempts a step, {max(every)} at most; "
        f"read {times(read):.2f} times, a slice {most_times(read):.2f} at most; "
        f"folded {times(fold):.2f} times, a shard {most_times(fold):.2f} at most"
    )
    record("explored", f"rebuilds under kills: {killed} workers killed")
    assert killed
    assert max(peaks) < MOST_MIB
    # What is finished is never done again: every part and shard has one result, whatever was killed meanwhile.
    assert len(attempts["read_slice"]) == len(slices_of(event_paths))
    assert sum(every) <= 2 * len(every)
    assert sum(one.size for one in read) == sum(one.size for one in fold) == events
    assert times(read) <= 2
    assert times(fold) <= 2
    assert await rebuilds.digest() == expected
    if events >= 100_000:
        await from_segments(cluster, rebuilds, events, expected)
    await appends.aclose()


async def from_segments(cluster: Cluster, rebuilds: Rebuilds, events: int, expected: str) -> None:
    """The same from the segments that the first rebuild has made, on two workers that live."""
    found = await from_index(rebuilds.appends.scoped)
    began = time.monotonic()
    result = await rebuilds.rebuild({"event_paths": found.event_paths, "segment_paths": found.segment_paths})
    print(f"{events:,} events from segments in {time.monotonic() - began:.1f} s on {len(cluster.workers)} workers")
    assert result["digest_after"] == expected


def folded(bodies: list[bytes], config: FoldConfig) -> str:
    state = State(config)
    fold_all(state, map(parse_event, bodies))
    return Digest.of({name: state.rows(name) for name in TABLES}).state()


async def under_kills(
    cluster: Cluster,
    rebuilds: Rebuilds,
    manifest: dict[str, Any],
    *,
    every_s: float,
    kills: int,
    restart_after: int,
) -> tuple[str, list[float], int, float]:
    """Rebuild on two workers, of which one is killed every `every_s` seconds until it is done.

    After `restart_after` kills the server is restarted.

    Returns the run, the peak memory of each worker in MiB, how many were killed, and how long it took.
    """
    rnd = Random(7)
    two_workers(cluster)
    await cluster.ready(*cluster.workers)
    began = time.monotonic()
    run_id = await rebuilds.begin(manifest)
    done = asyncio.create_task(rebuilds.handle(run_id).result())
    peaks: list[float] = []
    killed, restarted = 0, False
    while not done.done() and killed < kills:
        await asyncio.wait([done], timeout=every_s)
        peaks += [peak_mib(child.pid) for child in cluster.workers if child.exit_code is None]
        if done.done():
            break
        victim = rnd.choice(cluster.workers)
        victim.kill()
        cluster.workers.remove(victim)
        killed += 1
        two_workers(cluster)
        if killed == restart_after:
            await asyncio.to_thread(cluster.stack.restart, TEMPORAL)
            restarted = True
            done.cancel()
            await asyncio.wait([done])
            await rebuilds.appends.reconnect()
            done = asyncio.create_task(rebuilds.handle(run_id).result())
    await done
    assert restarted, "the server was never restarted"
    peaks += [peak_mib(child.pid) for child in cluster.workers if child.exit_code is None]
    return run_id, peaks, killed, time.monotonic() - began


def two_workers(cluster: Cluster) -> None:
    folder = cluster.folder / WORK
    folder.mkdir(exist_ok=True)
    while len(cluster.workers) < 2:
        cluster.start_worker(RECORDING, str(folder))


def times(works: list[Work]) -> float:
    """Return how many times all events were read, or folded, by attempts that were killed and those that were not."""
    return sum(one.done for one in works) / sum(one.size for one in works)


def most_times(works: list[Work]) -> float:
    """Return how many times the events of the part that fared worst were."""
    return max(one.done / one.size for one in works)


def peak_mib(pid: int | None) -> float:
    """Return the peak memory of a process so far, as the system tells it."""
    try:
        return peak_memory_bytes(pid) / 2**20
    except (FileNotFoundError, ProcessLookupError):
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
