"""Domain errors as Temporal failures: which are final and which are tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

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


def _final(refusal: Refusal) -> ApplicationError:
    return ApplicationError(
        refusal.message,
        refusal.model_dump(mode="json"),
        type=refusal.code.value,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )
