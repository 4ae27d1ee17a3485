"""A run of a workspace's sequencer without Temporal: the real steps in the workflow's order, retried as it would.

Ids and times follow from the run's number alone, so that every history can be repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from springline.ledger.event_ids import new_event_id
from springline.ledger.request import AppendOutcome, AppendRequest, IngestOutcome, IngestRequest
from springline.projection.config import FoldConfig
from springline.sequencer.messages import (
    AdmitForeignOrder,
    AdmitOrder,
    Folded,
    FoldOrder,
    Head,
    Opened,
    OpenOrder,
    PendingRound,
    PublishOrder,
    RoundStep,
    WorkspaceRef,
)
from springline.sequencer.workspace import Sequencer
from springline.storage.faults import ProcessDied
from springline.storage.port import ObjectStore, StoreError
from tests.support.sequencer_world import CONFIG, NOW_MS, scoped

REF = WorkspaceRef(tenant="acme", workspace="prod")
STEP_ATTEMPTS = 20
SETBACKS = 20


class Stuck(Exception):
    """A step fails for ever, or a round never becomes visible."""


class Run:
    """One run. `store` is the whole bucket as its process sees it; `number` keeps its ids apart from others'.

    `process` gives the store of the next process when this one has died: then the same step goes on there. Without
    it the run ends with `ProcessDied`. `cold`: every attempt of a step happens in a process that remembers nothing.
    """

    def __init__(
        self,
        store: ObjectStore,
        number: int = 0,
        *,
        process: Callable[[], ObjectStore] | None = None,
        cold: bool = False,
        config: FoldConfig = CONFIG,
    ) -> None:
        self.number = number
        self.now_ms = NOW_MS + 60_000 + number
        self.kinds: list[str] = []
        self.folded: Folded | None = None
        self.head: Head | None = None
        self.next_round = 0
        self.opened: Opened | None = None
        self._store, self._process, self._cold, self._config = store, process, cold, config
        self._ulids = 0
        self.sequencer = Sequencer(scoped(store), config)

    async def append(self, *requests: AppendRequest) -> list[AppendOutcome]:
        """Have requests admitted and made visible; return their answers in order."""
        for _ in range(SETBACKS):
            head = await self._ready()
            admitted = await self.step("admit", self.admit_order(head, requests))
            if admitted.kind == "taken":
                self.head = None
            elif admitted.kind == "nothing" or await self.finish(admitted.round, head):
                return list(admitted.answers)
            else:
                await self._ready()
                return list(admitted.answers)
        raise Stuck("the round's number is always another's")

    async def ingest(self, *paths: str) -> IngestOutcome:
        """Have foreign events taken in and made visible; return the answer."""
        for _ in range(SETBACKS):
            head = await self._ready()
            order = AdmitForeignOrder(
                workspace=REF,
                head=head,
                round=self.next_round,
                now_ms=self.now_ms,
                writer=f"run-{self.number}",
                requests=[IngestRequest(event_paths=list(paths))],
            )
            admitted = await self.step("admit_foreign", order)
            if admitted.kind == "taken":
                self.head = None
                continue
            if admitted.kind == "admitted" and not await self.finish(admitted.round, head):
                await self._ready()
            (answer,) = admitted.foreign_answers
            return IngestOutcome.model_validate(answer)
        raise Stuck("the round's number is always another's")

    async def settle(self) -> Head:
        """Open the workspace, finish all that is pending and take in what the reference has published."""
        self.head = None
        for _ in range(SETBACKS):
            head = await self._ready()
            assert self.opened is not None
            paths = self.opened.foreign_paths
            if not head.foreign or not paths:
                return head
            await self.ingest(*paths)
            self.head = None
        raise Stuck("there is always something to take in")

    async def _ready(self) -> Head:
        for _ in range(SETBACKS):
            if self.head is not None:
                return self.head
            self.opened = opened = await self.step("open", OpenOrder(workspace=REF))
            self.head, self.next_round = opened.head, opened.head.rounds_folded + 1
            for pending in opened.pending:
                if self.head is None or not await self.finish(pending, self.head):
                    break
        raise Stuck("somebody else is always faster")

    def admit_order(self, head: Head, requests: Sequence[AppendRequest]) -> AdmitOrder:
        """Return the order to judge requests on `head`."""
        return AdmitOrder(
            workspace=REF,
            head=head,
            round=self.next_round,
            first_event_id=self.ulid(head.last_event_id),
            now_ms=self.now_ms,
            writer=f"run-{self.number}",
            requests=list(requests),
        )

    def fold_order(self, head: Head, pending: PendingRound) -> FoldOrder:
        """Return the order to fold a round on `head`."""
        return FoldOrder(
            workspace=REF,
            head=head,
            round=pending,
            delta_id=self.ulid(),
            snapshot_id=self.ulid(),
            manifest_revision=self.ulid(),
            now_ms=self.now_ms,
        )

    async def finish(self, pending: PendingRound | None, head: Head) -> bool:
        """Append, fold and publish a round; False if somebody else moved the pointer."""
        assert pending is not None
        await self.step("append", RoundStep(workspace=REF, round=pending))
        order = self.fold_order(head, pending)
        self.folded = folded = await self.step("fold", order)
        self.kinds.append(folded.kind)
        publish = PublishOrder(
            workspace=REF,
            head=head,
            round=pending,
            folded=folded,
            manifest_revision=order.manifest_revision,
            now_ms=self.now_ms,
        )
        published = await self.step("publish", publish)
        self.head, self.next_round = published.head, pending.number + 1
        return published.head is not None

    async def step(self, name: str, order: object) -> Any:
        """Run a step until it gives an answer."""
        for _ in range(STEP_ATTEMPTS):
            if self._cold:
                self.sequencer = Sequencer(scoped(self._store), self._config)
            act: Callable[[object], Awaitable[Any]] = getattr(self.sequencer, name)
            try:
                return await act(order)
            except StoreError:
                continue
            except ProcessDied:
                if self._process is None:
                    raise
                self._store = self._process()
                self.sequencer = Sequencer(scoped(self._store), self._config)
        raise Stuck(f"{name} failed {STEP_ATTEMPTS} times")

    def ulid(self, after: str | None = None) -> str:
        """Return the run's next id, above `after`."""
        self._ulids += 1
        return new_event_id(after, self.now_ms + self._ulids, self.number << 40 | self._ulids)
