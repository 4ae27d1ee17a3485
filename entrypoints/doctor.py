"""The checks of `springline doctor` in Temporal: server, namespace, search attributes, workers, their builds, runs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType, TaskQueueType, WorkerVersioningMode
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.messages import Probed
from entrypoints.connection import TemporalMisconfigured, TemporalUnreachable, connect, connect_config
from entrypoints.probes import PROBE_S, probe
from entrypoints.runs import (
    RECENTLY,
    UNSERVED,
    Trouble,
    WaitingQueue,
    broken_runs,
    pipeline_troubles,
    troubled_runs,
)
from springline import names
from springline.cli.findings import Finding, PublishedSettings, fine, skipped, unreachable, wrong
from springline.config import ConfigurationError
from springline.exits import run_and_leave
from springline.published.configuration import RETENTION, SECRET, difference
from springline.published.manifest import ConfigSection

CALL_TIMEOUT = timedelta(seconds=10)
POLLED_WITHIN_SECONDS = 90
"""A living worker polls at least once a minute; the server remembers those of dead ones for five."""
_CHECKS = (
    "temporal namespace",
    "temporal search attributes",
    "temporal pollers",
    "worker versions",
    "workers' store",
    "workers' settings",
    "workflow runs",
    "pipeline runs",
)
_NOT_ALLOWED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED)


async def temporal_findings(
    store_id: str | None = None, hooks_name: str | None = None, published: Sequence[PublishedSettings] = ()
) -> list[Finding]:
    """Check Temporal as configured in the environment (`temporalio.envconfig`), and the workers behind it.

    `store_id` is the id of the store that is configured here, None if that is not known; `hooks_name` names the hooks
    to connect with (`entrypoints.connection.connect`). `published`: how the states of workspaces were folded.
    """
    try:
        config = connect_config()
    except TemporalMisconfigured as error:
        remedy = "Correct the TEMPORAL_* variables or the file temporal.toml; `temporal config list` shows them."
        return [wrong("temporal", str(error), remedy), *_skip(_CHECKS)]
    address, namespace = config["target_host"], config["namespace"]
    try:
        client = await connect(hooks=hooks_name)
    except ConfigurationError as error:
        (problem,) = error.problems
        return [wrong(problem.variable, problem.message, problem.remedy), *_skip(_CHECKS)]
    except TemporalMisconfigured as error:
        return [wrong("temporal", str(error), "Correct TEMPORAL_ADDRESS and its TLS settings."), *_skip(_CHECKS)]
    except TemporalUnreachable as error:
        remedy = (
            f"Check with `temporal operator cluster health --address {address}`; start a server "
            "(`springline dev`, or your cluster) or correct TEMPORAL_ADDRESS and its TLS settings."
        )
        return [unreachable("temporal", str(error), remedy), *_skip(_CHECKS)]
    return [
        fine("temporal", f"{address} answers"),
        *await _of_namespace(client, address, namespace, store_id, published),
    ]


async def _of_namespace(
    client: Client, address: str, namespace: str, store_id: str | None, published: Sequence[PublishedSettings]
) -> list[Finding]:
    try:
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=namespace), timeout=CALL_TIMEOUT
        )
    except RPCError as error:
        return [_namespace_problem(error, address, namespace), *_skip(_CHECKS[1:])]
    return [
        fine(_CHECKS[0], f"namespace {namespace} exists"),
        *await _of_search_attributes(client, address, namespace),
        *await _of_workers(client, namespace, store_id, published),
        await _of_runs(client),
        *await _of_pipelines(client),
    ]


def _namespace_problem(error: RPCError, address: str, namespace: str) -> Finding:
    if error.status is RPCStatusCode.NOT_FOUND:
        return wrong(
            _CHECKS[0],
            f"namespace {namespace} does not exist on {address}",
            f"`temporal operator namespace create --address {address} --namespace {namespace}`, or correct "
            "TEMPORAL_NAMESPACE.",
        )
    if error.status in _NOT_ALLOWED:
        return wrong(
            _CHECKS[0],
            f"access to namespace {namespace} is refused: {error.message}",
            "Correct TEMPORAL_API_KEY or the TLS certificate, or have access granted.",
        )
    return unreachable(_CHECKS[0], f"no clear answer: {error.message}", "Run `springline doctor` again.")


async def _of_search_attributes(client: Client, address: str, namespace: str) -> list[Finding]:
    try:
        answer = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=namespace), timeout=CALL_TIMEOUT
        )
    except RPCError as error:
        if error.status in (*_NOT_ALLOWED, RPCStatusCode.UNIMPLEMENTED):
            why = f"this account may not list them ({error.message}); they must be {_typed()}"
            return [skipped(_CHECKS[1], why)]
        return [unreachable(_CHECKS[1], f"no clear answer: {error.message}", "Run `springline doctor` again.")]
    return search_attribute_findings(answer.custom_attributes, address, namespace)


def search_attribute_findings(found: Mapping[str, int], address: str, namespace: str) -> list[Finding]:
    """Judge the custom search attributes of a namespace: name -> number of its type. One finding per bad one."""
    at = f"--address {address} --namespace {namespace}"
    findings = []
    for name, kind in names.SEARCH_ATTRIBUTES.items():
        create = f"temporal operator search-attribute create {at} --name {name} --type {kind}"
        if name not in found:
            findings.append(wrong(f"search attribute {name}", "is not registered", f"`{create}`"))
        elif (there := _type_name(found[name])) != kind:
            remove = f"temporal operator search-attribute remove {at} --name {name} --yes"
            findings.append(
                wrong(
                    f"search attribute {name}",
                    f"is of type {there}, not {kind}",
                    f"`{remove}` and then `{create}`",
                )
            )
    return findings or [fine(_CHECKS[1], f"registered: {_typed()}")]


def _type_name(number: int) -> str:
    name = IndexedValueType.Name(IndexedValueType.ValueType(number))
    return name.removeprefix("INDEXED_VALUE_TYPE_").title().replace("_", "")


def _typed() -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in names.SEARCH_ATTRIBUTES.items())


async def _of_workers(
    client: Client, namespace: str, store_id: str | None, published: Sequence[PublishedSettings]
) -> list[Finding]:
    """Probe the workers of all queues, and read their builds from Temporal."""
    queues = await asyncio.gather(*(_of_queue(client, namespace, queue) for queue in names.ALL_QUEUES))
    findings = [one.finding for one in queues]
    findings += version_findings({one.queue: one.pollers for one in queues}, await _current_build(client, queues))
    probed = [one.probed for one in queues if one.probed is not None]
    if probed:
        findings.append(store_finding(store_id, probed))
        findings.append(settings_finding(published, probed))
    return findings


@dataclass(frozen=True, slots=True)
class _Queue:
    """Facts about a queue: whether its workers answer, which polled it lately, and which answered."""

    queue: str
    finding: Finding
    pollers: list[Poller]
    probed: Probed | None


@dataclass(frozen=True, slots=True)
class Poller:
    """A worker that polled a queue lately: its build, its deployment, and whether it uses versions."""

    build_id: str
    deployment: str
    versioned: bool


async def _of_queue(client: Client, namespace: str, queue: str) -> _Queue:
    name = f"{_CHECKS[2]} {queue}"
    remedy = f"Start a worker: `python worker.py --queues {queue}`."
    try:
        pollers = await _pollers(client, namespace, queue)
        probed = await probe(client, queue)
    except RPCError as error:
        finding = unreachable(name, f"no clear answer: {error.message}", "Run `springline doctor` again.")
        return _Queue(queue, finding, [], None)
    if probed is None:
        known = (
            "workers polled it in the last 90 s, and are gone, stuck, or of another build" if pollers else "none polls"
        )
        what = f"no worker answers on {queue} within {PROBE_S:g} s ({known}): what is asked for waits"
        return _Queue(queue, unreachable(name, what, remedy), pollers, None)
    return _Queue(queue, fine(name, f"a worker of build {probed.build_id} answers on {queue}"), pollers, probed)


async def _pollers(client: Client, namespace: str, queue: str) -> list[Poller]:
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        ),
        timeout=CALL_TIMEOUT,
    )
    now_s = time.time()
    return [
        Poller(
            poller.deployment_options.build_id,
            poller.deployment_options.deployment_name,
            poller.deployment_options.worker_versioning_mode == WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED,
        )
        for poller in answer.pollers
        if now_s - poller.last_access_time.seconds < POLLED_WITHIN_SECONDS
    ]


async def _current_build(client: Client, queues: Sequence[_Queue]) -> Mapping[str, str | None]:
    """Return the current build of each deployment whose workers use versions."""
    current: dict[str, str | None] = {}
    for name in {poller.deployment for one in queues for poller in one.pollers if poller.versioned}:
        try:
            answer = await client.workflow_service.describe_worker_deployment(
                DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name), timeout=CALL_TIMEOUT
            )
        except RPCError:
            continue
        routing = answer.worker_deployment_info.routing_config
        current[name] = routing.current_deployment_version.build_id or None
    return current


def version_findings(pollers: Mapping[str, Sequence[Poller]], current: Mapping[str, str | None]) -> list[Finding]:
    """Judge the builds that poll, by queue, and which build of each deployment is current."""
    findings = []
    for queue, polling in pollers.items():
        unversioned = sorted({poller.build_id for poller in polling if not poller.versioned})
        if len(unversioned) > 1:
            findings.append(
                wrong(
                    _CHECKS[3],
                    f"workers of {len(unversioned)} builds poll {queue} without versions ({', '.join(unversioned)}): a "
                    "run that moves from one to the other fails if their workflows differ",
                    "Unset SPRINGLINE_VERSIONING=off (see runbooks/deploy.md), or stop the workers of all builds but "
                    "one.",
                )
            )
        elif unversioned and any(poller.versioned for poller in polling):
            findings.append(
                wrong(
                    _CHECKS[3],
                    f"workers poll {queue} by versions and without: new runs go to the current version alone",
                    "Stop the workers that have SPRINGLINE_VERSIONING=off.",
                )
            )
    for deployment, build_id in current.items():
        builds = sorted({one.build_id for polling in pollers.values() for one in polling if one.versioned})
        if build_id not in builds:
            command = f"temporal worker deployment set-current-version --deployment-name {deployment} --build-id"
            what = "no version is current" if build_id is None else f"no worker of the current version {build_id} polls"
            findings.append(
                wrong(
                    _CHECKS[3],
                    f"{what}, and new runs wait: workers of {', '.join(builds)} do",
                    f"`{command} {builds[-1]} --yes`, or start workers of the current version.",
                )
            )
    builds = sorted({one.build_id or "without a build id" for polling in pollers.values() for one in polling})
    return findings or [fine(_CHECKS[3], f"builds that poll: {', '.join(builds) or 'none'}")]


def store_finding(store_id: str | None, probed: Sequence[Probed]) -> Finding:
    """Judge whether the workers that answered have the store that is configured here."""
    theirs = sorted({one.store_id for one in probed})
    if len(theirs) > 1:
        return wrong(
            _CHECKS[4],
            f"workers work with {len(theirs)} different stores: what one writes the other does not find",
            "Give all workers the same SPRINGLINE_STORE_URL.",
        )
    if store_id is None:
        return skipped(_CHECKS[4], "which store is configured here is not known")
    if theirs != [store_id]:
        return wrong(
            _CHECKS[4],
            "the workers' store is not the one that is configured here",
            "Give this command and the workers the same SPRINGLINE_STORE_URL.",
        )
    return fine(_CHECKS[4], "the workers have the store that is configured here")


def settings_finding(published: Sequence[PublishedSettings], probed: Sequence[Probed]) -> Finding:
    """Judge whether the workers that answered fold as the published states of workspaces were folded."""
    name = _CHECKS[5]
    folding = [one for one in probed if one.fold_fingerprint]
    if not folding:
        return skipped(name, "the workers are of a build that does not tell them")
    if len({one.fold_fingerprint for one in folding}) > 1:
        return wrong(
            name,
            f"workers have different {RETENTION} or {SECRET}: what one publishes another refuses",
            f"Give all workers the same {RETENTION} and {SECRET}.",
        )
    for one in published:
        section = ConfigSection(one.fingerprint, one.retention_days)
        found = difference(section, folding[0].fold_fingerprint, folding[0].retention_days)
        if found is not None:
            what = f"the state of {one.workspace} was folded {found.folded}, and a worker {found.has}"
            return wrong(name, f"{what}: nothing is appended to it", found.remedy)
    return fine(name, "the workers fold as what is published was folded")


async def _of_runs(client: Client) -> Finding:
    try:
        stuck, broken = await troubled_runs(client), await broken_runs(client)
    except RPCError as error:
        return unreachable(_CHECKS[6], f"no clear answer: {error.message}", "Run `springline doctor` again.")
    return run_finding(stuck, broken)


async def _of_pipelines(client: Client) -> list[Finding]:
    """Look at the workflows of pipelines' runs, and at the queues in which their attempts wait."""
    try:
        stuck, waiting = await pipeline_troubles(client)
        polled = await asyncio.gather(*(_is_polled(client, one.queue) for one in waiting))
    except RPCError as error:
        return [unreachable(_CHECKS[7], f"no clear answer: {error.message}", "Run `springline doctor` again.")]
    found = queue_findings(list(zip(waiting, polled, strict=True)))
    if stuck:
        found.append(run_finding(stuck, [], name=_CHECKS[7]))
    return found or [fine(_CHECKS[7], "none is stuck, and no attempt waits for a worker that is not there")]


