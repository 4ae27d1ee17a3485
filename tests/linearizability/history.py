"""What clients saw of the commit API: operations with the interval in which each was under way.

A history holds, per table, commits (answered with a version, refused, or never answered), reads of the table's
version and of a key's fate, and the versions that nobody here asked for (a rival writer's, or the filling of an
abandoned reservation), which the recorder takes from the log at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from springline.errors import Code

NEVER = 2**62
"""The return time of an operation that was never answered."""


class Kind(StrEnum):
    COMMIT = "commit"
    STATUS = "status"
    EXPLAIN = "explain"
    """What became of a key: its version, or (`refused` is NOT_COMMITTED) that no commit carries it."""
    FOREIGN = "foreign"


class Ground(StrEnum):
    """What a refusal claims about the table at the moment it was decided."""

    USED = "used"
    """The key belongs to another request."""
    STALE = "stale"
    """The table is beyond the request's read version, and the request is not in it."""
    FUTURE = "future"
    """The table has not reached the request's read version, and the request is not in it."""
    NOT_COMMITTED = "not-committed"
    """The request is not in the table; the rest of the reason lies outside the table's versions."""
    NONE = "none"
    """Nothing: decided at the door."""


GROUNDS = {
    Code.KEY_REUSED: Ground.USED,
    Code.STALE_READ_VERSION: Ground.STALE,
    Code.METADATA_CHANGED: Ground.STALE,
    Code.TXN_CONFLICT: Ground.STALE,
    Code.FUTURE_READ_VERSION: Ground.FUTURE,
    Code.STAGED_MISSING: Ground.NOT_COMMITTED,
    Code.STAGED_CHANGED: Ground.NOT_COMMITTED,
    Code.NOT_AN_APPEND: Ground.NOT_COMMITTED,
    Code.UNSUPPORTED_FEATURE: Ground.NOT_COMMITTED,
}
AT_THE_DOOR = frozenset(
    {
        Code.INVALID_REQUEST, Code.INVALID_KEY, Code.KEYS_DIFFER, Code.INVALID_PATH, Code.INVALID_PAYLOAD,
        Code.PAYLOAD_TOO_LARGE, Code.TABLE_NOT_FOUND, Code.PATH_CONFLICT, Code.UNAVAILABLE, Code.INTERNAL,
        Code.MISSING_TOKEN,
    }
)  # fmt: skip


def ground(code: Code) -> Ground:
    """Return what a refusal with `code` claims about the table; raises `KeyError` for a code that has no entry."""
    return Ground.NONE if code in AT_THE_DOOR else GROUNDS[code]


@dataclass(frozen=True)
class Operation:
    """One call of one client.

    `call` and `ret` are readings of one clock (integers, `NEVER` without an answer); the interval is closed.
    `version` is the answer of a commit that was accepted, of a read, or of a foreign version; `refused` is what a
    refusal claims. A commit with neither is unknown: it may have happened, or happen later.
    """

    table: str
    kind: Kind
    call: int
    ret: int
    key: str = ""
    payload: str = ""
    append: bool = False
    read_version: int = -1
    version: int | None = None
    refused: Ground | None = None

    @property
    def identity(self) -> str:
        """What makes two commits under one key the same request (docs/protocol.md#commits)."""
        return f"append:{self.payload}" if self.append else f"strict:{self.payload}:{self.read_version}"

    @property
    def unknown(self) -> bool:
        """Return whether a commit was never answered."""
        return self.kind is Kind.COMMIT and self.version is None and self.refused is None


def to_json(history: Iterable[Operation]) -> str:
    """Return the history as one line of JSON, for the comparison and for the artefacts of a failed run."""
    return json.dumps([asdict(op) | {"identity": op.identity} for op in history])
