"""Maps errors of Google Cloud Storage, and of the network to it, to the port's errors (docs/protocol.md#stores; GCS
retry strategy).

For a write only one question matters: can it have happened? The answer is no only if the service explicitly refused it,
or no connection was made.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import requests
import urllib3.exceptions
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from springline.storage.port import StoreError, StoreMisconfigured, StoreRetry, StoreUnknown

FAULTS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    GoogleAPICallError,
    GoogleAuthError,
    InvalidResponse,
    DataCorruption,
)
"""All errors that a request through the Google client is known to raise."""

_THROTTLED = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
_NO_CONNECTION = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)


def write_error(what: str, error: Exception) -> StoreError:
    """Return the port's error for a write, named `what`, that failed with `error` (one of `FAULTS`)."""
    if isinstance(error, GoogleAPICallError):
        return write_refused(what, int(error.code or 0), _reasons(error.response), str(error))
    known = _before_sending(what, error)
    return known or StoreUnknown(f"{what}: no clear answer ({type(error).__name__}: {error})")


def read_error(what: str, error: Exception) -> StoreError:
    """Return the port's error for a read, named `what`, that failed with `error` (one of `FAULTS`)."""
    if isinstance(error, GoogleAPICallError):
        return read_refused(what, int(error.code or 0), _reasons(error.response), str(error))
    known = _before_sending(what, error)
    return known or StoreRetry(f"{what}: {type(error).__name__}: {error}")


def write_refused(what: str, status: int, reasons: Iterable[str], text: str) -> StoreError:
    """Return the port's error for a write that was answered with an HTTP status other than success or 412.

    A 404 means a missing bucket: a write to a missing object is a create, or fails its precondition. After a 408 or 5xx
    the write may have happened.
    """
    if _is_throttled(status, reasons):
        return StoreRetry(f"{what}: throttled (HTTP {status})")
    if status == 408 or status >= 500 or status < 400:
        return StoreUnknown(f"{what}: HTTP {status} {text}")
    return StoreMisconfigured(f"{what}: {_final(status)}. {text}")


def read_refused(what: str, status: int, reasons: Iterable[str], text: str) -> StoreError:
    """Return the port's error for a read that was answered with an HTTP status other than success or 404."""
    if _is_throttled(status, reasons) or status == 408 or status >= 500 or status < 400:
        return StoreRetry(f"{what}: HTTP {status} {text}")
    return StoreMisconfigured(f"{what}: {_final(status)}. {text}")


def reasons_in(body: Any) -> list[str]:
    """Return the `reason`s in a JSON error body of the service."""
    error = body.get("error") if isinstance(body, dict) else None
    errors = error.get("errors") if isinstance(error, dict) else None
    if not isinstance(errors, list):
        return []
    return [str(one["reason"]) for one in errors if isinstance(one, dict) and "reason" in one]


def _is_throttled(status: int, reasons: Iterable[str]) -> bool:
    return status == 429 or (status == 403 and not _THROTTLED.isdisjoint(reasons))


def _reasons(response: Any) -> list[str]:
    try:
        return reasons_in(response.json())
    except (AttributeError, ValueError):
        return []


def _before_sending(what: str, error: Exception) -> StoreError | None:
    """Return the port's error if the request certainly never left, else None."""
    if isinstance(error, GoogleAuthError):
        if getattr(error, "retryable", False):
            return StoreRetry(f"{what}: no access token: {error}")
        return StoreMisconfigured(f"{what}: no access token: {error}")
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return StoreMisconfigured(f"{what}: {error}")
    if any(isinstance(cause, _NO_CONNECTION) for cause in causes):
        return StoreRetry(f"{what}: not connected: {error}")
    return None


def _causes(error: BaseException) -> Iterable[BaseException]:
    """Yield `error` and what it wraps: requests and urllib3 pass the reason as an argument or attribute."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.append(one)
            yield one
            inner = (*one.args, getattr(one, "reason", None), one.__cause__)
            waiting += [cause for cause in inner if isinstance(cause, BaseException)]


def _final(status: int) -> str:
    if status in (401, 403):
        return f"HTTP {status}: the credentials may not do this; grant the service account roles/storage.objectUser"
    if status == 404:
        return "HTTP 404: there is no such bucket"
    return f"HTTP {status}"
