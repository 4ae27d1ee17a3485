"""Small objects for the whole room: few events make packs, segments, nodes, deltas and bases."""

from __future__ import annotations

import pytest

from springline.published import index, merge
from tests.support.one_thread import one_thread  # noqa: F401 - a fixture


@pytest.fixture(autouse=True)
def _small_objects(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(index, "PACK_EVENTS", 4)
    monkeypatch.setattr(index, "SEGMENT_EVENTS", 8)
    monkeypatch.setattr(index, "NODE_SEGMENTS", 2)
    monkeypatch.setattr(merge, "MIN_BASE_ROWS", 40)
