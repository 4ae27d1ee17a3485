"""Mutated requests on every route beside good writers and appenders: no good request fails or waits long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.cluster import Cluster
from tests.server.poison import PAYLOAD, Poison, p99
from tests.support.document_requests import KINDS

MOST_SECONDS = 60.0
"""What a good request takes at most: how long it takes on a quiet machine is for the long test."""
USUAL_SECONDS = 3.0
"""What 99 of 100 good requests take at most."""
USUAL_TIMES = 4.0
"""On a machine so busy that good requests alone take long: how many times as long they may take beside bad ones."""
ALONE_S = 2.0
MOST_GROWTH_MIB = 250.0
MOST_NEW_SERIES = 400
"""Series of statuses that the second half of the requests is the first to bring; none is made of what was sent."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, api=True) as cluster:
        yield cluster


async def test_bad_requests_hurt_nobody(cluster: Cluster) -> None:
    await poisoned(cluster, each=40, writers=8, appenders=4)


@pytest.mark.full
@pytest.mark.timeout(3 * 3600)
async def test_a_thousand_bad_requests_of_each_kind_hurt_nobody(cluster: Cluster) -> None:
    alone, beside = await poisoned(cluster, each=1_000, writers=16, appenders=8)
    for name, seconds in beside.items():
        assert seconds < max(USUAL_SECONDS, USUAL_TIMES * alone[name]), name


async def poisoned(
    cluster: Cluster, each: int, *, writers: int, appenders: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Send bad requests beside good ones; return what 99 of 100 good ones take at most in seconds, alone and beside."""
    worker = cluster.start_worker()
    await cluster.ready(worker)
    poison = Poison(cluster, worker, writers, appenders)
    await poison.open()
    try:
        await poison.run_alone(ALONE_S)
        alone = {"commits": p99(poison.seen.commits), "appends": p99(poison.seen.appends)}
        poison.seen.forget_times()
        # The first half warms everything up: caches, pools, and every series that bad requests can bring.
        await poison.run(each // 2, "first")
        memory, series = poison.memory_mib(), await poison.series()
        await poison.run(each - each // 2, "second")
        after, series_after = poison.memory_mib(), await poison.series()
        seen = poison.seen
        print(f"{sum(seen.kinds.values())} bad requests: {dict(seen.bad)}, unsent {dict(seen.unsent)}")
        print(f"slowest answer to a bad one {seen.slowest:.1f} s; memory {memory} -> {after} MiB")
        print(f"series {series} -> {series_after}")
        for name, seconds in (("commits", seen.commits), ("appends", seen.appends)):
            print(
                f"{len(seconds)} good {name}: p99 {p99(seconds):.2f} s (alone {alone[name]:.2f} s), "
                f"longest {max(seconds):.2f} s"
            )
        assert seen.undocumented == []
        assert seen.kinds == dict.fromkeys((*KINDS, PAYLOAD), each)
        for name, before in memory.items():
            assert after[name] - before < MOST_GROWTH_MIB, name
        for name, count in series.items():
            assert series_after[name] - count < MOST_NEW_SERIES, name
        await poison.check()
        for name, seconds in (("commits", seen.commits), ("appends", seen.appends)):
            assert max(seconds) < MOST_SECONDS, name
        return alone, {"commits": p99(seen.commits), "appends": p99(seen.appends)}
    finally:
        await poison.aclose()
