"""Progress of a LedgerWorkflow run, for its status."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from springline.ledger.request import AppendOutcome, IngestOutcome, VisibilityStatus
from springline.sequencer.messages import Folded, Head, PendingRound
from springline.ulids import ulid_time_ms
from workflows.ledger_messages import LedgerRetry, LedgerRound, time_of
from workflows.ledger_queue import AppendTicket, IngestTicket

REMEMBERED = 20


@dataclass(eq=False, slots=True)
class Accepted:
    """A round whose record exists and that is not visible, with the answers that wait for it.

    Rounds that `open` found have none.
    """

    round: PendingRound
    since_ms: int
    found_pending: bool = False
    appends: list[tuple[AppendTicket, AppendOutcome]] = field(default_factory=list)
    ingests: list[tuple[IngestTicket, IngestOutcome]] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many requests wait for it."""
        return len(self.appends) + len(self.ingests)

    def tell(self, status: VisibilityStatus, head: Head | None = None, folded: Folded | None = None) -> None:
        """Give out the answers. With `head`, they name the revision that shows the events."""
        update: dict[str, object] = {
            "visibility_status": status,
            "manifest_id": head and head.manifest_id,
            "manifest_revision": head and head.manifest_revision,
        }
        for append, appended in self.appends:
            append.settle(appended.model_copy(update=update))
        if folded is not None and len(self.ingests) == 1:
            update["outcomes"] = folded.outcomes
        for ingest, ingested in self.ingests:
            ingest.settle(ingested.model_copy(update=update))


def found_pending(pending: PendingRound, now_ms: int) -> Accepted:
    """Return a round that an earlier run left, accepted when its first event of ours was made."""
    first = None if pending.foreign else pending.first_event_id
    made = None if first is None else ulid_time_ms(first)
    return Accepted(pending, now_ms if made is None else made, found_pending=True)


def row_of(done: LedgerRound) -> str:
    """Return a round as a row of the table in the details."""
    foreign = " (foreign)" if done.foreign else ""
    pending = " (found pending)" if done.found_pending else ""
    return (
        f"| {done.number}{foreign}{pending} | {done.events} | {done.requests} | {done.kind} | {done.took_ms} ms "
        f"| {time_of(done.visible_at_ms)} | `{done.manifest_revision}` |"
    )


@dataclass(slots=True)
class Progress:
    """Counts and recent events of a run."""

    phase: str = "waiting for requests"
    loading: str | None = None
    """The last reported progress of loading the state, in this phase."""
    rounds: int = 0
    appended: int = 0
    replayed: int = 0
    refused: int = 0
    refused_events: int = 0
    ingested: int = 0
    setbacks: int = 0
    switched: int = 0
    digest: str | None = None
    failure: str | None = None
    recent: deque[LedgerRound] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    retried: deque[LedgerRetry] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    damaged: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    rows: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """`recent` as rows of a Markdown table, newest first; made once, because a round shows details many times."""

    def note_visible(self, accepted: Accepted, folded: Folded, head: Head, began_ms: int, now_ms: int) -> None:
        """Record a round that readers see now."""
        pending = accepted.round
        self.rounds += 1
        self.digest = folded.digest
        self.failure = None
        done = LedgerRound(
            number=pending.number,
            kind=folded.kind,
            events=pending.events,
            requests=accepted.requests,
            foreign=pending.foreign,
            found_pending=accepted.found_pending,
            manifest_revision=head.manifest_revision,
            visible_at_ms=now_ms,
            took_ms=now_ms - began_ms,
        )
        self.recent.append(done)
        self.rows.appendleft(row_of(done))

    def note_answer(self, answer: AppendOutcome) -> None:
        """Count the answer of a request."""
        if answer.refusal is not None:
            self.refused += 1
        elif answer.replayed:
            self.replayed += 1
        else:
            self.appended += 1
            self.refused_events += len(answer.refused)

    def note_attempts(self, step: str, number: int | None, attempts: int) -> None:
        """Remember a step that survived a crash or a fault, so that a recovered round explains itself."""
        if attempts > 1:
            self.retried.append(LedgerRetry(step=step, round=number, attempts=attempts))

    @property
    def events_per_second(self) -> float:
        """The rate of the recent rounds, from the beginning of the first of them to the end of the last."""
        if not self.recent:
            return 0.0
        began = self.recent[0].visible_at_ms - self.recent[0].took_ms
        seconds = (self.recent[-1].visible_at_ms - began) / 1000
        return round(sum(one.events for one in self.recent) / seconds, 1) if seconds > 0 else 0.0
