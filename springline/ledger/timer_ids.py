"""Timer ids: what a timer is for and when it fires, in its name.

See docs/events.md#fold-timers, docs/formats.md#identifiers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_TYPES: Final = {"retry": "RETRY", "heartbeat": "HEARTBEAT_CHECK", "cron": "CRON", "sla": "SLA_CHECK"}
_SIGNED = re.compile(r"[+-]?[0-9]+")
_UNSIGNED = re.compile(r"\+?[0-9]+")
_MAX_U32: Final = 2**32 - 1
_MIN_I64: Final = -(2**63)
_MAX_I64: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TimerName:
    """What a timer id says: its type as tables spell it, the second it fires, and the attempt it belongs to."""

    timer_type: str
    fire_epoch: int
    run_id: str | None = None
    task_key: str | None = None
    attempt: int | None = None


def retry_timer_id(run_id: str, task_key: str, attempt: int, epoch: int) -> str:
    """Return the id of the timer that ends the wait before an attempt is repeated."""
    return f"timer:retry:{run_id}:{task_key}:{attempt}:{epoch}"


def heartbeat_timer_id(run_id: str, task_key: str, attempt: int, epoch: int) -> str:
    """Return the id of the timer that looks whether an attempt is still alive."""
    return f"timer:heartbeat:{run_id}:{task_key}:{attempt}:{epoch}"


def cron_timer_id(schedule_id: str, epoch: int) -> str:
    """Return the id of a schedule's timer."""
    return f"timer:cron:{schedule_id}:{epoch}"


def parse_timer_id(timer_id: str) -> TimerName | None:
    """Return what a timer id says, or None if it says nothing.

    As the reference reads it: the last part is the second, parts three to five are run, task and attempt, and parts
    between are passed over. A colon inside a run id or task key therefore shifts the parts and mostly spoils the id.
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
