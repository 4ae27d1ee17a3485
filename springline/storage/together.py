"""Concurrent calls, all at once, a bounded number, or beside a block; and batches of a listing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, overload

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


@overload
async def together(first: Awaitable[A], second: Awaitable[B], /) -> tuple[A, B]: ...
@overload
async def together(first: Awaitable[A], second: Awaitable[B], third: Awaitable[C], /) -> tuple[A, B, C]: ...
@overload
async def together(*awaitables: Awaitable[T]) -> list[T]: ...
async def together(*awaitables: Awaitable[Any]) -> Any:
    """Start all `awaitables` at once, wait until every one has ended, and return their results in order.

    If any failed, the error of the first of them in argument order is raised, but only when all have ended: no
    operation outlives its caller. An error that is not an `Exception` (the process is going down) goes before the
    others. If the caller is cancelled, all are cancelled, and the cancellation goes on when all have ended.
    """
    tasks = [asyncio.ensure_future(one) for one in awaitables]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await _all_ended(tasks)
        raise
    errors: list[BaseException] = []
    for task in tasks:
        error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            errors.append(error)
    if errors:
        raise next((error for error in errors if not isinstance(error, Exception)), errors[0])
    return [task.result() for task in tasks]


async def _all_ended(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Wait for all of `tasks` however often the waiting itself is cancelled, and retrieve their errors."""
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            continue
    for task in tasks:
        if not task.cancelled():
            task.exception()


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` during the block, whose beginning does not wait for it; at the end of the block it is cancelled."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def in_batches(items: AsyncIterable[T], size: int) -> AsyncIterator[list[T]]:
    """Yield the items of a listing in order, `size` at a time, and the rest; no batch for an empty listing."""
    batch: list[T] = []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


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
