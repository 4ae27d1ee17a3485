"""A backfill under every misfortune: the real passes, admission and fold, and everything else by dice.

Evaluators are tasks of one thread that read rows which may be old, and append; appends are lost, come late, or their
answers do; evaluators die wherever they wait, and several are at work at once; users pause, resume and cancel; the
workspace is held; runs begin, fail, end and are cancelled. What is on record is compared with what the positions of the
partitions say, computed here apart.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from springline.backfills.evaluating import BackfillPasses
from springline.backfills.keys import KeyLists
from springline.backfills.reading import RUN_TABLES
from springline.control.backfills.deciding import state_change
from springline.definitions.manifest import DeployedManifest
from springline.errors import Code, Refused, refused
from springline.ledger.envelope import as_event
from springline.ledger.request import AppendOutcome, AppendRequest, NewEvent
from springline.published.snapshot import StateSnapshot
from springline.storage.memory import MemoryStore
from tests.control.ledger import Ledger
from tests.control.payloads import finished, hold, started
from tests.support.definitions import asset
from tests.support.local_api import ACME

MANIFEST = "01JHMPDTN0000AQKFF00000001"
BACKFILL = "b"
LAST_STEPS = 3_000
_TABLES = (*RUN_TABLES, "tasks")


class BackfillWorld:
    """A workspace with one backfill; `dice` decide everything. `check` raises `AssertionError`."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.ledger = Ledger()
        self.calm = False
        self.counts: Counter[str] = Counter()
        self.total, self.size, self.limit = dice.randint(1, 14), dice.randint(1, 4), dice.randint(1, 3)
        self.newest_first = dice.random() < 0.3
        self.keys = tuple(f"k{number:02}" for number in range(self.total + 2))
        self.failing = {key for key in self.keys if dice.random() < 0.12}
        self.ended: dict[str, str] = {}
        """What became of each partition: of its task's end."""
        self.cancelled = False
        self._requests = 0
        self._seen = 0
        self._state = "RUNNING"
        self._rows: list[StateSnapshot] = []
        self._late: list[AppendRequest] = []
        self._passes: set[asyncio.Task[Any]] = set()
        manifest = DeployedManifest.model_validate(
            {
                "format": 1,
                "manifest_id": MANIFEST,
                "deployed_at_ms": 0,
                "fingerprint": "f",
                "locations": [],
                "assets": [asset("raw", location="flights", partitions={"kind": "static", "keys": list(self.keys)})],
            }
        )
        found = SimpleNamespace(manifest=manifest)

        async def needed(*_: Any) -> Any:
            await self._pause()
            return found

        store = MemoryStore()
        self.passes = BackfillPasses(
            store, cast(Any, None), cast(Any, SimpleNamespace(needed=needed)), KeyLists(store), cast(Any, self)
        )
        self._append(self._created())

    # The ports of a pass.

    def reader(self) -> Any:
        """Return what a pass reads by: rows as they are or as they were, and never older ones than before."""
        seen = 0

        async def snapshot(*_: Any) -> Any:
            nonlocal seen
            await self._pause()
            self._rows.append(self.ledger.published(_TABLES))
            latest = len(self._rows) - 1
            seen = latest if self.calm or self.dice.random() < 0.6 else max(seen, latest - self.dice.randint(0, 6))
            self.counts["old rows"] += seen < latest
            return self._rows[seen]

        return SimpleNamespace(snapshot=snapshot)

    async def append(self, _: Any, request: AppendRequest) -> AppendOutcome:
        await self._pause()
        fate = 1.0 if self.calm else self.dice.random()
        if fate < 0.08:
            raise _no_answer()
        if fate < 0.16:
            self._late.append(request)
            raise _no_answer()
        outcome = self._round(request)
        await self._pause()
        if fate < 0.24:
            raise _no_answer()
        return outcome

    # What happens.

    async def live(self, steps: int) -> None:
        """Let so many things happen, and then everything come to its end."""
        for _ in range(steps):
            await self._step()
        self.calm = True
        for request in self._late:
            self._round(request)
        if self.ledger.state.is_held:
            self._hold()
        if self._row.state == "PAUSED":
            self._verb("RUNNING")
        for _ in range(LAST_STEPS):
            if await self._is_over():
                return
            await self._step()
        raise AssertionError(f"it never ends: {self._row}")

    async def _is_over(self) -> bool:
        if self._row.state in ("RUNNING", "PAUSED") or self._passes:
            return False
        return all(one.outcome is not None for one in self.ledger.state.own_chunks.rows.values())

    async def _step(self) -> None:
        self.ledger.now_ms += self.dice.choice((1, 50, 900))
        actions: list[tuple[float, Callable[[], None]]] = [
            (3, self._evaluate),
            (3, self._begin_run),
            (6, self._end_task),
        ]
        if not self.calm:
            actions += [
                (0.6, self._kill),
                (0.5, self._send_late),
                (0.5, lambda: self._verb("PAUSED")),
                (0.7, lambda: self._verb("RUNNING")),
                (0.03, lambda: self._verb("CANCELLED")),
                (0.15, self._hold),
                (0.1, self._cancel_run),
            ]
        self.dice.choices([action for _, action in actions], [weight for weight, _ in actions])[0]()
        for _ in range(self.dice.randint(0, 4)):
            await asyncio.sleep(0)

    async def _pause(self) -> None:
        for _ in range(self.dice.randint(0, 3)):
            await asyncio.sleep(0)

    def _evaluate(self) -> None:
        if len(self._passes) >= (1 if self.calm else 3):
            return

        async def make() -> None:
            try:
                await replace(self.passes, reader=self.reader()).evaluate(ACME, BACKFILL, self.ledger.now_ms)
            except Refused as error:
                assert error.refusal.code is Code.UNAVAILABLE

        task = asyncio.create_task(make())
        self._passes.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._passes.discard(task)
        if not task.cancelled():
            task.result()

    def _kill(self) -> None:
        if self._passes:
            self.counts["killed"] += 1
            self.dice.choice(sorted(self._passes, key=id)).cancel()

    def _send_late(self) -> None:
        if self._late:
            self._round(self._late.pop(self.dice.randrange(len(self._late))))

    def _verb(self, to_state: Any) -> None:
        row = self._row
        event = state_change(BACKFILL, cast(Any, row.state), to_state, row.state_version, "user")
        self._append(as_event(event), may_fail=True)
        self.cancelled = self._row.state == "CANCELLED"

    def _hold(self) -> None:
        self._requests += 1
        self._append(hold(not self.ledger.state.is_held, f"h{self._requests}"))

    def _begin_run(self) -> None:
        state = self.ledger.state
        waiting = [row for row in state.run_keys.rows.values() if state.run(row.run_id) is None]
        if not waiting or state.is_held:
            return
        row = self.dice.choice(waiting)
        chunk = next(one for one in state.chunks.rows.values() if one.run_key == row.run_key)
        keys = cast(list[str], json.loads(chunk.partition_keys))
        run = {
            "type": "run_triggered",
            "run_id": row.run_id,
            "plan_id": f"plan:{row.run_id}",
            "trigger": {"type": "manual", "user_id": "x"},
            "root_assets": ["raw"],
            "run_key": row.run_key,
        }
        tasks = [{"key": f"raw[{key}]", "depends_on": [], "asset_key": "raw", "partition_key": key} for key in keys]
        plan = {"type": "plan_created", "run_id": row.run_id, "plan_id": f"plan:{row.run_id}", "tasks": tasks}
        self._append(run, plan)

    def _end_task(self) -> None:
        ready = [
            (family.run.run_id, task)
            for family in self.ledger.state.families.of.values()
            if family.run is not None
            for task in family.tasks.values()
            if task.state == "READY"
        ]
        if not ready:
            return
        run_id, task = self.dice.choice(ready)
        key = str(task.partition_key)
        outcome = "failed" if key in self.failing else "succeeded"
        failure = {"error": {"category": "USER_CODE", "message": "no", "retryable": False}}
        more: dict[str, Any] = failure if outcome == "failed" else {}
        self._append(started(task.task_key, run=run_id), finished(outcome, task.task_key, run=run_id, **more))
        assert key not in self.ended, f"{key} was made twice"
        self.ended[key] = outcome

    def _cancel_run(self) -> None:
        active = [one.run for one in self.ledger.state.families.of.values() if one.run and one.run.state == "RUNNING"]
        if active:
            data = {"type": "run_cancel_requested", "run_id": self.dice.choice(active).run_id, "requested_by": "user"}
            self._append(data, may_fail=True)

    # The ledger.

    @property
    def _row(self) -> Any:
        row = self.ledger.state.backfill(BACKFILL)
        assert row is not None
        return row

    def _created(self) -> dict[str, Any]:
        selector: dict[str, Any] = {"type": "range", "start": self.keys[0], "end": self.keys[self.total - 1]}
        if self.dice.random() < 0.3:
            selector = {"type": "explicit", "partition_keys": list(self.keys[: self.total])}
        return {
            "type": "backfill_created",
            "backfill_id": BACKFILL,
            "client_request_id": "r",
            "asset_selection": ["raw"],
            "partition_selector": selector,
            "total_partitions": self.total,
            "chunk_size": self.size,
            "max_concurrent_runs": self.limit,
            "code_version": MANIFEST,
            "springline": {
                "request_fingerprint": "f",
                "order": "newest_first" if self.newest_first else "oldest_first",
            },
        }

    def _append(self, *events: dict[str, Any], may_fail: bool = False) -> None:
        self._requests += 1
        request = AppendRequest(
            request_id=f"01946b1c-0000-7000-8000-{self._requests:012x}", events=[NewEvent(data=one) for one in events]
        )
        outcome = self._round(request)
        assert may_fail or outcome.refusal is None, outcome.refusal

    def _round(self, request: AppendRequest) -> AppendOutcome:
        (outcome,) = self.ledger.round(request)
        self.counts["refused"] += outcome.refusal is not None
        self._check_new()
        return outcome

    # What must hold.

    def expected(self, index: int) -> list[str]:
        """Return the partitions of a chunk, computed apart."""
        ordered = list(self.keys[: self.total])
        if self.newest_first:
            ordered.reverse()
        return ordered[index * self.size : (index + 1) * self.size]

    def _check_new(self) -> None:
        for event in self.ledger.events[self._seen :]:
            data: Any = event.data
            kind = type(data).__name__
            if kind == "BackfillStateChanged":
                self._state = data.to_state
            elif kind == "BackfillChunkPlanned":
                self.counts["chunks"] += 1
                assert self._state == "RUNNING", f"chunk {data.chunk_index} lies behind {self._state}"
                assert data.partition_keys == self.expected(data.chunk_index)
        self._seen = len(self.ledger.events)
        state = self.ledger.state
        assert not state.conflicts.rows
        chunks = state.own_chunks.rows.values()
        assert sum(one.outcome is None for one in chunks) <= self.limit
        assert sorted(one.chunk_index for one in chunks) == list(range(len(chunks)))
        assert {one.run_key for one in chunks} == set(state.run_keys.rows), "a chunk has one run"

    def check(self) -> None:
        """Check how it has ended."""
        row, chunks = self._row, list(self.ledger.state.own_chunks.rows.values())
        assert all(one.run is None or one.run.state in _OVER for one in self.ledger.state.families.of.values())
        done = sum(int(one.done or 0) for one in chunks)
        assert done == sum(outcome == "succeeded" for outcome in self.ended.values())
        failed = sorted(key for one in chunks for key in json.loads(one.failed or "[]"))
        assert failed == sorted(key for key, outcome in self.ended.items() if outcome == "failed")
        if self.cancelled:
            assert row.state == "CANCELLED"
            return
        assert len(chunks) == -(-self.total // self.size), "a chunk is lost"
        assert row.state == ("SUCCEEDED" if done == self.total else "FAILED")


_OVER = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


def _no_answer() -> Refused:
    return refused(Code.UNAVAILABLE, "no answer", field="ledger", remedy="Again.")
