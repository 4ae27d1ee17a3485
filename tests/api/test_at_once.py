"""Many requests at once under one id: one has its effect, its like get the same answer, all others are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import EVENTS, TABLES, V1, World, add, assert_refused, new_key
from tests.api.test_manifests import deployed
from tests.support.definitions import asset
from tests.support.local_api import ACME, RIVAL

DAILY = {"kind": "daily", "start": "2024-01-01"}
HOOK = {"sensor_id": "hook", "kind": "push", "select": ["whole"]}
CODE = {
    "location": "flights",
    "assets": [asset("raw", partitions=DAILY), asset("whole")],
    "sensors": [HOOK],
    "schedules": [{"schedule_id": "nightly", "cron": "0 4 * * *", "timezone": "UTC", "select": ["whole"]}],
}
KINDS = 3
Body = dict[str, Any]


def event(run_id: str) -> Body:
    trigger = {"type": "manual", "user_id": "ada"}
    named = {"type": "run_triggered", "run_id": run_id, "plan_id": f"plan:{run_id}"}
    return {"data": {**named, "trigger": trigger, "root_assets": ["a"]}}


# By what: where it is asked for, the field of the id, and the body of one of some kinds under it.
ASKED: dict[str, tuple[str, str, Callable[[str, int], Body]]] = {
    "events": (EVENTS, "request_id", lambda key, kind: {"request_id": key, "events": [event(f"run-{kind}")]}),
    "runs": (f"{V1}/runs", "run_key", lambda key, kind: {"run_key": key, "select": ["whole"], "priority": kind}),
    "backfills": (
        f"{V1}/backfills",
        "request_id",
        lambda key, kind: {"request_id": key, "select": ["raw"], "start": "2024-01-01", "end": f"2024-01-0{5 + kind}"},
    ),
    "messages": (
        f"{V1}/sensors/hook/messages",
        "message_id",
        lambda key, kind: {"message_id": key, "payload": {"kind": kind}},
    ),
}


@pytest.mark.parametrize("what", ASKED)
async def test_one_id_at_once_is_one_effect(world: World, what: str) -> None:
    path, field, body = ASKED[what]
    key = new_key()
    # Under the same id in two tenants: each has its own.
    for scope in (ACME, RIVAL):
        headers = world.bearer(scope)
        await deployed(world, CODE, headers=headers)
        asked = [body(key, number % KINDS) for number in range(4 * KINDS)]
        answers = await asyncio.gather(*(world.client.post(path, json=one, headers=headers) for one in asked))
        taken = {number % KINDS for number, answer in enumerate(answers) if answer.status_code in (200, 201)}
        assert len(taken) == 1, [answer.text for answer in answers]
        good = [answer for number, answer in enumerate(answers) if number % KINDS in taken]
        first = [one for one in good if one.headers.get("Idempotency-Replayed") == "false"]
        assert len(first) <= 1, "one alone was new"
        assert len({_lasting(answer.json()) for answer in good}) == 1, "the same request has the same answer"
        for number, answer in enumerate(answers):
            if number % KINDS not in taken:
                assert_refused(answer, 409, "KEY_REUSED", field)


def _lasting(body: Body) -> str:
    """Return what does not depend on whether the request was the first."""
    ids = ("run_id", "backfill_id", "event_id", "request_id")
    events = [one["event_id"] for one in body.get("events", ())]
    return str([[body.get(name) for name in ids], events])


async def test_one_key_at_once_is_one_version(world: World) -> None:
    table = await world.create()
    staged = [await world.stage(table, add(f"{kind}.parquet")) for kind in range(KINDS)]
    key = new_key()
    answers = await asyncio.gather(*(world.commit(table, staged[number % KINDS], key) for number in range(4 * KINDS)))
    taken = [answer for answer in answers if answer.status_code == 200]
    assert len(taken) == 4
    assert {answer.json()["version"] for answer in taken} == {1}
    for answer in answers:
        if answer not in taken:
            assert_refused(answer, 409, "KEY_REUSED", "idempotency_key")
    assert (await world.client.get(f"{TABLES}/{table}")).json()["latest_version"] == 1
