"""Middleware of every request, before its route: an id, bounds, the bearer.

Plain ASGI, outermost first: `RequestContext`, `BoundedHead`, `Authentication`, `BoundedBody` (the bounded ones are in
`springline.api.edge`). The body of a request without a valid token is not read.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from springline.api.answers import REQUEST_ID_HEADER, internal_refusal, is_callback, refusal_response
from springline.api.auth import TokenVerifier
from springline.api.metrics import HttpMetrics
from springline.bounds import on_one_line
from springline.errors import Code, Refused, refused
from springline.runs.task_tokens import TaskClaims, TaskTokens

PROTECTED_PREFIX = "/api/"
PROTECTED_PATHS = frozenset({"/rebuild", "/report", "/internal/timers/fired"})
"""Paths outside the API's prefix that need a token, too."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_log = logging.getLogger("springline.api")


class RequestContext:
    """Gives each request an id and echoes it, counts and times the request, and answers faults of ours.

    A caller's own X-Request-Id is kept if it is at most 128 letters, digits and `._:-`.
    """

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, new_id: Callable[[], str]) -> None:
        self._app = app
        self._metrics = metrics
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else self._new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0
        # Escaped for the log: a path could otherwise end the line and forge another one.
        method, path = on_one_line(scope["method"], 40), on_one_line(scope["path"])

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            _log.exception("request %s %s %s failed", request_id, method, path)
            if status:
                raise
            await refusal_response(internal_refusal(), request_id, path=path)(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = time.perf_counter() - began
            self._metrics.record(scope["method"], route, status, seconds)
            _log.info("%s %s %s %s %.1f ms", request_id, method, path, status, seconds * 1000)


class Authentication:
    """Refuses requests without a valid token on protected paths.

    Sets `request.state.principal` to the bearer; on callbacks of workers, which have tokens of attempts,
    `request.state.attempt` to the attempt.
    """

    def __init__(self, app: ASGIApp, *, verifier: TokenVerifier, task_tokens: TaskTokens | None = None) -> None:
        self._app = app
        self._verifier = verifier
        self._task_tokens = task_tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the server."""
        if scope["type"] == "http" and is_protected(scope["path"]):
            authorization = Headers(scope=scope).get("Authorization")
            try:
                if is_callback(scope["path"]):
                    scope["state"]["attempt"] = self._attempt_of(authorization)
                else:
                    scope["state"]["principal"] = await self._verifier.verify(authorization)
            except Refused as error:
                answer = refusal_response(error.refusal, scope["state"]["request_id"], path=scope["path"])
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _attempt_of(self, authorization: str | None) -> TaskClaims:
        if self._task_tokens is None:
            raise refused(
                Code.INVALID_TOKEN,
                "this API takes no callbacks of workers: it has no secret for tokens of attempts",
                field="SPRINGLINE_TASK_SECRET",
                remedy="Have an operator set it for API and workers alike.",
            )
        return self._task_tokens.verify(authorization)


def is_protected(path: str) -> bool:
    """Say whether a path needs a token."""
    return path.startswith(PROTECTED_PREFIX) or path in PROTECTED_PATHS
