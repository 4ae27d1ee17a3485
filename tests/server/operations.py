"""What the client does to a table, one entry an operation, and a client process that dies in the middle of one.

A process counts the steps it comes to: each call of the API, each call by which delta-rs writes or commits, and its
end. Before the one it was told, it kills itself by SIGKILL, or the API.
"""

from __future__ import annotations

import json
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
from tests.support.forks import CONTEXT
from tests.support.rows import rows

Rows = Counter[tuple[int, str]]
FIRST = range(4)
"""The rows of a table before the operation; each belongs to `ours`."""
GRACE_S = 60.0


@dataclass(frozen=True)
class Operation:
    """An operation under a key, and the rows that a table of `FIRST` holds when it was done once.

    `later`: a row that the operation would change, which is appended when it has been done. `files`: how many files
    the table has before.
    """

    name: str
    do: Callable[[DeltaTable, str], Any]
    rows: Rows
    later: int = 60
    files: int = 1


def _rows(*found: tuple[int, str]) -> Rows:
    return Counter(found)


def _wide(ids: list[int]) -> pa.Table:
    return rows(ids, "new").append_column("more", pa.array(ids, pa.int64()))


def _merge(table: DeltaTable, key: str) -> Any:
    merge = table.merge(rows([2, 9], "new"), "target.id = source.id", key=key)
    doubled = merge.when_matched_update({"id": "target.id * 10"})
    return doubled.when_not_matched_insert_all().execute()


def _commit(table: DeltaTable, key: str) -> Any:
    action = {"txn": {"appId": "theirs", "version": 1}}
    return table.commit([action], read_version=1, key=key)


_OURS = [(number, "ours") for number in FIRST]
OPERATIONS = [
    Operation("append", lambda table, key: table.append(rows([7], "new"), key=key), _rows(*_OURS, (7, "new"))),
    Operation(
        "append-column",
        lambda table, key: table.append(_wide([7]), key=key, schema_mode="merge"),
        _rows(*_OURS, (7, "new")),
    ),
    Operation("overwrite", lambda table, key: table.overwrite(rows([7], "new"), key=key), _rows((7, "new"))),
    Operation("delete", lambda table, key: table.delete("id = 1", key=key), _rows(*_OURS[:1], *_OURS[2:]), later=1),
    Operation("delete-nothing", lambda table, key: table.delete("id = 5", key=key), _rows(*_OURS), later=5),
    Operation(
        "update",
        lambda table, key: table.update({"id": "id + 100"}, where="id > 1", key=key),
        _rows(*_OURS[:2], (102, "ours"), (103, "ours")),
    ),
    Operation("merge", _merge, _rows(*_OURS[:2], (20, "ours"), _OURS[3], (9, "new")), later=2),
    Operation("optimize", lambda table, key: table.optimize(key=key), _rows(*_OURS), files=2),
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
        step = _obey(order, file)
        answer = BY_NAME[operation].do(lake.table(table), key)
        step("the end")
        print(json.dumps(answer.version), file=file, flush=True)
    # Whatever threads the libraries have end here, as they do in a process that is killed.
    os._exit(0)


def _obey(order: Order, file: Any) -> Callable[[str], None]:
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
            step(f"call {given[1]} {given[2].rpartition('/')[2]}" if name == "call" else name)
            return inner(*given, **named)

        setattr(owner, name, watched)

    watch(ApiClient, "call")
    for name in ("delete", "update", "create_write_transaction"):
        watch(deltalake.DeltaTable, name)
    watch(TableMerger, "execute")
    watch(deltalake, "write_deltalake")
    return step


def table_of(lake: Springline, name: str, operation: Operation) -> DeltaTable:
    """Create a table that holds `FIRST`."""
    table = lake.create_table(name, rows([], "ours").schema)
    each = len(FIRST) // operation.files
    for start in range(0, len(FIRST), each):
        table.append(rows(FIRST[start : start + each], "ours"))
    return table


def rows_of(table: DeltaTable) -> Rows:
    """Return the rows as another Delta reader sees them."""
    found: pa.Table = table.to_deltalake().to_pyarrow_table()
    return Counter(zip(found["id"].to_pylist(), found["writer"].to_pylist(), strict=True))


def versions_of(table: DeltaTable, key: str) -> list[int]:
    """Return the versions whose log names a key."""
    return [one.version for one in table.history() if key in one.keys]
