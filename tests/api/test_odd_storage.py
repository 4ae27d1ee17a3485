"""Stored objects that hold anything at all: named by the routes that read them, never a bare 500."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from springline import paths
from springline.api.app import create_app
from springline.errors import Code
from springline.paths import ObjectPath
from tests.api.conftest import TABLES, V1, World, add, fresh, new_key
from tests.api.published import Pipeline
from tests.support.local_api import ACME
from tests.support.pipeline import succeeded_run

DEEP = b"[" * 100_000 + b"]" * 100_000
ODD_BYTES = [b"", b"nonsense", b"null", b"true", b"[]", b"{}", b"1e999", b"\xff\xfe", DEEP, b'{"a":' * 5_000]
ODD_VALUES: list[Any] = [None, True, -5, 2**63, 2**64 - 1, 1.5, "", "x", "../x", "\0", [], {}, [None], {"x": True}]


def odd_documents(data: bytes) -> Iterator[bytes]:
    """Yield bytes to put in the place of `data`: no JSON at all, and its own JSON with one field odd, to a depth."""
    yield from ODD_BYTES
    yield data[: len(data) // 2]
    try:
        lines = [orjson.loads(line) for line in data.split(b"\n") if line.strip()]
    except orjson.JSONDecodeError:
        return
    if len(lines) != 1 or not isinstance(lines[0], dict):
        return
    for number, place in enumerate(_places(lines[0])):
        # Each place gets a third of the odd values, and its neighbours the others.
        for value in ODD_VALUES[number % 3 :: 3]:
            document = orjson.loads(data)
            inner = document
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            yield orjson.dumps(document)


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value[:1]):
        yield (*place, key)
        if isinstance(inner, dict | list) and len(place) < 3:
            yield from _places(inner, (*place, key))


async def asked(world: World, routes: list[str]) -> list[httpx.Response]:
    """Ask routes of an application that remembers nothing."""
    app = create_app(replace(world.deps, metrics=fresh()))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=world.bearer()) as client:
        return [await client.get(route) for route in routes]


async def check_object(world: World, path: ObjectPath, routes: list[str]) -> int:
    """Put odd bytes in the place of an object, one after the other, and ask; return how often that was told."""
    good = world.store.objects[path]
    told = 0
    try:
        for data in odd_documents(good.data):
            world.store.seed(path, data)
            for route, answer in zip(routes, await asked(world, routes), strict=True):
                assert answer.status_code < 500, (path, data[:300], route, answer.text)
                if answer.status_code == 409:
                    body = answer.json()
                    assert body["code"] == Code.STORED_DAMAGED, body
                    assert body["message"], body
                    assert body["remedy"], body
                    told += 1
                elif answer.status_code == 200 and answer.json().get("problems"):
                    told += 1
    finally:
        world.store.seed(path, good.data)
    return told


def log_path(world: World, version: int) -> ObjectPath:
    """Return where a version of the only table lies, wherever tables lie."""
    (zero,) = (path for path in world.store.objects if path.endswith(f"_delta_log/{0:020}.json"))
    return ObjectPath(zero.replace(f"{0:020}.json", f"{version:020}.json"))


async def test_odd_objects_of_a_table_are_named(world: World) -> None:
    table = await world.create()
    key = new_key()
    await world.commit(table, await world.stage(table, add("a.parquet")), key)
    routes = [f"{TABLES}/flights", f"{TABLES}/{table}", f"{TABLES}/flights/commits/{key}"]
    log = log_path(world, 1)
    for path in (
        ACME.full(paths.table_entry(table)),
        ACME.full(paths.name_claim("flights")),
        ACME.full(paths.delta_coordinator(table)),
        ACME.full(paths.delta_marker(table, key)),
        log,
    ):
        assert await check_object(world, path, routes) > 0 or path == log, path


async def test_odd_reservations_are_named(world: World) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    key = new_key()
    path = ACME.full(paths.delta_coordinator(table))
    member = {"key": key, "mode": "append", "read_version": 0, **staged, "staged_payload_sha256": "0" * 64}
    inflight = {
        "commit_id": key,
        "read_version": 0,
        "version": 1,
        **staged,
        "started_at_ms": 1,
        "expires_at_ms": 2,
        "writer": "springline/1",
        "mode": "append",
        "staged_payload_sha256": "0" * 64,
        "members": [member | {"request_hash": "0" * 64}],
    }
    world.store.seed(path, orjson.dumps({"latest_version": 0, "inflight": inflight}))
    assert await check_object(world, path, [f"{TABLES}/flights", f"{TABLES}/flights/commits/{key}"]) > 0


METADATA = {
    "id": "x",
    "format": {"provider": "parquet", "options": {}},
    "schemaString": '{"type":"struct","fields":[]}',
    "partitionColumns": [],
    "configuration": {},
}


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"configuration": {"x": True, "good": "yes"}}, "metaData.configuration['x'] is True and not a text"),
        ({"configuration": [["x", "y"]]}, "metaData.configuration is list"),
        ({"configuration": "x"}, "metaData.configuration is 'x'"),
        ({"schemaString": "no JSON"}, "metaData.schemaString is 'no JSON'"),
        ({"schemaString": "[]"}, "metaData.schemaString is '[]'"),
        ({"schemaString": 5}, "metaData.schemaString is 5"),
        ({"schemaString": '{"type":' * 100_000 + "1" + "}" * 100_000}, "metaData.schemaString is"),
        ({"schemaString": '{"type":' * 500 + "1" + "}" * 500}, "metaData.schemaString holds more than 128"),
        ({"partitionColumns": "month"}, "metaData.partitionColumns is 'month'"),
        ({"partitionColumns": [{"month": 1}]}, "metaData.partitionColumns is list"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_odd_metadata_is_told_beside_everything_else(world: World, spoilt: dict[str, Any], said: str) -> None:
    await world.create()
    world.store.seed(log_path(world, 1), orjson.dumps({"metaData": METADATA | spoilt}) + b"\n")
    (answer,) = await asked(world, [f"{TABLES}/flights"])
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["latest_version"] == 1
    (problem,) = body["problems"]
    assert problem.startswith(said), problem
    assert len(problem) < 400
    if "good" in str(spoilt):
        assert body["properties"] == {"good": "yes"}


async def test_metadata_as_it_should_be_has_no_problem(world: World) -> None:
    await world.create()
    (answer,) = await asked(world, [f"{TABLES}/flights"])
    assert answer.json()["problems"] == []


async def test_odd_objects_of_the_published_state_are_named(world: World) -> None:
    pipeline = Pipeline(world.store, ACME)
    await pipeline.publish(*succeeded_run("run"))
    routes = [f"{V1}/runs", f"{V1}/runs/run", f"{V1}/ledger/status", f"{V1}/state/digest", f"{V1}/schedules"]
    pointer = ACME.full(paths.orchestration_pointer())
    manifest = next(path for path in world.store.objects if "/manifests/" in path or path.endswith("manifest.json"))
    for path in (pointer, manifest):
        assert await check_object(world, path, routes) > 0, path
