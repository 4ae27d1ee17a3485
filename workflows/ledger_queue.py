"""Queues of LedgerWorkflow's rounds: requests, in the order in which they came, and events that are not due yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from springline.ledger.request import (
    MAX_ROUND_BYTES,
    MAX_ROUND_EVENTS,
    AppendOutcome,
    AppendRequest,
    IngestOutcome,
    IngestRequest,
)
from springline.paths import event_id_from_ledger_path
from springline.rebuild.messages import SwitchOrder
from springline.ulids import ulid_time_ms
from workflows.ledger_messages import MAX_BATCH, MAX_BATCH_PATHS, DeferredPath, SwitchOutcome

AHEAD_MS = 5 * 60 * 1000
"""An event is deferred if its id lies further ahead of workflow time than this."""
KEEP_ALIVE_MS = 3600 * 1000
"""A run stays for an event that is due within this time; the caller sends later ones again."""
MAX_DEFERRED = 10_000

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(eq=False, slots=True)
class Ticket(Generic[Q, A]):
    """A request, how much of a round it takes, and the future its caller waits on.

    `key`: two tickets of one key never share a round.
    """

    request: Q
    answer: asyncio.Future[A]
    units: int
    size: int = 0
    key: str | None = None
    apart: object | None = None
    """A mark shared by the tickets of a halved round that failed: they are tried apart from all others."""

    def settle(self, answer: A) -> None:
        """Answer the caller, unless that has been done."""
        if not self.answer.done():
            self.answer.set_result(answer)


AppendTicket = Ticket[AppendRequest, AppendOutcome]
IngestTicket = Ticket[IngestRequest, IngestOutcome]
SwitchTicket = Ticket[SwitchOrder, SwitchOutcome]


def append_ticket(request: AppendRequest) -> AppendTicket:
    """Return the ticket of an append request: it takes its events and their bytes."""
    return Ticket(request, _future(), len(request.events), request.payload_bytes, key=request.request_id)


def ingest_ticket(request: IngestRequest) -> IngestTicket:
    """Return the ticket of an ingest request: it takes its paths."""
    return Ticket(request, _future(), len(request.event_paths))


def switch_ticket(order: SwitchOrder) -> SwitchTicket:
    """Return the ticket of a rebuilt state; it has a turn of its own."""
    return Ticket(order, _future(), 1)


class Queue(Generic[Q, A]):
    """Tickets in the order they came. A round takes at most `units`, `size` and `members` of them, and at least one."""

    def __init__(self, *, units: int, size: int | None = None, members: int = MAX_BATCH) -> None:
        self._most_units = units
        self._most_size = size
        self._most_members = members
        self._tickets: deque[Ticket[Q, A]] = deque()
        self.units = 0
        self.size = 0

    def __len__(self) -> int:
        """Return how many requests wait."""
        return len(self._tickets)

    def put(self, ticket: Ticket[Q, A]) -> Ticket[Q, A]:
        """Add a ticket at the end and return it."""
        self._tickets.append(ticket)
        self._count(ticket, 1)
        return ticket

    def put_back(self, tickets: Iterable[Ticket[Q, A]]) -> None:
        """Add tickets at the front, in their order, as if they had never been taken."""
        for ticket in reversed(list(tickets)):
            self._tickets.appendleft(ticket)
            self._count(ticket, 1)

    def take(self) -> list[Ticket[Q, A]]:
        """Take the tickets that fit into a round, in order; of two with the same key the second waits.

        Tickets that are tried apart share a round with no others.
        """
        taken: list[Ticket[Q, A]] = []
        keys: set[str] = set()
        twins: list[Ticket[Q, A]] = []
        units = size = 0
        apart = self._tickets[0].apart if self._tickets else None
        while self._tickets and len(taken) < self._most_members:
            ticket = self._tickets[0]
            if ticket.apart is not apart:
                break
            if ticket.key is not None and ticket.key in keys:
                twins.append(self._pop())
                continue
            units += ticket.units
            size += ticket.size
            if taken and (units > self._most_units or (self._most_size is not None and size > self._most_size)):
                break
            if ticket.key is not None:
                keys.add(ticket.key)
            taken.append(self._pop())
        self.put_back(twins)
        return taken

    def put_back_halved(self, tickets: list[Ticket[Q, A]]) -> None:
        """Add the tickets of a round that failed at the front: its two halves are tried apart from each other."""
        middle = len(tickets) // 2
        for half in (tickets[:middle], tickets[middle:]):
            group = object()
            for ticket in half:
                ticket.apart = group
        self.put_back(tickets)

    def take_all(self) -> list[Ticket[Q, A]]:
        """Take every ticket."""
        return self.drop(lambda _ticket: True)

    def drop(self, unwanted: Callable[[Ticket[Q, A]], bool]) -> list[Ticket[Q, A]]:
        """Take out the tickets that `unwanted` names."""
        dropped = [ticket for ticket in self._tickets if unwanted(ticket)]
        self._tickets = deque(ticket for ticket in self._tickets if not unwanted(ticket))
        for ticket in dropped:
            self._count(ticket, -1)
        return dropped

    def _pop(self) -> Ticket[Q, A]:
        ticket = self._tickets.popleft()
        self._count(ticket, -1)
        return ticket

    def _count(self, ticket: Ticket[Q, A], sign: int) -> None:
        self.units += sign * ticket.units
        self.size += sign * ticket.size


def append_queue() -> Queue[AppendRequest, AppendOutcome]:
    """Return an empty queue of append requests."""
    return Queue(units=MAX_ROUND_EVENTS, size=MAX_ROUND_BYTES)


def ingest_queue() -> Queue[IngestRequest, IngestOutcome]:
    """Return an empty queue of ingest requests."""
    return Queue(units=MAX_BATCH_PATHS)


def switch_queue() -> Queue[SwitchOrder, SwitchOutcome]:
    """Return an empty queue of rebuilt states."""
    return Queue(units=1, members=1)


class Deferred:
    """Foreign events that lie too far in the future, by path, and when each is due, in ms since 1970.

    The run keeps them in memory only.
    """

    def __init__(self) -> None:
        self._due: dict[str, int | None] = {}

    def __len__(self) -> int:
        """Return how many events are deferred."""
        return len(self._due)

    def note(self, paths: Iterable[str]) -> None:
        """Remember these, as many as there is room for."""
        for path in paths:
            if len(self._due) < MAX_DEFERRED:
                event_id = event_id_from_ledger_path(path)
                made = None if event_id is None else ulid_time_ms(event_id)
                self._due[path] = None if made is None else made - AHEAD_MS

    def take_due(self, now_ms: int) -> list[str]:
        """Take out the paths whose events are due."""
        due = [path for path, at in self._due.items() if at is not None and at <= now_ms]
        for path in due:
            del self._due[path]
        return due

    def wait_ms(self, now_ms: int) -> int | None:
        """Return how long it is until the next one is due, None if no run should wait for that long."""
        waits = [at - now_ms for at in self._due.values() if at is not None and at - now_ms <= KEEP_ALIVE_MS]
        return max(1, min(waits)) if waits else None

    def shown(self) -> list[DeferredPath]:
        """Return all, the next one due first."""
        found = [DeferredPath(path=path, due_ms=at) for path, at in self._due.items()]
        return sorted(found, key=lambda one: (one.due_ms is None, one.due_ms, one.path))


def _future() -> asyncio.Future[A]:
    return asyncio.get_running_loop().create_future()
