"""The servers of these tests, a client that identifies nobody's machine, and a bench for each test.

Commits, ledger, tables and rebuilds have the time-skipping test server. Runs and evaluators have the development
server: they set alarms that news may cut short at any moment, and a run that cancels a timer which fired while its
task was with the worker is stuck for good on the other (temporalio/sdk-java#3088).

`SPRINGLINE_MAX_CACHED_WORKFLOWS=0` runs the suite with a replay at every workflow task.
`SPRINGLINE_SHAPES=only` leaves out the tests whose histories are like those of others (`shapes.py`), `others` the rest.
`SPRINGLINE_RECORD_HISTORIES` names a folder that gets the history of every run (`record_histories.py`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from inspect import iscoroutinefunction as is_coroutine
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.workflow import NondeterminismError

import workflows.commit as commit_module
import workflows.ledger as ledger_module
import workflows.run as run_module
import workflows.run_shards as shards_module
from entrypoints import temporal_runs
from entrypoints.connection import NO_HOOKS
from springline import names
from springline.local.binaries import temporal_cli as find_temporal_cli
from springline.local.binaries import test_server as find_test_server
from springline.local.devserver import NAMESPACE, dev_server_settings
from springline.names import SEARCH_ATTRIBUTES
from tests.workflows.bench import Bench
from tests.workflows.faults import Faults
from tests.workflows.http_bench import HttpBench
from tests.workflows.ledger_bench import LedgerBench
from tests.workflows.rebuild_bench import RebuildBench
from tests.workflows.runs import WorkflowBench, scrubbed
from tests.workflows.runs_bench import RunsBench
from tests.workflows.shapes import scenario_of_test, scenarios_of_every_shape
from workflows.failures import ENDS_THE_RUN

IDENTITY = "springline-test"
HERE = Path(__file__).parent
LEDGER_HISTORIES = f"{names.LEDGER_WORKFLOW}--"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run this folder's tests on one loop: the server and its client live on it."""
    shapes = os.environ.get("SPRINGLINE_SHAPES")
    if shapes:
        chosen = scenarios_of_every_shape()
        mine = [item for item in items if HERE in item.path.parents]
        left_out = [item for item in mine if (scenario_of_test(item.name) in chosen) != (shapes == "only")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if HERE in item.path.parents and isinstance(item, pytest.Function) and is_coroutine(item.obj):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def test_server_program() -> Path:
    return find_test_server()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def environment(test_server_program: Path) -> AsyncIterator[WorkflowEnvironment]:
    async with serving(test_server_program) as environment:
        yield environment


@pytest_asyncio.fixture(loop_scope="session")
async def own_environment(test_server_program: Path) -> AsyncIterator[WorkflowEnvironment]:
    """A server for one test that skips time: after lost attempts and timers given up, this server skips no more."""
    async with serving(test_server_program) as environment:
        yield environment


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_time() -> AsyncIterator[WorkflowEnvironment]:
    """The development server, set as users have it; nothing outlives it."""
    async with await WorkflowEnvironment.start_local(
        namespace=NAMESPACE,
        data_converter=NO_HOOKS.data_converter,
        identity=IDENTITY,
        dev_server_existing_path=str(find_temporal_cli()),
        dev_server_log_level="error",
        dev_server_extra_args=dev_server_settings(),
        dev_server_startup_timeout=timedelta(seconds=60),
    ) as environment:
        yield environment


@asynccontextmanager
async def serving(program: Path) -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=NO_HOOKS.data_converter,
        identity=IDENTITY,
        test_server_existing_path=str(program),
        test_server_startup_timeout=timedelta(seconds=60),
    ) as environment:
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=environment.client.namespace,
                search_attributes={
                    name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}")
                    for name, kind in SEARCH_ATTRIBUTES.items()
                },
            )
        )
        yield environment


PATIENCE = timedelta(seconds=1)
"""Runs wait for callers no longer than a test needs to send what it has at hand, and longer than a task takes on a
loaded machine: this server leaves a run stuck for good that cancels a timer which fired while its task was with the
worker (temporalio/sdk-java#3088)."""
PATIENCE_WITHOUT_CACHE = timedelta(seconds=3)
"""Longer than a task takes that is replayed from the start."""
LONG_PATIENCE = timedelta(seconds=30)
"""For tests whose runs have long histories, or outlast what the test does between its requests."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_callers(monkeypatch, PATIENCE if max_cached_workflows() else PATIENCE_WITHOUT_CACHE)


@pytest.fixture
def long_patience(patience: None, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_callers(monkeypatch, LONG_PATIENCE)


def wait_for_callers(monkeypatch: pytest.MonkeyPatch, patience: timedelta) -> None:
    """Have runs wait so long for callers to come back."""
    for name in ("LEAST_PATIENCE", "MOST_PATIENCE"):
        for module in (commit_module, ledger_module):
            monkeypatch.setattr(module, name, patience)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of six tasks are large, shards take five orders, and a history is long after fifty events."""
    monkeypatch.setattr(temporal_runs, "SHARDS_FROM", 6)
    monkeypatch.setattr(run_module, "DRAIN_EVENTS", 50)
    monkeypatch.setattr(shards_module, "MOST_ORDERS", 5)
    monkeypatch.setattr(shards_module, "MOST_TOGETHER", 3)
    monkeypatch.setattr(shards_module, "ASKS_AFTER_MS", 1_000)


