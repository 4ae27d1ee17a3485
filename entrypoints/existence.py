"""Seeing to it that every run without an end has its workflow, whatever Temporal has lost.

Each worker that executes runs looks at its start, as soon as it finds itself on another Temporal server than before
(a namespace that was made anew has another id), and every few minutes. A look tells the launcher of each workspace in
the register to look at everything, which starts the workflows that are missing. Several workers may do it at once: one
workflow exists for each id, and a run that has one reads its rows, no more.
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
"""Launchers that one worker tells at the same time."""

_log = logging.getLogger("springline.existence")


class Launchers(Protocol):
    """The launchers of workspaces; `entrypoints.temporal_runs.TemporalRunStarts` reaches them."""

    async def wake_launcher(self, scope: Scope, run_keys: list[str], *, looks: bool) -> None:
        """Tell the launcher of a workspace, and start it if it does not run."""


class Existence:
    """One worker process's part in it.

    Args:
        store: the whole store.
        launchers: whom a look tells.
        server: returns what tells the Temporal server from one that has lost everything.
        every_s: about how many seconds lie between two looks.
        watch_s: about how many between two checks of the server.
    """

    def __init__(
        self,
        store: ObjectStore,
        launchers: Launchers,
        server: Callable[[], Awaitable[str]],
        *,
        every_s: float = EVERY_S,
        watch_s: float = WATCH_S,
    ) -> None:
        self._store = store
        self._launchers = launchers
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
                _log.warning("Temporal has lost everything: runs are brought back from the store")
            self._left = await registered(self._store)
            self._known, self._due = server, now + self._spread(self._every_s)
        self._left = await self._tell(self._left)

    async def _tell(self, scopes: Sequence[Scope]) -> list[Scope]:
        """Tell launchers to look at everything; return the workspaces of those that could not be told."""
        told = await each(self._told, scopes, concurrency=AT_ONCE)
        return [scope for scope, done in zip(scopes, told, strict=True) if not done]

    async def _told(self, scope: Scope) -> bool:
        try:
            await self._launchers.wake_launcher(scope, [], looks=True)
        except (RPCError, RuntimeError, OSError) as error:
            _log.warning("the launcher of %s/%s could not be told: %s", scope.tenant, scope.workspace, error)
            return False
        return True

    async def _keep(self) -> None:
        while True:
            try:
                await self.check()
            except (RPCError, RuntimeError, OSError, StoreError) as error:
                _log.warning("whether every run has its workflow could not be seen to: %s", error)
            await asyncio.sleep(self._spread(self._watch_s))

    @staticmethod
    def _spread(seconds: float) -> float:
        return random.uniform(0.5, 1.5) * seconds
