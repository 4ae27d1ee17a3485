"""A commit step that failed for good, as the answer its callers get."""

from __future__ import annotations

from temporalio.exceptions import ActivityError, ApplicationError

from activities.messages import TableRef
from springline import names
from springline.errors import Code, Refusal


def refusal_of(error: ActivityError, table: TableRef) -> Refusal:
    """Return the refusal that an activity's final failure carries, or one that says what an operator can do."""
    cause = error.cause
    kind = cause.type if isinstance(cause, ApplicationError) else None
    if isinstance(cause, ApplicationError) and kind in Code.__members__ and cause.details:
        return Refusal.model_validate(cause.details[0])
    misconfigured = kind == names.STORE_MISCONFIGURED
    return Refusal(
        code=Code.UNAVAILABLE if misconfigured else Code.INTERNAL,
        message=cause.message if isinstance(cause, ApplicationError) else str(cause or error),
        field="table_id",
        value=table.table_id,
        remedy="Run `springline doctor` to see what is wrong with the store, then send the same key again."
        if misconfigured
        else "Run `springline table recover` for this table, then send the same key again.",
    )
