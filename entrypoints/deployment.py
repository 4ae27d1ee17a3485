"""Worker Deployment versions: which build gets new runs, and how runs of older builds end.

See docs/protocol.md#deploy.

Every run is pinned to the build that began it. A new build becomes current once its workers poll; from then on it gets
new runs. Its workers ask sequencers of older builds to end, which loses no request, and their next
run is on the new build. A run whose build has no worker left is moved to the current one: if the code does not fit
its history, it fails, and its callers send their requests again (`workflows.failures.ENDS_THE_RUN`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution as Execution
from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.workflow.v1 import VersioningOverride, WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentVersionRequest,
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    SetWorkerDeploymentCurrentVersionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from temporalio.client import Client, WorkflowExecution
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from entrypoints.build import computed_build_id
from entrypoints.probes import answers
from entrypoints.runs import is_unserved
from entrypoints.wedged import end_if_wedged
from springline import names
from springline.config import Settings
from springline.paths import Scope
from springline.storage.together import beside
from workflows.lifecycle import SEARCH_TENANT_KEY, SEARCH_WORKSPACE_KEY

CALL_TIMEOUT = timedelta(seconds=5)
SETTLING_S = 0.3
"""Seconds between two checks while a change is under way: this build becomes current, or older ones end."""
SETTLED_S = 5.0
"""Seconds between two checks otherwise."""
QUIET_LOOKS = 30
"""After so many checks without a run of another build, no change is under way any more."""
UNSERVED_S = 1.5
"""A task that waits for so long has no worker: a running one takes it within milliseconds."""
STARTING_S = 60.0
"""A worker is ready after this long even if its version is not current yet."""
LOOKED_AT = 200
"""Runs of other builds that one check handles."""

_SEQUENCERS = (names.COMMIT_WORKFLOW, names.LEDGER_WORKFLOW, names.REPAIR_WORKFLOW)
_FOLLOWED = (names.REPAIR_WORKFLOW, names.SCHEDULE_EVALUATOR)
"""Workflows that nobody's next request starts again: their successors are started here."""
_STATELESS = (names.SCHEDULE_EVALUATOR,)
"""Of these a successor takes the place at once."""
_BOTH = {TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY}
_log = logging.getLogger("springline.deployment")


def deployment_config(settings: Settings) -> WorkerDeploymentConfig:
    """Return a worker's deployment configuration. Without versions Temporal only shows the build."""
    version = WorkerDeploymentVersion(settings.deployment, settings.build_id or computed_build_id())
    versioned = settings.versioning != "off"
    behavior = VersioningBehavior.PINNED if versioned else VersioningBehavior.UNSPECIFIED
    return WorkerDeploymentConfig(version, use_worker_versioning=versioned, default_versioning_behavior=behavior)


@dataclass(slots=True)
class Standing:
    """The standing of this build: whether Temporal knows it, whether it is current, and whether it ever was."""

    known: bool = False
    current: bool = False
    was_current: bool = False
    current_build: str | None = None
    conflict_token: bytes = b""


def standing_of(info: WorkerDeploymentInfo, build_id: str, conflict_token: bytes = b"") -> Standing:
    """Return the standing of a build in its deployment."""
    current = info.routing_config.current_deployment_version.build_id or None
    for summary in info.version_summaries:
        if summary.deployment_version.build_id == build_id:
            was_current = summary.HasField("first_activation_time") or summary.HasField("current_since_time")
            return Standing(True, current == build_id, was_current, current, conflict_token)
    return Standing(current_build=current, conflict_token=conflict_token)


