"""Authentication: bearer tokens (JWT) and what they allow (docs/formats.md#tokens).

Tokens are verified with the one configured key source: an HS256 secret, or RS256 keys from a JWKS URL. That
configuration decides the algorithm, never the token.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from springline import bounds
from springline.api.tokens import SCOPES, problem_of_subject
from springline.errors import Code, Refused, refused
from springline.paths import InvalidPath, Scope

KEYS_KEPT_S = 300.0
UNKNOWN_KEY_S = 30.0
AFTER_FAILURE_S = 5.0
LEEWAY_S = 10
"""How far the clocks of the token's issuer and the API may differ, in seconds."""

_REQUIRED_CLAIMS = ("tenant", "workspace", "sub", "exp", "aud")
_FIELD = "Authorization"


@dataclass(frozen=True, slots=True)
class Principal:
    """The bearer of a token: workspace, subject, and scopes."""

    scope: Scope
    subject: str
    scopes: frozenset[str]

    def require(self, needed: str) -> None:
        """Raise `Refused` (FORBIDDEN) unless the token has the scope `needed`."""
        if needed not in self.scopes:
            raise refused(
                Code.FORBIDDEN,
                f"the token of {self.subject!r} does not carry the scope {needed!r}",
                field="scope",
                value=" ".join(sorted(self.scopes)),
                remedy=f"Ask for a token whose claim `scope` contains {needed!r}.",
            )


class KeySource(Protocol):
    """The source of keys that verify tokens, and the one algorithm they are for."""

    algorithm: str

    async def key_for(self, token: str) -> Any:
        """Return the key for `token`; raises `jwt.InvalidTokenError` or `Refused` (UNAVAILABLE)."""


class SharedSecret:
    """HS256 with a secret of this deployment."""

    algorithm = "HS256"

    def __init__(self, secret: str) -> None:
        self._secret = secret

    async def key_for(self, token: str) -> Any:
        """Return the secret for any token."""
        return self._secret


class _Published(jwt.PyJWKClient):
    """Published keys, fetched no more often than the rules of `KeySet` allow."""

    def __init__(self, url: str, *, timeout_s: float, after_failure_s: float) -> None:
        super().__init__(url, timeout=timeout_s, lifespan=KEYS_KEPT_S, cooldown_duration=UNKNOWN_KEY_S)
        self._after_failure_s = after_failure_s
        self._not_before = 0.0

    def fetch_data(self) -> Any:
        """Fetch the keys; raises `jwt.PyJWKClientConnectionError` if that fails, or failed a moment ago."""
        if time.monotonic() < self._not_before:
            raise jwt.PyJWKClientConnectionError("the keys could not be fetched a moment ago")
        try:
            return super().fetch_data()
        except (jwt.PyJWKClientError, jwt.PyJWKSetError, ValueError, OSError) as error:
            self._not_before = time.monotonic() + self._after_failure_s
            raise jwt.PyJWKClientConnectionError(str(error)) from error


class KeySet:
    """RS256 with the keys that a JWKS URL publishes.

    They are fetched when first needed, and again when they are older than 5 minutes. For an unknown key they are
    fetched again if they are older than 30 s, and a failed fetch is repeated after 5 s at the earliest: so callers who
    make up keys, or call while the URL is down, cause no more requests than that. Redirects are not followed.
    """

    algorithm = "RS256"

    def __init__(self, url: str, *, timeout_s: float = 5.0, after_failure_s: float = AFTER_FAILURE_S) -> None:
        self._client = _Published(url, timeout_s=timeout_s, after_failure_s=after_failure_s)

    async def key_for(self, token: str) -> Any:
        """Return the public key that the token's `kid` names.

        Raises `Refused` (UNAVAILABLE) if the URL does not answer, `jwt.InvalidTokenError` for an unknown key.
        """
        try:
            return (await asyncio.to_thread(self._client.get_signing_key_from_jwt, token)).key
        except jwt.PyJWKClientConnectionError as error:
            raise refused(
                Code.UNAVAILABLE,
                "the signing keys of bearer tokens cannot be fetched",
                field="SPRINGLINE_JWT_JWKS_URL",
                remedy="Send the same request again in a moment; if it lasts, an operator has to see that the URL "
                "answers with a JSON Web Key Set.",
            ) from error
        except (jwt.PyJWKClientError, jwt.PyJWKSetError) as error:
            raise jwt.InvalidTokenError("no published key matches its `kid`") from error


