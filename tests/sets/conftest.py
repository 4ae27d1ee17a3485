"""Merges after a few rows: what comes after many elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from springline.published import index as events_index
from springline.published import merge
from tests.support.one_thread import one_thread  # noqa: F401 - a fixture


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread: None) -> None:  # noqa: F811
    """All of the room is explorations."""


@pytest.fixture
def small_merges(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have bases, packs and segments come after a few rows and events, as they do after many."""
    monkeypatch.setattr(merge, "MIN_BASE_ROWS", 40)
    monkeypatch.setattr(merge, "SMALLEST_TIER_ROWS", 8)
    monkeypatch.setattr(events_index, "PACK_EVENTS", 6)
    monkeypatch.setattr(events_index, "SEGMENT_EVENTS", 18)
    monkeypatch.setattr(events_index, "NODE_SEGMENTS", 3)
    yield
