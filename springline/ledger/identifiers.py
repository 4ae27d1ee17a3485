"""Ids derived from other ids, and the one spelling of asset keys, partitions and timers.

Parts are not escaped: two inputs can give one text. Epochs are whole seconds since 1970.

See docs/formats.md#identifiers, docs/formats.md#asset-keys, docs/formats.md#partition-text, docs/events.md#fold-timers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
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


def manual_tick_id(schedule_id: str, epoch: int | str) -> str:
    """Return the id of a tick that a user triggered by hand, at a second or under `manual_name_of` a request."""
    return f"{schedule_id}:manual:{epoch}"


def manual_name_of(client_request_id: str) -> str:
    """Return what a tick by hand is named by: the same request is the same tick, for ever."""
    return _base32(hashlib.sha256(client_request_id.encode()).digest()[:16])


def range_tick_id(schedule_id: str, first: int, last: int) -> str:
    """Return the id of the tick of many instants of a schedule, from the first scheduled second to the last."""
    return f"{schedule_id}:{first}-{last}"


def tick_note_id(schedule_id: str, version: str) -> str:
    """Return the id of the tick that notes that a definition cannot be read: there is one for each definition."""
    return f"{schedule_id}:failed:{version}"


def is_manual_tick(schedule_id: str, name: str) -> bool:
    """Say whether a tick is one that a user triggered by hand."""
    return name.startswith(f"{schedule_id}:manual:")


def is_tick_note(schedule_id: str, name: str) -> bool:
    """Say whether a tick is the note that a definition cannot be read: it stands for no instant."""
    return name.startswith(f"{schedule_id}:failed:")


def schedule_run_key(schedule_id: str, epoch: int) -> str:
    """Return the run key of a schedule's tick."""
    return f"sched:{schedule_id}:{epoch}"


def manual_schedule_run_key(schedule_id: str, epoch: int | str) -> str:
    """Return the run key of a tick that a user triggered by hand."""
    return f"sched:{schedule_id}:manual:{epoch}"


def backfill_id_of(client_request_id: str) -> str:
    """Return the id of the backfill that is asked for by a request: the same request is the same backfill, for ever."""
    return f"bf_{_base32(hashlib.sha256(client_request_id.encode()).digest()[:16])}"


def backfill_chunk_id(backfill_id: str, chunk_index: int) -> str:
    """Return the id of a backfill's chunk."""
    return f"{backfill_id}:{chunk_index}"


def backfill_run_key(backfill_id: str, chunk_index: int) -> str:
    """Return the run key of a backfill's chunk."""
    return f"backfill:{backfill_id}:chunk:{chunk_index}"


def sensor_eval_id(sensor_id: str, ulid: str) -> str:
    """Return the id of a sensor's evaluation, made unique by a ULID."""
    return f"eval_{sensor_id}_{ulid}"


def own_evaluation_id(sensor_id: str, state_version: int, content: str) -> str:
    """Return the id of an evaluation that we make: of the state it was made on, and of the digest of what it says."""
    return f"eval_{sensor_id}_{state_version}_{content[:32]}"


def sensor_run_key(sensor_id: str, run_key: str) -> str:
    """Return the key under which a sensor asks for a run that it calls `run_key`: no two sensors share one."""
    return f"{SENSOR_RUN_KEYS}{sensor_id}:{run_key}"


SENSOR_RUN_KEYS: Final = "sensor:"
"""What the run keys of sensors begin with."""


def run_key_conflict_id(run_key: str, event_id: str) -> str:
    """Return the id of the row that records a request for a run key with another fingerprint."""
    return f"conflict:{run_key}:{event_id}"


