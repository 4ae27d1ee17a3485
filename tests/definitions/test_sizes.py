"""Sizes of memory as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.definitions.sizes import (
    LEAST_MEMORY_BYTES,
    MAX_MEMORY_BYTES,
    memory_bytes,
    rough_size_text,
    size_text,
)

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("512MiB", 512 * MIB),
        (" 2 GiB ", 2048 * MIB),
        ("1.5GiB", 1536 * MIB),
        ("0.1GiB", 107_374_182),
        ("65536KiB", 64 * MIB),
        ("500MB", 500_000_000),
        ("16TiB", MAX_MEMORY_BYTES),
        ("67108864B", LEAST_MEMORY_BYTES),
    ],
)
def test_sizes_are_read(written: str, size: int) -> None:
    assert memory_bytes(written) == size


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (512, "does not say its unit"),
        (0.5, "does not say its unit"),
        ("512", "does not say its unit"),
        ("1.5", "does not say its unit"),
        (True, "is a bool and no size"),
        (["1GiB"], "is a list and no size"),
        ("512Mi", "is no size: write '512MiB' or '2GiB'"),
        ("-1GiB", "is no size"),
        ("1,5GiB", "is no size"),
        ("much", "is no size"),
        ("", "is no size"),
        ("63MiB", "is below 64MiB, the least"),
        ("0GiB", "is below 64MiB, the least"),
        ("16.1TiB", "is above 16TiB, the most"),
    ],
)
def test_what_is_no_size_is_refused_with_the_reason(written: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        memory_bytes(written)


@given(st.integers(LEAST_MEMORY_BYTES, MAX_MEMORY_BYTES))
def test_a_size_is_written_exactly(size: int) -> None:
    assert memory_bytes(size_text(size)) == size


def test_the_shortest_text_is_taken() -> None:
    assert [size_text(one) for one in (512 * MIB, 1536 * MIB, 2_000_000_000, 2**31)] == [
        "512MiB",
        "1536MiB",
        "2GB",
        "2GiB",
    ]
    assert [rough_size_text(one) for one in (700_000_000, 20_000_000_000)] == ["668 MiB", "18.6 GiB"]
