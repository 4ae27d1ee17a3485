"""The command line's calls to the HTTP API.

Not the client library's, because that one imports Arrow, which takes longer than a quick command. Retries have the same
rule in both: every write has a key or finds its own earlier effect.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self
from urllib.parse import quote, urlsplit

import httpx
import typer
from pydantic import ValidationError

from springline.cli.documents import hint
from springline.definitions.ids import problem_of_id
from springline.errors import NOT_NOW, Code, Refusal, Refused, refused, unsendable

API_VARIABLE = "SPRINGLINE_API_URL"
TOKEN_VARIABLE = "SPRINGLINE_TOKEN"
TABLES = "/api/v1/delta/tables"
LEDGER = "/api/v1/ledger"
REBUILD = "/api/v1/rebuild"
MANIFESTS = "/api/v1/manifests"
ASSETS = "/api/v1/assets"
STALENESS = "/api/v1/staleness"
RUNS = "/api/v1/runs"
SCHEDULES = "/api/v1/schedules"
SENSORS = "/api/v1/sensors"
BACKFILLS = "/api/v1/backfills"
POOLS = "/api/v1/pools"
REPAIR = "/api/v1/repair"
EXPLAIN = "/api/v1/explain"
HOLD = "/api/v1/hold"

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 90.0
"""Longer than the API itself keeps trying to commit."""
PAGE = 1_000
"""Items of a list that one call returns."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

ApiOption = Annotated[
    str | None, typer.Option("--api", metavar="URL", envvar=API_VARIABLE, help="Address of the HTTP API.")
]
TokenOption = Annotated[
    str | None, typer.Option("--token", metavar="JWT", envvar=TOKEN_VARIABLE, help="Bearer token of the workspace.")
]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="How long a call is repeated while the API is out of reach or busy, under the same key.",
    ),
]
DEFAULT_WAIT_SECONDS = 5.0


class ApiRefused(Refused):
    """A refusal that the API answered; `request_id` finds the request in the API's logs."""

    def __init__(self, refusal: Refusal, request_id: str | None) -> None:
        super().__init__(refusal)
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its JSON body, its headers and its status."""

    body: dict[str, Any]
    headers: httpx.Headers
    status: int = 200


def check_in_url(text: str, message: str, *, field: str, remedy: str) -> None:
    """Refuse with `message` what can be no part of a URL's path: nothing but dots, or with a slash."""
    if text.strip(".") == "" or "/" in text:
        raise refused(Code.INVALID_REQUEST, message, field=field, value=text, remedy=remedy)


def check_id(text: str, what: str, *, field: str, lister: str) -> None:
    """Refuse an id that can be in no URL, as the API would; `lister` is the command that shows those that there are."""
    problem = problem_of_id(text)
    if problem is not None:
        raise refused(
            Code.INVALID_REQUEST,
            f"{text!r} is no {what}: it {problem[0]}",
            field=field,
            value=text,
            remedy=f"`springline {lister}` shows them.",
        )


