"""Answers to callers of steps that failed for good."""

from __future__ import annotations

from typing import NoReturn

from pydantic import ValidationError
from temporalio.exceptions import ActivityError, ApplicationError, ApplicationErrorCategory, TimeoutError
from temporalio.workflow import NondeterminismError

from springline import names
from springline.delta.messages import TableRef
from springline.errors import Code, Refusal
from springline.sequencer.messages import WorkspaceRef

HALVINGS = 64
"""How often in a row failing rounds are halved to find the request that makes them fail."""
ENDS_THE_RUN = [ValidationError, NondeterminismError]
"""Errors that fail a run instead of a workflow task that is retried for ever: invalid input, and code that does not
fit the run's history, as after a change that went out without a version of its own. No run of ours has state to lose:
its callers send their requests again, and the next run goes on from storage."""


def refusal_of(error: ActivityError, table: TableRef) -> Refusal:
    """Return the refusal that a commit step's final failure carries, or one that says what an operator can do."""
    return _refusal(
        error,
        field="table_id",
        value=table.table_id,
        when_misconfigured="Run `springline doctor` to see what is wrong with the store, then send the same key again.",
        otherwise="Run `springline table recover --replace-damaged --markers` for this table, as "
        "runbooks/coordinator-lost.md tells, then send the same key again.",
    )


def ledger_refusal(error: ActivityError, workspace: WorkspaceRef) -> Refusal:
    """Return the refusal that a ledger step's final failure carries, or one that says what an operator can do."""
    return _refusal(
        error,
        field="workspace",
        value=f"{workspace.tenant}/{workspace.workspace}",
        when_misconfigured="Run `springline doctor` to see what is wrong, then send the same request id again.",
        otherwise="An operator must look at what the message names; then send the same request id again.",
    )


def outpaced(workspace: WorkspaceRef) -> Refusal:
    """Return the refusal of requests that lost to another publisher of the same workspace too often."""
    return Refusal(
        code=Code.UNAVAILABLE,
        message="another process keeps publishing to this workspace, and is faster",
        field="workspace",
        value=f"{workspace.tenant}/{workspace.workspace}",
        remedy="Have one sequencer per workspace: stop the other publisher, then send the same request id again.",
    )


def no_id_left(reason: str) -> Refusal:
    """Return the refusal of events that cannot be given an id."""
    return Refusal(
        code=Code.INTERNAL,
        message=reason,
        field="events",
        remedy="Rebuild the projections from the ledger without the event of that id, then send the request again.",
    )


_CONCERNS_ALL = frozenset({*Code, names.STORE_MISCONFIGURED, names.INVARIANT_VIOLATED})


def passes(error: ActivityError) -> bool:
    """Say whether a step failed by a fault of the store, or without any answer, so that a retry may succeed."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return cause.type in (names.STORE_RETRY, names.STORE_UNKNOWN)
    return isinstance(cause, TimeoutError)


def one_may_be_the_cause(error: ActivityError) -> bool:
    """Say whether a step may have failed because of one request: by an unforeseen error, or a too large message.

    Known faults of the store, the table or the workspace concern all requests alike.
    """
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return cause.type not in _CONCERNS_ALL and not passes(error)
    return True


def refusal_of_one(refusal: Refusal, error: ActivityError) -> Refusal:
    """Return the refusal of the one request with which no round can be begun."""
    return refusal.model_copy(update={"code": Code.REQUEST_FAILED}) if one_may_be_the_cause(error) else refusal


def unknown_effect(error: ActivityError) -> bool:
    """Say whether a step that failed for good may have had its effect."""
    return passes(error) or not isinstance(error.cause, ApplicationError)


def _said(error: ActivityError) -> str:
    cause = error.cause
    return cause.message if isinstance(cause, ApplicationError) else str(cause or error)


def fail_with_cause(error: ActivityError) -> NoReturn:
    """Fail the run with the activity's own type, message and details, which callers read."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        raise ApplicationError(
            cause.message,
            *cause.details,
            type=cause.type,
            non_retryable=True,
            category=ApplicationErrorCategory.BENIGN,
        ) from error
    raise error


_CODES = {names.STORE_MISCONFIGURED: Code.STORE_MISCONFIGURED, names.INVARIANT_VIOLATED: Code.STORED_DAMAGED}


def _refusal(error: ActivityError, *, field: str, value: str, when_misconfigured: str, otherwise: str) -> Refusal:
    cause = error.cause
    kind = cause.type if isinstance(cause, ApplicationError) else None
    if isinstance(cause, ApplicationError) and kind in Code.__members__ and cause.details:
        return Refusal.model_validate(cause.details[0])
    misconfigured = kind == names.STORE_MISCONFIGURED
    if passes(error):
        return Refusal(
            code=Code.UNAVAILABLE,
            message=f"this could not be done for too long: {_said(error)}",
            field=field,
            value=value,
            remedy="Send the same request again under the same key: if it was done after all, it gets its answer.",
        )
    return Refusal(
        code=_CODES.get(kind or "", Code.INTERNAL),
        message=_said(error),
        field=field,
        value=value,
        remedy=when_misconfigured if misconfigured else otherwise,
    )
