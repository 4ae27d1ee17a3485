"""The error taxonomy: every code a user can meet, with its HTTP status and exit code.

    SpringlineError
      Refused             bad input or a conflict: final, nothing was written; carries a `Refusal`
      InvariantViolated   stored state contradicts the protocol: final, an operator must look
      (springline.storage.port.StoreError: faults of the store, with its retryable and final kinds)

A refusal names the field, the value and the remedy. Codes never change once shipped.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from springline.bounds import shortened, shown
from springline.exits import EXIT_BAD_INPUT, EXIT_CONFLICT, EXIT_TRY_AGAIN


class Code(StrEnum):
    """Codes of refusals, as they appear in HTTP bodies, CLI output and workflow results."""

    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_KEY = "INVALID_KEY"
    KEYS_DIFFER = "KEYS_DIFFER"
    KEY_REUSED = "KEY_REUSED"
    TABLE_NOT_FOUND = "TABLE_NOT_FOUND"
    KEY_NOT_FOUND = "KEY_NOT_FOUND"
    NOT_FOUND = "NOT_FOUND"
    NAME_TAKEN = "NAME_TAKEN"
    ROOT_TAKEN = "ROOT_TAKEN"
    NOT_A_DELTA_TABLE = "NOT_A_DELTA_TABLE"
    INVALID_PATH = "INVALID_PATH"
    STAGED_MISSING = "STAGED_MISSING"
    STAGED_CHANGED = "STAGED_CHANGED"
    INVALID_PAYLOAD = "INVALID_PAYLOAD"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_FEATURE = "UNSUPPORTED_FEATURE"
    NOT_AN_APPEND = "NOT_AN_APPEND"
    STALE_READ_VERSION = "STALE_READ_VERSION"
    FUTURE_READ_VERSION = "FUTURE_READ_VERSION"
    METADATA_CHANGED = "METADATA_CHANGED"
    TXN_CONFLICT = "TXN_CONFLICT"
    PATH_CONFLICT = "PATH_CONFLICT"
    CONCURRENT_CHANGE = "CONCURRENT_CHANGE"
    """Other commits kept changing what an operation had read, until its tries were used up."""
    VERSION_UNKNOWN = "VERSION_UNKNOWN"
    """The key is committed, and the log file that has its version is gone."""
    EVENT_CONFLICT = "EVENT_CONFLICT"
    """The ledger's state does not admit the event, such as the start of a task that has finished."""
    DEFINITION_CONFLICT = "DEFINITION_CONFLICT"
    """Definitions of other code locations do not admit the deployed ones, such as a key that is theirs."""
    TASK_ALREADY_TERMINAL = "TASK_ALREADY_TERMINAL"
    """A worker over HTTP called back about a task that has ended, or of a run that is cancelled."""
    TASK_EXPIRED = "TASK_EXPIRED"
    """Likewise, with a heartbeat."""
    ATTEMPT_ALREADY_COMPLETED = "ATTEMPT_ALREADY_COMPLETED"
    """Its attempt has ended, and another one follows."""
    ATTEMPT_MISMATCH = "ATTEMPT_MISMATCH"
    ATTEMPT_ID_MISMATCH = "ATTEMPT_ID_MISMATCH"
    ATTEMPT_TAKEN = "ATTEMPT_TAKEN"
    """Another worker has started the attempt, and it is that one's."""
    REBUILD_MANIFEST_NOT_FOUND = "REBUILD_MANIFEST_NOT_FOUND"
    REBUILD_UNDER_WAY = "REBUILD_UNDER_WAY"
    REBUILD_CANCELLED = "REBUILD_CANCELLED"
    LEDGER_INCOMPLETE = "LEDGER_INCOMPLETE"
    STORED_DAMAGED = "STORED_DAMAGED"
    """An object of the workspace has content that the product never writes; the message names it."""
    STORE_MISCONFIGURED = "STORE_MISCONFIGURED"
    """The store refuses requests until an operator corrects its address, permissions or files."""
    MISSING_TOKEN = "MISSING_TOKEN"
    INVALID_TOKEN = "INVALID_TOKEN"
    FORBIDDEN = "FORBIDDEN"
    ROUTE_NOT_FOUND = "ROUTE_NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    """The request did not arrive completely in time; no part of it was read."""
    UNAVAILABLE = "UNAVAILABLE"
    REQUEST_FAILED = "REQUEST_FAILED"
    """This request met an unforeseen error: the fault is ours, the request was not done, and the
    others of its batch or round went on. The log has the error under the request's key."""
    INTERNAL = "INTERNAL"


