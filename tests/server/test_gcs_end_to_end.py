"""The whole stack over a bucket: API and workers against a real emulator process of Google Cloud Storage.

One story, told in order: rows by the Python client, a strict commit, workers killed in the middle of a run of
commits, replays, then everything lost in the middle of a commit, recovery by the command line from the bucket
alone, and the same answers from a new Temporal. At the end another Delta reader finds every row, once.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from springline import names
from springline.client import Springline
from springline.client.http import Unavailable
from springline.client.table import new_key
from springline.local.stack import API, TEMPORAL
from springline.storage.delta_uri import delta_uri
from springline.storage.gcs import EMULATOR_VARIABLE
from springline.storage.scoped import ScopedStore
from springline.storage.url import open_store
from tests.server.cluster import Cluster
from tests.storage.conftest import bucket, fake_gcs  # noqa: F401 - fixtures
from tests.support.rows import SCOPE, payload_of, rows

SOURCES = Path(__file__).parents[2]
INTERVAL = 4
WRITERS = 4
REPLAYS = 12
DEATHS = ((names.WRITE_LOG, "after"), (names.WRITE_MARKER, "before"), (names.FINALIZE_AND_RESERVE, "after"))
CHECKPOINT_WITHIN_S = 120.0


@pytest.fixture
def cluster(
    tmp_path: Path,
    fake_gcs: str,  # noqa: F811
    bucket: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    monkeypatch.setenv(EMULATOR_VARIABLE, f"http://{fake_gcs}")
    environment = {"SPRINGLINE_CHECKPOINT_INTERVAL": str(INTERVAL)}
    with Cluster(tmp_path, api=True, store_url=f"gs://{bucket}", environment=environment) as cluster:
        yield cluster


@dataclass
class Told:
    """What was written, by key: the row and the version it was acknowledged at."""

    rows: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_row(self) -> tuple[str, pa.Table]:
        """Return a new key and the row that goes with it."""
        with self.lock:
            key, number = new_key(), len(self.rows)
            self.rows[key] = number
        return key, rows([number], "ours")

    def row(self, key: str) -> pa.Table:
        """Return the row of a key."""
        return rows([self.rows[key]], "ours")


def test_the_whole_way_over_a_bucket(cluster: Cluster) -> None:
    two_workers(cluster)
    told = Told()
    with Springline(cluster.stack.api_url, cluster.stack.token()) as lake:
        table = lake.create_table("rows", rows([], "ours").schema)
        entry = table.status()["table"]
        root: str = entry["root"]

        key, row = told.next_row()
        told.versions[key] = table.append(row, key=key).version
        assert told.versions[key] == 1
        strict = strict_commit(cluster, root, told)
        assert strict["answer"] == send(cluster, strict["body"])

        append_while_workers_die(cluster, lake, told)
        appended = {key: version for key, version in told.versions.items() if key != strict["body"]["idempotency_key"]}
        for key in list(appended)[:: len(appended) // REPLAYS or 1]:
            assert table.append(told.row(key), key=key).version == appended[key]
        assert strict["answer"] == send(cluster, strict["body"])
        checkpoint = checkpoint_of(lake)
        assert read(cluster, root) == Counter((number, "ours") for number in told.rows.values())

    interrupted = lose_everything_in_a_commit(cluster, told)
    report = recover(cluster, entry["table_id"])
    assert report["before"]["inflight"]["keys"] == [interrupted]
    assert [(one["kind"], one["keys"]) for one in report["done"]] == [("completed", [interrupted])]
    version = report["done"][0]["version"]
    assert report["after"] == {"latest_version": version, "inflight": None}
    assert recover(cluster, "rows")["done"] == []
    found = read(cluster, root)
    assert found == Counter((number, "ours") for number in told.rows.values())

    for name in (TEMPORAL, API):
        cluster.stack.start_child(name)
    cluster.start_worker()
    with Springline(cluster.stack.api_url, cluster.stack.token()) as lake:
        table = lake.table("rows")
        assert table.append(told.row(interrupted), key=interrupted).version == version
        assert table.explain(interrupted)["version"] == version
        key, row = told.next_row()
        assert table.append(row, key=key).version == version + 1
    assert read(cluster, root) == found + Counter([(told.rows[key], "ours")])
    killed = len(DEATHS) + 1
    print(f"{len(told.rows)} commits, {version + 1} versions, checkpoint at {checkpoint}, {killed} workers killed")


def two_workers(cluster: Cluster) -> None:
    while len(cluster.workers) < 2:
        cluster.start_killable()
    asyncio.run(cluster.ready(*cluster.workers))


def api(cluster: Cluster) -> httpx.Client:
    headers = {"Authorization": f"Bearer {cluster.stack.token()}"}
    return httpx.Client(base_url=f"{cluster.stack.api_url}/api/v1/delta/tables/rows/", headers=headers, timeout=70)


def strict_commit(cluster: Cluster, root: str, told: Told) -> dict[str, Any]:
    """Commit a row strictly to version 2; the same request for version 1 is refused."""
    key, _ = told.next_row()
    payload = asyncio.run(written(cluster, root, told.rows[key]))
    with api(cluster) as http:
        staged = http.post("commits/stage", json={"payload": payload.decode()}).json()
    body = {"mode": "strict", "read_version": 1, "idempotency_key": key, **staged}
    with api(cluster) as http:
        stale = http.post("commits", json=body | {"read_version": 0, "idempotency_key": new_key()})
    assert (stale.status_code, stale.json()["code"]) == (409, "STALE_READ_VERSION")
    answer = send(cluster, body)
    assert answer["version"] == 2
    told.versions[key] = 2
    return {"body": body, "answer": answer}


async def written(cluster: Cluster, root: str, number: int) -> bytes:
    """Write a data file to the bucket; return the payload that adds it."""
    store = open_store(cluster.stack.store_url)
    try:
        return await payload_of(store, root, [number])
    finally:
        await store.aclose()


def send(cluster: Cluster, body: dict[str, Any]) -> dict[str, Any]:
    with api(cluster) as http:
        answer = http.post("commits", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def append_while_workers_die(cluster: Cluster, lake: Springline, told: Told) -> None:
    """Append from several threads; workers die at given writes and are replaced, until all of that has happened."""
    enough = threading.Event()

    def write() -> dict[str, int]:
        table, versions = lake.table("rows"), {}
        while not enough.is_set():
            key, row = told.next_row()
            versions[key] = table.append(row, key=key).version
        return versions

    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write) for _ in range(WRITERS)]
        try:
            for activity, phase in DEATHS:
                cluster.order(activity, phase)
                dead = asyncio.run(cluster.a_death())
                assert dead.exit_code == -signal.SIGKILL
                two_workers(cluster)
        finally:
            enough.set()
        for writer in writers:
            told.versions |= writer.result()


def checkpoint_of(lake: Springline) -> int:
    """Return the version of the checkpoint, which is written beside the commits and not before their answers."""
    deadline = time.monotonic() + CHECKPOINT_WITHIN_S
    while time.monotonic() < deadline:
        checkpoint = lake.table("rows").status()["last_checkpoint"]
        if checkpoint is not None:
            assert checkpoint >= INTERVAL
            return int(checkpoint)
        time.sleep(0.1)
    raise AssertionError(f"no checkpoint within {CHECKPOINT_WITHIN_S:g} s")


def lose_everything_in_a_commit(cluster: Cluster, told: Told) -> str:
    """Kill the only worker after it wrote a log, then API and Temporal, whose database goes too; return the key."""
    while len(cluster.workers) > 1:
        cluster.workers.pop().stop(10)
    key, row = told.next_row()
    with Springline(cluster.stack.api_url, cluster.stack.token(), deadline_s=2) as lake, ThreadPoolExecutor(1) as pool:
        cluster.order(names.WRITE_LOG, "after")
        interrupted = pool.submit(lake.table("rows").append, row, key=key)
        asyncio.run(cluster.a_death())
        cluster.stack.kill(API)
        cluster.stack.kill(TEMPORAL)
        with pytest.raises(Unavailable):
            interrupted.result()
    for file in cluster.stack.folder.glob("temporal.db*"):
        file.unlink()
    return key


def recover(cluster: Cluster, table: str) -> dict[str, Any]:
    """Run the command line as an operator does who has nothing but the bucket."""
    where = ["--tenant", SCOPE.tenant, "--workspace", SCOPE.workspace, "--store", cluster.stack.store_url]
    command = [sys.executable, "-m", "springline.cli", "table", "recover", *where, table]
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def read(cluster: Cluster, root: str) -> Counter[tuple[int, str]]:
    """Read the table from the bucket with another Delta reader; count its rows."""
    store = open_store(cluster.stack.store_url)
    try:
        uri, options = delta_uri(ScopedStore(store, SCOPE), root)
    finally:
        asyncio.run(store.aclose())
    table = DeltaTable(uri, storage_options=options).to_pyarrow_table()
    return Counter(zip(table["id"].to_pylist(), table["writer"].to_pylist(), strict=True))
