"""Domain errors as Temporal failures: which are final and which are tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, FailureError

from springline import names
from springline.errors import Code, InvariantViolated, Refusal, Refused
from springline.paths import InvalidPath
from springline.storage.port import StoreMisconfigured, StoreRetry, StoreUnknown


@contextmanager
def as_temporal_failures() -> Iterator[None]:
    """Translate domain errors raised in the body.

    Passing faults of the store are benign and retried; a refusal, a name that cannot be (runs are also started by
    hand), a misconfigured store and a broken invariant are final.
    """
    try:
        yield
    except Refused as error:
        raise _final(error.refusal) from error
    except InvalidPath as error:
        refusal = Refusal(
            code=Code.INVALID_REQUEST, message=str(error), field=error.field, value=error.value, remedy=error.remedy
        )
        raise _final(refusal) from error
    except StoreRetry as error:
        raise ApplicationError(str(error), type=names.STORE_RETRY, category=ApplicationErrorCategory.BENIGN) from error
    except StoreUnknown as error:
        raise ApplicationError(
            str(error), type=names.STORE_UNKNOWN, category=ApplicationErrorCategory.BENIGN
        ) from error
    except StoreMisconfigured as error:
        raise ApplicationError(str(error), type=names.STORE_MISCONFIGURED, non_retryable=True) from error
    except InvariantViolated as error:
        raise ApplicationError(str(error), type=names.INVARIANT_VIOLATED, non_retryable=True) from error


PATIENCE = timedelta(seconds=60)
"""How long a step that has fixed nothing yet is tried while it fails; then its callers are told."""


@contextmanager
def patience_ends() -> Iterator[None]:
    """Fail for good on a fault that has lasted for `PATIENCE`; for steps before anything is reserved or recorded.

    Goes around `as_temporal_failures`. The time is the server's, from when the step was first scheduled to when this
    attempt began, so that an attempt that works is never cut short, however long it takes.
    """
    try:
        yield
    except ApplicationError as error:
        info = activity.info()
        lasted = info.started_time - info.scheduled_time
        if error.non_retryable or lasted < PATIENCE:
            raise
        raise ApplicationError(
            f"{error.message} (tried {info.attempt} times within {lasted.total_seconds():.0f} s)",
            type=error.type,
            non_retryable=True,
            category=ApplicationErrorCategory.BENIGN,
        ) from error


SURPRISES = 5
"""Attempts after which an error that nobody has foreseen is taken for final."""


@contextmanager
def surprises_are_final() -> Iterator[None]:
    """Fail for good, after some attempts, on an error that no rule foresees: it would hold up everybody for ever.

    Goes around `as_temporal_failures`, whose failures pass.
    """
    try:
        yield
    except FailureError:
        raise
    except Exception as error:
        if activity.info().attempt < SURPRISES:
            raise
        # Callers are told this: what the error says of our inside is in its trace, for the Web UI and the log.
        raise ApplicationError(
            f"an unforeseen error, {type(error).__name__}", type=names.UNFORESEEN, non_retryable=True
        ) from error


def _final(refusal: Refusal) -> ApplicationError:
    return ApplicationError(
        refusal.message,
        refusal.model_dump(mode="json"),
        type=refusal.code.value,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )
