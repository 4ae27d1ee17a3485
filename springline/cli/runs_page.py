"""Runs in words: what `springline run show` and `springline run list` show to a person.

Only what is for people alone imports the library for tables, which quick commands do without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from springline.bounds import on_one_line
from springline.definitions.graph import topological_order

Json = Mapping[str, Any]

OVER: Final = ("SUCCEEDED", "FAILED", "CANCELLED")
_DONE: Final = ("succeeded", "failed", "skipped", "cancelled")
_MADE_KEYS: Final = ("cli:", "api:")
"""What run keys begin with that nobody has chosen."""
_MOST_TASKS: Final = 50
_MOST_ERRORS: Final = 10
_MOST_WAITING: Final = 5
_LONGEST: Final = 1_000
_LONGEST_NOTE: Final = 400
_WAITS_S: Final = 10.0
"""An attempt that no worker has begun after this long is worth a word."""


def run_text(found: Json, now: datetime | None = None, *, doing: Json | None = None) -> str:
    """Return a run and its tasks: counts, a line each in the order of their starts, errors in full, and what is next.

    Of a run of many tasks those that succeeded are left out first. `now`: for how long what is under way has taken.
    `doing`: what its workflow says, if it was asked.
    """
    from springline.cli.present import document_text  # noqa: PLC0415

    now = now or datetime.now(UTC)
    run = found["run"]
    told = {
        "run": run["run_id"],
        "state": state_of(run),
        "tasks": counts_of(run),
        "triggered": _instant(run["triggered_at"]),
        "duration": _took(run["triggered_at"], run.get("completed_at"), None if run["state"] in OVER else now),
        "run_key": None if str(run.get("run_key") or "").startswith(_MADE_KEYS) else run.get("run_key"),
        "labels": run.get("labels") or None,
        "manifest_id": run.get("code_version"),
    }
    parts = [document_text({name: value for name, value in told.items() if value is not None})]
    place = _places(found)
    tasks = sorted(found["tasks"], key=lambda one: (one.get("started_at") or "~", place[one["task_key"]]))
    if tasks:
        parts.append(_tasks_text(tasks, run["triggered_at"], now))
    waits_for = found.get("waits_for") or {}
    # An older API does not tell what was written.
    parts += filter(None, [_writes_text(found.get("writes", [])), _checks_text(found.get("checks", []))])
    parts += filter(None, [_metadata_text(found.get("metadata", [])), _notes_text(found.get("notes", []))])
    parts += filter(None, [_errors_text(tasks)])
    if doing is None:
        parts += filter(None, [_pools_text(waits_for), _waiting_text(tasks, waits_for, now)])
    else:
        parts += filter(None, [_doing_text(doing)])
    if run["state"] in OVER and not tasks:
        parts.append(document_text({"next": f"springline explain run {run['run_id']}"}))
    if run["state"] in OVER and any(one["state"] != "SUCCEEDED" for one in tasks):
        parts.append(document_text({"next": f"springline run rerun {run['run_id']} --failed"}))
    return "\n".join(parts)


def runs_text(runs: Sequence[Json]) -> str:
    """Return runs as a table, the latest first."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    rows = [
        [
            one["run_id"],
            state_of(one),
            f"{one['tasks_completed']}/{one['tasks_total']}",
            _instant(one["triggered_at"]),
            duration_of(one["triggered_at"], one.get("completed_at")),
        ]
        for one in sorted(runs, key=lambda one: one["triggered_at"], reverse=True)
    ]
    text, _ = rows_text(["run_id", "state", "tasks", "triggered", "took"], rows)
    return text


def state_of(run: Json) -> str:
    """Return a run's state; of one that is being cancelled that, too."""
    asked = run.get("cancel_requested") and run["state"] not in OVER
    return f"{run['state']}, to be cancelled" if asked else str(run["state"])


def counts_of(run: Json) -> str:
    """Return how many tasks of a run have ended, and how."""
    ended = [f"{run[f'tasks_{name}']} {name}" for name in _DONE if run[f"tasks_{name}"]]
    done = f"{run['tasks_completed']} of {run['tasks_total']} tasks have ended"
    return f"{done}: {', '.join(ended)}" if ended else done


def duration_of(start: str | None, end: str | None) -> str | None:
    """Return how long something took, from two instants in RFC 3339; None unless both are known."""
    if start is None or end is None:
        return None
    return _span((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def _span(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}h{minutes:02}m{int(rest):02}s"
    return f"{minutes}m{int(rest):02}s" if minutes else f"{rest:.1f}s"


def _took(start: str | None, end: str | None, now: datetime | None) -> str | None:
    """Return how long something took, or has taken up to `now`."""
    if end is not None or start is None or now is None:
        return duration_of(start, end)
    return f"{_span(max(0.0, (now - datetime.fromisoformat(start)).total_seconds()))} so far"


def _instant(text: str) -> str:
    """Return an instant in RFC 3339 without the fraction of its second."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _places(found: Json) -> dict[str, int]:
    """Return where each task stands in an order in which every task is behind those that it waits for."""
    keys = sorted(one["task_key"] for one in found["tasks"])
    needs: dict[str, list[str]] = {key: [] for key in keys}
    for edge in found["dependencies"]:
        needs.setdefault(edge["downstream_task_key"], []).append(edge["upstream_task_key"])
    with suppress(ValueError):  # A plan of another system may go in a circle.
        keys = topological_order(needs)
    return {key: place for place, key in enumerate(keys)}


def _tasks_text(tasks: Sequence[Json], triggered: str, now: datetime) -> str:
    from springline.cli.present import rows_text  # noqa: PLC0415

    shown = list(tasks)
    if len(shown) > _MOST_TASKS:
        shown = [one for one in shown if one["state"] != "SUCCEEDED"][:_MOST_TASKS]
    rows = [
        [
            one["task_key"],
            one["state"],
            one["attempt"],
            None if one.get("started_at") is None else f"+{duration_of(triggered, one['started_at'])}",
            _took(one.get("started_at"), one.get("completed_at"), now if one["state"] == "RUNNING" else None),
        ]
        for one in shown
    ]
    text, _ = rows_text(["task", "state", "attempt", "started", "took"], rows)
    left_out = len(tasks) - len(shown)
    if not left_out:
        return text
    return f"{text if shown else ''}... and {left_out:,} more tasks; -o json shows all\n"


def _writes_text(writes: Sequence[Json]) -> str:
    """Return a line for each write of tasks: the table's version, and how many rows it wrote or changed."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    rows = [
        [one["task_key"], table["table"], table["version"], table.get("operation"), table.get("rows")]
        for one in writes
        for table in one["tables"]
    ]
    if not rows:
        return ""
    text, _ = rows_text(["written by", "table", "version", "operation", "rows"], rows[:_MOST_TASKS])
    left_out = len(rows) - _MOST_TASKS
    return text if left_out <= 0 else f"{text}... and {left_out:,} more writes; -o json shows all\n"


def _checks_text(checks: Sequence[Json]) -> str:
    """Return a line for each check of tasks, those that do not hold first."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    found = [(one["task_key"], one["attempt"], check) for one in checks for check in one["checks"]]
    if not found:
        return ""
    found.sort(key=lambda one: (one[2]["passed"], one[2]["severity"] == "warn"))
    rows = [
        [task, attempt, check["name"], _check_state(check), on_one_line(check.get("message") or "", _LONGEST)]
        for task, attempt, check in found[:_MOST_TASKS]
    ]
    text, _ = rows_text(["checked", "attempt", "check", "holds", "found"], rows)
    left_out = len(found) - _MOST_TASKS
    return text if left_out <= 0 else f"{text}... and {left_out:,} more checks; -o json shows all\n"


def _metadata_text(told: Sequence[Json]) -> str:
    """Return a line for each thing that functions have told."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    rows = [
        [one["task_key"], one["attempt"], name, on_one_line(_text_of(value), _LONGEST)]
        for one in told
        for name, value in one["metadata"].items()
    ]
    if not rows:
        return ""
    text, _ = rows_text(["told by", "attempt", "name", "value"], rows[:_MOST_TASKS])
    left_out = len(rows) - _MOST_TASKS
    return text if left_out <= 0 else f"{text}... and {left_out:,} more values; -o json shows all\n"


def _notes_text(notes: Sequence[Json]) -> str:
    """Return a line for each thing that no end of an attempt tells, in full: it says what to do."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    rows = [[one["task_key"], one["attempt"], on_one_line(one["text"], _LONGEST_NOTE)] for one in notes[:_MOST_TASKS]]
    if not rows:
        return ""
    text, _ = rows_text(["noted of", "attempt", "what"], rows)
    left_out = len(notes) - _MOST_TASKS
    return text if left_out <= 0 else f"{text}... and {left_out:,} more notes; -o json shows all\n"


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check_state(check: Json) -> str:
    if check["passed"]:
        return "yes"
    return "warns" if check["severity"] == "warn" else "FAILED"


def _errors_text(tasks: Sequence[Json]) -> str:
    failed = [one for one in tasks if one.get("error_message") and one["state"] != "SUCCEEDED"]
    lines: list[tuple[str, str, int]] = []
    for one in failed[:_MOST_ERRORS]:
        # What is under way has the error of the attempt before.
        goes_on = one["state"] in ("READY", "DISPATCHED", "RUNNING")
        head = f"{one['task_key']}, " + ("last failure" if goes_on else f"attempt {one['attempt']}")
        if one["state"] == "RETRY_WAIT" and one.get("retry_not_before") is not None:
            head += f", again at {_instant(one['retry_not_before'])}"
        lines += [(head, "bold red", 0), (one["error_message"], "", 2)]
    if len(failed) > _MOST_ERRORS:
        lines.append((f"... and {len(failed) - _MOST_ERRORS:,} more errors; -o json shows all", "dim", 0))
    return _lines_text(lines)


def _pools_text(waits_for: Mapping[str, str]) -> str:
    lines = [(f"{key} {waits_for[key]}", "yellow", 0) for key in sorted(waits_for)[:_MOST_WAITING]]
    if len(waits_for) > _MOST_WAITING:
        lines.append((f"... and {len(waits_for) - _MOST_WAITING:,} more wait; -o json shows all", "dim", 0))
    return _lines_text(lines)


def _waiting_text(tasks: Sequence[Json], waits_for: Mapping[str, str], now: datetime) -> str:
    waiting = [
        one["task_key"]
        for one in tasks
        if one["state"] == "DISPATCHED"
        and one["task_key"] not in waits_for
        and (now - datetime.fromisoformat(one["ready_at"])).total_seconds() > _WAITS_S
    ]
    if not waiting:
        return ""
    more = f" and {len(waiting) - 1:,} more" if len(waiting) > 1 else ""
    said = f"No worker has begun {waiting[0]}{more} yet: all are busy, or none runs. `springline work FILE` starts one."
    return _lines_text([(said, "yellow", 0)])


def _doing_text(doing: Json) -> str:
    """Return what a run says of itself and its rows do not: what it waits for, and what is wrong."""
    lines = [(f"waits: {line}", "yellow", 0) for line in doing["waits_for"]]
    if doing["trouble"] is not None:
        lines.append((f"trouble: {doing['trouble']}", "bold red", 0))
    return _lines_text(lines)


def _lines_text(lines: Sequence[tuple[str, str, int]]) -> str:
    """Return paragraphs, each a text, its style and its indentation."""
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from springline.cli.present import console, trimmed  # noqa: PLC0415

    shown, collected = console()
    for text, style, indent in lines:
        shown.print(Padding(Text(on_one_line(" ".join(text.split()), _LONGEST), style=style), (0, 0, 0, indent)))
    return trimmed(collected.getvalue())
