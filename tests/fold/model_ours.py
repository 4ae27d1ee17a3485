"""The slow fold: tables of our own, straight from docs/events.md#what-is-ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from springline.ledger.timestamps import parse_timestamp
from tests.fold.model_tables import Object, Tables, json_text, row_of

UPPER = {"succeeded": "SUCCEEDED", "failed": "FAILED", "skipped": "SKIPPED", "cancelled": "CANCELLED"}
CLASSES = {
    "springline_hold_changed": "HoldChanged",
    "springline_sensor_changed": "SensorChanged",
    "springline_sensor_message": "SensorMessage",
    "springline_backfill_chunk_ended": "BackfillChunkEnded",
    "springline_attempt_noted": "AttemptNoted",
}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_u32(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**32


def _is_u64(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**64


def _is_instant(value: Any) -> bool:
    try:
        parse_timestamp(value)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _one_of(*texts: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in texts


def _list_of(required: dict[str, Callable[[Any], bool]], optional: dict[str, Callable[[Any], bool]]) -> Any:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(
            isinstance(one, dict)
            and all(name in one and check(one[name]) for name, check in required.items())
            and all(one.get(name) is None or check(one[name]) for name, check in optional.items())
            for one in value
        )

    return fits


FIELDS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "run_triggered": {
        "request_event_id": _is_text,
        "effects_scope": _is_text,
        "config": lambda value: isinstance(value, dict),
    },
    "run_cancel_requested": {"reason_code": _is_text},
    "task_end": {
        "started_at": _is_instant,
        "ended_at": _is_instant,
        "reason_code": _is_text,
        "tables": _list_of(
            {"table": _is_text, "version": _is_u32},
            {"idempotency_key": _is_text, "operation": _is_text, "rows": _is_u64},
        ),
        "checks": _list_of(
            {"name": _is_text, "severity": _one_of("warn", "error"), "passed": lambda one: isinstance(one, bool)},
            {"message": _is_text},
        ),
        "log_chunks": _is_u32,
    },
    "schedule_definition_upserted": {
        "dialect": _one_of("unix", "reference"),
        "interval_seconds": _is_u32,
        "overlap": _one_of("allow", "skip", "queue_one"),
        "max_active_runs": _is_u32,
        "jitter_seconds": _is_u32,
        "deleted": lambda value: isinstance(value, bool),
    },
    "backfill_created": {
        "order": _one_of("oldest_first", "newest_first"),
        "priority": lambda value: type(value) is int and -(2**63) <= value < 2**63,
        "request_fingerprint": _is_text,
    },
}


def member(data: Object, kind: str) -> Object:
    """Return the fields of a payload's member that are as they should be."""
    value = data.get("springline")
    if not isinstance(value, dict) or len(json_text(value).encode()) > 16 * 1024:
        return {}
    return {
        name: value[name] for name, check in FIELDS[kind].items() if value.get(name) is not None and check(value[name])
    }


def _json(value: Any) -> str | None:
    return json_text(value) if value else None


def _free(value: Any) -> str | None:
    """Return canonical JSON, None where there is none."""
    return json_text(value) if value is not None and _is_canonical(value) else None


def _is_canonical(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_canonical, value.values()))
    if isinstance(value, list):
        return all(map(_is_canonical, value))
    return not isinstance(value, float) and (type(value) is not int or -(2**63) <= value < 2**64)


# Types of our own.


def hold_changed(m: Tables, data: Object, ev: str) -> bool:
    """A change, or nothing."""
    old = m.x_holds.get("workspace")
    if (old is not None and old["held"]) == data["held"]:
        return False
    m.x_holds["workspace"] = row_of(
        "x_holds",
        hold_id="workspace",
        held=data["held"],
        reason=data.get("reason"),
        changed_by=data["changed_by"],
        changed_at=m.ts,
        row_version=ev,
    )
    return True


