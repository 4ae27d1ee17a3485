"""Connections that do nothing, or too little, end; however many there are, others come in."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from entrypoints.listening import listen
from entrypoints.serving import Connection, server_of
from springline.api.edge import BoundedBody
from springline.local.ports import LOOPBACK

LARGE = 64 << 20
GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
MOST_S = 15.0
"""A server that waits for its usual limits closes nothing for a minute."""
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Impatient(Connection):
    idle_s = 0.5
    head_s = 0.5
    answer_s = 0.5
    looks_s = 0.05


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """An application with a short answer, a very long one, and one that takes a while."""
    if scope["path"] == "/slow":
        await asyncio.sleep(1.5)
    body = b"x" * LARGE if scope["path"] == "/large" else b"ok"
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served(
    app: Any = answers, *, most: int = 100, connection: type[Connection] = Impatient
) -> AsyncIterator[Callable[[], Awaitable[Pair]]]:
    """Serve, and yield what opens a connection."""
    with listen(LOOPBACK, 0, host_variable="HOST", port_variable="PORT") as listener:
        port = listener.getsockname()[1]
        server = server_of(app, most=most, grace_s=1, connection=connection)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        opened: list[asyncio.StreamWriter] = []

        async def connect() -> Pair:
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            opened.append(writer)
            return reader, writer

        # The socket listens already: who connects now waits for the server.
        try:
            yield connect
        finally:
            for writer in opened:
                writer.close()
            server.should_exit = True
            await task


async def seconds_to_end(reader: asyncio.StreamReader) -> tuple[float, bytes]:
    """Read until the other side closes; return how long that took and what it said."""
    began = time.monotonic()
    async with asyncio.timeout(60):
        try:
            said = await reader.read()
        except ConnectionError:
            said = b"(reset)"
    return time.monotonic() - began, said


def refusal_of(said: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = said.partition(b"\r\n\r\n")
    found: dict[str, Any] = json.loads(body)
    return int(head.split()[1]), found


async def test_forty_idle_connections_are_closed() -> None:
    async with served() as connect:
        opened = [await connect() for _ in range(40)]
        ends = await asyncio.gather(*(seconds_to_end(reader) for reader, _ in opened))
    assert all(0.3 < seconds < MOST_S and said == b"" for seconds, said in ends)


async def test_a_connection_that_had_its_answer_is_closed_when_it_is_idle() -> None:
    async with served() as connect:
        reader, writer = await connect()
        for _ in range(3):
            writer.write(GET)
            await reader.readuntil(b"ok")
            await asyncio.sleep(0.3)
        seconds, said = await seconds_to_end(reader)
    assert (seconds < MOST_S, said) == (True, b"")


async def test_a_head_that_comes_byte_by_byte_is_refused_in_time() -> None:
    async with served() as connect:
        reader, writer = await connect()

        async def drip() -> None:
            writer.write(b"GET / HTTP/1.1\r\n")
            while not writer.is_closing():
                writer.write(b"X-A: b\r\n")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        seconds, said = await seconds_to_end(reader)
        dripping.cancel()
    assert 0.3 < seconds < MOST_S
    if said != b"(reset)":
        status, body = refusal_of(said)
        assert (status, body["code"], body["field"]) == (408, "REQUEST_TIMEOUT", "headers")


async def test_half_a_head_is_refused_in_time() -> None:
    async with served() as connect:
        reader, writer = await connect()
        writer.write(GET[:10])
        _, said = await seconds_to_end(reader)
    status, body = refusal_of(said)
    assert (status, body["code"], body["field"]) == (408, "REQUEST_TIMEOUT", "headers")
    assert body["remedy"]
    assert body["requestId"]


async def test_what_is_no_http_is_answered_as_everything_else() -> None:
    async with served() as connect:
        for sent in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
            reader, writer = await connect()
            writer.write(sent)
            _, said = await seconds_to_end(reader)
            status, body = refusal_of(said)
            assert (status, body["code"], body["field"]) == (400, "INVALID_REQUEST", "request")


async def test_a_client_that_does_not_read_its_answer_is_let_go() -> None:
    async with served() as connect:
        reader, writer = await connect()
        writer.write(GET.replace(b"/x", b"/large"))
        await asyncio.sleep(2)
        _, said = await seconds_to_end(reader)
    assert len(said) < LARGE


async def test_a_request_under_way_is_not_hurried() -> None:
    async with served() as connect:
        reader, writer = await connect()
        writer.write(GET.replace(b"/x", b"/slow"))
        async with asyncio.timeout(10):
            assert b"200 OK" in await reader.readuntil(b"ok")


async def test_beyond_the_cap_the_longest_idle_one_makes_way() -> None:
    class Patient(Impatient):
        idle_s = 60.0

    async with served(most=5, connection=Patient) as connect:
        busy_reader, busy_writer = await connect()
        busy_writer.write(GET.replace(b"/x", b"/slow"))
        await asyncio.sleep(0.05)
        idle = [await connect() for _ in range(20)]
        await asyncio.sleep(0.1)
        assert [reader.at_eof() for reader, _ in idle] == [True] * 16 + [False] * 4
        reader, writer = await connect()
        writer.write(GET)
        assert b"200 OK" in await reader.readuntil(b"ok")
        assert b"200 OK" in await busy_reader.readuntil(b"ok"), "a request under way was cut off for an idle one"


async def test_a_body_that_does_not_arrive_is_refused_in_time() -> None:
    asked = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1

    async def drip() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "state": {"request_id": "one"}}
    await BoundedBody(app, within_s=0.2)(scope, drip, send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["code"] == "REQUEST_TIMEOUT"
    assert asked == 0


async def test_who_asks_for_leave_to_send_too_much_is_told_at_once() -> None:
    """curl asks so for every large body. Given leave for 30 MB, it met a closed connection and lost the answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["request_id"] = "one"
        await BoundedBody(answers)(scope, receive, send)

    head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\nExpect: 100-continue\r\n\r\n"
    async with served(app) as connect:
        reader, writer = await connect()
        writer.write(head)
        _, said = await seconds_to_end(reader)
    status, body = refusal_of(said)
    assert (status, body["code"], body["field"]) == (413, "PAYLOAD_TOO_LARGE", "body")


async def test_a_connection_accepted_while_the_server_stops_does_not_hold_it_up() -> None:
    class Late(Connection):
        """As one that uvicorn does not know yet when it closes those that wait."""

        known = False

        def shutdown(self) -> None:
            if self.known:
                super().shutdown()
            self.known = True

    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await answers(scope, receive, send)

    with listen(LOOPBACK, 0, host_variable="HOST", port_variable="PORT") as listener:
        server = server_of(app, most=10, grace_s=60, connection=Late)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        waiting, _ = await asyncio.open_connection(LOOPBACK, listener.getsockname()[1])
        asked, ask = await asyncio.open_connection(LOOPBACK, listener.getsockname()[1])
        ask.write(GET.replace(b"/x", b"/slow"))
        await begun.wait()
        server.should_exit = True
        async with asyncio.timeout(10):
            assert await waiting.read() == b""
            assert (await asked.read()).endswith(b"ok"), "a request under way is answered"
            await task
