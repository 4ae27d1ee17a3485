"""Stored objects that are not what they must be: named, with what to do about it."""

from __future__ import annotations

from springline.errors import InvariantViolated

REBUILD = "rebuild the projections from the ledger in mode `full`; the event objects are untouched by this"
"""What puts a missing or altered file of the projections right."""


class DamagedObject(InvariantViolated):
    """An object is missing, unreadable, or not the one that its owner recorded.

    `path` names it, `why` says what is wrong with it, `remedy` what an operator can do.
    """

    def __init__(self, path: str, why: str, remedy: str = REBUILD) -> None:
        super().__init__(path, why, remedy)
        self.path = path
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.path} {self.why}; {self.remedy}"
