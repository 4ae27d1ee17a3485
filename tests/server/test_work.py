"""`springline work` as a process of its own, against a real Temporal server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from entrypoints.connection import connect
from springline import names
from springline.control.runs.messages import AttemptEnded, AttemptOrder, AttemptsStarted
from springline.exits import EXIT_BAD_INPUT, EXIT_DONE, EXIT_TRY_AGAIN
from springline.local.processes import module_command
from tests.server.cluster import Cluster
from tests.work.conftest import gone, order
from tests.work.test_attempts import begun

ROOT = Path(__file__).parents[2]
FLOW = """
import os, time
from pathlib import Path
from springline.sdk import Context, asset

HERE = Path(__file__).parent

@asset
def quick(context: Context) -> None:
    print("quickly")
    context.add_metadata(pid=os.getpid())

@asset(queue="gpu")
def far() -> None: ...

@asset
def crowded(context: Context) -> None:
    place = HERE / f"place-{context.attempt}"
    place.touch()
    deadline = time.monotonic() + 120
    while not (HERE / "met").exists() and time.monotonic() < deadline:
        if len(list(HERE.glob("place-*"))) == 2:
            (HERE / "met").touch()
    time.sleep(0.1)
    if len(list(HERE.glob("place-*"))) > 2:
        (HERE / "too-many").touch()
    place.unlink()

@asset
def sleeps() -> None:
    (HERE / "began").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    finally:
        (HERE / "cleaned").touch()
"""


@workflow.defn(name="TestRun")
class OneAttempt:
    """Stands for a run: makes one attempt, and notes what it hears of it."""

    def __init__(self) -> None:
        self.started: list[str] = []

    @workflow.signal(name=names.ATTEMPTS_STARTED_SIGNAL)
    def attempts_started(self, started: AttemptsStarted) -> None:
        self.started += [one.attempt_id for one in started.attempts]

    @workflow.update
    async def heard(self) -> list[str]:
        await workflow.wait_condition(lambda: bool(self.started))
        return self.started

    @workflow.run
    async def run(self, wanted: AttemptOrder, queue: str | None) -> AttemptEnded:
        result: AttemptEnded = await workflow.execute_activity(
            names.RUN_ATTEMPT,
            wanted,
            task_queue=names.attempt_queue(wanted.tenant, wanted.workspace, wanted.location, queue),
            result_type=AttemptEnded,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_attempts=1),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        return result


def environment_of(cluster: Cluster, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "TEMPORAL_ADDRESS": cluster.stack.temporal_address,
        "SPRINGLINE_STORE_URL": cluster.store_folder.as_uri(),
        "SPRINGLINE_TENANT": "acme",
        "SPRINGLINE_WORKSPACE": "dev",
        **more,
    }


@contextmanager
def working(
    folder: Path, environment: Mapping[str, str], *arguments: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run `springline work` on the flow in `folder`; its log goes to a file."""
    (folder / "flow.py").write_text(FLOW)
    command = module_command("springline.cli", "work", "flow.py", *arguments)
    with process_of(command, folder, environment) as working:
        yield working


