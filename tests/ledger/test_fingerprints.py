"""Ids, fingerprints and texts: the reference's vectors that no other test takes, and the specification's."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.delta.identity import strict_request_hash
from springline.ledger import events as e
from springline.ledger.envelope import compose_event, parse_event, payload_from
from springline.ledger.events import correlation_of, derived_key
from springline.ledger.fingerprints import (
    FingerprintedTask,
    RerunKind,
    backfill_fingerprint,
    chunk_fingerprint,
    plan_fingerprint,
    plan_task_key,
    rerun_run_key,
    schedule_fingerprint,
    selection_fingerprint,
    trigger_fingerprint,
)
from springline.ledger.identifiers import (
    TimerName,
    attempt_id,
    backfill_chunk_id,
    backfill_run_key,
    callback_task_id,
    canonical_asset_key,
    canonical_partition,
    cron_timer_id,
    dispatch_id,
    dispatch_task_id,
    heartbeat_timer_id,
    manual_schedule_run_key,
    manual_tick_id,
    parse_callback_task_id,
    parse_timer_id,
    plan_id_of_run,
    retry_timer_id,
    run_id_of_key,
    run_key_conflict_id,
    schedule_run_key,
    sensor_eval_id,
    sha256_hex,
    tick_id,
    timer_task_id,
)
from springline.ledger.nested import BackfillRef, ManualTrigger, TaskDefinition
from springline.ledger.timestamps import NS_PER_SECOND, parse_timestamp
from springline.projection.config import FoldConfig
from springline.projection.fold.loop import fold_event
from springline.projection.state import State
from springline.ulids import new_ulid, nth_ulid, ulid_time_ms
from tests.support.event_samples import GOLDEN_DIR

GOLDEN: dict[str, Any] = json.loads((GOLDEN_DIR / "fingerprints.json").read_bytes())
ELSEWHERE = (
    Path(__file__).parents[1] / "unit" / "test_paths.py",
    Path(__file__).parents[1] / "unit" / "test_keys.py",
    Path(__file__).parent / "test_canonical.py",
    Path(__file__),
)


def test_every_function_is_taken() -> None:
    sources = "".join(path.read_text() for path in ELSEWHERE)
    assert set(re.findall(r'(?:GOLDEN|read_bytes\(\)\)|read_text\(\)\))\["(\w+)"\]', sources)) == set(GOLDEN)


@pytest.mark.parametrize("vector", GOLDEN["sha256_hex"], ids=str)
def test_hashes(vector: dict[str, Any]) -> None:
    assert sha256_hex(vector["input"]) == vector["hex"]


def test_the_references_request_hash() -> None:
    golden = GOLDEN["delta_request_hash"]
    request = golden["request"]
    payload_sha = hashlib.sha256(golden["payload"].encode()).hexdigest()
    made = strict_request_hash(request["idempotency_key"], request["read_version"], request["staged_path"], payload_sha)
    assert made == golden["marker"]["request_hash"]


@pytest.mark.parametrize("vector", GOLDEN["run_id_from_run_key"], ids=range(23))
def test_run_ids(vector: dict[str, Any]) -> None:
    secret = bytes.fromhex(vector["secret_hex"])
    assert run_id_of_key(vector["tenant"], vector["workspace"], vector["run_key"], secret) == vector["run_id"]


@pytest.mark.parametrize(
    ("secret", "run_id"),
    [(b"test-secret", "run_ba6mduulcrdaksbnw2imp3eiwq"), (b"", "run_wtvfx6ydvrke4qoyxbrgd2frbm")],
)
def test_run_ids_of_the_specification(secret: bytes, run_id: str) -> None:
    assert run_id_of_key("tenant-abc", "workspace-prod", "sched:daily-etl:1736935200", secret) == run_id


@pytest.mark.parametrize("vector", GOLDEN["cloud_task_and_attempt_ids"], ids=lambda vector: vector["internal_id"])
def test_cloud_task_and_attempt_ids(vector: dict[str, Any]) -> None:
    internal = vector["internal_id"]
    assert dispatch_task_id(internal) == vector["d"]
    assert timer_task_id(internal) == vector["t"]
    assert attempt_id(internal) == vector["attempt_id"]


def test_ids_of_the_specification() -> None:
    assert dispatch_id("run123", "extract", 1) == "dispatch:run123:extract:1"
    assert heartbeat_timer_id("run1", "extract", 1, 1_705_320_000) == "timer:heartbeat:run1:extract:1:1705320000"
    assert cron_timer_id("daily-etl", 1_705_320_000) == "timer:cron:daily-etl:1705320000"
    retry = retry_timer_id("run1", "extract", 1, 1_705_340_400)
    assert timer_task_id(retry) == "t_hlljqq57362d4n3x2kett7jrqf"
    assert callback_task_id("run-123", "analytics.daily_sales") == "ct1_cnVuLTEyMwBhbmFseXRpY3MuZGFpbHlfc2FsZXM"
    assert plan_id_of_run("run_x") == "plan:run_x"
    assert sensor_eval_id("files", "01JHMP") == "eval_files_01JHMP"
    assert run_key_conflict_id("k", "01JHMP") == "conflict:k:01JHMP"


@pytest.mark.parametrize("vector", GOLDEN["callback_task_id"], ids=lambda vector: vector["id"])
def test_callback_task_ids(vector: dict[str, Any]) -> None:
    assert callback_task_id(vector["run_id"], vector["task_key"]) == vector["id"]
    assert parse_callback_task_id(vector["id"]) == (vector["run_id"], vector["task_key"])


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_callback_task_ids_come_back(run_id: str, task_key: str) -> None:
    parsed = parse_callback_task_id(callback_task_id(run_id, task_key))
    good = run_id != "" and task_key != "" and "\0" not in run_id + task_key
    assert parsed == ((run_id, task_key) if good else None)


@pytest.mark.parametrize(
    "text", ["", "ct1_", "ct1_cnVuMQ", "cnVuMQBleHRyYWN0", "ct1_%%%", "ct1_cnVuMQBleHRyYWN0=", "ct1_wA"]
)
def test_other_texts_are_no_callback_task_ids(text: str) -> None:
    assert parse_callback_task_id(text) is None


@pytest.mark.parametrize("vector", GOLDEN["parse_timer_id"], ids=lambda vector: vector["timer_id"])
def test_timer_ids(vector: dict[str, Any]) -> None:
    parsed = vector["parsed"]
    assert parse_timer_id(vector["timer_id"]) == (None if parsed is None else TimerName(**parsed))


@pytest.mark.parametrize(
    ("timer_id", "name"),
    [
        ("timer:cron:-5", TimerName("CRON", -5)),
        ("timer:cron:a:b:+7", TimerName("CRON", 7)),
        ("timer:cron:9223372036854775807", TimerName("CRON", 2**63 - 1)),
        ("timer:cron:-9223372036854775808", TimerName("CRON", -(2**63))),
        ("timer:cron:0000000000000000000000005", TimerName("CRON", 5)),
        ("timer:cron:9223372036854775808", None),
        ("timer:cron:\u0661", None),
        ("timer:cron:1_0", None),
        ("timer:cron: 1", None),
        ("timer:cron", None),
        ("timer:retry:r:t:1", TimerName("RETRY", 1, "r", "t", 1)),
        ("timer:retry:r:t:1:junk:5", TimerName("RETRY", 5, "r", "t", 1)),
        ("timer:retry::t:+4294967295:5", TimerName("RETRY", 5, "", "t", 2**32 - 1)),
        ("timer:retry:r:t:4294967296:5", None),
        ("timer:retry:r:t:-1:5", None),
        ("timer:retry:r:5", None),
        ("timer:retry:r:t:1:5:retry_reschedule", None),
        ("Timer:cron:5", None),
    ],
    ids=str,
)
def test_timer_ids_at_the_edges(timer_id: str, name: TimerName | None) -> None:
    assert parse_timer_id(timer_id) == name


@given(st.text(st.characters(exclude_characters=":")), st.integers(0, 2**32 - 1), st.integers(-(2**63), 2**63 - 1))
def test_timer_ids_come_back(text: str, attempt: int, epoch: int) -> None:
    assert parse_timer_id(retry_timer_id(text, text, attempt, epoch)) == TimerName("RETRY", epoch, text, text, attempt)
    assert parse_timer_id(heartbeat_timer_id("r", text, attempt, epoch)) == TimerName(
        "HEARTBEAT_CHECK", epoch, "r", text, attempt
    )
    assert parse_timer_id(cron_timer_id(text, epoch)) == TimerName("CRON", epoch)


@pytest.mark.parametrize("vector", GOLDEN["event_idempotency"], ids=range(len(GOLDEN["event_idempotency"])))
def test_keys_and_correlation_ids(vector: dict[str, Any]) -> None:
    if vector["data"] == {"type": "unknown"}:
        assert (vector["idempotency_key"], vector["correlation_id"]) == ("unknown", None)
        return
    payload = payload_from(vector["data"])
    assert derived_key(payload) == vector["idempotency_key"]
    assert correlation_of(payload) == vector["correlation_id"]
    assert type(payload).__name__ == vector["event_type"]


@pytest.mark.parametrize("vector", GOLDEN["backfill_plan_chunk"], ids=lambda vector: repr(vector["partition_keys"]))
def test_chunks_of_backfills(vector: dict[str, Any]) -> None:
    if not vector["events"]:
        assert vector["partition_keys"] == []
        return
    planned, requested = (payload_from(event["data"]) for event in vector["events"])
    chunk = e.BackfillChunkPlanned(
        backfill_id="bf_1",
        chunk_id=backfill_chunk_id("bf_1", 3),
        chunk_index=3,
        partition_keys=vector["partition_keys"],
        run_key=backfill_run_key("bf_1", 3),
        request_fingerprint=chunk_fingerprint(vector["partition_keys"]),
    )
    assert planned == chunk
    assert requested == e.RunRequested(
        run_key=chunk.run_key,
        request_fingerprint=chunk.request_fingerprint,
        asset_selection=["mart.b"],
        trigger_source_ref=BackfillRef("bf_1", chunk.chunk_id),
        partition_selection=vector["partition_keys"],
    )
    assert [derived_key(planned), derived_key(requested)] == [event["idempotency_key"] for event in vector["events"]]


def check_tick(tick: dict[str, Any], requested: dict[str, Any] | None, *, manual: bool) -> None:
    """Check the ids in a tick's events against its second, and all keys."""
    data = tick["data"]
    epoch = parse_timestamp(data["scheduled_for"]) // NS_PER_SECOND
    make_tick, make_run_key = (manual_tick_id, manual_schedule_run_key) if manual else (tick_id, schedule_run_key)
    assert data["tick_id"] == make_tick("sched_1", epoch)
    assert derived_key(payload_from(data)) == tick["idempotency_key"]
    if requested is None:
        assert data["status"]["status"] == "failed"
        return
    fingerprint = schedule_fingerprint(data["asset_selection"])
    assert data["run_key"] == requested["data"]["run_key"] == make_run_key("sched_1", epoch)
    assert data["request_fingerprint"] == requested["data"]["request_fingerprint"] == fingerprint
    assert derived_key(payload_from(requested["data"])) == requested["idempotency_key"]


