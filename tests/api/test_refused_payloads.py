"""Bad input about payloads and bodies: each case is refused by name, and writes nothing."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.api.conftest import TABLES, World, add, ndjson, new_key
from tests.api.refusing import goes_on, refused

PAYLOADS: list[tuple[str, str]] = [
    ("not json\n", "payload line 1"),
    ("[]\n", "payload line 1"),
    (ndjson(add("a")) + "{}\n", "payload line 2"),
    ('{"addd":{"path":"a"}}\n', "payload line 1"),
    ('{"add":{"size":1}}\n', "payload line 1: add.path"),
    ('{"add":{"path":"a"},"remove":{"path":"b"}}\n', "payload line 1"),
    (ndjson(add("a"), add("a")), "payload line 2: add.path"),
    ("", "payload"),
    ("\n\n", "payload"),
]


@pytest.mark.parametrize(("payload", "field"), PAYLOADS)
async def test_payload_that_is_not_ndjson_of_delta_actions(world: World, payload: str, field: str) -> None:
    table = await world.create()
    url = f"{TABLES}/{table}/commits/stage"
    await refused(
        world, world.client.post(url, json={"payload": payload}), 400, "INVALID_PAYLOAD", field, remedy="stage"
    )
    await goes_on(world, table)


async def test_payload_with_a_lone_surrogate(world: World) -> None:
    table = await world.create()
    body = b'{"payload": "{\\"add\\":{\\"path\\":\\"\\ud800\\"}}"}'
    ask = world.client.post(
        f"{TABLES}/{table}/commits/stage", content=body, headers={"Content-Type": "application/json"}
    )
    await refused(world, ask, 400, "INVALID_REQUEST", "payload")


@pytest.mark.parametrize("declared", [True, False])
async def test_payload_over_5_mib(world: World, declared: bool) -> None:
    table = await world.create()
    body = orjson.dumps({"payload": ndjson(add("x" * (5 * 1024 * 1024)))})

    async def chunks() -> Any:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    ask = world.client.post(
        f"{TABLES}/{table}/commits/stage",
        content=body if declared else chunks(),
        headers={"Content-Type": "application/json"},
    )
    answer = await refused(world, ask, 413, "PAYLOAD_TOO_LARGE", "body", remedy="several commits")
    assert str(5 * 1024 * 1024) in answer["message"]
    await goes_on(world, table)


async def test_a_payload_of_just_under_5_mib_is_staged(world: World) -> None:
    table = await world.create()
    adds = [add(f"part-{number}.parquet") for number in range(6)]
    for one in adds:
        one["add"]["tags"] = {"pad": "x" * ((5 * 1024 * 1024 - 2_000) // 6)}
    staged = await world.stage(table, *adds)
    assert (await world.commit(table, staged)).status_code == 200


async def test_staging_another_payload_under_the_same_key(world: World) -> None:
    table = await world.create()
    key = new_key()
    url = f"{TABLES}/{table}/commits/stage"
    await world.client.post(url, json={"payload": ndjson(add("a")), "idempotency_key": key})
    ask = world.client.post(url, json={"payload": ndjson(add("b")), "idempotency_key": key})
    await refused(world, ask, 409, "KEY_REUSED", "idempotency_key", remedy="new key", value=key)


async def test_staging_under_a_bad_key(world: World) -> None:
    table = await world.create()
    ask = world.client.post(
        f"{TABLES}/{table}/commits/stage", json={"payload": ndjson(add("a")), "idempotency_key": "../x"}
    )
    await refused(world, ask, 400, "INVALID_KEY", "idempotency_key")


BODIES: list[tuple[dict[str, Any], str]] = [
    ({"read_version": "0"}, "read_version"),
    ({"read_version": True}, "read_version"),
    ({"read_version": 0.5}, "read_version"),
    ({"read_version": -2}, "read_version"),
    ({"read_version": 2**63}, "read_version"),
    ({"read_version": None}, "read_version"),
    ({"mode": "overwrite"}, "mode"),
    ({"staged_version": 7}, "staged_version"),
    ({"staged_path": None}, "staged_path"),
    ({"idempotency_key": 7}, "idempotency_key"),
    ({"readVersion": 0}, "readVersion"),
]


@pytest.mark.parametrize(("change", "field"), BODIES)
async def test_fields_of_the_wrong_kind(world: World, change: dict[str, Any], field: str) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    await refused(world, world.commit(table, staged, **change), 400, "INVALID_REQUEST", field, remedy=field)
    assert not world.sequencer.batches


@pytest.mark.parametrize(
    ("payload", "code"),
    [("{", "INVALID_PAYLOAD"), ("", "INVALID_PAYLOAD"), ('{"add":{}}', "INVALID_PAYLOAD"), (7, "INVALID_REQUEST")],
)
async def test_a_payload_in_a_commit_is_judged_as_a_staged_one(world: World, payload: Any, code: str) -> None:
    table = await world.create()
    before = set(world.store.objects)
    body = {"read_version": 0, "payload": payload, "idempotency_key": new_key()}
    answer = await world.client.post(f"{TABLES}/{table}/commits", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    if isinstance(payload, str):
        staged = await world.client.post(f"{TABLES}/{table}/commits/stage", json={"payload": payload})
        assert {**staged.json(), "requestId": None} == {**answer.json(), "requestId": None}
    assert set(world.store.objects) == before
    assert not world.sequencer.batches


@pytest.mark.parametrize("given", ["staged_path", "staged_version"])
async def test_a_commit_has_one_payload(world: World, given: str) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    one = {given: staged[given], "payload": ndjson(add("a.parquet"))}
    await refused(world, world.commit(table, one), 400, "INVALID_REQUEST", given, remedy="payload")
    assert not world.sequencer.batches


async def test_a_missing_field_is_named(world: World) -> None:
    table = await world.create()
    body = {"read_version": 0, "staged_path": "x", "idempotency_key": new_key()}
    ask = world.client.post(f"{TABLES}/{table}/commits", json=body)
    await refused(world, ask, 400, "INVALID_REQUEST", "staged_version", remedy="add staged_version")


RAW: list[tuple[bytes, str, str]] = [
    (b"{", "application/json", "body"),
    (b"[1]", "application/json", "body"),
    (b"null", "application/json", "body"),
    (b"", "application/json", "body"),
    (b'{"payload": "x"}', "text/plain", "body"),
    (b"\xff\xfe{}", "application/json", "body"),
    (b"[" * 100_000, "application/json", "body"),
]


@pytest.mark.parametrize(("raw", "kind", "field"), RAW)
async def test_a_body_that_cannot_be_read(world: World, raw: bytes, kind: str, field: str) -> None:
    table = await world.create()
    ask = world.client.post(f"{TABLES}/{table}/commits/stage", content=raw, headers={"Content-Type": kind})
    await refused(world, ask, 400, "INVALID_REQUEST", field, remedy="JSON")
