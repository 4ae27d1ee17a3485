"""What attempts have printed, in a store: numbered chunks that never change (docs/formats.md#log-chunk).

The first line of a chunk is its head, each other one an instant in ms since 1970 and a text, as JSON. The head has the
SHA-256 of the lines, and a checksum of its own with the chunk's path; chunks of older builds have neither. Chunks of an
attempt are numbered without a gap, so a reader finds them without a list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from springline.checked import WrongChecksum, verify, with_checksum
from springline.paths import log_chunk
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore

FORMAT: Final = 1
CHUNK_BYTES: Final = 128 * 1024
"""From this size on a chunk is written at once."""
_OF_OLDER_BUILDS: Final = ("format", "run_id", "task", "attempt", "worker_id")
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


def chunk_object(
    run_id: str, task_key: str, attempt: int, number: int, worker_id: str, lines: Iterable[LogLine]
) -> bytes:
    """Return the bytes of a chunk, which has this number."""
    body = b"".join(orjson.dumps([one.at_ms, one.text]) + b"\n" for one in lines)
    head = {
        "format": FORMAT,
        "run_id": run_id,
        "task": task_key,
        "attempt": attempt,
        "worker_id": worker_id,
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    path = log_chunk(run_id, task_key, attempt, number)
    return with_checksum(orjson.dumps(head), path) + b"\n" + body


async def read_log(
    store: ObjectStore, run_id: str, task_key: str, attempt: int, *, after: int, most: int, written: int = 0
) -> list[LogChunk]:
    """Read the chunks of an attempt behind number `after`, `most` of them at most.

    `store` is the workspace's part; `written`: up to which number there were chunks when the attempt ended, as far as
    that is known. Raises `DamagedObject`, also for a chunk that is missing before another one or up to that number,
    and the store's errors.
    """
    found: list[LogChunk] = []
    for number in range(after + 1, after + most + 1):
        path = log_chunk(run_id, task_key, attempt, number)
        stored = await store.get(path)
        if stored is None and number <= written:
            raise DamagedObject(path, f"is missing, and chunk {written} was there when the attempt ended", _REMEDY)
        if stored is None and await store.head(log_chunk(run_id, task_key, attempt, number + 1)) is not None:
            # Both may have been written since.
            stored = await store.get(path)
            if stored is None:
                raise DamagedObject(path, f"is missing, and chunk {number + 1} is there", _REMEDY)
        if stored is None:
            break
        found.append(_chunk(path, stored.data, number, task_key))
    return found


def _chunk(path: str, data: bytes, number: int, task_key: str) -> LogChunk:
    try:
        first, _, body = data.partition(b"\n")
        is_sealed = verify(first, _OF_OLDER_BUILDS, path)
        head = orjson.loads(first)
        return _read(path, head, body, number, task_key, is_sealed=is_sealed)
    except (ValueError, TypeError, KeyError, WrongChecksum) as error:
        raise DamagedObject(path, f"cannot be read: {error}", _REMEDY) from error


def _read(path: str, head: dict[str, Any], body: bytes, number: int, task_key: str, *, is_sealed: bool) -> LogChunk:
    if head["format"] > FORMAT:
        newer = f"has the format {head['format']}, and this build reads {FORMAT}"
        raise DamagedObject(path, newer, "read it with a build at least as new as the worker")
    if head["task"] != task_key:
        raise DamagedObject(path, f"is of the task {head['task']}", _REMEDY)
    if is_sealed and hashlib.sha256(body).hexdigest() != head["sha256"]:
        raise DamagedObject(path, "holds other lines than were written: their SHA-256 is another one", _REMEDY)
    lines: list[Any] = [orjson.loads(one) for one in body.splitlines()]
    return LogChunk(number, str(head["worker_id"]), [LogLine(int(at), str(text)) for at, text in lines])
