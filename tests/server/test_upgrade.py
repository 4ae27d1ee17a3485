"""A change of the workflows goes out under load: by versions nobody notices, without them nobody hangs.

See docs/protocol.md#deploy.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import uuid_utils
from temporalio.client import WorkflowExecutionStatus

from entrypoints.doctor import temporal_findings
from entrypoints.temporal_repair import TemporalRepaired
from springline import names
from springline.cli.findings import FindingState
from springline.config import PREFIX
from springline.ledger.request import AppendRequest, NewEvent
from springline.local.processes import Child
from springline.ulids import new_ulid
from tests.control.payloads import schedule
from tests.server.appends import Appends
from tests.server.cluster import Cluster, Ledger, until
from tests.support.sequencer_world import NOW_MS

NEWER = "tests.server.newer_worker"
WRITERS, APPENDERS = 4, 2
PAUSE_S = 0.1
"""Callers come again after this long: enough of them at any moment, and time for workers to start beside them."""
LONGEST_PAUSE_S = 9.5
"""Work that waits for a worker that left waits for 10 s: far more than a machine that other tests share adds."""
LONGEST_ANSWER_S = 30.0


def build(name: str, **more: str) -> dict[str, str]:
    return {f"{PREFIX}BUILD_ID": name, **{f"{PREFIX}{key}": value for key, value in more.items()}}


class Load:
    """Writers of one table and appenders of one ledger, each asking again soon after it is answered."""

    def __init__(self, ledger: Ledger, appends: Appends) -> None:
        self._ledger = ledger
        self._appends = appends
        self._stop = asyncio.Event()
        self.waits: list[tuple[str, float, float]] = []
        """Who asked, when the answer came, and how many seconds it took."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        commits, appends = self._ledger.caller(), self._appends.caller()

        async def commit() -> None:
            await self._ledger.commit(commits, await self._ledger.request())

        async def append() -> None:
            await self._appends.append(appends, self._appends.request())

        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._ask("commit", commit))
            for _ in range(APPENDERS):
                group.create_task(self._ask("append", append))
            try:
                yield
            finally:
                self._stop.set()

    async def _ask(self, what: str, ask: Callable[[], Awaitable[None]]) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            await ask()
            self.waits.append((what, time.monotonic(), time.monotonic() - began))
            await asyncio.sleep(PAUSE_S)

    def longest_wait(self) -> float:
        return max(seconds for _, _, seconds in self.waits)

    def longest_pause(self) -> float:
        """Return the longest time in which no commit, or no append, was answered."""
        pauses = []
        for what in ("commit", "append"):
            ends = sorted(at for of, at, _ in self.waits if of == what)
            pauses += [after - before for before, after in itertools.pairwise(ends)]
        return max(pauses)

    def told(self) -> str:
        """Return what came of it, as the end of a test run prints it."""
        wait, pause = 1000 * self.longest_wait(), 1000 * self.longest_pause()
        return f"{len(self.waits)} answers, {wait:.0f} ms longest wait, {pause:.0f} ms longest pause"

    async def goes_on(self, answers: int = 20) -> None:
        """Wait until so many more of each kind are answered."""
        before = len(self.waits)

        async def answered() -> bool:
            since = [what for what, _, _ in self.waits[before:]]
            return since.count("commit") >= answers and since.count("append") >= answers

        await until(answered, "callers are answered")


async def replaced(cluster: Cluster, old: Child, *module: str, environment: dict[str, str]) -> Child:
    """Start a worker, and stop an old one when the new one is ready."""
    new = cluster.fork_worker(*module, environment=environment)
    await cluster.ready(new)
    code = await asyncio.to_thread(old.stop, 30)
    cluster.workers.remove(old)
    assert code == 0, old.log_tail()
    return new


async def test_workers_of_a_new_build_replace_the_old_ones_and_nobody_notices(
    own_cluster: Cluster, record_property: Callable[[str, object], None]
) -> None:
    ledger, appends = await own_cluster.open(), await Appends.open(own_cluster)
    old = [own_cluster.fork_worker(environment=build("1.0")) for _ in range(2)]
    await own_cluster.ready(*old)
    load = Load(ledger, appends)
    looks_after = await looked_after(appends)
    async with load.running():
        await load.goes_on()
        assert {await build_of(appends, one) for one in looks_after} == {"1.0"}
        for worker in old:
            await replaced(own_cluster, worker, NEWER, environment=build("1.1"))
            await load.goes_on()
        for one in looks_after:
            await until(partial(is_of, appends, one, "1.1"), f"{one} has a successor of the new build")
    record_property("explored", f"a rolling upgrade under load: {load.told()}")
    await ledger.check()
    await appends.check()
    assert load.longest_pause() < LONGEST_PAUSE_S
    assert load.longest_wait() < LONGEST_ANSWER_S
    await appends.aclose()
    await ledger.aclose()


