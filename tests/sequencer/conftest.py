"""Stores for tests of the sequencer: in memory and in a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from springline.storage.local import LocalStore
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore
from tests.support.sequencer_world import scoped


@pytest_asyncio.fixture(params=["memory", "local"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """Return a workspace's part of a store in memory, and of one in a folder."""
    whole: ObjectStore = LocalStore(tmp_path / "store", fsync=False) if request.param == "local" else MemoryStore()
    yield scoped(whole)
    await whole.aclose()
