"""Canonical JSON: the vectors of the reference, another encoder, and what is refused."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.ledger.canonical import canonical_json
from tests.ledger.strategies import TEXT
from tests.support.event_samples import GOLDEN_DIR, text_of

VECTORS = json.loads((GOLDEN_DIR / "fingerprints.json").read_bytes())["canonical_json"]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_golden(vector: dict[str, Any]) -> None:
    if "error" in vector["result"]:
        with pytest.raises(ValueError, match="is a float"):
            canonical_json(vector["input"])
    else:
        made = canonical_json(vector["input"])
        assert made.decode() == vector["result"]["ok"]
        assert hashlib.sha256(made).hexdigest() == vector["sha256"]


@given(VALUES)
def test_equal_to_another_encoder(value: Any) -> None:
    assert canonical_json(value) == text_of(value)


@pytest.mark.parametrize(
    "value",
    [1.0, float("nan"), [[{"a": (1, 1.0)}]], {1: 2}, {"a": {None: 1}}, b"x", {"a"}, 2**64, [-(2**63) - 1], "\ud800"],
    ids=repr,
)
def test_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no canonical JSON"):
        canonical_json(value)
