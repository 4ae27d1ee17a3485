"""Calls to the HTTP API: a refusal is an exception, a passing fault is retried with jitter under the same key."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from springline.errors import NOT_NOW, Code, Refusal, Refused, SpringlineError, not_json, refused, unsendable

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 3.0
PAGE = 1_000
"""Things of one page of a list, unless the caller says otherwise."""

_LONE = re.compile("[\ud800-\udfff]")


def segment(name: str, field: str) -> str:
    """Return a name as one segment of a URL's path.

    Raises `Refused` (INVALID_REQUEST), naming `field`, for what no URL can carry: no text, and nothing but dots.
    """
    problem = None
    if not isinstance(name, str):
        problem = f"is a {type(name).__name__} and no text"
    elif not name.strip("."):
        problem = "has nothing but dots" if name else "is empty"
    elif _LONE.search(name):
        problem = "holds half of a surrogate pair, which is no character"
    if problem is not None:
        raise refused(
            Code.INVALID_REQUEST,
            f"{field}: {name!r} {problem}",
            field=field,
            value=name,
            remedy=f"Give {field} as the lists of the lake show it.",
        )
    return quote(name, safe="")


class Unavailable(SpringlineError):
    """The API gave no answer until the deadline; the request may have been done. Repeat it under the same key."""


class ApiClient:
    """One connection pool to one API with one token.

    `deadline_s`: how long a call is retried, in seconds, if there is no answer or it is "not now" (429,
    502, 503, 504). Every call of this API may be repeated: reads, and writes under a key.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        deadline_s: float = 120.0,
        timeout_s: float = 70.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._url = url
        self._connect: Callable[[], httpx.Client] = lambda: httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(timeout_s, connect=5.0),
            transport=transport,
        )
        self._process = os.getpid()
        self._connections = self._connect()

    @property
    def _http(self) -> httpx.Client:
        """Return the connections of this process, which never uses those of the parent that forked it."""
        if self._process != os.getpid():
            self._process, self._connections = os.getpid(), self._connect()
        return self._connections

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the JSON answer of one call; `params` go into the query, lists as repeated parameters.

        Raises `Refused` for a definite no, `Unavailable` if the deadline passed without an answer.
        """
        answer: dict[str, Any] = self._answered(method, path, body, headers, params).json()
        return answer

    def pages(self, path: str, **filters: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list, each fetched when it is asked for. Filters that are None are left out.

        Raises as `call`.
        """
        parameters = {"limit": PAGE} | {name: value for name, value in filters.items() if value is not None}
        while True:
            page = self.call("GET", path, params=parameters)
            yield page
            if page["next_cursor"] is None:
                return
            parameters["cursor"] = page["next_cursor"]

    def items(self, path: str, **filters: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of a list; as `pages`."""
        for page in self.pages(path, **filters):
            yield from page["items"]

    def text(self, path: str, params: Mapping[str, Any]) -> str:
        """Return what a route answers that is no JSON; raises as `call`."""
        return self._answered("GET", path, None, None, params).text

    def _answered(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        params: Mapping[str, Any] | None,
    ) -> httpx.Response:
        deadline = time.monotonic() + self._deadline_s
        wait = FIRST_WAIT_S
        while True:
            try:
                request = self._http.build_request(method, path, json=body, headers=headers, params=params)
            except (ValueError, RecursionError) as error:
                raise unsendable(error) from error
            except TypeError as error:
                raise not_json(error, body) from error
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                problem, asked = f"{type(error).__name__}: {error}", 0.0
            else:
                if response.is_success:
                    return response
                if response.status_code not in NOT_NOW:
                    raise Refused(_refusal(response))
                problem = f"HTTP {response.status_code}: {_refusal(response).message}"
                asked = _retry_after(response)
            pause = max(asked, random.uniform(wait / 2, wait))
            if time.monotonic() + pause > deadline:
                raise Unavailable(f"no answer from {self._url} within {self._deadline_s:g} s; last: {problem}")
            time.sleep(pause)
            wait = min(wait * 2, LONGEST_WAIT_S)

    def close(self) -> None:
        """Close the connections of this process."""
        if self._process == os.getpid():
            self._connections.close()


def _refusal(response: httpx.Response) -> Refusal:
    try:
        return Refusal.model_validate(response.json())
    except (ValidationError, ValueError):
        return Refusal(
            code=Code.INTERNAL,
            message=f"HTTP {response.status_code} without a known body: {response.text[:200]}",
            field="url",
            value=str(response.request.url),
            remedy="Check that the address is that of a Springline API.",
        )


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(float(response.headers.get("Retry-After", 0)), LONGEST_WAIT_S)
    except ValueError:
        return 0.0
