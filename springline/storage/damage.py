"""Stored objects that are not what they must be: named, with what to do about it."""

from __future__ import annotations

from springline.errors import Code, InvariantViolated, Refusal

REBUILD = "rebuild the projections from the ledger in mode `full`; the event objects are untouched by this"
"""What puts a missing or altered file of the projections right."""
RUNBOOK = "runbooks/damaged-object.md"
"""What each kind of object means, what goes on without it, and how it comes back."""


class DamagedObject(InvariantViolated):
    """An object is missing, unreadable, or not the one that its owner recorded.

    `path` names it, `why` says what is wrong with it, `remedy` what an operator can do.
    """

    def __init__(self, path: str, why: str, remedy: str = REBUILD) -> None:
        super().__init__(path, why, remedy)
        self.path = path
        self.why = why
        self.remedy = remedy

    @property
    def refusal(self) -> Refusal:
        """What is told to whoever came upon it."""
        return Refusal(
            code=Code.STORED_DAMAGED,
            message=f"{self.path} {self.why}",
            field="store",
            value=self.path,
            remedy=f"{self.remedy[0].upper()}{self.remedy[1:]}. Nothing was changed; {RUNBOOK} tells more.",
        )

    def __str__(self) -> str:
        return f"{self.path} {self.why}; {self.remedy}"