@pytest.mark.parametrize("vector", GOLDEN["schedule_reconcile"], ids=lambda vector: vector["cron"])
def test_ticks(vector: dict[str, Any]) -> None:
    events = list(vector["events"])
    assert events
    while events:
        tick = events.pop(0)
        requested = events.pop(0) if events and events[0]["event_type"] == "RunRequested" else None
        check_tick(tick, requested, manual=False)


def test_manual_ticks() -> None:
    tick, requested = GOLDEN["schedule_manual_trigger"]
    check_tick(tick, requested, manual=True)


@pytest.mark.parametrize(
    ("assets", "partitions", "fingerprint"),
    [
        (["b", "a"], None, "1eb7c54d52831bbfe8942af0b1c56b7409523a59ed6ca99c1174fef7eb32c1b5"),
        (["a"], ["p2", "p1"], "07354edf9186329e2dc2bfc300d2482fad1b30c32aa8f2c8d4cf1b00738f4bac"),
        (["raw.a", "mart.b"], None, "14ab87f3c25e05c0fb9229797c2fb91d8d7c1182f6f1e29a2d90568330ac0e9d"),
    ],
)
def test_schedule_fingerprints(assets: list[str], partitions: list[str] | None, fingerprint: str) -> None:
    assert schedule_fingerprint(assets, partitions) == fingerprint


