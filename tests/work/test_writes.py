"""What functions write by `context.table`, in real processes: seals, commits, retries, deaths, and what is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deltalake
import pytest

from springline.api.tokens import make_token
from springline.client import Springline
from springline.control.runs.messages import AttemptEnded
from springline.paths import write_seal
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore
from springline.work.attempts import AttemptMaker
from springline.work.pool import ProcessPool
from springline.work.process import ProcessEnded
from springline.work.seals import read_seal
from tests.support.local_api import ACME, SECRET, serving
from tests.work.conftest import RUN, Worker, order

FLOW = """
import os, signal, time
from pathlib import Path
from springline.sdk import Context, asset

HERE = Path(__file__).parent

def first_time(name):
    try:
        (HERE / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

@asset
def raw(context: Context) -> None:
    table = context.table("raw", partition_by="day")
    table.append({"day": ["a", "b"], "n": [context.attempt, 2]})
    if first_time("raw"):
        raise ValueError("once")
    handle = table.append({"day": ["c"], "n": [3]})
    context.add_metadata(rows=handle.rows, version=handle.version, attempt=context.attempt)

@asset
def all_kinds(context: Context) -> dict:
    table = context.table("kinds")
    table.append({"id": [1, 2, 3, 4], "n": [0.5, 1.5, 2.5, 3.5]})
    table.delete("id = 1")
    table.update({"n": "n + 1"}, where="id = 2", values={})
    table.update(values={"n": 9.5}, where="id = 3")
    table.upsert({"id": [4, 5], "n": [4.0, 5.0]}, on="id")
    merge = table.merge({"id": [2]}, on="target.id = source.id")
    merge.when_matched_update({"n": "target.n * 2"}).execute()
    return {"attempt": context.attempt}

@asset
def dies(context: Context) -> None:
    context.table("dies").append({"n": [context.attempt]})
    if first_time("dies"):
        os.kill(os.getpid(), signal.SIGKILL)

@asset
def nothing(context: Context) -> None:
    context.table("nothing").append([])

@asset
def wrong(context: Context) -> None:
    context.table("raw_wrong", schema={"n": [1]}).append({"m": [1]})

@asset
def at_once(context: Context) -> None:
    handle = context.table("at_once").append({"n": [context.attempt]}, immediate=True, key="one")
    context.add_metadata(version=handle.version, repeated=handle.repeated)
    if context.attempt == 1:
        raise ValueError("after it")

@asset
def keyed(context: Context) -> None:
    context.table("keyed").append({"n": [1]}, key="x")

@asset
def slow(context: Context) -> None:
    context.table("slow").append({"n": [context.attempt]})
    context.progress(0.5)
    time.sleep(60)
"""


@dataclass
class LakeWorker(Worker):
    """A worker whose store has tables behind an API. `root`: the store's folder."""

    root: Path = Path()
    lake: Springline | None = None

    def rows(self, table: str) -> list[dict[str, Any]]:
        assert self.lake is not None
        folder = self.lake.table(table).location.removeprefix("file://")
        found: list[dict[str, Any]] = deltalake.DeltaTable(folder).to_pyarrow_table().to_pylist()
        return sorted(found, key=str)

    def files(self) -> set[Path]:
        return {path for path in (self.root / "tables").rglob("*.parquet") if "_delta_log" not in path.parts}


Open = Callable[..., Awaitable[LakeWorker]]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[LocalStore, str, str]]:
    store = LocalStore(tmp_path / "store", fsync=False)
    with serving(store, url=f"file://{tmp_path}/store") as url:
        yield store, url, make_token(SECRET, ACME, subject="tester")


