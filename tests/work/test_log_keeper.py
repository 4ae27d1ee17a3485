"""What attempts print is kept: in order, within bounds, whatever the store does."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import orjson
import pytest

from springline.checked import with_checksum
from springline.paths import Scope, log_chunk
from springline.runs.attempt_logs import CHUNK_BYTES, LogLine, chunk_object, read_log
from springline.storage.damage import DamagedObject
from springline.storage.memory import MemoryStore
from springline.storage.port import StoreRetry
from springline.storage.scoped import ScopedStore
from springline.work import log_keeper
from springline.work.log_keeper import LAST_BYTES, MOST_BYTES, LogKeeper
from tests.work.conftest import Open, order

TASK = "raw[2024-01-31]"


def keeper(store: MemoryStore, worker: str = "w1", flush_s: float = 60) -> LogKeeper:
    clock = count(1_000)
    return LogKeeper(store, order("raw", partition_key="2024-01-31"), worker, lambda: next(clock), flush_s)


class Noting(MemoryStore):
    """A store that tells when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self._wrote = asyncio.Event()

    async def put(self, *given: Any, **more: Any) -> Any:
        done = await super().put(*given, **more)
        self._wrote.set()
        return done

    async def has_written(self) -> None:
        async with asyncio.timeout(60):
            await self._wrote.wait()
        self._wrote.clear()


async def texts(store: MemoryStore) -> list[str]:
    found = await read_log(store, "run_1", TASK, 1, after=0, most=1_000)
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    return [line.text for one in found for line in one.lines]


async def test_lines_are_there_at_the_end_in_order() -> None:
    store = MemoryStore()
    kept = keeper(store)
    wanted = [f"line {number} \x1b ü" for number in range(50)]
    for one in wanted:
        kept.line(one)
    await kept.aclose()
    (chunk,) = await read_log(store, "run_1", TASK, 1, after=0, most=5)
    assert [line.text for line in chunk.lines] == wanted
    assert (chunk.worker_id, chunk.lines[0].at_ms) == ("w1", 1_000)
    assert await read_log(store, "run_1", TASK, 1, after=1, most=5) == []


async def test_who_keeps_a_log_knows_its_last_part_and_the_loss_of_it_is_told() -> None:
    store = MemoryStore()
    kept = keeper(store)
    for number in range(3):
        kept.line(str(number) * CHUNK_BYTES)
    await kept.aclose()
    assert kept.chunks == 3
    for number in (3, 2, 1):
        # All that is newer is gone with it: only who knows how many there were sees that.
        store.remove(log_chunk("run_1", TASK, 1, number))
        assert len(await read_log(store, "run_1", TASK, 1, after=0, most=9)) == number - 1
        with pytest.raises(DamagedObject, match="is missing, and chunk 3 was there"):
            await read_log(store, "run_1", TASK, 1, after=number - 1, most=9, written=kept.chunks)
    assert await read_log(store, "run_1", TASK, 1, after=3, most=9, written=kept.chunks) == []


async def test_an_attempt_that_prints_nothing_leaves_nothing() -> None:
    store = MemoryStore()
    await keeper(store).aclose()
    assert await read_log(store, "run_1", TASK, 1, after=0, most=1) == []


async def test_lines_are_written_soon_and_large_ones_at_once() -> None:
    store = Noting()
    kept = keeper(store, flush_s=0.01)
    kept.line("soon")
    await store.has_written()
    slow = keeper(store, worker="w2", flush_s=3_600)
    slow.line("x" * CHUNK_BYTES)
    await store.has_written()
    await kept.aclose()
    await slow.aclose()
    assert await texts(store) == ["soon", "x" * CHUNK_BYTES], "two that make the same attempt lose none of their lines"


async def test_of_a_long_log_begin_and_end_are_kept() -> None:
    store = MemoryStore()
    kept = keeper(store)
    size = 10_000
    lines = 2 * MOST_BYTES // size
    for number in range(lines):
        kept.line(f"{number:06d}" + "x" * (size - 6))
    await kept.aclose()
    found = await texts(store)
    assert sum(map(len, found)) <= MOST_BYTES + LAST_BYTES + 1_000
    gap = next(place for place, one in enumerate(found) if "lines are left out" in one)
    assert [int(one[:6]) for one in found[:gap]] == list(range(gap))
    left = [int(one[:6]) for one in found[gap + 1 :]]
    assert left == list(range(lines - len(left), lines))
    assert found[gap].startswith(f"... {lines - gap - len(left):,} lines are left out")


