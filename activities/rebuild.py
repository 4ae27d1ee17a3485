"""The activities of a rebuild: each one part of the work, idempotent and safe to run twice at once.

They share only the work folder in storage, so any worker can do any part.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from temporalio import activity

from activities.interceptor import step
from springline import names
from springline.ledger.request import EventOutcome, RefusalReason
from springline.paths import Scope
from springline.rebuild.accepted import AcceptedHashes, accepted_of
from springline.rebuild.assemble import assemble, read_base
from springline.rebuild.compare import compare, write_report
from springline.rebuild.fold import fold_shard
from springline.rebuild.messages import (
    Assembled,
    AssembleOrder,
    BadEvent,
    Compared,
    CompareOrder,
    FoldShardOrder,
    PartOrder,
    PartRead,
    PlanOrder,
    RebuildPlan,
    Reported,
    ReportOrder,
    ShardFolded,
    ShardsOrder,
    ShardsPlanned,
    Switched,
    Switches,
    SwitchOrder,
)
from springline.rebuild.parts import BadRecord
from springline.rebuild.plan import plan_rebuild
from springline.rebuild.read import PartDone, read_slice, scan_segment
from springline.rebuild.split import read_parts, read_split, split_hash, split_work
from springline.sequencer.messages import WorkspaceRef
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

if TYPE_CHECKING:
    from activities.ledger import Configure

BAD_SHOWN = 100
_part = partial(step, seconds=names.METRIC_REBUILD_STEP_SECONDS, outlasts=True, shown=True)
"""An operator waits for a rebuild, and can cancel it: passing faults must not end it."""


class RebuildActivities:
    """The parts of rebuilds over one store. `store` is the whole bucket; each workspace sees its own part only.

    `switches` reaches the sequencers, which publish the results.
    """

    def __init__(self, store: ObjectStore, configure: Configure, switches: Switches) -> None:
        self._store = store
        self._configure = configure
        self._switches = switches
        self._known: tuple[tuple[str | None, ...], AcceptedHashes] | None = None

    @_part(names.PLAN_REBUILD)
    async def plan_rebuild(self, order: PlanOrder) -> RebuildPlan:
        """Read the rebuild manifest, judge every path, and cut the work into parts."""
        store, _ = self._workspace(order.workspace)
        config = self._configure(order.workspace.tenant, order.workspace.workspace)
        return await plan_rebuild(store, config, order)

    @_part(names.READ_SLICE, long=True)
    async def read_slice(self, order: PartOrder) -> PartRead:
        """Read and check the events of one slice."""
        store, scope = self._workspace(order.workspace)
        plan = order.plan
        accepted = await self._accepted(store, plan)
        part = await read_slice(store, scope, plan.work_id, plan.shards, order.number, activity.heartbeat, accepted)
        return _part_read(order.number, part)

    @_part(names.SCAN_SEGMENT, long=True)
    async def scan_segment(self, order: PartOrder) -> PartRead:
        """Read and check one listed segment."""
        store, scope = self._workspace(order.workspace)
        plan = order.plan
        accepted = await self._accepted(store, plan)
        part = await scan_segment(
            store, scope, plan.work_id, plan.shards, plan.slices, order.number, activity.heartbeat, accepted
        )
        return _part_read(order.number, part)

    @_part(names.PLAN_SHARDS)
    async def plan_shards(self, order: ShardsOrder) -> ShardsPlanned:
        """Split the fold, and find accepted events that are not listed."""
        store, _ = self._workspace(order.workspace)
        split, artifact = await split_work(store, order.plan, order.receipts)
        return ShardsPlanned(
            split=split_hash(artifact),
            events=split.events,
            odd_runs=len(split.odd),
            gap_count=split.gap_count,
            gaps=split.gaps[:BAD_SHOWN],
        )

    @_part(names.FOLD_SHARD, long=True)
    async def fold_shard(self, order: FoldShardOrder) -> ShardFolded:
        """Fold one shard's events in id order."""
        store, _ = self._workspace(order.workspace)
        config = self._configure(order.workspace.tenant, order.workspace.workspace)
        work_id = order.plan.work_id
        split = await read_split(store, work_id, order.split)
        parts = await read_parts(store, split.receipts)
        receipt, reused = await fold_shard(
            store, config, work_id, split, order.split, parts, order.number, activity.heartbeat
        )
        return ShardFolded(
            number=order.number,
            events=receipt.events,
            duplicates=receipt.duplicates,
            damaged=receipt.damaged,
            bad=_bad(receipt.bad),
            outcomes={EventOutcome(name): count for name, count in receipt.outcomes.items()},
            rows={one.table: one.rows for one in receipt.tables},
            reused=reused,
        )

    @_part(names.ASSEMBLE, long=True)
    async def assemble(self, order: AssembleOrder) -> Assembled:
        """Merge the shards into one base, its digest and the index of its events."""
        store, _ = self._workspace(order.workspace)
        config = self._configure(order.workspace.tenant, order.workspace.workspace)
        rebuilt, digest, description = await assemble(store, config, order)
        return Assembled(
            base_path=description.path,
            base_sha256=description.sha256,
            events=rebuilt.events,
            last_event_id=rebuilt.last_event_id,
            digest=digest.state(),
            rows={name: table.rows for name, table in rebuilt.tables.items()},
        )

    @_part(names.COMPARE, long=True)
    async def compare(self, order: CompareOrder) -> Compared:
        """Compare the published state with the rebuilt one."""
        store, _ = self._workspace(order.workspace)
        config = self._configure(order.workspace.tenant, order.workspace.workspace)
        rebuilt = await read_base(store, order.base_path, order.base_sha256)
        compared = await compare(store, config, order.plan.manifest_path, rebuilt)
        return compared.model_copy(update={"differences": compared.differences[:BAD_SHOWN]})

    @_part(names.SWITCH_IN)
    async def switch_in(self, order: SwitchOrder) -> Switched:
        """Hand the result to the workspace's sequencer, and wait until readers see it."""
        info = activity.info()
        return await self._switches.switch(order, request_id=f"{info.workflow_run_id}/{info.activity_id}")

    @_part(names.WRITE_REPORT)
    async def write_report(self, order: ReportOrder) -> Reported:
        """Write the report."""
        store, _ = self._workspace(order.workspace)
        return Reported(report_path=await write_report(store, order))

    async def _accepted(self, store: ObjectStore, plan: RebuildPlan) -> AcceptedHashes:
        """Return the accepted hashes, one object for all parts of a plan, because neighbours read the same segments."""
        key = (plan.work_id, plan.manifest_path, plan.accepted_path)
        if self._known is None or self._known[0] != key:
            self._known = (key, await accepted_of(store, plan))
        return self._known[1]

    def _workspace(self, ref: WorkspaceRef) -> tuple[ObjectStore, Scope]:
        scope = Scope(ref.tenant, ref.workspace)
        return ScopedStore(self._store, scope), scope


def _part_read(number: int, done: PartDone) -> PartRead:
    receipt = done.receipt
    return PartRead(
        number=number,
        events=receipt.events,
        bytes=receipt.raw_bytes,
        missing=receipt.missing,
        damaged=receipt.damaged,
        bad=_bad(receipt.bad),
        last_event_id=receipt.segment.last_id if receipt.segment is not None else None,
        receipt=done.path,
        reused=done.reused,
    )


def _bad(records: Sequence[BadRecord]) -> list[BadEvent]:
    return [
        BadEvent(path=one.path, reason=RefusalReason(one.reason), message=one.message) for one in records[:BAD_SHOWN]
    ]
