"""What the client does to a table, one entry an operation, and a client process that dies in the middle of one.

A process counts the steps it has come to: before and after each call of the API, each call that delta-rs commits by,
each file that is written. At the one it was told, it ends itself by SIGKILL, or has the API killed there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
from deltalake.table import TableMerger

from springline.client import DeltaTable, Springline
from springline.client.http import ApiClient
from tests.rows import rows

Rows = Counter[tuple[int, str]]
FIRST = range(4)
"""The rows of a table before the operation, in two files; each belongs to `ours`."""
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.server.operations", "springline.client.merging", "springline.storage.local"])
GRACE_S = 60.0


@dataclass(frozen=True)
class Operation:
    """An operation under a key, and the rows that a table of `FIRST` holds when it was done once."""

    name: str
    do: Callable[[DeltaTable, str], Any]
    rows: Rows


def _rows(*found: tuple[int, str]) -> Rows:
    return Counter(found)


def _merge(table: DeltaTable, key: str) -> Any:
    merge = table.merge(rows([2, 9], "new"), "target.id = source.id", key=key)
    doubled = merge.when_matched_update({"id": "target.id * 10"})
    return doubled.when_not_matched_insert_all().execute()


def _commit(table: DeltaTable, key: str) -> Any:
    action = {"txn": {"appId": "theirs", "version": 1}}
    return table.commit([action], read_version=2, key=key)


_OURS = [(number, "ours") for number in FIRST]
OPERATIONS = [
    Operation("append", lambda table, key: table.append(rows([7], "new"), key=key), _rows(*_OURS, (7, "new"))),
    Operation("delete", lambda table, key: table.delete("id = 1", key=key), _rows(*_OURS[:1], *_OURS[2:])),
    Operation("delete-nothing", lambda table, key: table.delete("id = 5", key=key), _rows(*_OURS)),
    Operation(
        "update",
        lambda table, key: table.update({"id": "id + 100"}, where="id > 1", key=key),
        _rows(*_OURS[:2], (102, "ours"), (103, "ours")),
    ),
    Operation("merge", _merge, _rows(*_OURS[:2], (20, "ours"), _OURS[3], (9, "new"))),
    Operation("optimize", lambda table, key: table.optimize(key=key), _rows(*_OURS)),
    Operation("commit", _commit, _rows(*_OURS)),
]
BY_NAME = {operation.name: operation for operation in OPERATIONS}


@dataclass(frozen=True)
class Order:
    """Where a process dies: at step `at`, by its own hand; or there the API, whose process id is `api`."""

    at: int | None = None
    api: int | None = None
    delay_s: float = 0.0


@dataclass(frozen=True)
class End:
    """How a process ended: its exit code, the steps it had come to, the version it was answered."""

    exit_code: int
    steps: list[str]
    version: int | None


def in_a_process(operation: str, table: str, key: str, url: str, token: str, folder: Path, order: Order) -> End:
    """Do an operation in a fresh process that obeys `order`."""
    folder.mkdir(exist_ok=True)
    report = folder / f"{key}-{len(list(folder.iterdir()))}"
    arguments = (operation, table, key, url, token, str(report), order)
    process = CONTEXT.Process(target=_client, args=arguments)
    process.start()
    process.join(GRACE_S)
    assert process.exitcode is not None, f"{operation} still runs after {GRACE_S:g} s"
    lines = report.read_text().splitlines() if report.exists() else []
    version = json.loads(lines.pop()) if process.exitcode == 0 else None
    return End(process.exitcode, lines, version)


def _client(operation: str, table: str, key: str, url: str, token: str, report: str, order: Order) -> None:
    with Path(report).open("w") as file, Springline(url, token, deadline_s=GRACE_S) as lake:
        _obey(order, file)
        answer = BY_NAME[operation].do(lake.table(table), key)
        print(json.dumps(answer.version), file=file, flush=True)
    # Whatever threads the libraries have end here, as they do in a process that is killed.
    os._exit(0)


def _obey(order: Order, file: Any) -> None:
    reached: Iterator[int] = iter(range(1_000_000))

    def step(name: str) -> None:
        number = next(reached)
        print(name, file=file, flush=True)
        if number != order.at:
            return
        if order.api is None:
            os.kill(os.getpid(), signal.SIGKILL)
        elif order.delay_s:
            threading.Timer(order.delay_s, os.kill, (order.api, signal.SIGKILL)).start()
        else:
            os.kill(order.api, signal.SIGKILL)

    def watch(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def watched(*given: Any, **named: Any) -> Any:
            said = f"{name} {given[2].rpartition('/')[2]}" if name == "call" else name
            step(f"before {said}")
            answer = inner(*given, **named)
            step(f"after {said}")
            return answer

        setattr(owner, name, watched)

    watch(ApiClient, "call")
    for name in ("delete", "update", "create_write_transaction"):
        watch(deltalake.DeltaTable, name)
    watch(TableMerger, "execute")
    watch(deltalake, "write_deltalake")


def table_of(lake: Springline, name: str) -> DeltaTable:
    """Create a table that holds `FIRST` in two files, at version 2."""
    table = lake.create_table(name, rows([], "ours").schema)
    for half in (FIRST[:2], FIRST[2:]):
        table.append(rows(half, "ours"))
    return table


def rows_of(table: DeltaTable) -> Rows:
    """Return the rows as another Delta reader sees them."""
    found: pa.Table = table.to_deltalake().to_pyarrow_table()
    return Counter(zip(found["id"].to_pylist(), found["writer"].to_pylist(), strict=True))


def versions_of(table: DeltaTable, key: str) -> list[int]:
    """Return the versions whose log names a key."""
    return [one.version for one in table.history() if key in one.keys]
