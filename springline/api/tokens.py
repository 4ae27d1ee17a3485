"""Making bearer tokens, for the embedded stack and `springline token` (docs/formats.md#tokens)."""

from __future__ import annotations

import time
from collections.abc import Iterable

import jwt

from springline import bounds
from springline.paths import Scope

READ = "read"
WRITE = "write"
OPERATE = "operate"
SCOPES = (READ, WRITE, OPERATE)

DEFAULT_AUDIENCE = "springline"
DEFAULT_TTL_S = 3600


def make_token(
    secret: str,
    scope: Scope,
    *,
    subject: str,
    scopes: Iterable[str] = SCOPES,
    ttl_s: int = DEFAULT_TTL_S,
    audience: str = DEFAULT_AUDIENCE,
    issuer: str | None = None,
    now_s: float | None = None,
) -> str:
    """Return an HS256 token for `subject` in the workspace of `scope`.

    `scopes` are any of read, write and operate; `ttl_s` is the token's life in seconds from `now_s` (Unix
    seconds; default: the clock). Raises `ValueError` for an unknown scope.
    """
    granted = list(scopes)
    unknown = sorted(set(granted) - set(SCOPES))
    if unknown:
        raise ValueError(f"unknown scope {', '.join(unknown)}; the scopes are {', '.join(SCOPES)}")
    issued = int(time.time() if now_s is None else now_s)
    claims: dict[str, object] = {
        "tenant": scope.tenant,
        "workspace": scope.workspace,
        "sub": subject,
        "scope": " ".join(granted),
        "iat": issued,
        "exp": issued + ttl_s,
        "aud": audience,
    }
    if issuer is not None:
        claims["iss"] = issuer
    return jwt.encode(claims, secret, algorithm="HS256")


def problem_of_subject(subject: str) -> tuple[str, str] | None:
    """Return what is wrong with who a bearer is said to be, and the remedy; None if nothing is: events name it."""
    if not subject:
        return "is empty", "Say who the bearer is."
    return bounds.problem_of_bounded(subject, bounds.MAX_ID, in_bytes=True)


def seconds_left(token: str, secret: str) -> float:
    """Return how many seconds a token that `secret` signed is still valid; 0 for one that is not valid."""
    try:
        claims = jwt.decode(token, secret, algorithms=["HS256"], audience=DEFAULT_AUDIENCE)
    except jwt.InvalidTokenError:
        return 0.0
    return max(0.0, float(claims.get("exp", 0)) - time.time())