HTTP_STATUS: dict[Code, int] = {
    Code.INVALID_REQUEST: 400,
    Code.INVALID_KEY: 400,
    Code.KEYS_DIFFER: 409,
    Code.KEY_REUSED: 409,
    Code.TABLE_NOT_FOUND: 404,
    Code.KEY_NOT_FOUND: 404,
    Code.NOT_FOUND: 404,
    Code.NAME_TAKEN: 409,
    Code.ROOT_TAKEN: 409,
    Code.NOT_A_DELTA_TABLE: 400,
    Code.INVALID_PATH: 400,
    Code.STAGED_MISSING: 404,
    Code.STAGED_CHANGED: 409,
    Code.INVALID_PAYLOAD: 400,
    Code.PAYLOAD_TOO_LARGE: 413,
    Code.UNSUPPORTED_FEATURE: 400,
    Code.NOT_AN_APPEND: 400,
    Code.STALE_READ_VERSION: 409,
    Code.FUTURE_READ_VERSION: 409,
    Code.METADATA_CHANGED: 409,
    Code.TXN_CONFLICT: 409,
    Code.PATH_CONFLICT: 409,
    Code.CONCURRENT_CHANGE: 409,
    Code.VERSION_UNKNOWN: 409,
    Code.EVENT_CONFLICT: 409,
    Code.DEFINITION_CONFLICT: 409,
    Code.TASK_ALREADY_TERMINAL: 409,
    Code.TASK_EXPIRED: 410,
    Code.ATTEMPT_ALREADY_COMPLETED: 409,
    Code.ATTEMPT_MISMATCH: 409,
    Code.ATTEMPT_ID_MISMATCH: 409,
    Code.ATTEMPT_TAKEN: 409,
    Code.REBUILD_MANIFEST_NOT_FOUND: 404,
    Code.REBUILD_UNDER_WAY: 409,
    Code.REBUILD_CANCELLED: 409,
    Code.LEDGER_INCOMPLETE: 409,
    Code.STORED_DAMAGED: 409,
    Code.STORE_MISCONFIGURED: 500,
    Code.MISSING_TOKEN: 401,
    Code.INVALID_TOKEN: 401,
    Code.FORBIDDEN: 403,
    Code.ROUTE_NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.REQUEST_TIMEOUT: 408,
    Code.UNAVAILABLE: 503,
    Code.REQUEST_FAILED: 500,
    Code.INTERNAL: 500,
}


NOT_NOW = frozenset({429, 502, 503, 504})
"""Statuses of answers that are not final: a caller waits and sends the same request again."""

_CODE = re.compile(r"[A-Z][A-Z_]{2,60}")


class CommitSince(BaseModel):
    """One version committed since a refused request's `read_version`."""

    version: int
    operation: Annotated[str | None, AfterValidator(lambda text: shown(text, 100))] = None
    key: Annotated[str | None, AfterValidator(lambda text: shown(text, 100))] = None


class AttemptStanding(BaseModel):
    """Where the task of a refused callback stands, and which attempt called."""

    state: str
    expectedAttempt: int
    receivedAttempt: int
    expectedAttemptId: str | None
    receivedAttemptId: str


