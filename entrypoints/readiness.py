"""The readiness checks of the API: workers answer, they have its store, and runs make progress.

Many callers request `/ready` every few seconds, so they share answers for a moment. A worker is checked by a query of
the last probe of its queue, which leaves no history; a new probe runs only now and then, and if the query fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from temporalio.client import Client

from activities.messages import Probed
from entrypoints.probes import PROBE_S, ping, probe
from entrypoints.runs import troubled_runs
from springline import names
from springline.caches import Brief
from springline.errors import SpringlineError

SHARED_S = 2.0
PROBED_ANEW_S = 300.0
"""A worker may restart with another store: so it is probed again after so many seconds."""
RUNS_LOOKED_AT = 50
RUNS_SHARED_S = 10.0
NEEDED = (names.COMMIT_QUEUE, names.LEDGER_QUEUE, names.MAINTENANCE_QUEUE, names.REBUILD_QUEUE)


class NotWell(SpringlineError):
    """A dependency of the API is missing or wrong; the message says which."""


class Readiness:
    """Checks workers and runs for one API process over a store; `store_id` returns that store's id."""

    def __init__(self, client: Client, store_id: Callable[[], Awaitable[str]]) -> None:
        self._client = client
        self._store_id = store_id
        self._probed: dict[str, tuple[float, Probed]] = {}
        self._workers: Brief[str, None] = Brief(self._ask_workers, SHARED_S)
        self._runs: Brief[str, None] = Brief(self._ask_runs, RUNS_SHARED_S)

    async def workers(self) -> None:
        """Return if a worker of each queue answers and works with this API's store; raises `NotWell` otherwise."""
        await self._workers.get("")

    async def runs(self) -> None:
        """Return if no checked run is stuck; raises `NotWell` naming one otherwise."""
        await self._runs.get("")

    async def _ask_workers(self, _: str) -> None:
        found = await asyncio.gather(*map(self._worker, NEEDED))
        missing = [queue for queue, probed in zip(NEEDED, found, strict=True) if probed is None]
        if missing:
            raise NotWell(f"no worker answers on {', '.join(missing)} within {PROBE_S:g} s")
        ours = await self._store_id()
        if any(probed is not None and probed.store_id != ours for probed in found):
            raise NotWell("the workers' store is not this API's: give both the same SPRINGLINE_STORE_URL")

    async def _worker(self, queue: str) -> Probed | None:
        known = self._probed.get(queue)
        if known is not None and time.monotonic() - known[0] < PROBED_ANEW_S and await ping(self._client, queue):
            return known[1]
        probed = await probe(self._client, queue)
        if probed is not None:
            self._probed[queue] = (time.monotonic(), probed)
        return probed

    async def _ask_runs(self, _: str) -> None:
        stuck = await troubled_runs(self._client, most=RUNS_LOOKED_AT)
        if stuck:
            # An answer to operators of one workspace must not name another's runs: `springline doctor` names them.
            raise NotWell(f"{len(stuck)} run(s) do not move, because {stuck[0].why}: `springline doctor` names them")
