"""`python -m entrypoints.work FILE`: a users' worker, which `springline work` becomes.

It takes the attempts of one code location from Temporal until SIGTERM or SIGINT, and makes each in a process of its own
(`springline.work`). Configuration is by environment, as for `worker.py`; what is asked for on the command line of
`springline work` comes as one JSON document (`WorkRequest`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from temporalio.client import Client
from temporalio.worker import FixedSizeSlotSupplier, Worker, WorkerTuner

from activities.attempts import AttemptActivities, StartSignals, signals_by
from activities.sensors import EvaluationActivities
from entrypoints.connection import TemporalMisconfigured, TemporalUnreachable, connect
from entrypoints.logs import configure_logging
from entrypoints.slots import SharedSlots
from springline import names
from springline.config import ConfigurationError, Settings, load_settings
from springline.definitions.composing import changes_between
from springline.definitions.ids import meant
from springline.definitions.manifest import TASKS, as_stored
from springline.definitions.nodes import AssetDefinition, DefinedTask, NodeDefinition
from springline.definitions.sensors import OF_CODE
from springline.deployed.reading import read_latest
from springline.errors import InvariantViolated
from springline.exits import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED, EXIT_TRY_AGAIN, leave, run_and_leave
from springline.paths import InvalidPath, Scope
from springline.storage.canary import canary
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore, StoreError, StoreMisconfigured
from springline.storage.scoped import ScopedStore
from springline.storage.together import together
from springline.storage.url import open_store
from springline.work.attempts import AttemptMaker
from springline.work.evaluations import MOST_AT_ONCE, MOST_PROCESSES, EvaluationMaker
from springline.work.memory import CAN_BE_WATCHED
from springline.work.pool import PipelineNotLoaded, ProcessPool
from springline.work.request import DEFAULT_QUEUE, WorkRequest

logger = logging.getLogger("springline.work")

MOST_BETWEEN_HEARTBEATS: Final = timedelta(seconds=1)
"""The SDK would keep heartbeats, and with them the news of a cancellation, back for 80 % of their time limit."""


class BadRequest(Exception):
    """What was asked for cannot be done; the message has a remedy."""


def queues_of(nodes: Sequence[NodeDefinition], wanted: Sequence[str]) -> list[str | None]:
    """Return the queues to take attempts from, None for the default one: those of assets and tasks, or those
    `wanted`.

    Raises `BadRequest` for one that none is on.
    """
    on: dict[str, list[str | None]] = {DEFAULT_QUEUE: [None]}
    for name in sorted({one.queue for one in nodes if one.queue is not None}):
        on.setdefault(name, []).append(name)
    for name in wanted:
        if name not in on:
            there = f"{meant(name, on)}There are {', '.join(on)}."
            raise BadRequest(f"no asset of the file is on the queue {name!r}. {there}")
    chosen = list(dict.fromkeys(wanted)) or list(on)
    return [queue for name in chosen for queue in on[name]]


async def differences(store: ObjectStore, scope: Scope, location: str, nodes: Sequence[NodeDefinition]) -> list[str]:
    """Return what differs between a file and what is deployed of its code location, a sentence each."""
    try:
        current = await read_latest(ScopedStore(store, scope))
    except DamagedObject as error:
        return [f"what is deployed cannot be read: {error}"]
    plain = {} if current is None else current.plain
    deployed = [one for one in (*plain.get("assets", ()), *plain.get(TASKS, ())) if one["location"] == location]
    if not deployed:
        return [f"nothing of code location {location} is deployed in {scope.tenant}/{scope.workspace}: deploy the file"]
    changes = changes_between(deployed, [as_stored(one, location) for one in nodes])
    tasks = {one.key for one in nodes if isinstance(one, DefinedTask)} | {one["key"] for one in plain.get(TASKS, ())}
    kinds = {one["key"]: "task" if one["key"] in tasks else "asset" for one in deployed}
    kinds |= {one.key: "task" if one.key in tasks else "asset" for one in nodes}
    return [
        *(f"{kinds[key]} {key} is not deployed: deploy the file" for key in changes.added),
        *(
            f"{kinds[one.key]} {one.key} differs from what is deployed ({', '.join(one.fields)}): deploy the file"
            for one in changes.changed
        ),
        *(f"{kinds[key]} {key} is deployed, and the file lacks it: its attempts fail here" for key in changes.removed),
    ]


def build_workers(
    client: Client,
    activities: AttemptActivities,
    queues: Sequence[str],
    *,
    concurrency: int,
    grace_s: float,
) -> list[Worker]:
    """Return the workers of task queues, ready to run: unversioned, as code of users is.

    Together they take `concurrency` attempts, which are at least as many as there are queues.
    """
    shared: dict[str, Any] = {"max_concurrent_activities": concurrency}
    if len(queues) > 1:
        one, slots = FixedSizeSlotSupplier(1), SharedSlots(concurrency)
        tuner = WorkerTuner.create_composite(
            workflow_supplier=one, activity_supplier=slots, local_activity_supplier=one, nexus_supplier=one
        )
        shared = {"tuner": tuner, "max_concurrent_activity_task_polls": 1}
    return [
        Worker(
            client,
            task_queue=queue,
            activities=[activities.run_attempt],
            **shared,
            max_heartbeat_throttle_interval=MOST_BETWEEN_HEARTBEATS,
            default_heartbeat_throttle_interval=MOST_BETWEEN_HEARTBEATS,
            graceful_shutdown_timeout=timedelta(seconds=grace_s),
        )
        for queue in queues
    ]


async def work(settings: Settings, request: WorkRequest, stop: asyncio.Event) -> None:
    """Work until `stop` is set, then let attempts finish within the shutdown's grace time.

    Raises `PipelineNotLoaded`, `BadRequest`, `InvalidPath` for an invalid tenant or workspace, and the errors of store
    and Temporal.
    """
    scope = Scope(request.tenant, request.workspace)
    async with AsyncExitStack() as stack:
        pool = ProcessPool(
            request.file,
            request.concurrency,
            lambda line: logger.info("%s: %s", request.file, line),
            python_path=request.python_path,
        )
        stack.push_async_callback(pool.aclose)
        described = await pool.open()
        location = request.location or str(described["location"])
        nodes = [
            *(AssetDefinition.model_validate(one) for one in described["assets"]),
            *(DefinedTask.model_validate(one) for one in described[TASKS]),
        ]
        queues = queues_of(nodes, request.queues)
        if len(queues) > pool.concurrency:
            told = ", ".join(queue or DEFAULT_QUEUE for queue in queues)
            logger.warning(
                "%d attempts at once instead of %d, one for each queue (%s): choose fewer by --queue",
                *(len(queues), pool.concurrency, told),
            )
            pool.grow(len(queues))
        store = open_store(settings.store_url)
        stack.push_async_callback(store.aclose)
        await store.prepare()
        await canary(store, str(uuid.uuid4()))
        for sentence in await differences(store, scope, location, nodes):
            logger.warning("%s", sentence)
        if not CAN_BE_WATCHED and any((request.memory_bytes, *(one.memory_bytes for one in nodes))):
            logger.warning("limits of memory do not hold on this system, only on Linux")
        client = await connect(hooks=settings.temporal_hooks)
        starts = StartSignals(signals_by(client))
        stack.push_async_callback(starts.aclose)
        maker = AttemptMaker(
            pool,
            store,
            location=location,
            assets={one.key for one in nodes},
            worker_id=client.identity,
            grace_s=request.grace_s,
            now_ms=lambda: time.time_ns() // 1_000_000,
            memory_bytes=request.memory_bytes,
        )
        taken = [names.attempt_queue(scope.tenant, scope.workspace, location, queue) for queue in queues]
        workers = build_workers(
            client,
            AttemptActivities(maker, starts, client.identity),
            taken,
            concurrency=pool.concurrency,
            grace_s=settings.shutdown_grace,
        )
        sensors = {str(one["sensor_id"]) for one in described["sensors"] if one["kind"] in OF_CODE}
        if sensors:
            evaluating = ProcessPool(
                request.file,
                min(len(sensors), MOST_PROCESSES),
                lambda line: logger.info("%s: %s", request.file, line),
                python_path=request.python_path,
                most=min(len(sensors), MOST_AT_ONCE),
            )
            stack.push_async_callback(evaluating.aclose)
            workers.append(
                Worker(
                    client,
                    task_queue=names.sensor_queue(scope.tenant, scope.workspace, location),
                    activities=[
                        EvaluationActivities(
                            EvaluationMaker(evaluating, location=location, sensors=sensors)
                        ).evaluate_sensor
                    ],
                    max_concurrent_activities=evaluating.most,
                    max_heartbeat_throttle_interval=MOST_BETWEEN_HEARTBEATS,
                    default_heartbeat_throttle_interval=MOST_BETWEEN_HEARTBEATS,
                    graceful_shutdown_timeout=timedelta(seconds=settings.shutdown_grace),
                )
            )
        ready = f"{location}, {pool.concurrency} attempts at once, from {', '.join(taken)}"
        await _run(workers, stop, ready, request.ready_file)
    logger.info("stopped")


async def _run(workers: Sequence[Worker], stop: asyncio.Event, ready: str, ready_file: str | None) -> None:
    """Run all workers until `stop` is set, or one of them fails; they drain at the same time.

    `ready` says what is ready; `ready_file` gets this process's id.
    """

    async def run(worker: Worker) -> None:
        try:
            async with worker:
                await stop.wait()
                logger.info("draining %s", worker.task_queue)
        finally:
            stop.set()

    if ready_file is not None:
        await asyncio.to_thread(Path(ready_file).write_text, str(os.getpid()))
    logger.info("worker ready: %s", ready)
    await together(*(run(worker) for worker in workers))


async def _main(arguments: Sequence[str]) -> int:
    try:
        request = WorkRequest.model_validate_json(arguments[0] if arguments else "")
        settings = load_settings()
    except (ConfigurationError, ValidationError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_INPUT
    configure_logging(settings)
    stop = asyncio.Event()

    def end() -> None:
        if stop.is_set():
            # Asked for once more: whoever waits no longer loses what is under way, and other workers make it anew.
            logger.warning("ending at once")
            leave(EXIT_INTERRUPTED)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        await work(settings, request, stop)
    except PipelineNotLoaded as error:
        sys.stderr.write(_told(error))
        return EXIT_BAD_INPUT
    except (
        *(ConfigurationError, BadRequest, InvalidPath, ValidationError),
        *(StoreMisconfigured, TemporalMisconfigured, InvariantViolated),
    ) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_INPUT
    except (StoreError, TemporalUnreachable, RuntimeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_TRY_AGAIN
    return EXIT_DONE


def _told(error: PipelineNotLoaded) -> str:
    lines = [f"{one['file']}:{one['line'] or 1}: {one['message']}. {one['remedy']}" for one in error.problems]
    return "\n".join([*(lines or [str(error)]), ""])


def main() -> None:
    """Run the worker and exit: 0 after a signal, 2 for bad input, 4 for what may work later."""
    run_and_leave(lambda: asyncio.run(_main(sys.argv[1:])))


if __name__ == "__main__":
    main()
