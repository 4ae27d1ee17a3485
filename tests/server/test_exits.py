"""Start and exit: what stands in the way is one clear line and the right exit code; no process aborts at its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from springline.local.ports import LOOPBACK, free_ports
from tests.server.cluster import Cluster
from tests.support.forks import ForkedChild

WORKER = ("-m", "worker")
API = ("-m", "entrypoints.api")
CLI = ("-m", "springline.cli")
SECRET = "s" * 32
DONE, BAD_INPUT, TRY_AGAIN = 0, 2, 4
AT_ONCE = 2


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which everything but Temporal is there."""
    folder = tmp_path_factory.mktemp("exits")
    (folder / "none.toml").touch()
    metrics, health, nowhere = free_ports(3)
    root = Path(__file__).parents[2]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "SPRINGLINE_"))}
    return clean | {
        "PYTHONPATH": str(root),
        "TEMPORAL_CONFIG_FILE": str(folder / "none.toml"),
        "TEMPORAL_ADDRESS": f"{LOOPBACK}:{nowhere}",
        "SPRINGLINE_STORE_URL": folder.as_uri(),
        "SPRINGLINE_JWT_SECRET": SECRET,
        "SPRINGLINE_API_PORT": "0",
        "SPRINGLINE_METRICS_PORT": str(metrics),
        "SPRINGLINE_HEALTH_PORT": str(health),
    }


@pytest.fixture(scope="module")
def taken() -> Iterator[str]:
    """A port on which somebody listens."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield str(server.getsockname()[1])


def ended_forked(module: str, environment: Mapping[str, str], folder: Path) -> tuple[int | None, str]:
    """Run a module to its end as `ended` does a program, forked; return its exit code and all it printed."""
    child = ForkedChild(module, module, [], env=environment, cwd=folder, log=folder / "log")
    child.start()
    code = child.wait(120)
    return code, child.log.read_text()


def ended(program: tuple[str, ...], environment: Mapping[str, str], **changed: str) -> tuple[int, str]:
    """Run a program to its end; return its exit code and what it printed on standard error."""
    done = subprocess.run(
        [sys.executable, *program],
        env=dict(environment) | changed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("module", "changed", "code", "says"),
    [
        ("worker", {"SPRINGLINE_METRICS_PORT": "TAKEN"}, TRY_AGAIN, "SPRINGLINE_METRICS_PORT"),
        ("worker", {"SPRINGLINE_HEALTH_PORT": "TAKEN"}, TRY_AGAIN, "SPRINGLINE_HEALTH_PORT"),
        ("worker", {}, TRY_AGAIN, "TEMPORAL_ADDRESS"),
        ("worker", {"TEMPORAL_ADDRESS": "nonsense"}, BAD_INPUT, "TEMPORAL_ADDRESS"),
        ("worker", {"SPRINGLINE_STORE_URL": "ftp://x"}, BAD_INPUT, "SPRINGLINE_STORE_URL"),
        ("worker", {"SPRINGLINE_METRICS_PORT": "many"}, BAD_INPUT, "SPRINGLINE_METRICS_PORT"),
        ("worker", {"SPRINGLINE_VERSIONING": "perhaps"}, BAD_INPUT, "SPRINGLINE_VERSIONING"),
        ("worker", {"SPRINGLINE_TEMPORAL_HOOKS": "no_such_module:x"}, BAD_INPUT, "SPRINGLINE_TEMPORAL_HOOKS"),
        ("entrypoints.api", {"SPRINGLINE_API_PORT": "TAKEN"}, TRY_AGAIN, "SPRINGLINE_API_PORT"),
        ("entrypoints.api", {"SPRINGLINE_API_HOST": "192.0.2.1"}, BAD_INPUT, "SPRINGLINE_API_HOST"),
        ("entrypoints.api", {"SPRINGLINE_JWT_SECRET": "short"}, BAD_INPUT, "SPRINGLINE_JWT_SECRET"),
        ("entrypoints.api", {"TEMPORAL_ADDRESS": "http://x"}, BAD_INPUT, "TEMPORAL_ADDRESS"),
    ],
)
def test_what_stands_in_the_way_is_one_line_and_an_exit_code(
    module: str,
    changed: dict[str, str],
    code: int,
    says: str,
    environment: Mapping[str, str],
    taken: str,
    tmp_path: Path,
) -> None:
    changed = {name: taken if value == "TAKEN" else value for name, value in changed.items()}
    found, said = ended_forked(module, {**environment, **changed}, tmp_path)
    lines = said.strip().splitlines()
    assert (found, len(lines)) == (code, 1), said
    assert says in lines[0]


def test_a_queue_that_is_none_is_bad_input(environment: Mapping[str, str]) -> None:
    code, said = ended((*WORKER, "--queues", "nonsense"), environment)
    assert code == BAD_INPUT
    assert "springline-commit" in said


def test_a_stack_over_a_store_that_cannot_be_is_bad_input(environment: Mapping[str, str], tmp_path: Path) -> None:
    code, said = ended((*CLI, "dev", "--store", "ftp://x", "--folder", str(tmp_path / "dev")), environment)
    assert code == BAD_INPUT
    assert "SPRINGLINE_STORE_URL" in said
    assert not (tmp_path / "dev").exists()


@pytest.mark.parametrize(
    ("changed", "options", "code", "says"),
    [
        ({"SPRINGLINE_TEMPORAL_CLI": "/nowhere/temporal"}, (), BAD_INPUT, "SPRINGLINE_TEMPORAL_CLI"),
        ({}, ("--folder", "/etc/passwd"), BAD_INPUT, "/etc/passwd"),
        ({}, ("--tenant", "a/b"), BAD_INPUT, "tenant"),
        ({"SPRINGLINE_TEMPORAL_CLI": "/bin/false"}, (), TRY_AGAIN, "temporal ended with code 1"),
    ],
    ids=["variable", "folder", "tenant", "temporal down"],
)
def test_a_stack_that_cannot_start_says_why_in_one_document(
    changed: dict[str, str],
    options: tuple[str, ...],
    code: int,
    says: str,
    environment: Mapping[str, str],
    tmp_path: Path,
) -> None:
    found, said = ended((*CLI, "dev", "--folder", str(tmp_path / "dev"), *options), environment, **changed)
    assert found == code, said
    refusal = json.loads(said[said.index("{") :])
    assert says in refusal["message"]
    assert refusal["remedy"]
    assert all(line.startswith("springline: ") for line in said[: said.index("{")].splitlines())


def test_an_api_that_is_told_to_end_is_done(environment: Mapping[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, *API], env=dict(environment), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "serving" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == DONE


@pytest.mark.timeout(900)
@pytest.mark.parametrize("doctors", [4, pytest.param(50, marks=pytest.mark.full)])
async def test_no_doctor_aborts_at_its_end(
    doctors: int, own_cluster: Cluster, record_property: Callable[[str, object], None]
) -> None:
    worker = own_cluster.start_worker()
    await own_cluster.ready(worker)
    at_the_cluster = own_cluster.stack.child_environment()
    places = asyncio.Semaphore(AT_ONCE)

    async def doctor() -> tuple[int, str]:
        async with places:
            return await asyncio.to_thread(ended, (*CLI, "doctor"), at_the_cluster)

    began = time.monotonic()
    results = await asyncio.gather(*(doctor() for _ in range(doctors)))
    assert {code for code, _ in results} == {DONE}, next(said for code, said in results if code != DONE)
    seconds = time.monotonic() - began
    record_property("explored", f"doctors that left without an abort: {doctors} runs, {seconds:.0f} s")
