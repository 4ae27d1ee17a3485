"""The HTTP API as a process: `python -m entrypoints.api`.

Configuration is by environment: `SPRINGLINE_*` (see `springline.config`) and Temporal's own `TEMPORAL_*`.
SIGTERM and SIGINT let requests under way finish within the grace time; the exit code is 0 then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import uuid

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from temporalio.client import Client
from ulid import ULID

from entrypoints.connection import TemporalMisconfigured, TemporalUnreachable, check_namespace, connect
from entrypoints.listening import listen
from entrypoints.logs import configure_logging
from entrypoints.readiness import Readiness
from entrypoints.serving import server_of
from entrypoints.table_names import names_by_registry
from entrypoints.temporal import TemporalCommitGateway
from entrypoints.temporal_ledger import TemporalLedgerGateway
from entrypoints.temporal_rebuild import TemporalRebuilds
from entrypoints.temporal_repair import TemporalRepairs
from entrypoints.temporal_runs import TemporalRuns
from entrypoints.temporal_sensors import TemporalSensors
from entrypoints.temporal_tables import TemporalTables
from springline.api.app import create_app
from springline.api.auth import KeySet, KeySource, SharedSecret, TokenVerifier
from springline.api.location import table_location
from springline.api.metrics import CoalescerCollector
from springline.api.ports import Deps
from springline.caches import Brief
from springline.commit.coalescer import CommitCoalescer
from springline.config import PREFIX, ConfigurationError, Problem, Settings, load_settings
from springline.definitions.urls import AllowedUrls
from springline.errors import InvariantViolated
from springline.exits import EXIT_BAD_INPUT, EXIT_DONE, EXIT_TRY_AGAIN, run_and_leave
from springline.paths import canary_object
from springline.runs.task_tokens import TaskTokens
from springline.sequencer.coalescer import LedgerCoalescer
from springline.storage.canary import canary
from springline.storage.identity import store_id
from springline.storage.port import ObjectStore, StoreError, StoreMisconfigured
from springline.storage.together import together
from springline.storage.url import open_store

STORE_ID_S = 10.0
"""The store's id is read again after so many seconds, to notice a store that was exchanged."""

logger = logging.getLogger("springline.api")


def token_verifier(settings: Settings) -> TokenVerifier:
    """Return the verifier of the one configured key source; raises `ConfigurationError` if there is none."""
    keys: KeySource
    if settings.jwt_secret is not None:
        keys = SharedSecret(settings.jwt_secret.get_secret_value())
    elif settings.jwt_jwks_url is not None:
        keys = KeySet(settings.jwt_jwks_url)
    else:
        raise ConfigurationError(
            [
                Problem(
                    f"{PREFIX}JWT_SECRET",
                    "is not set, and no JWKS URL either, so that nobody could be let in",
                    f"Set it to an HS256 secret of 32 bytes or more, or set {PREFIX}JWT_JWKS_URL.",
                )
            ]
        )
    return TokenVerifier(keys, audience=settings.jwt_audience, issuer=settings.jwt_issuer)


def build_deps(
    settings: Settings,
    store: ObjectStore,
    client: Client,
    coalescer: CommitCoalescer,
    ledger: LedgerCoalescer,
    verifier: TokenVerifier,
) -> Deps:
    """Return the application's parts over one store and one Temporal client."""
    metrics = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=metrics)
    metrics.register(CoalescerCollector(coalescer.counts, *ledger.counts))

    async def store_answers() -> None:
        await store.head(canary_object("ready"))

    async def our_store(_: str) -> str:
        return await store_id(store, str(uuid.uuid4()))

    identity = Brief(our_store, STORE_ID_S)
    readiness = Readiness(client, lambda: identity.get(""))
    return Deps(
        store=store,
        tables=TemporalTables(client, deadline_s=settings.commit_deadline),
        commits=coalescer,
        sequencers=TemporalCommitGateway(client),
        ledger=ledger,
        rebuilds=TemporalRebuilds(client),
        runs=TemporalRuns(client),
        repairs=TemporalRepairs(client),
        sensors=TemporalSensors(client),
        verifier=verifier,
        location=lambda scope, root: table_location(settings.store_url, scope, root),
        new_name=lambda: str(ULID()),
        probes={
            "store": store_answers,
            "temporal": lambda: check_namespace(client),
            "workers": readiness.workers,
        },
        warnings={"runs": readiness.runs},
        store_id=lambda: identity.get(""),
        task_tokens=None if settings.task_secret is None else TaskTokens(settings.task_secret.get_secret_value()),
        http_workers=AllowedUrls.parsed(settings.http_workers),
        metrics=metrics,
    )


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way.

    Raises `ConfigurationError`, `StoreError` if the store fails its canary, `TemporalUnreachable` if the
    Temporal configuration cannot be read. Temporal itself may start later: `/ready` says so.
    """
    verifier = token_verifier(settings)
    store = open_store(settings.store_url)
    try:
        await store.prepare()
        await canary(store, str(uuid.uuid4()))
        await store_id(store, str(uuid.uuid4()))
        client = await connect(lazy=True, hooks=settings.temporal_hooks)
        gateway = TemporalCommitGateway(
            client, checkpoint_interval=settings.checkpoint_interval, name_of=names_by_registry(store)
        )
        coalescer = CommitCoalescer(gateway, deadline_s=settings.commit_deadline)
        ledger = LedgerCoalescer(TemporalLedgerGateway(client), deadline_s=settings.commit_deadline)
        server = server_of(
            create_app(build_deps(settings, store, client, coalescer, ledger, verifier)),
            most=settings.api_connections,
            grace_s=settings.shutdown_grace,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, setattr, server, "should_exit", True)
        host_variable, port_variable = f"{PREFIX}API_HOST", f"{PREFIX}API_PORT"
        with listen(
            settings.api_host, settings.api_port, host_variable=host_variable, port_variable=port_variable
        ) as listener:
            host, port = listener.getsockname()[:2]
            logger.info("serving %s on http://%s:%s", settings.store_url, host, port)
            await server.serve(sockets=[listener])
        # Callers that still wait after the grace time get no answer, and find out by the same key.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(together(coalescer.aclose(), ledger.aclose()), settings.shutdown_grace)
    finally:
        await store.aclose()
    logger.info("stopped")


def _run() -> int:
    try:
        settings = load_settings()
        configure_logging(settings)
        asyncio.run(serve(settings))
    except (ConfigurationError, StoreMisconfigured, TemporalMisconfigured, InvariantViolated) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_INPUT
    except (StoreError, TemporalUnreachable, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_TRY_AGAIN
    return EXIT_DONE


def main() -> None:
    """Run the API and exit: 0 after a signal, 2 for bad configuration, 4 for what may work later."""
    run_and_leave(_run)


if __name__ == "__main__":
    main()
