"""Schedules over HTTP: defined, deployed, paused, resumed, triggered, previewed, and what is refused."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from springline.api.automation import next_due_at
from springline.control.schedules.deciding import ScheduleView, jitter_of
from springline.definitions.selection import select_nodes
from springline.ledger.member import DefinitionMember
from springline.ledger.request import AppendRequest
from springline.schedules.reading import KnownSchedule
from tests.api.conftest import V1, World, assert_refused
from tests.api.test_manifests import body as location
from tests.api.test_manifests import deployed
from tests.support.definitions import asset

SCHEDULES = f"{V1}/schedules"
DAYS = {"kind": "daily", "start": "2024-01-01"}
NIGHTLY = {"schedule_id": "nightly", "cron": "0 4 * * *", "timezone": "Europe/Oslo", "select": ["*report"]}
PIPELINE = location("flights", asset("raw", partitions=DAYS), asset("report", "raw")) | {"schedules": [NIGHTLY]}
HOURLY: dict[str, Any] = {"cron": "0 * * * *", "select": ["report"]}


async def call(world: World, method: str, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = await world.client.request(method, f"{SCHEDULES}/{path}", json=body or None)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def definitions(world: World) -> list[dict[str, Any]]:
    """Return the definitions of schedules that went to the ledger."""
    return [
        event.data
        for request in world.ledger.requests
        if isinstance(request, AppendRequest)
        for event in request.events
        if event.data["type"] == "schedule_definition_upserted"
    ]


async def test_a_deploy_records_its_schedules_and_the_same_again_records_nothing(world: World) -> None:
    done = await deployed(world, PIPELINE)
    assert done["schedules"]["added"] == ["nightly"]
    (event,) = definitions(world)
    assert (event["cron_expression"], event["timezone"], event["enabled"]) == ("0 4 * * *", "Europe/Oslo", True)
    assert event["code_version"] == done["manifest_id"]
    assert (event["springline"]["dialect"], event["springline"]["location"]) == ("unix", "flights")
    again = await world.client.post(f"{V1}/manifests", json=PIPELINE)
    assert again.status_code == 200
    assert len(definitions(world)) == 1
    shown = (await call(world, "GET", "nightly"))["schedule"]
    assert (shown["enabled"], shown["settings"]["location"], shown["last"]) == (True, "flights", None)
    assert shown["next_due_at"].endswith("Z")


async def test_what_left_its_file_is_off_and_comes_back_on(world: World) -> None:
    await deployed(world, PIPELINE)
    without = await deployed(world, PIPELINE | {"schedules": []})
    assert without["schedules"]["removed"] == ["nightly"]
    assert definitions(world)[-1]["enabled"] is False
    assert definitions(world)[-1]["springline"]["deleted"] is True
    assert (await call(world, "GET", "nightly/preview", 404))["code"] == "NOT_FOUND"
    await deployed(world, PIPELINE)
    assert definitions(world)[-1]["enabled"] is True


async def test_whether_it_is_on_stays_what_operators_made_it(world: World) -> None:
    await deployed(world, PIPELINE)
    paused = await call(world, "POST", "nightly/pause")
    assert (paused["changed"], paused["enabled"], paused["next_due_at"]) == (True, False, None)
    assert (await call(world, "POST", "nightly/pause"))["changed"] is False
    await deployed(world, PIPELINE | {"schedules": [NIGHTLY | {"cron": "0 5 * * *"}]})
    assert definitions(world)[-1]["cron_expression"] == "0 5 * * *"
    assert definitions(world)[-1]["enabled"] is False
    resumed = await call(world, "POST", "nightly/resume")
    assert (resumed["enabled"], resumed["next_due_at"] is None) == (True, False)


async def test_a_schedule_is_defined_changed_and_left_as_it_is(world: World) -> None:
    await deployed(world, PIPELINE)
    made = await call(world, "PUT", "hourly", 201, **HOURLY)
    assert (made["changed"], made["enabled"], made["ticks"]) == (True, True, 0)
    assert (await call(world, "PUT", "hourly", **HOURLY))["changed"] is False
    changed = await call(world, "PUT", "hourly", **HOURLY, overlap="skip", enabled=False)
    assert (changed["changed"], changed["enabled"]) == (True, False)
    assert definitions(world)[-1]["springline"]["replaces"] is not None
    kept = await call(world, "PUT", "hourly", interval_seconds=900, select=["report"])
    assert kept["enabled"] is False
    listed = (await world.client.get(SCHEDULES)).json()["items"]
    assert [one["schedule_id"] for one in listed] == ["hourly", "nightly"]


async def test_a_deploy_leaves_what_was_defined_over_http(world: World) -> None:
    await deployed(world, PIPELINE)
    await call(world, "PUT", "hourly", 201, **HOURLY)
    await deployed(world, PIPELINE | {"schedules": []})
    assert (await call(world, "GET", "hourly"))["schedule"]["enabled"] is True


async def test_triggering_asks_for_a_run_now_paused_or_not(world: World) -> None:
    await deployed(world, PIPELINE)
    await call(world, "POST", "nightly/pause")
    found = await call(world, "POST", "nightly/trigger", 201)
    assert found["run_key"].startswith("sched:nightly:manual:")
    run = (await world.client.get(f"{V1}/runs/{found['run_id']}")).json()["run"]
    assert (run["run_key"], run["tasks_total"]) == (found["run_key"], 2)
    (tick,) = (await call(world, "GET", "nightly/ticks"))["items"]
    assert (tick["status"], tick["run_id"]) == ({"status": "triggered"}, found["run_id"])
    assert tick["late_ms"] >= 0


async def test_triggering_under_an_id_is_one_run_for_ever(world: World) -> None:
    await deployed(world, PIPELINE)
    first = await call(world, "POST", "nightly/trigger", 201, request_id="close of 2024 \N{SNOWMAN}")
    for _ in range(2):
        # The clock goes on, the definition is another, and it is the same run.
        changed = {**NIGHTLY, "cron": "0 5 * * *"}
        await deployed(world, PIPELINE | {"schedules": [changed]})
        again = await call(world, "POST", "nightly/trigger", request_id="close of 2024 \N{SNOWMAN}")
        assert {**again, "state": ""} == {**first, "state": ""}
    other = await call(world, "POST", "nightly/trigger", 201, request_id="close of 2025")
    assert other["run_id"] != first["run_id"]
    ticks = (await call(world, "GET", "nightly/ticks"))["items"]
    assert {one["run_id"] for one in ticks} == {first["run_id"], other["run_id"]}
    await deployed(world, PIPELINE | {"schedules": []})
    assert (await call(world, "POST", "nightly/trigger", request_id="close of 2025"))["run_id"] == other["run_id"]
    for wrong in ("", "a\nb", "x" * 201):
        refused = await world.client.post(f"{SCHEDULES}/nightly/trigger", json={"request_id": wrong})
        assert (refused.status_code, refused.json()["field"]) == (400, "request_id")


async def test_triggering_at_once_under_one_id_is_one_run(world: World) -> None:
    await deployed(world, PIPELINE)
    asked = [world.client.post(f"{SCHEDULES}/nightly/trigger", json={"request_id": "q"}) for _ in range(8)]
    answers = await asyncio.gather(*asked)
    assert {one.status_code for one in answers} <= {200, 201}
    assert len({one.json()["run_id"] for one in answers}) == 1
    assert len((await call(world, "GET", "nightly/ticks"))["items"]) == 1


async def test_a_preview_shows_local_times_and_partitions(world: World) -> None:
    await deployed(world, PIPELINE)
    found = await call(world, "GET", "nightly/preview?count=2&after=2025-03-29T12:00:00Z")
    assert [(one["due_at"], one["local"]) for one in found["items"]] == [
        ("2025-03-30T02:00:00Z", "2025-03-30T04:00:00+02:00"),
        ("2025-03-31T02:00:00Z", "2025-03-31T04:00:00+02:00"),
    ]
    assert found["items"][0] | {"local": ""} == {
        "due_at": "2025-03-30T02:00:00Z",
        "local": "",
        "assets": ["raw", "report"],
        "partitions": ["2025-03-29"],
        "problem": None,
    }
    early = await call(world, "GET", "nightly/preview?count=1&after=2023-05-01T00:00:00Z")
    assert "no partition of raw" in early["items"][0]["problem"]


async def test_a_preview_of_large_runs_is_cut_and_selects_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 1,000 instants may name 20,000 assets: one request would keep a processor for minutes."""
    await deployed(world, PIPELINE)
    selected: list[object] = []

    def noted(nodes: Any, terms: Any) -> Any:
        selected.append(terms)
        return select_nodes(nodes, terms)

    monkeypatch.setattr("springline.definitions.schedules.select_nodes", noted)
    whole = (await call(world, "GET", "nightly/preview?count=1000"))["items"]
    assert len(whole) == 1000
    assert len(selected) <= 2, "the assets are selected for each instant anew"
    monkeypatch.setattr("springline.api.schedules.MOST_PREVIEWED_NAMES", 30)
    assert len(whole[0]["assets"]) + len(whole[0]["partitions"]) == 3
    assert (await call(world, "GET", "nightly/preview?count=1000"))["items"] == whole[:11]