async def looked_after(appends: Appends) -> list[str]:
    """Give a workspace a schedule, and return the ids of the workflows that look after it."""
    yearly = schedule(cron_expression="0 0 1 1 *", code_version=new_ulid(None, NOW_MS, 1))
    request = AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=yearly)])
    outcome = await appends.caller().append(appends.scope, request)
    assert outcome.refusal is None, outcome
    appends.note(request, outcome)
    wakes = TemporalRepaired(appends.client)
    await wakes.wake_repair(appends.scope)
    await wakes.wake_evaluator(appends.scope)
    of_workspace = appends.scope.tenant, appends.scope.workspace
    return [names.repair_workflow_id(*of_workspace), names.schedule_evaluator_id(*of_workspace)]


async def build_of(appends: Appends, workflow_id: str) -> str | None:
    """Return of which build a running workflow is, None if it does not run."""
    described = await appends.client.get_workflow_handle(workflow_id).describe()
    if described.status is not WorkflowExecutionStatus.RUNNING:
        return None
    version: str = described.raw_info.versioning_info.deployment_version.build_id
    return version


async def is_of(appends: Appends, workflow_id: str, build_id: str) -> bool:
    return await build_of(appends, workflow_id) == build_id


async def found(name: str, state: FindingState) -> str:
    """Return what doctor says of a check that it finds in a state, None if it does not."""
    (said, *_) = [one.what for one in await temporal_findings() if one.name == name and one.state is state] or [""]
    return said


async def test_without_versions_nobody_hangs_and_doctor_names_the_mistake(
    own_cluster: Cluster, at_the_cluster: None, record_property: Callable[[str, object], None]
) -> None:
    ledger, appends = await own_cluster.open(), await Appends.open(own_cluster)
    old = [own_cluster.fork_worker(environment=build("1.0", VERSIONING="off")) for _ in range(2)]
    await own_cluster.ready(*old)
    assert await found("worker versions", FindingState.OK)
    load = Load(ledger, appends)
    async with load.running():
        await load.goes_on()
        await replaced(own_cluster, old[0], NEWER, environment=build("1.1", VERSIONING="off"))
        await load.goes_on()
        said = await found("worker versions", FindingState.WRONG)
        assert "1.0" in said
        assert "1.1" in said
        # All at once: whatever the old build had begun, the new one has to go on with.
        old[1].kill()
        own_cluster.workers.remove(old[1])
        await load.goes_on()
        said = await found("workflow runs", FindingState.WRONG)
        assert "does not fit their history" in said
    record_property("explored", f"an upgrade without versions: {load.told()}")
    await ledger.check()
    await appends.check()
    assert load.longest_wait() < LONGEST_ANSWER_S
    await appends.aclose()
    await ledger.aclose()


async def test_a_build_that_replaces_another_at_once_takes_over_its_runs(
    own_cluster: Cluster, at_the_cluster: None, record_property: Callable[[str, object], None]
) -> None:
    ledger, appends = await own_cluster.open(), await Appends.open(own_cluster)
    old = [own_cluster.fork_worker(environment=build("1.0")) for _ in range(2)]
    await own_cluster.ready(*old)
    load = Load(ledger, appends)
    async with load.running():
        await load.goes_on()
        new = own_cluster.fork_worker(NEWER, environment=build("1.1"))
        for worker in old:
            worker.kill()
            own_cluster.workers.remove(worker)
        killed = time.monotonic()
        await own_cluster.ready(new)
        came_back = time.monotonic() - killed
        await load.goes_on()
        # Back again, with the old build: it was current before, and takes over when the new one is gone.
        new.kill()
        own_cluster.workers.remove(new)
        back = own_cluster.fork_worker(environment=build("1.0"))
        await own_cluster.ready(back)
        await load.goes_on()
    told = f"{load.told()}, {1000 * came_back:.0f} ms without any worker"
    record_property("explored", f"all workers replaced at once, and back: {told}")
    await ledger.check()
    await appends.check()
    await appends.aclose()
    await ledger.aclose()


@pytest.fixture
def at_the_cluster(own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have doctor look at the test's own server."""
    (tmp_path / "none.toml").touch()
    for name in ("TEMPORAL_API_KEY", "TEMPORAL_PROFILE", "TEMPORAL_TLS", "TEMPORAL_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", own_cluster.stack.temporal_address)
