"""Asking for runs over HTTP: once for each key, planned before anything is written; cancelling and repeating them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from springline.control.runs.messages import RunDoing
from springline.definitions.configs import MAX_CONFIG_BYTES
from springline.deployed.reading import ManifestReader
from springline.ledger.identifiers import run_id_of_key
from springline.ledger.request import AppendOutcome, AppendRequest
from springline.paths import Scope, deployed_manifest
from springline.runs.requests import MAX_LABELS
from tests.api.conftest import V1, World, assert_refused
from tests.api.test_manifests import body as location
from tests.api.test_manifests import deployed
from tests.control.payloads import finished, hold, started
from tests.control.payloads import requested as requested_by_other
from tests.support.definitions import asset
from tests.support.local_api import ACME, RIVAL

RUNS = f"{V1}/runs"
DAYS = {"kind": "daily", "start": "2024-01-01"}
PIPELINE = location(
    "flights",
    asset("raw", partitions=DAYS, retries=2),
    {"key": "clean", "dependencies": [{"asset": "raw", "argument": "raw"}], "partitions": DAYS},
    asset("names"),
    asset("report", "clean", "names"),
)
EVERYTHING: dict[str, Any] = {"select": ["*"], "partitions": ["2024-01-01", "2024-01-02"]}
FROM_FAILED: dict[str, Any] = {"from": "failed"}


async def start(world: World, expected: int = 201, **asked: Any) -> dict[str, Any]:
    answer = await world.client.post(RUNS, json=asked)
    assert answer.status_code == expected, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def shown(world: World, run_id: str) -> dict[str, Any]:
    answer = await world.client.get(f"{RUNS}/{run_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def requested(world: World) -> list[dict[str, Any]]:
    """Return the payloads of all requests for runs that went to the ledger."""
    return _appended(world, "run_requested")


def begun(world: World) -> list[dict[str, Any]]:
    """Return the payloads that began runs."""
    return _appended(world, "run_triggered")


def _appended(world: World, kind: str) -> list[dict[str, Any]]:
    return [
        event.data
        for request in world.ledger.requests
        if isinstance(request, AppendRequest)
        for event in request.events
        if event.data["type"] == kind
    ]


async def end(world: World, run_id: str, **outcomes: str) -> None:
    """End tasks of a run; of those that are not named nothing is said."""
    for task, outcome in outcomes.items():
        fails = {"error": {"category": "USER_CODE", "message": "no", "retryable": False}} if outcome == "failed" else {}
        await world.appended(started(task, 1, run_id), finished(outcome, task, 1, run_id, **fails))


async def test_a_run_is_planned_and_begins(world: World) -> None:
    done = await deployed(world, PIPELINE)
    answer = await world.client.post(RUNS, json=EVERYTHING | {"config": {"rows": 3}, "labels": {"team": "x"}})
    assert answer.status_code == 201
    found = answer.json()
    assert answer.headers["Location"] == f"{RUNS}/{found['run_id']}"
    assert answer.headers["Idempotency-Replayed"] == "false"
    assert found["run_key"].startswith("api:")
    assert (found["state"], found["tasks"], found["manifest_id"]) == ("RUNNING", 6, done["manifest_id"])
    run = await shown(world, found["run_id"])
    assert run["run"]["run_key"] == found["run_key"]
    assert {task["task_key"]: task["state"] for task in run["tasks"]} == {
        "raw[2024-01-01]": "READY",
        "raw[2024-01-02]": "READY",
        "clean[2024-01-01]": "BLOCKED",
        "clean[2024-01-02]": "BLOCKED",
        "names": "READY",
        "report": "BLOCKED",
    }
    assert world.runs.started == [found["run_id"]]
    (event,) = requested(world)
    assert event["asset_selection"] == ["clean", "names", "raw", "report"]
    assert event["partition_selection"] == ["2024-01-01", "2024-01-02"]
    assert event["code_version"] == done["manifest_id"]
    assert event["springline"] == {"config": {"rows": 3}}
    source = event["trigger_source_ref"]
    assert (source["type"], source["user_id"]) == ("manual", "tester")
    assert source["request_id"] == answer.headers["X-Request-Id"]
    items = (await world.client.get(RUNS, params={"label": "team=x"})).json()["items"]
    assert [one["run_id"] for one in items] == [found["run_id"]]


async def test_without_a_key_every_request_is_a_new_run(world: World) -> None:
    await deployed(world, PIPELINE)
    first, second = await start(world, select=["names"]), await start(world, select=["names"])
    assert first["run_id"] != second["run_id"]


async def test_the_same_request_under_a_key_is_the_same_run_for_ever(world: World) -> None:
    done = await deployed(world, PIPELINE)
    first = await start(world, select=["*clean", "names"], partitions=["2024-01-02", "2024-01-01"], run_key="k")
    before = len(requested(world))
    answer = await world.client.post(
        RUNS,
        json={"select": ["names, *clean"], "partitions": ["2024-01-01", "2024-01-02", "2024-01-01"], "run_key": "k"},
    )
    assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (200, "true")
    assert answer.json() == first
    # Definitions may have changed since, and what was selected may be gone.
    await deployed(world, location("flights", asset("other")))
    again = await start(world, 200, select=["names", "*clean"], partitions=["2024-01-01", "2024-01-02"], run_key="k")
    assert again == first
    assert first["manifest_id"] == done["manifest_id"]
    assert len(requested(world)) == before


@pytest.mark.parametrize(
    "other",
    [
        {"select": ["raw"], "partitions": ["2024-01-01"]},
        {"select": ["names"], "config": {"a": 1}},
        {"select": ["names"], "labels": {"a": "b"}},
        {"select": ["names"], "priority": 1},
    ],
)
async def test_another_request_under_a_key_is_refused(world: World, other: dict[str, Any]) -> None:
    await deployed(world, PIPELINE)
    first = await start(world, select=["names"], run_key="k")
    before = world.snapshot()
    answer = await world.client.post(RUNS, json=other | {"run_key": "k"})
    found = assert_refused(answer, 409, "KEY_REUSED", "run_key", value="k", remedy="another run key")
    assert first["run_id"] in found["message"]
    assert world.snapshot() == before


async def test_a_key_that_another_source_used_is_refused(world: World) -> None:
    await deployed(world, PIPELINE)
    source = {"type": "manual", "user_id": "ada", "request_id": "r"}
    await world.appended(
        {
            "type": "run_requested",
            "run_key": "k",
            "request_fingerprint": "f",
            "asset_selection": ["names"],
            "trigger_source_ref": source,
        }
    )
    assert_refused(
        await world.client.post(RUNS, json={"select": ["names"], "run_key": "k"}), 409, "KEY_REUSED", "run_key"
    )
    await world.appended(
        {"type": "run_triggered", "run_id": "r", "plan_id": "p", "run_key": "mine"}
        | {"trigger": {"type": "manual", "user_id": "ada"}, "root_assets": []}
    )
    answer = await world.client.post(RUNS, json={"select": ["names"], "run_key": "mine"})
    assert_refused(answer, 409, "EVENT_CONFLICT", "run_key", remedy="another run key")


@pytest.mark.parametrize("key", ["a:b/c", "2024-01-01T00:00+01:00", "å / ü", "x" * 1_024])
async def test_keys_may_hold_colons_and_slashes(world: World, key: str) -> None:
    await deployed(world, PIPELINE)
    first = await start(world, select=["names"], run_key=key)
    assert (await start(world, 200, select=["names"], run_key=key))["run_id"] == first["run_id"]
    items = (await world.client.get(RUNS, params={"run_key": key})).json()["items"]
    assert [one["run_id"] for one in items] == [first["run_id"]]


async def test_priority_is_a_label_of_the_run(world: World) -> None:
    await deployed(world, PIPELINE)
    found = await start(world, select=["names"], priority=-7.0)
    assert (await shown(world, found["run_id"]))["run"]["labels"] == {"springline/priority": "-7"}


async def test_a_run_that_has_not_begun_is_requested(world: World) -> None:
    done = await deployed(world, PIPELINE)
    world.runs.launches = False
    found = await start(world, **EVERYTHING, run_key="k")
    assert (found["state"], found["tasks"], found["manifest_id"]) == ("REQUESTED", 6, done["manifest_id"])
    assert world.runs.asked == ["k"]
    world.runs.launches = True
    # Asked again, it is launched: a lost wake-up costs nothing then.
    assert (await start(world, 200, **EVERYTHING, run_key="k"))["state"] == "RUNNING"


async def test_what_is_recorded_and_not_visible_yet_is_202(world: World) -> None:
    await deployed(world, PIPELINE)
    world.ledger.holds_back = True
    answer = await world.client.post(RUNS, json={"select": ["names"], "run_key": "k"})
    assert answer.status_code == 202
    assert answer.json() == {"run_id": None, "run_key": "k", "manifest_id": None, "state": "REQUESTED", "tasks": 1}
    assert "Location" not in answer.headers
    world.ledger.holds_back = False
    await world.appended({"type": "springline_hold_changed", "change_id": "c", "held": True, "changed_by": "ada"})
    await world.appended({"type": "springline_hold_changed", "change_id": "d", "held": False, "changed_by": "ada"})
    assert (await start(world, 200, select=["names"], run_key="k"))["state"] == "RUNNING"


BAD: list[tuple[Any, str, str]] = [
    ({}, "select", "missing"),
    ({"select": []}, "select", "selection is empty"),
    ({"select": [" , "]}, "select", "selection is empty"),
    ({"select": "names"}, "select", "list"),
    ({"select": [1]}, "select.0", "string"),
    ({"select": ["nmes"]}, "select", "'nmes' names no asset"),
    ({"select": ["a/b:c"]}, "select", "'a/b:c' names no asset"),
    ({"select": ["names"], "partitions": ["2024-01-01"]}, "partitions", "names have none"),
    ({"select": ["raw"]}, "partitions", "none is asked for"),
    ({"select": ["raw"], "partitions": ["2023-12-31"]}, "partitions", "before the first"),
    ({"select": ["raw"], "partitions": ["2024-02-30"]}, "partitions", "no key of daily"),
    ({"select": ["raw"], "partitions": ["x" * 201]}, "partitions.0", "at most 200"),
    ({"select": ["clean"], "partitions": ["2024-01-01"]}, "select", "raw is not selected"),
    ({"select": ["names"], "run_key": ""}, "run_key", "empty"),
    ({"select": ["names"], "run_key": "x" * 1_025}, "run_key", "at most 1024"),
    ({"select": ["names"], "run_key": "å" * 600}, "run_key", "1200 bytes"),
    ({"select": ["names"], "run_key": "a\nb"}, "run_key", "printed"),
    ({"select": ["names"], "run_key": "sched:a:1"}, "run_key", "schedule"),
    ({"select": ["names"], "run_key": "backfill:a:chunk:0"}, "run_key", "backfill"),
    ({"select": ["names"], "run_key": "rerun:a"}, "run_key", "rerun"),
    ({"select": ["names"], "run_key": "sensor:files:a.csv"}, "run_key", "sensor"),
    ({"select": ["names"], "run_key": "api:x"}, "run_key", "server"),
    ({"select": ["names"], "config": []}, "config", "dictionary"),
    ({"select": ["names"], "config": {"a": [1, {"b": 0.5}]}}, "config.a[1].b", "fraction"),
    ({"select": ["names"], "config": {"a": -(2**63) - 1}}, "config.a", "64 bits"),
    ({"select": ["names"], "config": {"a": "x" * MAX_CONFIG_BYTES}}, "config", "bytes"),
    ({"select": ["names"], "labels": {f"l{n}": "x" for n in range(10_000)}}, "labels", "5000 is the most"),
    ({"select": ["names"], "labels": {f"l{n}": "x" for n in range(MAX_LABELS + 1)}}, "labels", "at most 64"),
    ({"select": ["names"], "labels": {f"{n:0100}": "x" * 200 for n in range(64)}}, "labels", "bytes"),
    ({"select": ["names"], "labels": {"a=b": "c"}}, "labels", "equals"),
    ({"select": ["names"], "labels": {"": "c"}}, "labels", "at least 1"),
    ({"select": ["names"], "labels": {"a": "\u0007"}}, "labels.a", "printed"),
    ({"select": ["names"], "labels": {"a": 1}}, "labels.a", "string"),
    ({"select": ["names"], "labels": {"springline/priority": "1"}}, "labels", "server sets"),
    ({"select": ["names"], "priority": 101}, "priority", "100"),
    ({"select": ["names"], "priority": 0.5}, "priority", "integer"),
    ({"select": ["names"], "priority": "1"}, "priority", "integer"),
    ({"select": ["names"], "when": "now"}, "when", "not a field"),
    ([], "body", "object"),
]


@pytest.mark.parametrize(("sent", "field", "said"), BAD)
async def test_what_cannot_be_asked_for_is_named_and_writes_nothing(
    world: World, sent: Any, field: str, said: str
) -> None:
    await deployed(world, PIPELINE)
    before = world.snapshot()
    found = assert_refused(await world.client.post(RUNS, json=sent), 400, "INVALID_REQUEST", field)
    assert said.lower() in found["message"].lower()
    assert world.snapshot() == before
    assert world.runs.asked == []


async def test_a_config_that_is_too_deep_is_refused(world: World) -> None:
    await deployed(world, PIPELINE)
    deep: Any = {}
    for _ in range(60):
        deep = {"a": [deep]}
    answer = await world.client.post(RUNS, json={"select": ["names"], "config": deep})
    assert answer.status_code == 400
    assert answer.json()["field"].startswith("config.a[0].a")
    assert answer.json()["remedy"] == "Use fewer levels."


async def test_a_workspace_without_definitions_has_no_runs(world: World) -> None:
    answer = await world.client.post(RUNS, json={"select": ["names"]})
    assert_refused(answer, 404, "NOT_FOUND", "manifest", remedy="deploy FILE")
    await deployed(world, PIPELINE)
    await deployed(world, location("flights"))
    answer = await world.client.post(RUNS, json={"select": ["*"]})
    assert_refused(answer, 404, "NOT_FOUND", "manifest", remedy="deploy FILE")
    theirs = await world.client.post(RUNS, json={"select": ["names"]}, headers=world.bearer(RIVAL))
    assert_refused(theirs, 404, "NOT_FOUND", "manifest")


async def test_a_manifest_that_is_gone_is_named(world: World) -> None:
    done = await deployed(world, PIPELINE)
    world.store.remove(ACME.full(deployed_manifest(done["manifest_id"])))
    world.app.state.manifests = ManifestReader()  # Of a process that has not read it yet.
    before = world.snapshot()
    answer = await world.client.post(RUNS, json={"select": ["names"]})
    assert_refused(answer, 409, "STORED_DAMAGED", "stored object", value=deployed_manifest(done["manifest_id"]))
    assert world.snapshot() == before


async def test_a_run_whose_manifest_is_gone_before_it_begins_waits_until_it_is_restored(world: World) -> None:
    done = await deployed(world, PIPELINE)
    world.runs.launches = False
    found = await start(world, select=["names"], run_key="k")
    path = ACME.full(deployed_manifest(done["manifest_id"]))
    whole = world.store.objects[path].data
    world.store.remove(path)
    world.runs.launches = True
    again = await start(world, 200, select=["names"], run_key="k")
    assert (again["run_id"], again["state"]) == (found["run_id"], "REQUESTED")
    world.store.seed(path, whole)
    again = await start(world, 200, select=["names"], run_key="k")
    assert (again["run_id"], again["state"]) == (found["run_id"], "RUNNING")


# Cancelling.


async def test_a_run_cancels_itself_or_is_cancelled_by_the_door(world: World) -> None:
    await deployed(world, PIPELINE)
    for answers in (True, False):
        world.runs.answers = answers
        found = await start(world, select=["names"])
        answer = await world.client.post(f"{RUNS}/{found['run_id']}/cancel", json={"reason": "wrong day"})
        assert answer.status_code == 200
        assert answer.json() == {"run_id": found["run_id"], "state": "CANCELLED", "cancel_requested": True}
        assert world.runs.cancelled[-1] == (found["run_id"], "tester", "wrong day")
        again = await world.client.post(f"{RUNS}/{found['run_id']}/cancel")
        assert_refused(again, 409, "EVENT_CONFLICT", "run_id", value=found["run_id"], remedy="nothing left")


async def test_attempts_under_way_end_before_the_run_is_cancelled(world: World) -> None:
    await deployed(world, PIPELINE)
    found = await start(world, select=["names"])
    await world.appended(started("names", 1, found["run_id"]))
    for _ in range(2):
        answer = await world.client.post(f"{RUNS}/{found['run_id']}/cancel")
        assert answer.status_code == 202
        assert answer.json() == {"run_id": found["run_id"], "state": "RUNNING", "cancel_requested": True}
    await end(world, found["run_id"], names="cancelled")
    assert (await shown(world, found["run_id"]))["run"]["state"] == "CANCELLED"


async def test_what_cannot_be_cancelled(world: World) -> None:
    answer = await world.client.post(f"{RUNS}/run_x/cancel")
    assert_refused(answer, 404, "NOT_FOUND", "run_id", value="run_x")
    for odd in ("a:b", "a%2Fb", ".."):
        assert (await world.client.post(f"{RUNS}/{odd}/cancel")).status_code == 404
    await deployed(world, PIPELINE)
    found = await start(world, select=["names"])
    path = f"{RUNS}/{found['run_id']}/cancel"
    assert_refused(await world.client.post(path, json={"reason": "x" * 1_001}), 400, "INVALID_REQUEST", "reason")
    assert_refused(await world.client.post(path, json={"why": "x"}), 400, "INVALID_REQUEST", "why")
    theirs = await world.client.post(path, headers=world.bearer(RIVAL))
    assert_refused(theirs, 404, "NOT_FOUND", "run_id")
    assert (await shown(world, found["run_id"]))["run"]["cancel_requested"] is False


async def test_a_run_that_waits_for_its_turn_is_withdrawn(world: World) -> None:
    await deployed(world, PIPELINE)
    world.runs.launches = False
    waiting = await start(world, select=["names"], run_key="k")
    answer = await world.client.post(f"{RUNS}/{waiting['run_id']}/cancel", json={"reason": "wrong day"})
    assert answer.status_code == 200
    assert answer.json() == {"run_id": waiting["run_id"], "state": "CANCELLED", "cancel_requested": True}
    assert world.runs.cancelled == []
    world.runs.launches = True
    again = await start(world, 200, select=["names"], run_key="k")
    assert (again["run_id"], again["state"]) == (waiting["run_id"], "CANCELLED")
    run = await shown(world, waiting["run_id"])
    assert (run["run"]["cancel_requested"], run["run"]["tasks_total"], run["tasks"]) == (True, 0, [])
    assert (await world.client.post(f"{RUNS}/{waiting['run_id']}/cancel")).status_code == 409


async def test_a_run_that_begins_while_it_is_withdrawn_is_cancelled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(world, PIPELINE)
    world.runs.launches = False
    waiting = await start(world, select=["names"], run_key="k")
    append = world.ledger.append

    async def faster(scope: Scope, request: AppendRequest) -> AppendOutcome:
        monkeypatch.undo()
        world.runs.launches = True
        await start(world, 200, select=["names"], run_key="k")
        return await append(scope, request)

    monkeypatch.setattr(world.ledger, "append", faster)
    answer = await world.client.post(f"{RUNS}/{waiting['run_id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "CANCELLED")
    assert len(begun(world)) == 2
    assert (await shown(world, waiting["run_id"]))["run"]["tasks_total"] == 1


async def test_a_hold_keeps_what_waits_as_it_is(world: World) -> None:
    await deployed(world, PIPELINE)
    world.runs.launches = False
    waiting = (await start(world, select=["names"]))["run_id"]
    await world.appended(hold(True, "h1"))
    answer = await world.client.post(f"{RUNS}/{waiting}/cancel")
    assert_refused(answer, 409, "EVENT_CONFLICT", "run_id", value=waiting, remedy="hold is taken off")
    await world.appended(hold(False, "h2"))
    assert (await world.client.post(f"{RUNS}/{waiting}/cancel")).status_code == 200


@pytest.mark.parametrize("more", ["", "/tasks", "/attempts", "/doing"])
async def test_a_run_that_is_asked_for_is_told_from_one_that_there_is_not(world: World, more: str) -> None:
    await deployed(world, PIPELINE)
    world.runs.launches = False
    waiting = (await start(world, select=["names"]))["run_id"]
    await world.appended(hold(True, "h1"))
    answer = await world.client.get(f"{RUNS}/{waiting}{more}")
    assert_refused(answer, 404, "NOT_FOUND", "run_id", value=waiting, remedy="the workspace is held")
    assert "is asked for" in answer.json()["message"]
    answer = await world.client.get(f"{RUNS}/{'0' * 26}{more}")
    assert "holds no run" in answer.json()["message"]


async def test_what_another_system_asked_for_is_left_to_it(world: World) -> None:
    await world.appended(requested_by_other("theirs"))
    found = run_id_of_key(ACME.tenant, ACME.workspace, "theirs", b"")
    answer = await world.client.post(f"{RUNS}/{found}/cancel")
    assert_refused(answer, 409, "EVENT_CONFLICT", "run_id", value=found, remedy="Cancel it there")


# Making part of a run again.


async def failed_run(world: World) -> str:
    """A run of which raw succeeded, clean failed on one day, and what needs it was skipped."""
    await deployed(world, PIPELINE)
    found = await start(world, **EVERYTHING, labels={"team": "x"}, config={"rows": 3})
    run: str = found["run_id"]
    await end(world, run, **{"raw[2024-01-01]": "succeeded", "raw[2024-01-02]": "succeeded", "names": "succeeded"})
    await end(world, run, **{"clean[2024-01-01]": "succeeded", "clean[2024-01-02]": "failed"})
    assert (await shown(world, run))["run"]["state"] == "FAILED"
    return run


async def again(world: World, run: str, expected: int = 201, **part: Any) -> dict[str, Any]:
    answer = await world.client.post(f"{RUNS}/{run}/rerun", json=part)
    assert answer.status_code == expected, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_failed_is_made_again(world: World) -> None:
    parent = await failed_run(world)
    found = await again(world, parent, **FROM_FAILED)
    assert found["run_key"].startswith(f"rerun:{parent}:from_failure:")
    assert (found["state"], found["tasks"]) == ("RUNNING", 2)
    run = await shown(world, found["run_id"])
    assert {task["task_key"]: task["state"] for task in run["tasks"]} == {
        "clean[2024-01-02]": "READY",
        "report": "BLOCKED",
    }
    assert run["run"]["labels"] == {"team": "x", "springline/parent_run_id": parent}
    event = requested(world)[-1]
    assert event["springline"] == {"config": {"rows": 3}, "parent_run_id": parent, "rerun": "failed"}
    assert (event["asset_selection"], event["partition_selection"]) == (["clean", "report"], ["2024-01-02"])
    assert begun(world)[-1]["springline"]["effects_scope"] == parent
    assert await again(world, parent, 200, **FROM_FAILED) == found
    # A rerun of the rerun goes on with the same write sets.
    await end(world, found["run_id"], **{"clean[2024-01-02]": "failed"})
    third = await again(world, found["run_id"], **FROM_FAILED)
    assert (third["state"], third["tasks"]) == ("RUNNING", 2)
    assert begun(world)[-1]["springline"]["effects_scope"] == parent


async def test_named_tasks_are_made_again(world: World) -> None:
    parent = await failed_run(world)
    found = await again(world, parent, tasks=["raw[2024-01-01]", "names", "names"])
    assert found["run_key"].startswith(f"rerun:{parent}:subset:")
    run = await shown(world, found["run_id"])
    assert [task["task_key"] for task in run["tasks"]] == ["names", "raw[2024-01-01]"]
    assert requested(world)[-1]["springline"]["tasks"] == ["names", "raw[2024-01-01]"]
    assert "effects_scope" not in begun(world)[-1]["springline"]
    other = await again(world, parent, tasks=["names"])
    assert other["run_id"] != found["run_id"]


@pytest.mark.parametrize(
    ("part", "field", "said"),
    [
        ({}, "from", "one of them must be given"),
        ({"from": "failed", "tasks": ["names"]}, "from", "not both"),
        ({"from": "start"}, "from", "'failed'"),
        ({"tasks": []}, "tasks", "at least 1"),
        ({"tasks": ["nmes"]}, "tasks", "names no task"),
        ({"tasks": ["raw[2024-01-03]"]}, "tasks", "names no task"),
        ({"tasks": [f"t{n:0500}" for n in range(7)]}, "tasks", "bytes together"),
        ({"part": "failed"}, "part", "not a field"),
    ],
)
async def test_what_cannot_be_made_again(world: World, part: dict[str, Any], field: str, said: str) -> None:
    parent = await failed_run(world)
    before = world.snapshot()
    answer = await world.client.post(f"{RUNS}/{parent}/rerun", json=part)
    found = assert_refused(answer, 400, "INVALID_REQUEST", field)
    assert said in found["message"]
    assert world.snapshot() == before


async def test_a_run_that_goes_on_or_has_nothing_left_is_not_made_again(world: World) -> None:
    assert_refused(
        await world.client.post(f"{RUNS}/run_x/rerun", json={"from": "failed"}),
        404,
        "NOT_FOUND",
        "run_id",
        value="run_x",
    )
    await deployed(world, PIPELINE)
    found = await start(world, select=["names"])
    path = f"{RUNS}/{found['run_id']}/rerun"
    answer = await world.client.post(path, json={"from": "failed"})
    assert_refused(answer, 409, "EVENT_CONFLICT", "run_id", value=found["run_id"], remedy="wait")
    await end(world, found["run_id"], names="succeeded")
    answer = await world.client.post(path, json={"from": "failed"})
    assert_refused(answer, 409, "EVENT_CONFLICT", "from", value="failed", remedy="tasks")


async def test_a_run_whose_assets_have_left_is_not_made_again(world: World) -> None:
    parent = await failed_run(world)
    await deployed(world, location("flights", asset("raw", partitions=DAYS)))
    answer = await world.client.post(f"{RUNS}/{parent}/rerun", json={"from": "failed"})
    found = assert_refused(answer, 409, "DEFINITION_CONFLICT", "tasks", value="clean")
    assert parent in found["message"]


@pytest.mark.parametrize("path", ["", "/x/cancel", "/x/rerun"])
async def test_each_route_needs_write(world: World, path: str) -> None:
    for granted in ("read", "operate"):
        answer = await world.client.post(RUNS + path, json={}, headers=world.bearer(scopes=[granted]))
        assert answer.status_code == 403, answer.text


async def test_the_examples_of_the_document_can_be_asked_for(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()

    def examples(path: str) -> list[Any]:
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        return [one["value"] for one in content["examples"].values()]

    for value in examples(f"{V1}/manifests"):
        assert (await world.client.post(f"{V1}/manifests", json=value)).status_code == 201
    for value in examples(RUNS):
        answer: httpx.Response = await world.client.post(RUNS, json=value)
        assert answer.status_code == 201, answer.text


async def test_a_run_says_what_it_is_doing_while_it_goes_on(world: World) -> None:
    await deployed(world, PIPELINE)
    run_id = (await start(world, select=["names"]))["run_id"]
    path = f"{RUNS}/{run_id}/doing"
    assert (await world.client.get(path)).json() == {"run_id": run_id, "state": "RUNNING", "doing": None}
    world.runs.doing[run_id] = RunDoing(run_id=run_id, phase="running", waits_for=["names: no worker"])
    assert (await world.client.get(path)).json()["doing"]["waits_for"] == ["names: no worker"]
    await world.client.post(f"{RUNS}/{run_id}/cancel")
    assert (await world.client.get(path)).json() == {"run_id": run_id, "state": "CANCELLED", "doing": None}
    assert_refused(await world.client.get(f"{RUNS}/nothing/doing"), 404, "NOT_FOUND", "run_id")


async def test_a_run_takes_the_tasks_that_its_assets_need_and_the_ledger_has_no_asset_for_them(world: World) -> None:
    dimensions = [
        {"name": "day", "partitions": DAYS},
        {"name": "region", "partitions": {"kind": "static", "keys": ["eu", "us"]}},
    ]
    both = {"kind": "multi", "dimensions": dimensions}
    await deployed(
        world,
        location(
            "flights",
            asset("raw", "ready", partitions=both),
            tasks=[asset("ready"), asset("tell", "raw", partitions=both)],
        ),
    )
    found = await start(world, select=["raw"], partitions=["2024-01-01|eu", "2024-01-02|us"])
    run = await shown(world, found["run_id"])
    tasks = {one["task_key"]: (one.get("asset_key"), one.get("partition_key")) for one in run["tasks"]}
    assert tasks == {
        "ready": (None, None),
        "raw[2024-01-01%7Ceu]": ("raw", "2024-01-01|eu"),
        "raw[2024-01-02%7Cus]": ("raw", "2024-01-02|us"),
    }
    (event,) = requested(world)
    assert event["asset_selection"] == ["raw", "ready"]
    told = await start(world, select=["tell"], partitions=["2024-01-01|eu"])
    assert told["tasks"] == 1
    answer = await world.client.post(RUNS, json={"select": ["raw"], "partitions": ["2024-01-01|no"]})
    assert "has the region 'no'" in assert_refused(answer, 400, "INVALID_REQUEST", "partitions")["message"]
    body = {"select": ["raw"], "start": "2024-01-01", "end": "2024-01-03", "match": "*|us"}
    created = await world.client.post(f"{V1}/backfills", json=body)
    assert created.status_code == 201, created.text
    assert created.json()["total_partitions"] == 3


def taking(*fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return what a model takes, as a deploy sends it."""
    return {"config": {"model": "Settings", "fields": list(fields), **more}}


