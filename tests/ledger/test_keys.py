"""Idempotency keys, correlation ids and guessed types: the examples of docs/formats.md#event-keys and
docs/formats.md#identifiers and the golden vectors.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from springline.ledger import events as e
from springline.ledger.envelope import payload_from
from springline.ledger.events import correlation_of, derived_key, event_type_of_legacy_key
from tests.ledger.strategies import DATA

SCHEDULE = {
    "type": "schedule_definition_upserted",
    "schedule_id": "s1",
    "cron_expression": "0 10 * * *",
    "timezone": "UTC",
    "catchup_window_minutes": 1440,
    "max_catchup_ticks": 3,
    "enabled": True,
    "asset_selection": ["b", "a"],
}
SENSOR = {
    "type": "sensor_evaluated",
    "sensor_id": "01HQ123POLLSENS",
    "eval_id": "e",
    "status": {"status": "no_new_data"},
    "trigger_source": {"source": "poll", "poll_epoch": 1_736_935_200},
}
CURSOR_SHA = "e497c3e7775e78085ccf1963d52a98d5fe85d768d704599ad7b2d468fa469ca6"
BEAT = {
    "type": "task_heartbeat",
    "run_id": "01HQXYZ123RUN",
    "task_key": "extract",
    "attempt": 1,
    "attempt_id": "01HQXYZ456ATT",
    "worker_id": "w",
}
TRIGGERED = {
    "type": "run_triggered",
    "run_id": "r",
    "plan_id": "p",
    "trigger": {"type": "manual", "user_id": "u"},
    "root_assets": [],
}
SHOWN = {
    "type": "task_output_visibility_changed",
    "run_id": "run123",
    "task_key": "extract",
    "attempt": 1,
    "attempt_id": "a",
    "visibility_state": "visible",
}


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (SCHEDULE, "sched_def:s1:1454f3136f1bb91ed20105af2133117e2ee23bb1475ff84d541db96b690ab39a"),
        (SENSOR | {"cursor_before": "cursor_v1"}, f"sensor_eval:01HQ123POLLSENS:poll:1736935200:{CURSOR_SHA}"),
        (SENSOR, "sensor_eval:01HQ123POLLSENS:poll:1736935200:none"),
        (
            SENSOR | {"trigger_source": {"source": "push", "message_id": "msg_abc123"}},
            "sensor_eval:01HQ123POLLSENS:msg:msg_abc123",
        ),
        (BEAT, "heartbeat:01HQXYZ123RUN:extract:1:01HQXYZ456ATT"),
        (
            BEAT | {"heartbeat_at": "2025-01-15T11:00:05.123999999+01:00"},
            "heartbeat:01HQXYZ123RUN:extract:1:01HQXYZ456ATT:1736935205123",
        ),
        (
            BEAT | {"heartbeat_at": "1969-12-31T23:59:59.9995Z"},
            "heartbeat:01HQXYZ123RUN:extract:1:01HQXYZ456ATT:-1",
        ),
        (TRIGGERED, "run:r"),
        (TRIGGERED | {"run_key": "daily:2025-01-15"}, "run:daily:2025-01-15"),
        (TRIGGERED | {"run_key": ""}, "run:"),
        (SHOWN, "output_visibility:run123:extract:1:visible"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_keys(data: dict[str, Any], key: str) -> None:
    assert derived_key(payload_from(data)) == key


def test_a_disabled_schedule_has_another_key_and_a_code_version_changes_nothing() -> None:
    assert derived_key(payload_from(SCHEDULE | {"enabled": False})) != derived_key(payload_from(SCHEDULE))
    assert derived_key(payload_from(SCHEDULE | {"code_version": "v"})) == derived_key(payload_from(SCHEDULE))


@given(DATA)
def test_the_prefix_of_a_key_tells_its_type(data: dict[str, Any]) -> None:
    payload = payload_from(data)
    guessed = event_type_of_legacy_key(derived_key(payload))
    if isinstance(payload, e.TaskCompletionRecorded):
        assert guessed == "TaskFinished", "the two share one key"
    elif isinstance(payload, e.TaskOutputVisibilityChanged):
        assert guessed == "LegacyUnknown", "the reference's table lacks it"
    elif e.EVENT_TYPES[type(payload)].is_ours:
        assert guessed == "LegacyUnknown", "files without the column are older"
    else:
        assert guessed == type(payload).__name__
    assert correlation_of(payload) == data.get("run_id")


@pytest.mark.parametrize("key", ["", "unknown", "backfill_retry:a:b", "sched_def_api:s:k", "Run:r", ":run"])
def test_other_keys_tell_nothing(key: str) -> None:
    assert event_type_of_legacy_key(key) == "LegacyUnknown"
