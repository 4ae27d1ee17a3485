"""Schedules in words: what `springline schedule` shows to a person.

Only what is for people alone imports the library for tables, which quick commands do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

Json = Mapping[str, Any]

_MOST_DAYS_IN_HOURS: Final = 2


def schedules_text(schedules: Sequence[Json], now: datetime | None = None) -> str:
    """Return schedules as a table."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    now = now or datetime.now(UTC)
    rows = [
        [
            one["schedule_id"],
            due_text(one),
            one["timezone"],
            state_text(one),
            one.get("next_due_at"),
            _in(one.get("next_due_at"), now),
            (one.get("last") or {}).get("last_scheduled_for"),
            " ".join(one.get("asset_selection") or []),
        ]
        for one in schedules
    ]
    # An instant without a blank is cut nowhere, and is what `explain schedule --at` takes.
    text, left_out = rows_text(["schedule", "due", "timezone", "state", "next", "in", "last", "select"], rows)
    return f"{text}without {', '.join(left_out)}\n" if left_out else text


def schedule_text(schedule: Json, upcoming: Sequence[Json], ticks: Sequence[Json]) -> str:
    """Return a schedule: its definition, its next instants, its last ticks."""
    from springline.cli.present import document_text  # noqa: PLC0415

    settings = schedule.get("settings") or {}
    told = {
        "schedule": schedule["schedule_id"],
        "state": state_text(schedule),
        "due": due_text(schedule),
        "timezone": schedule["timezone"],
        "select": " ".join(schedule.get("asset_selection") or []),
        "overlap": settings.get("overlap"),
        "max_active_runs": settings.get("max_active_runs"),
        "jitter": duration_text(settings["jitter_seconds"] * 1_000) if settings.get("jitter_seconds") else None,
        "catches_up": f"the last {schedule['max_catchup_ticks']} of {schedule['catchup_window_minutes']} min",
        "location": settings.get("location"),
        "defined_by": schedule["row_version"],
    }
    parts = [document_text({name: value for name, value in told.items() if value is not None})]
    if upcoming:
        parts.append(preview_text({"items": upcoming}))
    if ticks:
        parts.append(history_text(ticks))
    return "\n".join(parts)


def preview_text(found: Json) -> str:
    """Return the next instants of a schedule as a table."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    rows = [
        [
            one["local"],
            _instant(one["due_at"]),
            one.get("problem") or _few(one.get("partitions")),
        ]
        for one in found["items"]
    ]
    text, _ = rows_text(["due", "utc", "makes"], rows)
    return text


def history_text(ticks: Sequence[Json]) -> str:
    """Return ticks as a table."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    rows = []
    for one in ticks:
        status, why = status_of_tick(one)
        rows.append(
            [
                _instant(one["scheduled_for"]),
                status,
                duration_text(one.get("late_ms")),
                one.get("run_id") if status == "triggered" else why,
                _few(one.get("partition_selection")),
            ]
        )
    text, _ = rows_text(["scheduled", "status", "late", "run or why not", "partitions"], rows)
    return text


def due_text(schedule: Json) -> str:
    """Return when a schedule is due, in a word: its cron line or its interval."""
    interval = (schedule.get("settings") or {}).get("interval_seconds")
    if interval is None:
        return str(schedule["cron_expression"])
    return f"every {duration_text(interval * 1_000)}"


def state_text(schedule: Json) -> str:
    """Return whether a schedule is on."""
    settings = schedule.get("settings") or {}
    if settings.get("deleted"):
        return "gone from its file" if settings.get("location") else "deleted"
    return "on" if schedule["enabled"] else "paused"


def status_of_tick(tick: Json) -> tuple[str, str | None]:
    """Return a tick's status, and why it asked for no run."""
    status = tick["status"]
    return str(status["status"]), status.get("reason") or status.get("error")


def duration_text(ms: int | None) -> str | None:
    """Return a duration for people: `250ms`, `1.5s`, `15m`, `2h`, `3d`."""
    if ms is None:
        return None
    if ms < 1_000:
        return f"{ms}ms"
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m")):
        if ms >= size and ms % size == 0:
            return f"{ms // size}{unit}"
    if ms < 60_000:
        return f"{ms / 1_000:g}s" if ms % 1_000 == 0 else f"{ms / 1_000:.1f}s"
    minutes, seconds = divmod(ms // 1_000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{seconds}s"


def _in(instant: str | None, now: datetime) -> str | None:
    if instant is None:
        return None
    seconds = int((datetime.fromisoformat(instant) - now).total_seconds())
    # One that has come is still the next while its jitter puts it off.
    return "its jitter" if seconds < 0 else _roughly(seconds)


def _roughly(seconds: int) -> str | None:
    days = seconds // 86_400
    return f"{days} d" if days > _MOST_DAYS_IN_HOURS else duration_text(seconds * 1_000)


def _instant(text: str | None) -> str | None:
    return None if text is None else text.replace("T", " ").removesuffix("Z")


def _few(keys: Sequence[str] | None) -> str | None:
    if not keys:
        return None
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return " ".join(keys[:3]) + more
