"""The sequencer's real steps run in this process: what a workspace's LedgerWorkflow does, without Temporal."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from typing import Any

from springline.ledger.event_ids import RANDOM_BITS, new_event_id
from springline.ledger.request import (
    AppendOutcome,
    AppendRequest,
    EventOutcome,
    IngestOutcome,
    IngestRequest,
    VisibilityStatus,
)
from springline.paths import Scope
from springline.projection.config import FoldConfig
from springline.sequencer.messages import (
    AdmitForeignOrder,
    AdmitOrder,
    Admitted,
    Folded,
    FoldOrder,
    Head,
    OpenOrder,
    PendingRound,
    PublishOrder,
    RoundStep,
    WorkspaceRef,
)
from springline.sequencer.workspace import Sequencer
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore


class LocalLedger:
    """A ledger port that runs rounds itself, one at a time for each workspace.

    `holds_back`: appends are kept and answered before readers see them, as when folding takes long.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._turns: dict[Scope, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._sequencers: dict[Scope, Sequencer] = {}
        self.holds_back = False
        self.requests: list[AppendRequest | IngestRequest] = []

    async def append(self, scope: Scope, request: AppendRequest) -> AppendOutcome:
        self.requests.append(request)
        async with self._turns[scope]:
            sequencer, ref = self._sequencer(scope)
            head, number = await self._opened(sequencer, ref)
            order = AdmitOrder(
                workspace=ref,
                head=head,
                round=number,
                first_event_id=fresh_ulid(head.last_event_id),
                now_ms=now_ms(),
                writer="local",
                requests=[request],
            )
            admitted = await sequencer.admit(order)
            answer = admitted.answers[0]
            if admitted.round is None or answer.refusal is not None or answer.replayed:
                return answer
            visible, _ = await self._visible(sequencer, ref, head, admitted)
            return answer.model_copy(update=visible)

    async def ingest(self, scope: Scope, request: IngestRequest) -> IngestOutcome:
        self.requests.append(request)
        async with self._turns[scope]:
            sequencer, ref = self._sequencer(scope)
            head, number = await self._opened(sequencer, ref)
            order = AdmitForeignOrder(
                workspace=ref, head=head, round=number, now_ms=now_ms(), writer="local", requests=[request]
            )
            admitted = await sequencer.admit_foreign(order)
            answer = admitted.foreign_answers[0]
            if admitted.round is None:
                return answer
            visible, outcomes = await self._visible(sequencer, ref, head, admitted)
            return answer.model_copy(update={**visible, "outcomes": outcomes})

    async def status(self, scope: Scope) -> dict[str, Any] | None:
        return {"phase": "judging" if self._turns[scope].locked() else "resting", "lag_seconds": 0.0}

    def _sequencer(self, scope: Scope) -> tuple[Sequencer, WorkspaceRef]:
        if scope not in self._sequencers:
            config = FoldConfig(scope.tenant, scope.workspace)
            self._sequencers[scope] = Sequencer(ScopedStore(self._store, scope), config)
        return self._sequencers[scope], WorkspaceRef(tenant=scope.tenant, workspace=scope.workspace)

    async def _opened(self, sequencer: Sequencer, ref: WorkspaceRef) -> tuple[Head, int]:
        """Finish what an earlier call left, and return where the workspace stands."""
        opened = await sequencer.open(OpenOrder(workspace=ref))
        head = opened.head
        for pending in opened.pending:
            head, _ = await self._finish(sequencer, ref, head, pending)
        return head, opened.next_round

    async def _visible(
        self, sequencer: Sequencer, ref: WorkspaceRef, head: Head, admitted: Admitted
    ) -> tuple[dict[str, VisibilityStatus | str], dict[EventOutcome, int]]:
        assert admitted.round is not None
        if self.holds_back:
            await sequencer.append(RoundStep(workspace=ref, round=admitted.round))
            return {"visibility_status": VisibilityStatus.PERSISTED_NOT_VISIBLE}, {}
        after, folded = await self._finish(sequencer, ref, head, admitted.round)
        return {
            "visibility_status": VisibilityStatus.VISIBLE,
            "manifest_id": after.manifest_id,
            "manifest_revision": after.manifest_revision,
        }, folded.outcomes

    async def _finish(
        self, sequencer: Sequencer, ref: WorkspaceRef, head: Head, pending: PendingRound
    ) -> tuple[Head, Folded]:
        revision = fresh_ulid(None)
        await sequencer.append(RoundStep(workspace=ref, round=pending))
        folded = await sequencer.fold(
            FoldOrder(
                workspace=ref,
                head=head,
                round=pending,
                delta_id=fresh_ulid(None),
                snapshot_id=fresh_ulid(None),
                manifest_revision=revision,
                now_ms=now_ms(),
            )
        )
        published = await sequencer.publish(
            PublishOrder(
                workspace=ref, head=head, round=pending, folded=folded, manifest_revision=revision, now_ms=now_ms()
            )
        )
        assert published.head is not None
        return published.head, folded


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def fresh_ulid(after: str | None) -> str:
    return new_event_id(after, now_ms(), random.getrandbits(RANDOM_BITS))
