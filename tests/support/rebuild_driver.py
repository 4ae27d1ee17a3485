"""A rebuild without Temporal: the functions that its activities call, in the workflow's order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import orjson

from springline.ledger.event_ids import new_event_id
from springline.paths import ObjectPath, Scope, orchestration_rebuild
from springline.projection.config import FoldConfig
from springline.rebuild.accepted import accepted_of
from springline.rebuild.assemble import assemble, read_base
from springline.rebuild.compare import compare
from springline.rebuild.fold import fold_shard
from springline.rebuild.messages import (
    AssembleOrder,
    Compared,
    PlanOrder,
    RebuildMode,
    RebuildPlan,
    StateSwitched,
    SwitchOrder,
    SwitchStateOrder,
)
from springline.rebuild.parts import ShardReceipt, Split
from springline.rebuild.plan import plan_rebuild
from springline.rebuild.read import PartDone, read_slice, scan_segment
from springline.rebuild.split import read_parts, split_hash, split_work
from springline.rebuild.switch import switch_state
from springline.sequencer.messages import WorkspaceRef
from springline.storage.port import IfAbsent, ObjectStore
from springline.storage.scoped import ScopedStore
from tests.support.sequencer_world import NOW_MS

_numbers = count(1)


def _nothing(_events: int) -> None:
    """Report to nobody."""


class Incomplete(Exception):
    """Events are missing, damaged or not listed: the workflow publishes nothing then."""

    def __init__(self, bad: list[str], gaps: list[str]) -> None:
        super().__init__(bad, gaps)
        self.bad, self.gaps = bad, gaps


class Rebuild:
    """One rebuild of a workspace of `store`, which is the whole bucket.

    `shuffled` gives the order in which parts and shards are done, `twice` has each done two times.
    """

    def __init__(
        self,
        store: ObjectStore,
        config: FoldConfig,
        *,
        shards: int | None = None,
        now_ms: int = NOW_MS + 3_600_000,
        shuffled: Callable[[Sequence[int]], Sequence[int]] = list,
        allow_missing: bool = False,
        twice: bool = False,
    ) -> None:
        self.scope = Scope(config.tenant, config.workspace)
        self.store = ScopedStore(store, self.scope)
        self.config = config
        self.workspace = WorkspaceRef(tenant=config.tenant, workspace=config.workspace)
        self.number = next(_numbers)
        self.allow_missing = allow_missing
        self.reused = 0
        self._shards, self._now_ms, self._shuffled, self._twice = shards, now_ms, shuffled, twice
        self._ulids = 0

    def ulid(self) -> str:
        """Return a name that no other rebuild uses."""
        self._ulids += 1
        return new_event_id(None, self._now_ms + self._ulids, self.number << 40 | self._ulids)

    async def write_manifest(self, document: object) -> ObjectPath:
        """Write a rebuild manifest and return its path."""
        path = orchestration_rebuild(f"r-{self.number}")
        await self.store.put(path, orjson.dumps(document), IfAbsent())
        return path

    async def plan(self, manifest: object, mode: RebuildMode) -> RebuildPlan:
        """Plan from a manifest's path, or from its content, which is written first."""
        path = manifest if isinstance(manifest, str) else await self.write_manifest(manifest)
        order = PlanOrder(workspace=self.workspace, rebuild_manifest_path=path, mode=mode, now_ms=self._now_ms)
        plan = await plan_rebuild(self.store, self.config, order)
        return plan if self._shards is None else plan.model_copy(update={"shards": self._shards})

    async def read(self, plan: RebuildPlan) -> dict[int, PartDone]:
        """Read all parts."""
        done: dict[int, PartDone] = {}
        for number in self._order(plan.slices + plan.segments):
            accepted = await accepted_of(self.store, plan)
            if number < plan.slices:
                part = await read_slice(self.store, self.scope, plan.work_id, plan.shards, number, _nothing, accepted)
            else:
                part = await scan_segment(
                    self.store,
                    self.scope,
                    plan.work_id,
                    plan.shards,
                    plan.slices,
                    number - plan.slices,
                    _nothing,
                    accepted,
                )
            self.reused += part.reused
            done[number] = part
        return done

    async def split(self, plan: RebuildPlan) -> tuple[Split, str]:
        """Read everything and split the fold. Raises `Incomplete`."""
        parts = await self.read(plan)
        receipts = {number: one.path for number, one in parts.items() if one.path is not None}
        split, artifact = await split_work(self.store, plan, receipts)
        bad = [record.path for one in parts.values() for record in one.receipt.bad]
        self._check(bad, split.gaps)
        return split, split_hash(artifact)

    async def fold(self, plan: RebuildPlan, split: Split, name: str) -> list[ShardReceipt]:
        """Fold all shards. Raises `Incomplete`."""
        parts = await read_parts(self.store, split.receipts)
        found: dict[int, ShardReceipt] = {}
        for number in self._order(plan.shards):
            receipt, reused = await fold_shard(
                self.store, self.config, plan.work_id, split, name, parts, number, _nothing
            )
            self.reused += reused
            found[number] = receipt
        self._check([record.path for one in found.values() for record in one.bad], [])
        return [found[number] for number in sorted(found)]

    async def run(self, manifest: object, mode: RebuildMode) -> StateSwitched | Compared:
        """Do it all. Raises `Incomplete`, `Refused`, `DamagedObject`."""
        ready = await self.prepare(manifest, mode)
        if mode is RebuildMode.VERIFY:
            assert ready.base_path is not None
            assert ready.base_sha256 is not None
            rebuilt = await read_base(self.store, ready.base_path, ready.base_sha256)
            return await compare(self.store, self.config, ready.plan.manifest_path, rebuilt)
        return await self.switch(ready)

    async def prepare(self, manifest: object, mode: RebuildMode) -> SwitchOrder:
        """Do everything up to what readers notice. Raises as `run`."""
        plan = await self.plan(manifest, mode)
        split, name = await self.split_for(plan, mode)
        base_path = base_sha256 = None
        if mode is not RebuildMode.CATCH_UP:
            await self.fold(plan, split, name)
            order = AssembleOrder(
                workspace=self.workspace, plan=plan, split=name, snapshot_id=self.ulid(), now_ms=self._now_ms
            )
            _, _, described = await assemble(self.store, self.config, order)
            base_path, base_sha256 = described.path, described.sha256
        return SwitchOrder(
            workspace=self.workspace,
            plan=plan,
            mode=mode,
            split=name,
            base_path=base_path,
            base_sha256=base_sha256,
            allow_missing=self.allow_missing,
        )

    async def split_for(self, plan: RebuildPlan, mode: RebuildMode) -> tuple[Split, str]:
        """As `split`; a verification goes on whatever is missing."""
        allowed, self.allow_missing = self.allow_missing, self.allow_missing or mode is RebuildMode.VERIFY
        try:
            return await self.split(plan)
        finally:
            self.allow_missing = allowed

    async def switch(self, order: SwitchOrder) -> StateSwitched:
        """Switch in, as the sequencer does: again while another publisher is faster or there is more."""
        folded = 0
        for _ in range(50):
            state = await switch_state(self.store, self.config, self.switch_order(order))
            if state.switched is not None:
                folded += state.switched.folded
                if not state.more:
                    switched = state.switched.model_copy(update={"folded": folded})
                    return state.model_copy(update={"switched": switched})
        raise AssertionError("it never ends")

    def switch_order(self, order: SwitchOrder) -> SwitchStateOrder:
        """Return the order of the sequencer's step, under fresh names."""
        return SwitchStateOrder(
            workspace=self.workspace,
            switch=order,
            base_revision=self.ulid(),
            manifest_revision=self.ulid(),
            delta_id=self.ulid(),
            snapshot_id=self.ulid(),
            now_ms=self._now_ms,
        )

    def _order(self, count_: int) -> list[int]:
        numbers = list(self._shuffled(range(count_)))
        return numbers + numbers if self._twice else numbers

    def _check(self, bad: list[str], gaps: list[str]) -> None:
        if (bad or gaps) and not self.allow_missing:
            raise Incomplete(bad, gaps)
