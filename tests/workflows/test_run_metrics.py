"""What operators can see of runs: every figure, as a worker gives it out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.runtime import MetricBuffer, MetricBufferDurationFormat, Runtime, TelemetryConfig
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from entrypoints.connection import NO_HOOKS
from springline import names
from springline.control import repair as rules
from springline.control.runs.messages import AttemptEnded, AttemptOrder
from tests.support.definitions import asset
from tests.workflows.conftest import IDENTITY, max_cached_workflows
from tests.workflows.faults import Faults
from tests.workflows.runs import until
from tests.workflows.runs_bench import RunsBench, failed, succeeded

pytestmark = [pytest.mark.usefixtures("long_patience"), pytest.mark.not_recorded]


class MeteredBench(RunsBench):
    """A bench whose workers' metrics are kept."""

    metrics: MetricBuffer

    def seen(self) -> dict[tuple[str, str], float]:
        """Return sums by metric and label: those of runs and repairs, counted since the last call."""
        found: dict[tuple[str, str], float] = {}
        for update in self.metrics.retrieve_updates():
            labels = dict(update.attributes)
            for label in ("state", "outcome"):
                if update.metric.name.startswith(("springline_run", "springline_repair")) and label in labels:
                    key = update.metric.name, str(labels[label])
                    found[key] = found.get(key, 0) + update.value
            if update.metric.name in (names.METRIC_LAUNCH_SECONDS, names.METRIC_ATTEMPT_WAIT_SECONDS):
                found[update.metric.name, ""] = update.value
            if update.metric.name == names.METRIC_REQUESTS_WAITING:
                assert labels["workspace"] == self.scope.workspace
                found[update.metric.name, ""] = update.value
        return found


@pytest_asyncio.fixture(loop_scope="session")
async def recorded(environment: WorkflowEnvironment, faults: Faults) -> AsyncIterator[MeteredBench]:
    buffer = MetricBuffer(100_000, duration_format=MetricBufferDurationFormat.SECONDS)
    client = await Client.connect(
        environment.client.service_client.config.target_host,
        data_converter=NO_HOOKS.data_converter,
        identity=IDENTITY,
        interceptors=[faults],
        runtime=Runtime(telemetry=TelemetryConfig(metrics=buffer)),
    )
    bench = MeteredBench(client, faults, max_cached_workflows())
    bench.metrics = buffer
    await bench.open()
    yield bench
    await bench.end()


async def test_every_metric_of_runs_is_recorded(recorded: MeteredBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "SETTLED_MS", 0)

    async def act(order: AttemptOrder) -> AttemptEnded:
        if order.attempt == 1:
            raise RuntimeError("the worker is gone")
        await recorded.say_started(order)
        return failed() if order.attempt == 2 else succeeded()

    await recorded.deploy(asset("raw", retries=1, retry_delay_ms=10), asset("clean", "raw"))
    recorded.acts["raw"] = act
    ended = await recorded.run_ended(await recorded.launch("k", "raw", "clean"))
    assert ended.state == "SUCCEEDED"
    await recorded.launch("gone", "nothing")
    await recorded.starts.wake_launcher(recorded.scope, [], looks=True)
    seen: dict[tuple[str, str], float] = {}

    async def all_are_seen() -> bool:
        seen.update({key: value + (seen.get(key, 0) if key[1] else 0) for key, value in recorded.seen().items()})
        return (names.METRIC_RUNS, "REFUSED") in seen and (names.METRIC_REQUESTS_WAITING, "") in seen

    await until(all_are_seen, "the requests are launched, and the launcher has looked at everything")
    for state in ("STARTED", "SUCCEEDED", "REFUSED"):
        assert seen[names.METRIC_RUNS, state] == 1, state
    assert seen[names.METRIC_ATTEMPTS, "lost"] == 1
    assert seen[names.METRIC_ATTEMPTS, "failed"] == 1
    assert seen[names.METRIC_ATTEMPTS, "succeeded"] == 2
    assert seen[names.METRIC_LAUNCH_SECONDS, ""] >= 0
    assert seen[names.METRIC_ATTEMPT_WAIT_SECONDS, ""] >= 0
    assert seen[names.METRIC_REQUESTS_WAITING, ""] == 0


async def test_repairs_are_counted_by_kind(recorded: MeteredBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "SETTLED_MS", 0)
    await recorded.deploy(asset("raw", queue="nobody-polls"))
    run_id = await recorded.launch("k", "raw")

    async def is_there() -> bool:
        with contextlib.suppress(RPCError):
            return bool((await recorded.doing(run_id)).running)
        return False

    await until(is_there, "the run's workflow is there")
    await recorded.run_handle(run_id).terminate("by hand")
    await recorded.repair()
    assert recorded.seen()[names.METRIC_REPAIRS, "made"] == 1
