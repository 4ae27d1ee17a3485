"""Callers that send nothing but bad requests beside callers that send good ones, and what each of them sees."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import quantiles
from time import monotonic
from typing import Any

import httpx
import orjson
import uuid_utils

from springline.local.processes import Child
from tests.server.cluster import Cluster
from tests.support.document_requests import KINDS, Operation, Sent, mutated, operations_of

TABLES = "/api/v1/delta/tables"
EVENTS = "/api/v1/ledger/events"
COMMITS = f"{TABLES}/flights/commits"
PAYLOAD = "payload"
"""Kind of a request that is good in form and names a payload that nothing can come of."""
TABLE = "flights"
"""The table that the document's examples name: what is bad is sent to the same one as what is good."""
POISONERS = 8
EXAMPLE_KEY = b"01946b1c-0000-7000-8000-000000000001"
DOCUMENTED = {(500, "REQUEST_FAILED"), (503, "UNAVAILABLE")}
"""The answers of 500 and more that a request may get although nothing is broken."""


@dataclass
class Seen:
    """What good callers and bad ones saw."""

    commits: list[float] = field(default_factory=list)
    appends: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    bad: Counter[tuple[int, str]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    unsent: Counter[str] = field(default_factory=Counter)
    undocumented: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def forget_times(self) -> None:
        """Begin anew with what good callers took."""
        self.commits.clear()
        self.appends.clear()


class Poison:
    """A cluster with API and worker, one table, one ledger, and the requests that its OpenAPI document describes."""

    def __init__(self, cluster: Cluster, worker: Child, writers: int, appenders: int) -> None:
        self.cluster = cluster
        self.worker = worker
        self._acts = [self.commit] * writers + [self.append] * appenders
        self.seen = Seen()
        self._numbers = itertools.count()
        self._api = httpx.AsyncClient(
            base_url=cluster.stack.api_url,
            headers={"Authorization": f"Bearer {cluster.stack.token()}"},
            timeout=240,
            limits=httpx.Limits(max_connections=200),
        )

    async def open(self) -> None:
        answer = await self._api.post(
            TABLES,
            json={"name": TABLE, "columns": [{"name": "x", "type": "long"}]},
        )
        assert answer.status_code == 201, answer.text
        self.table_id: str = answer.json()["table"]["table_id"]
        self.document: dict[str, Any] = (await self._api.get("/openapi.json")).json()
        self._operations = operations_of(self.document)
        self._staged = [await self._stage(payload) for payload in _odd_payloads()]

    async def aclose(self) -> None:
        await self._api.aclose()

    # Good callers.

    async def commit(self) -> None:
        """Stage and commit one file, which must succeed."""
        path = f"good-{next(self._numbers)}.parquet"
        began = monotonic()
        staged = await self._stage(orjson.dumps(_add(path)) + b"\n")
        body = {"mode": "append", "read_version": 0, "idempotency_key": str(uuid_utils.uuid7()), **staged}
        answer = await self._api.post(f"{TABLES}/{TABLE}/commits", json=body)
        self.seen.commits.append(monotonic() - began)
        assert answer.status_code == 200, answer.text
        self.seen.paths.append(path)

    async def append(self) -> None:
        """Append the events that start and plan a run, which must become visible."""
        run = f"good-{next(self._numbers)}"
        events: list[dict[str, Any]] = [
            {"type": "run_triggered", "trigger": {"type": "manual", "user_id": "ada"}, "root_assets": ["a"]},
            {"type": "plan_created", "tasks": [{"key": "a", "depends_on": [], "asset_key": "a"}]},
        ]
        body = {
            "request_id": str(uuid_utils.uuid7()),
            "events": [{"data": {**event, "run_id": run, "plan_id": f"plan:{run}"}} for event in events],
        }
        began = monotonic()
        answer = await self._api.post(EVENTS, json=body)
        self.seen.appends.append(monotonic() - began)
        assert answer.status_code == 200, answer.text
        self.seen.runs.append(run)

    # Bad callers.

    def bad_requests(self, each: int, seed: str) -> Iterator[tuple[str, Sent]]:
        """Yield `each` bad requests of every kind, over all operations, in an order that mixes the kinds."""
        random = Random(seed)
        turns = itertools.cycle(self._operations)
        for _ in range(each):
            for kind in KINDS:
                operation = next(turns)
                if random.random() < 0.3:  # Where good callers are.
                    operation = random.choice(self._crowded())
                yield kind, mutated(operation, self.document, kind, random, self._body(operation, random))
            body = self._commit_body(random)
            yield PAYLOAD, Sent("a commit of an odd payload", "body", "POST", COMMITS, orjson.dumps(body))
            next(turns)  # So that every kind comes to every operation.

    def _crowded(self) -> list[Operation]:
        return [one for one in self._operations if one.method == "POST" and one.path.endswith(("commits", "/events"))]

    def _body(self, operation: Operation, random: Random) -> Any:
        """Return a good body where the example is none: a commit of something that is staged."""
        if operation.method != "POST" or not operation.path.endswith("/commits"):
            return None
        return self._commit_body(random)

    def _commit_body(self, random: Random) -> dict[str, Any]:
        staged = random.choice(self._staged)
        mode = random.choice(["append", "strict"])
        return {"mode": mode, "read_version": 0, "idempotency_key": EXAMPLE_KEY.decode(), **staged}

    async def send(self, kind: str, sent: Sent) -> None:
        """Send a bad request and note what comes of it."""
        content = sent.content.replace(EXAMPLE_KEY, str(uuid_utils.uuid7()).encode())
        self.seen.kinds[kind] += 1
        began = monotonic()
        try:
            answer = await self._api.request(
                sent.method, sent.url, content=content, headers={"Content-Type": "application/json"} | sent.headers
            )
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError) as error:
            # Told before all of it was sent.
            self.seen.unsent[type(error).__name__] += 1
            return
        self.seen.slowest = max(self.seen.slowest, monotonic() - began)
        code = ""
        if answer.status_code >= 400 and answer.headers.get("Content-Type") == "application/json":
            code = orjson.loads(answer.content).get("code", "")
            assert len(answer.content) < 20_000, sent.what
        self.seen.bad[answer.status_code, code] += 1
        if answer.status_code >= 500 and (answer.status_code, code) not in DOCUMENTED:
            self.seen.undocumented.append(f"{sent.what}: {answer.text[:300]}")

    async def run(self, each: int, seed: str) -> None:
        """Send `each` bad requests of every kind beside good callers, who go on until the last one is answered."""
        waiting = self.bad_requests(each, seed)
        done = asyncio.Event()

        async def poison() -> None:
            for kind, sent in waiting:
                await self.send(kind, sent)

        callers = self._good_callers(done)
        await asyncio.gather(*(poison() for _ in range(POISONERS)))
        done.set()
        await asyncio.gather(*callers)

    async def run_alone(self, seconds: float) -> None:
        """Have good callers work alone for a while: what the machine gives them."""
        done = asyncio.Event()
        callers = self._good_callers(done)
        await asyncio.sleep(seconds)
        done.set()
        await asyncio.gather(*callers)

    def _good_callers(self, done: asyncio.Event) -> list[asyncio.Task[None]]:
        async def work(act: Callable[[], Awaitable[None]]) -> None:
            while not done.is_set():
                await act()

        return [asyncio.create_task(work(act)) for act in self._acts]

    # What is left of it.

    async def check(self) -> None:
        """Check that every good commit is in the log once, and every good run in the published state."""
        log = self.cluster.store_folder.glob(f"**/{self.table_id}/_delta_log/*.json")
        lines = [orjson.loads(line) for file in log for line in file.read_bytes().splitlines()]
        added = Counter(line["add"]["path"] for line in lines if "add" in line)
        assert {path: added[path] for path in self.seen.paths} == dict.fromkeys(self.seen.paths, 1)
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await self._api.get("/api/v1/runs", params={"limit": "1000", **cursor})).json()
            found += [one["run_id"] for one in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert set(self.seen.runs) <= set(found)

    async def series(self) -> dict[str, int]:
        """Return how many lines the metrics of API and worker have."""
        urls = {"api": f"{self.cluster.stack.api_url}/metrics", "worker": self.cluster.metrics_urls[self.worker.name]}
        return {name: len((await self._api.get(url)).text.splitlines()) for name, url in urls.items()}

    def memory_mib(self) -> dict[str, float]:
        """Return the resident memory of API and worker in MiB."""
        pids = {"api": self.cluster.stack.child("api").pid, "worker": self.worker.pid}
        return {name: _resident_mib(pid) for name, pid in pids.items() if pid is not None}

    async def _stage(self, payload: bytes) -> dict[str, str]:
        answer = await self._api.post(f"{TABLES}/{TABLE}/commits/stage", json={"payload": payload.decode()})
        if answer.status_code != 200:
            # What is refused at stage already is committed as if it had been staged.
            return {"staged_path": f"delta/staging/{self.table_id}/{uuid_utils.uuid7()}.json", "staged_version": "1"}
        staged: dict[str, str] = answer.json()
        return staged


def p99(seconds: list[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(seconds, n=100)[98]


def _add(path: str) -> dict[str, Any]:
    return {
        "add": {
            "path": path,
            "partitionValues": {},
            "size": 10,
            "modificationTime": 1_736_935_200_000,
            "dataChange": True,
        }
    }


def _odd_payloads() -> list[bytes]:
    """Return payloads that nothing should come of, or an odd file."""
    deep = '{"fields":[{"type":' * 20_000 + '"long"' + "}]}" * 20_000
    metadata = {
        "id": "x",
        "format": {"provider": "parquet", "options": {}},
        "partitionColumns": [],
        "configuration": {},
    }
    return [
        orjson.dumps(_add("odd.parquet")),
        orjson.dumps({"metaData": metadata | {"schemaString": deep}}),
        orjson.dumps({"txn": {"appId": "a" * 100_000, "version": 1}}),
        orjson.dumps({"commitInfo": {"operation": [[["x"]]], "txnId": {"a": 1}}}),
        orjson.dumps(_add("x" * 100_000)),
    ]


def _resident_mib(pid: int) -> float:
    """Return the resident memory of a process and those below it, in MiB."""
    below = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    status = Path(f"/proc/{pid}/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return own / 1024 + sum(_resident_mib(one) for one in below)
