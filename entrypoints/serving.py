"""HTTP servers of our processes: how long a connection may wait, and how many there may be.

uvicorn bounds only the pause between two requests of a connection, and counts any byte as progress. Here every
connection has a time limit for each wait: for its first byte, for the head of a request, and for its reading
of an answer (the time limit of a body is in `springline.api.edge`). If there are too many, the server closes the one
that has waited longest for a request, so that idle connections cannot keep others out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, ClassVar

import h11
import uvicorn
from ulid import ULID
from uvicorn.protocols.http.h11_impl import H11Protocol

from springline.api.answers import refusal_response
from springline.errors import Code, Refusal

IDLE_S = 30.0
"""How long a connection may stand without a byte of a request, from its beginning or its last answer."""
HEAD_S = 10.0
"""How long the head of a request may take from its first byte."""
ANSWER_S = 60.0
"""How long a client may take to read an answer."""
_LOOKS_S = 1.0
_LATE_S = 0.1


class Connection(H11Protocol):
    """A connection with time limits, one of a bounded number. Subclasses change the bounds."""

    idle_s: ClassVar[float] = IDLE_S
    head_s: ClassVar[float] = HEAD_S
    answer_s: ClassVar[float] = ANSWER_S
    looks_s: ClassVar[float] = _LOOKS_S
    most: ClassVar[int] = 500

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle_since = self.loop.time()
        self._head_since: float | None = None
        self._unsent_since: float | None = None
        self._look: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether no request of this connection is under way."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def begins(self) -> bool:
        """Whether the head of a request is arriving."""
        return self._head_since is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; if there are too many connections, end the one that has waited longest."""
        super().connection_made(transport)
        self._look = self.loop.call_later(self.looks_s, self._look_at_it)
        others: list[Connection] = [one for one in self.connections if isinstance(one, Connection)]
        alive = [one for one in others if not one.transport.is_closing()]
        if len(alive) > self.most:
            min((one for one in alive if one.waits), key=lambda one: one._idle_since).end()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if self.waits and self._head_since is None:
            self._head_since = self.loop.time()
        super().data_received(data)
        if not self.waits:
            self._head_since = None

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._idle_since = self.loop.time()
        self._head_since = None
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def end(self) -> None:
        """Close the connection, and drop bytes that its client has not read yet."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP in the form of every other error."""
        self._refuse(
            Refusal(
                code=Code.INVALID_REQUEST,
                message="what was sent is no HTTP/1.1 request",
                field="request",
                remedy="Send requests as RFC 9112 has them; TLS and HTTP/2 are for a proxy in front.",
            )
        )

    def _look_at_it(self) -> None:
        """End the connection if it has used up its time, else look again later."""
        now = self.loop.time()
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            self._unsent_since = None
        elif self._unsent_since is None:
            self._unsent_since = now
        if self._unsent_since is not None and now - self._unsent_since > self.answer_s:
            self.transport.abort()
            return
        if self.waits and not self.transport.is_closing():
            if self._head_since is not None and now - self._head_since > self.head_s:
                self._refuse(
                    Refusal(
                        code=Code.REQUEST_TIMEOUT,
                        message=f"the head of the request was not complete within {self.head_s:g} s",
                        field="headers",
                        remedy="Send the request line and its headers at once.",
                    )
                )
            elif self._head_since is None and now - self._idle_since > self.idle_s:
                self.end()
        self._look = self.loop.call_later(self.looks_s, self._look_at_it)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, because there is no request, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = refusal_response(refusal, str(ULID()), {"Connection": "close"})
            head = h11.Response(status_code=response.status_code, headers=response.raw_headers)
            for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """A server that ignores signals: the code that started it decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the requests under way, and close all connections that wait for one.

        uvicorn closes those that it knows when it stops. A connection that was accepted at that moment would stand
        until the grace time is over.
        """
        closing = asyncio.create_task(self._close_waiting())
        try:
            await super().shutdown(sockets)
        finally:
            closing.cancel()

    async def _close_waiting(self) -> None:
        while True:
            await asyncio.sleep(_LATE_S)
            for one in list(self.server_state.connections):
                if isinstance(one, Connection) and not one.transport.is_closing() and not one.begins:
                    one.shutdown()


def server_of(
    app: Any, *, most: int, grace_s: float | None = None, connection: type[Connection] = Connection
) -> Server:
    """Return a server of `app` for at most `most` connections; `grace_s`: how long it may finish open requests."""
    config = uvicorn.Config(
        app,
        http=type(connection.__name__, (connection,), {"most": most}),
        ws="none",
        timeout_keep_alive=int(IDLE_S),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=None if grace_s is None else max(1, int(grace_s)),
    )
    return Server(config)
