"""A cluster for each test module: a server, and the workers that its tests start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.server.appends import Appends
from tests.server.cluster import Cluster, Ledger


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def ledger(cluster: Cluster) -> AsyncIterator[Ledger]:
    ledger = await cluster.open()
    try:
        yield ledger
    finally:
        await ledger.aclose()


@pytest.fixture
async def appends(cluster: Cluster) -> AsyncIterator[Appends]:
    appends = await Appends.open(cluster)
    try:
        yield appends
    finally:
        await appends.aclose()


@pytest.fixture
def wiped_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """The module's cluster, whose server a test wipes: for modules in which every test does."""
    yield cluster
    while cluster.workers:
        cluster.workers.pop().stop(5)


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that a test may wipe."""
    with Cluster(tmp_path) as cluster:
        yield cluster
