"""The HTTP surface over any store, with the real protocol behind it and no Temporal; also on a port of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import uvicorn

from springline.api.app import create_app
from springline.api.auth import SharedSecret, TokenVerifier
from springline.api.location import table_location
from springline.api.ports import Deps
from springline.commit.coalescer import CommitCoalescer
from springline.definitions.urls import AllowedUrls
from springline.local.ports import LOOPBACK, free_ports
from springline.paths import Scope
from springline.runs.task_tokens import TaskTokens
from springline.storage.port import ObjectStore
from tests.support.local_ledger import LocalLedger
from tests.support.local_rebuilds import LocalRebuilds
from tests.support.local_repairs import LocalRepairs
from tests.support.local_runs import LocalRuns
from tests.support.local_sensors import LocalSensors
from tests.support.local_sequencer import LocalSequencer, LocalTables, new_name

SECRET = "a secret of the tests, 32 bytes or more"
TASK_TOKENS = TaskTokens(SECRET)
WORKERS = "https://workers.example.com/tasks"
"""Below this URL, attempts may be posted."""
ACME = Scope("acme", "prod")
RIVAL = Scope("rival", "prod")


def local_deps(
    store: ObjectStore, sequencer: LocalSequencer, coalescer: CommitCoalescer, *, url: str = "memory://lake"
) -> Deps:
    """Return the dependencies of an API over a store, which clients reach by `url`."""
    ledger = LocalLedger(store)
    runs = LocalRuns(store, ledger)
    return Deps(
        store=store,
        tables=LocalTables(store),
        commits=coalescer,
        sequencers=sequencer,
        ledger=ledger,
        rebuilds=LocalRebuilds(store),
        runs=runs,
        repairs=LocalRepairs(store, runs),
        sensors=LocalSensors(store, ledger),
        verifier=TokenVerifier(SharedSecret(SECRET)),
        location=lambda scope, root: table_location(url, scope, root),
        new_name=new_name,
        task_tokens=TASK_TOKENS,
        http_workers=AllowedUrls([WORKERS]),
    )


@contextmanager
def serving(
    store: ObjectStore,
    *,
    url: str = "memory://lake",
    rebuilds: LocalRebuilds | None = None,
    repairs: LocalRepairs | None = None,
    calls: list[str] | None = None,
) -> Iterator[str]:
    """Serve the HTTP surface on a thread; give its address. `calls` gets the method and path of every request."""
    (port,) = free_ports(1)
    ready = threading.Event()
    stop: list[Callable[[], None]] = []

    async def serve() -> None:
        sequencer = LocalSequencer(store)
        coalescer = CommitCoalescer(sequencer, deadline_s=5.0)
        deps = local_deps(store, sequencer, coalescer, url=url)
        app = create_app(replace(deps, rebuilds=rebuilds or deps.rebuilds, repairs=repairs or deps.repairs))

        async def noted(scope, receive, send):  # type: ignore[no-untyped-def]
            if calls is not None and scope["type"] == "http":
                calls.append(f"{scope['method']} {scope['path']}")
            await app(scope, receive, send)

        server = _Server(uvicorn.Config(noted, host=LOOPBACK, port=port, log_level="error", lifespan="off"), ready)
        loop = asyncio.get_running_loop()

        def end() -> None:
            loop.call_soon_threadsafe(setattr, server, "should_exit", True)

        stop.append(end)
        await server.serve()
        await coalescer.aclose()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(120)
    yield f"http://{LOOPBACK}:{port}"
    stop[0]()
    thread.join(30)
    assert not thread.is_alive()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()
