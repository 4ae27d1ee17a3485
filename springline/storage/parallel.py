"""Many calls, a bounded number of them at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from springline.storage.together import together

T = TypeVar("T")
R = TypeVar("R")

READS_TOGETHER = 16
"""How many files are read at the same time unless the caller says otherwise."""


async def each(call: Callable[[T], Awaitable[R]], items: Iterable[T], *, concurrency: int = READS_TOGETHER) -> list[R]:
    """Call `call` with every item, at most `concurrency` at a time, and return the results in order.

    After the first failure no further call begins; when those under way have ended, the error of the first
    item among the failed is raised. Raises `ValueError` if `concurrency` is below 1.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}; give at least 1")
    waiting = list(enumerate(items))
    results: dict[int, R] = {}
    failed: dict[int, Exception] = {}
    numbers = iter(waiting)

    async def work() -> None:
        for number, item in numbers:
            try:
                results[number] = await call(item)
            except Exception as error:
                failed[number] = error
            if failed:
                return

    await together(*(work() for _ in range(min(concurrency, len(waiting)))))
    if failed:
        raise failed[min(failed)]
    return [results[number] for number, _ in waiting]
