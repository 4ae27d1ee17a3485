"""Temporal's workflow sandbox without the part of its cost that buys us nothing.

For every payload of a workflow task, and three times over, the SDK enters the sandbox to ask in which context a
payload codec should see it. We have no codec, and the Pydantic converter looks at no context: answering "none"
outside the sandbox saves about a quarter of what a worker with many busy tables does (SDK 1.35).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.converter import StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions


class ContextFreeSandbox(WorkflowRunner):
    """Runs workflows in the SDK's sandbox; `passed_through` are modules that it need not load anew for each run.

    For data converters without payload codec, external storage or any other use for a serialization context.
    """

    def __init__(self, passed_through: Sequence[str]) -> None:
        restrictions = SandboxRestrictions.default.with_passthrough_modules(*passed_through)
        self._sandbox = SandboxedWorkflowRunner(restrictions=restrictions)

    def prepare_workflow(self, defn: workflow._Definition) -> None:
        """Check that the workflow can be loaded into the sandbox."""
        self._sandbox.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Return a workflow instance in a sandbox of its own."""
        return _ContextFree(self._sandbox.create_instance(det))

    def set_worker_level_failure_exception_types(self, types: Sequence[type[BaseException]]) -> None:
        """Tell the sandbox which exceptions fail a workflow."""
        self._sandbox.set_worker_level_failure_exception_types(types)


class _ContextFree(WorkflowInstance):
    def __init__(self, sandboxed: WorkflowInstance) -> None:
        self._sandboxed = sandboxed

    def activate(self, act: Any) -> Any:
        return self._sandboxed.activate(act)

    def get_info(self) -> workflow.Info:
        return self._sandboxed.get_info()

    def get_thread_id(self) -> int | None:
        return self._sandboxed.get_thread_id()

    def get_serialization_context(self, command_info: Any) -> None:
        return None

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:
        return StorageDriverStoreContext(target=None)
