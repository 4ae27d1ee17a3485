"""Reading runs, tasks, schedules, sensors and backfills: filters, pages, details, and the revision of every answer."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from springline.paths import ObjectPath
from springline.published.lists import cursor_for
from tests.api.conftest import LISTS, V1, World, assert_refused
from tests.api.published import Pipeline
from tests.support.local_api import ACME, RIVAL
from tests.support.pipeline import finished, requests, run_triggered, succeeded_run, task

EMPTY = {"manifest_id": "0" * 20, "manifest_revision": "", "published_at": None, "last_visible_event_id": None}


@pytest.fixture
async def pipeline(world: World) -> Pipeline:
    made = Pipeline(world.store, ACME)
    await made.publish(*(payload for request in requests() for payload in request))
    return made


async def get(world: World, path: str, **parameters: Any) -> dict[str, Any]:
    answer = await world.client.get(f"{V1}/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Springline-Revision"] == answer.json()["revision"]["manifest_id"]
    body: dict[str, Any] = answer.json()
    return body


async def ids(world: World, path: str, field: str, **parameters: Any) -> list[str]:
    return [item[field] for item in (await get(world, path, **parameters))["items"]]


@pytest.mark.parametrize("name", LISTS)
async def test_before_the_first_publish_lists_are_empty(world: World, name: str) -> None:
    assert await get(world, name) == {"items": [], "next_cursor": None, "revision": EMPTY}


async def test_runs_are_filtered(world: World, pipeline: Pipeline) -> None:
    assert await ids(world, "runs", "run_id") == ["run-cancelled", "run-good", "run-retried"]
    assert await ids(world, "runs", "run_id", state="CANCELLED") == ["run-cancelled"]
    assert await ids(world, "runs", "run_id", state=["SUCCEEDED", "RUNNING"]) == ["run-good", "run-retried"]
    assert await ids(world, "runs", "run_id", label="team=sales") == ["run-cancelled", "run-retried"]
    assert await ids(world, "runs", "run_id", label=["team=sales", "kind=refresh"]) == ["run-retried"]
    assert await ids(world, "runs", "run_id", label="team=") == []
    assert await ids(world, "runs", "run_id", label=["team=ops", "team=sales"]) == [], "all must hold"
    assert await ids(world, "runs", "run_id", run_key="nobody's") == []
    rows = {row["run_id"]: row["triggered_at"] for row in (await get(world, "runs"))["items"]}
    middle = rows["run-cancelled"]
    assert await ids(world, "runs", "run_id", since=middle) == ["run-cancelled", "run-good"]
    assert await ids(world, "runs", "run_id", until=middle) == ["run-retried"]
    assert await ids(world, "runs", "run_id", since=middle, until=rows["run-good"]) == ["run-cancelled"]
    offset = middle.replace("Z", "+00:00")
    assert await ids(world, "runs", "run_id", since=offset, state="SUCCEEDED") == ["run-good"]


async def test_a_run_is_shown_with_everything_that_belongs_to_it(world: World, pipeline: Pipeline) -> None:
    body = await get(world, "runs/run-retried")
    assert body["run"]["state"] == "RUNNING"
    assert body["run"]["labels"] == {"kind": "refresh", "team": "sales"}
    assert [(one["task_key"], one["state"], one["attempt"]) for one in body["tasks"]] == [
        ("mart.b", "READY", 0),
        ("raw.a", "SUCCEEDED", 2),
    ]
    assert [(one["upstream_task_key"], one["satisfied"]) for one in body["dependencies"]] == [("raw.a", True)]
    assert {one["task_key"] for one in body["catalog"]} == {"raw.a", "mart.b"}
    assert (body["writes"], body["checks"], body["metadata"]) == ([], [], [])
    assert "completed_at" not in body["run"], "what has no value is left out"
    listed = await get(world, "runs/run-retried/tasks")
    assert listed["items"] == body["tasks"]
    assert await ids(world, "runs/run-retried/tasks", "task_key", state="READY") == ["mart.b"]


async def test_every_attempt_of_a_run_that_ended_is_listed(world: World, pipeline: Pipeline) -> None:
    """A task's own row says of the last attempt only."""
    listed = (await get(world, "runs/run-retried/attempts"))["items"]
    assert [(one["task_key"], one["attempt"], one["outcome"]) for one in listed] == [
        ("raw.a", 1, "failed"),
        ("raw.a", 2, "succeeded"),
    ]
    assert (listed[0]["category"], listed[0]["error_message"]) == ("INFRASTRUCTURE", "OOM")
    assert await ids(world, "runs/run-retried/attempts", "outcome", task_key="raw.a") == ["failed", "succeeded"]
    assert await ids(world, "runs/run-retried/attempts", "outcome", task_key="raw") == []