@pytest.fixture
async def flow(
    api: tuple[LocalStore, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[LakeWorker]:
    store, url, token = api
    monkeypatch.setenv("SPRINGLINE_API_URL", url)
    monkeypatch.setenv("SPRINGLINE_TOKEN", token)
    caplog.set_level("INFO", logger="springline.attempt")
    file = tmp_path / "flow.py"
    file.write_text(FLOW)
    lines: list[str] = []
    pool = ProcessPool(str(file), 1, lines.append)
    described = await pool.open()
    maker = AttemptMaker(
        pool,
        store,
        location="flow",
        assets=set(described["keys"]),
        worker_id="w1",
        grace_s=5,
        now_ms=iter(range(1_000, 10**9)).__next__,
    )
    with Springline(url, token, deadline_s=20) as lake:
        yield LakeWorker(pool, maker, store, lines, root=tmp_path / "store", lake=lake)  # type: ignore[arg-type]
    await pool.aclose()


async def make(worker: LakeWorker, asset: str, **fields: Any) -> AttemptEnded:
    return await worker.make(order(asset, tenant=ACME.tenant, workspace=ACME.workspace, **fields))


async def test_a_retry_does_not_double(flow: LakeWorker) -> None:
    failed = await make(flow, "raw")
    assert (failed.outcome, failed.message, failed.tables) == ("failed", "ValueError: once", [])
    assert flow.files() == set(), "an attempt that fails removes what it has staged"
    ended = await make(flow, "raw", attempt=2)
    assert ended.outcome == "succeeded", ended.message
    assert flow.rows("raw") == [{"day": "a", "n": 2}, {"day": "b", "n": 2}, {"day": "c", "n": 3}]
    told = [(one.table, one.operation, one.rows, one.version) for one in ended.tables]
    assert told == [("raw", "append", 2, 1), ("raw", "append", 1, 2)]
    assert ended.metadata == {"rows": 1, "version": None, "attempt": 2}

    # A third attempt does not call the function, and tells the same.
    again = await make(flow, "raw", attempt=3)
    assert (again.outcome, again.tables, again.metadata) == ("succeeded", ended.tables, ended.metadata)
    assert len(flow.rows("raw")) == 3


async def test_every_kind_of_write_is_done_in_order(flow: LakeWorker) -> None:
    ended = await make(flow, "all_kinds", keeps_output=True)
    assert ended.outcome == "succeeded", ended.message
    assert [(one["id"], one["n"]) for one in flow.rows("kinds")] == [(2, 5.0), (3, 9.5), (4, 4.0), (5, 5.0)]
    told = [(one.operation, one.rows, one.version) for one in ended.tables]
    assert told == [
        ("append", 4, 1),
        ("delete", 1, 2),
        ("update", 1, 3),
        ("update", 1, 4),
        ("merge", 2, 5),
        ("merge", 1, 6),
    ]
    again = await make(flow, "all_kinds", attempt=2, keeps_output=True)
    assert (again.outcome, [one.version for one in again.tables]) == ("succeeded", [1, 2, 3, 4, 5, 6])
    outputs = sorted(path.name for path in flow.root.rglob("outputs/*/*"))
    assert outputs == ["a-all_kinds-1", "a-all_kinds-1-sealed", "a-all_kinds-2"]


async def test_a_killed_attempt_leaves_files_that_vacuum_removes(flow: LakeWorker) -> None:
    lost = await make(flow, "dies")
    assert (lost.category, lost.reason_code) == ("INFRASTRUCTURE", "process_killed")
    (garbage,) = flow.files()
    assert (await make(flow, "dies", attempt=2)).outcome == "succeeded"
    assert flow.rows("dies") == [{"n": 2}]
    assert flow.lake is not None
    table = deltalake.DeltaTable(flow.lake.table("dies").location.removeprefix("file://"))
    found = table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
    assert [Path(one).name for one in found if one.endswith(".parquet")] == [garbage.name]
    assert not garbage.exists()
    assert flow.rows("dies") == [{"n": 2}]


async def test_without_rows_nothing_is_sealed(flow: LakeWorker) -> None:
    ended = await make(flow, "nothing", scope="")
    assert (ended.outcome, ended.tables) == ("succeeded", [])
    assert not list(flow.root.rglob("effects/*"))


async def test_what_is_wrong_is_raised_in_the_function(flow: LakeWorker) -> None:
    ended = await make(flow, "wrong")
    assert ended.category == "USER_CODE"
    assert ended.message == "Refused: column 'm' is not one of the table's. It has n. Drop or rename the column."
    keyed = await make(flow, "keyed")
    assert keyed.message is not None
    assert "only an immediate write takes a key" in keyed.message


async def test_an_immediate_write_counts_once_and_stays(flow: LakeWorker) -> None:
    failed = await make(flow, "at_once")
    assert (failed.outcome, failed.metadata) == ("failed", {"version": 1, "repeated": False})
    ended = await make(flow, "at_once", attempt=2)
    assert (ended.outcome, ended.metadata) == ("succeeded", {"version": 1, "repeated": True})
    assert flow.rows("at_once") == [{"n": 1}]
    # Whoever looks at the run finds what is in the table: with the attempt that failed, and with the one that counts.
    (first,), (second,) = failed.tables, ended.tables
    assert (first.table, first.version, first.operation, first.rows) == ("at_once", 1, "append", 1)
    assert (second.version, second.idempotency_key) == (1, first.idempotency_key)


async def test_a_cancelled_function_writes_nothing(flow: LakeWorker) -> None:
    making = asyncio.create_task(make(flow, "slow"))
    await flow.has_told.wait()
    flow.stop.set()
    assert (await making).outcome == "cancelled"
    assert flow.rows("slow") == []
    assert flow.files() == set()
    assert await read_seal(_scoped(flow), RUN, "slow") is None


async def test_what_is_sealed_is_finished_although_it_is_to_stop(flow: LakeWorker) -> None:
    ended = await make(flow, "all_kinds")
    flow.stop.set()
    again = await make(flow, "all_kinds", attempt=2)
    assert (again.outcome, again.tables) == ("succeeded", ended.tables)


async def test_a_damaged_seal_is_told_and_nothing_is_written(flow: LakeWorker) -> None:
    await make(flow, "raw")
    assert (await make(flow, "raw", attempt=2)).outcome == "succeeded"
    path = flow.root / ACME.full(write_seal(RUN, "raw"))
    path.write_bytes(path.read_bytes().replace(b'"rows":2', b'"rows":3'))
    ended = await make(flow, "raw", attempt=3)
    assert (ended.category, ended.reason_code, ended.retryable) == ("CONFIGURATION", "seal_damaged", False)
    assert ended.message is not None
    assert "effects/run_1/" in ended.message
    assert len(flow.rows("raw")) == 3


async def test_a_process_that_hangs_in_a_commit_is_ended(
    flow: LakeWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("SPRINGLINE_API_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        pool = ProcessPool(str(tmp_path / "flow.py"), 1, flow.lines.append)
        write = {"number": 1, "table": "t", "operation": "append", "key": "k", "staged": "s", "sha256": "x"}
        async with pool.process() as process:
            ended = await process.settle([write], ours=False, printed=flow.lines.append, limit_s=0.5)
            assert isinstance(ended, ProcessEnded)
            assert not process.alive
        await pool.aclose()


async def test_a_worker_without_the_lake_says_what_it_lacks(
    flow: LakeWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SPRINGLINE_API_URL")
    pool = ProcessPool(str(tmp_path / "flow.py"), 1, flow.lines.append)
    maker = AttemptMaker(
        pool, flow.store, location="flow", assets={"raw"}, worker_id="w2", grace_s=5, now_ms=lambda: 1_000
    )
    ended = await make(LakeWorker(pool, maker, flow.store, []), "raw")
    await pool.aclose()
    assert (ended.category, ended.retryable) == ("USER_CODE", False)
    assert ended.message == (
        "NonRetryable: the worker cannot reach the tables: url is not given and SPRINGLINE_API_URL is not set. Start "
        "`springline work` with --api and --token, or with SPRINGLINE_API_URL and SPRINGLINE_TOKEN set"
    )


def _scoped(worker: LakeWorker) -> ScopedStore:
    return ScopedStore(worker.store, ACME)