def sensor_changed(m: Tables, data: Object, ev: str) -> bool:
    """Pause and its end once, cursors always."""
    row = dict(m.x_sensors.get(data["sensor_id"]) or row_of("x_sensors", sensor_id=data["sensor_id"], paused=False))
    change = data["change"]
    if change == "paused" and not row["paused"]:
        row["paused"] = True
    elif change == "resumed" and row["paused"]:
        row["paused"] = False
    elif change == "reset":
        row.update(cursor=None, cursor_event_id=ev)
    elif change == "cursor_set":
        row.update(cursor=data.get("cursor"), cursor_event_id=ev)
    else:
        return False
    row.update(changed_by=data["changed_by"], changed_at=m.ts, row_version=ev)
    m.x_sensors[data["sensor_id"]] = row
    return True


def sensor_message(m: Tables, data: Object, ev: str) -> bool:
    """One that does not wait yet."""
    key = (data["sensor_id"], data["message_id"])
    if key in m.x_messages:
        return False
    m.x_messages[key] = row_of(
        "x_messages",
        sensor_id=key[0],
        message_id=key[1],
        payload=_free(data.get("payload")),
        received_at=m.ts,
        row_version=ev,
    )
    return True


def backfill_chunk_ended(m: Tables, data: Object, ev: str) -> bool:
    """A planned one that has not ended."""
    row = m.x_chunks.get(data["chunk_id"])
    if row is None or row["backfill_id"] != data["backfill_id"] or row["outcome"] is not None:
        return False
    row.update(
        outcome=UPPER[data["outcome"]],
        done=data["done"],
        failed=_json(data.get("failed")),
        skipped=_json(data.get("skipped")),
        ended_at=m.ts,
        row_version=ev,
        **{name: data.get(name) for name in ("keys_path", "keys_sha256", "reason_code")},
    )
    return True


def attempt_noted(m: Tables, data: Object, ev: str) -> bool:
    """Of a run that is there."""
    key = (data["run_id"], data["task_key"], data["attempt_id"], data["note"])
    if data["run_id"] not in m.runs or key in m.x_notes:
        return False
    m.x_notes[key] = row_of(
        "x_notes",
        run_id=key[0],
        task_key=key[1],
        attempt_id=key[2],
        note=key[3],
        attempt=data["attempt"],
        detail=_free(data.get("detail")),
        noted_at=m.ts,
        row_version=ev,
    )
    return True


# Effects of the reference's types, once applied.


def run_triggered(m: Tables, data: Object, ev: str) -> None:
    """What the member says."""
    said = member(data, "run_triggered")
    if said:
        m.x_runs[data["run_id"]] = row_of(
            "x_runs",
            run_id=data["run_id"],
            request_event_id=said.get("request_event_id"),
            effects_scope=said.get("effects_scope"),
            config=_free(said.get("config") or None),
            row_version=ev,
        )


def run_cancel_requested(m: Tables, data: Object, ev: str) -> None:
    """The reason, if there is one."""
    said = member(data, "run_cancel_requested")
    if said:
        row = m.x_runs.setdefault(data["run_id"], row_of("x_runs", run_id=data["run_id"]))
        row.update(cancel_reason_code=said["reason_code"], row_version=ev)


def task_ended(m: Tables, data: Object, ev: str) -> None:
    """A row for the attempt."""
    said = member(data, "task_end")
    error, metrics = data.get("error"), data.get("metrics") or {}
    failed = data["outcome"] != "succeeded"
    message = data.get("error_message") or (error or {}).get("message")
    m.x_attempts[data["run_id"], data["task_key"], data["attempt_id"]] = row_of(
        "x_attempts",
        run_id=data["run_id"],
        task_key=data["task_key"],
        attempt_id=data["attempt_id"],
        attempt=data["attempt"],
        outcome=UPPER[data["outcome"]],
        category=error["category"] if failed and error else None,
        reason_code=said.get("reason_code"),
        error_message=message if failed else None,
        worker_id=data["worker_id"],
        started_at=m.tasks[data["run_id"], data["task_key"]]["started_at"],
        ended_at=m.ts,
        true_started_at=None if "started_at" not in said else parse_timestamp(said["started_at"]),
        true_ended_at=None if "ended_at" not in said else parse_timestamp(said["ended_at"]),
        tables=_json(_present(said.get("tables"))),
        checks=_json(_present(said.get("checks"))),
        code_version=data.get("code_version"),
        cpu_time_ms=_i64(metrics.get("cpuTimeMs")),
        peak_memory_bytes=_i64(metrics.get("peakMemoryBytes")),
        row_version=ev,
        log_chunks=said.get("log_chunks"),
    )