async def test_tasks_are_listed_across_runs(world: World, pipeline: Pipeline) -> None:
    everything = [(one["run_id"], one["task_key"]) for one in (await get(world, "tasks"))["items"]]
    assert everything == sorted(everything)
    assert len(everything) == 4
    assert await ids(world, "tasks", "task_key", run_id="run-retried") == ["mart.b", "raw.a"]
    assert await ids(world, "tasks", "run_id", asset_key="raw.a", state="SUCCEEDED") == ["run-good", "run-retried"]
    assert await ids(world, "tasks", "run_id", run_id="run") == [], "an id is not the beginning of one"


async def test_partitions_and_timers(world: World, pipeline: Pipeline) -> None:
    (partition,) = (await get(world, "partitions", asset_key="raw.a"))["items"]
    assert partition["last_materialization_run_id"] == "run-good"
    assert partition["last_attempt_outcome"] == "succeeded"
    assert await ids(world, "partitions", "asset_key", asset_key="raw") == []
    (timer,) = (await get(world, "timers", run_id="run-retried", state="SCHEDULED", timer_type="RETRY"))["items"]
    assert timer["fire_at"] == "2025-01-15T10:00:40Z"
    assert await ids(world, "timers", "timer_id", timer_type=["CRON", "SLA_CHECK"]) == []


async def test_schedules_and_ticks(world: World, pipeline: Pipeline) -> None:
    (schedule,) = (await get(world, "schedules", enabled="true"))["items"]
    assert schedule["cron_expression"] == "0 10 * * *"
    assert schedule["last"]["last_tick_id"] == "daily:6"
    assert await ids(world, "schedules", "schedule_id", enabled="false") == []
    for path, more in (("ticks", {"schedule_id": "daily"}), ("schedules/daily/ticks", {})):
        assert await ids(world, path, "tick_id", **more) == ["daily:5", "daily:6"]
        assert await ids(world, path, "tick_id", status="skipped", **more) == ["daily:6"]
        assert await ids(world, path, "tick_id", since="2025-01-16T00:00:00Z", **more) == ["daily:6"]
        assert await ids(world, path, "tick_id", until="2025-01-16T10:00:00Z", **more) == ["daily:5"]
    (skipped,) = (await get(world, "ticks", status="skipped"))["items"]
    assert skipped["status"] == {"status": "skipped", "reason": "paused"}
    await pipeline.publish(
        requests()[0][-1] | {"schedule_id": "weekly"},
    )
    weekly = (await get(world, "schedules"))["items"][1]
    assert (weekly["schedule_id"], weekly["last"]) == ("weekly", None)
    assert await ids(world, "schedules/weekly/ticks", "tick_id") == []


async def test_sensors_and_evaluations(world: World, pipeline: Pipeline) -> None:
    (sensor,) = (await get(world, "sensors"))["items"]
    assert (sensor["sensor_id"], sensor["cursor"], sensor["state_version"]) == ("files", "m-1", 1)
    for path, more in (("evaluations", {"sensor_id": "files"}), ("sensors/files/evaluations", {})):
        (evaluation,) = (await get(world, path, status="triggered", **more))["items"]
        assert evaluation["trigger_source"] == {"message_id": "m-1", "source": "push"}
        assert await ids(world, path, "eval_id", status=["error", "no_new_data"], **more) == []
        assert await ids(world, path, "eval_id", since="2030-01-01T00:00:00Z", **more) == []