@pytest.mark.parametrize(
    "after", ["+20000-01-01T00:00:00Z", "-0044-03-15T00:00:00Z", "9999-12-31T23:59:60Z", "0001-01-01T00:00:00+14:00"]
)
async def test_a_preview_is_of_this_time(world: World, after: str) -> None:
    await deployed(world, PIPELINE)
    for timing in ({"interval_seconds": 60}, {"cron": "0 0 29 2 *"}):
        await world.client.put(f"{SCHEDULES}/s", json={**timing, "select": ["report"]})
        answer = await world.client.get(f"{SCHEDULES}/s/preview", params={"after": after})
        told = assert_refused(answer, 400, "INVALID_REQUEST", "after", remedy="1970 to 2199")
        asked = await world.client.get(f"{V1}/explain/schedule/s", params={"at": after})
        same = assert_refused(asked, 400, "INVALID_REQUEST", "at", remedy=told["remedy"])
        assert same["message"] == told["message"].replace("after", "at", 1)
        assert "outside the years" in told["message"]
        last = await world.client.get(f"{SCHEDULES}/s/preview?count=200&after=2199-12-31T23:59:59Z")
        assert len(last.json()["items"]) == 200


BAD: list[tuple[dict[str, Any], str]] = [
    ({"select": ["report"]}, "cron"),
    ({**HOURLY, "interval_seconds": 60}, "cron"),
    ({**HOURLY, "cron": "0 25 * * *"}, "cron"),
    ({**HOURLY, "cron": "0 0 30 2 *"}, "cron"),
    ({**HOURLY, "timezone": "Mars/Base"}, "timezone"),
    ({**HOURLY, "select": []}, "select"),
    ({**HOURLY, "select": ["nope"]}, "select"),
    ({**HOURLY, "catchup_window_minutes": 0}, "catchup_window_minutes"),
    ({**HOURLY, "catchup_window_minutes": -5}, "catchup_window_minutes"),
    ({**HOURLY, "max_catchup_ticks": 10_000}, "max_catchup_ticks"),
    ({**HOURLY, "max_catchup_ticks": 0}, "max_catchup_ticks"),
    ({**HOURLY, "overlap": "never"}, "overlap"),
    ({**HOURLY, "max_active_runs": 0}, "max_active_runs"),
    ({**HOURLY, "jitter_seconds": 1_000_000}, "jitter_seconds"),
    ({**HOURLY, "cron": 5}, "cron"),
    ({**HOURLY, "crn": "x"}, "crn"),
]


