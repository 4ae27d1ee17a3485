"""Stores that a Delta library can open too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from springline.storage.gcs import EMULATOR_VARIABLE, GcsStore
from springline.storage.local import LocalStore
from springline.storage.port import ObjectStore
from tests.storage.conftest import bucket, fake_gcs

__all__ = ["bucket", "fake_gcs", "open_to_others"]


@pytest_asyncio.fixture(params=["local", "gcs"])
async def open_to_others(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ObjectStore]:
    """Return a store in a folder, and one in an emulator's bucket under a prefix."""
    store: ObjectStore
    if request.param == "gcs":
        name = request.getfixturevalue("bucket")
        monkeypatch.setenv(EMULATOR_VARIABLE, f"http://{request.getfixturevalue('fake_gcs')}")
        store = GcsStore(name, "some/prefix")
    else:
        store = LocalStore(tmp_path / "store", fsync=False)
    yield store
    await store.aclose()
