"""Outputs of attempts in the store, each an object that is never changed (docs/formats.md#task-output).

The first line names format and SHA-256 of everything behind it, the second is the head as JSON, the rest the value.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from springline.control.runs.messages import AttemptOrder, TakenOutput
from springline.paths import task_output
from springline.storage.damage import DamagedObject
from springline.storage.patience import patient
from springline.storage.port import ObjectStore
from springline.storage.resolve import put_once
from springline.work.frames import ValueForm

_MAGIC: Final = b"springline-output 1 "
_REMEDY: Final = "run the task again that makes it, or restore the object from a copy"
_FORMATS: Final = ("json", "arrow")


@dataclass(frozen=True, slots=True)
class Output:
    """A value as bytes, and how to read them."""

    form: ValueForm
    data: bytes


def as_object(output: Output, order: AttemptOrder) -> bytes:
    """Return the bytes of the object that holds the output of an attempt."""
    head = {
        "asset": order.asset_key,
        "attempt_id": order.attempt_id,
        "bytes": len(output.data),
        "format": output.form.format,
        "library": output.form.library,
        "partition": order.partition_key,
        "run_id": order.run_id,
        "task": order.task_key,
    }
    rest = json.dumps(head, separators=(",", ":"), sort_keys=True).encode() + b"\n" + output.data
    return _MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def of_object(data: bytes, taken: TakenOutput) -> Output:
    """Return what such an object holds. Raises `DamagedObject` if it is not what `taken` names, byte for byte."""
    path = task_output(taken.scope, taken.attempt_id)
    first, _, rest = data.partition(b"\n")
    if not first.startswith(_MAGIC) or hashlib.sha256(rest).hexdigest().encode() != first.removeprefix(_MAGIC):
        raise DamagedObject(path, "is not what was written: its SHA-256 is another one", _REMEDY)
    line, _, value = rest.partition(b"\n")
    head: dict[str, Any] = json.loads(line)
    if (head["task"], head["attempt_id"]) != (taken.task_key, taken.attempt_id):
        raise DamagedObject(path, f"is the output of {head['task']}, attempt {head['attempt_id']}", _REMEDY)
    if head["format"] not in _FORMATS:
        raise DamagedObject(path, f"has the format {head['format']}", "start workers of a newer build")
    return Output(ValueForm(head["format"], head["library"]), value)


async def store_output(
    store: ObjectStore, order: AttemptOrder, output: Output, pause: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> None:
    """Write the output of an attempt, once: a second one of the same attempt changes nothing.

    `store` is the workspace's part; `pause` waits so many seconds before a passing fault is tried again. Raises the
    store's errors.
    """
    data = await asyncio.to_thread(as_object, output, order)
    await patient(lambda: put_once(store, task_output(order.scope, order.attempt_id), data), pause)


async def read_output(
    store: ObjectStore, taken: TakenOutput, pause: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> Output:
    """Read an output that an attempt has left. Raises `DamagedObject`, also if it is missing, and as `store_output`."""
    path = task_output(taken.scope, taken.attempt_id)
    stored = await patient(lambda: store.get(path), pause)
    if stored is None:
        raise DamagedObject(path, f"is missing, the output of {taken.task_key}", _REMEDY)
    return await asyncio.to_thread(of_object, stored.data, taken)