class Refusal(BaseModel):
    """Why a request was refused: the body of a 4xx answer.

    A refusal is always short and can be encoded: texts are cut, and characters that UTF-8 cannot encode are
    escaped. `latest_version` and `commits_since` (at most 100, oldest first) are set on version conflicts, `attempt` on
    those of callbacks.
    """

    model_config = ConfigDict(frozen=True)

    code: Code
    message: Annotated[str, AfterValidator(shortened)]
    field: Annotated[str | None, AfterValidator(shown)] = None
    value: Annotated[Any, AfterValidator(shown)] = None
    remedy: Annotated[str | None, AfterValidator(shortened)] = None
    latest_version: int | None = None
    commits_since: list[CommitSince] | None = Field(default=None, max_length=100)
    attempt: AttemptStanding | None = Field(default=None, exclude_if=lambda one: one is None)

    @model_validator(mode="before")
    @classmethod
    def _of_a_newer_build(cls, given: Any) -> Any:
        """Take a code that only newer builds know for INTERNAL, named in the message.

        Workers are upgraded before the API: one refusal that it cannot read must not cost a batch its answers.
        """
        code = given.get("code") if isinstance(given, dict) else None
        if not isinstance(code, str) or code in Code.__members__ or not _CODE.fullmatch(code):
            return given
        return given | {"code": Code.INTERNAL, "message": f"{code}: {given.get('message')}"}

    @property
    def status(self) -> int:
        """Return the HTTP status of this refusal."""
        return HTTP_STATUS[self.code]

    @property
    def exit_code(self) -> int:
        """Return the exit code of the CLI for this refusal."""
        if self.status == 409:
            return EXIT_CONFLICT
        if self.code is Code.STORE_MISCONFIGURED:
            return EXIT_BAD_INPUT
        if self.status >= 500 or self.status == 408:
            return EXIT_TRY_AGAIN
        return EXIT_BAD_INPUT


class SpringlineError(Exception):
    """Base of the domain's errors."""


class Refused(SpringlineError):
    """A request that can never succeed unchanged; nothing was written for it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class InvariantViolated(SpringlineError):
    """Stored state that the protocol cannot have produced: the step stops, and an operator must look."""


def refused(
    code: Code, message: str, *, field: str | None = None, value: Any = None, remedy: str | None = None
) -> Refused:
    """Return a `Refused` (to be raised) from its parts."""
    return Refused(Refusal(code=code, message=message, field=field, value=value, remedy=remedy))


def unsendable(error: ValueError | RecursionError) -> Refused:
    """Return the refusal of a request that cannot be written: JSON has no such number, or UTF-8 no such text."""
    if isinstance(error, UnicodeError):
        what = "a text that is no Unicode, such as a single surrogate or a byte that is no UTF-8"
    elif isinstance(error, RecursionError):
        what = "lists or objects that lie too deep in each other"
    else:
        what = "a number that JSON does not have, such as NaN or Infinity"
    return refused(
        Code.INVALID_REQUEST,
        f"the request cannot be sent: it holds {what}",
        remedy="Leave it out, or write it as a text in UTF-8.",
    )


def not_json(error: TypeError, body: Any) -> Refused:
    """Return the refusal of a request with a value that is no JSON, such as a date; raises `error` if there is none."""
    found = _beyond_json(body, "")
    if found is None:
        raise error
    field, value = found
    return refused(
        Code.INVALID_REQUEST,
        f"the request cannot be sent: {field or 'it'} is a {type(value).__name__}, which JSON does not have",
        field=field or None,
        value=repr(value)[:200],
        remedy="Give texts, numbers, lists and dicts: a day as a text, such as '2024-01-31'.",
    )


def _beyond_json(value: Any, field: str) -> tuple[str, Any] | None:
    """Return where the first value lies that is no JSON, and it."""
    if isinstance(value, dict):
        odd = next((name for name in value if not (name is None or isinstance(name, str | int | float))), None)
        if odd is not None:
            return f"a name in {field}" if field else "a name", odd
        inside = [(f"{field}.{name}" if field else str(name), one) for name, one in value.items()]
    elif isinstance(value, list | tuple):
        inside = [(f"{field}[{number}]", one) for number, one in enumerate(value)]
    else:
        return None if value is None or isinstance(value, str | int | float) else (field, value)
    return next((found for name, one in inside if (found := _beyond_json(one, name)) is not None), None)
