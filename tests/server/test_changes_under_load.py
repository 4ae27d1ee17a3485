"""Appends by the sequencer and changes by delta-rs on one table at once, on the real stack: nothing lost or doubled.

Each row that a change is about is one that an append has been acknowledged for, and no other change touches it, so that
what must be there in the end is known to the row. A change that lost too often is repeated under its key.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from springline.client import DeltaTable, Springline
from springline.client.table import ChangeResult, new_key
from springline.errors import Code, Refused
from tests.server.cluster import Cluster
from tests.server.operations import Rows, rows_of
from tests.support.rows import rows

APPENDERS = 3


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, api=True, environment={"SPRINGLINE_CHECKPOINT_INTERVAL": "10"}) as cluster:
        asyncio.run(cluster.ready(cluster.fork_worker()))
        yield cluster


@dataclass
class Told:
    """What was acknowledged: the rows that must be there, rows no change has touched yet, and answers by key."""

    rows: Rows = field(default_factory=Counter)
    free: list[int] = field(default_factory=list)
    answers: dict[str, tuple[Callable[[str], ChangeResult], int]] = field(default_factory=dict)
    lost: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> int:
        """Return a row that is there and is nobody else's; wait for one."""
        while True:
            with self.lock:
                if self.free:
                    return self.free.pop(0)
            time.sleep(0.02)

    def change(self, do: Callable[[str], ChangeResult], before: Rows, after: Rows) -> None:
        """Do a change under a new key until it is done, and note what it makes of the rows."""
        key = new_key()
        while True:
            try:
                version = do(key).version
            except Refused as error:
                assert error.refusal.code is Code.CONCURRENT_CHANGE
                with self.lock:
                    self.lost += 1
                continue
            with self.lock:
                self.answers[key] = (do, version)
                self.rows = self.rows - before + after
            return


def one(number: int, writer: str) -> Rows:
    return Counter([(number, writer)])


def delete(table: DeltaTable, told: Told) -> None:
    number = told.take()
    told.change(lambda key: table.delete(f"id = {number}", key=key), one(number, "ours"), Counter())


def update(table: DeltaTable, told: Told) -> None:
    number = told.take()
    values = {"writer": "updated"}
    where = f"id = {number}"
    told.change(
        lambda key: table.update(values=values, where=where, key=key), one(number, "ours"), one(number, "updated")
    )


def upsert(table: DeltaTable, told: Told) -> None:
    number = told.take()
    both = rows([number, -number - 1], "merged")
    after = one(number, "merged") + one(-number - 1, "merged")
    told.change(lambda key: table.upsert(both, "id", key=key), one(number, "ours"), after)


def optimize(table: DeltaTable, told: Told) -> None:
    told.change(lambda key: table.optimize(key=key), Counter(), Counter())


CHANGES = (delete, update, upsert, optimize)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("each", [3, pytest.param(25, marks=pytest.mark.full)])
def test_appends_and_changes_at_once(each: int, cluster: Cluster) -> None:
    with Springline(cluster.stack.api_url, cluster.stack.token()) as lake:
        lake.create_table("rows", rows([], "ours").schema)
        told, numbers, enough = Told(), itertools.count(), threading.Event()

        def append() -> int:
            table, count = lake.table("rows"), 0
            while not enough.is_set():
                number = next(numbers)
                table.append(rows([number], "ours"))
                with told.lock:
                    told.rows[number, "ours"] += 1
                    told.free.append(number)
                count += 1
            return count

        def change(do: Callable[[DeltaTable, Told], None]) -> None:
            table = lake.table("rows")
            for _ in range(each):
                do(table, told)

        started = time.monotonic()
        with ThreadPoolExecutor(APPENDERS + len(CHANGES)) as pool:
            appending = [pool.submit(append) for _ in range(APPENDERS)]
            changing = [pool.submit(change, do) for do in CHANGES]
            try:
                for one_ in changing:
                    one_.result()
            finally:
                enough.set()
            appended = sum(one_.result() for one_ in appending)
        seconds = time.monotonic() - started
        table = lake.table("rows")
        assert rows_of(table) == told.rows
        for key, (do, version) in told.answers.items():
            assert do(key).version == version
            assert table.explain(key)["version"] == version
        assert rows_of(table) == told.rows
        history = table.history(100_000)
        assert [row.version for row in history] == list(range(len(history) - 1, -1, -1))
        print(
            f"{appended} appends and {len(told.answers)} changes in {seconds:.1f} s, {len(history)} versions; "
            f"{told.lost} changes lost {Code.CONCURRENT_CHANGE} and were repeated"
        )