async def test_a_chunks_state_is_told_from_its_run_when_it_is_read(world: World, pipeline: Pipeline) -> None:
    assert await ids(world, "backfills", "backfill_id", state="RUNNING") == ["bf-1"]
    assert await ids(world, "backfills", "backfill_id", state="PAUSED") == []
    body = await get(world, "backfills/bf-1")
    assert body["backfill"]["planned_chunks"] == 2
    assert [(chunk["chunk_index"], chunk["state"], chunk["run_state"]) for chunk in body["chunks"]] == [
        (0, "PLANNED", None),
        (1, "PLANNED", None),
    ]
    assert body["run_states"] == {"NONE": 2}
    first = body["chunks"][0]["run_id"]
    await pipeline.publish(run_triggered(first, run_key="backfill:bf-1:chunk:0"))
    assert (await get(world, "backfills/bf-1"))["run_states"] == {"NONE": 1, "TRIGGERED": 1}
    await pipeline.publish(*succeeded_run(first)[1:])
    body = await get(world, "backfills/bf-1")
    assert [chunk["run_state"] for chunk in body["chunks"]] == ["SUCCEEDED", None]
    assert [chunk["state"] for chunk in body["chunks"]] == ["PLANNED", "PLANNED"], "nothing of it is stored"


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("runs", {}),
        ("runs", {"label": "team=sales"}),
        ("tasks", {}),
        ("ticks", {}),
        ("runs/run-retried/tasks", {}),
        ("runs/run-retried/attempts", {}),
    ],
)
async def test_pages_give_every_row_once(
    world: World, pipeline: Pipeline, path: str, parameters: dict[str, str], limit: int
) -> None:
    whole = (await get(world, path, limit=1000, **parameters))["items"]
    seen: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(world, path, limit=limit, **parameters, **cursor)
        assert len(page["items"]) <= limit
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == limit
        cursor = {"cursor": page["next_cursor"]}
    assert seen == whole


@pytest.mark.parametrize("limit", [1, 2, 1000])
@pytest.mark.parametrize(
    ("path", "column"),
    [
        ("runs", "triggered_at"),
        ("runs?label=team%3Dsales", "triggered_at"),
        ("ticks", "scheduled_for"),
        ("schedules/daily/ticks", "scheduled_for"),
        ("evaluations", "evaluated_at"),
        ("sensors/files/evaluations", "evaluated_at"),
    ],
)
async def test_the_latest_come_first_page_by_page(
    world: World, pipeline: Pipeline, path: str, column: str, limit: int
) -> None:
    path, _, label = path.partition("?label=team%3D")
    parameters = {"label": f"team={label}"} if label else {}
    whole = (await get(world, path, limit=1000, **parameters))["items"]
    seen: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(world, path, limit=limit, latest=True, **parameters, **cursor)
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == limit
        cursor = {"cursor": page["next_cursor"]}
    assert [one[column] for one in seen] == sorted((one[column] for one in whole), reverse=True)
    assert sorted(map(str, seen)) == sorted(map(str, whole))


async def test_a_cursor_of_the_latest_holds_a_time(world: World, pipeline: Pipeline) -> None:
    for wrong in ("soon", str(2**63), "1.5", ""):
        cursor = cursor_for(f"{V1}/runs", {"latest": True}, (wrong, "run-good"))
        answer = await world.client.get(f"{V1}/runs", params={"latest": True, "cursor": cursor})
        assert_refused(answer, 400, "INVALID_REQUEST", "cursor", remedy="next_cursor", value=cursor)
    plain = (await get(world, "runs", limit=1))["next_cursor"]
    answer = await world.client.get(f"{V1}/runs", params={"latest": True, "cursor": plain})
    assert_refused(answer, 400, "INVALID_REQUEST", "cursor", remedy="next_cursor", value=plain)


