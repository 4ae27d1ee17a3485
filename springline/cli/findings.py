"""Findings of `springline doctor`: one for each check, with a remedy if something is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from springline.exits import EXIT_BAD_INPUT, EXIT_DONE, EXIT_TRY_AGAIN


class FindingState(StrEnum):
    """The result of a check."""

    OK = "ok"
    WRONG = "wrong"
    """It does not work until an operator changes it."""
    UNREACHABLE = "unreachable"
    """There was no clear answer: it may be down, or only slow."""
    SKIPPED = "skipped"
    """It could not be checked because of another finding, or there is nothing to check."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The finding of one check: the result in a sentence, and what to run or change if it is not well."""

    name: str
    state: FindingState
    what: str
    remedy: str | None = None

    @property
    def ok(self) -> bool | None:
        """Say whether it is well; None if it was not checked."""
        return None if self.state is FindingState.SKIPPED else self.state is FindingState.OK

    def as_json(self) -> dict[str, Any]:
        """Return the finding as `springline doctor` prints it."""
        return {
            "name": self.name,
            "ok": self.ok,
            "state": self.state.value,
            "what": self.what,
            "remedy": self.remedy,
        }


class PublishedSettings(NamedTuple):
    """How the published state of a workspace, `tenant/name`, was folded (`springline.projection.config.FoldConfig`)."""

    workspace: str
    fingerprint: str
    retention_days: int | None


def fine(name: str, what: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(name, FindingState.OK, what)


def wrong(name: str, what: str, remedy: str) -> Finding:
    """Return a finding that an operator has to correct."""
    return Finding(name, FindingState.WRONG, what, remedy)


def unreachable(name: str, what: str, remedy: str) -> Finding:
    """Return a finding that there was no clear answer."""
    return Finding(name, FindingState.UNREACHABLE, what, remedy)


def skipped(name: str, why: str) -> Finding:
    """Return a finding that this could not be checked, or need not be."""
    return Finding(name, FindingState.SKIPPED, why)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 2 if something is wrong, else 4 if something is out of reach, else 0 (docs/formats.md#exit-codes)."""
    states = {finding.state for finding in findings}
    if FindingState.WRONG in states:
        return EXIT_BAD_INPUT
    return EXIT_TRY_AGAIN if FindingState.UNREACHABLE in states else EXIT_DONE
