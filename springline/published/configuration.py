"""The configuration that a state was folded under, against that of a worker (docs/events.md#fold-retention)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from springline.errors import Code, Refusal, Refused
from springline.projection.config import FoldConfig
from springline.published.manifest import ConfigSection, Manifest

RETENTION: Final = "SPRINGLINE_RETENTION_DAYS"
SECRET: Final = "SPRINGLINE_RUN_ID_SECRET"


class OtherConfiguration(Refused):
    """A state was folded under another run-id secret or retention than this worker has: nothing is folded on it.

    Callers wait and send again: an operator gives workers what they had, or has the state rebuilt.
    """

    def __init__(self, ours: FoldConfig, theirs: ConfigSection) -> None:
        found = difference(theirs, ours.fingerprint, ours.retention_days)
        assert found is not None
        of = f"the state of {ours.tenant}/{ours.workspace}"
        super().__init__(
            Refusal(
                code=Code.UNAVAILABLE,
                message=f"{of} was folded {found.folded}, and this worker {found.has}: nothing is folded on it",
                field=found.variable,
                value=ours.retention_days if found.variable == RETENTION else None,
                remedy=f"{found.remedy} Then send the same request again.",
            )
        )


@dataclass(frozen=True, slots=True)
class ConfigurationDifference:
    """What differs between the configuration of a state and of a worker, in words, and what to do."""

    variable: str
    folded: str
    has: str
    remedy: str


def difference(theirs: ConfigSection, fingerprint: str, retention_days: int | None) -> ConfigurationDifference | None:
    """Return what differs between a state's configuration and a worker's, None if nothing does.

    Args:
        theirs: the state's, as its manifest has it.
        fingerprint, retention_days: the worker's (`FoldConfig`).
    """
    if theirs.fingerprint == fingerprint:
        return None
    if theirs.retention_days == retention_days:
        return ConfigurationDifference(
            SECRET,
            f"with another {SECRET}",
            "has not that one",
            f"Give every worker the {SECRET} that they had: ids of runs follow from it, and it is never changed.",
        )
    was, now = _said(theirs.retention_days), _said(retention_days)
    return ConfigurationDifference(
        RETENTION,
        f"with {was}",
        f"has {now}",
        f"Give every worker {was} again, or let the workspace have the new one: "
        "`springline rebuild plan`, then `springline rebuild start MANIFEST --mode full` (runbooks/deploy.md).",
    )


def check_configuration(manifest: Manifest, ours: FoldConfig) -> None:
    """Raise `OtherConfiguration` if a state of ours was folded under another configuration."""
    section = manifest.springline
    if section is not None and section.config.fingerprint != ours.fingerprint:
        raise OtherConfiguration(ours, section.config)


def _said(days: int | None) -> str:
    return f"no {RETENTION}" if days is None else f"{RETENTION}={days}"