async def test_a_list_that_grows_while_it_is_paged_goes_on_behind_the_last_key(
    world: World, pipeline: Pipeline
) -> None:
    first = await get(world, "runs", limit=2)
    assert [item["run_id"] for item in first["items"]] == ["run-cancelled", "run-good"]
    await pipeline.publish(run_triggered("run-a"), run_triggered("run-h"))
    second = await get(world, "runs", limit=10, cursor=first["next_cursor"])
    assert [item["run_id"] for item in second["items"]] == ["run-h", "run-retried"]
    assert second["revision"]["manifest_id"] > first["revision"]["manifest_id"]


async def test_what_is_published_is_seen_at_once(world: World, pipeline: Pipeline) -> None:
    for attempt in range(1, 6):
        run_id = f"run-{attempt}"
        manifest_id = await pipeline.publish(*succeeded_run(run_id))
        body = await get(world, f"runs/{run_id}")
        assert body["run"]["state"] == "SUCCEEDED"
        assert body["revision"]["manifest_id"] == manifest_id
        assert body["revision"]["last_visible_event_id"] == pipeline.publisher.state.last_event_id
    metrics = (await world.client.get("/metrics")).text
    assert 'springline_published_reads_total{how="loaded"} 1.0' in metrics
    assert 'springline_published_reads_total{how="advanced"} 4.0' in metrics


async def test_everybody_sees_his_own_workspace(world: World, pipeline: Pipeline) -> None:
    other = Pipeline(world.store, RIVAL)
    await other.publish(run_triggered("run-good"), task("task_started", "run-good", "x"), finished("run-good", "x"))
    theirs = await world.client.get(f"{V1}/runs", headers=world.bearer(RIVAL))
    assert [item["state"] for item in theirs.json()["items"]] == ["TRIGGERED"]
    assert (await get(world, "runs/run-good"))["run"]["state"] == "SUCCEEDED"
    nowhere = await world.client.get(f"{V1}/runs/run-retried", headers=world.bearer(RIVAL))
    assert_refused(nowhere, 404, "NOT_FOUND", "run_id", value="run-retried")


UNKNOWN = [
    ("runs/nope", "run_id", "nope"),
    ("runs/nope/tasks", "run_id", "nope"),
    ("runs/nope/attempts", "run_id", "nope"),
    ("schedules/nope/ticks", "schedule_id", "nope"),
    ("sensors/nope/evaluations", "sensor_id", "nope"),
    ("backfills/nope", "backfill_id", "nope"),
    ("runs/run%20good", "run_id", "run good"),
    ("runs/%F0%9F%98%80", "run_id", "\N{GRINNING FACE}"),
]


@pytest.mark.parametrize(("path", "field", "value"), UNKNOWN)
async def test_what_is_not_there_is_named(world: World, pipeline: Pipeline, path: str, field: str, value: str) -> None:
    answer = await world.client.get(f"{V1}/{path}")
    body = assert_refused(answer, 404, "NOT_FOUND", field, remedy="check the id", value=value)
    assert "00000000000000000001" in body["message"]


BAD_QUERIES: list[tuple[str, dict[str, str], str]] = [
    ("runs", {"state": "DONE"}, "state.0"),
    ("runs", {"state": "running"}, "state.0"),
    ("runs", {"since": "yesterday"}, "since"),
    ("runs", {"since": "2025-01-15T10:00:00"}, "since"),
    ("runs", {"until": "1736935200"}, "until"),
    ("runs", {"label": "team"}, "label.0"),
    ("runs", {"label": "=sales"}, "label.0"),
    ("runs", {"stat": "RUNNING"}, "stat"),
    ("runs", {"limit": "0"}, "limit"),
    ("runs", {"limit": "1001"}, "limit"),
    ("runs", {"limit": "many"}, "limit"),
    ("runs", {"limit": "1.5"}, "limit"),
    ("runs", {"cursor": "nonsense"}, "cursor"),
    ("runs", {"cursor": ""}, "cursor"),
    ("tasks", {"state": "TRIGGERED"}, "state.0"),
    ("tasks", {"asset": "x"}, "asset"),
    ("runs/run-good/tasks", {"run_id": "x"}, "run_id"),
    ("runs/run-good/tasks", {"limit": "-1"}, "limit"),
    ("runs/run-good/attempts", {"outcome": "x"}, "outcome"),
    ("partitions", {"partition": "x"}, "partition"),
    ("timers", {"state": "FIRING"}, "state.0"),
    ("timers", {"timer_type": "retry"}, "timer_type.0"),
    ("schedules", {"enabled": "perhaps"}, "enabled"),
    ("ticks", {"status": "done"}, "status.0"),
    ("ticks", {"since": "x"}, "since"),
    ("schedules/daily/ticks", {"schedule_id": "daily"}, "schedule_id"),
    ("sensors", {"state": "ACTIVE"}, "state"),
    ("evaluations", {"status": "ok"}, "status.0"),
    ("sensors/files/evaluations", {"until": ""}, "until"),
    ("backfills", {"state": "DONE"}, "state.0"),
]


