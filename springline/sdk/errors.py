"""Errors of the library.

SdkError
  InvalidDefinitions   a pipeline is written wrongly; has every problem with its file and line
  InvalidRequest       a call cannot be meant: an unknown selection, a partition that there is not
    InvalidConfig      its config is one that no run could have, or that an asset's model refuses
  MaterializeFailed    an asset failed; has the result of all of them
  NonRetryable         raised by user code: another attempt would fail the same way
    ConfigRefused      the run's config does not fit the model that the asset declares for it
Cancelled              raised in user code, whose attempt is to stop; no SdkError and no Exception
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class SdkError(Exception):
    """Base of the library's errors."""


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """What is wrong with a pipeline file, and where.

    `message` goes on from the asset if there is one; `kind` is "task" where `asset` is the key of a task. `traceback`:
    that of the user's own code, if it raised.
    """

    file: str
    line: int | None
    message: str
    remedy: str
    asset: str | None = None
    traceback: str | None = None
    kind: str = "asset"

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        subject = "" if self.asset is None else f"{self.kind} {self.asset} "
        return f"{where}: {subject}{self.message}. {self.remedy}"


class InvalidDefinitions(SdkError):
    """A pipeline is written wrongly. `problems` is everything that is wrong, in the order of the lines."""

    def __init__(self, problems: Sequence[SourceProblem]) -> None:
        super().__init__(problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        count = len(self.problems)
        told = f"{count} problem{'' if count == 1 else 's'} with the pipeline:"
        return "\n".join([told, *(f"  {one}" for one in self.problems)])


class InvalidRequest(SdkError, ValueError):
    """A call that cannot be meant; the message says what to do."""


class InvalidConfig(InvalidRequest):
    """A config that no run could have, or that the model of an asset refuses; the message names field and value."""


class NonRetryable(SdkError):
    """To be raised by user code: the attempt fails, and no other one is made, whatever `retries` says."""


class ConfigRefused(NonRetryable):
    """The run's config does not fit the model that the asset declares for it; its function was not called."""


class Cancelled(BaseException):
    """Raised in a function while it runs on a worker, if its attempt was cancelled or takes longer than its timeout.

    `finally` and `with` clean up as for every exception; a worker ends the process of a function that has not ended
    within its grace time. No `Exception`, so that `except Exception` does not hold it. In an async function
    `asyncio.CancelledError` takes its place.
    """
