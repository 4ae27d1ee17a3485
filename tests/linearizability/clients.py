"""Clients of the real HTTP surface that do everything at once, and write down what they were told.

Each client is a thread with a connection of its own. It commits (appends and strict commits), sends old requests
again, puts another payload under a used key, gives up on answers, and reads; every commit call and every read
that was answered becomes an operation of the history. Without an answer, and after 503, the outcome of a commit
is unknown.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import httpx
from uuid_utils import uuid7

from springline.errors import Code
from tests.linearizability.history import NEVER, Ground, Kind, Operation, ground

TABLES = "/api/v1/delta/tables"
ANSWER_TIMEOUT = httpx.Timeout(20.0, connect=1.0)
HASTY_TIMEOUT = httpx.Timeout(0.03)
"""A client that does not wait: its request is under way when it hangs up."""
OUT_OF_REACH_S = 0.1
EXPECTED = (Code.KEY_REUSED, Code.STALE_READ_VERSION, Code.FUTURE_READ_VERSION)
"""All that clients of this kind can be refused for."""


@dataclass(frozen=True)
class Request:
    """One commit request, as it is sent again and again; `payload` is the hash of its bytes, `file` what it adds."""

    table: str
    key: str
    append: bool
    read_version: int
    payload: str
    file: str
    staged: tuple[str, str]

    @property
    def identity(self) -> tuple[str, str, bool, int]:
        """What makes two requests the same one (docs/protocol.md#commits)."""
        return self.key, self.payload, self.append, 0 if self.append else self.read_version


@dataclass
class Shared:
    """What the clients of one run share: the history, and what they know of keys and versions."""

    tables: list[str]
    stop: threading.Event = field(default_factory=threading.Event)
    history: list[Operation] = field(default_factory=list)
    requests: list[tuple[Request, Operation]] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    latest: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, operation: Operation, outcome: str, request: Request | None = None) -> None:
        """Note an operation that has ended, or never will."""
        with self.lock:
            self.history.append(operation)
            self.outcomes[outcome] += 1
            if request is not None:
                self.requests.append((request, operation))
            if operation.version is not None:
                self.latest[operation.table] = max(operation.version, self.latest.get(operation.table, 0))

    def fail(self, problem: str) -> None:
        """Note something no client may ever see."""
        with self.lock:
            self.failures.append(problem)

    def some_request(self, random: Random, table: str) -> Request | None:
        """Return a request that somebody sent, one of the last more likely."""
        with self.lock:
            of_table = [request for request, _ in self.requests[-200:] if request.table == table]
        return random.choice(of_table[-20:]) if of_table else None

    def unknown(self) -> list[Request]:
        """Return the requests that nobody has an answer for, the oldest first."""
        with self.lock:
            answered = {request.identity for request, op in self.requests if not op.unknown}
            open_ones = {request.identity: request for request, op in self.requests if op.unknown}
        return [request for identity, request in open_ones.items() if identity not in answered]


