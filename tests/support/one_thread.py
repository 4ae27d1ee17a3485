"""Explorations in one thread: a hand-over to another and back costs more than most of what is handed over in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


async def _here(work: Callable[..., T], /, *given: Any, **named: Any) -> T:
    return work(*given, **named)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let `asyncio.to_thread` do the work where it is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "to_thread", _here)
        yield