def test_no_partitions_are_not_an_empty_list_of_them() -> None:
    assert schedule_fingerprint(["a"], []) == sha256_hex("a;partitions:") != schedule_fingerprint(["a"])


@pytest.mark.parametrize("vector", GOLDEN["canonicalize_asset_key"], ids=lambda vector: repr(vector["input"]))
def test_asset_keys(vector: dict[str, Any]) -> None:
    if "ok" in vector["result"]:
        assert canonical_asset_key(vector["input"]) == vector["result"]["ok"]
        return
    with pytest.raises(ValueError, match="asset key") as caught:
        canonical_asset_key(vector["input"])
    blamed = re.search(r": invalid ((?:namespace|name) '.*')$", vector["result"]["error"])
    assert blamed is None or f"has the {blamed[1]}" in str(caught.value), "the same part is blamed"


@pytest.mark.parametrize("vector", GOLDEN["selection_fingerprint"], ids=range(28))
def test_selection_fingerprints(vector: dict[str, Any]) -> None:
    flags = {name: vector[name] for name in ("include_upstream", "include_downstream")}
    if "ok" in vector["result"]:
        assert selection_fingerprint(vector["selection"], **flags) == vector["result"]["ok"]
    else:
        with pytest.raises(ValueError, match="asset key"):
            selection_fingerprint(vector["selection"], **flags)


