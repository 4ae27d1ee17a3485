"""One request that meets an error nobody foresaw is refused alone; whoever shares its round or batch goes on.

Faults of the store and errors of the domain are foreseen: they pass through, for they concern everybody alike.
"""

from __future__ import annotations

import logging

from springline.bounds import on_one_line
from springline.errors import Code, Refusal, SpringlineError
from springline.storage.port import StoreError

FORESEEN = (SpringlineError, StoreError)
"""What is raised on purpose; everything else is a fault of ours."""

_log = logging.getLogger("springline.requests")


def refused_alone(error: Exception, *, what: str, field: str, identity: str) -> Refusal:
    """Log an unforeseen error with its traceback, and return the refusal of the one request that met it.

    `what` says what was being done, `field` and `identity` name the request. Raises `error` again if it is foreseen.
    """
    if isinstance(error, FORESEEN):
        raise error
    return failed_refusal(error, what=what, field=field, identity=identity)


def failed_refusal(error: Exception, *, what: str, field: str, identity: str, in_doubt: bool = False) -> Refusal:
    """Log any error of a request that stands alone, with its traceback, and return the request's refusal.

    `in_doubt`: it may have been done all the same.
    """
    shown = on_one_line(identity, 100)
    _log.error("request %s failed while %s; the others go on", shown, what, exc_info=error)
    end = "; it is not known whether it was done" if in_doubt else "; it was not done"
    return Refusal(
        code=Code.REQUEST_FAILED,
        message=f"request {shown} met an error of ours while {what} ({type(error).__name__}){end}",
        field=field,
        value=identity,
        remedy="Report it with this message: the log holds the error under the same key. The same request may be sent "
        "again under the same key; other requests went on.",
    )