async def test_a_store_that_fails_loses_nothing_and_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(MemoryStore):
        fails = True
        failed = asyncio.Event()

        async def put(self, *given: Any, **more: Any) -> Any:
            if self.fails:
                self.failed.set()
                raise StoreRetry("busy")
            return await super().put(*given, **more)

    store = Failing()
    kept = keeper(store, flush_s=0.01)
    kept.line("first")
    async with asyncio.timeout(60):
        await store.failed.wait()
    store.fails = False
    kept.line("second")
    await kept.aclose()
    assert await texts(store) == ["first", "second"]
    assert "not kept yet" in caplog.text


async def test_an_attempt_does_not_wait_for_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(MemoryStore):
        async def put(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr(log_keeper, "_LAST_FLUSH_S", 0.02)
    kept = keeper(Hanging())
    kept.line("lost")
    async with asyncio.timeout(60):
        await kept.aclose()


async def test_a_damaged_chunk_is_told() -> None:
    path = log_chunk("run_1", TASK, 1, 1)

    async def told(data: bytes) -> str:
        store = MemoryStore()
        store.seed(path, data)
        with pytest.raises(DamagedObject) as damage:
            await read_log(store, "run_1", TASK, 1, after=0, most=1)
        return str(damage.value)

    lines = [LogLine(1, "a")]
    assert "cannot be read" in await told(b"{")
    good = chunk_object("run_1", TASK, 1, 1, "w", lines)
    assert "cannot be read" in await told(chunk_object("run_1", "other", 1, 1, "w", lines))
    assert "cannot be read" in await told(chunk_object("run_1", TASK, 1, 2, "w", lines))
    assert "other lines than were written" in await told(good.replace(b'"a"', b'"b"'))
    head = {"format": 2, "run_id": "run_1", "task": TASK, "attempt": 1, "worker_id": "w", "lines": "elsewhere"}
    assert "has the format 2" in await told(with_checksum(orjson.dumps(head), path) + b"\n")


async def test_a_chunk_of_an_older_build_is_read() -> None:
    head = {"format": 1, "run_id": "run_1", "task": TASK, "attempt": 1, "worker_id": "w"}
    store = MemoryStore()
    store.seed(log_chunk("run_1", TASK, 1, 1), orjson.dumps(head) + b'\n[1,"a"]\n')
    (chunk,) = await read_log(store, "run_1", TASK, 1, after=0, most=5)
    assert chunk.lines == [LogLine(1, "a")]


async def test_a_chunk_that_is_missing_before_another_one_is_told() -> None:
    store = MemoryStore()
    for number in (1, 3):
        store.seed(log_chunk("run_1", TASK, 1, number), chunk_object("run_1", TASK, 1, number, "w", []))
    with pytest.raises(DamagedObject, match="is missing, and chunk 3 is there") as damage:
        await read_log(store, "run_1", TASK, 1, after=0, most=5)
    assert damage.value.path == log_chunk("run_1", TASK, 1, 2)
    assert len(await read_log(store, "run_1", TASK, 1, after=2, most=5)) == 1


async def test_what_a_function_prints_and_why_it_failed_is_in_its_log(opened: Open) -> None:
    worker = await opened(
        """
        from springline.sdk import Context, asset

        @asset
        def bad(context: Context) -> None:
            print("hello")
            context.log.info("logged")
            raise ValueError("no rows")
        """
    )
    assert (await worker.make("bad", attempt=2)).log_chunks == 1
    store = worker.store

    mine = ScopedStore(store, Scope("acme", "dev"))
    told = [line.text for chunk in await read_log(mine, "run_1", "bad", 2, after=0, most=5) for line in chunk.lines]
    assert told[:2] == ["hello", "INFO springline.asset.bad: logged"]
    assert told[2] == "Traceback (most recent call last):"
    assert told[-1] == "ValueError: no rows"
