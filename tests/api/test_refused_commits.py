"""Bad input about keys and commits: each case is refused by name, and writes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from uuid_utils import uuid7

from springline.paths import ObjectPath
from tests.api.conftest import TABLES, World, add, ndjson, new_key
from tests.api.refusing import UNKNOWN_ID, goes_on, refused
from tests.support.local_api import ACME

BAD_KEYS = [
    "not-a-uuid",
    "6f1c9b8e-3b1a-4c6e-9d7a-1f2e3d4c5b6a",
    "01946B1C-0000-7000-8000-000000000001",
    "01946b1c000070008000000000000001",
]


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("where", ["header", "body"])
async def test_key_that_is_no_canonical_uuidv7(world: World, key: str, where: str) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    body = {"read_version": 0, **staged} | ({"idempotency_key": key} if where == "body" else {})
    headers = {"Idempotency-Key": key} if where == "header" else {}
    ask = world.client.post(f"{TABLES}/{table}/commits", json=body, headers=headers)
    field = "Idempotency-Key" if where == "header" else "idempotency_key"
    await refused(world, ask, 400, "INVALID_KEY", field, remedy="UUIDv7", value=key)
    assert not world.sequencer.batches
    await goes_on(world, table)


async def test_no_key(world: World) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    ask = world.client.post(f"{TABLES}/{table}/commits", json={"read_version": 0, **staged})
    await refused(world, ask, 400, "INVALID_KEY", "Idempotency-Key", remedy="header Idempotency-Key")


async def test_header_and_body_keys_that_differ(world: World) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    one, other = new_key(), new_key()
    ask = world.client.post(
        f"{TABLES}/{table}/commits",
        json={"read_version": 0, **staged, "idempotency_key": one},
        headers={"Idempotency-Key": other},
    )
    value = {"Idempotency-Key": other, "idempotency_key": one}
    await refused(world, ask, 409, "KEYS_DIFFER", "Idempotency-Key", remedy="same key in both", value=value)
    for key in (one, other):
        assert (await world.client.get(f"{TABLES}/{table}/commits/{key}")).status_code == 404


async def test_two_header_keys_that_differ(world: World) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    ask = world.client.post(
        f"{TABLES}/{table}/commits",
        json={"read_version": 0, **staged},
        headers=[("Idempotency-Key", new_key()), ("Idempotency-Key", new_key())],
    )
    await refused(world, ask, 409, "KEYS_DIFFER", "Idempotency-Key", remedy="one key")


@pytest.mark.parametrize("mode", ["append", "strict"])
async def test_key_reused_with_another_payload(world: World, mode: str) -> None:
    table = await world.create()
    key = new_key()
    first = await world.commit(table, await world.stage(table, add("a.parquet")), key, mode=mode)
    other = await world.stage(table, add("b.parquet"))
    await refused(
        world,
        world.commit(table, other, key, mode=mode),
        409,
        "KEY_REUSED",
        "idempotency_key",
        remedy="new UUIDv7",
        value=key,
    )
    assert (await world.client.get(f"{TABLES}/{table}/commits/{key}")).json()["version"] == first.json()["version"]
    await goes_on(world, table)


async def test_unknown_key_is_said_to_be_safe_to_send(world: World) -> None:
    table = await world.create()
    key = new_key()
    await refused(world, world.client.get(f"{TABLES}/{table}/commits/{key}"), 404, "KEY_NOT_FOUND", "key", value=key)
    await refused(world, world.client.get(f"{TABLES}/{table}/commits/junk"), 400, "INVALID_KEY", "idempotency_key")


BAD_STAGED = [
    "delta/staging/{other}/x.json",
    "delta/staging/{table}/../{other}/x.json",
    "delta/staging/{table}/..json/../x.json",
    "delta/staging/{table}/%2e%2e/x.json",
    "/delta/staging/{table}/x.json",
    "delta/coordinator/{table}.json",
    "delta/staging/{table}/x.parquet",
    "delta/staging/{table}/",
    "delta\\staging\\{table}\\x.json",
    "",
]


@pytest.mark.parametrize("path", BAD_STAGED)
async def test_staged_path_outside_the_prefix(world: World, path: str) -> None:
    table = await world.create()
    staged = {"staged_path": path.format(table=table, other=UNKNOWN_ID), "staged_version": "1"}
    await refused(world, world.commit(table, staged), 400, "INVALID_PATH", "staged_path", value=staged["staged_path"])
    assert not world.sequencer.batches
    await goes_on(world, table)


async def test_staged_object_missing(world: World) -> None:
    table = await world.create()
    path = f"delta/staging/{table}/{uuid7()}.json"
    ask = world.commit(table, {"staged_path": path, "staged_version": "1"})
    await refused(world, ask, 404, "STAGED_MISSING", "staged_path", remedy="stage", value=path)
    await goes_on(world, table)


async def test_staged_object_changed(world: World) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    world.store.seed(ACME.full(ObjectPath(staged["staged_path"])), ndjson(add("b.parquet")).encode())
    await refused(world, world.commit(table, staged), 409, "STAGED_CHANGED", "staged_version", remedy="staging")
    await goes_on(world, table)


async def test_staged_object_that_is_no_payload(world: World) -> None:
    table = await world.create()
    path = f"delta/staging/{table}/by-hand.json"
    version = world.store.seed(ACME.full(ObjectPath(path)), b"garbage")
    ask = world.commit(table, {"staged_path": path, "staged_version": version})
    await refused(world, ask, 400, "INVALID_PAYLOAD", "payload line 1")
    await goes_on(world, table)


async def test_read_version_stale(world: World) -> None:
    table = await world.create()
    keys = []
    for number in range(3):
        keys.append(new_key())
        await world.commit(
            table, await world.stage(table, add(f"{number}.parquet")), keys[-1], mode="strict", read_version=number
        )
    late = await world.stage(table, add("late.parquet"))
    body = await refused(
        world,
        world.commit(table, late, mode="strict", read_version=1),
        409,
        "STALE_READ_VERSION",
        "read_version",
        remedy="version 3",
        value=1,
    )
    assert body["latest_version"] == 3
    assert [since["version"] for since in body["commits_since"]] == [2, 3]
    await goes_on(world, table)


@pytest.mark.parametrize("mode", ["strict", "append"])
async def test_read_version_in_the_future(world: World, mode: str) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    ask = world.commit(table, staged, mode=mode, read_version=5)
    body = await refused(world, ask, 409, "FUTURE_READ_VERSION", "read_version", value=5)
    assert body["latest_version"] == 0
    await goes_on(world, table)


REMOVE = {"remove": {"path": "a.parquet", "dataChange": True, "deletionTimestamp": 1}}
SCHEMA = '{"type":"struct","fields":[{"name":"x","type":"long","nullable":true,"metadata":{}}]}'
METADATA = {
    "metaData": {"id": "x", "format": {"provider": "parquet", "options": {}}, "partitionColumns": []}
    | {"schemaString": SCHEMA, "configuration": {}, "createdTime": 1}
}
PROTOCOL = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}


@pytest.mark.parametrize("action", [REMOVE, METADATA, PROTOCOL])
async def test_append_with_an_action_that_is_no_append(world: World, action: dict[str, Any]) -> None:
    table = await world.create()
    staged = await world.stage(table, add("b.parquet"), action)
    body = await refused(
        world, world.commit(table, staged), 400, "NOT_AN_APPEND", "mode", remedy="strict", value="append"
    )
    assert next(iter(action)) in body["message"]
    await goes_on(world, table)


async def test_append_behind_a_change_of_metadata(world: World) -> None:
    table = await world.create()
    other = await world.stage(table, METADATA)
    assert (await world.commit(table, other, mode="strict")).status_code == 200
    staged = await world.stage(table, add("a.parquet"))
    await refused(world, world.commit(table, staged, read_version=0), 409, "METADATA_CHANGED", "read_version")