def test_trigger_fingerprints_are_over_sorted_json() -> None:
    text = '{"selection":["mart.b","raw.a"],"include_upstream":true,"include_downstream":false,'
    flags: dict[str, Any] = {"include_upstream": True, "include_downstream": False}
    assets = ["raw/a", "mart.b", "raw.a"]
    assert trigger_fingerprint(assets, **flags) == sha256_hex(text + '"labels":{}}')
    full = trigger_fingerprint(assets, **flags, partition_key="d=é", labels={"b": "2", "a": "1"})
    assert full == sha256_hex(text + '"partition_key":"d=é","labels":{"a":"1","b":"2"}}')


def test_rerun_keys() -> None:
    text = '{"parent_run_id":"r","rerun_kind":"FROM_FAILURE","selected_tasks":["a","b"],"partition_keys":[]}'
    key = rerun_run_key("r", RerunKind.FROM_FAILURE, ["b", "a"], [])
    assert key == f"rerun:r:from_failure:{sha256_hex(text)[:16]}"
    assert rerun_run_key("r", RerunKind.SUBSET, ["a"], ["p"]).startswith("rerun:r:subset:")


def test_backfill_fingerprints() -> None:
    text = '{"assetSelection":["b","a"],"partitionSelector":{"type":"filter","filters":{"x":"1","y":"2"}},'
    selector = {"type": "filter", "filters": {"y": "2", "x": "1"}}
    made = backfill_fingerprint(["b", "a"], selector, chunk_size=2, max_concurrent_runs=1)
    assert made == sha256_hex(text + '"chunkSize":2,"maxConcurrentRuns":1}')


def test_plan_fingerprint() -> None:
    task = FingerprintedTask(plan_task_key("raw", "events", operation="materialize"))
    golden = "sha256:6fb2d2adcd8cbe9af2dc86d711da22766ab78362cf6a20941a3f1b75c59af6a8"
    assert plan_fingerprint("acme", "production", [task]) == golden
    other = FingerprintedTask(plan_task_key("raw", "b", operation="check", partition="p"), (task.key,))
    assert other.key == "raw/b[p]:check"
    both = plan_fingerprint("acme", "production", [task, other])
    assert both == plan_fingerprint("acme", "production", [other, task]) != golden


DIMENSIONS: dict[str, dict[str, Any]] = {
    "date": {"date": date(2025, 1, 15)},
    "mixed": {"region": "us-east/1", "n": -7, "date": date(2025, 1, 15)},
    "null_bool": {"z": None, "a": True},
    "ts": {"ts": datetime(2025, 1, 15, 10, 30, tzinfo=UTC)},
    "empty": {},
}


@pytest.mark.parametrize("vector", GOLDEN["partition_key"], ids=lambda vector: vector["name"])
def test_partitions(vector: dict[str, Any]) -> None:
    assert canonical_partition(DIMENSIONS[vector["name"]]) == vector["canonical"]


def test_partitions_of_other_zones_and_types() -> None:
    east = datetime(2025, 1, 15, 12, 30, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    assert canonical_partition({"ts": east, "b": False}) == "b=b:false,ts=t:2025-01-15T10:30:00.000005Z"
    with pytest.raises(ValueError, match="dimension ts is an instant without a zone"):
        canonical_partition({"ts": datetime(2025, 1, 15)})
    floating: Any = 1.5
    with pytest.raises(ValueError, match="dimension x is a float"):
        canonical_partition({"x": floating})


@pytest.mark.parametrize("vector", GOLDEN["retry_backoff"], ids=lambda vector: vector["attempt"])
def test_retry_backoff(vector: dict[str, Any]) -> None:
    """The wait after a failed attempt is a rule of the fold, counted from the time in the event's id."""
    attempt = vector["attempt"]
    first = new_ulid(None, 1_736_935_200_000, 0)
    history: list[e.Payload] = [
        e.RunTriggered("r", "p", ManualTrigger("u"), []),
        e.PlanCreated("r", "p", [TaskDefinition("t", [], max_attempts=100)]),
        e.TaskStarted("r", "t", attempt, "a", "w"),
        e.TaskFinished("r", "t", attempt, "a", "w", "failed"),
    ]
    state = State(FoldConfig("acme", "prod"))
    for number, payload in enumerate(history):
        place = {"event_id": nth_ulid(first, number), "tenant": "acme", "workspace": "prod"}
        fold_event(state, parse_event(compose_event(payload, timestamp_ms=0, **place)))
    task = state.task("r", "t")
    assert task is not None
    assert task.state == vector["state"]
    assert task.retry_not_before == (ulid_time_ms(first) or 0) + vector["backoff_seconds"] * 1_000