class Api:
    """One API and one token. Raises `Refused` (INVALID_REQUEST, MISSING_TOKEN) for unusable ones.

    `wait_s`: how long a call is repeated while there is no answer, in seconds. `again`: how the operator
    repeats the whole command by hand.
    """

    def __init__(
        self,
        url: str | None,
        token: str | None,
        *,
        wait_s: float = DEFAULT_WAIT_SECONDS,
        again: str = "run the same command again",
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = _checked_url(url)
        self._wait_s = wait_s
        self.again = again
        self._pause = pause
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {_checked_token(token)}"},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )

    def pages(
        self, *path: str, root: str, params: Mapping[str, str | float | list[str]], limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list, until it ends or has given `limit` items; at least one. Raises as `call`."""
        parameters = dict(params)
        given = 0
        while True:
            parameters["limit"] = PAGE if limit is None else min(PAGE, limit - given)
            page = self.call("GET", *path, root=root, params=parameters).body
            yield page
            given += len(page["items"])
            if page["next_cursor"] is None or (limit is not None and given >= limit):
                return
            parameters["cursor"] = page["next_cursor"]

    def latest(self, *path: str, root: str, limit: int, statuses: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return the `limit` latest items of a list, the latest first; `statuses`: of these only. Raises as `call`."""
        params: dict[str, str | float | list[str]] = {"latest": "true"}
        if statuses:
            params["status"] = list(statuses)
        return [one for page in self.pages(*path, root=root, params=params, limit=limit) for one in page["items"]]

    def call(
        self,
        method: str,
        *path: str,
        root: str = TABLES,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | float | list[str]] | None = None,
    ) -> Answer:
        """Call the API at the route `root` and the segments of `path` below it; `params` go into the query.

        Raises `ApiRefused` for a definite no, `Refused` (UNAVAILABLE) if there is no answer within the wait.
        """
        response = self._answered(method, [root, *path], body, headers, params)
        return Answer(response.json(), response.headers, response.status_code)

    def text(self, route: str, params: Mapping[str, str | float | list[str]]) -> str:
        """Return what a route answers that is no JSON; raises as `call`."""
        return self._answered("GET", [route], None, None, params).text

    def _answered(
        self,
        method: str,
        route: Sequence[str],
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str | float | list[str]] | None,
    ) -> httpx.Response:
        try:
            path = "/".join([*route[:1], *(quote(one, safe="") for one in route[1:])])
            request = self._http.build_request(method, path, json=body, headers=headers, params=params)
        except (ValueError, RecursionError) as error:
            raise unsendable(error) from error
        deadline = time.monotonic() + self._wait_s
        ceiling, told = FIRST_PAUSE_SECONDS, False
        while True:
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                failure = self._unreachable(error)
            else:
                if response.is_success:
                    return response
                failure = _refused_by(response)
                if response.status_code not in NOT_NOW:
                    raise failure
            pause = random.uniform(ceiling / 2, ceiling)
            if time.monotonic() + pause > deadline:
                raise failure
            if not told:
                hint(f"{failure.refusal.message}; trying again for {self._wait_s:g} s")
                told = True
            self._pause(pause)
            ceiling = min(ceiling * 2, LONGEST_PAUSE_SECONDS)

    def __enter__(self) -> Self:
        """Return the API itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def _unreachable(self, error: httpx.TransportError) -> Refused:
        sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        doubt = "; what was sent may have been done" if sent else ""
        return refused(
            Code.UNAVAILABLE,
            f"no answer from the API at {self.url} ({type(error).__name__}: {error}){doubt}",
            field="--api",
            value=self.url,
            remedy=f"Check that the API runs there (`springline dev` starts one) and that --api or {API_VARIABLE} "
            f"names its address; then {self.again}.",
        )


def posted(root: str, identity: str, verb: str, api: str | None, token: str | None, wait_s: float) -> dict[str, Any]:
    """Post a verb to one of the things at the route `root`, and return the answer; raises as `Api.call`."""
    with Api(api, token, wait_s=wait_s) as surface:
        return surface.call("POST", identity, verb, root=root).body


def _checked_url(url: str | None) -> str:
    if not url:
        raise refused(
            Code.INVALID_REQUEST,
            "the address of the API is not known",
            field="--api",
            value=url,
            remedy=f"Give --api URL or set {API_VARIABLE}, for example to http://127.0.0.1:8080, or keep it in a "
            "profile (`springline profile set`).",
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        # What the connection would find out: a host that no resolver can be asked for.
        httpx.URL(url).host.encode("idna")
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable:
        raise refused(
            Code.INVALID_REQUEST,
            f"{url!r} is not the address of an API",
            field="--api",
            value=url,
            remedy="Give an http:// or https:// URL with a host, for example http://127.0.0.1:8080.",
        )
    return url


def _checked_token(token: str | None) -> str:
    if not token:
        raise refused(
            Code.MISSING_TOKEN,
            "no bearer token is given",
            field="--token",
            remedy=f"Give --token or --token-file, set {TOKEN_VARIABLE}, or keep it in a profile; `springline token` "
            "makes one where the secret is known.",
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise refused(
            Code.INVALID_TOKEN,
            "the bearer token holds characters that no token has",
            field="--token",
            remedy=f"Give the token alone, without blanks, line ends or the word Bearer, or correct {TOKEN_VARIABLE}.",
        )
    return token


def _refused_by(response: httpx.Response) -> ApiRefused:
    try:
        body = response.json()
        refusal = Refusal.model_validate(body)
        request_id = body.get("requestId")
    except (ValidationError, ValueError):
        refusal = Refusal(
            code=Code.UNAVAILABLE if response.status_code in NOT_NOW else Code.INVALID_REQUEST,
            message=f"HTTP {response.status_code} without a body of this API: {response.text[:200]}",
            field="--api",
            value=str(response.request.url),
            remedy=f"Check that --api or {API_VARIABLE} is the address of a Springline API.",
        )
        request_id = None
    return ApiRefused(refusal, request_id)