def _i64(number: int | None) -> int | None:
    return number if number is not None and number < 2**63 else None


def _present(rows: list[Object] | None) -> list[Object] | None:
    known = ("table", "version", "idempotency_key", "operation", "rows", "name", "severity", "passed", "message")
    return None if rows is None else [{n: v for n, v in row.items() if v is not None and n in known} for row in rows]


def run_requested(m: Tables, data: Object, ev: str) -> None:
    """The first, for ever."""
    first = m.run_key_index[data["run_key"]]
    if data["run_key"] not in m.x_run_keys:
        m.x_run_keys[data["run_key"]] = row_of(
            "x_run_keys",
            requested_at=first["created_at"],
            **{name: first[name] for name in ("run_key", "run_id", "request_fingerprint", "row_version")},
        )


def schedule_defined(m: Tables, data: Object, ev: str) -> None:
    """The newest."""
    key = ("schedule", data["schedule_id"])
    old = m.x_definitions.get(key)
    m.x_definitions[key] = row_of(
        "x_definitions",
        kind=key[0],
        definition_id=key[1],
        defined_at=m.ts,
        first_defined_at=m.ts if old is None else old["first_defined_at"],
        code_version=data.get("code_version"),
        settings=_json(member(data, "schedule_definition_upserted")),
        row_version=ev,
        decided_to=None if old is None else old["decided_to"],
    )


def schedule_ticked(m: Tables, data: Object, ev: str) -> None:
    """The greatest instant, those by hand and notes apart."""
    row = m.x_definitions.get(("schedule", data["schedule_id"]))
    kind = data["tick_id"].removeprefix(data["schedule_id"])
    if row is not None and not kind.startswith((":manual:", ":failed:")):
        at = parse_timestamp(data["scheduled_for"])
        row["decided_to"] = at if row["decided_to"] is None else max(row["decided_to"], at)


def sensor_evaluated(m: Tables, data: Object, ev: str) -> None:
    """A message was evaluated, unless that was stale."""
    source = data["trigger_source"]
    if source["source"] == "push" and m.sensor_state[data["sensor_id"]]["row_version"] == ev:
        m.x_messages.pop((data["sensor_id"], source["message_id"]), None)


def backfill_created(m: Tables, data: Object, ev: str) -> None:
    """With a fingerprint."""
    said = member(data, "backfill_created")
    if "request_fingerprint" in said:
        m.x_definitions["backfill", data["backfill_id"]] = row_of(
            "x_definitions",
            kind="backfill",
            definition_id=data["backfill_id"],
            defined_at=m.ts,
            first_defined_at=m.ts,
            code_version=data.get("code_version"),
            settings=_json(said),
            row_version=ev,
        )


def chunk_planned(m: Tables, data: Object, ev: str) -> None:
    """Anew."""
    m.x_chunks[data["chunk_id"]] = row_of(
        "x_chunks",
        chunk_id=data["chunk_id"],
        backfill_id=data["backfill_id"],
        chunk_index=data["chunk_index"],
        run_key=data["run_key"],
        partitions=len(data["partition_keys"]),
        planned_at=m.ts,
        row_version=ev,
    )


HANDLERS = {
    "springline_hold_changed": hold_changed,
    "springline_sensor_changed": sensor_changed,
    "springline_sensor_message": sensor_message,
    "springline_backfill_chunk_ended": backfill_chunk_ended,
    "springline_attempt_noted": attempt_noted,
}
EFFECTS = {
    "run_triggered": run_triggered,
    "run_cancel_requested": run_cancel_requested,
    "task_finished": task_ended,
    "task_completion_recorded": task_ended,
    "run_requested": run_requested,
    "schedule_definition_upserted": schedule_defined,
    "schedule_ticked": schedule_ticked,
    "sensor_evaluated": sensor_evaluated,
    "backfill_created": backfill_created,
    "backfill_chunk_planned": chunk_planned,
}
