"""Stores under test: the same suite runs against every adapter, Google's over the wire."""

from __future__ import annotations

import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from springline.local.binaries import fake_gcs_server
from springline.local.ports import free_ports
from springline.paths import Scope
from springline.storage.faults import FaultyStore
from springline.storage.gcs import EMULATOR_VARIABLE, GcsStore
from springline.storage.local import LocalStore
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from tests.storage.proxy import Proxy, running_proxy

ADAPTERS = ("memory", "memory-content", "scoped", "faulty", "local", "gcs")


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[str]:
    """Run the emulator for the whole session and return its `host:port`; a machine without one fails the tests."""
    program = fake_gcs_server()
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    options = (
        f"-backend memory -scheme http -host 127.0.0.1 -port {port} "
        f"-public-host {address} -external-url http://{address} -log-level warn"
    )
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [program, *options.split()],
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_up(server, address)
            yield address
        finally:
            server.kill()
            server.wait()


def _wait_until_up(server: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert server.poll() is None, "the emulator ended at once"
        try:
            httpx.get(f"http://{address}/storage/v1/b", timeout=1.0).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("the emulator did not come up in 30 s")


@pytest.fixture
def bucket(fake_gcs: str) -> str:
    """Create a bucket of this test's own and return its name."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    httpx.post(f"http://{fake_gcs}/storage/v1/b", json={"name": name}).raise_for_status()
    return name


@pytest.fixture
def proxy(fake_gcs: str) -> Iterator[Proxy]:
    """Run a proxy in front of the emulator."""
    with running_proxy(fake_gcs) as one:
        yield one


@pytest_asyncio.fixture
async def wired(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GcsStore]:
    """Return a store whose requests go through `proxy`."""
    monkeypatch.setenv(EMULATOR_VARIABLE, proxy.url)
    store = GcsStore(bucket)
    yield store
    await store.aclose()


@pytest.fixture(params=ADAPTERS)
def opener(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], ObjectStore]:
    """Return a function that opens the store under test; all that it opens see the same objects."""
    memory = MemoryStore(content_tokens=request.param == "memory-content")
    if request.param == "local":
        return lambda: LocalStore(tmp_path / "store")
    if request.param == "gcs":
        bucket = request.getfixturevalue("bucket")
        monkeypatch.setenv(EMULATOR_VARIABLE, f"http://{request.getfixturevalue('fake_gcs')}")
        return lambda: GcsStore(bucket, "some/prefix")
    if request.param == "faulty":
        return lambda: FaultyStore(memory)
    if request.param == "scoped":
        return lambda: ScopedStore(memory, Scope("acme", "prod"))
    assert request.param in ("memory", "memory-content"), f"{request.param} has no branch here"
    return lambda: memory


@pytest_asyncio.fixture
async def store(opener: Callable[[], ObjectStore]) -> AsyncIterator[ObjectStore]:
    """Return the store under test."""
    one = opener()
    yield one
    await one.aclose()