class Deployment:
    """One worker process's part in the deployment of its build.

    With `makes_current` it makes its version current once `queues` are polled: a build that never was, over any
    other; one that was before (an operator has deployed or rolled back since) only if no worker of the current one
    answers. `follow` starts the successor of a workflow that looks after a workspace: given its type and workspace.
    """

    def __init__(
        self,
        client: Client,
        version: WorkerDeploymentVersion,
        queues: Sequence[str],
        *,
        makes_current: bool,
        follow: Callable[[str, Scope], Awaitable[None]],
    ) -> None:
        self._client = client
        self._version = version
        self._queues = queues
        self._makes_current = makes_current
        self._follow = follow
        self._cancelled: set[str] = set()
        self._followed: dict[str, tuple[str, Scope]] = {}
        self._said: str | None = None

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Manage this build's version during the block; on entry the version is current, if that is up to this worker.

        On exit, wait for runs that are pinned to this build and about to end, unless it is current.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STARTING_S):
                while not await self._look(self._settle):  # noqa: ASYNC110 - Temporal tells nobody
                    await asyncio.sleep(SETTLING_S)
        async with beside(self._watch()):
            yield

    async def drained(self, within_s: float) -> None:
        """Return when no run of this build is left, or after `within_s` seconds; at once if the build is current."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while await self._look(self._has_runs_to_end):  # noqa: ASYNC110
                    await asyncio.sleep(SETTLING_S)

    # Checks.

    async def _watch(self) -> None:
        quiet = 0
        while True:
            found = await self._look(self._tend)
            quiet = 0 if found else quiet + 1
            await asyncio.sleep(SETTLING_S if quiet < QUIET_LOOKS else SETTLED_S)

    async def _look(self, look: Callable[[], object]) -> bool:
        """Return the result of a check; if Temporal does not answer, the check is repeated later."""
        try:
            return bool(await look())  # type: ignore[misc]
        except (RPCError, RuntimeError, TimeoutError) as error:
            self._say(logging.WARNING, f"the deployment cannot be looked after: {error}")
            return look == self._tend

    async def _settle(self) -> bool:
        """Make this version current if it is time; True if nothing is left to do about that."""
        standing = await self._standing()
        if standing.current:
            self._say(logging.INFO, f"version {self._name} is current")
            return True
        if not standing.known or not await self._is_polled():
            return False
        if not self._makes_current:
            self._say(logging.INFO, f"version {self._name} waits for an operator to make it current")
            return True
        if standing.was_current and await self._current_answers(standing):
            self._say(logging.WARNING, f"version {self._name} was current before {standing.current_build}, and waits")
            return True
        return await self._make_current(standing)

    async def _tend(self) -> bool:
        """Handle runs of other builds if this one is current; True if the next check should be soon."""
        standing = await self._standing()
        if not standing.current:
            return self._makes_current and not await self._settle()
        query = (
            f"ExecutionStatus = 'Running' AND TemporalWorkerDeployment = '{self._version.deployment_name}' "
            f"AND TemporalWorkerDeploymentVersion != '{self._version.deployment_name}:{self._version.build_id}'"
        )
        found: set[str] = set()
        async for run in self._client.list_workflows(query, limit=LOOKED_AT, rpc_timeout=CALL_TIMEOUT):
            found.add(run.run_id)
            await self._end_or_take_over(run)
        self._cancelled &= found
        for run_id in [one for one in self._followed if one not in found]:
            await self._follow(*self._followed[run_id])
            del self._followed[run_id]
        return bool(found)

    async def _has_runs_to_end(self) -> bool:
        standing = await self._standing()
        if standing.current or standing.current_build is None:
            return False
        query = (
            "ExecutionStatus = 'Running' AND TemporalWorkerDeploymentVersion = "
            f"'{self._version.deployment_name}:{self._version.build_id}' AND WorkflowType IN {_SEQUENCERS}"
        )
        return (await self._client.count_workflows(query, rpc_timeout=CALL_TIMEOUT)).count > 0

    # Facts from Temporal.

    async def _standing(self) -> Standing:
        try:
            answer = await self._client.workflow_service.describe_worker_deployment(
                DescribeWorkerDeploymentRequest(
                    namespace=self._client.namespace, deployment_name=self._version.deployment_name
                ),
                timeout=CALL_TIMEOUT,
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return Standing()
            raise
        return standing_of(answer.worker_deployment_info, self._version.build_id, answer.conflict_token)

    async def _is_polled(self) -> bool:
        """Say whether workers of this version poll all queues of this process, for workflows and activities."""
        try:
            answer = await self._client.workflow_service.describe_worker_deployment_version(
                DescribeWorkerDeploymentVersionRequest(
                    namespace=self._client.namespace, deployment_version=self._version._to_proto()
                ),
                timeout=CALL_TIMEOUT,
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        polled: dict[str, set[int]] = {}
        for queue in answer.worker_deployment_version_info.task_queue_infos:
            polled.setdefault(queue.name, set()).add(queue.type)
        return all(polled.get(queue, set()) >= _BOTH for queue in self._queues)

    async def _current_answers(self, standing: Standing) -> bool:
        """Say whether a worker of the current version answers on one of our queues."""
        return standing.current_build is not None and await answers(self._client, self._queues[0])

    # Changes.

    async def _make_current(self, standing: Standing) -> bool:
        try:
            await self._client.workflow_service.set_worker_deployment_current_version(
                SetWorkerDeploymentCurrentVersionRequest(
                    namespace=self._client.namespace,
                    deployment_name=self._version.deployment_name,
                    build_id=self._version.build_id,
                    conflict_token=standing.conflict_token,
                    identity=self._client.identity,
                ),
                timeout=CALL_TIMEOUT,
            )
        except RPCError as error:
            # This build's workers do not poll all queues of the version before yet, or another worker was faster.
            self._say(logging.INFO, f"version {self._name} cannot become current yet: {error.message}")
            return False
        self._say(logging.INFO, f"version {self._name} is current, after {standing.current_build or 'none'}")
        return True

    async def _end_or_take_over(self, run: WorkflowExecution) -> None:
        """Ask a sequencer of another build to end, once; move any run that no worker serves to this build."""
        handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
        try:
            if run.workflow_type in _STATELESS and run.run_id not in self._cancelled:
                scope = _workspace_of(run)
                if scope is not None:
                    await self._follow(run.workflow_type, scope)
                    # The index of Temporal has it for a moment longer.
                    self._cancelled.add(run.run_id)
                    return
            if run.workflow_type in _SEQUENCERS and run.run_id not in self._cancelled:
                self._cancelled.add(run.run_id)
                scope = _workspace_of(run)
                if run.workflow_type in _FOLLOWED and scope is not None:
                    self._followed[run.run_id] = run.workflow_type, scope
                await handle.cancel(rpc_timeout=CALL_TIMEOUT)
            described = await self._client.workflow_service.describe_workflow_execution(
                DescribeWorkflowExecutionRequest(
                    namespace=self._client.namespace,
                    execution=Execution(workflow_id=run.id, run_id=run.run_id),
                ),
                timeout=CALL_TIMEOUT,
            )
            if _is_handed_over(described) and await end_if_wedged(self._client, run.id, run.run_id):
                return
            if is_unserved(described, time.time(), UNSERVED_S) and not _is_handed_over(described):
                await self._hand_over(run)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def _hand_over(self, run: WorkflowExecution) -> None:
        _log.warning("run %s of %s has no worker of its build left: %s takes it", run.run_id, run.id, self._name)
        request = UpdateWorkflowExecutionOptionsRequest(
            namespace=self._client.namespace,
            workflow_execution=Execution(workflow_id=run.id, run_id=run.run_id),
            workflow_execution_options=WorkflowExecutionOptions(
                versioning_override=VersioningOverride(auto_upgrade=True)
            ),
            identity=self._client.identity,
        )
        request.update_mask.paths.append("versioning_override")
        await self._client.workflow_service.update_workflow_execution_options(request, timeout=CALL_TIMEOUT)

    @property
    def _name(self) -> str:
        return self._version.to_canonical_string()

    def _say(self, level: int, line: str) -> None:
        """Log a line unless it was the last one."""
        if line != self._said:
            self._said = line
            _log.log(level, "%s", line)


def _workspace_of(run: WorkflowExecution) -> Scope | None:
    tenant = run.typed_search_attributes.get(SEARCH_TENANT_KEY)
    workspace = run.typed_search_attributes.get(SEARCH_WORKSPACE_KEY)
    return None if tenant is None or workspace is None else Scope(tenant, workspace)


def _is_handed_over(described: DescribeWorkflowExecutionResponse) -> bool:
    return described.workflow_execution_info.versioning_info.versioning_override.auto_upgrade
