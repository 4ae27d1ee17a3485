"""Adversarial ledgers: all event types over few names, so that everything meets everything.

Ids and keys collide, attempts and attempt ids are wrong, timers and dispatches have odd ids, types are unknown, times
are off. Events come as objects, ascending by id; `bodies_of` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from springline.ledger.envelope import payload_from
from springline.ledger.events import derived_key
from springline.ledger.identifiers import run_id_of_key
from springline.ulids import RANDOM_BITS, new_ulid

Object = dict[str, Any]

TENANT, WORKSPACE, SECRET = "acme", "prod", b"secret"
START = datetime(2025, 1, 15, tzinfo=UTC)

RUN_KEYS = ["k:1", "k2"]
RUNS = ["r1", "r2", "r:3", *(run_id_of_key(TENANT, WORKSPACE, key, SECRET) for key in RUN_KEYS)]
TASKS = ["a", "b", "c", "d:e"]
ASSETS = ["raw/a", "mart.b.c", "plain", ".", ""]
PARTITIONS = ["p1", "p2"]
BIG_EPOCHS = [10**13, -(10**13), 2**63, 8_210_266_876_799, -8_334_601_228_800]


def adversarial_ledger(rnd: Random, events: int, days: float = 0.02) -> list[Object]:
    """Return events with distinct, ascending ids.

    Args:
        rnd: makes all choices.
        events: how many.
        days: how long the history is.
    """
    return _Adversary(rnd, days * 86_400_000 / max(events, 1)).ledger(events)


def ledgers(max_events: int = 60, days: float = 0.02) -> st.SearchStrategy[list[Object]]:
    """Return a strategy of adversarial ledgers, with choices that shrink."""
    sizes = st.integers(0, max_events)
    return st.builds(lambda rnd, events: adversarial_ledger(rnd, events, days), st.randoms(), sizes)


def bodies_of(events: list[Object]) -> list[bytes]:
    """Return the events as they stand in a ledger."""
    return [json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() for event in events]


class _Adversary:
    def __init__(self, rnd: Random, gap_ms: float) -> None:
        self._rnd = rnd
        self._gap_ms = gap_ms
        self._keys: list[str] = []
        self._planned: list[tuple[str, str]] = []
        self._attempts: dict[tuple[str, str], int] = {}
        self._begun: list[Object] = []
        self._makers: list[Callable[[], Object]] = [
            self._run_triggered,
            self._run_triggered,
            self._plan_created,
            self._plan_created,
            self._run_cancel_requested,
            *[self._task_started] * 8,
            *[self._task_heartbeat] * 4,
            *[self._task_finished] * 12,
            *[self._task_output_visibility_changed] * 4,
            *[self._dispatch_requested] * 5,
            *[self._dispatch_enqueued] * 3,
            *[self._timer_requested] * 4,
            self._timer_enqueued,
            self._timer_fired,
            self._schedule_definition_upserted,
            self._schedule_ticked,
            *[self._sensor_evaluated] * 2,
            *[self._run_requested] * 2,
            self._backfill_created,
            self._backfill_chunk_planned,
            self._backfill_state_changed,
            self._unknown,
            self._hold_changed,
            self._sensor_changed,
            *[self._sensor_message] * 2,
            *[self._backfill_chunk_ended] * 2,
            *[self._attempt_noted] * 2,
        ]

    def ledger(self, count: int) -> list[Object]:
        rnd = self._rnd
        events = {}
        now_ms = int(START.timestamp() * 1_000)
        last: str | None = None
        for number in range(count):
            now_ms += int(self._gap_ms * rnd.choice((0, 0.5, 1, 2.5)))
            last = new_ulid(last, now_ms, rnd.getrandbits(RANDOM_BITS))
            event_id = self._odd(0.03, (last.lower(), f"{last[:12]}x{number}", f"{last}0"), last)
            events[event_id] = self._event(event_id, now_ms)
        return [events[event_id] for event_id in sorted(events)]

    def _event(self, event_id: str, now_ms: int) -> Object:
        rnd = self._rnd
        data = {name: value for name, value in rnd.choice(self._makers)().items() if value is not None}
        known = data["type"] != "asset_inspected"
        name = "".join(part.capitalize() for part in data["type"].removeprefix("springline_").split("_"))
        named = {name: value for name, value in data.items() if name not in ("payload", "detail")}
        key = derived_key(payload_from(named)) if known else "unknown"
        if (member := self._member(data["type"])) is not None:
            data["springline"] = member
        if rnd.random() < 0.15:
            key = f"{key}:{event_id}"
        elif rnd.random() < 0.05:
            key = rnd.choice((*self._keys, "same"))
        self._keys.append(key)
        return {
            "data": data,
            "event_id": event_id,
            "event_type": self._odd(0.02, ("Odd", "RunTriggered"), name),
            "event_version": 1,
            "idempotency_key": key,
            "source": f"arco-flow/{TENANT}/{WORKSPACE}",
            "tenant_id": TENANT,
            "timestamp": self._time(now_ms),
            "workspace_id": WORKSPACE,
        }

    def _odd(self, chance: float, odd: tuple[Any, ...], usual: Any) -> Any:
        return self._rnd.choice(odd) if self._rnd.random() < chance else usual

    def _maybe(self, value: Any, chance: float = 0.5) -> Any:
        return value if self._rnd.random() < chance else None

    def _time(self, now_ms: int) -> str:
        """Return a time near an instant, or far from it, to the nanosecond."""
        off_ms = self._odd(0.1, (-40 * 86_400_000, -86_400_000, 86_400_000, 35 * 86_400_000), 0)
        ms = now_ms + off_ms + self._rnd.choice((0, 0, -1, 7))
        text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S")
        below = self._rnd.choice((0, 0, 1, 999_999))
        fraction = ms % 1_000 * 1_000_000 + below
        return f"{text}.{fraction:09}Z"

    def _some_time(self) -> str:
        return self._time(int(START.timestamp() * 1_000) + self._rnd.randrange(3) * 1_000)

    def _assets(self) -> list[str]:
        return [self._rnd.choice(ASSETS) for _ in range(self._rnd.randrange(3))]

    # Runs and tasks.

    def _run_triggered(self) -> Object:
        rnd = self._rnd
        labels = {rnd.choice(("kind", "run_kind", "referenceId", "reference_id", "sourceType", "é")): "v"}
        return {
            "type": "run_triggered",
            "run_id": rnd.choice(RUNS),
            "plan_id": "plan",
            "trigger": {"type": "manual", "user_id": "u"},
            "root_assets": [],
            "run_key": self._maybe(rnd.choice(RUN_KEYS), 0.3),
            "labels": self._maybe(labels),
            "code_version": self._maybe("v1"),
        }

    def _plan_created(self) -> Object:
        rnd = self._rnd
        tasks = []
        for index in range(rnd.choice((0, 1, 2, 3, 3, 4, 4))):
            earlier = TASKS[:index] if rnd.random() < 0.9 else [*TASKS, "elsewhere"]
            definition = {
                "key": self._odd(0.05, tuple(TASKS), TASKS[index]),
                "depends_on": [rnd.choice(earlier) for _ in range(rnd.choice((0, 1, 1, 2)))] if earlier else [],
                "asset_key": self._maybe(rnd.choice(ASSETS), 0.7),
                "partition_key": self._maybe(rnd.choice(PARTITIONS), 0.3),
                "max_attempts": rnd.randrange(4),
                "requires_visible_output": rnd.random() < 0.5,
            }
            tasks.append({name: value for name, value in definition.items() if value is not None})
        run_id = rnd.choice(RUNS)
        self._planned += [(run_id, task["key"]) for task in tasks]
        return {"type": "plan_created", "run_id": run_id, "plan_id": "plan", "tasks": tasks}

    def _run_cancel_requested(self) -> Object:
        return {"type": "run_cancel_requested", "run_id": self._rnd.choice(RUNS), "requested_by": "u"}

    def _attempt(self) -> Object:
        rnd = self._rnd
        run_id, task_key = rnd.choice(RUNS), rnd.choice(TASKS)
        if self._planned and rnd.random() < 0.85:
            run_id, task_key = rnd.choice(self._planned[-8:])
        attempt = self._attempts.get((run_id, task_key), 0) + self._odd(0.15, (0, 0, 2), 1)
        return {
            "run_id": run_id,
            "task_key": task_key,
            "attempt": self._odd(0.1, (0, 1, 2), attempt),
            "attempt_id": self._odd(0.1, ("y", "", ""), "x"),
        }

    def _new_attempt(self) -> Object:
        """Return an attempt that may be current from now on."""
        attempt = self._attempt()
        self._attempts[attempt["run_id"], attempt["task_key"]] = attempt["attempt"]
        self._begun.append(attempt)
        return attempt

    def _old_attempt(self) -> Object:
        """Return mostly one of the attempts that were sent or started lately."""
        return self._rnd.choice(self._begun[-5:]) if self._begun and self._rnd.random() < 0.85 else self._attempt()

    def _task_started(self) -> Object:
        attempt = self._old_attempt() if self._rnd.random() < 0.5 else self._new_attempt()
        return {"type": "task_started", **attempt, "worker_id": "w"}

    def _task_heartbeat(self) -> Object:
        beat = self._maybe(self._some_time())
        return {"type": "task_heartbeat", **self._old_attempt(), "worker_id": "w", "heartbeat_at": beat}

    def _task_finished(self) -> Object:
        rnd = self._rnd
        output = {
            "materializationId": self._maybe("m2"),
            "deltaTable": self._maybe('é"t'),
            "deltaVersion": self._maybe(-3),
            "deltaPartition": self._maybe(rnd.choice(PARTITIONS)),
        }
        category = rnd.choice(("USER_CODE", "DATA_QUALITY", "INFRASTRUCTURE", "CONFIGURATION", "TIMEOUT", "CANCELLED"))
        error = {"category": category, "message": "m", "retryable": self._maybe(rnd.random() < 0.5, 0.3)}
        data = {
            "type": "task_finished",
            **self._old_attempt(),
            "worker_id": "w",
            "outcome": rnd.choice(("succeeded", "succeeded", "failed", "failed", "skipped", "cancelled")),
            "materialization_id": self._maybe("m1"),
            "error_message": self._maybe("broken"),
            "output": self._maybe(_without_nulls(output)),
            "error": self._maybe(_without_nulls(error)),
            "asset_key": self._maybe(rnd.choice(ASSETS), 0.7),
            "partition_key": self._maybe(rnd.choice(PARTITIONS)),
            "code_version": self._maybe("v2"),
        }
        if rnd.random() < 0.5:
            data["type"] = "task_completion_recorded"
            data["output_visibility"] = self._maybe(_without_nulls(self._visibility()))
        return data

    def _visibility(self) -> Object:
        return {
            "visibility_state": self._rnd.choice(("pending", "visible", "failed")),
            "published_at": self._maybe(self._some_time()),
            "publish_error": self._maybe("denied"),
        }

    def _task_output_visibility_changed(self) -> Object:
        return {"type": "task_output_visibility_changed", **self._old_attempt(), **self._visibility()}

    # Dispatch and timers.

    def _dispatch_id(self, attempt: Object) -> str:
        usual = f"dispatch:{attempt['run_id']}:{attempt['task_key']}:{attempt['attempt']}"
        return str(self._odd(0.2, ("odd", "dispatch:r1:a:1", f"{usual}:again"), usual))

    def _dispatch_requested(self) -> Object:
        attempt = self._new_attempt()
        queue = self._maybe(self._rnd.choice(("default-queue", "fast", "slow", "")))
        return {
            "type": "dispatch_requested",
            **attempt,
            "dispatch_id": self._dispatch_id(attempt),
            "worker_queue": queue,
        }

    def _dispatch_enqueued(self) -> Object:
        attempt = self._old_attempt()
        return {
            "type": "dispatch_enqueued",
            "dispatch_id": self._dispatch_id(attempt),
            "cloud_task_id": "d_1",
            "run_id": self._maybe(attempt["run_id"], 0.9),
            "task_key": self._maybe(attempt["task_key"], 0.9),
            "attempt": self._maybe(attempt["attempt"], 0.9),
        }

    def _timer(self) -> Object:
        rnd, attempt = self._rnd, self._old_attempt()
        epoch = self._odd(0.1, tuple(BIG_EPOCHS), 1_736_935_200 + rnd.randrange(2))
        kind = rnd.choice(("retry", "retry", "retry", "heartbeat", "sla"))
        task = f"{attempt['run_id']}:{attempt['task_key']}:{attempt['attempt']}"
        timer_id = self._odd(
            0.2,
            (
                "odd",
                f"timer:cron:s1:{epoch}",
                f"timer:{kind}:{task}:{epoch}:retry_reschedule",
                f"timer:retry:{task}:+5",
            ),
            f"timer:{kind}:{task}:{epoch}",
        )
        return {
            "timer_id": timer_id,
            "run_id": self._maybe(attempt["run_id"], 0.8),
            "task_key": self._maybe(attempt["task_key"], 0.8),
            "attempt": self._maybe(attempt["attempt"], 0.8),
        }

    def _timer_requested(self) -> Object:
        kind = self._rnd.choice(("retry", "retry", "retry", "heartbeat_check", "cron", "sla_check"))
        return {"type": "timer_requested", **self._timer(), "timer_type": kind, "fire_at": self._some_time()}

    def _timer_enqueued(self) -> Object:
        return {"type": "timer_enqueued", **self._timer(), "cloud_task_id": "t_1"}

    def _timer_fired(self) -> Object:
        return {"type": "timer_fired", **self._timer(), "timer_type": "cron"}

    # Schedules, sensors, run requests, backfills.

    def _schedule_definition_upserted(self) -> Object:
        return {
            "type": "schedule_definition_upserted",
            "schedule_id": self._rnd.choice(("s1", "s2")),
            "cron_expression": "* * * * *",
            "timezone": "UTC",
            "catchup_window_minutes": self._rnd.randrange(3),
            "max_catchup_ticks": 3,
            "asset_selection": self._assets(),
            "enabled": self._rnd.random() < 0.5,
            "code_version": self._maybe("v1"),
        }

    def _schedule_ticked(self) -> Object:
        statuses = ({"status": "triggered"}, {"status": "skipped", "reason": "é"}, {"status": "failed", "error": "e"})
        return {
            "type": "schedule_ticked",
            "schedule_id": self._rnd.choice(("s1", "s2")),
            "tick_id": self._rnd.choice(("s1:1", "s1:2", "s2:1")),
            "definition_version": "d",
            "scheduled_for": self._some_time(),
            "asset_selection": self._assets(),
            "status": self._rnd.choice(statuses),
            "partition_selection": self._maybe(self._assets()),
            "run_key": self._maybe(self._rnd.choice(RUN_KEYS)),
            "request_fingerprint": self._maybe("f1"),
        }

    def _sensor_evaluated(self) -> Object:
        rnd = self._rnd
        request = {"run_key": "k:1", "request_fingerprint": "f1", "asset_selection": self._assets()}
        statuses = ("triggered", "no_new_data", "skipped_stale_cursor")
        push = {"source": "push", "message_id": f"m{rnd.randrange(9)}"}
        return {
            "type": "sensor_evaluated",
            "sensor_id": rnd.choice(("n1", "n2")),
            "eval_id": rnd.choice(("e1", "e2", "e3")),
            "trigger_source": rnd.choice((push, {"source": "poll", "poll_epoch": rnd.randrange(-3, 3)})),
            "status": self._odd(0.2, ({"status": "error", "message": "m"},), {"status": rnd.choice(statuses)}),
            "cursor_before": self._maybe("c0"),
            "cursor_after": self._maybe("c1"),
            "expected_state_version": self._maybe(rnd.randrange(3)),
            "run_requests": self._maybe([request]),
        }

    def _run_requested(self) -> Object:
        rnd = self._rnd
        sources = (
            {"type": "schedule", "schedule_id": "s1", "tick_id": rnd.choice(("s1:1", "s2:1", "s9:9"))},
            {"type": "sensor", "sensor_id": "n1", "eval_id": rnd.choice(("e1", "e2", "e9"))},
            {"type": "backfill", "backfill_id": "bf", "chunk_id": rnd.choice(("bf:0", "bf:1", "bf:9"))},
            {"type": "manual", "user_id": "u", "request_id": "q"},
        )
        return {
            "type": "run_requested",
            "run_key": rnd.choice((*RUN_KEYS, "k3")),
            "request_fingerprint": rnd.choice(("f1", "f1", "f2")),
            "asset_selection": [],
            "trigger_source_ref": rnd.choice(sources),
            "code_version": self._maybe("v1"),
        }

    def _backfill_created(self) -> Object:
        selectors = (
            {"type": "range", "start": "1", "end": "2"},
            {"type": "explicit", "partition_keys": PARTITIONS},
            {"type": "filter", "filters": {"z": "1", "a": "2"}},
        )
        return {
            "type": "backfill_created",
            "backfill_id": self._rnd.choice(("bf", "bg")),
            "client_request_id": f"q{self._rnd.randrange(9)}",
            "asset_selection": self._assets(),
            "partition_selector": self._rnd.choice(selectors),
            "total_partitions": 4,
            "chunk_size": self._rnd.choice((0, 2)),
            "max_concurrent_runs": 1,
            "code_version": self._maybe("v1"),
            "parent_backfill_id": self._maybe("bf"),
        }

    def _backfill_chunk_planned(self) -> Object:
        backfill, index = self._rnd.choice(("bf", "bg")), self._rnd.randrange(3)
        return {
            "type": "backfill_chunk_planned",
            "backfill_id": backfill,
            "chunk_id": self._odd(0.1, ("odd", "bf:0"), f"{backfill}:{index}"),
            "chunk_index": index,
            "partition_keys": PARTITIONS[: self._rnd.randrange(3)],
            "run_key": "k3",
            "request_fingerprint": "f1",
        }

    def _backfill_state_changed(self) -> Object:
        states = ("PENDING", "RUNNING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED")
        return {
            "type": "backfill_state_changed",
            "backfill_id": self._rnd.choice(("bf", "bg")),
            "from_state": self._rnd.choice(states),
            "to_state": self._rnd.choice(states),
            "state_version": self._rnd.choice((2, 2, 3, 4)),
        }

    def _unknown(self) -> Object:
        return {"type": "asset_inspected", "run_id": "r1"}

    # What is ours.

    def _member(self, kind: str) -> Any:
        """Return the member of a payload: mostly none, mostly one that its type has, and all that another may write."""
        rnd = self._rnd
        if rnd.random() < 0.6:
            return None
        odd: tuple[Any, ...] = (
            "text",
            7,
            [],
            {},
            {"other": {"a": [None, 0.5]}},
            {"reason_code": "x" * 17_000},
            {"reason_code": 7},
        )
        fields = MEMBER_FIELDS.get("task_end" if kind in ENDS else kind, {})
        said = {name: rnd.choice(values) for name, values in fields.items() if rnd.random() < 0.6}
        return self._odd(0.2, odd, said)

    def _hold_changed(self) -> Object:
        return {
            "type": "springline_hold_changed",
            "change_id": f"h{self._rnd.randrange(9)}",
            "held": self._rnd.random() < 0.5,
            "changed_by": "u",
            "reason": self._maybe("é"),
        }

    def _sensor_changed(self) -> Object:
        change = self._rnd.choice(("paused", "resumed", "reset", "cursor_set"))
        return {
            "type": "springline_sensor_changed",
            "sensor_id": self._rnd.choice(("n1", "n2")),
            "change_id": f"c{self._rnd.randrange(9)}",
            "change": change,
            "changed_by": "u",
            "cursor": self._maybe("c7"),
        }

    def _sensor_message(self) -> Object:
        payloads: tuple[Any, ...] = ({"b": 1, "a": [0.5, None, "é"]}, "text", 0, False, [])
        return {
            "type": "springline_sensor_message",
            "sensor_id": self._rnd.choice(("n1", "n2")),
            "message_id": f"m{self._rnd.randrange(9)}",
            "payload": self._maybe(self._rnd.choice(payloads)),
        }

    def _backfill_chunk_ended(self) -> Object:
        rnd = self._rnd
        backfill, index = rnd.choice(("bf", "bg")), rnd.randrange(3)
        return {
            "type": "springline_backfill_chunk_ended",
            "backfill_id": backfill,
            "chunk_id": self._odd(0.2, ("odd", "bf:0"), f"{backfill}:{index}"),
            "chunk_index": index,
            "outcome": rnd.choice(("succeeded", "failed", "skipped", "cancelled")),
            "done": rnd.randrange(3),
            "failed": self._maybe(PARTITIONS[: rnd.randrange(3)]),
            "skipped": self._maybe(PARTITIONS[:1]),
            "keys_path": self._maybe("keys"),
            "keys_sha256": self._maybe("0"),
            "reason_code": self._maybe("why"),
        }

    def _attempt_noted(self) -> Object:
        return {
            "type": "springline_attempt_noted",
            **self._old_attempt(),
            "note": self._rnd.choice(("late_end", "lost", "")),
            "detail": self._maybe(self._rnd.choice(({"b": 1, "a": 2}, [1.5], "x", 0))),
        }


ENDS = ("task_finished", "task_completion_recorded")
_INSTANTS = ("2025-01-15T10:00:00.123456789Z", "2025-01-15T11:00:00+01:00", "never", 5, None)
_COUNTS = (0, 3, -1, 2**32, 1.0, True, "3")
MEMBER_FIELDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "run_triggered": {
        "request_event_id": ("01J", 5),
        "effects_scope": ("r1", None),
        "config": ({"b": 0.5, "a": {"é": [1, None]}}, {}, [], "x"),
    },
    "run_cancel_requested": {"reason_code": ("user", ["x"])},
    "task_end": {
        "started_at": _INSTANTS,
        "ended_at": _INSTANTS,
        "reason_code": ("crashed", 1),
        "tables": (
            [{"table": "t", "version": 3, "operation": "append", "rows": 2**40, "other": 1}],
            [{"table": "t"}],
            [],
            {},
        ),
        "checks": (
            [{"name": "n", "severity": "warn", "passed": True, "message": None}, {"name": "m"}],
            [{"name": "n", "severity": "error", "passed": False, "message": "é"}],
        ),
        "log_chunks": _COUNTS,
    },
    "schedule_definition_upserted": {
        "dialect": ("unix", "reference", "vixie"),
        "interval_seconds": _COUNTS,
        "overlap": ("allow", "skip", "queue_one", "maybe"),
        "max_active_runs": _COUNTS,
        "jitter_seconds": _COUNTS,
        "deleted": (True, False, 0),
    },
    "backfill_created": {
        "order": ("oldest_first", "newest_first", "any"),
        "priority": (-10, 0, 2**63, 1.0, True, "3"),
        "request_fingerprint": ("f" * 64, "g", 5),
    },
}
"""Values of the fields of members, right and wrong, by type of event."""


def _without_nulls(value: Object) -> Object:
    return {name: item for name, item in value.items() if item is not None}
