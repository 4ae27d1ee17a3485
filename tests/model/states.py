"""What the commit model is made of: rules, requests, the store, the callers, and where a scenario starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Rules:
    """The guards of the protocol; False leaves one out."""

    owner_reads_markers: bool = True
    """The owner reads its members' markers after its reservation, before it writes the log
    (docs/protocol.md#rule-6)."""
    helper_reads_markers: bool = True
    """So does a helper, after having read the reservation (docs/protocol.md#rule-6)."""
    fill: bool = True
    """A reservation without its staged payload is abandoned by filling its version, not by clearing
    (docs/protocol.md#rule-4)."""
    compare_bytes: bool = True
    """A log file found at the reserved version is ours only if its bytes are (docs/protocol.md#rule-3)."""
    reread_before_conflict: bool = True
    """Markers are read once more before a conflict is answered (docs/protocol.md#rule-6)."""
    settle_before_refusal: bool = True
    """What is in flight is completed before a request is refused (docs/protocol.md#rule-6)."""
    read_back: bool = True
    """A failed create of the log is read back: it may be our own earlier write (docs/protocol.md#rule-3)."""
    check_commit_id: bool = True
    """After an unclear compare-and-swap only our own `commit_id` means ours (docs/protocol.md#rule-6)."""
    payload_after_reservation: bool = True
    """The bytes written to the log are read after the reservation, so that a lost payload is seen by all."""
    own_marker_is_ours: bool = True
    """A marker at the reservation's own version does not make it void (docs/protocol.md#rule-2,
    docs/protocol.md#rule-6)."""
    fill_yields: bool = True
    """A fill that loses to the owner's log finishes the reservation as the owner's (docs/protocol.md#rule-4)."""
    abandon: bool = True
    """A reservation that cannot be completed is abandoned at all (docs/protocol.md#rule-4)."""
    move_appends: bool = True
    """An append that meets a foreign file moves on instead of waiting for that version (docs/protocol.md#rule-3)."""


class Request(NamedTuple):
    """What a caller wants: requests with equal `key` and `payload` are the same request.

    `form` says in which bytes the payload comes: a request that is known by its fingerprint may come in several.
    """

    key: int
    payload: int
    strict: bool = False
    read_version: int = 0
    staged: int = 0
    form: int = 0


class Content(NamedTuple):
    """The bytes of a log file: `payloads` in order, each in its form; `by` makes a merged or filling file unique."""

    kind: str  # "init", "foreign", "fill", "one", "many"
    payloads: tuple[int, ...] = ()
    by: tuple[int, int] = (-1, 0)
    forms: tuple[int, ...] = ()


class Reservation(NamedTuple):
    commit_id: tuple[int, int]
    version: int
    strict: bool
    members: tuple[int, ...]  # indices of requests
    staged: int | tuple[int, int]
    content: Content


class Coordinator(NamedTuple):
    latest: int
    inflight: Reservation | None


class Write(NamedTuple):
    """A storage write. `fresh` belongs to compare-and-swap: nobody has written the object since it was read.

    `origin` is the staged object that a log file was copied from; only the invariants look at it.
    """

    kind: str  # "cas", "log", "marker"
    coordinator: Coordinator | None = None
    fresh: bool = False
    version: int = -1
    content: Content | None = None
    request: int = -1
    origin: int | tuple[int, int] | None = None


class Proc(NamedTuple):
    """A caller: where it is (`pc`), what it still wants, what it has read. A caller without requests is a helper."""

    pc: str
    todo: tuple[int, ...]
    answers: tuple[tuple[int, int], ...] = ()  # request -> version, or STALE, USED, MISSING
    attempt: int = 0
    view: Coordinator | None = None
    fresh: bool = False
    owner: bool = False
    at: int = 0
    bad: tuple[int, ...] = ()
    why: int = 0
    free: int = -1
    bytes_read: bool = False


class State(NamedTuple):
    coordinator: Coordinator
    log: tuple[Content, ...]
    origins: tuple[int | tuple[int, int] | None, ...]
    markers: tuple[tuple[int, int, int], ...]  # key, payload, version, ascending
    staged: frozenset[int | tuple[int, int]]
    procs: tuple[Proc, ...]
    under_way: tuple[Write, ...] = ()
    crashes: int = 0
    lost: int = 0
    deletes: int = 0
    foreign: int = 0


# Refusals, in the place of a version.
STALE, USED, MISSING = -1, -2, -3
LOST = "lost"
OK = "ok"
FAILED = "failed"


@dataclass(frozen=True)
class Scenario:
    """Who wants what, and how many faults of each kind there may be."""

    requests: tuple[Request, ...]
    callers: tuple[tuple[int, ...], ...]
    crashes: int = 1
    lost: int = 1
    deletes: int = 0
    foreign: int = 0
    rules: Rules = Rules()

    def start(self) -> State:
        """Return the state before anybody has done anything: version 0 exists."""
        return State(
            coordinator=Coordinator(0, None),
            log=(Content("init"),),
            origins=(None,),
            markers=(),
            staged=frozenset(r.staged for r in self.requests),
            procs=tuple(Proc("markers" if todo else "look", todo) for todo in self.callers),
            crashes=self.crashes,
            lost=self.lost,
            deletes=self.deletes,
            foreign=self.foreign,
        )


def marker_of(state: State, key: int) -> tuple[int, int] | None:
    """Return payload and version of the marker of `key`."""
    for known, payload, version in state.markers:
        if known == key:
            return payload, version
    return None


def restarted(proc: Proc) -> Proc:
    """Return the caller after its death: the same request and nothing else."""
    return Proc("markers" if proc.todo else "look", proc.todo, proc.answers, proc.attempt)


def again(proc: Proc, pc: str = "markers") -> Proc:
    """Start over: forget what was read."""
    if not proc.todo:
        pc = "look"
    return proc._replace(pc=pc, view=None, fresh=False, owner=False, at=0, bad=(), why=0, free=-1, bytes_read=False)


def done(proc: Proc) -> Proc:
    return Proc("done", proc.todo, proc.answers)