@pytest.mark.parametrize(("body", "field"), BAD)
async def test_what_cannot_be_is_refused_by_its_field_and_changes_nothing(
    world: World, body: dict[str, Any], field: str
) -> None:
    await deployed(world, PIPELINE)
    answer = await world.client.put(f"{SCHEDULES}/hourly", json=body)
    assert_refused(answer, 400, "INVALID_REQUEST", field)
    assert len(definitions(world)) == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "field"),
    [
        ("GET", "nope", 404, "schedule_id"),
        ("GET", "nope/preview", 404, "schedule_id"),
        ("POST", "nope/pause", 404, "schedule_id"),
        ("POST", "nope/resume", 404, "schedule_id"),
        ("POST", "nope/trigger", 404, "schedule_id"),
    ],
)
async def test_there_is_no_such_schedule(world: World, method: str, path: str, status: int, field: str) -> None:
    await deployed(world, PIPELINE)
    answer = await world.client.request(method, f"{SCHEDULES}/{path}")
    assert_refused(answer, status, "NOT_FOUND", field)


async def test_a_schedule_of_a_file_is_changed_in_its_file(world: World) -> None:
    await deployed(world, PIPELINE)
    answer = await world.client.put(f"{SCHEDULES}/nightly", json=HOURLY)
    assert_refused(answer, 409, "DEFINITION_CONFLICT", "schedule_id")
    bad_id = await world.client.put(f"{SCHEDULES}/a%20b", json=HOURLY)
    assert_refused(bad_id, 400, "INVALID_REQUEST", "schedule_id")