async def _is_polled(client: Client, queue: str) -> bool:
    """Say whether a worker of users has polled a queue lately."""
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        ),
        timeout=CALL_TIMEOUT,
    )
    return any(time.time() - poller.last_access_time.seconds < POLLED_WITHIN_SECONDS for poller in answer.pollers)


def queue_findings(waiting: Sequence[tuple[WaitingQueue, bool]]) -> list[Finding]:
    """Judge the queues in which attempts wait, each with whether a worker polls it. Busy workers are no mistake."""
    return [
        unreachable(
            f"{_CHECKS[7]} {one.queue}",
            f"{one.attempts} attempt(s) have waited for up to {one.oldest_s:.0f} s, and no worker polls {one.queue}",
            "Start one: `springline work FILE --tenant T --workspace W`; runbooks/run-stuck.md, step 4.",
        )
        for one, is_polled in waiting
        if not is_polled
    ]


def run_finding(stuck: Sequence[Trouble], broken: Sequence[Trouble], *, name: str = _CHECKS[6]) -> Finding:
    """Judge the runs that do not move, and those that failed lately because the code did not fit them."""
    if stuck:
        first = next((one for one in stuck if one.why != UNSERVED), stuck[0])
        told = f"{len(stuck)} run(s) do not move; {first.workflow_id}, run {first.run_id}: {first.why}"
        if first.why == UNSERVED:
            return unreachable(name, told, "Start workers for its queue, of its build: runbooks/deploy.md.")
        return wrong(
            name,
            told,
            f"See `temporal workflow describe --workflow-id {first.workflow_id}` and the workers' logs, then "
            "runbooks/deploy.md, a wedged workflow.",
        )
    if broken:
        first = broken[0]
        return wrong(
            name,
            f"{len(broken)} run(s) ended in the last {int(RECENTLY.total_seconds() // 60)} minutes because "
            f"a worker's code does not fit their history, and began anew; {first.workflow_id}, run {first.run_id}",
            "Have all workers of one build, or deploy by versions: runbooks/deploy.md. Nothing was lost.",
        )
    return fine(name, "no run is stuck, and none failed for its code in the last ten minutes")


def main() -> None:
    """Print the findings as JSON, for `springline doctor`: `python -m entrypoints.doctor [STORE [HOOKS [SETTINGS]]]`.

    STORE: the id of the store; SETTINGS: how the states of workspaces were folded, a JSON array of `PublishedSettings`.
    """

    def look() -> None:
        store_id, hooks_name, settings = (given or None for given in [*sys.argv[1:], "", "", ""][:3])
        published = [PublishedSettings(*one) for one in json.loads(settings or "[]")]
        found = asyncio.run(temporal_findings(store_id, hooks_name, published))
        print(json.dumps([one.as_json() for one in found]))

    run_and_leave(look)


def _skip(checks: Sequence[str]) -> list[Finding]:
    return [skipped(name, "Temporal or its namespace is out of reach") for name in checks]


if __name__ == "__main__":
    main()
