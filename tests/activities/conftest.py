"""Fixtures of activities without a worker."""

from __future__ import annotations

import pytest

from tests.activities.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()