class Client:
    """One client; `send_all` runs until the run is stopped."""

    def __init__(self, shared: Shared, api_url: str, token: str, seed: int) -> None:
        self.shared = shared
        self.random = Random(seed)
        self._http = httpx.Client(
            base_url=api_url, headers={"Authorization": f"Bearer {token}"}, timeout=ANSWER_TIMEOUT
        )

    def send_all(self) -> None:
        """Do one thing after another until the run is stopped."""
        steps: list[tuple[int, Callable[[str], None]]] = [
            (8, self.append),
            (5, self.strict),
            (3, self.send_again),
            (2, self.use_key_again),
            (3, self.read_status),
            (3, self.read_key),
        ]
        choices, weights = [step for _, step in steps], [weight for weight, _ in steps]
        try:
            while not self.shared.stop.is_set():
                (step,) = self.random.choices(choices, weights)
                # The last table is a quiet one, where strict commits have a chance.
                weights_of_tables = [*(4 for _ in self.shared.tables[1:]), 1]
                step(*self.random.choices(self.shared.tables, weights_of_tables))
        except Exception as error:
            self.shared.fail(f"a client ended with {error!r}")
            raise
        finally:
            self._http.close()

    # Commits.

    def append(self, table: str) -> None:
        """Append, as it was read a while ago."""
        read = max(0, self.shared.latest.get(table, 0) - self.random.randrange(5))
        self._commit_new(table, append=True, read_version=read)

    def strict(self, table: str) -> None:
        """Commit to the newest version known; now and then to another one."""
        self.read_status(table)
        latest = self.shared.latest.get(table, 0)
        off = self.random.choice((0, 0, 0, 0, 0, -1, 1, 3))
        self._commit_new(table, append=False, read_version=max(0, latest + off))

    def send_again(self, table: str) -> None:
        """Send a request that somebody has sent, and perhaps is still waiting for."""
        request = self.shared.some_request(self.random, table)
        if request is not None:
            self.send(request)

    def use_key_again(self, table: str) -> None:
        """Use a key again for another payload, or for the same one in another mode or at another version."""
        used = self.shared.some_request(self.random, table)
        if used is None:
            return
        match self.random.randrange(3):
            case 0:
                self._commit_new(table, append=used.append, read_version=used.read_version, key=used.key)
            case 1:
                self.send(replace(used, append=not used.append))
            case _:
                self.send(replace(used, append=False, read_version=self.shared.latest.get(table, 0)))

    def _commit_new(self, table: str, *, append: bool, read_version: int, key: str | None = None) -> None:
        key = key or str(uuid7())
        file = f"{uuid7()}.parquet"
        payload = payload_of(key, file)
        staged = self._stage(table, payload)
        if staged is None:
            return
        digest = hashlib.sha256(payload.encode()).hexdigest()
        request = Request(table, key, append, read_version, digest, file, staged)
        hasty = self.random.random() < 0.1
        answered = self.send(request, HASTY_TIMEOUT if hasty else ANSWER_TIMEOUT)
        # Most clients want to know; the others leave the key for somebody else to find.
        while not answered and not self.shared.stop.is_set() and self.random.random() < 0.9:
            answered = self.send(request)

    def _stage(self, table: str, payload: str) -> tuple[str, str] | None:
        """Stage until it is answered; None once the run is stopped."""
        while not self.shared.stop.is_set():
            answer = self._read("POST", f"{TABLES}/{table}/commits/stage", {"payload": payload})
            if answer is not None and answer.is_success:
                body = answer.json()
                return body["staged_path"], body["staged_version"]
        return None

    def send(self, request: Request, timeout: httpx.Timeout = ANSWER_TIMEOUT) -> bool:
        """Send a commit once and record it; tell whether it was answered."""
        body = {
            "mode": "append" if request.append else "strict",
            "read_version": request.read_version,
            "staged_path": request.staged[0],
            "staged_version": request.staged[1],
            "idempotency_key": request.key,
        }
        operation = Operation(
            request.table,
            Kind.COMMIT,
            call=time.monotonic_ns(),
            ret=NEVER,
            key=request.key,
            payload=request.payload,
            append=request.append,
            read_version=request.read_version,
        )
        try:
            answer = self._call("POST", f"{TABLES}/{request.table}/commits", body, timeout)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return False
        ret = time.monotonic_ns()
        mode = "append" if request.append else "strict"
        if answer is None:
            self.shared.record(operation, f"{mode} without an answer", request)
        elif answer.status_code == httpx.codes.OK:
            version = answer.json()["version"]
            replayed = answer.headers["Idempotency-Replayed"] == "true"
            outcome = f"{mode} {'answered again' if replayed else 'committed'}"
            self.shared.record(replace(operation, ret=ret, version=version), outcome, request)
        else:
            code = Code(answer.json()["code"])
            if code not in EXPECTED:
                self.shared.fail(f"{request} was refused: {answer.text}")
            refused = replace(operation, ret=ret, refused=ground(code))
            self.shared.record(refused, f"{mode} refused: {code.value}", request)
        return answer is not None

    # Reads.

    def read_status(self, table: str) -> None:
        """Read the table's version."""
        called = time.monotonic_ns()
        answer = self._read("GET", f"{TABLES}/{table}")
        if answer is not None:
            version = answer.json()["latest_version"]
            read = Operation(table, Kind.STATUS, called, time.monotonic_ns(), version=version)
            self.shared.record(read, "status read")

    def read_key(self, table: str) -> None:
        """Ask what became of a key."""
        used = self.shared.some_request(self.random, table)
        self.explain(table, str(uuid7()) if used is None or self.random.random() < 0.05 else used.key)

    def explain(self, table: str, key: str) -> None:
        """Ask what became of `key`, and record the answer: in flight with a log file is committed."""
        called = time.monotonic_ns()
        answer = self._read("GET", f"{TABLES}/{table}/commits/{key}")
        if answer is None:
            return
        body = answer.json()
        read = Operation(table, Kind.EXPLAIN, called, time.monotonic_ns(), key=key)
        told = body.get("fate", body.get("code"))
        committed = told == "committed" or (told == "in_flight" and body["inflight"]["log_written"])
        read = replace(read, version=body["version"]) if committed else replace(read, refused=Ground.NOT_COMMITTED)
        self.shared.record(read, f"explain: {told}")

    # The wire.

    def _read(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response | None:
        """Return the answer to something that changes no table; None if there is none."""
        with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
            return self._call(method, path, body)
        return None

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, timeout: httpx.Timeout = ANSWER_TIMEOUT
    ) -> httpx.Response | None:
        """Return the answer; None if there is none, or it says that nothing is known (503).

        Raises `httpx.ConnectError` or `httpx.ConnectTimeout` if nothing was sent.
        """
        try:
            answer = self._http.request(method, path, json=body, timeout=timeout)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            self.shared.stop.wait(OUT_OF_REACH_S)
            raise
        except httpx.TransportError:
            return None
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return None
        if answer.is_server_error:
            self.shared.fail(f"{method} {path} {body}: {answer.status_code} {answer.text}")
        return answer


def payload_of(key: str, file: str) -> str:
    """Return a payload that adds `file` and carries the key, as our Python client's payloads do."""
    info = {"commitInfo": {"timestamp": 1_736_935_200_000, "operation": "WRITE", "txnId": key}}
    add = {"path": file, "partitionValues": {}, "size": 10, "modificationTime": 1_736_935_200_000, "dataChange": True}
    return json.dumps(info) + "\n" + json.dumps({"add": add}) + "\n"
