"""Tokens of attempts over HTTP: each is for one attempt of one task, and nothing else (docs/formats.md#task-tokens).

Workers of runs make them, the API verifies them; both have the one secret of the deployment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from springline.bounds import on_one_line
from springline.errors import Code, Refused, refused
from springline.paths import InvalidPath, Scope

ALGORITHM: Final = "HS256"
ISSUER: Final = "springline"
AUDIENCE: Final = "springline-task"
"""Another one than that of users' tokens: neither passes for the other, even under one secret."""
LEEWAY_S: Final = 10
AFTER_TIMEOUT_S: Final = 300
"""How long a token outlives the timeout of its attempt: a worker that was late can still be told so."""

_CLAIMS: Final = ("taskId", "tenantId", "workspaceId", "runId", "attempt", "attemptId", "exp", "aud", "iss")
_FIELD: Final = "Authorization"
_REMEDY: Final = "Use the token of the envelope that brought this attempt, and start no attempt without one."


@dataclass(frozen=True, slots=True)
class TaskClaims:
    """What a token says: for which attempt of which task it is. `task_id`: as in the paths of callbacks."""

    scope: Scope
    task_id: str
    run_id: str
    attempt: int
    attempt_id: str


class TaskTokens:
    """Makes and verifies tokens of attempts. `secret`: of 32 bytes or more."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def make(self, claims: TaskClaims, *, now_s: int, expires_s: int) -> str:
        """Return a token for an attempt, from `now_s` to `expires_s` (Unix seconds)."""
        import jwt  # noqa: PLC0415 - loads the cryptography library, and most workers post nothing

        said = {
            "taskId": claims.task_id,
            "tenantId": claims.scope.tenant,
            "workspaceId": claims.scope.workspace,
            "runId": claims.run_id,
            "attempt": claims.attempt,
            "attemptId": claims.attempt_id,
            "iat": now_s,
            "nbf": now_s,
            "exp": expires_s,
            "iss": ISSUER,
            "aud": AUDIENCE,
        }
        return jwt.encode(said, self._secret, algorithm=ALGORITHM)

    def verify(self, authorization: str | None) -> TaskClaims:
        """Return what the token in an `Authorization` header says. No error repeats any part of it.

        Raises `Refused`: MISSING_TOKEN without one, INVALID_TOKEN for one that is not valid.
        """
        import jwt  # noqa: PLC0415 - as above

        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise refused(
                Code.MISSING_TOKEN,
                "the callback carries no token",
                field=_FIELD,
                remedy="Send the header `Authorization: Bearer <taskToken>`, with the taskToken of the envelope.",
            )
        try:
            claims = jwt.decode(
                token.strip(),
                self._secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY_S,
                options={"require": list(_CLAIMS)},
            )
        except jwt.ExpiredSignatureError:
            raise _invalid("the token of this attempt has expired", "exp", "Stop working on this attempt.") from None
        except jwt.InvalidTokenError:
            raise _invalid("this is no token of an attempt", _FIELD, _REMEDY) from None
        return _read(claims)


def refuse_foreign(claims: TaskClaims, task_id: str, attempt: int, attempt_id: str) -> None:
    """Raise `Refused` (INVALID_TOKEN) if a token is not for the attempt that a callback is about."""
    if claims.task_id != task_id:
        raise _invalid("task_id_mismatch: the token is for another task", "task_id", _REMEDY, task_id)
    if claims.attempt != attempt:
        raise _invalid("attempt_mismatch: the token is for another attempt", "attempt", _REMEDY, attempt)
    if claims.attempt_id != attempt_id:
        raise _invalid("attempt_id_mismatch: the token is for another attempt", "attemptId", _REMEDY, attempt_id)


def _read(claims: Mapping[str, Any]) -> TaskClaims:
    texts = [claims[name] for name in ("tenantId", "workspaceId", "taskId", "runId", "attemptId")]
    attempt = claims["attempt"]
    if not all(isinstance(one, str) and one for one in texts) or type(attempt) is not int:
        raise _invalid("a claim of the token has the wrong type", _FIELD, _REMEDY)
    tenant, workspace, task_id, run_id, attempt_id = texts
    try:
        return TaskClaims(Scope(tenant, workspace), task_id, run_id, attempt, attempt_id)
    except InvalidPath as error:
        raise _invalid(f"the token's {error.field} is no name", error.field, _REMEDY) from None


def _invalid(message: str, field: str, remedy: str, value: str | int | None = None) -> Refused:
    shown = on_one_line(value) if isinstance(value, str) else value
    return refused(Code.INVALID_TOKEN, message, field=field, value=shown, remedy=remedy)
