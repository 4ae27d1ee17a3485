"""The slow fold: timers, schedules, sensors, run requests and backfills.

See docs/events.md#fold-timers, docs/events.md#fold-automation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from springline.ledger.timestamps import parse_timestamp
from tests.fold.model_tables import Object, Tables, json_text, row_of

TIMER_TYPES = {"retry": "RETRY", "heartbeat": "HEARTBEAT_CHECK", "cron": "CRON", "sla": "SLA_CHECK"}
STALE = '{"status":"skipped_stale_cursor"}'
MOVES = [
    "PENDING>RUNNING",
    "PAUSED>RUNNING",
    "RUNNING>PAUSED",
    "RUNNING>SUCCEEDED",
    "RUNNING>FAILED",
    "PENDING>CANCELLED",
    "RUNNING>CANCELLED",
    "PAUSED>CANCELLED",
]


def timer_requested(m: Tables, data: Object, ev: str) -> bool:
    """4.10."""
    fire_at = parse_timestamp(data["fire_at"])
    row = m.timers.get(data["timer_id"])
    applied = False
    if row is not None:
        before = dict(row)
        row["fire_at"] = fire_at
        for name in ("run_id", "task_key", "attempt"):
            if row[name] is None:
                row[name] = data.get(name)
        applied = row != before
    else:
        m.timers[data["timer_id"]] = row_of(
            "timers",
            timer_id=data["timer_id"],
            timer_type=data["timer_type"].upper(),
            run_id=data.get("run_id"),
            task_key=data.get("task_key"),
            attempt=data.get("attempt"),
            fire_at=fire_at,
            state="SCHEDULED",
            row_version=ev,
        )
        applied = True
    present = all(data.get(name) is not None for name in ("run_id", "task_key", "attempt"))
    if data["timer_type"] == "retry" and present:
        task = m.tasks.get((data["run_id"], data["task_key"]))
        if task is not None and (task["state"], task["attempt"]) == ("RETRY_WAIT", data["attempt"]):
            task.update(retry_not_before=fire_at, row_version=ev)
            applied = True
    return applied


def _parsed(timer_id: str) -> Object | None:
    parts = timer_id.split(":")
    if parts[0] != "timer" or len(parts) < 2 or parts[1] not in TIMER_TYPES:
        return None
    if not re.fullmatch("[+-]?[0-9]+", parts[-1]) or not -(2**63) <= int(parts[-1]) < 2**63:
        return None
    found = {"timer_type": TIMER_TYPES[parts[1]], "fire_at": int(parts[-1]) * 10**9}
    if not -8_334_601_228_800 <= int(parts[-1]) <= 8_210_266_876_799:
        return None  # W20: the wall clock, which no fold has
    if parts[1] == "cron":
        return found
    if len(parts) < 5 or not re.fullmatch("[+]?[0-9]+", parts[4]) or int(parts[4]) >= 2**32:
        return None
    return {**found, "run_id": parts[2], "task_key": parts[3], "attempt": int(parts[4])}


def _timer_moved(m: Tables, data: Object, ev: str, **changes: Any) -> bool:
    row = m.timers.get(data["timer_id"])
    if row is not None:
        if ev <= row["row_version"]:
            return False
        row.update(**changes, row_version=ev)
        return True
    parsed = _parsed(data["timer_id"])
    if parsed is None:
        return False
    said = {name: data[name] for name in ("run_id", "task_key", "attempt") if data.get(name) is not None}
    values = {"state": "SCHEDULED", **parsed, **said, **changes}
    m.timers[data["timer_id"]] = row_of("timers", timer_id=data["timer_id"], row_version=ev, **values)
    return True


def timer_enqueued(m: Tables, data: Object, ev: str) -> bool:
    """4.10."""
    return _timer_moved(m, data, ev, cloud_task_id=data["cloud_task_id"])


def timer_fired(m: Tables, data: Object, ev: str) -> bool:
    """4.10."""
    return _timer_moved(m, data, ev, state="FIRED")


def schedule_definition_upserted(m: Tables, data: Object, ev: str) -> bool:
    """4.12."""
    old = m.schedule_definitions.get(data["schedule_id"])
    if old is not None and ev <= old["row_version"]:
        return False
    m.schedule_definitions[data["schedule_id"]] = row_of(
        "schedule_definitions",
        **m.scope(),
        **{
            name: data.get(name)
            for name in [
                "schedule_id",
                "cron_expression",
                "timezone",
                "catchup_window_minutes",
                "code_version",
                "max_catchup_ticks",
                "enabled",
            ]
        },
        asset_selection=json_text(data["asset_selection"]) if data["asset_selection"] else None,
        created_at=m.ts if old is None else old["created_at"],
        row_version=ev,
    )
    return True


def schedule_ticked(m: Tables, data: Object, ev: str) -> bool:
    """4.12."""
    placeholder = row_of("schedule_state", **m.scope(), schedule_id=data["schedule_id"], row_version="")
    state = m.schedule_state.setdefault(data["schedule_id"], placeholder)
    changed = bool(ev > state["row_version"])
    scheduled_for, run_key = parse_timestamp(data["scheduled_for"]), data.get("run_key")
    if changed:
        state.update(
            last_scheduled_for=scheduled_for, last_tick_id=data["tick_id"], last_run_key=run_key, row_version=ev
        )
    old = m.schedule_ticks.get(data["tick_id"])
    if old is not None and ev <= old["row_version"]:
        return changed
    partitions = data.get("partition_selection")
    m.schedule_ticks[data["tick_id"]] = row_of(
        "schedule_ticks",
        **m.scope(),
        tick_id=data["tick_id"],
        schedule_id=data["schedule_id"],
        scheduled_for=scheduled_for,
        definition_version=data["definition_version"],
        asset_selection=json_text(data["asset_selection"]) if data["asset_selection"] else None,
        partition_selection=None if partitions is None else json_text(partitions),
        status=json_text(data["status"]),
        run_key=run_key,
        run_id=None if run_key is None else m.run_id_of(run_key),
        request_fingerprint=data.get("request_fingerprint"),
        row_version=ev,
    )
    return True


def sensor_evaluated(m: Tables, data: Object, ev: str) -> bool:
    """4.12."""
    placeholder = row_of(
        "sensor_state",
        **m.scope(),
        sensor_id=data["sensor_id"],
        status="ACTIVE",
        state_version=0,
        row_version="",
    )
    state = m.sensor_state.setdefault(data["sensor_id"], placeholder)
    expected = data.get("expected_state_version")
    stale = expected is not None and expected != state["state_version"]
    old = m.sensor_evals.get(data["eval_id"])
    changed = old is None or old["row_version"] < ev
    if changed:
        m.sensor_evals[data["eval_id"]] = row_of(
            "sensor_evals",
            **m.scope(),
            eval_id=data["eval_id"],
            sensor_id=data["sensor_id"],
            cursor_before=data.get("cursor_before"),
            cursor_after=data.get("cursor_after"),
            expected_state_version=expected,
            trigger_source=json_text(data["trigger_source"]),
            run_requests=json_text(data["run_requests"]) if data.get("run_requests") else None,
            status=STALE if stale else json_text(data["status"]),
            evaluated_at=m.ts,
            row_version=ev,
        )
    if stale or ev <= state["row_version"]:
        return changed
    state.update(cursor=data.get("cursor_after"), last_evaluation_at=m.ts, last_eval_id=data["eval_id"], row_version=ev)
    state["state_version"] += 1
    return True


def run_requested(m: Tables, data: Object, ev: str) -> bool:
    """4.12."""
    source, run_key = data["trigger_source_ref"], data["run_key"]
    if source["type"] == "sensor":
        evaluation = m.sensor_evals.get(source["eval_id"])
        if evaluation is not None and evaluation["status"] == STALE:
            return False
    known = m.run_key_index.get(run_key)
    if known is not None:
        if known["request_fingerprint"] != data["request_fingerprint"]:
            m.run_key_conflicts[f"conflict:{run_key}:{ev}"] = row_of(
                "run_key_conflicts",
                **m.scope(),
                run_key=run_key,
                existing_fingerprint=known["request_fingerprint"],
                conflicting_fingerprint=data["request_fingerprint"],
                conflicting_event_id=ev,
                detected_at=m.ts,
            )
        return True
    m.run_key_index[run_key] = row_of(
        "run_key_index",
        **m.scope(),
        run_key=run_key,
        run_id=m.run_id_of(run_key),
        request_fingerprint=data["request_fingerprint"],
        code_version=data.get("code_version"),
        created_at=m.ts,
        row_version=ev,
    )
    if source["type"] == "schedule" and source["tick_id"] in m.schedule_ticks:
        m.schedule_ticks[source["tick_id"]]["run_id"] = m.run_id_of(run_key)
    if source["type"] == "backfill" and source["chunk_id"] in m.backfill_chunks:
        m.backfill_chunks[source["chunk_id"]]["run_id"] = m.run_id_of(run_key)
    return True


def _contiguous(m: Tables, backfill_id: str) -> int:
    count = 0
    while f"{backfill_id}:{count}" in m.backfill_chunks:
        count += 1
    return count


def backfill_created(m: Tables, data: Object, ev: str) -> bool:
    """4.12."""
    if data["backfill_id"] in m.backfills:
        return False
    m.backfills[data["backfill_id"]] = row_of(
        "backfills",
        **m.scope(),
        **{
            name: data.get(name)
            for name in [
                "backfill_id",
                "code_version",
                "chunk_size",
                "max_concurrent_runs",
                "total_partitions",
                "parent_backfill_id",
            ]
        },
        asset_selection=json_text(data["asset_selection"]),
        partition_selector=json_text(data["partition_selector"]),
        state="RUNNING",
        state_version=1,
        planned_chunks=_contiguous(m, data["backfill_id"]) if data["chunk_size"] else 0,
        completed_chunks=0,
        failed_chunks=0,
        created_at=m.ts,
        row_version=ev,
    )
    return True


def backfill_chunk_planned(m: Tables, data: Object, ev: str) -> bool:
    """4.12."""
    old = m.backfill_chunks.get(data["chunk_id"])
    if old is not None and ev <= old["row_version"]:
        return False
    m.backfill_chunks[data["chunk_id"]] = row_of(
        "backfill_chunks",
        **m.scope(),
        chunk_id=data["chunk_id"],
        backfill_id=data["backfill_id"],
        chunk_index=data["chunk_index"],
        partition_keys=json_text(data["partition_keys"]),
        run_key=data["run_key"],
        run_id=None if old is None else old["run_id"],
        state="PLANNED",
        row_version=ev,
    )
    backfill = m.backfills.get(data["backfill_id"])
    if backfill is not None:
        planned = backfill["planned_chunks"]
        while f"{data['backfill_id']}:{planned}" in m.backfill_chunks:
            planned += 1
        if planned != backfill["planned_chunks"]:
            backfill.update(planned_chunks=planned, row_version=ev)
    return True


def backfill_state_changed(m: Tables, data: Object, ev: str) -> bool:
    """4.12."""
    row = m.backfills.get(data["backfill_id"])
    if row is None or ev <= row["row_version"] or row["state"] != data["from_state"]:
        return False
    if f"{data['from_state']}>{data['to_state']}" not in MOVES or data["state_version"] != row["state_version"] + 1:
        return False
    row.update(state=data["to_state"], state_version=data["state_version"], row_version=ev)
    return True


HANDLERS: dict[str, Callable[[Any, Object, str], bool]] = {
    "timer_requested": timer_requested,
    "timer_enqueued": timer_enqueued,
    "timer_fired": timer_fired,
    "schedule_definition_upserted": schedule_definition_upserted,
    "schedule_ticked": schedule_ticked,
    "sensor_evaluated": sensor_evaluated,
    "run_requested": run_requested,
    "backfill_created": backfill_created,
    "backfill_chunk_planned": backfill_chunk_planned,
    "backfill_state_changed": backfill_state_changed,
}