async def test_two_locations_have_no_schedule_in_common(world: World) -> None:
    await deployed(world, PIPELINE)
    mart = location("mart", asset("sales")) | {"schedules": [NIGHTLY | {"select": ["sales"]}]}
    answer = await world.client.post(f"{V1}/manifests", json=mart)
    assert_refused(answer, 409, "DEFINITION_CONFLICT", "schedules[0].schedule_id")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"select": ["nope"]}, "schedules[0].select"),
        ({"cron": "0 25 * * *"}, "schedules.0"),
        ({"schedule_id": "a/b"}, "schedules.0.schedule_id"),
    ],
)
async def test_a_deploy_judges_schedules(world: World, change: dict[str, Any], field: str) -> None:
    answer = await world.client.post(f"{V1}/manifests", json=PIPELINE | {"schedules": [NIGHTLY | change]})
    assert_refused(answer, 400, "INVALID_REQUEST", field)
    assert definitions(world) == []


def test_an_instant_that_its_jitter_puts_off_is_still_the_next_one() -> None:
    view = ScheduleView("s", "", "* * * * *", "UTC", (), evaluated_to=0, jitter_s=50, dialect="unix")
    delay = jitter_of(view)
    assert delay > 0
    known = KnownSchedule(view, DefinitionMember(), None, None, 0)
    assert next_due_at(known, 59_000) == "1970-01-01T00:01:00Z"
    assert next_due_at(known, (60 + delay - 1) * 1_000) == "1970-01-01T00:01:00Z"
    # It is being decided on.
    assert next_due_at(known, (60 + delay) * 1_000) == "1970-01-01T00:02:00Z"


async def test_a_deploy_that_a_hold_keeps_from_its_schedules_deploys_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await deployed(world, PIPELINE)
    held = await world.client.put(f"{V1}/hold", json={"held": True, "reason": "moving"})
    assert held.status_code == 200
    two_days_on = time.time_ns() + 2 * 86_400 * 10**9
    monkeypatch.setattr("springline.api.manifests.time", SimpleNamespace(time_ns=lambda: two_days_on))
    changed = PIPELINE | {"assets": PIPELINE["assets"][:1]}
    later = changed | {"schedules": [NIGHTLY | {"cron": "0 5 * * *", "select": ["raw"]}]}
    for body in (later, changed | {"schedules": []}):
        answer = await world.client.post(f"{V1}/manifests", json=body)
        refusal = assert_refused(answer, 409, "EVENT_CONFLICT", "schedule_id")
        assert "schedule nightly owes" in refusal["message"]
        latest = await world.client.get(f"{V1}/manifests/latest")
        assert latest.json()["manifest_id"] == first["manifest_id"]
    # What owes nothing is deployed all the same: a hold is for repairs.
    more = PIPELINE | {"assets": [*PIPELINE["assets"], asset("more")]}
    assert (await deployed(world, more))["changes"]["added"] == ["more"]


async def test_a_schedule_that_no_file_declares_is_deleted_once_and_may_come_back(world: World) -> None:
    await deployed(world, PIPELINE)
    await call(world, "PUT", "often", 201, **HOURLY)
    gone = await call(world, "DELETE", "often")
    assert (gone["changed"], gone["enabled"], gone["next_due_at"]) == (True, False, None)
    assert (await call(world, "DELETE", "often"))["changed"] is False
    assert definitions(world)[-1]["springline"]["deleted"] is True
    for method, path in (("GET", "often/preview"), ("POST", "often/trigger"), ("POST", "often/resume")):
        assert (await call(world, method, path, 404))["code"] == "NOT_FOUND"
    why = (await world.client.get(f"{V1}/explain/schedule/often")).json()
    assert (why["verdict"], "was deleted" in why["answer"]) == ("OFF", True)
    assert (await call(world, "PUT", "often", **HOURLY))["enabled"] is True
    kept = await call(world, "DELETE", "nightly", 409)
    assert (kept["code"], "Leave it out of its file" in kept["remedy"]) == ("DEFINITION_CONFLICT", True)
    await call(world, "DELETE", "nobody", 404)


async def test_what_takes_no_run_without_a_config_is_told_by_preview_and_trigger(world: World) -> None:
    takes = {"model": "Settings", "fields": [{"name": "rows", "type": "int", "required": True}]}
    tasks = [{"key": "prepare", "config": takes}]
    due = HOURLY | {"schedule_id": "hourly"}
    done = location("flights", asset("report", "prepare")) | {"schedules": [due], "tasks": tasks}
    await deployed(world, done)
    said = "runs of a schedule have no config: config.rows is missing, and Settings, the config of prepare, requires it"
    found = await call(world, "GET", "hourly/preview")
    assert said in found["items"][0]["problem"]
    answer = await world.client.post(f"{SCHEDULES}/hourly/trigger")
    assert said in assert_refused(answer, 409, "DEFINITION_CONFLICT", "schedule_id")["message"]
