"""Seeing to it that every workspace has its Repair and the evaluator of its schedules, whatever Temporal has lost.

Each worker that executes runs looks at its start, as soon as it finds itself on another Temporal server than before
(a namespace that was made anew has another id), and every few minutes. A look wakes the Repair of each workspace in the
register, and starts it if it does not run; Repair starts all other workflows that are missing. It wakes the evaluator
of schedules likewise, which ends at once where there are none. Several workers may do it at once: one workflow exists
for each id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Protocol

from temporalio.service import RPCError

from springline.deployed.register import registered
from springline.paths import Scope
from springline.storage.port import ObjectStore, StoreError
from springline.storage.together import beside, each

EVERY_S: Final = 300.0
"""Seconds between two looks of a worker, half of that to one and a half, so that workers do not look together."""
WATCH_S: Final = 5.0
"""Seconds between two checks of which server answers, and before what failed is tried again; spread likewise."""
AT_ONCE: Final = 8
"""Workspaces whose Repair one worker wakes at the same time."""

_log = logging.getLogger("springline.existence")


class RepairWakes(Protocol):
    """The Repair of workspaces; `entrypoints.temporal_repair.TemporalRepaired` reaches it."""

    async def wake_repair(self, scope: Scope) -> None:
        """Have a workspace looked at, now and from then on."""

    async def wake_evaluator(self, scope: Scope) -> None:
        """Tell the evaluator of a workspace's schedules, and start it if it does not run."""


class Existence:
    """One worker process's part in it.

    Args:
        store: the whole store.
        repairs: whom a look wakes.
        server: returns what tells the Temporal server from one that has lost everything.
        every_s: about how many seconds lie between two looks.
        watch_s: about how many between two checks of the server.
    """

    def __init__(
        self,
        store: ObjectStore,
        repairs: RepairWakes,
        server: Callable[[], Awaitable[str]],
        *,
        every_s: float = EVERY_S,
        watch_s: float = WATCH_S,
    ) -> None:
        self._store = store
        self._repairs = repairs
        self._server = server
        self._every_s = every_s
        self._watch_s = watch_s
        self._known: str | None = None
        self._due = 0.0
        self._left: list[Scope] = []

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Look again and again during the block, beside it: its beginning waits for nothing."""
        async with beside(self._keep()):
            yield

    async def check(self) -> None:
        """Look if it is time to, or the server is another one; else try again what failed in the last look.

        Raises the store's errors and Temporal's; then the next check does it.
        """
        now = asyncio.get_running_loop().time()
        server = await self._server()
        if server != self._known or now >= self._due:
            if self._known is not None and server != self._known:
                _log.warning("Temporal has lost everything: workspaces are brought back from the store")
            self._left = await registered(self._store)
            self._known, self._due = server, now + self._spread(self._every_s)
        self._left = await self._tell(self._left)

    async def _tell(self, scopes: Sequence[Scope]) -> list[Scope]:
        """Have workspaces looked at; return those whose Repair could not be woken."""
        told = await each(self._told, scopes, concurrency=AT_ONCE)
        return [scope for scope, done in zip(scopes, told, strict=True) if not done]

    async def _told(self, scope: Scope) -> bool:
        try:
            await self._repairs.wake_repair(scope)
            await self._repairs.wake_evaluator(scope)
        except (RPCError, RuntimeError, OSError) as error:
            _log.warning("Repair or evaluator of %s/%s could not be woken: %s", scope.tenant, scope.workspace, error)
            return False
        return True

    async def _keep(self) -> None:
        while True:
            try:
                await self.check()
            except (RPCError, RuntimeError, OSError, StoreError) as error:
                _log.warning("whether every workspace has its Repair could not be seen to: %s", error)
            await asyncio.sleep(self._spread(self._watch_s))

    @staticmethod
    def _spread(seconds: float) -> float:
        return random.uniform(0.5, 1.5) * seconds
