"""Posting attempts to workers over HTTP: only to URLs that an operator allows, with a token for the one attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from springline.bounds import on_one_line
from springline.control.runs.envelope import envelope_of
from springline.control.runs.messages import AttemptOrder, Posted
from springline.control.runs.remote import DEFAULT_HTTP_TIMEOUT_MS
from springline.definitions.urls import AllowedUrls
from springline.errors import SpringlineError
from springline.ledger.identifiers import callback_task_id
from springline.paths import Scope
from springline.runs.task_tokens import AFTER_TIMEOUT_S, TaskClaims, TaskTokens

if TYPE_CHECKING:
    import httpx

CONNECT_S: Final = 5.0
ANSWER_S: Final = 20.0
"""How long a worker may take to answer that it has taken an attempt; it makes it behind its answer."""
WITHIN_S: Final = CONNECT_S + ANSWER_S
"""How long a whole answer may take: a worker that says one word now and then would otherwise hold the try for ever."""
MOST_ANSWER_BYTES: Final = 2_000
"""So much of an answer is read, to tell what was wrong."""
_TAKEN: Final = frozenset({*range(200, 300), 409})
"""409: the worker has it already."""
_NOT_NOW: Final = frozenset({408, 425, 429, *range(500, 600)})


class WorkerNotReady(SpringlineError):
    """A worker cannot be reached, or does not take attempts now: to be tried again."""


class AttemptPoster:
    """Posts attempts.

    Args:
        allowed: the URLs to which anything may be posted.
        tokens: makes the tokens of attempts; None if this deployment has no secret for them.
        callback_url: where workers reach the API; None if that is not configured.
        now_s: the clock, in Unix seconds.
        transport: reaches workers; by default the network.
    """

    def __init__(
        self,
        allowed: AllowedUrls,
        tokens: TaskTokens | None,
        callback_url: str | None,
        now_s: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._allowed = allowed
        self._tokens = tokens
        self._callback_url = callback_url
        self._now_s = now_s
        self._transport = transport

    async def post(self, order: AttemptOrder) -> Posted:
        """Post an attempt, and return whether its worker has taken it, or refuses it for good.

        Raises `WorkerNotReady` if it may be taken later. Safe to repeat: workers know an attempt by its id.
        """
        assert order.url is not None
        if self._tokens is None or self._callback_url is None:
            lacking = "TASK_SECRET" if self._tokens is None else "CALLBACK_URL"
            return Posted(refused=f"workers over HTTP are not configured: SPRINGLINE_{lacking} is not set")
        problem = self._allowed.problem(order.url)
        if problem is not None:
            return Posted(refused=f"{order.url} {problem[0]}. {problem[1]}")
        now_s = int(self._now_s())
        expires_s = now_s + (order.timeout_ms or DEFAULT_HTTP_TIMEOUT_MS) // 1_000 + AFTER_TIMEOUT_S
        claims = TaskClaims(
            Scope(order.tenant, order.workspace),
            callback_task_id(order.run_id, order.task_key),
            order.run_id,
            order.attempt,
            order.attempt_id,
        )
        token = self._tokens.make(claims, now_s=now_s, expires_s=expires_s)
        envelope = envelope_of(order, self._callback_url, token, expires_s * 1_000)
        status, said = await self._send(order.url, envelope)
        if status in _TAKEN:
            return Posted()
        told = f"{order.url} answered {status}{': ' if said else ''}{said}"
        if status in _NOT_NOW:
            raise WorkerNotReady(told)
        return Posted(refused=f"its worker does not take it: {told}")

    async def _send(self, url: str, envelope: dict[str, object]) -> tuple[int, str]:
        """Send an envelope; return the status and the beginning of the answer. Redirects and proxies are not followed.

        Raises `WorkerNotReady` if there is no answer.
        """
        import httpx  # noqa: PLC0415 - loads rich and more, and most workers post nothing

        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        try:
            async with (
                asyncio.timeout(WITHIN_S),
                httpx.AsyncClient(
                    timeout=timeout, follow_redirects=False, trust_env=False, transport=self._transport
                ) as client,
                client.stream("POST", url, json=envelope, headers={"Accept-Encoding": "identity"}) as answer,
            ):
                said = b""
                packed = answer.headers.get("Content-Encoding", "identity")
                if packed != "identity":
                    # It was to be sent plain: a few bytes may unpack to more than the memory.
                    said = f"its words are packed by {packed}".encode()
                elif answer.status_code not in _TAKEN:
                    async for piece in answer.aiter_bytes(MOST_ANSWER_BYTES):
                        said += piece
                        if len(said) >= MOST_ANSWER_BYTES:
                            break
                return answer.status_code, on_one_line(said[:MOST_ANSWER_BYTES].decode(errors="replace").strip(), 300)
        except TimeoutError as error:
            raise WorkerNotReady(f"{url} gives no whole answer within {WITHIN_S:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            told = str(error) or type(error).__name__
            raise WorkerNotReady(f"{url} does not answer: {on_one_line(told)}") from error
