"""Appending over HTTP: exactly once, all or none or each, visible when answered; every kind of bad input once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from springline.api.app import create_app
from springline.errors import HTTP_STATUS, Code, Refusal, Refused
from springline.ledger.envelope import compose_event, payload_from
from springline.ledger.request import AppendOutcome, AppendRequest, IngestOutcome, IngestRequest
from springline.paths import ObjectPath, Scope, canonical_ulid_event
from tests.api.conftest import EVENTS, V1, World, assert_refused, fresh, new_key
from tests.support.local_api import ACME, RIVAL
from tests.support.pipeline import Json, finished, plan_created, requests, run_triggered, succeeded_run, task

INGEST = f"{V1}/ledger/ingest"


async def test_what_is_appended_is_visible_when_it_is_answered(world: World) -> None:
    body = await world.appended(*succeeded_run("run-1", labels={"team": "sales"}))
    assert body["visibility_status"] == "visible"
    assert body["replayed"] is False
    assert [event["event_type"] for event in body["events"]] == [
        "RunTriggered",
        "PlanCreated",
        "TaskStarted",
        "TaskFinished",
    ]
    assert {event["outcome"] for event in body["events"]} == {"applied"}
    ids = [event["event_id"] for event in body["events"]]
    assert ids == sorted(ids)
    for event in body["events"]:
        stored = world.store.objects[ACME.full(ObjectPath(event["ledger_path"]))]
        assert orjson.loads(stored.data)["idempotency_key"] == event["idempotency_key"]
    answer = await world.client.get(f"{V1}/runs/run-1")
    assert answer.json()["run"]["state"] == "SUCCEEDED"
    assert answer.json()["revision"]["manifest_id"] == body["manifest_id"]
    assert answer.json()["revision"]["manifest_revision"] == body["manifest_revision"]
    assert answer.json()["revision"]["last_visible_event_id"] == ids[-1]


async def test_a_whole_pipeline_goes_in_request_by_request(world: World) -> None:
    for request in requests():
        body = await world.appended(*request)
        assert [event["outcome"] for event in body["events"] if not event["completed"]] == ["applied"] * len(request)
    states = {run["run_id"]: run["state"] for run in (await world.client.get(f"{V1}/runs")).json()["items"]}
    assert states == {"run-cancelled": "CANCELLED", "run-good": "SUCCEEDED", "run-retried": "RUNNING"}
    status = (await world.client.get(f"{V1}/ledger/status")).json()
    assert status["events"] == sum(map(len, requests()))
    assert status["rounds_folded"] == len(requests())
    assert status["sequencer"]["phase"] == "resting"


async def test_the_same_request_gets_the_same_events_for_ever(world: World) -> None:
    request_id = new_key()
    first = await world.append(*succeeded_run("run-1"), request_id=request_id)
    assert first.headers["Idempotency-Replayed"] == "false"
    await world.appended(*succeeded_run("run-2"))
    for _ in range(3):
        again = await world.append(*succeeded_run("run-1"), request_id=request_id)
        assert again.status_code == 200
        assert again.headers["Idempotency-Replayed"] == "true"
        assert [event["event_id"] for event in again.json()["events"]] == [
            event["event_id"] for event in first.json()["events"]
        ]
    assert (await world.client.get(f"{V1}/ledger/status")).json()["events"] == 8


async def test_another_payload_under_a_used_request_id_is_refused(world: World) -> None:
    request_id = new_key()
    await world.append(run_triggered("run-1"), request_id=request_id)
    answer = await world.append(run_triggered("run-2"), request_id=request_id)
    assert_refused(answer, 409, "KEY_REUSED", "request_id", value=request_id)


async def test_a_plan_for_a_cancelled_run_is_completed(world: World) -> None:
    await world.appended(run_triggered("run-1"))
    await world.appended({"type": "run_cancel_requested", "run_id": "run-1", "requested_by": "ada"})
    body = await world.appended(plan_created("run-1", ("a", [])))
    assert [(event["event_type"], event["completed"]) for event in body["events"]] == [
        ("PlanCreated", False),
        ("RunCancelRequested", True),
    ]
    assert (await world.client.get(f"{V1}/runs/run-1")).json()["run"]["state"] == "CANCELLED"


async def test_keys_and_causes_are_taken_over(world: World) -> None:
    cause = (await world.appended(run_triggered("run-1")))["events"][0]["event_id"]
    event = {"data": run_triggered("run-2"), "idempotency_key": "mine:1", "causation_id": cause}
    (made,) = (await world.appended(event))["events"]
    stored = orjson.loads(world.store.objects[ACME.full(ObjectPath(made["ledger_path"]))].data)
    assert (stored["idempotency_key"], stored["causation_id"]) == ("mine:1", cause)
    (again,) = (await world.appended(event))["events"]
    assert (again["outcome"], again["event_id"]) == ("duplicate", made["event_id"])


async def test_what_is_kept_and_not_visible_yet_is_202(world: World) -> None:
    world.ledger.holds_back = True
    answer = await world.append(run_triggered("run-1"))
    assert answer.status_code == 202
    body = answer.json()
    assert body["visibility_status"] == "persisted_not_visible"
    assert body["manifest_id"] is None
    path = ACME.full(ObjectPath(body["events"][0]["ledger_path"]))
    assert path in world.store.objects
    assert (await world.client.get(f"{V1}/runs")).json()["items"] == []
    world.ledger.holds_back = False
    await world.appended(run_triggered("run-2"))
    items = (await world.client.get(f"{V1}/runs")).json()["items"]
    assert [item["run_id"] for item in items] == ["run-1", "run-2"], "the next request finishes the round"


async def test_workspaces_are_apart(world: World) -> None:
    await world.appended(*succeeded_run("run-1"))
    body = {"request_id": new_key(), "events": [{"data": run_triggered("run-1")}]}
    answer = await world.client.post(EVENTS, json=body, headers=world.bearer(RIVAL))
    assert answer.json()["events"][0]["outcome"] == "applied"
    assert (await world.client.get(f"{V1}/runs/run-1")).json()["run"]["state"] == "SUCCEEDED"


START = task("task_started", "run-1", "a")


def events(*payloads: Json) -> Json:
    return {"events": [{"data": payload} for payload in payloads]}


def changed(payload: Json, **more: Any) -> Json:
    """Return a request with one event, whose payload has other values; `...` leaves a field out."""
    return events({name: value for name, value in (payload | more).items() if value is not ...})


RUN = run_triggered("run-1")
TWO = [{"key": "a", "depends_on": []}, {"key": "a", "depends_on": []}]
CIRCLE = [{"key": "a", "depends_on": ["b"]}, {"key": "b", "depends_on": ["a"]}]
PLAN = plan_created("run-1", ("a", []))
BACKFILL = requests()[2][0]

BAD_REQUESTS: list[tuple[str, Json, int, str, str]] = [
    ("no events", {"events": []}, 400, "INVALID_REQUEST", "events"),
    ("events missing", {"events": ...}, 400, "INVALID_REQUEST", "events"),
    ("events no list", {"events": {}}, 400, "INVALID_REQUEST", "events"),
    ("too many events", events(*[RUN] * 501), 400, "INVALID_REQUEST", "events"),
    ("event no object", {"events": [7]}, 400, "INVALID_REQUEST", "events.0"),
    ("no data", {"events": [{}]}, 400, "INVALID_REQUEST", "events.0.data"),
    ("data no object", {"events": [{"data": "x"}]}, 400, "INVALID_REQUEST", "events.0.data"),
    ("unknown field of an event", {"events": [{"data": RUN, "id": "x"}]}, 400, "INVALID_REQUEST", "events.0.id"),
    ("unknown field of the request", events(RUN) | {"key": "x"}, 400, "INVALID_REQUEST", "key"),
    ("request id missing", events(RUN) | {"request_id": ...}, 400, "INVALID_REQUEST", "request_id"),
    ("request id no UUID", events(RUN) | {"request_id": "x"}, 400, "INVALID_KEY", "request_id"),
    (
        "request id of version 4",
        events(RUN) | {"request_id": "0b7e4b4e-0d4f-4c52-9a57-7a3b3a1d9e11"},
        400,
        "INVALID_KEY",
        "request_id",
    ),
    (
        "request id in upper case",
        events(RUN) | {"request_id": "01946B1C-0000-7000-8000-000000000001"},
        400,
        "INVALID_KEY",
        "request_id",
    ),
    ("request id a number", events(RUN) | {"request_id": 7}, 400, "INVALID_REQUEST", "request_id"),
    ("type missing", changed(RUN, type=...), 400, "INVALID_REQUEST", "events[0].data.type"),
    ("type unknown", changed(RUN, type="run_exploded"), 400, "INVALID_REQUEST", "events[0].data.type"),
    ("type of another case", changed(RUN, type="RunTriggered"), 400, "INVALID_REQUEST", "events[0].data.type"),
    ("a field missing", changed(RUN, plan_id=...), 400, "INVALID_REQUEST", "events[0].data.plan_id"),
    ("a field of another type", changed(RUN, run_id=7), 400, "INVALID_REQUEST", "events[0].data.run_id"),
    ("an unknown field", changed(RUN, runid="x"), 400, "INVALID_REQUEST", "events[0].data.runid"),
    ("an empty id", changed(RUN, run_id=""), 400, "INVALID_REQUEST", "events[0].data.run_id"),
    ("a long id", changed(RUN, run_id="x" * 2000), 400, "INVALID_REQUEST", "events[0].data.run_id"),
    ("a NUL", changed(RUN, run_id="a\0b"), 400, "INVALID_REQUEST", "events[0].data.run_id"),
    ("half a character", changed(RUN, run_id="\ud800"), 400, "INVALID_REQUEST", "events[0].data.run_id"),
    ("labels no texts", changed(RUN, labels={"a": 1}), 400, "INVALID_REQUEST", "events[0].data.labels.a"),
    ("unknown trigger", changed(RUN, trigger={"type": "x"}), 400, "INVALID_REQUEST", "events[0].data.trigger.type"),
    ("a float", changed(START, attempt=1.5), 400, "INVALID_REQUEST", "events[0].data.attempt"),
    ("a negative attempt", changed(START, attempt=-1), 400, "INVALID_REQUEST", "events[0].data.attempt"),
    ("attempt 0", changed(START, attempt=0), 400, "INVALID_REQUEST", "events[0].data.attempt"),
    ("an attempt too great", changed(START, attempt=2**32), 400, "INVALID_REQUEST", "events[0].data.attempt"),
    (
        "no such outcome",
        changed(finished("run-1", "a"), outcome="ok"),
        400,
        "INVALID_REQUEST",
        "events[0].data.outcome",
    ),
    ("no plan", changed(PLAN, tasks=[]), 400, "INVALID_REQUEST", "events[0].data.tasks"),
    ("a task twice", changed(PLAN, tasks=TWO), 400, "INVALID_REQUEST", "events[0].data.tasks[1].key"),
    ("a circle", changed(PLAN, tasks=CIRCLE), 400, "INVALID_REQUEST", "events[0].data.tasks[0].depends_on"),
    (
        "an unknown dependency",
        changed(PLAN, tasks=[{"key": "a", "depends_on": ["z"]}]),
        400,
        "INVALID_REQUEST",
        "events[0].data.tasks[0].depends_on[0]",
    ),
    ("no chunks", changed(BACKFILL, chunk_size=0), 400, "INVALID_REQUEST", "events[0].data.chunk_size"),
    (
        "an empty key",
        {"events": [{"data": RUN, "idempotency_key": ""}]},
        400,
        "INVALID_REQUEST",
        "events[0].idempotency_key",
    ),
    (
        "a cause with NUL",
        {"events": [{"data": RUN, "causation_id": "a\0"}]},
        400,
        "INVALID_REQUEST",
        "events[0].causation_id",
    ),
    ("the second is wrong", events(RUN, RUN | {"plan_id": 7}), 400, "INVALID_REQUEST", "events[1].data.plan_id"),
    ("a plan without its run", events(PLAN), 409, "EVENT_CONFLICT", "events[0].data.run_id"),
    ("a start without its task", events(START), 409, "EVENT_CONFLICT", "events[0].data.task_key"),
    (
        "cancelling what is not there",
        events({"type": "run_cancel_requested", "run_id": "nope", "requested_by": "ada"}),
        409,
        "EVENT_CONFLICT",
        "events[0].data.run_id",
    ),
]


NO_CHARACTERS = {"a NUL", "half a character", "a cause with NUL"}
"""What no field of any request may hold."""


@pytest.mark.parametrize(
    ("change", "status", "code", "field"), [one[1:] for one in BAD_REQUESTS], ids=[one[0] for one in BAD_REQUESTS]
)
async def test_a_wrong_request_is_refused_and_writes_nothing(
    world: World, change: Json, status: int, code: str, field: str
) -> None:
    before = world.snapshot()
    whole: Json = {"request_id": new_key()} | change
    body = {name: value for name, value in whole.items() if value is not ...}
    # Escaped to ASCII, because a value may hold what UTF-8 cannot encode.
    content = json.dumps(body).encode()
    answer = await world.client.post(EVENTS, content=content, headers={"Content-Type": "application/json"})
    assert_refused(answer, status, code, field)
    assert world.snapshot() == before
    assert (await world.append(run_triggered("run-after"))).status_code == 200, "and holds up nobody"


async def test_of_a_request_all_or_nothing_is_written(world: World) -> None:
    before = world.snapshot()
    answer = await world.append(RUN, PLAN, task("task_started", "run-1", "nope"))
    assert_refused(answer, 409, "EVENT_CONFLICT", "events[2].data.task_key", value="nope")
    assert world.snapshot() == before


# Each by itself.


async def test_of_a_request_each_every_event_is_told_of(world: World) -> None:
    nope = task("task_started", "run-1", "nope")
    answer = await world.append(RUN, nope, PLAN, RUN | {"plan_id": 7}, START, mode="each")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [event["event_type"] for event in body["events"]] == ["RunTriggered", "PlanCreated", "TaskStarted"]
    assert [(one["index"], one["code"], one["field"]) for one in body["refused"]] == [
        (1, "EVENT_CONFLICT", "events[1].data.task_key"),
        (3, "INVALID_REQUEST", "events[3].data.plan_id"),
    ]
    assert set(body["refused"][0]) == {"index", "code", "message", "field", "value", "remedy"}
    assert body["refused"][0]["value"] == "nope"
    assert body["visibility_status"] == "visible"
    states = [item["state"] for item in (await world.client.get(f"{V1}/tasks")).json()["items"]]
    assert states == ["RUNNING"]


async def test_a_request_that_is_taken_whole_tells_of_no_refused_event(world: World) -> None:
    for more in ({}, {"mode": "all"}):
        answer = await world.append(run_triggered(f"run-{len(more)}"), **more)
        assert (answer.status_code, answer.json()["refused"]) == (200, [])


async def test_the_same_request_each_gets_the_same_answer_for_ever(world: World) -> None:
    request_id = new_key()
    first = await world.append(START, RUN, request_id=request_id, mode="each")
    nothing = await world.append(START, request_id=(other_id := new_key()), mode="each")
    assert (nothing.status_code, nothing.json()["events"]) == (200, [])
    assert (await world.append(PLAN)).status_code == 200, "now the start could be taken"
    again = await world.append(START, RUN, request_id=request_id, mode="each")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert [again.json()[name] for name in ("events", "refused")] == [
        first.json()[name] for name in ("events", "refused")
    ]
    repeated = await world.append(START, request_id=other_id, mode="each")
    assert repeated.json()["refused"] == nothing.json()["refused"]
    assert (await world.client.get(f"{V1}/ledger/status")).json()["events"] == 2


async def test_one_request_id_stands_for_one_mode(world: World) -> None:
    request_id = new_key()
    await world.append(RUN, request_id=request_id, mode="each")
    for more in ({}, {"mode": "all"}):
        answer = await world.append(RUN, request_id=request_id, **more)
        assert_refused(answer, 409, "KEY_REUSED", "request_id", remedy="same mode", value=request_id)
    assert (await world.append(RUN, request_id=request_id, mode="each")).status_code == 200


async def test_what_is_refused_is_told_though_the_rest_is_not_visible_yet(world: World) -> None:
    world.ledger.holds_back = True
    answer = await world.append(RUN, START, mode="each")
    assert answer.status_code == 202
    assert [one["index"] for one in answer.json()["refused"]] == [1]


@pytest.mark.parametrize(
    ("more", "code", "field"),
    [
        ({"mode": "some"}, "INVALID_REQUEST", "mode"),
        ({"mode": None}, "INVALID_REQUEST", "mode"),
        ({"mode": "EACH"}, "INVALID_REQUEST", "mode"),
        ({"mode": "each", "request_id": "x"}, "INVALID_KEY", "request_id"),
        ({"mode": "each", "events": []}, "INVALID_REQUEST", "events"),
        ({"mode": "each"} | events(*[RUN] * 501), "INVALID_REQUEST", "events"),
        ({"mode": "each", "events": [{"data": RUN}, {"data": 7}]}, "INVALID_REQUEST", "events.1.data"),
        ({"mode": "each"} | events(RUN, RUN | {"run_id": "a\0"}), "INVALID_REQUEST", "events[1].data.run_id"),
        ({"mode": "each"} | events(RUN, RUN | {"x": 2**64}), "INVALID_REQUEST", "events[1].data.x"),
    ],
)
async def test_what_is_wrong_with_the_request_refuses_it_as_a_whole(
    more: Json, code: str, field: str, world: World
) -> None:
    before = world.snapshot()
    answer = await world.client.post(EVENTS, json={"request_id": new_key()} | events(RUN) | more)
    assert_refused(answer, 400, code, field)
    assert world.snapshot() == before


OF_EVENTS = [one for one in BAD_REQUESTS if one[4].startswith("events[") and one[0] not in NO_CHARACTERS]


@pytest.mark.parametrize(
    ("change", "status", "code", "field"), [one[1:] for one in OF_EVENTS], ids=[one[0] for one in OF_EVENTS]
)
async def test_whatever_is_wrong_with_an_event_is_told_of_it_alone(
    world: World, change: Json, status: int, code: str, field: str
) -> None:
    good = {"data": run_triggered("good")}
    answer = await world.append(*change["events"], good, mode="each")
    assert answer.status_code == 200, answer.text
    refused = answer.json()["refused"]
    assert (refused[-1]["code"], refused[-1]["field"]) == (code, field)
    assert Code(refused[-1]["code"]) in {one for one, its_status in HTTP_STATUS.items() if its_status == status}
    assert answer.json()["events"][-1]["idempotency_key"] == "run:good"


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]", b'"x"', b'{"request_id": "x"', b"\xff"])
async def test_what_is_no_request_is_refused(world: World, content: bytes) -> None:
    for path in (EVENTS, INGEST):
        answer = await world.client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["code"] == "INVALID_REQUEST"
        assert answer.json()["field"] in ("body", "request_id", "event_paths")
    assert not world.store.objects


def foreign(number: int, scope: Scope = ACME, **more: Any) -> tuple[ObjectPath, bytes]:
    """Return path and body of an event that another system wrote."""
    event_id = f"01JHMPFP78{number:016}"
    body = compose_event(
        payload_from(run_triggered(f"foreign-{number}", **more)),
        event_id=event_id,
        timestamp_ms=1_736_935_201_000,
        tenant=scope.tenant,
        workspace=scope.workspace,
    )
    return canonical_ulid_event(event_id), body


async def test_foreign_events_are_taken_in_by_their_paths(world: World) -> None:
    await world.appended(run_triggered("run-1"))
    listed = []
    for number in range(3):
        path, body = foreign(number)
        world.store.seed(ACME.full(path), body)
        listed.append(path)
    strange, theirs = foreign(7, RIVAL)
    world.store.seed(ACME.full(strange), theirs)
    answer = await world.client.post(INGEST, json={"event_paths": [*listed, "x/y.json", strange, listed[0]]})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["accepted"], body["late"], body["deferred"]) == (3, 3, [])
    assert body["visibility_status"] == "visible"
    assert {one["path"]: one["reason"] for one in body["refused"]} == {
        "x/y.json": "not_a_ledger_path",
        strange: "other_scope",
    }
    items = (await world.client.get(f"{V1}/runs")).json()["items"]
    assert [item["run_id"] for item in items] == ["foreign-0", "foreign-1", "foreign-2", "run-1"]
    again = (await world.client.post(INGEST, json={"event_paths": listed})).json()
    assert (again["accepted"], again["known"]) == (0, 3)


BAD_INGESTS: list[tuple[Json, str]] = [
    ({}, "event_paths"),
    ({"event_paths": []}, "event_paths"),
    ({"event_paths": "x"}, "event_paths"),
    ({"event_paths": [7]}, "event_paths.0"),
    ({"event_paths": ["x"] * 5001}, "event_paths"),
    ({"event_paths": ["x"], "paths": []}, "paths"),
]


@pytest.mark.parametrize(("body", "field"), BAD_INGESTS)
async def test_a_wrong_list_of_paths_is_refused(world: World, body: Json, field: str) -> None:
    assert_refused(await world.client.post(INGEST, json=body), 400, "INVALID_REQUEST", field)
    assert not world.store.objects


class Silent:
    """A ledger that cannot be reached."""

    async def append(self, scope: Scope, request: AppendRequest) -> AppendOutcome:
        raise Refused(self.refusal("request_id"))

    async def ingest(self, scope: Scope, request: IngestRequest) -> IngestOutcome:
        return IngestOutcome(refusal=self.refusal("event_paths"))

    async def status(self, scope: Scope) -> dict[str, Any] | None:
        return None

    def refusal(self, field: str) -> Refusal:
        return Refusal(code=Code.UNAVAILABLE, message="not known yet", field=field, remedy="Send it again.")


async def test_no_answer_in_time_is_503_and_reads_go_on(world: World) -> None:
    await world.appended(run_triggered("run-1"))
    app = create_app(replace(world.deps, ledger=Silent(), metrics=fresh()))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=world.bearer()) as client:
        answer = await client.post(EVENTS, json={"request_id": new_key(), "events": [{"data": RUN}]})
        assert_refused(answer, 503, "UNAVAILABLE", "request_id", remedy="again")
        assert int(answer.headers["Retry-After"]) > 0
        answer = await client.post(INGEST, json={"event_paths": ["x"]})
        assert_refused(answer, 503, "UNAVAILABLE", "event_paths")
        assert (await client.get(f"{V1}/ledger/status")).json()["sequencer"] is None
        assert len((await client.get(f"{V1}/runs")).json()["items"]) == 1
