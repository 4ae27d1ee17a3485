"""Rebuilds over HTTP: starting, watching, cancelling, and every mistake once."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from springline import paths
from springline.api.rebuild import PREFIX, RebuildBody, RebuildResultBody
from springline.errors import Code, Refusal
from springline.ledger.request import RefusalReason
from springline.rebuild.messages import BadEvent
from tests.api.conftest import World, assert_refused
from tests.support.local_api import ACME, RIVAL
from workflows.rebuild_messages import RebuildResult, RebuildStart

MANIFEST = paths.orchestration_rebuild("one")
IDS = ["01KHZKCWZ80000000000000001", "01KHZKCWZ80000000000000002"]
EVENTS = [paths.canonical_ulid_event(event_id) for event_id in IDS]
FULL = {"rebuild_manifest_path": MANIFEST, "mode": "full"}


def seed(world: World, document: Any = None, path: str = MANIFEST) -> None:
    data = document if isinstance(document, bytes) else orjson.dumps(document or {"event_paths": EVENTS})
    world.store.seed(ACME.full(paths.relative_path(path)), data)


async def ask(world: World, body: Any, path: str = PREFIX, **params: Any) -> httpx.Response:
    return await world.client.post(path, json=body, params=params)


@pytest.mark.parametrize("path", [PREFIX, "/rebuild"])
async def test_a_rebuild_answers_what_it_came_to(world: World, path: str) -> None:
    seed(world, {"event_paths": [*EVENTS, EVENTS[0]]})
    answer = await ask(world, FULL, path)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.keys() == RebuildResult.model_fields.keys()
    assert (body["events_processed"], body["duplicates"], body["mode"]) == (2, 1, "full")
    assert (body["visibility_status"], body["manifest_revision"]) == ("visible", "01KHZKCWZ80000000000000007")
    assert (body["events_skipped"], body["gap_count"]) == (0, 0)


def test_the_documented_result_and_body_are_those_of_the_workflow() -> None:
    assert RebuildResultBody.model_fields.keys() == RebuildResult.model_fields.keys()
    ours = {"tenant", "workspace", "concurrency"}
    ignored = {"fencing_token", "lock_path", "epoch", "request_id"}
    assert RebuildBody.model_fields.keys() - ignored == RebuildStart.model_fields.keys() - ours
    for name in ("mode", "allow_missing"):
        assert RebuildBody.model_fields[name].default == RebuildStart.model_fields[name].default


async def test_fields_of_the_reference_are_taken_and_not_used(world: World) -> None:
    seed(world)
    old = {"fencing_token": 7, "lock_path": "locks/x.json", "epoch": 3, "request_id": "r-1"}
    answer = await ask(world, FULL | old, "/rebuild")
    assert answer.status_code == 200, answer.text
    assert [request.model_dump(mode="json") for request in world.rebuilds.asked] == [FULL | {"allow_missing": False}]


async def test_what_takes_longer_than_the_wait_goes_on(world: World) -> None:
    seed(world)
    world.rebuilds.held = True
    for wait in (0, 0.05):
        answer = await ask(world, FULL, wait=wait)
        assert answer.status_code == 202, answer.text
        view = answer.json()
        assert view["status"] == "running"
        assert view["workflow_id"] == "rebuild/acme/prod"
        assert view["progress"]["events_listed"] == 2
        assert view["steps"] == [
            {"name": "read_slice", "attempt": 2, "started": True, "reported": [640], "last_failure": "a worker died"}
        ]
        by_run = await world.client.get(PREFIX, params={"run_id": view["run_id"]})
        assert by_run.json()["run_id"] == view["run_id"]
        await world.client.delete(PREFIX)
    world.rebuilds.held = False
    answer = await ask(world, FULL, wait=0)
    assert answer.status_code == 202
    assert (await world.client.get(PREFIX)).json()["status"] == "completed"


async def test_progress_is_told_while_no_worker_answers(world: World) -> None:
    seed(world)
    world.rebuilds.held, world.rebuilds.worker = True, False
    view = (await ask(world, FULL, wait=0)).json()
    assert view["progress"] is None
    assert (view["phase"], view["percent"]) == ("reading", 12.0)


async def test_a_second_rebuild_is_refused_and_names_the_first(world: World) -> None:
    seed(world)
    world.rebuilds.held = True
    first = (await ask(world, FULL, wait=0)).json()
    body = assert_refused(await ask(world, FULL), 409, "REBUILD_UNDER_WAY", "rebuild", remedy="watch")
    assert first["run_id"] in body["message"]


async def test_a_cancelled_rebuild_says_so_to_whoever_asks(world: World) -> None:
    assert_refused(await world.client.delete(PREFIX), 404, "NOT_FOUND", "rebuild", remedy="nothing needs")
    seed(world)
    world.rebuilds.held = True
    await ask(world, FULL, wait=0)
    answer = await world.client.delete(PREFIX)
    assert answer.status_code == 202, answer.text
    view = (await world.client.get(PREFIX)).json()
    assert (view["status"], view["failure"]["code"]) == ("cancelled", "REBUILD_CANCELLED")
    assert_refused(await world.client.delete(PREFIX), 404, "NOT_FOUND", "rebuild")


BAD_BODIES: list[tuple[Any, str, Any]] = [
    ({}, "rebuild_manifest_path", None),
    ({"rebuild_manifest_path": 7}, "rebuild_manifest_path", 7),
    ({"rebuild_manifest_path": "ledger/x.json"}, "rebuild_manifest_path", "ledger/x.json"),
    ({"rebuild_manifest_path": MANIFEST + "l"}, "rebuild_manifest_path", MANIFEST + "l"),
    (FULL | {"mode": "fast"}, "mode", "fast"),
    (FULL | {"allow_missing": "perhaps"}, "allow_missing", "perhaps"),
    (FULL | {"tenant": "rival"}, "tenant", "rival"),
    ([], "body", None),
]


@pytest.mark.parametrize(("body", "field", "value"), BAD_BODIES)
async def test_a_body_that_cannot_be_meant_starts_nothing(world: World, body: Any, field: str, value: Any) -> None:
    for path in (PREFIX, "/rebuild"):
        assert_refused(await ask(world, body, path), 400, "INVALID_REQUEST", field, value=value)
    assert world.rebuilds.asked == []


@pytest.mark.parametrize("wait", ["-1", "301", "soon"])
async def test_a_wait_that_cannot_be_meant_is_refused(world: World, wait: str) -> None:
    assert_refused(await ask(world, FULL, wait=wait), 400, "INVALID_REQUEST", "wait")
    assert world.rebuilds.asked == []


FOREIGN = ACME.full(EVENTS[0]).replace("acme", "rival")
BAD_MANIFESTS: list[tuple[Any, int, str, str]] = [
    (None, 404, "REBUILD_MANIFEST_NOT_FOUND", "rebuild_manifest_path"),
    (b"{", 400, "INVALID_REQUEST", "rebuild_manifest_path"),
    ([], 400, "INVALID_REQUEST", "rebuild_manifest_path"),
    ({"paths": EVENTS}, 400, "INVALID_REQUEST", "rebuild_manifest_path"),
    ({"event_paths": []}, 400, "INVALID_REQUEST", "rebuild_manifest_path"),
    ({"event_paths": [FOREIGN]}, 400, "INVALID_REQUEST", "event_paths[0]"),
    ({"event_paths": [EVENTS[0], EVENTS[1].replace("2026-", "2025-")]}, 400, "INVALID_REQUEST", "event_paths[1]"),
    ({"event_paths": "all"}, 400, "INVALID_REQUEST", "event_paths"),
    ({"segment_paths": [EVENTS[0]]}, 400, "INVALID_REQUEST", "segment_paths[0]"),
    ({"parts": ["elsewhere.json"]}, 400, "INVALID_REQUEST", "parts[0]"),
]


@pytest.mark.parametrize(("document", "status", "code", "field"), BAD_MANIFESTS)
async def test_a_manifest_that_cannot_be_used_is_refused(
    world: World, document: Any, status: int, code: str, field: str
) -> None:
    if document is not None:
        seed(world, document if document else orjson.dumps(document))
    before = world.snapshot()
    assert_refused(await ask(world, FULL), status, code, field)
    assert world.snapshot() == before
    view = (await world.client.get(PREFIX)).json()
    assert (view["status"], view["failure"]["code"]) == ("failed", code)


async def test_catching_up_needs_something_published(world: World) -> None:
    seed(world)
    answer = await ask(world, {"rebuild_manifest_path": MANIFEST})
    assert_refused(answer, 400, "INVALID_REQUEST", "mode", remedy="full", value="catch-up")


async def test_an_incomplete_ledger_is_a_conflict(world: World) -> None:
    seed(world)
    world.rebuilds.failure = Refusal(
        code=Code.LEDGER_INCOMPLETE, message="1 is missing", field="rebuild_manifest_path", remedy="Restore it."
    )
    world.rebuilds.found = {
        "missing_or_damaged": [BadEvent(path=EVENTS[0], reason=RefusalReason.MISSING, message="there is no object")],
        "accepted_and_not_listed": IDS[1:],
    }
    assert_refused(await ask(world, FULL), 409, "LEDGER_INCOMPLETE", "rebuild_manifest_path", remedy="restore")
    view = (await world.client.get(PREFIX)).json()
    assert view["missing_or_damaged"] == [{"path": EVENTS[0], "reason": "missing", "message": "there is no object"}]
    assert view["accepted_and_not_listed"] == IDS[1:]


async def test_a_report_is_read_by_its_path_or_as_the_newest(world: World) -> None:
    report = f"{PREFIX}/report"
    assert_refused(await world.client.get(report), 404, "NOT_FOUND", "rebuild")
    seed(world)
    path = (await ask(world, FULL)).json()["report_path"]
    assert_refused(await world.client.get(report), 404, "NOT_FOUND", "path", value=path)
    world.store.seed(ACME.full(path), b'{"result": {}}')
    for params in ({}, {"path": path}):
        assert (await world.client.get(report, params=params)).json() == {"result": {}}
    for bad in (MANIFEST, "../" + path, "x"):
        assert_refused(await world.client.get(report, params={"path": bad}), 400, "INVALID_REQUEST", "path", value=bad)
    world.rebuilds.held = True
    await ask(world, FULL, wait=0)
    assert_refused(await world.client.get(report), 404, "NOT_FOUND", "path", remedy="how far")


async def test_unknown_runs_and_other_workspaces_are_not_found(world: World) -> None:
    seed(world)
    run_id = (await ask(world, FULL, wait=0)).json()["run_id"]
    assert_refused(await world.client.get(PREFIX, params={"run_id": "x"}), 404, "NOT_FOUND", "run_id", value="x")
    rival = world.bearer(RIVAL)
    assert (await world.client.get(PREFIX, params={"run_id": run_id}, headers=rival)).status_code == 404


async def test_only_operators_start_and_cancel(world: World) -> None:
    seed(world)
    reader = world.bearer(scopes=["read", "write"])
    for path in (PREFIX, "/rebuild"):
        answer = await world.client.post(path, json=FULL, headers=reader)
        assert_refused(answer, 403, "FORBIDDEN", "scope", remedy="operate")
        answer = await world.client.post(path, json=FULL, headers={"Authorization": ""})
        assert_refused(answer, 401, "MISSING_TOKEN", "Authorization")
    assert_refused(await world.client.delete(PREFIX, headers=reader), 403, "FORBIDDEN", "scope")
    assert world.rebuilds.asked == []
    await ask(world, FULL, wait=0)
    assert (await world.client.get(PREFIX, headers=reader)).status_code == 200
