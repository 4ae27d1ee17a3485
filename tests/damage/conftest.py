"""Small objects for the whole room: few events make packs, segments, nodes, deltas and bases."""

from __future__ import annotations

import pytest

from springline.published import index, merge


@pytest.fixture(autouse=True)
def _small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PACK_EVENTS", 4)
    monkeypatch.setattr(index, "SEGMENT_EVENTS", 8)
    monkeypatch.setattr(index, "NODE_SEGMENTS", 2)
    monkeypatch.setattr(merge, "MIN_BASE_ROWS", 40)
