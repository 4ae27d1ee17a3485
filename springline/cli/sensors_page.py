"""Sensors in words: what `springline sensor` shows to a person.

Only what is for people alone imports the library for tables, which quick commands do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from springline.cli.schedules_page import duration_text
from springline.ledger.timestamps import format_ms

Json = Mapping[str, Any]


def sensors_text(sensors: Sequence[Json]) -> str:
    """Return sensors as a table."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    rows = [
        [
            one["sensor_id"],
            watches(one),
            state_text(one),
            one.get("cursor"),
            _count(one),
            _instant(one.get("last_evaluation_at")),
            " ".join((one.get("definition") or {}).get("select") or []),
        ]
        for one in sensors
    ]
    text, _ = rows_text(["sensor", "watches", "state", "cursor", "messages", "last", "select"], rows)
    return text


def sensor_text(found: Json) -> str:
    """Return a sensor: its definition, what it is doing, its last evaluations."""
    from springline.cli.present import document_text  # noqa: PLC0415

    sensor, doing = found["sensor"], found["doing"] or {}
    definition = sensor.get("definition") or {}
    told = {
        "sensor": sensor["sensor_id"],
        "state": state_text(sensor),
        "watches": watches(sensor),
        "select": " ".join(definition.get("select") or []) or None,
        "cursor": sensor.get("cursor"),
        "messages": _count(sensor) or None,
        "behind": doing.get("behind") or None,
        "lag": duration_text(doing.get("lag_ms")),
        "next": _at(doing.get("next_ms")),
        "evaluating_since": _at(doing.get("evaluating_since_ms")),
        "waits": doing.get("waits"),
        "failed_in_a_row": doing.get("failures") or None,
        "polls_without_finding": doing.get("polls") or None,
        "trouble": doing.get("trouble"),
        "timeout": duration_text(1_000 * definition["timeout_seconds"]) if definition else None,
        "location": definition.get("location"),
        "workflow": None if found["doing"] else "does not answer just now",
    }
    parts = [document_text({name: value for name, value in told.items() if value is not None})]
    if found["evaluations"]:
        parts.append(history_text(found["evaluations"]))
    return "\n".join(parts)


def history_text(evaluations: Sequence[Json]) -> str:
    """Return evaluations as a table."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    rows = [
        [
            _instant(one["evaluated_at"]),
            one["status"]["status"],
            asks_for(one) or None,
            one.get("cursor_after"),
            why_text(one),
        ]
        for one in evaluations
    ]
    text, _ = rows_text(["evaluated", "status", "runs", "cursor", "why"], rows)
    return text


def decision_text(decision: Json) -> str:
    """Return what an evaluation came to."""
    from springline.cli.present import document_text, rows_text  # noqa: PLC0415

    told = {
        "outcome": decision["outcome"],
        "recorded": decision["recorded"],
        "runs": decision["run_count"],
        "cursor_before": decision.get("cursor_before"),
        "cursor_after": decision.get("cursor_after"),
        "reason": decision.get("reason_code"),
        "message": decision.get("message"),
    }
    parts = [document_text({name: value for name, value in told.items() if value is not None})]
    if decision["runs"]:
        rows = [[one["run_key"], " ".join(one["assets"]), " ".join(one["partitions"])] for one in decision["runs"]]
        parts.append(rows_text(["run key", "assets", "partitions"], rows)[0])
    return "\n".join(parts)


def watches(sensor: Json) -> str | None:
    """Return what a sensor watches, in a word."""
    definition = sensor.get("definition")
    if definition is None:
        return None
    kind = definition["kind"]
    if kind == "push":
        return "messages"
    what = definition.get("table") or definition.get("asset") or definition.get("prefix")
    what = what or "/".join(definition.get("ends") or [])
    every = duration_text(1_000 * definition["interval_seconds"])
    return f"{kind} {what}, every {every}" if what else f"a function, every {every}"


def state_text(sensor: Json) -> str:
    """Return whether a sensor is on."""
    if sensor.get("definition") is None:
        return "not deployed"
    return "paused" if sensor["paused"] else "on"


def asks_for(evaluation: Json) -> int:
    """Return how many runs an evaluation asked for."""
    return len(evaluation.get("run_requests") or [])


def why_text(evaluation: Json) -> str | None:
    """Return why an evaluation failed; None if it did not."""
    message = evaluation["status"].get("message")
    return None if message is None else " ".join(str(message).split())


def _count(sensor: Json) -> str | int:
    return f"{sensor['messages']:,} or more" if sensor["messages_more"] else sensor["messages"]


def _at(ms: int | None) -> str | None:
    return None if ms is None else _instant(format_ms(ms))


def _instant(text: str | None) -> str | None:
    return None if text is None else text.replace("T", " ").removesuffix("Z")
