"""What a worker and a process of attempts send each other: frames over a socket, and the messages in them.

A frame is the length of its head (4 bytes, big-endian), the head as JSON, and bodies, whose lengths the head has as
`sizes`. Only the standard library: a process of attempts is to start quickly.
"""

from __future__ import annotations

import json
import socket
import struct
from asyncio import StreamReader
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

Json = dict[str, Any]

_LENGTH: Final = struct.Struct(">I")
_SIZES: Final = "sizes"


class Say(StrEnum):
    """The kinds of messages, the member `say` of a head."""

    READY = "ready"
    """The pipeline is loaded; `described` has it, with `problems` if it is of no use."""
    MAKE = "make"
    """Make an attempt: a `Job`, with the values of its inputs as bodies."""
    EVALUATE = "evaluate"
    """Evaluate a sensor: an `Evaluation`. It ends as an attempt does, with the result as JSON for its output."""
    STOP = "stop"
    """Stop attempt `number`."""
    PROGRESS = "progress"
    """The function has told how far attempt `number` is: `done` from 0 to 1, and `message`."""
    MADE = "made"
    """Attempt `number` has ended: a `Made`, with the output as body if there is one."""
    SETTLE = "settle"
    """Commit the sealed `writes` of a task, in order; `ours` if the last attempt of the process has sealed them."""
    SETTLED = "settled"
    """The writes are committed: `done` has a version and rows of each; or `error` says why they are not."""


@dataclass(frozen=True, slots=True)
class ValueForm:
    """How a value is written as bytes: `format` is json or arrow, `library` that of a frame."""

    format: str
    library: str | None = None


@dataclass(frozen=True, slots=True)
class JobInput:
    """A parameter: the partitions and forms of its values, whose bytes come as bodies in the same order.

    `many`: the function takes a dict by partition key, else the one value.
    """

    argument: str
    many: bool
    keys: list[str | None]
    forms: list[ValueForm]


@dataclass(frozen=True, slots=True)
class Job:
    """What a process needs to know to make an attempt. `scope`: the run under which the task's writes are sealed."""

    number: int
    asset_key: str
    partition_key: str | None
    run_id: str
    attempt: int
    config: Json
    keeps_output: bool
    inputs: list[JobInput] = field(default_factory=list)
    scope: str = ""
    task_key: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a process needs to know to evaluate a sensor. Times in ms since 1970.

    `message`: `message_id`, `payload` and `received_ms` of what was pushed, None for a poll.
    """

    number: int
    sensor_id: str
    cursor: str | None = None
    evaluated_ms: int | None = None
    message: Json | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """How an attempt ended in its process. All fields of an error are None if the function returned.

    `interrupted`: it was told to stop while it ran. `form`: that of the output in the body, None if there is none.
    `writes`: what it has staged, to be sealed (`springline.client.staging.StagedWrite`). `at_once`:
    what it has committed already (`springline.control.runs.messages.WrittenVersion`). `checks`: what its checks have
    found (`springline.control.runs.messages.FoundByCheck`).
    """

    number: int
    interrupted: bool = False
    category: str | None = None
    message: str | None = None
    stack_trace: str | None = None
    retryable: bool | None = None
    reason_code: str | None = None
    metadata: Json = field(default_factory=dict)
    cpu_time_ms: int | None = None
    peak_memory_bytes: int | None = None
    form: ValueForm | None = None
    writes: list[Json] = field(default_factory=list)
    at_once: list[Json] = field(default_factory=list)
    checks: list[Json] = field(default_factory=list)


def job_of(head: Json) -> Job:
    """Return the job of a `MAKE` head."""
    plain = dict(head["job"])
    inputs = [JobInput(**{**one, "forms": [ValueForm(**form) for form in one["forms"]]}) for one in plain["inputs"]]
    return Job(**{**plain, "inputs": inputs})


def made_of(head: Json) -> Made:
    """Return the end of a `MADE` head."""
    plain = dict(head["made"])
    form = plain["form"]
    return Made(**{**plain, "form": None if form is None else ValueForm(**form)})


def head_of_evaluation(evaluation: Evaluation) -> Json:
    """Return the head of an `EVALUATE` message."""
    return {"say": Say.EVALUATE, "evaluation": asdict(evaluation)}


def evaluation_of(head: Json) -> Evaluation:
    """Return the evaluation of an `EVALUATE` head."""
    return Evaluation(**head["evaluation"])


def head_of_job(job: Job) -> Json:
    """Return the head that `job_of` reads."""
    return {"say": Say.MAKE, "job": asdict(job)}


def head_of_made(made: Made) -> Json:
    """Return the head that `made_of` reads."""
    return {"say": Say.MADE, "made": asdict(made)}


def frame(head: Json, bodies: Sequence[bytes] = ()) -> Iterator[bytes]:
    """Yield the parts of a frame, in order; bodies are not copied."""
    text = json.dumps({**head, _SIZES: [len(one) for one in bodies]}).encode()
    yield _LENGTH.pack(len(text)) + text
    yield from bodies


def receive(connection: socket.socket) -> tuple[Json, list[bytes]]:
    """Wait for the next frame; raises `EOFError` at the end, `OSError` if the connection is broken."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    head: Json = json.loads(_exactly(connection, length))
    return head, [bytes(_exactly(connection, size)) for size in head[_SIZES]]


def _exactly(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    left = memoryview(data)
    while left:
        count = connection.recv_into(left)
        if not count:
            raise EOFError
        left = left[count:]
    return data


async def read_frame(reader: StreamReader) -> tuple[Json, list[bytes]]:
    """Wait for the next frame; raises `EOFError` (`IncompleteReadError`) at the end, `OSError` as `receive`."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    head: Json = json.loads(await reader.readexactly(length))
    return head, [await reader.readexactly(size) for size in head[_SIZES]]