@pytest.mark.parametrize(("path", "parameters", "field"), BAD_QUERIES)
async def test_a_wrong_parameter_is_named(
    world: World, pipeline: Pipeline, path: str, parameters: dict[str, str], field: str
) -> None:
    answer = await world.client.get(f"{V1}/{path}", params=parameters)
    (value,) = parameters.values()
    assert_refused(answer, 400, "INVALID_REQUEST", field, value=value)


async def test_a_cursor_is_good_in_its_own_list_only(world: World, pipeline: Pipeline) -> None:
    cursor = (await get(world, "runs", limit=1, label="team=sales"))["next_cursor"]
    for path, parameters in (
        ("runs", {}),
        ("runs", {"label": "team=ops"}),
        ("tasks", {}),
        ("timers", {}),
    ):
        answer = await world.client.get(f"{V1}/{path}", params={"cursor": cursor, **parameters})
        assert_refused(answer, 400, "INVALID_REQUEST", "cursor", remedy="next_cursor", value=cursor)
    assert await ids(world, "runs", "run_id", cursor=cursor, label="team=sales", limit=7) == ["run-retried"]


async def test_the_digest_is_that_of_the_state(world: World, pipeline: Pipeline) -> None:
    body = await get(world, "state/digest")
    assert body["digest"] == pipeline.publisher.digest.state()
    assert body["tables"]["runs"]["rows"] == 3
    assert body["own_digest"] == pipeline.publisher.digest.own()
    assert len(body["tables"]) == 27


async def test_status_tells_how_far_the_state_is(world: World, pipeline: Pipeline) -> None:
    body = await get(world, "ledger/status")
    assert body["events"] == sum(map(len, requests()))
    assert body["watermarks"]["last_visible_event_id"] == pipeline.publisher.state.last_event_id
    assert body["sequencer"]["phase"] == "resting"


async def test_a_damaged_state_is_named_and_heals_with_the_next_base(
    world: World, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    path = next(path for path in world.store.objects if "/runs." in path)
    world.store.seed(path, b"nonsense")
    answer = await world.client.get(f"{V1}/runs")
    named = str(ObjectPath(path)).rpartition("/")[2]
    body = assert_refused(answer, 409, "STORED_DAMAGED", "stored object", remedy="rebuild the projections")
    assert named in body["message"]
    assert str(ACME.prefix) not in answer.text
    assert named in caplog.text
    assert (await world.client.get(f"{V1}/timers")).status_code == 200
    await pipeline.publisher.publish([], "base")
    assert (await world.client.get(f"{V1}/runs")).status_code == 200


async def test_a_long_list_is_paged_to_its_end(world: World) -> None:
    pipeline = Pipeline(world.store, ACME)
    await pipeline.publish(*(run_triggered(f"run-{number:04}") for number in range(3000)))
    seen, cursor = 0, None
    while True:
        answer: httpx.Response = await world.client.get(
            f"{V1}/runs", params={"limit": 1000} | ({"cursor": cursor} if cursor else {})
        )
        seen += len(answer.json()["items"])
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            break
    assert seen == 3000
