"""The error for missing or altered stored objects: names the object, the defect and the remedy."""

from __future__ import annotations

from springline.errors import Code, InvariantViolated, Refusal

REBUILD = "rebuild the projections from the ledger in mode `full`; the event objects are untouched by this"
"""The remedy for a missing or altered file of the projections."""
RUNBOOK = "runbooks/damaged-object.md"
"""The runbook: what each kind of object is for, what works without it, and how to restore it."""


class DamagedObject(InvariantViolated):
    """An object is missing, unreadable, or not the one that the object naming it recorded.

    `path` names it, `why` says what is wrong with it, `remedy` what an operator can do.
    """

    def __init__(self, path: str, why: str, remedy: str = REBUILD) -> None:
        super().__init__(path, why, remedy)
        self.path = path
        self.why = why
        self.remedy = remedy

    @property
    def refusal(self) -> Refusal:
        """The refusal for a caller whose request needs the object."""
        return Refusal(
            code=Code.STORED_DAMAGED,
            message=f"{self.path} {self.why}",
            field="store",
            value=self.path,
            remedy=f"{self.remedy[0].upper()}{self.remedy[1:]}. Nothing was changed; {RUNBOOK} tells more.",
        )

    def __str__(self) -> str:
        return f"{self.path} {self.why}; {self.remedy}"
