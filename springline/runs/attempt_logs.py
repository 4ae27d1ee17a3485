"""What attempts have printed, in a store: numbered chunks that never change (docs/formats.md#log-chunk).

The first line of a chunk is its head, each other one an instant in ms since 1970 and a text, as JSON. Chunks of an
attempt are numbered without a gap, so a reader finds them without a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from springline.paths import log_chunk
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore

FORMAT: Final = 1
CHUNK_BYTES: Final = 128 * 1024
"""From this size on a chunk is written at once."""
_REMEDY: Final = "restore it from a copy; what other chunks hold can be read all the same, from its number on"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that an attempt has printed, and when its worker read it, in ms since 1970."""

    at_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Lines of an attempt, in order. `worker_id`: whose process printed them."""

    number: int
    worker_id: str
    lines: Sequence[LogLine]


def chunk_object(run_id: str, task_key: str, attempt: int, worker_id: str, lines: Iterable[LogLine]) -> bytes:
    """Return the bytes of a chunk."""
    head = {"format": FORMAT, "run_id": run_id, "task": task_key, "attempt": attempt, "worker_id": worker_id}
    parts = [orjson.dumps(head), *(orjson.dumps([one.at_ms, one.text]) for one in lines)]
    return b"\n".join(parts) + b"\n"


async def read_log(
    store: ObjectStore, run_id: str, task_key: str, attempt: int, *, after: int, most: int
) -> list[LogChunk]:
    """Read the chunks of an attempt behind number `after`, `most` of them at most.

    `store` is the workspace's part. Raises `DamagedObject`, and the store's errors.
    """
    found: list[LogChunk] = []
    for number in range(after + 1, after + most + 1):
        path = log_chunk(run_id, task_key, attempt, number)
        stored = await store.get(path)
        if stored is None:
            break
        found.append(_chunk(path, stored.data, number, task_key))
    return found


def _chunk(path: str, data: bytes, number: int, task_key: str) -> LogChunk:
    try:
        head, *lines = [orjson.loads(one) for one in data.splitlines()]
        return _read(path, head, lines, number, task_key)
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedObject(path, f"cannot be read: {error}", _REMEDY) from error


def _read(path: str, head: dict[str, Any], lines: list[Any], number: int, task_key: str) -> LogChunk:
    if head["format"] > FORMAT:
        newer = f"has the format {head['format']}, and this build reads {FORMAT}"
        raise DamagedObject(path, newer, "read it with a build at least as new as the worker")
    if head["task"] != task_key:
        raise DamagedObject(path, f"is of the task {head['task']}", _REMEDY)
    return LogChunk(number, str(head["worker_id"]), [LogLine(int(at), str(text)) for at, text in lines])
