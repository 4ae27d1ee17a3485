"""URLs at which assets are made over HTTP, and which of them an operator allows.

A URL comes from whoever deploys, and our own worker will send a request to it, from inside the operator's network. So
nothing is allowed that an operator has not named, and a URL is refused that two parsers might read in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

MAX_URL: Final = 2_000
"""Characters of a URL."""
URL_PATTERN: Final = r"^https?://[A-Za-z0-9._\[\]:-]+(/[A-Za-z0-9._~!$&'()*+,;=:@/-]*)?$"
URL_RULE: Final = "A URL that operators allow; no user name, query, escapes, dot segments; without queue, pool."

_ANY_PORT: Final = ":*"
_PORTS: Final = {"http": 80, "https": 443}
_REMEDY: Final = "Give a URL such as 'https://workers.example.com/flights'."


def problem_of_url(text: object) -> tuple[str, str] | None:
    """Return what is wrong with the form of a URL, to go on from it, and the remedy; None if nothing is."""
    if not isinstance(text, str):
        return f"is a {type(text).__name__} and no text", _REMEDY
    if len(text) > MAX_URL:
        return f"has {len(text)} characters, and {MAX_URL} is the most", "Give a shorter one."
    if not re.fullmatch(URL_PATTERN, text):
        return "is no plain http or https URL of a host and a path", f"{_REMEDY} No user name, query or escapes."
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "has a host or port that cannot be", _REMEDY
    if not host or port == 0:
        return "has no host, or port 0", _REMEDY
    if any(one in (".", "..") for one in parts.path.split("/")):
        return "has a dot segment in its path", "Write the path as it is meant."
    return None


@dataclass(frozen=True, slots=True)
class _Allowed:
    scheme: str
    host: str
    port: int | None
    """None: any."""
    path: str

    def covers(self, scheme: str, host: str, port: int, path: str) -> bool:
        if (self.scheme, self.host) != (scheme, host) or self.port not in (None, port):
            return False
        prefix = self.path.rstrip("/")
        return path == prefix or path.startswith(f"{prefix}/")


class AllowedUrls:
    """The URLs that an operator allows: beginnings of URLs, such as `https://workers.example.com/flights`.

    A host without a port means the scheme's own; `http://127.0.0.1:*` means any. A path allows all below it.
    Raises `ValueError`, whose text goes on from the list, for one that is no such beginning.
    """

    def __init__(self, beginnings: Iterable[str] = ()) -> None:
        self.beginnings = tuple(beginnings)
        self._allowed = [_allowed(one) for one in self.beginnings]

    @classmethod
    def parsed(cls, text: str) -> AllowedUrls:
        """Return what a list separated by commas allows; raises `ValueError`."""
        return cls([one for part in text.split(",") if (one := part.strip())])

    def problem(self, url: str) -> tuple[str, str] | None:
        """Return why a URL is not allowed, to go on from it, and the remedy; None if it is."""
        wrong = problem_of_url(url)
        if wrong is not None:
            return wrong
        scheme, host, port, path = _parts(url)
        if any(one.covers(scheme, host, port, path) for one in self._allowed):
            return None
        there = f"allowed are {', '.join(self.beginnings)}" if self.beginnings else "nothing is allowed"
        return (
            f"is not among the URLs that are allowed for workers over HTTP: {there}",
            "Have an operator add it to SPRINGLINE_HTTP_WORKERS of API and workers.",
        )


def _allowed(beginning: str) -> _Allowed:
    text, any_port = beginning, False
    head, slash, rest = beginning.partition("://")
    host, path_slash, path = rest.partition("/")
    if host.endswith(_ANY_PORT):
        any_port = True
        text = f"{head}{slash}{host.removesuffix(_ANY_PORT)}{path_slash}{path}"
    problem = problem_of_url(text)
    if problem is not None:
        raise ValueError(f"names {beginning!r}, which {problem[0]}")
    scheme, name, port, path = _parts(text)
    return _Allowed(scheme, name, None if any_port else port, path)


def _parts(url: str) -> tuple[str, str, int, str]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme], parts.path or "/"
