"""One workspace's rebuilds, its ledger, and a worker: what the tests of RebuildWorkflow work with."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import orjson
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from springline import names
from springline.paths import ObjectPath, orchestration_pointer, orchestration_rebuild
from springline.projection.config import FoldConfig
from springline.published.head import read_head
from springline.published.load import load_state
from springline.rebuild.sources import from_index
from springline.storage.port import IfAbsent
from tests.support.ledger_events import request, run_request, started
from tests.workflows.faults import Faults
from tests.workflows.ledger_bench import LedgerBench
from workflows.lifecycle import FAILURE_CLASS_KEY, workspace_attributes
from workflows.rebuild_messages import RebuildProgress, RebuildResult, RebuildStart


class RebuildBench(LedgerBench):
    """A workspace whose ledger is appended to and whose projections are rebuilt."""

    def __init__(self, client: Client, faults: Faults, max_cached_workflows: int) -> None:
        super().__init__(client, faults, max_cached_workflows)
        self.config = FoldConfig(self.scope.tenant, self.scope.workspace)
        self.rebuild_id = names.rebuild_workflow_id(self.scope.tenant, self.scope.workspace)
        self.rebuild_runs: list[str] = []
        self._names = itertools.count(1)

    async def end(self) -> None:
        with contextlib.suppress(RPCError):
            await self.rebuild_handle().terminate("the test has ended")
        await super().end()

    # The ledger.

    async def fill(self, runs: int, *, first: int = 0) -> None:
        """Have callers append some runs, one request each, and start their first tasks."""
        numbers = range(first, first + runs)
        await self.append(*(run_request(f"run-{number}") for number in numbers))
        await self.append(*(request(started(f"run-{number}", "a")) for number in numbers))

    async def listed(self, *, segments: bool = False) -> dict[str, list[ObjectPath]]:
        """Return a rebuild manifest of all accepted events."""
        found = await from_index(self.store, objects=not segments)
        return {"event_paths": found.event_paths, "segment_paths": found.segment_paths}

    async def digest(self) -> str:
        """Return the digest of the published state, checked file by file and row by row."""
        head = await read_head(self.store)
        assert head is not None
        assert head.manifest.springline is not None
        loaded = await load_state(self.store, head.manifest, self.config, verify=True)
        assert loaded.digest.whole() == head.manifest.springline.digest.whole
        return loaded.digest.state()

    def pointer(self) -> bytes | None:
        """Return the bytes of the pointer."""
        stored = self.objects.objects.get(self.scope.full(orchestration_pointer()))
        return None if stored is None else stored.data

    # Rebuilds.

    async def manifest(self, document: object) -> ObjectPath:
        """Write a rebuild manifest; bytes as they are, anything else as JSON."""
        path = orchestration_rebuild(f"r-{next(self._names)}")
        data = document if isinstance(document, bytes) else orjson.dumps(document)
        await self.store.put(path, data, IfAbsent())
        return path

    async def begin(self, path: str, mode: str = "full", **fields: Any) -> WorkflowHandle[Any, RebuildResult]:
        """Start a rebuild."""
        handle = await self.client.start_workflow(
            names.REBUILD_WORKFLOW,
            RebuildStart(
                tenant=self.scope.tenant,
                workspace=self.scope.workspace,
                rebuild_manifest_path=path,
                mode=mode,
                **fields,
            ),
            id=self.rebuild_id,
            task_queue=names.REBUILD_QUEUE,
            search_attributes=workspace_attributes(self.scope.tenant, self.scope.workspace),
            result_type=RebuildResult,
        )
        assert handle.first_execution_run_id is not None
        self.rebuild_runs.append(handle.first_execution_run_id)
        return handle

    async def rebuild(self, document: object, mode: str = "full", **fields: Any) -> RebuildResult:
        """Rebuild from a manifest with this content, and return the result."""
        handle = await self.begin(await self.manifest(document), mode, **fields)
        return await handle.result()

    async def refused(self, document: object, mode: str = "full", **fields: Any) -> ApplicationError:
        """Rebuild from a manifest with this content, which must fail; return why."""
        try:
            result = await self.rebuild(document, mode, **fields)
        except WorkflowFailureError as error:
            assert isinstance(error.cause, ApplicationError)
            return error.cause
        raise AssertionError(f"it was not refused: {result}")

    async def note_rebuilds(self) -> None:
        """Remember the histories of all rebuilds, so that they can be recorded."""
        self.other_histories += [await self.rebuild_handle(run_id).fetch_history() for run_id in self.rebuild_runs]

    def rebuild_handle(self, run_id: str | None = None) -> WorkflowHandle[Any, RebuildResult]:
        return self.client.get_workflow_handle(self.rebuild_id, run_id=run_id, result_type=RebuildResult)

    async def progress(self, run_id: str | None = None) -> RebuildProgress:
        """Return what a rebuild says of itself, by default the latest."""
        progress: RebuildProgress = await self.rebuild_handle(run_id).query(
            names.PROGRESS_QUERY, result_type=RebuildProgress
        )
        return progress

    async def report(self, result: RebuildResult) -> dict[str, Any]:
        """Return the report of a rebuild."""
        assert result.report_path is not None
        stored = await self.store.get(ObjectPath(result.report_path))
        assert stored is not None
        report: dict[str, Any] = orjson.loads(stored.data)
        return report

    async def failure_class(self) -> str | None:
        """Return by what failure the latest rebuild is found."""
        return (await self.rebuild_handle().describe()).typed_search_attributes.get(FAILURE_CLASS_KEY)

    async def rebuild_details(self) -> str:
        """Return the Markdown that the Web UI shows of the latest rebuild."""
        from temporalio.api.sdk.v1 import WorkflowMetadata

        metadata: WorkflowMetadata = await self.rebuild_handle().query(
            "__temporal_workflow_metadata", result_type=WorkflowMetadata
        )
        return metadata.current_details
