"""A worker's health endpoint: alive as long as the event loop answers, ready between start and drain."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from entrypoints.listening import listen
from entrypoints.serving import server_of
from springline.config import PREFIX

MOST_CONNECTIONS = 50


class HealthServer:
    """Serves /healthz (the process answers) and /readyz (it takes work) on one port."""

    def __init__(self, host: str, port: int) -> None:
        # Starlette alone: a worker that was killed must be back at once, and FastAPI takes its time to import.
        app = Starlette(routes=[Route("/healthz", self._healthz), Route("/readyz", self._readyz)])
        self._server = server_of(app, most=MOST_CONNECTIONS)
        self._host, self._port = host, port
        self._task: asyncio.Task[None] | None = None
        self._state = "starting"

    def ready(self) -> None:
        """Say from now on that the process takes work."""
        self._state = "ready"

    def draining(self) -> None:
        """Say from now on that the process takes no new work."""
        self._state = "draining"

    async def __aenter__(self) -> HealthServer:
        """Start to listen. Raises as `entrypoints.listening.listen`."""
        host_variable, port_variable = f"{PREFIX}METRICS_HOST", f"{PREFIX}HEALTH_PORT"
        listener = listen(self._host, self._port, host_variable=host_variable, port_variable=port_variable)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    async def _healthz(self, _request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def _readyz(self, _request: Request) -> JSONResponse:
        return JSONResponse({"status": self._state}, status_code=200 if self._state == "ready" else 503)
