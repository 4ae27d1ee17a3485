"""Asking for something that must be refused."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import httpx

from tests.api.conftest import TABLES, World, add, assert_refused, new_key

UNKNOWN_ID = "01946b1c-0000-7000-8000-0000000000aa"


async def refused(world: World, ask: Awaitable[httpx.Response], *expected: Any, **more: Any) -> dict[str, Any]:
    """Send a request that must be refused, and check that it wrote nothing and holds up no other commit."""
    before = world.snapshot()
    body = assert_refused(await ask, *expected, **more)
    assert world.snapshot() == before, "a refused request wrote something"
    return body


async def goes_on(world: World, table: str) -> None:
    """Another commit of the same table succeeds."""
    staged = await world.stage(table, add(f"{new_key()}.parquet"))
    status = (await world.client.get(f"{TABLES}/{table}")).json()
    answer = await world.commit(table, staged, read_version=status["latest_version"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == status["latest_version"] + 1