DAYS_FIELD: dict[str, Any] = {"name": "days", "type": "int", "required": True, "refuses": ["null", "array", "object"]}
TYPED = location(
    "flights",
    asset("raw", **taking(DAYS_FIELD, {"name": "mode", "type": "str", "default": '"new"'})),
    asset("exact", "prepare", **taking({"name": "region", "type": "str"}, forbids_others=True)),
    asset("free"),
    asset("odd", **taking(DAYS_FIELD, forbids_others=True, judged=False)),
) | {"tasks": [{"key": "prepare", **taking({"name": "path", "type": "Path", "required": True})}]}


@pytest.mark.parametrize(
    ("select", "config", "field", "said", "remedy"),
    [
        (
            "raw",
            {},
            "config.days",
            "is missing, and Settings, the config of raw, requires it",
            "Give it: int.",
        ),
        ("raw", {"dayz": 3}, "config.days", "missing", "Did you write dayz for days?"),
        ("raw", {"days": {"n": 3}}, "config.days", 'is {"n": 3}, and no object', "Give another value: int."),
        (
            "exact",
            {"path": "x", "region": "eu"},
            "config.path",
            "config of exact, which",
            "prepare takes it",
        ),
        (
            "exact",
            {"regon": "eu"},
            "config.regon",
            "config.path is missing, and Settings",
            "region?",
        ),
    ],
)
async def test_a_config_that_a_model_surely_refuses_is_refused_before(
    world: World, select: str, config: dict[str, Any], field: str, said: str, remedy: str
) -> None:
    await deployed(world, TYPED)
    before = world.snapshot()
    answer = await world.client.post(RUNS, json={"select": [select], "config": config})
    found = assert_refused(answer, 400, "INVALID_REQUEST", field, remedy=remedy)
    assert said in found["message"]
    assert world.snapshot() == before
    assert world.runs.asked == []


