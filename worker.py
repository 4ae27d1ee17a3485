"""A worker process: connect to Temporal, register workflows and activities, run until SIGTERM, drain.

    python worker.py [--queues springline-commit,springline-ledger,springline-maintenance,springline-rebuild]

Configuration is by environment: `SPRINGLINE_*` (see `springline.config`) and Temporal's own `TEMPORAL_*`.
Metrics: http://{metrics_host}:{metrics_port}/metrics. Health: http://{metrics_host}:{health_port}/healthz and /readyz.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import entrypoints.memory  # noqa: F401

# isort: split
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, Worker, WorkerDeploymentConfig

from activities.backfills import BackfillActivities
from activities.commit import CommitActivities
from activities.garbage import GarbageActivities
from activities.interceptor import StepInterceptor
from activities.ledger import Configure, LedgerActivities
from activities.probe import ProbeActivities
from activities.rebuild import RebuildActivities
from activities.repair import RepairActivities
from activities.runs import RunActivities
from activities.schedules import ScheduleActivities
from activities.sensors import SensorActivities
from activities.tables import TableActivities
from entrypoints.connection import TemporalMisconfigured, TemporalUnreachable, connect, metrics_runtime, namespace_id
from entrypoints.deployment import Deployment, deployment_config
from entrypoints.existence import Existence
from entrypoints.health import HealthServer
from entrypoints.logs import configure_logging
from entrypoints.sandbox import workflow_runner
from entrypoints.temporal_ledger import TemporalLedgerGateway
from entrypoints.temporal_repair import TemporalRepaired
from entrypoints.temporal_switch import TemporalSwitches
from springline import names
from springline.config import ConfigurationError, Settings, fold_config, load_settings
from springline.definitions.urls import AllowedUrls
from springline.errors import InvariantViolated
from springline.exits import EXIT_BAD_INPUT, EXIT_DONE, EXIT_TRY_AGAIN, run_and_leave
from springline.projection.config import FoldConfig
from springline.projection.parquet import load_codec
from springline.runs.launching import MAX_ACTIVE_RUNS
from springline.runs.posting import AttemptPoster
from springline.runs.task_tokens import TaskTokens
from springline.sequencer.coalescer import LedgerCoalescer
from springline.storage.canary import canary
from springline.storage.counted import CountedStore
from springline.storage.identity import store_id
from springline.storage.port import ObjectStore, StoreError, StoreMisconfigured
from springline.storage.url import open_store
from workflows.backfill_evaluator import BackfillEvaluator
from workflows.commit import CommitWorkflow
from workflows.garbage import GarbageWorkflow
from workflows.ledger import LedgerWorkflow
from workflows.pool import PoolWorkflow
from workflows.probe import ProbeWorkflow
from workflows.rebuild import RebuildWorkflow
from workflows.repair import Repair
from workflows.request_backfill import RequestBackfillWorkflow
from workflows.request_run import RequestRunWorkflow
from workflows.run import RunWorkflow
from workflows.run_launcher import RunLauncher
from workflows.run_shard import RunShardWorkflow
from workflows.schedule_evaluator import ScheduleEvaluator
from workflows.sensor import SensorWorkflow
from workflows.tables import CheckpointWorkflow, CreateTableWorkflow

logger = logging.getLogger("springline.worker")

STICKY_TIMEOUT = timedelta(milliseconds=250)
"""A killed worker's cached workflows are handed to another after this long (the SDK's default is 10 s), each in its
turn: what waits for four of them waits four times. A false alarm, of a worker too busy to take a task for so long,
costs a replay elsewhere."""
MOST_BETWEEN_HEARTBEATS = timedelta(milliseconds=300)
"""The SDK would keep heartbeats back for 80 % of their time limit: a busy moment then looks like a death."""
REBUILD_PARTS = 3
"""Parts of rebuilds that a worker has in hand: one keeps the processor busy, the others wait for the store. More would
only take memory, and parts that another worker could do."""
PASSED_THROUGH = ("springline", "activities", "workflows", "orjson", "rfc8785", "msgspec")
"""Modules the sandbox need not load anew for each run: they are import-clean and hold no workflow state."""


def build_workers(
    client: Client,
    store: ObjectStore,
    *,
    queues: Sequence[str],
    configure: Configure = FoldConfig,
    max_cached_workflows: int = 1000,
    grace_s: float = 20,
    max_active_runs: int = MAX_ACTIVE_RUNS,
    poster: AttemptPoster | None = None,
    deployment: WorkerDeploymentConfig | None = None,
) -> list[Worker]:
    """Return the workers of `queues`, ready to run; tests and benchmarks use the same registration.

    `max_active_runs`: of a workspace, at once. `poster` reaches workers over HTTP, None: none. `deployment` is the
    version of which they are, None for none (a test server knows no versions). `configure` says under which rules a
    workspace's ledger is folded, by default those without secret and retention.
    """
    runner = workflow_runner(PASSED_THROUGH, client.data_converter)
    commits = CommitActivities(store)
    ledger = LedgerActivities(store, configure)
    tables = TableActivities(store)
    garbage = GarbageActivities(store)
    rebuild = RebuildActivities(store, configure, TemporalSwitches(client))
    appends = LedgerCoalescer(TemporalLedgerGateway(client))
    repaired = TemporalRepaired(client)
    runs = RunActivities(
        store,
        appends,
        repaired,
        poster or AttemptPoster(AllowedUrls(), None, None, time.time),
        max_active_runs,
    )
    repair = RepairActivities(store, repaired, max_active_runs)
    sensors = SensorActivities(store, appends)
    backfills = BackfillActivities(store, appends)
    schedules = ScheduleActivities(store, appends, client.identity)
    build_id = "unversioned" if deployment is None else deployment.version.build_id
    probe = ProbeActivities(store, build_id, client.identity, configure("", ""))
    registered: dict[str, tuple[list[type], list[Callable[..., Any]]]] = {
        names.COMMIT_QUEUE: (
            [CommitWorkflow],
            [
                commits.reserve,
                commits.finalize_and_reserve,
                commits.write_log,
                commits.write_marker,
                commits.finalize,
            ],
        ),
        names.LEDGER_QUEUE: (
            [LedgerWorkflow],
            [
                ledger.open_ledger,
                ledger.admit,
                ledger.admit_foreign,
                ledger.append_events,
                ledger.fold,
                ledger.publish,
                ledger.switch_state,
            ],
        ),
        names.MAINTENANCE_QUEUE: (
            [CreateTableWorkflow, CheckpointWorkflow, GarbageWorkflow],
            [
                tables.create_table,
                tables.adopt_table,
                tables.checkpoint,
                garbage.mark_garbage,
                garbage.sweep_garbage,
            ],
        ),
        names.RUNS_QUEUE: (
            [
                *(RunLauncher, RunWorkflow, RunShardWorkflow, PoolWorkflow, Repair, RequestRunWorkflow),
                *(ScheduleEvaluator, SensorWorkflow, BackfillEvaluator, RequestBackfillWorkflow),
            ],
            [
                runs.launch_runs,
                runs.load_run,
                runs.append_run_events,
                runs.wake_runs,
                runs.ask_pools,
                runs.read_pool,
                runs.request_run,
                repair.look_for_repairs,
                repair.make_repairs,
                runs.post_attempt,
                runs.note_seals,
                schedules.evaluate_schedules,
                sensors.look_at_sensor,
                sensors.record_evaluation,
                backfills.evaluate_backfill,
                backfills.request_backfill,
            ],
        ),
        names.REBUILD_QUEUE: (
            [RebuildWorkflow],
            [
                rebuild.plan_rebuild,
                rebuild.read_slice,
                rebuild.scan_segment,
                rebuild.plan_shards,
                rebuild.fold_shard,
                rebuild.assemble,
                rebuild.compare,
                rebuild.switch_in,
                rebuild.write_report,
            ],
        ),
    }
    return [
        Worker(
            client,
            task_queue=queue,
            workflows=[*registered[queue][0], ProbeWorkflow],
            activities=[*registered[queue][1], probe.probe],
            interceptors=[StepInterceptor()],
            deployment_config=deployment,
            workflow_runner=runner,
            max_cached_workflows=max_cached_workflows,
            max_concurrent_activities=REBUILD_PARTS if queue == names.REBUILD_QUEUE else 200,
            workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=2, maximum=40, initial=5),
            activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=2, maximum=40, initial=5),
            sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
            max_heartbeat_throttle_interval=MOST_BETWEEN_HEARTBEATS,
            graceful_shutdown_timeout=timedelta(seconds=grace_s),
        )
        for queue in queues
    ]


def attempt_poster(settings: Settings) -> AttemptPoster:
    """Return what posts attempts to workers over HTTP, as far as that is configured."""
    secret = settings.task_secret
    return AttemptPoster(
        AllowedUrls.parsed(settings.http_workers),
        None if secret is None else TaskTokens(secret.get_secret_value()),
        settings.callback_url,
        time.time,
    )


async def run_worker(settings: Settings, queues: Sequence[str], stop: asyncio.Event) -> None:
    """Run until `stop` is set, then drain: no new work, and what is under way may finish within the grace time."""
    async with AsyncExitStack() as stack:
        runtime = metrics_runtime(settings)
        requests = runtime.metric_meter.create_counter(names.METRIC_STORE_REQUESTS, "Requests to the store.")

        def count(operation: str, outcome: str, number: int) -> None:
            requests.add(number, {"operation": operation, "outcome": outcome})

        opened = open_store(settings.store_url)
        stack.push_async_callback(opened.aclose)
        await opened.prepare()
        store = CountedStore(opened, count)
        await canary(store, str(uuid.uuid4()))
        await store_id(store, str(uuid.uuid4()))
        await asyncio.to_thread(load_codec)
        health = await stack.enter_async_context(HealthServer(settings.metrics_host, settings.health_port))
        client = await connect(runtime, hooks=settings.temporal_hooks)
        deployed = deployment_config(settings)
        workers = build_workers(
            client,
            store,
            queues=queues,
            configure=partial(fold_config, settings),
            max_cached_workflows=settings.max_cached_workflows,
            grace_s=settings.shutdown_grace,
            max_active_runs=settings.max_active_runs,
            poster=attempt_poster(settings),
            deployment=deployed,
        )
        for worker in workers:
            await stack.enter_async_context(worker)
        deployment = Deployment(
            client,
            deployed.version,
            queues,
            makes_current=settings.versioning == "auto",
            follow=TemporalRepaired(client).follow,
        )
        if deployed.use_worker_versioning:
            await stack.enter_async_context(deployment.kept())
        if names.RUNS_QUEUE in queues:
            existence = Existence(store, TemporalRepaired(client), partial(namespace_id, client))
            await stack.enter_async_context(existence.kept())
        health.ready()
        build_id = deployed.version.build_id
        logger.info("worker ready: build %s, queues %s, store %s", build_id, ", ".join(queues), settings.store_url)
        await stop.wait()
        health.draining()
        logger.info("draining")
        if deployed.use_worker_versioning:
            await deployment.drained(settings.shutdown_grace / 2)
    logger.info("stopped")


def parse_queues(text: str) -> list[str]:
    """Parse `--queues`; raises `argparse.ArgumentTypeError` naming what is unknown."""
    queues = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in queues if name not in names.ALL_QUEUES]
    if unknown or not queues:
        raise argparse.ArgumentTypeError(
            f"unknown queue {', '.join(unknown) or repr(text)}; choose from {', '.join(names.ALL_QUEUES)}"
        )
    return queues


async def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="worker.py", description="Run Springline's workflows and activities.")
    parser.add_argument("--queues", type=parse_queues, default=list(names.ALL_QUEUES), metavar="NAME[,NAME]")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings()
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_INPUT
    configure_logging(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await run_worker(settings, options.queues, stop)
    except (ConfigurationError, StoreMisconfigured, TemporalMisconfigured, InvariantViolated) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_INPUT
    except (StoreError, TemporalUnreachable, RuntimeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_TRY_AGAIN
    return EXIT_DONE


def main() -> None:
    """Run the worker and exit: 0 after a signal, 2 for bad configuration, 4 for what may work later."""
    run_and_leave(lambda: asyncio.run(_main(sys.argv[1:])))


if __name__ == "__main__":
    main()
