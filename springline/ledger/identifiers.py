"""Ids that follow from other ids (docs/formats.md#identifiers). Parts are not escaped: two inputs can give one text.

Epochs are whole seconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

_CALLBACK_PREFIX: Final = "ct1_"


def run_id_of_key(tenant: str, workspace: str, run_key: str, secret: bytes) -> str:
    """Return the id of the run that a run key stands for; `secret` is the tenant's (docs/formats.md#identifiers)."""
    message = f"{tenant}:{workspace}:{run_key}".encode()
    return f"run_{_base32(hmac.digest(secret, message, hashlib.sha256)[:16])}"


def plan_id_of_run(run_id: str) -> str:
    """Return the plan id of a run that was made from a run request."""
    return f"plan:{run_id}"


def dispatch_id(run_id: str, task_key: str, attempt: int) -> str:
    """Return the id of an attempt's dispatch."""
    return f"dispatch:{run_id}:{task_key}:{attempt}"


def attempt_id(dispatch: str) -> str:
    """Return the attempt id that belongs to a dispatch id (docs/formats.md#identifiers)."""
    return f"att_{hashlib.sha256(f'attempt:{dispatch}'.encode()).hexdigest()[:24]}"


def dispatch_task_id(dispatch: str) -> str:
    """Return the cloud task id of a dispatch id (docs/formats.md#identifiers)."""
    return f"d_{_base32(hashlib.sha256(dispatch.encode()).digest())}"


def timer_task_id(timer_id: str) -> str:
    """Return the cloud task id of a timer id (docs/formats.md#identifiers)."""
    return f"t_{_base32(hashlib.sha256(timer_id.encode()).digest())}"


def callback_task_id(run_id: str, task_key: str) -> str:
    """Return the task id that a worker calls back with (docs/formats.md#identifiers)."""
    text = base64.urlsafe_b64encode(f"{run_id}\0{task_key}".encode()).rstrip(b"=").decode()
    return f"{_CALLBACK_PREFIX}{text}"


def parse_callback_task_id(text: str) -> tuple[str, str] | None:
    """Return run id and task key of a callback task id, or None if `callback_task_id` cannot have made it."""
    encoded = text.removeprefix(_CALLBACK_PREFIX)
    if encoded == text:
        return None
    try:
        decoded = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return None
    run_id, _, task_key = decoded.partition("\0")
    if not run_id or not task_key or "\0" in task_key or callback_task_id(run_id, task_key) != text:
        return None
    return run_id, task_key


def tick_id(schedule_id: str, epoch: int) -> str:
    """Return the id of a schedule's tick at its scheduled second."""
    return f"{schedule_id}:{epoch}"


def manual_tick_id(schedule_id: str, epoch: int) -> str:
    """Return the id of a tick that somebody triggered by hand."""
    return f"{schedule_id}:manual:{epoch}"


def schedule_run_key(schedule_id: str, epoch: int) -> str:
    """Return the run key of a schedule's tick."""
    return f"sched:{schedule_id}:{epoch}"


def manual_schedule_run_key(schedule_id: str, epoch: int) -> str:
    """Return the run key of a tick that somebody triggered by hand."""
    return f"sched:{schedule_id}:manual:{epoch}"


def backfill_chunk_id(backfill_id: str, chunk_index: int) -> str:
    """Return the id of a backfill's chunk."""
    return f"{backfill_id}:{chunk_index}"


def backfill_run_key(backfill_id: str, chunk_index: int) -> str:
    """Return the run key of a backfill's chunk."""
    return f"backfill:{backfill_id}:chunk:{chunk_index}"


def sensor_eval_id(sensor_id: str, ulid: str) -> str:
    """Return the id of a sensor's evaluation, made unique by a ULID."""
    return f"eval_{sensor_id}_{ulid}"


def run_key_conflict_id(run_key: str, event_id: str) -> str:
    """Return the id of the row that records a run key asked for with another fingerprint."""
    return f"conflict:{run_key}:{event_id}"


def _base32(data: bytes) -> str:
    return base64.b32encode(data)[:26].decode().lower()
