"""The emulator of docker-compose.yml: killed under load it keeps what it answered, and it does not slow down."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import deltalake
import httpx
import pyarrow as pa
import pytest

from springline.local.binaries import gcs_emulator
from springline.local.ports import LOOPBACK, free_ports
from springline.paths import ObjectPath
from springline.storage.canary import canary
from springline.storage.delta_uri import emulator_options
from springline.storage.gcs import EMULATOR_VARIABLE, GcsStore
from springline.storage.port import IfAbsent, IfVersion, PreconditionFailed, Stored, StoreError
from tests.storage.conftest import _wait_until_up

pytestmark = pytest.mark.full

BUCKET = "springline"
POINTER = ObjectPath("state/pointer.json")
BODY = b"x" * 765
OBJECTS = 20_000
AT_ONCE = 16
KILLS = 30
SWAPPERS = 8


@contextmanager
def emulator(root: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    address = f"{LOOPBACK}:{port}"
    server = subprocess.Popen([gcs_emulator(), "-listen", address, "-root", root], stderr=subprocess.DEVNULL)
    try:
        _wait_until_up(server, address)
        yield server
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    (port,) = free_ports(1)
    monkeypatch.setenv(EMULATOR_VARIABLE, f"http://{LOOPBACK}:{port}")
    return port


def path(number: int) -> ObjectPath:
    return ObjectPath(f"ledger/{number % 28:02}/{number:06}.json")


async def create(store: GcsStore, numbers: range) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turns:
            assert isinstance(await store.put(path(number), BODY, IfAbsent()), Stored)

    await asyncio.gather(*(one(number) for number in numbers))


async def generations(store: GcsStore) -> dict[ObjectPath, str]:
    return {one.path: one.version async for one in store.list(ObjectPath(""))}


def processor_s(server: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{server.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.timeout(900)
async def test_a_create_costs_the_same_at_any_number_of_objects(
    tmp_path: Path, port: int, record_property: Callable[[str, object], None]
) -> None:
    costs = []
    with emulator(tmp_path, port) as server:
        store = GcsStore(BUCKET)
        await store.prepare()
        for start in range(0, OBJECTS, OBJECTS // 10):
            before = processor_s(server)
            await create(store, range(start, start + OBJECTS // 10))
            costs.append((processor_s(server) - before) / (OBJECTS // 10))
        listed = time.monotonic()
        known = await generations(store)
        listed = time.monotonic() - listed
        assert len(known) == OBJECTS
        server.terminate()
        assert server.wait(60) == os.EX_OK
        await store.aclose()
    with emulator(tmp_path, port):
        store = GcsStore(BUCKET)
        await store.prepare()
        assert await generations(store) == known
        await store.aclose()
    record_property(
        "explored",
        f"emulator of docker-compose.yml: {1e6 * costs[0]:.0f} µs of processor time a create when empty, "
        f"{1e6 * costs[-1]:.0f} µs at {OBJECTS} objects, {1000 * listed:.0f} ms to list them",
    )
    assert costs[-1] < 3 * min(costs)


@pytest.mark.timeout(900)
async def test_killed_under_load_it_keeps_all_it_answered(
    tmp_path: Path, port: int, record_property: Callable[[str, object], None]
) -> None:
    """Each object is swapped by one caller: it holds what the last answer said, or the one write that had none."""
    answered = dict.fromkeys(range(SWAPPERS), 0)
    unclear = 0
    for kill in range(KILLS):
        with emulator(tmp_path, port) as server:
            store = GcsStore(BUCKET, threads=SWAPPERS)
            await store.prepare()
            tokens = {}
            for number in answered:
                there = await store.get(path(number))
                value = 0 if there is None else int(there.data[:10])
                assert value in {answered[number], answered[number] + 1}
                unclear += value - answered[number]
                answered[number] = value
                tokens[number] = None if there is None else there.version

            async def swap(number: int, token: str | None, store: GcsStore = store) -> None:
                while True:
                    body = b"%010d" % (answered[number] + 1) + BODY
                    try:
                        done = await store.put(path(number), body, IfVersion(token) if token else IfAbsent())
                    except StoreError:
                        return
                    assert isinstance(done, Stored)
                    token, answered[number] = done.version, answered[number] + 1

            swapping = [asyncio.create_task(swap(number, token)) for number, token in tokens.items()]
            await asyncio.sleep(0.3 + 0.01 * kill)
            server.send_signal(signal.SIGKILL)
            server.wait()
            await asyncio.gather(*swapping)
            await store.aclose()
    total = sum(answered.values())
    record_property("explored", f"emulator killed under load: {KILLS} kills, {total} swaps, {unclear} done unanswered")


async def test_preconditions_hold_for_writes_and_deletes(tmp_path: Path, port: int) -> None:
    with emulator(tmp_path, port):
        store = GcsStore(BUCKET)
        await store.prepare()
        await canary(store, "check")
        first = await store.put(POINTER, b"1", IfAbsent())
        assert isinstance(first, Stored)
        second = await store.put(POINTER, b"2", IfVersion(first.version))
        assert isinstance(second, Stored)
        assert await store.put(POINTER, b"3", IfVersion(first.version)) == PreconditionFailed()
        assert not await store.delete(POINTER, if_version=first.version)
        assert await store.delete(POINTER, if_version=second.version)
        assert not await store.delete(POINTER, if_version=second.version)
        assert await store.get(POINTER) is None
        await store.aclose()


async def test_both_interfaces_answer_under_any_host_name(tmp_path: Path, port: int) -> None:
    with emulator(tmp_path, port):
        store = GcsStore(BUCKET)
        await store.prepare()
        await store.put(POINTER, b"here", IfAbsent())
        await store.aclose()
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}") as client:
            for host in ("gcs:4443", "127.0.0.1:4443", "localhost"):
                headers = {"Host": host}
                quoted = POINTER.replace("/", "%2F")
                for place in (f"/{BUCKET}/{POINTER}", f"/download/storage/v1/b/{BUCKET}/o/{quoted}?alt=media"):
                    answer = await client.get(place, headers=headers)
                    assert (answer.status_code, answer.content) == (200, b"here"), (host, place)
                listing = await client.get(f"/{BUCKET}?list-type=2&prefix=state/", headers=headers)
                assert POINTER in listing.text
                resumable = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&name=big"
                begun = await client.post(resumable, headers=headers, json={})
                assert begun.headers["Location"].startswith(f"http://{host}/"), "a large write goes on where it began"


@pytest.mark.parametrize("rows", [3, pytest.param(4_000_000, id="in-parts")])
def test_a_delta_library_writes_and_reads(rows: int, tmp_path: Path, port: int) -> None:
    options = emulator_options(f"http://{LOOPBACK}:{port}")
    with emulator(tmp_path, port):
        store = GcsStore(BUCKET)
        asyncio.run(store.prepare())
        table = pa.table({"id": range(rows)})
        deltalake.write_deltalake(f"gs://{BUCKET}/table", table, storage_options=options)
        written = deltalake.DeltaTable(f"gs://{BUCKET}/table", storage_options=options)
        written.update({"id": "-1"}, predicate="id = 1")
        # From a snapshot that is not the newest one, whose later versions are looked for.
        written.update({"id": "-1"}, predicate="id = -1")
        assert sorted(written.to_pyarrow_table()["id"].to_pylist()) == [-1, 0, *range(2, rows)]
        # Its log is written under the precondition that there is none.
        with pytest.raises(deltalake.exceptions.DeltaError):
            deltalake.write_deltalake(f"gs://{BUCKET}/table", table, mode="error", storage_options=options)
        assert written.version() == 2
        asyncio.run(store.aclose())


async def test_a_write_by_the_other_interface_obeys_its_precondition(tmp_path: Path, port: int) -> None:
    with emulator(tmp_path, port):
        store = GcsStore(BUCKET)
        await store.prepare()
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}/{BUCKET}") as client:
            codes = [
                (await client.put(f"/{POINTER}", content=body, headers={"x-goog-if-generation-match": "0"})).status_code
                for body in (b"one", b"two")
            ]
        there = await store.get(POINTER)
        assert there is not None
        assert (codes, there.data) == ([200, 412], b"one")
        await store.aclose()


def test_a_folder_without_extended_attributes_is_refused(port: int) -> None:
    done = subprocess.run(
        [gcs_emulator(), "-listen", f"{LOOPBACK}:{port}", "-root", "/proc/self/fd"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("-root /proc/self/fd: ")