class TokenVerifier:
    """Turns an `Authorization` header into a `Principal`, or says what is wrong with it.

    No answer repeats the token, or any part of it.
    """

    def __init__(self, keys: KeySource, *, audience: str = "springline", issuer: str | None = None) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer

    async def verify(self, authorization: str | None) -> Principal:
        """Return the bearer of the header's token.

        Raises `Refused`: MISSING_TOKEN without a bearer token, INVALID_TOKEN for one that is malformed, wrongly
        signed, expired, for another audience or without a claim, UNAVAILABLE when keys cannot be fetched.
        """
        scheme, _, token = (authorization or "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise refused(
                Code.MISSING_TOKEN,
                "the request carries no bearer token",
                field=_FIELD,
                remedy="Send the header `Authorization: Bearer <token>`; `springline token` makes a token.",
            )
        claims = await self._claims(token)
        return Principal(
            scope=_scope_of(claims),
            subject=_subject_of(claims),
            scopes=_scopes_of(claims.get("scope")),
        )

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = await self._keys.key_for(token)
            return jwt.decode(
                token,
                key,
                algorithms=[self._keys.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": list(_REQUIRED_CLAIMS)},
            )
        except jwt.PyJWTError as error:
            field, message, remedy = self._explain(error)
            raise _invalid(message, field=field, remedy=remedy) from None
        except (ValueError, TypeError, RecursionError):
            # The sender may put anything into a token, such as JSON that is nested too deep.
            raise _invalid("the token cannot be read", field=_FIELD, remedy=_ANOTHER) from None

    def _explain(self, error: jwt.PyJWTError) -> tuple[str, str, str]:
        match error:
            case jwt.ExpiredSignatureError():
                return "exp", "the token has expired", "Get a new token and repeat the request with the same key."
            case jwt.ImmatureSignatureError():
                return "nbf", "the token is not valid yet", "Wait, or check the clocks of both machines."
            case jwt.MissingRequiredClaimError():
                return error.claim, f"the token lacks the claim {error.claim!r}", "Get a token that carries it."
            case jwt.InvalidAudienceError():
                wanted = f"Get a token whose claim `aud` is {self._audience!r}."
                return "aud", "the token is for another audience", wanted
            case jwt.InvalidIssuerError():
                return "iss", "the token is from another issuer", f"Get a token issued by {self._issuer!r}."
            case jwt.InvalidAlgorithmError():
                wanted = f"Get a token signed with {self._keys.algorithm}."
                return "alg", "the token is signed with an algorithm that is not accepted here", wanted
            case jwt.InvalidSignatureError():
                return _FIELD, "the token's signature does not match", _ANOTHER
            case _:
                return _FIELD, "the token cannot be read or its key is unknown", _ANOTHER


_ANOTHER = (
    "Get a token made for this deployment: from its operators, by `springline token`, or beside `springline dev` by "
    "the line that it prints, `source .../env.sh`."
)


def _invalid(message: str, *, field: str, remedy: str, value: Any = None) -> Refused:
    return refused(Code.INVALID_TOKEN, message, field=field, value=value, remedy=remedy)


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str) or not value:
        raise _invalid(f"the token's claim {name!r} is not a text", field=name, remedy="Get a token that names it.")
    return value


def _subject_of(claims: dict[str, Any]) -> str:
    """Return who the bearer is. Events name it, so that a claim that none can hold is told here, and not as a field."""
    subject = _text(claims, "sub")
    problem = problem_of_subject(subject)
    if problem is not None:
        raise _invalid(
            f"the token's claim 'sub' {problem[0]}",
            field="sub",
            value=bounds.on_one_line(subject, 100),
            remedy=f"Get a token whose claim `sub` is one line of at most {bounds.MAX_ID} bytes.",
        )
    return subject


def _scope_of(claims: dict[str, Any]) -> Scope:
    try:
        return Scope(_text(claims, "tenant"), _text(claims, "workspace"))
    except InvalidPath as error:
        raise _invalid(
            f"the token's claim {error.field!r} is no name of a {error.field}",
            field=error.field,
            value=str(error.value)[:100],
            remedy=f"Get a token whose claim obeys the rule: {error.remedy}.",
        ) from None


def _scopes_of(claim: object) -> frozenset[str]:
    words: object = claim.split() if isinstance(claim, str) else claim
    if not isinstance(words, list):
        return frozenset()
    return frozenset(word for word in words if isinstance(word, str) and word in SCOPES)
