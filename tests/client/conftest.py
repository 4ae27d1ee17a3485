"""The Python client against the real HTTP surface on a port of its own, over a folder, without Temporal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from springline.api.app import create_app
from springline.api.tokens import make_token
from springline.client import Springline
from springline.commit.coalescer import Coalescer
from springline.local.ports import LOOPBACK, free_ports
from springline.storage.local import LocalStore
from springline.storage.port import ObjectStore
from tests.api.conftest import ACME
from tests.support.local_api import SECRET, local_deps
from tests.support.local_sequencer import LocalSequencer


@dataclass(frozen=True)
class Folder:
    """An API over a folder: where it is, and what was asked of it."""

    url: str
    token: str
    root: Path
    store: ObjectStore
    calls: list[str]

    def connect(self) -> Springline:
        return Springline(self.url, self.token, deadline_s=20)

    def data_files(self) -> set[Path]:
        return {path for path in self.root.rglob("*.parquet") if "_delta_log" not in path.parts}


@contextmanager
def serving(store: ObjectStore, url: str, root: Path) -> Iterator[Folder]:
    """Serve the HTTP surface over a store, which clients reach by `url`."""
    (port,) = free_ports(1)
    ready = threading.Event()
    stop: list[Callable[[], None]] = []
    calls: list[str] = []
    work = _serve(store, url, port, ready, stop, calls)
    thread = threading.Thread(target=lambda: asyncio.run(work), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield Folder(f"http://{LOOPBACK}:{port}", make_token(SECRET, ACME, subject="tester"), root, store, calls)
    stop[0]()
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def _folder_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    root = tmp_path_factory.mktemp("lake")
    with serving(LocalStore(root, fsync=False), f"file://{root}", root) as folder:
        yield folder


@pytest.fixture
def folder(_folder_session: Folder) -> Folder:
    """One API for all tests of a process: each makes tables of its own."""
    _folder_session.calls.clear()
    return _folder_session


@pytest.fixture
def lake(folder: Folder) -> Iterator[Springline]:
    with folder.connect() as made:
        yield made


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        self._ready.set()


async def _serve(
    store: ObjectStore,
    url: str,
    port: int,
    ready: threading.Event,
    stop: list[Callable[[], None]],
    calls: list[str],
) -> None:
    sequencer = LocalSequencer(store)
    coalescer = Coalescer(sequencer, deadline_s=5.0)
    app = create_app(local_deps(store, sequencer, coalescer, url=url))

    async def noted(scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["type"] == "http":
            calls.append(f"{scope['method']} {scope['path']}")
        await app(scope, receive, send)

    server = _Server(uvicorn.Config(noted, host=LOOPBACK, port=port, log_level="error", lifespan="off"), ready)
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.call_soon_threadsafe(setattr, server, "should_exit", True)

    stop.append(end)
    await server.serve()
    await coalescer.aclose()
