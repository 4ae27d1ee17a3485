"""The configuration of the fold (docs/protocol.md#state-of-a-set, docs/events.md#w14): every state records its
fingerprint.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from springline.ledger.json_text import canonical_json


@dataclass(frozen=True)
class FoldConfig:
    """The scope of the events, and the rules of the fold.

    Args:
        tenant, workspace: the scope; events of another one are refused by the fold.
        run_id_secret: key of the run ids that follow from run keys (docs/formats.md#identifiers).
        retention_days: None prunes nothing, ever. Otherwise evaluations and idempotency keys end after 30 days, and
            finished runs after this many days; 0 keeps runs for ever (docs/events.md#fold-retention).

    Raises `ValueError` for a negative number of days.
    """

    tenant: str
    workspace: str
    run_id_secret: bytes = b""
    retention_days: int | None = None

    def __post_init__(self) -> None:
        if self.retention_days is not None and self.retention_days < 0:
            raise ValueError(f"retention_days {self.retention_days} is negative: give days, 0 or nothing")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 hex over secret and retention: states under different fingerprints are different states."""
        parts = {"retention_days": self.retention_days, "run_id_secret": self.run_id_secret.hex()}
        return hashlib.sha256(canonical_json(parts)).hexdigest()