@contextmanager
def process_of(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command in `folder`; its log goes to a file beside that."""
    log = folder.with_name(f"{folder.name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


async def run_of(
    client: Client, wanted: AttemptOrder, queue: str | None = None
) -> WorkflowHandle[OneAttempt, AttemptEnded]:
    return await client.start_workflow(
        OneAttempt.run,
        args=[wanted, queue],
        id=names.run_workflow_id(wanted.tenant, wanted.workspace, wanted.run_id),
        task_queue="test-runs",
    )


def runs(client: Client) -> Worker:
    return Worker(client, task_queue="test-runs", workflows=[OneAttempt], workflow_runner=UnsandboxedWorkflowRunner())


async def test_attempts_of_a_file_are_made_until_a_signal(cluster: Cluster, tmp_path: Path) -> None:
    client = await connect(address=cluster.stack.temporal_address)
    with working(tmp_path, environment_of(cluster), "--concurrency", "2") as (process, log):
        async with runs(client):
            quick = await run_of(client, order("quick", run_id="run_q"))
            far = await run_of(client, order("far", run_id="run_f"), "gpu")
            ends = await asyncio.gather(quick.result(), far.result())
            assert [one.outcome for one in ends] == ["succeeded"] * 2
            assert ends[0].metadata["pid"] != process.pid
            assert str(process.pid) in ends[0].worker_id
            # The run hears of a start while the attempt is under way, and its cancellation reaches the function.
            sleeps = await run_of(client, order("sleeps", run_id="run_s"))
            await begun(tmp_path)
            assert await sleeps.execute_update(OneAttempt.heard) == ["a-sleeps-1"]
            await sleeps.cancel()
            end = await asyncio.wait_for(sleeps.result(), 60)
            assert end.outcome == "cancelled"
            assert (tmp_path / "cleaned").exists()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == EXIT_DONE
    said = log.read_text()
    assert "nothing of code location flow is deployed in acme/dev: deploy the file" in said
    assert "springline.attempt: run_q quick#1: quickly" in said
    assert "springline-attempts/acme/dev/flow, springline-attempts/acme/dev/flow/gpu" in said


async def test_the_image_of_a_worker_needs_what_its_compose_file_gives(cluster: Cluster, tmp_path: Path) -> None:
    """Its command and the variables of its service are enough, by a user without a home."""
    dockerfile = (ROOT / "ops" / "pipelines" / "Dockerfile").read_text()
    command = json.loads(dockerfile.rpartition("CMD ")[2])
    (service,) = yaml.safe_load((ROOT / "ops" / "pipelines.yml").read_text())["services"].values()
    known = environment_of(cluster, SPRINGLINE_SHUTDOWN_GRACE="2") | {
        "TEMPORAL_NAMESPACE": "default",
        "STORAGE_EMULATOR_HOST": "",
        "SPRINGLINE_API_URL": cluster.stack.api_url,
        "SPRINGLINE_TOKEN": cluster.stack.token(),
    }
    environment = {name: known[name] for name in service["environment"]} | {"HOME": "/nowhere", "PATH": "/usr/bin:/bin"}
    (tmp_path / command[-1]).write_text(FLOW)
    client = await connect(address=cluster.stack.temporal_address)
    with process_of(module_command("springline.cli", *command[1:]), tmp_path, environment) as (process, log):
        async with runs(client):
            wanted = order("quick", run_id="run_image").model_copy(update={"location": "pipeline"})
            assert (await (await run_of(client, wanted)).result()).outcome == "succeeded", log.read_text()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == EXIT_DONE, log.read_text()


async def test_a_worker_that_goes_down_lets_others_have_its_attempts(cluster: Cluster, tmp_path: Path) -> None:
    client = await connect(address=cluster.stack.temporal_address)
    environment = environment_of(cluster, SPRINGLINE_SHUTDOWN_GRACE="0.2")
    with working(tmp_path, environment, "--queue", "default", "--location", "other") as (process, _log):
        async with runs(client):
            sleeps = await run_of(client, order("sleeps", run_id="run_w", location="other"))
            pid = await begun(tmp_path)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 20) == EXIT_DONE
            with pytest.raises(WorkflowFailureError) as failed:
                await sleeps.result()
    assert isinstance(failed.value.cause, ActivityError)
    assert isinstance(failed.value.cause.cause, ApplicationError)
    assert failed.value.cause.cause.type == names.WORKER_STOPPED
    assert await gone(pid)
    assert (tmp_path / "cleaned").exists()


async def test_workers_of_several_queues_take_no_more_than_they_can_make(cluster: Cluster, tmp_path: Path) -> None:
    client = await connect(address=cluster.stack.temporal_address)
    with working(tmp_path, environment_of(cluster), "--concurrency", "3", "--location", "crowd") as (_process, log):
        async with runs(client):
            # Since it has had an attempt, the other queue holds the slot for its next one.
            first = await run_of(client, order("far", run_id="run_first", location="crowd"), "gpu")
            assert (await first.result()).outcome == "succeeded"
            made = [
                await run_of(client, order("crowded", run_id=f"run_c{number}", attempt=number, location="crowd"))
                for number in range(6)
            ]
            ends = await asyncio.gather(*(one.result() for one in made))
            far = await run_of(client, order("far", run_id="run_far", location="crowd"), "gpu")
            ends.append(await asyncio.wait_for(far.result(), 60))
    assert [one.outcome for one in ends] == ["succeeded"] * 7
    assert (tmp_path / "met").exists(), "two at once: one slot is the other queue's"
    assert not (tmp_path / "too-many").exists()
    assert "3 attempts at once" in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "said"),
    [
        (["--queue", "gqu"], {}, EXIT_BAD_INPUT, "no asset of the file is on the queue 'gqu'. Did you mean gpu?"),
        ([], {"SPRINGLINE_TENANT": "A B"}, EXIT_BAD_INPUT, "use one or more lower-case letters"),
        ([], {"SPRINGLINE_STORE_URL": "ftp://x"}, EXIT_BAD_INPUT, "it must start with one of file://"),
        ([], {"TEMPORAL_ADDRESS": "127.0.0.1:1"}, EXIT_TRY_AGAIN, "Temporal does not answer at 127.0.0.1:1"),
    ],
)
def test_a_worker_that_cannot_work_says_why(
    arguments: list[str], variables: dict[str, str], code: int, said: str, cluster: Cluster, tmp_path: Path
) -> None:
    with working(tmp_path, environment_of(cluster, **variables), *arguments) as (process, log):
        assert process.wait(120) == code
    assert said in log.read_text()
    assert "Traceback" not in log.read_text()
