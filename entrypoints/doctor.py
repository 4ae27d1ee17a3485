"""What `springline doctor` asks Temporal: is it there, the namespace, the search attributes, the pollers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType, TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

from springline import names
from springline.cli.findings import Finding, fine, skipped, unreachable, wrong

CONNECT_SECONDS = 10.0
CALL_TIMEOUT = timedelta(seconds=10)
POLLED_WITHIN_SECONDS = 90
"""A living worker polls at least once a minute; the server remembers those of dead ones for five."""
_CHECKS = ("temporal namespace", "temporal search attributes", "temporal pollers")
_NOT_ALLOWED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED)
_POLLED_FOR = {
    "workflow": TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    "activity": TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
}


async def temporal_findings() -> list[Finding]:
    """Look at Temporal as the environment describes it (`temporalio.envconfig`)."""
    try:
        config = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        remedy = "Correct the TEMPORAL_* variables or the file temporal.toml; `temporal config list` shows them."
        return [wrong("temporal", f"its configuration cannot be read: {error}", remedy), *_skip(_CHECKS)]
    address = config.get("target_host") or "localhost:7233"
    config["target_host"] = address
    namespace = config.get("namespace") or "default"
    try:
        client = await asyncio.wait_for(Client.connect(**config), CONNECT_SECONDS)
    except (RuntimeError, TimeoutError, RPCError) as error:
        remedy = (
            f"Check with `temporal operator cluster health --address {address}`; start a server "
            "(`springline dev`, or your cluster) or correct TEMPORAL_ADDRESS and its TLS settings."
        )
        said = str(error) or f"no answer within {CONNECT_SECONDS:g} s"
        return [unreachable("temporal", f"{address} cannot be reached: {said}", remedy), *_skip(_CHECKS)]
    return [fine("temporal", f"{address} answers"), *await _of_namespace(client, address, namespace)]


async def _of_namespace(client: Client, address: str, namespace: str) -> list[Finding]:
    try:
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=namespace), timeout=CALL_TIMEOUT
        )
    except RPCError as error:
        return [_namespace_problem(error, address, namespace), *_skip(_CHECKS[1:])]
    return [
        fine(_CHECKS[0], f"namespace {namespace} exists"),
        *await _of_search_attributes(client, address, namespace),
        *[await _of_pollers(client, namespace, queue) for queue in names.ALL_QUEUES],
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


async def _of_pollers(client: Client, namespace: str, queue: str) -> Finding:
    name = f"{_CHECKS[2]} {queue}"
    polled, now_s = [], time.time()
    try:
        for what, kind in _POLLED_FOR.items():
            answer = await client.workflow_service.describe_task_queue(
                DescribeTaskQueueRequest(namespace=namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind),
                timeout=CALL_TIMEOUT,
            )
            if any(now_s - poller.last_access_time.seconds < POLLED_WITHIN_SECONDS for poller in answer.pollers):
                polled.append(what)
    except RPCError as error:
        return unreachable(name, f"no clear answer: {error.message}", "Run `springline doctor` again.")
    missing = [what for what in _POLLED_FOR if what not in polled]
    if missing:
        return unreachable(
            name,
            f"no worker polls {queue} for {' and '.join(missing)} tasks: what is asked for waits",
            f"Start a worker: `python worker.py --queues {queue}`.",
        )
    return fine(name, f"workers poll {queue}")


def _skip(checks: Sequence[str]) -> list[Finding]:
    return [skipped(name, "Temporal or its namespace is out of reach") for name in checks]