@pytest.fixture
def strict_replay() -> Iterator[None]:
    """Have code that does not fit a history stop a replay: where it fails the run, the SDK's replayer never ends."""
    ENDS_THE_RUN.remove(NondeterminismError)
    yield
    ENDS_THE_RUN.append(NondeterminismError)


@pytest.fixture
def faults() -> Iterator[Faults]:
    faults = Faults()
    yield faults
    assert faults.unused == [], "a fault that never happened"


@pytest_asyncio.fixture(loop_scope="session")
async def bench(
    environment: WorkflowEnvironment, faults: Faults, request: pytest.FixtureRequest
) -> AsyncIterator[Bench]:
    bench = Bench(faulty_client(environment, faults), faults, max_cached_workflows())
    await bench.open()
    async with kept(bench, request):
        yield bench


@pytest_asyncio.fixture(loop_scope="session")
async def ledger(
    environment: WorkflowEnvironment, faults: Faults, request: pytest.FixtureRequest
) -> AsyncIterator[LedgerBench]:
    ledger = LedgerBench(faulty_client(environment, faults), faults, max_cached_workflows())
    await ledger.open()
    async with kept(ledger, request, LEDGER_HISTORIES):
        yield ledger


@pytest_asyncio.fixture(loop_scope="session")
async def own_ledger(
    own_environment: WorkflowEnvironment, faults: Faults, request: pytest.FixtureRequest
) -> AsyncIterator[LedgerBench]:
    ledger = LedgerBench(faulty_client(own_environment, faults), faults, max_cached_workflows())
    await ledger.open()
    async with kept(ledger, request, LEDGER_HISTORIES):
        yield ledger


@pytest_asyncio.fixture(loop_scope="session")
async def rebuilds(
    environment: WorkflowEnvironment, faults: Faults, request: pytest.FixtureRequest
) -> AsyncIterator[RebuildBench]:
    rebuilds = RebuildBench(faulty_client(environment, faults), faults, max_cached_workflows())
    await rebuilds.open()
    async with kept(rebuilds, request, LEDGER_HISTORIES):
        yield rebuilds
        await rebuilds.note_rebuilds()


@pytest_asyncio.fixture(loop_scope="session")
async def runs(
    real_time: WorkflowEnvironment, faults: Faults, request: pytest.FixtureRequest
) -> AsyncIterator[RunsBench]:
    runs = RunsBench(faulty_client(real_time, faults), faults, max_cached_workflows())
    await runs.open()
    async with kept(runs, request, LEDGER_HISTORIES):
        yield runs
        await runs.note_histories()


@pytest_asyncio.fixture(loop_scope="session")
async def http(
    real_time: WorkflowEnvironment, faults: Faults, request: pytest.FixtureRequest
) -> AsyncIterator[HttpBench]:
    http = HttpBench(faulty_client(real_time, faults), faults, max_cached_workflows())
    await http.open()
    async with kept(http, request, LEDGER_HISTORIES):
        yield http
        await http.note_histories()


def faulty_client(environment: WorkflowEnvironment, faults: Faults) -> Client:
    """Return a client whose workers' activities have faults."""
    config = environment.client.config()
    config["interceptors"] = [*config["interceptors"], faults]
    return Client(**config)


def max_cached_workflows() -> int:
    return int(os.environ.get("SPRINGLINE_MAX_CACHED_WORKFLOWS", "1000"))


@asynccontextmanager
async def kept(bench: WorkflowBench, request: pytest.FixtureRequest, prefix: str = "") -> AsyncIterator[None]:
    """Run a test, save the histories of its runs if that is asked for, and leave nothing running."""
    try:
        yield
        folder = os.environ.get("SPRINGLINE_RECORD_HISTORIES")
        if folder and request.node.get_closest_marker("not_recorded") is None:
            await record(bench, Path(folder), request.node.name, prefix)
    finally:
        await bench.end()


async def record(bench: WorkflowBench, folder: Path, test: str, prefix: str) -> None:
    """Save the histories of a test's runs under its name."""
    name = prefix + scenario_of_test(test)
    for number, run_id in enumerate(bench.run_ids, start=1):
        file = folder / f"{name}--{number}.json"
        file.write_text(scrubbed(await bench.history(run_id)) + "\n")
    for number, history in enumerate(bench.other_histories, start=1):
        kind = history.events[0].workflow_execution_started_event_attributes.workflow_type.name
        file = folder / f"{kind}--{name.removeprefix(prefix)}--{number}.json"
        file.write_text(scrubbed(history) + "\n")
