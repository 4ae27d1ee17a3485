"""Sensors over HTTP: where they stand, pushing, what operators do, and what is refused."""

from __future__ import annotations

from typing import Any

from springline.control.sensors.messages import AskedRun, EvaluationAnswer, EvaluationOrder, SensorDoing
from tests.api.conftest import V1, World, assert_refused
from tests.api.test_manifests import MANIFESTS, deployed
from tests.support.definitions import asset
from tests.support.local_sensors import LocalSensors

SENSORS = f"{V1}/sensors"
HOOK = {"sensor_id": "hook", "kind": "push", "select": ["raw"]}
FILES = {"sensor_id": "files", "kind": "poll", "interval_seconds": 5, "select": ["raw"]}


def location(*sensors: dict[str, Any], name: str = "flights") -> dict[str, Any]:
    return {"location": name, "assets": [asset("raw" if name == "flights" else name)], "sensors": list(sensors)}


def local(world: World) -> LocalSensors:
    found = world.deps.sensors
    assert isinstance(found, LocalSensors)
    return found


async def shown(world: World, sensor_id: str) -> dict[str, Any]:
    answer = await world.client.get(f"{SENSORS}/{sensor_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_sensor_that_was_not_evaluated_yet_has_no_evaluations(world: World) -> None:
    await deployed(world, location(FILES, HOOK))
    found = await world.client.get(f"{SENSORS}/files/evaluations")
    assert (found.status_code, found.json()["items"]) == (200, [])
    unknown = await world.client.get(f"{SENSORS}/nope/evaluations")
    assert_refused(unknown, 404, "NOT_FOUND", "sensor_id")


async def test_a_deploy_tells_what_changes_of_sensors_and_starts_them(world: World) -> None:
    body = await deployed(world, location(FILES, HOOK))
    assert body["sensors"]["added"] == ["files", "hook"]
    assert local(world).woken == ["files", "hook"]
    body = await deployed(world, location({**FILES, "interval_seconds": 9}))
    assert body["sensors"]["removed"] == ["hook"]
    assert body["sensors"]["changed"] == [{"key": "files", "fields": {"interval_seconds": {"from": 5, "to": 9}}}]
    assert local(world).woken[2:] == ["files", "hook"]
    items = (await world.client.get(SENSORS)).json()["items"]
    assert [(one["sensor_id"], one["definition"]["interval_seconds"], one["paused"]) for one in items] == [
        ("files", 9, False)
    ]


async def test_a_deploy_refuses_sensors_that_cannot_be(world: World) -> None:
    await deployed(world, location(FILES))
    wrong: list[tuple[dict[str, Any], int, str]] = [
        (location(FILES, FILES), 400, "sensors[1].sensor_id"),
        (location({**FILES, "select": ["zzz"]}), 400, "sensors[0].select"),
        (location({**FILES, "kind": "asset", "asset": "zzz"}), 400, "sensors[0].asset"),
        (location({**FILES, "kind": "table"}), 400, "sensors.0"),
        (location({**FILES, "prefix": "x/"}), 400, "sensors.0"),
        (location({**FILES, "kind": "objects", "prefix": "../x"}), 400, "sensors.0"),
        (location({**FILES, "interval_seconds": 0}), 400, "sensors.0.interval_seconds"),
        (location({**FILES, "timeout_seconds": 10**6}), 400, "sensors.0.timeout_seconds"),
        (location({**FILES, "sensor_id": "a:b"}), 400, "sensors.0.sensor_id"),
        (location(FILES, name="shop"), 409, "sensors[0].sensor_id"),
        ({"location": "shop", "assets": [], "sensors": [HOOK]}, 400, "sensors"),
    ]
    for body, status, field in wrong:
        answer = await world.client.post(MANIFESTS, json=body)
        assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text


async def test_a_message_is_answered_when_it_is_kept_and_again_as_a_replay(world: World) -> None:
    await deployed(world, location(HOOK, FILES))
    body = {"message_id": "m-1", "payload": {"file": "a.csv"}}
    first = await world.client.post(f"{SENSORS}/hook/messages", json=body)
    assert (first.status_code, first.json()["replayed"]) == (201, False)
    again = await world.client.post(f"{SENSORS}/hook/messages", json=body)
    assert (again.status_code, again.json()["replayed"], again.json()["event_id"]) == (
        200,
        True,
        first.json()["event_id"],
    )
    other = await world.client.post(f"{SENSORS}/hook/messages", json={**body, "payload": {"file": "b.csv"}})
    assert_refused(other, 409, "KEY_REUSED", "message_id")
    sensor = (await shown(world, "hook"))["sensor"]
    assert (sensor["messages"], sensor["oldest_message_at"] is None) == (1, False)

    async def act(order: EvaluationOrder) -> EvaluationAnswer:
        assert order.message is not None
        return EvaluationAnswer(requests=[AskedRun(run_key=order.message.payload["file"])])

    local(world).acts["hook"] = act
    decision = (await world.client.post(f"{SENSORS}/hook/evaluate", json={})).json()
    assert (decision["outcome"], decision["recorded"], decision["message_id"]) == ("triggered", True, "m-1")
    assert decision["runs"][0]["run_key"] == "sensor:hook:a.csv"
    # Evaluated, it is still the same message.
    late = await world.client.post(f"{SENSORS}/hook/messages", json=body)
    assert (late.status_code, late.json()["replayed"]) == (200, True)
    assert (await shown(world, "hook"))["sensor"]["messages"] == 0


async def test_what_cannot_be_pushed_is_refused_and_changes_nothing(world: World) -> None:
    await deployed(world, location(HOOK, FILES))
    url = f"{SENSORS}/hook/messages"
    wrong: list[tuple[str, dict[str, Any], int, str | None]] = [
        (url, {"payload": 1}, 400, "message_id"),
        (url, {"message_id": "", "payload": 1}, 400, "message_id"),
        (url, {"message_id": "x" * 501}, 400, "message_id"),
        (url, {"message_id": "m", "payload": {"share": 0.5}}, 400, "payload"),
        (url, {"message_id": "m", "payload": "x" * 70_000}, 413, "payload"),
        (url, {"message_id": "m", "more": 1}, 400, "more"),
        (f"{SENSORS}/files/messages", {"message_id": "m"}, 409, "sensor_id"),
        (f"{SENSORS}/zzz/messages", {"message_id": "m"}, 404, "sensor_id"),
    ]
    for where, body, status, field in wrong:
        answer = await world.client.post(where, json=body)
        assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert (await shown(world, "hook"))["sensor"]["messages"] == 0


async def test_operators_pause_resume_reset_and_set_a_cursor(world: World) -> None:
    await deployed(world, location(FILES))

    async def act(order: EvaluationOrder) -> EvaluationAnswer:
        at = int(order.cursor or 0) + 1
        return EvaluationAnswer(requests=[AskedRun(run_key=f"k{at}")], cursor=str(at))

    local(world).acts["files"] = act
    for verb, changed in (("pause", True), ("pause", False)):
        assert (await world.client.post(f"{SENSORS}/files/{verb}")).json()["changed"] is changed
    assert_refused(await world.client.post(f"{SENSORS}/files/evaluate", json={}), 409, "EVENT_CONFLICT", "sensor_id")
    tried = (await world.client.post(f"{SENSORS}/files/evaluate", json={"dry_run": True, "cursor": "7"})).json()
    assert (tried["outcome"], tried["recorded"], tried["cursor_after"]) == ("triggered", False, "8")
    assert (await world.client.post(f"{SENSORS}/files/resume")).json()["changed"] is True
    done = (await world.client.post(f"{SENSORS}/files/evaluate", json={})).json()
    assert (done["cursor_after"], done["recorded"]) == ("1", True)
    assert (await world.client.put(f"{SENSORS}/files/cursor", json={"cursor": "4"})).json()["changed"] is True
    sensor = (await shown(world, "files"))["sensor"]
    assert (sensor["cursor"], sensor["paused"], sensor["changed_by"]) == ("4", False, "tester")
    assert (await world.client.post(f"{SENSORS}/files/evaluate", json={})).json()["cursor_after"] == "5"
    assert (await world.client.post(f"{SENSORS}/files/reset")).json()["changed"] is True
    assert (await shown(world, "files"))["sensor"]["cursor"] is None
    # From the beginning it asks for the same key: that is the same run.
    assert (await world.client.post(f"{SENSORS}/files/evaluate", json={})).json()["cursor_after"] == "1"
    evaluations = (await world.client.get(f"{SENSORS}/files/evaluations")).json()["items"]
    assert len(evaluations) == 3
    assert_refused(
        await world.client.put(f"{SENSORS}/files/cursor", json={"cursor": "x" * 20_000}),
        400,
        "INVALID_REQUEST",
        "cursor",
    )
    assert_refused(
        await world.client.put(f"{SENSORS}/files/cursor", json={"cursor": "\u00e4" * 9_000}),
        400,
        "INVALID_REQUEST",
        "cursor",
    )
    tried = await world.client.post(f"{SENSORS}/files/evaluate", json={"dry_run": True, "cursor": "\u00e4" * 9_000})
    assert_refused(tried, 400, "INVALID_REQUEST", "cursor")
    assert_refused(
        await world.client.post(f"{SENSORS}/files/evaluate", json={"cursor": "1"}), 400, "INVALID_REQUEST", "cursor"
    )
    for verb in ("pause", "resume", "reset"):
        assert_refused(await world.client.post(f"{SENSORS}/zzz/{verb}"), 404, "NOT_FOUND", "sensor_id")


async def test_what_a_poll_has_asked_for_before_is_told_and_not_recorded_again(world: World) -> None:
    await deployed(world, location(FILES))
    there = ["a"]

    async def act(order: EvaluationOrder) -> EvaluationAnswer:
        return EvaluationAnswer(requests=[AskedRun(run_key=name) for name in there])

    local(world).acts["files"] = act
    url = f"{SENSORS}/files/evaluate"
    assert (await world.client.post(url, json={})).json()["outcome"] == "triggered"
    for body in ({}, {"dry_run": True}):
        again = (await world.client.post(url, json=body)).json()
        assert (again["outcome"], again["recorded"], again["runs"]) == ("nothing", False, [])
        assert again["message"] == "1 run that it asks for was asked for before"
    there.append("b")
    new = (await world.client.post(url, json={})).json()
    assert [one["run_key"] for one in new["runs"]] == ["sensor:files:b"]
    evaluations = (await world.client.get(f"{SENSORS}/files/evaluations")).json()["items"]
    assert len(evaluations) == 2


async def test_a_sensor_shows_what_its_workflow_says(world: World) -> None:
    await deployed(world, location(FILES))
    assert (await shown(world, "files"))["doing"] is None
    local(world).doing["files"] = SensorDoing(sensor_id="files", failures=3, lag_ms=700, waits="it is paused")
    doing = (await shown(world, "files"))["doing"]
    assert (doing["failures"], doing["lag_ms"], doing["waits"]) == (3, 700, "it is paused")
    assert_refused(await world.client.get(f"{SENSORS}/zzz"), 404, "NOT_FOUND", "sensor_id")


async def test_ready_made_sensors_find_what_is_new_once(world: World) -> None:
    ended = {"sensor_id": "ended", "kind": "run", "ends": ["cancelled"], "select": ["raw"]}
    landed = {"sensor_id": "landed", "kind": "objects", "prefix": "ledger/", "select": ["raw"]}
    versions = {"sensor_id": "versions", "kind": "table", "table": "prices", "select": ["raw"]}
    await deployed(world, location(ended, landed, versions))

    async def evaluated(sensor_id: str) -> dict[str, Any]:
        answer = await world.client.post(f"{SENSORS}/{sensor_id}/evaluate", json={})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    # The workspace's own objects are nobody's to watch, and a table may not be there yet.
    assert (await evaluated("landed"))["reason_code"] == "BAD_PREFIX"
    assert (await evaluated("versions"))["reason_code"] == "TABLE_NOT_FOUND"
    columns = [{"name": "id", "type": "long", "nullable": True, "metadata": {}}]
    made = await world.client.post(f"{V1}/delta/tables", json={"name": "prices", "columns": columns})
    assert made.status_code == 201, made.text
    first = await evaluated("versions")
    assert (first["outcome"], first["cursor_after"]) == ("triggered", "0")
    assert (await evaluated("versions"))["outcome"] == "nothing"
    assert (await evaluated("ended"))["outcome"] == "no_new_data", "from now on"
    run = (await world.client.post(f"{V1}/runs", json={"select": ["raw"]})).json()["run_id"]
    await world.client.post(f"{V1}/runs/{run}/cancel")
    found = await evaluated("ended")
    assert [one["run_key"] for one in found["runs"]] == [f"sensor:ended:{run}:CANCELLED"]
    assert (await evaluated("ended"))["outcome"] == "nothing"
