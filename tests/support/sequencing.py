"""A workspace's sequencer as its workflow runs it, without Temporal: rounds in order, crashes, another process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from springline.ledger.envelope import parse_event
from springline.ledger.event_ids import new_event_id
from springline.ledger.request import IngestOutcome, IngestRequest
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.sequencer.messages import (
    AdmitForeignOrder,
    FoldOrder,
    Head,
    OpenOrder,
    PendingRound,
    PublishOrder,
    RoundStep,
    WorkspaceRef,
)
from springline.sequencer.workspace import Sequencer
from springline.storage.faults import ProcessDied
from springline.storage.port import ObjectStore

NOW_MS = 1_900_000_000_000
"""Later than all events of the tests, so that none is deferred."""


class Sequencing:
    """One sequencer at a time over one store. `process()` gives it a fresh process, which remembers nothing."""

    def __init__(self, store: ObjectStore, config: FoldConfig) -> None:
        self._store = store
        self._config = config
        self._workspace = WorkspaceRef(tenant=config.tenant, workspace=config.workspace)
        self._numbers = count(1)
        self._sequencer = Sequencer(store, config)
        self._writer = "run-0"
        self.head: Head | None = None
        self.next_round = 1
        self.digest: str | None = None
        self.kinds: list[str] = []

    def process(self, store: ObjectStore | None = None) -> None:
        """Go on in a fresh process."""
        self._store = store if store is not None else self._store
        self._sequencer = Sequencer(self._store, self._config)
        self._writer = f"run-{next(self._numbers)}"
        self.head = None

    async def ingest(self, paths: Sequence[str]) -> IngestOutcome:
        """Take in foreign events in one round; tried until it is done."""
        while True:
            head = await self._opened()
            admitted = await self._sequencer.admit_foreign(
                AdmitForeignOrder(
                    workspace=self._workspace,
                    head=head,
                    round=self.next_round,
                    now_ms=NOW_MS,
                    writer=self._writer,
                    requests=[IngestRequest(event_paths=list(paths))],
                )
            )
            if admitted.kind == "taken":
                self.head = None
                continue
            if admitted.kind == "admitted":
                assert admitted.round is not None
                await self._finish(admitted.round)
            return admitted.foreign_answers[0]

    async def settle(self) -> None:
        """Finish whatever is pending."""
        self.head = None
        await self._opened()

    async def _opened(self) -> Head:
        while self.head is None:
            opened = await self._sequencer.open(OpenOrder(workspace=self._workspace))
            self.head, self.next_round = opened.head, opened.next_round
            for pending in opened.pending:
                if self.head is None:
                    break
                self.next_round = pending.number
                await self._finish(pending)
        return self.head

    async def _finish(self, pending: PendingRound) -> None:
        assert self.head is not None
        await self._sequencer.append(RoundStep(workspace=self._workspace, round=pending))
        order = FoldOrder(
            workspace=self._workspace,
            head=self.head,
            round=pending,
            delta_id=self._ulid(),
            snapshot_id=self._ulid(),
            manifest_revision=self._ulid(),
            now_ms=NOW_MS,
        )
        folded = await self._sequencer.fold(order)
        self.kinds.append(folded.kind)
        published = await self._sequencer.publish(
            PublishOrder(
                workspace=self._workspace,
                head=self.head,
                round=pending,
                folded=folded,
                manifest_revision=order.manifest_revision,
                now_ms=NOW_MS,
            )
        )
        self.head = published.head if published.kind == "visible" else None
        self.next_round = pending.number + 1
        if published.kind == "visible":
            self.digest = folded.digest

    def _ulid(self) -> str:
        return new_event_id(None, NOW_MS, next(self._numbers))


def in_order(bodies: Iterable[bytes], config: FoldConfig) -> Digest:
    """Return the digest of the in-order fold: the yardstick. `bodies` may repeat."""
    by_id = {event.event_id: event for event in map(parse_event, bodies)}
    state = State(config)
    state.fold_all(by_id[event_id] for event_id in sorted(by_id))
    return Digest.of({name: state.rows(name) for name in TABLES})


__all__ = ["NOW_MS", "ProcessDied", "Sequencing", "in_order"]
