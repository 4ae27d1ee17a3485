"""Steps that failed for good, as the answer their callers get."""

from __future__ import annotations

from typing import NoReturn

from pydantic import ValidationError
from temporalio.exceptions import ActivityError, ApplicationError, ApplicationErrorCategory
from temporalio.workflow import NondeterminismError

from activities.messages import TableRef
from springline import names
from springline.errors import Code, Refusal
from springline.sequencer.orders import WorkspaceRef

ENDS_THE_RUN = [ValidationError, NondeterminismError]
"""What fails a run instead of a workflow task that is tried for ever: an input that is none, and code that does not
fit the run's history, as after a change that went out without a version of its own. No run of ours has state to lose:
its callers come again, and the next run goes on from storage."""


def refusal_of(error: ActivityError, table: TableRef) -> Refusal:
    """Return the refusal that a commit step's final failure carries, or one that says what an operator can do."""
    return _refusal(
        error,
        field="table_id",
        value=table.table_id,
        when_misconfigured="Run `springline doctor` to see what is wrong with the store, then send the same key again.",
        otherwise="Run `springline table recover` for this table, then send the same key again.",
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
    """Return the refusal of requests that another publisher of the same workspace keeps from their turn."""
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


def _refusal(error: ActivityError, *, field: str, value: str, when_misconfigured: str, otherwise: str) -> Refusal:
    cause = error.cause
    kind = cause.type if isinstance(cause, ApplicationError) else None
    if isinstance(cause, ApplicationError) and kind in Code.__members__ and cause.details:
        return Refusal.model_validate(cause.details[0])
    misconfigured = kind == names.STORE_MISCONFIGURED
    return Refusal(
        code=Code.UNAVAILABLE if misconfigured else Code.INTERNAL,
        message=cause.message if isinstance(cause, ApplicationError) else str(cause or error),
        field=field,
        value=value,
        remedy=when_misconfigured if misconfigured else otherwise,
    )
