"""Rebuilds of one workspace on a cluster: what is there before, how it is damaged, and what must be there after."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle

from entrypoints.temporal_rebuild import TemporalRebuilds
from springline import names, paths
from springline.local.binaries import temporal_cli
from springline.paths import ObjectPath
from springline.projection.config import FoldConfig
from springline.published.head import read_head
from springline.published.load import load_state
from springline.rebuild.messages import RebuildMode, RebuildRequest
from springline.rebuild.sources import from_index
from springline.storage.port import IfAbsent
from tests.server.appends import Appends
from tests.support.ledger_events import request, run_request, started

DEADLINE_S = 240.0


class Rebuilds:
    """The rebuilds of the workspace of `appends`."""

    def __init__(self, appends: Appends) -> None:
        self.appends = appends
        self.scope = appends.scope
        self.folder = appends.cluster.store_folder / self.scope.prefix
        self._numbers = 0

    @property
    def port(self) -> TemporalRebuilds:
        return TemporalRebuilds(self.appends.client)

    @property
    def workflow_id(self) -> str:
        return names.rebuild_workflow_id(self.scope.tenant, self.scope.workspace)

    # Before.

    async def fill(self, runs: int) -> None:
        """Have a caller append some runs in two rounds."""
        caller = self.appends.caller()
        first = [run_request(f"filled-{number}") for number in range(runs)]
        second = [request(started(f"filled-{number}", "a")) for number in range(runs)]
        for some in (first, second):
            answers = await asyncio.gather(*(self.appends.append(caller, one) for one in some))
            assert all(answer.refusal is None for answer in answers)

    def write_events(self, bodies: Iterable[bytes]) -> list[ObjectPath]:
        """Put events into the ledger as another implementation would; return their paths."""
        found: list[ObjectPath] = []
        for body in bodies:
            path = paths.canonical_ulid_event(orjson.loads(body)["event_id"])
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
            found.append(path)
        return found

    async def listed(self) -> dict[str, Any]:
        """Return a rebuild manifest of all accepted events, each by its object."""
        return {"event_paths": (await from_index(self.appends.scoped, objects=True)).event_paths}

    async def digest(self) -> str:
        """Return the digest of the published state, with every file and row checked."""
        head = await read_head(self.appends.scoped)
        assert head is not None
        assert head.manifest.springline is not None
        config = FoldConfig(self.scope.tenant, self.scope.workspace)
        loaded = await load_state(self.appends.scoped, head.manifest, config, verify=True)
        assert loaded.digest.whole() == head.manifest.springline.digest.whole
        return loaded.digest.state()

    def files(self, *parts: str) -> list[Path]:
        """Return the files of the workspace whose paths hold all of `parts`."""
        return sorted(
            file for file in self.folder.rglob("*") if file.is_file() and all(part in file.as_posix() for part in parts)
        )

    @property
    def pointer(self) -> Path:
        return self.folder / paths.orchestration_pointer()

    # Rebuilds.

    async def manifest(self, document: object) -> ObjectPath:
        """Write a rebuild manifest; bytes as they are, anything else as JSON."""
        self._numbers += 1
        path = paths.orchestration_rebuild(f"r-{self._numbers}")
        data = document if isinstance(document, bytes) else orjson.dumps(document)
        await self.appends.scoped.put(path, data, IfAbsent())
        return path

    async def begin(self, document: object, mode: RebuildMode = RebuildMode.FULL, **options: Any) -> str:
        """Start a rebuild and return its run id."""
        path = await self.manifest(document)
        return await self.port.start(self.scope, RebuildRequest(rebuild_manifest_path=path, mode=mode, **options))

    async def result(self, run_id: str) -> dict[str, Any]:
        """Wait for the result of a rebuild; raises `Refused` if it has none."""
        result = await self.port.result(self.scope, run_id, DEADLINE_S)
        assert result is not None, "not in time"
        return result

    async def rebuild(self, document: object, mode: RebuildMode = RebuildMode.FULL, **options: Any) -> dict[str, Any]:
        """Rebuild from a manifest with this content, and return the result."""
        return await self.result(await self.begin(document, mode, **options))

    def handle(self, run_id: str | None = None) -> WorkflowHandle[Any, Any]:
        return self.appends.client.get_workflow_handle(self.workflow_id, run_id=run_id)

    async def attempts(self, run_id: str) -> dict[str, list[int]]:
        """Return the attempts that brought each result, by activity."""
        events = (await self.handle(run_id).fetch_history()).events
        scheduled = {
            event.event_id: event.activity_task_scheduled_event_attributes.activity_type.name
            for event in events
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        }
        found: dict[str, list[int]] = {}
        for event in events:
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                attributes = event.activity_task_started_event_attributes
                found.setdefault(scheduled[attributes.scheduled_event_id], []).append(attributes.attempt)
        return found

    def temporal(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the Temporal CLI against the cluster."""
        return subprocess.run(
            [str(temporal_cli()), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=self.appends.cluster.stack.child_environment(),
            timeout=240,
        )

    def start_by_hand(self, **fields: Any) -> tuple[str, subprocess.CompletedProcess[str]]:
        """Run a rebuild from the Temporal CLI alone and wait for its end; return what it printed."""
        start = {"tenant": self.scope.tenant, "workspace": self.scope.workspace, **fields}
        ended = self.temporal(
            *("workflow", "execute", "--type", names.REBUILD_WORKFLOW, "--task-queue", names.REBUILD_QUEUE),
            *("--workflow-id", self.workflow_id, "--input", orjson.dumps(start).decode()),
        )
        return ended.stdout + ended.stderr, ended