def sha256_hex(text: str) -> str:
    """Return the SHA-256 of the UTF-8 bytes of `text` as 64 lower-case hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _base32(data: bytes) -> str:
    return base64.b32encode(data)[:26].decode().lower()


_SEGMENT = r"[a-z][a-z0-9_]*"
_NAMESPACE = re.compile(_SEGMENT)
_NAME = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")


def canonical_asset_key(text: str) -> str:
    """Return `namespace.name` of an asset key written like that or as `namespace/name`; raises `ValueError`.

    Namespace and the dot-separated parts of the name are lower-case letters, digits and `_`, and begin with a letter.
    """
    if not text.strip():
        raise ValueError("the asset key is empty: give namespace.name")
    if re.search(r"\s", text):
        raise ValueError(f"asset key {text!r} holds white space: remove it")
    namespace, separator, name = text.partition("/" if "/" in text else ".")
    if not separator:
        raise ValueError(f"asset key {text!r} has no namespace: give namespace.name")
    if not namespace or not name:
        raise ValueError(f"asset key {text!r} has an empty namespace or name: give namespace.name")
    for part, value, pattern in (("namespace", namespace, _NAMESPACE), ("name", name, _NAME)):
        if not pattern.fullmatch(value):
            raise ValueError(f"asset key {text!r} has the {part} {value!r}: begin with a-z, go on with a-z, 0-9 and _")
    return f"{namespace}.{name}"


def canonical_partition(dimensions: Mapping[str, str | int | bool | date | datetime | None]) -> str:
    """Return the canonical text of a partition: `name=value` sorted by name and joined by commas.

    A value has a type: `d:` date, `t:` instant (in UTC, with six digits), `i:` integer, `b:` boolean, `n:` none,
    `s:` the URL-safe base64 of a string. Raises `ValueError` for an instant without a zone, and for other types.
    """
    return ",".join(f"{name}={_value(name, dimensions[name])}" for name in sorted(dimensions))


def _value(name: str, value: str | int | bool | date | datetime | None) -> str:
    if value is None:
        return "n:null"
    if isinstance(value, bool):
        return "b:true" if value else "b:false"
    if isinstance(value, int):
        return f"i:{value}"
    if isinstance(value, str):
        return f"s:{base64.urlsafe_b64encode(value.encode()).rstrip(b'=').decode()}"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"dimension {name} is an instant without a zone: give one in UTC")
        return f"t:{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    if isinstance(value, date):
        return f"d:{value.isoformat()}"
    raise ValueError(f"dimension {name} is a {type(value).__name__}: give a string, integer, boolean, date or instant")


_TYPES: Final = {"retry": "RETRY", "heartbeat": "HEARTBEAT_CHECK", "cron": "CRON", "sla": "SLA_CHECK"}
_SIGNED = re.compile(r"[+-]?[0-9]+")
_UNSIGNED = re.compile(r"\+?[0-9]+")
_MAX_U32: Final = 2**32 - 1
_MIN_I64: Final = -(2**63)
_MAX_I64: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TimerName:
    """The content of a timer id: its type as in tables, the second at which it fires, and its attempt."""

    timer_type: str
    fire_epoch: int
    run_id: str | None = None
    task_key: str | None = None
    attempt: int | None = None


def retry_timer_id(run_id: str, task_key: str, attempt: int, epoch: int) -> str:
    """Return the id of the timer that ends the wait before an attempt is repeated."""
    return f"timer:retry:{run_id}:{task_key}:{attempt}:{epoch}"


def heartbeat_timer_id(run_id: str, task_key: str, attempt: int, epoch: int) -> str:
    """Return the id of the timer that checks whether an attempt is still alive."""
    return f"timer:heartbeat:{run_id}:{task_key}:{attempt}:{epoch}"


def cron_timer_id(schedule_id: str, epoch: int) -> str:
    """Return the id of a schedule's timer."""
    return f"timer:cron:{schedule_id}:{epoch}"


def parse_timer_id(timer_id: str) -> TimerName | None:
    """Return the content of a timer id, or None if it cannot be parsed.

    As the reference reads it: the last part is the second, parts three to five are run, task and attempt, and parts
    between are ignored. A colon inside a run id or task key therefore shifts the parts and mostly spoils the id.
    """
    parts = timer_id.split(":")
    timer_type = _TYPES.get(parts[1]) if len(parts) > 1 else None
    if parts[0] != "timer" or timer_type is None or not _SIGNED.fullmatch(parts[-1]):
        return None
    epoch = _number(parts[-1], _MIN_I64, _MAX_I64)
    if epoch is None:
        return None
    if timer_type == "CRON":
        return TimerName(timer_type, epoch)
    if len(parts) < 5 or not _UNSIGNED.fullmatch(parts[4]):
        return None
    attempt = _number(parts[4], 0, _MAX_U32)
    return None if attempt is None else TimerName(timer_type, epoch, parts[2], parts[3], attempt)


def _number(text: str, least: int, most: int) -> int | None:
    sign = text[0] if text[0] in "+-" else ""
    digits = text.removeprefix(sign).lstrip("0") or "0"
    if len(digits) > 19:
        return None
    number = int(f"{sign}{digits}")
    return number if least <= number <= most else None
