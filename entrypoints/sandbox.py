"""Temporal's workflow sandbox without a cost that brings us nothing.

For every payload of a workflow task the SDK enters the sandbox three times to get the serialization context for a
payload codec. Without a codec that uses contexts (the Pydantic converter does not), answering "none"
outside the sandbox saves about a quarter of the work of a worker with many busy tables (SDK 1.35).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.converter import DataConverter, StorageDriverStoreContext, WorkflowSerializationContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions


class ContextMatters(ValueError):
    """The data converter uses the serialization context, so that the shortcut would be wrong."""


def workflow_runner(passed_through: Sequence[str], converter: DataConverter) -> WorkflowRunner:
    """Return the fastest sandbox that is correct for `converter`.

    `passed_through` are modules that it need not import again for each run.
    """
    if uses_context(converter):
        return SandboxedWorkflowRunner(restrictions=_restrictions(passed_through))
    return ContextFreeSandbox(passed_through, converter)


def uses_context(converter: DataConverter) -> bool:
    """Say whether a converter behaves differently from one context to another.

    The SDK leaves a converter as it is when none of its parts asks for the context. An external store always has one.
    """
    context = WorkflowSerializationContext(namespace="springline", workflow_id="springline")
    return converter.external_storage is not None or converter.with_context(context) is not converter


class ContextFreeSandbox(WorkflowRunner):
    """Runs workflows in the SDK's sandbox; `passed_through` are modules that it need not import again for each run.

    Raises `ContextMatters` for a data converter that uses a serialization context: a context-aware payload
    codec, payload or failure converter, or external storage.
    """

    def __init__(self, passed_through: Sequence[str], converter: DataConverter) -> None:
        if uses_context(converter):
            raise ContextMatters(
                "the data converter uses serialization contexts, which this sandbox does not tell it; "
                "use workflow_runner, which chooses"
            )
        self._sandbox = SandboxedWorkflowRunner(restrictions=_restrictions(passed_through))

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


def _restrictions(passed_through: Sequence[str]) -> SandboxRestrictions:
    return SandboxRestrictions.default.with_passthrough_modules(*passed_through)
