"""Faults of activities from outside: an interceptor of the client, which its workers take over."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from temporalio import activity
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput
from temporalio.worker import Interceptor as WorkerInterceptor

from activities.commit import TABLES_REMEMBERED, CommitActivities
from activities.ledger import LedgerActivities
from springline.caches import Recent
from springline.commit.registry import RegistryMemory
from springline.commit.table import TableMemory

Step = Callable[[], Awaitable[None]]


class Faults(ClientInterceptor, WorkerInterceptor):
    """What happens before and after activities: each step is used up by the first call of its activity."""

    def __init__(self) -> None:
        self.cold = False
        """Every activity finds a process that remembers nothing, as if each ran on another worker."""
        self._held: dict[str, asyncio.Event] = {}
        self._before: dict[str, list[Step]] = defaultdict(list)
        self._after: dict[str, list[Step]] = defaultdict(list)

    def before(self, activity_name: str, step: Step) -> None:
        """Run `step` before the next call of an activity that has no step yet."""
        self._before[activity_name].append(step)

    def hold(self, activity_name: str, release: asyncio.Event) -> None:
        """Keep all attempts of an activity from their effect until `release`: on a busy machine one may time out."""
        self._held[activity_name] = release

    def after(self, activity_name: str, step: Step) -> None:
        """Run `step` when the next call of an activity has had its effect."""
        self._after[activity_name].append(step)

    @property
    def unused(self) -> list[str]:
        """Return the activities whose steps have not happened."""
        return [name for steps in (self._before, self._after) for name, left in steps.items() if left]

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next, self)

    async def run(self, input: ExecuteActivityInput, next: ActivityInboundInterceptor) -> Any:
        name = activity.info().activity_type
        if self.cold:
            forget(input)
        if name in self._held:
            await self._held[name].wait()
        if self._before[name]:
            await self._before[name].pop(0)()
        result = await next.execute_activity(input)
        if self._after[name]:
            await self._after[name].pop(0)()
        return result


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, faults: Faults) -> None:
        super().__init__(next)
        self._faults = faults

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return await self._faults.run(input, self.next)


def forget(input: ExecuteActivityInput) -> None:
    """Make the process that runs an activity as ignorant as a new one."""
    owner = getattr(input.fn, "__self__", None)
    if isinstance(owner, CommitActivities):
        owner._tables = Recent(TABLES_REMEMBERED)
        owner._registered = RegistryMemory()
        owner._memory = TableMemory()
    if isinstance(owner, LedgerActivities):
        owner._sequencers.clear()


async def raises() -> None:
    """The attempt fails after its effect."""
    raise RuntimeError("injected: the attempt fails after its effect")


async def result_is_lost() -> None:
    """The effect has happened and nobody ever hears of it: the server finds out by missing heartbeats."""
    activity.raise_complete_async()


async def held_until(release: asyncio.Event) -> None:
    """Keep the activity from its effect until `release` is set."""
    await release.wait()


async def nothing() -> None:
    """Let this call pass."""