async def test_what_may_fit_is_for_the_models_to_judge(world: World) -> None:
    await deployed(world, TYPED)
    await start(world, select=["raw", "free"], config={"days": "three", "other": 1})
    await start(world, select=["odd", "free"], config={"other": 1})
    await start(world, select=["free"])


async def test_a_run_stays_asked_for_and_a_rerun_is_judged_when_it_is_asked_for(world: World) -> None:
    await deployed(world, location("flights", asset("raw"), asset("free")))
    asked: dict[str, Any] = {"select": ["*"], "run_key": "k", "config": {"dayz": 3}}
    found = await start(world, **asked)
    await deployed(world, location("flights", asset("raw", **taking(DAYS_FIELD)), asset("free")))
    # The same request is the same run, whatever is deployed since; under another key it is another one.
    assert (await start(world, 200, **asked))["run_id"] == found["run_id"]
    assert (await start(world, 400, **asked | {"run_key": "l"}))["field"] == "config.days"
    await end(world, found["run_id"], raw="failed", free="failed")
    answer = await world.client.post(f"{RUNS}/{found['run_id']}/rerun", json=FROM_FAILED)
    refused = assert_refused(answer, 409, "DEFINITION_CONFLICT", "config.days", remedy="start a new run")
    assert f"run {found['run_id']} cannot be made again with its config: config.days is missing" in refused["message"]
    # What it makes again is judged, and nothing else.
    assert (await again(world, found["run_id"], tasks=["free"]))["tasks"] == 1
    await deployed(world, location("flights", asset("raw"), asset("free")))
    assert (await again(world, found["run_id"], **FROM_FAILED))["tasks"] == 2
