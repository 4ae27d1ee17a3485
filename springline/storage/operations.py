"""Storage operations as values that a hook decides and a trace records: the types of `faults`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

from springline.paths import ObjectPath, parse_delta_checkpoint, parse_delta_log
from springline.storage.port import Precondition


class OperationKind(StrEnum):
    """Kinds of operations."""

    GET = "get"
    PUT = "put"
    HEAD = "head"
    DELETE = "delete"
    LIST = "list"


WRITES = frozenset({OperationKind.PUT, OperationKind.DELETE})


class Decision(Enum):
    """The fate of one operation. An unclear answer is `StoreUnknown` for writes and `StoreRetry` for reads."""

    PROCEED = "proceed"
    FAIL_BEFORE = "fail before"
    """It does not happen, and the caller knows (`StoreRetry`)."""
    FAIL_AFTER = "fail after"
    """It happens, and the caller gets an unclear answer."""
    LOSE = "lose"
    """It never happens, and the caller gets an unclear answer."""
    LATE = "late"
    """The caller gets an unclear answer now; a write happens when the test delivers it (`FaultyStore.late`)."""
    DIE_BEFORE = "die before"
    """The process dies before it sends the request."""
    DIE_AFTER = "die after"
    """It happens, and the process dies before it gets the answer."""
    DIE_LATE = "die late"
    """The process dies with the request in flight; a write happens when the test delivers it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call as a hook sees it.

    `index` counts all calls of the store from 0, `actor_index` those of the calling `actor`. `precondition`
    and `data` are set for puts, `if_version` for deletes. For a list, `path` is the prefix.
    """

    index: int
    kind: OperationKind
    path: ObjectPath
    actor: str
    actor_index: int
    precondition: Precondition | None = None
    data: bytes | None = None
    if_version: str | None = None


Hook = Callable[[Operation], Awaitable[Decision]]
"""Called for every operation before it runs. It may wait for any time: so tests delay operations, and a scheduler
decides their order."""


def plan(decisions: Mapping[int, Decision]) -> Hook:
    """Return a hook that decides operations by their index and lets all others proceed."""

    async def decide(operation: Operation) -> Decision:
        return decisions.get(operation.index, Decision.PROCEED)

    return decide


def on(matches: Callable[[Operation], bool], decision: Decision, *, nth: int = 0) -> Hook:
    """Return a hook that decides the `nth` (from 0) operation that `matches`, and lets all others proceed."""
    seen = 0

    async def decide(operation: Operation) -> Decision:
        nonlocal seen
        if not matches(operation):
            return Decision.PROCEED
        seen += 1
        return decision if seen == nth + 1 else Decision.PROCEED

    return decide


class Outcome(StrEnum):
    """The caller's answer."""

    FOUND = "found"
    ABSENT = "absent"
    STORED = "stored"
    PRECONDITION_FAILED = "precondition failed"
    DELETED = "deleted"
    NOT_DELETED = "not deleted"
    LISTED = "listed"
    RETRY = "retry"
    UNKNOWN = "unknown"
    THROTTLED = "throttled"
    DIED = "died"
    ERROR = "error"
    """The wrapped store itself failed."""


@dataclass(frozen=True, slots=True)
class Traced:
    """One line of the trace: the request, the caller's answer, and whether the wrapped store got the request."""

    operation: Operation
    outcome: Outcome
    happened: bool


def path_kind(path: ObjectPath) -> str:
    """Return the group that a path is counted under: `log`, `checkpoint`, or its first two folders."""
    if parse_delta_log(path) is not None:
        return "log"
    if parse_delta_checkpoint(path) is not None:
        return "checkpoint"
    folders = path.split("/")[:-1]
    while folders and "=" in folders[0]:
        folders.pop(0)
    return "/".join(folders[:2])
