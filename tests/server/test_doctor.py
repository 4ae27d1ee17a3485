"""`springline doctor` against real Temporal servers: out of reach, bare, and put right by what it says to run."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from entrypoints.doctor import search_attribute_findings, temporal_findings
from springline import names
from springline.cli.findings import Finding, FindingState, exit_code
from springline.local.binaries import temporal_cli
from springline.local.ports import LOOPBACK, free_ports

START_SECONDS = 60.0


@pytest.fixture(scope="module")
def bare_server() -> Iterator[str]:
    """Run a development server that nobody has prepared for us; return its address."""
    program = temporal_cli()
    port, ui, metrics, http = free_ports(4)
    address = f"{LOOPBACK}:{port}"
    command = [program, "server", "start-dev", "--headless", "--ip", LOOPBACK, "--log-level", "error"]
    ports = ["--port", port, "--ui-port", ui, "--metrics-port", metrics, "--http-port", http]
    with _running([str(part) for part in [*command, *ports]]) as server:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(address):
            assert server.poll() is None, "the server ended at once"
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.1)
        yield address


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _healthy(address: str) -> bool:
    command = [str(temporal_cli()), "operator", "namespace", "describe", "default", "--address", address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Keep the configuration of the person who runs the tests out of them."""
    for name in ("TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_PROFILE", "TEMPORAL_TLS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "temporal.toml").touch()
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))
    return monkeypatch


def run_remedy(finding: Finding) -> None:
    """Run the commands that a remedy puts between backticks, as an operator would copy them."""
    assert finding.remedy is not None
    for command in finding.remedy.split("`")[1::2]:
        program, *arguments = shlex.split(command)
        assert program == "temporal", command
        done = subprocess.run([temporal_cli(), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def states(findings: list[Finding]) -> dict[str, FindingState]:
    return {finding.name: finding.state for finding in findings}


async def until(expected: dict[str, FindingState]) -> list[Finding]:
    """Look again until the findings hold what is expected: the server takes a moment to take note of changes."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        findings = await temporal_findings()
        if states(findings).items() >= expected.items() or time.monotonic() > deadline:
            return findings


async def test_a_server_out_of_reach_means_try_again(environment: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    environment.setenv("TEMPORAL_ADDRESS", f"{LOOPBACK}:{port}")
    findings = await temporal_findings()
    assert exit_code(findings) == 4
    assert states(findings) == {
        "temporal": FindingState.UNREACHABLE,
        "temporal namespace": FindingState.SKIPPED,
        "temporal search attributes": FindingState.SKIPPED,
        "temporal pollers": FindingState.SKIPPED,
        "worker versions": FindingState.SKIPPED,
        "workers' store": FindingState.SKIPPED,
        "workers' settings": FindingState.SKIPPED,
        "workflow runs": FindingState.SKIPPED,
        "pipeline runs": FindingState.SKIPPED,
    }
    assert f"temporal operator cluster health --address {LOOPBACK}:{port}" in (findings[0].remedy or "")


async def test_a_configuration_that_cannot_be_read_is_wrong(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "temporal.toml").write_text("this is no toml [")
    findings = await temporal_findings()
    assert exit_code(findings) == 2
    assert findings[0].state is FindingState.WRONG


async def test_what_it_says_to_run_puts_a_bare_server_right(bare_server: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TEMPORAL_ADDRESS", bare_server)
    environment.setenv("TEMPORAL_NAMESPACE", "lake")
    findings = await temporal_findings()
    assert exit_code(findings) == 2
    assert states(findings)["temporal namespace"] is FindingState.WRONG
    run_remedy(findings[1])

    missing = {f"search attribute {name}": FindingState.WRONG for name in names.SEARCH_ATTRIBUTES}
    findings = await until({"temporal namespace": FindingState.OK} | missing)
    assert states(findings) == {
        "temporal": FindingState.OK,
        "temporal namespace": FindingState.OK,
        **missing,
        **{f"temporal pollers {queue}": FindingState.UNREACHABLE for queue in names.ALL_QUEUES},
        "worker versions": FindingState.OK,
        "workflow runs": FindingState.OK,
        "pipeline runs": FindingState.OK,
    }
    assert exit_code(findings) == 2
    for finding in findings:
        if finding.name in missing:
            run_remedy(finding)

    findings = await until({"temporal search attributes": FindingState.OK})
    assert states(findings)["temporal search attributes"] is FindingState.OK
    # Only workers lack now, and for those one waits or starts them.
    assert exit_code(findings) == 4
    (commits,) = (one for one in findings if one.name == f"temporal pollers {names.COMMIT_QUEUE}")
    assert "worker.py --queues springline-commit" in (commits.remedy or "")


def test_an_attribute_of_another_type_is_wrong() -> None:
    types = {"Keyword": 2, "Double": 4}
    found = {name: types[kind] for name, kind in names.SEARCH_ATTRIBUTES.items()}
    (fine,) = search_attribute_findings(found, "host:7233", "lake")
    assert fine.state is FindingState.OK
    found |= {names.SEARCH_TABLE: 3}
    (finding,) = search_attribute_findings(found, "host:7233", "lake")
    assert finding.name == f"search attribute {names.SEARCH_TABLE}"
    assert "of type Int, not Keyword" in finding.what
    remove, create = (finding.remedy or "").split("`")[1::2]
    at = "--address host:7233 --namespace lake"
    assert remove == f"temporal operator search-attribute remove {at} --name {names.SEARCH_TABLE} --yes"
    assert create == f"temporal operator search-attribute create {at} --name {names.SEARCH_TABLE} --type Keyword"
