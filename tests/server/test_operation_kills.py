"""Each operation of the client, killed at each of its steps and repeated under its key by a fresh process: once.

The client is killed at every step it has, the API under the call that commits, a worker at its writes. A row that the
operation would change is appended before the repetition where the first try had committed: a second doing would show.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from springline import names
from springline.client import DeltaTable, Springline
from springline.client.table import new_key
from springline.local.processes import Child
from springline.local.stack import API
from tests.server.cluster import DEADLINE_S, POLL_S, Cluster
from tests.server.operations import OPERATIONS, Operation, Order, Rows, in_a_process, rows_of, table_of, versions_of
from tests.support.rows import rows

OFTEN = ("append", "delete", "merge", "commit")
"""The operations whose API is killed in the normal suite: one for each way to commit."""


def some(names_: Sequence[str], often: Sequence[str]) -> list[ParameterSet]:
    """Return operations by name, those that are not `often` for the full suite."""
    chosen = [one for one in OPERATIONS if one.name in names_]
    return [pytest.param(one, id=one.name, marks=() if one.name in often else pytest.mark.full) for one in chosen]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A whole stack, with two workers."""
    with Cluster(tmp_path_factory.mktemp("operations"), api=True) as cluster:
        two_workers(cluster)
        yield cluster


@pytest.fixture
def lake(cluster: Cluster) -> Iterator[Springline]:
    with Springline(cluster.stack.api_url, cluster.stack.token()) as lake:
        yield lake


def two_workers(cluster: Cluster) -> None:
    while len(cluster.workers) < 2:
        cluster.start_killable()
    asyncio.run(cluster.ready(*cluster.workers))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_client_killed_at_each_step(operation: Operation, cluster: Cluster, lake: Springline, tmp_path: Path) -> None:
    where = (cluster.stack.api_url, cluster.stack.token(), tmp_path / "reports")
    deaths: list[str] = []
    for at in range(100):
        key = new_key()
        table = table_of(lake, f"{operation.name}-client-{at}", operation)
        end = in_a_process(operation.name, table.name, key, *where, Order(at))
        if end.exit_code == 0:
            break
        assert end.exit_code == -signal.SIGKILL
        deaths.append(end.steps[-1])
        later = after(operation, table, key)
        check(operation, table, key, [in_a_process(operation.name, table.name, key, *where, Order()).version], later)
    print(f"{operation.name}: killed before {', '.join(deaths)}")
    # A commit of given actions is one call; every other operation makes several.
    assert len(deaths) >= (2 if operation.name == "commit" else 3)
    assert end.exit_code == 0
    check(operation, table, key, [end.version])


@pytest.mark.parametrize("operation", some([one.name for one in OPERATIONS], OFTEN))
def test_an_api_killed_under_each_call(
    operation: Operation, cluster: Cluster, lake: Springline, tmp_path: Path
) -> None:
    where = (cluster.stack.api_url, cluster.stack.token(), tmp_path / "reports")
    table = table_of(lake, f"{operation.name}-steps", operation)
    steps = in_a_process(operation.name, table.name, new_key(), *where, Order()).steps
    # The last one is what commits, or claims; in the middle of it, as near as a clock can say.
    last = max(at for at, step in enumerate(steps) if step.startswith("call"))
    for at, delay_s in ((last, 0.0), (last, 0.005)):
        key = new_key()
        table = table_of(lake, f"{operation.name}-api-{at}-{delay_s:g}", operation)
        api = cluster.stack.child(API)
        order = Order(at, api.pid, delay_s)
        with ThreadPoolExecutor(1) as pool:
            doing = pool.submit(in_a_process, operation.name, table.name, key, *where, order)
            dies(api)
            cluster.stack.start_child(API)
            end = doing.result()
        assert end.exit_code == 0
        check(operation, table, key, [end.version])


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("activity", [names.WRITE_LOG, names.WRITE_MARKER])
@pytest.mark.parametrize("operation", some(("append", "append-column", "overwrite", "commit"), ("append", "overwrite")))
def test_a_worker_killed_at_its_writes(
    operation: Operation, activity: str, phase: str, cluster: Cluster, lake: Springline, tmp_path: Path
) -> None:
    key = new_key()
    table = table_of(lake, f"{operation.name}-{activity}-{phase}".replace("_", "-"), operation)
    cluster.order(activity, phase)
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(operation.do, table, key)
        assert asyncio.run(cluster.a_death()).exit_code == -signal.SIGKILL
        two_workers(cluster)
        answer = doing.result()
    check(operation, table, key, [answer.version])


def dies(child: Child) -> None:
    """Wait until a process that somebody kills is dead."""
    deadline = time.monotonic() + DEADLINE_S
    while child.exit_code is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    assert child.exit_code == -signal.SIGKILL


def after(operation: Operation, table: DeltaTable, key: str) -> Rows:
    """Append a row that the operation would change, if it has been done; return what was appended."""
    if not versions_of(table, key):
        return Counter()
    table.append(rows([operation.later], "later"))
    return Counter([(operation.later, "later")])


def check(
    operation: Operation, table: DeltaTable, key: str, answered: list[int | None], later: Rows | None = None
) -> None:
    """Check that it was done once, and that its key is answered the same for ever."""
    wanted = operation.rows + (later or Counter())
    assert rows_of(table) == wanted
    again = operation.do(table, key)
    assert [*answered, *versions_of(table, key)] == [again.version, again.version]
    assert table.explain(key)["version"] == again.version
    assert rows_of(table) == wanted
