"""Running one rebuild of `bench.rebuild` on a stack of its own, and measuring it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from bench.rebuild_worker import READ_SECONDS
from entrypoints.connection import connect
from entrypoints.temporal_rebuild import TemporalRebuilds
from springline import names
from springline.ledger.envelope import parse_event
from springline.local.processes import peak_memory_bytes
from springline.local.stack import EmbeddedStack
from springline.paths import (
    ObjectPath,
    Scope,
    canonical_ulid_event,
    content_hash12,
    ledger_segment,
    orchestration_rebuild,
)
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.published.segments import encode_segment
from springline.rebuild.messages import RebuildMode, RebuildRequest

SCOPE = Scope("acme", "prod")
SEGMENT_EVENTS = 10_000
DEADLINE_S = 3_600.0


@dataclass(frozen=True)
class Measured:
    """What a rebuild took: seconds in all and of the phases that workers share, and a worker's peak memory in MiB."""

    seconds: float
    read_s: float
    fold_s: float
    peak_mib: float
    right: bool


class Workbench:
    """A store with one ledger, as objects and as segments, that rebuilds start from again and again."""

    def __init__(self, folder: Path, bodies: list[bytes]) -> None:
        self.bodies = bodies
        self._folder = folder
        self._store = folder / "store"
        self._workspace = self._store / SCOPE.prefix
        self._digest = _digest_of(bodies)
        self._objects = orchestration_rebuild("objects")
        self._segments = orchestration_rebuild("segments")
        self._write()

    def measure(self, segments: bool, workers: int, latency_s: float) -> Measured:
        """Rebuild from nothing, and measure it."""
        self._forget()
        environment = {READ_SECONDS: str(latency_s)} if latency_s else {}
        stack = EmbeddedStack(
            self._folder / "runs",
            scope=SCOPE,
            workers=workers,
            api=False,
            store_url=self._store.as_uri(),
            environment=environment,
            worker_module="bench.rebuild_worker" if latency_s else "worker",
            say=lambda _line: None,
        )
        with stack:
            return asyncio.run(self._rebuild(stack, self._segments if segments else self._objects))

    async def _rebuild(self, stack: EmbeddedStack, manifest: str) -> Measured:
        client = await connect(address=stack.temporal_address)
        rebuilds = TemporalRebuilds(client)
        began = time.perf_counter()
        run_id = await rebuilds.start(SCOPE, RebuildRequest(rebuild_manifest_path=manifest, mode=RebuildMode.FULL))
        result = await rebuilds.result(SCOPE, run_id, DEADLINE_S)
        seconds = time.perf_counter() - began
        assert result is not None
        spans = await _spans(client, run_id)
        return Measured(
            seconds=seconds,
            read_s=spans.get(names.READ_SLICE, 0.0) + spans.get(names.SCAN_SEGMENT, 0.0),
            fold_s=spans.get(names.FOLD_SHARD, 0.0),
            peak_mib=max(peak_memory_bytes(stack.child(name).pid) for name in stack.worker_names) / 2**20,
            right=result["digest_after"] == self._digest and result["events_processed"] == len(self.bodies),
        )

    def _write(self) -> None:
        event_paths: list[ObjectPath] = []
        segment_paths: list[ObjectPath] = []
        for start in range(0, len(self.bodies), SEGMENT_EVENTS):
            some = [(orjson.loads(body)["event_id"], body) for body in self.bodies[start : start + SEGMENT_EVENTS]]
            for event_id, body in some:
                event_paths.append(path := canonical_ulid_event(event_id))
                self._put(path, body)
            data = encode_segment(some)
            segment_paths.append(path := ledger_segment(some[0][0], some[-1][0], content_hash12(data)))
            self._put(path, data)
        self._put(self._objects, orjson.dumps({"event_paths": event_paths}))
        self._put(self._segments, orjson.dumps({"segment_paths": segment_paths}))
        self._keep = {self._workspace / self._objects, self._workspace / self._segments}

    def _put(self, path: ObjectPath, data: bytes) -> None:
        file = self._workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def _forget(self) -> None:
        """Remove all state, so that the next rebuild has everything to do."""
        rebuilds = {file: file.read_bytes() for file in self._keep}
        shutil.rmtree(self._workspace / "state")
        for file, data in rebuilds.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


def _digest_of(bodies: Sequence[bytes]) -> str:
    state = State(FoldConfig(SCOPE.tenant, SCOPE.workspace))
    state.fold_all(map(parse_event, bodies))
    return Digest.of({name: state.rows(name) for name in TABLES}).state()


async def _spans(client: Client, run_id: str) -> dict[str, float]:
    """Return the seconds from the first start to the last end of each activity of a run."""
    handle: Any = client.get_workflow_handle(names.rebuild_workflow_id(SCOPE.tenant, SCOPE.workspace), run_id=run_id)
    scheduled: dict[int, str] = {}
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    for event in (await handle.fetch_history()).events:
        at = event.event_time.ToMicroseconds() / 1e6
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            name = event.activity_task_scheduled_event_attributes.activity_type.name
            scheduled[event.event_id] = name
            begun.setdefault(name, at)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            ended[scheduled[event.activity_task_completed_event_attributes.scheduled_event_id]] = at
    return {name: ended[name] - at for name, at in begun.items() if name in ended}
