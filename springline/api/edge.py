"""Checks of every request before any other code reads it, so that one request cannot harm others
(docs/protocol.md#bounded).

The checks are the same for all routes, so that no route can forget them: length and form of method, path, query and
headers; that a body is JSON in UTF-8, not too deep, not of too many values, without NUL, lone surrogates or
numbers beyond 64 bits. The models of the routes bound single fields, with the same constants.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from urllib.parse import unquote_to_bytes

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from springline import bounds
from springline.api.answers import refusal_response
from springline.api.urls import routed_path
from springline.delta.strictjson import BadJson, check_keys
from springline.errors import Code, Refusal

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_OFF_THE_LOOP_BYTES = 64 * 1024
"""A larger body is checked on a thread, because on the event loop it would delay other requests."""
_DISCARDED_LIMITS = 4
"""Up to this many times the limit is read of a body that is too large, before the connection is closed."""
BODY_S = 60.0
"""How long a body may take to arrive."""


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}


class BoundedHead:
    """Refuses a request by its method, path, query or headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the server."""
        refusal = None
        if scope["type"] == "http":
            refusal = _refusal_of_head(scope)
            scope["path"] = routed_path(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        headers = {"Connection": "close", "Allow": ", ".join(sorted(METHODS))}
        if refusal.code is not Code.METHOD_NOT_ALLOWED:
            del headers["Allow"]
        await refusal_response(refusal, scope["state"]["request_id"], headers, path=scope["path"])(scope, receive, send)


class BoundedBody:
    """Reads the body before the route runs, and refuses one that is too large or that no route could accept.

    `limit`: its most bytes (docs/formats.md#commit-request: 5 MiB). `within_s`: how long it may take to arrive.
    """

    def __init__(self, app: ASGIApp, *, limit: int = bounds.MAX_BODY_BYTES, within_s: float = BODY_S) -> None:
        self._app = app
        self._limit = limit
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("Content-Length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > self._limit:
            # Who asks for leave to send has sent nothing yet: to read on would give it.
            asks = headers.get("Expect", "").lower() == "100-continue"
            await self._refuse(self._too_large(declared[:20]), scope, _nothing_more if asks else receive, send)
            return
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._within_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > self._limit or not message.get("more_body", False):
                        break
        except TimeoutError:
            await self._refuse(self._too_slow(), scope, _nothing_more, send)
            return
        if size > self._limit:
            more = receive if message.get("more_body", False) else _nothing_more
            await self._refuse(self._too_large(size), scope, more, send)
            return
        body: bytes | None = b"".join(chunks)
        if body and scope["method"] not in _WITHOUT_BODY:
            if len(body) > _OFF_THE_LOOP_BYTES:
                refusal = await asyncio.to_thread(refusal_of_body, body)
            else:
                refusal = refusal_of_body(body)
            if refusal is not None:
                await refusal_response(refusal, scope["state"]["request_id"], path=scope["path"])(scope, receive, send)
                return

        async def replay() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            whole, body = body, None
            return {"type": "http.request", "body": whole, "more_body": False}

        await self._app(scope, replay, send)

    def _too_large(self, size: int | str) -> Refusal:
        return Refusal(
            code=Code.PAYLOAD_TOO_LARGE,
            message=f"the body has at least {size} bytes; the limit is {self._limit}",
            field="body",
            value=int(size),
            remedy="Write fewer, larger data files, or split the write into several commits.",
        )

    def _too_slow(self) -> Refusal:
        return Refusal(
            code=Code.REQUEST_TIMEOUT,
            message=f"the body did not arrive within {self._within_s:g} s; nothing was done",
            field="body",
            remedy="Send the same request again, under the same key if it has one, over a faster connection.",
        )

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"Connection": "close"}
        await self._discard(receive)
        await refusal_response(refusal, scope["state"]["request_id"], headers, path=scope["path"])(scope, receive, send)

    async def _discard(self, receive: Receive) -> None:
        """Read and drop the rest for a while: closing the connection on a sender would lose the answer."""
        left = _DISCARDED_LIMITS * self._limit
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._within_s):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return


def refusal_of_body(body: bytes) -> Refusal | None:
    """Return why no route accepts these bytes, or None."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _unreadable(body, error)
    problem = bounds.problem_in_json(value)
    if problem is not None:
        return _refusal(problem)
    try:
        check_keys(body, value, depth=bounds.MAX_JSON_DEPTH + 1)
    except BadJson as error:
        return _bad("body", error.piece, str(error), "Give each object every key once.")
    return None


def _unreadable(body: bytes, error: orjson.JSONDecodeError) -> Refusal:
    """Return the refusal of bytes that are not JSON; it names the defect if a lenient parser can read them."""
    if "depth" in error.msg or "recursion" in error.msg.lower():
        deep = f"holds more than {bounds.MAX_JSON_DEPTH} arrays and objects inside each other"
        return _refusal(
            bounds.JsonProblem(
                "body",
                bounds.piece(body.decode(errors="replace")),
                deep,
                f"Send JSON that nests at most {bounds.MAX_JSON_DEPTH} levels.",
            )
        )
    if "surrogate" in error.msg:
        try:
            problem = bounds.problem_in_json(json.loads(body.decode()))
        except (ValueError, RecursionError):
            problem = None
        if problem is not None:
            return _refusal(problem)
    return Refusal(
        code=Code.INVALID_REQUEST,
        message=f"the body is not JSON: {error.msg}",
        field="body",
        value=f"at character {error.pos}",
        remedy="Send one JSON object in UTF-8 with the header Content-Type: application/json.",
    )


def _refusal_of_head(scope: Scope) -> Refusal | None:
    """Return why a request is refused by everything before its body; None if it is not."""
    method = scope["method"]
    if method not in METHODS:
        return Refusal(
            code=Code.METHOD_NOT_ALLOWED,
            message=f"{bounds.on_one_line(method, 40)} is no method that is known here",
            field="method",
            value=bounds.on_one_line(method, 40),
            remedy=f"Use one of {', '.join(sorted(METHODS))}.",
        )
    path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    query: bytes = scope.get("query_string", b"")
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    header_bytes = sum(len(name) + len(value) for name, value in headers)
    for field, size, most, unit in (
        ("path", len(path), bounds.MAX_URL_PATH_BYTES, "bytes"),
        ("query", len(query), bounds.MAX_QUERY_BYTES, "bytes"),
        ("query", query.count(b"&") + 1, bounds.MAX_QUERY_PARAMETERS, "parameters"),
        ("headers", len(headers), bounds.MAX_HEADERS, "headers"),
        ("headers", header_bytes, bounds.MAX_HEADER_BYTES, "bytes"),
    ):
        if size > most:
            return _bad(field, size, f"has {size} {unit}, and {most} is the most", f"Send at most {most} {unit}.")
    return _refusal_of_text("path", path, controls=True) or _refusal_of_text("query", query.replace(b"+", b" "))


def _refusal_of_text(field: str, encoded: bytes, *, controls: bool = False) -> Refusal | None:
    data = unquote_to_bytes(encoded)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return _bad(
            field,
            bounds.on_one_line(data.decode("latin-1")),
            f"is not UTF-8 at byte {error.start} once its percent-escapes are undone",
            "Write it in UTF-8, percent-encoded; half of a surrogate pair is no character.",
        )
    found = bounds.problem_of_text(text)
    if found is None and controls and any(ord(one) < 32 or one == "\x7f" for one in text):
        found = "holds a control character", "Leave it out."
    return None if found is None else _bad(field, bounds.on_one_line(text), *found)


def _refusal(problem: bounds.JsonProblem) -> Refusal:
    return _bad(problem.field, problem.value, problem.text, problem.remedy)


def _bad(field: str, value: object, text: str, remedy: str) -> Refusal:
    return Refusal(code=Code.INVALID_REQUEST, message=f"{field} {text}", field=field, value=value, remedy=remedy)
