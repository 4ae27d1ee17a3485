"""Workers see to it that every workspace has its Repair: at their start, after a loss, and now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from temporalio.service import RPCError, RPCStatusCode

from entrypoints.existence import AT_ONCE, Existence
from springline.deployed.register import register
from springline.paths import ObjectPath, Scope
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectInfo, StoreRetry

PROD, DEV = Scope("acme", "prod"), Scope("acme", "dev")


class Repairs:
    """Notes who is woken; those in `away` cannot be reached."""

    def __init__(self) -> None:
        self.told: list[Scope] = []
        self.evaluators: list[Scope] = []
        self.away: set[Scope] = set()
        self.at_once = self.most = 0

    async def wake_repair(self, scope: Scope) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if scope in self.away:
            raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
        self.told.append(scope)

    async def wake_evaluator(self, scope: Scope) -> None:
        assert scope in self.told, "runs first"
        self.evaluators.append(scope)


class World:
    """A store with two workspaces, their Repairs, and a server that may lose everything."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.repairs = Repairs()
        self.server = "first"
        self.reachable = True

    async def which(self) -> str:
        if not self.reachable:
            raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
        return self.server

    def existence(self, *, every_s: float = 1_000_000.0, watch_s: float = 0.001) -> Existence:
        return Existence(self.store, self.repairs, self.which, every_s=every_s, watch_s=watch_s)


@pytest.fixture
async def world() -> World:
    world = World()
    for scope in (PROD, DEV):
        await register(world.store, scope)
    return world


async def test_a_worker_looks_at_its_start_and_then_not_for_long(world: World) -> None:
    existence = world.existence()
    await existence.check()
    assert world.repairs.told == [DEV, PROD]
    await existence.check()
    assert world.repairs.told == world.repairs.evaluators == [DEV, PROD]


async def test_a_worker_looks_every_few_minutes(world: World) -> None:
    existence = world.existence(every_s=0.0)
    await existence.check()
    await existence.check()
    assert world.repairs.told == [DEV, PROD] * 2


async def test_a_server_that_has_lost_everything_is_noticed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    existence = world.existence()
    await existence.check()
    assert "lost everything" not in caplog.text
    world.server = "second"
    await existence.check()
    assert world.repairs.told == [DEV, PROD] * 2
    assert "lost everything" in caplog.text


async def test_only_what_failed_is_tried_again(world: World) -> None:
    existence = world.existence()
    world.repairs.away = {DEV}
    await existence.check()
    assert world.repairs.told == [PROD]
    world.repairs.away = set()
    await existence.check()
    await existence.check()
    assert world.repairs.told == [PROD, DEV]


async def test_a_new_workspace_is_found(world: World) -> None:
    existence = world.existence(every_s=0.0)
    await existence.check()
    await register(world.store, Scope("other", "a"))
    await existence.check()
    assert world.repairs.told[2:] == [DEV, PROD, Scope("other", "a")]


async def test_many_workspaces_are_told_a_few_at_a_time(world: World) -> None:
    for number in range(50):
        await register(world.store, Scope("many", f"w{number}"))
    await world.existence().check()
    assert len(world.repairs.told) == 52
    assert world.repairs.most == AT_ONCE


async def test_it_goes_on_beside_the_block_whatever_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class AwayAtFirst(MemoryStore):
        fails = 2

        async def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
            if self.fails:
                self.fails -= 1
                raise StoreRetry("busy")
            async for info in super().list(prefix, start_after=start_after):
                yield info

    world.store = AwayAtFirst()
    await register(world.store, PROD)
    world.reachable = False
    async with world.existence().kept():
        async with asyncio.timeout(10):
            while "could not be seen to" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert world.repairs.told == []
        world.reachable = True
        async with asyncio.timeout(10):
            while not world.repairs.told:  # noqa: ASYNC110
                await asyncio.sleep(0)
    assert "busy" in caplog.text
    assert world.repairs.told == [PROD]
