"""Deploying code locations and reading definitions over HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from springline.api.app import create_app
from springline.definitions.limits import MAX_ASSETS
from springline.paths import ObjectPath, deployed_manifest, latest_manifest_index, workspace_entry
from tests.api.conftest import V1, World, assert_refused, fresh
from tests.support.definitions import asset
from tests.support.local_api import ACME, RIVAL

MANIFESTS = f"{V1}/manifests"
ASSETS = f"{V1}/assets"
DAILY = {"kind": "daily", "start": "2024-01-01"}


def body(location: str, *assets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"location": location, "assets": list(assets), **more}


FLIGHTS = body("flights", asset("raw", partitions=DAILY, retries=3), asset("delays", "raw", description="How late."))


async def deployed(world: World, what: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await world.client.post(MANIFESTS, json=what, **more)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


NOTHING: dict[str, Any] = {"added": [], "changed": [], "removed": [], "pools": []}


async def test_a_code_location_is_deployed_once(world: World) -> None:
    answer = await world.client.post(MANIFESTS, json=FLIGHTS)
    assert answer.status_code == 201
    first = answer.json()
    assert answer.headers["Location"] == f"{MANIFESTS}/{first['manifest_id']}"
    assert first["changes"] == {"added": ["delays", "raw"], "changed": [], "removed": [], "pools": []}
    assert (first["deployed"], first["dry_run"], first["assets"]) == (True, False, 2)
    before = world.snapshot()
    again = await world.client.post(MANIFESTS, json=FLIGHTS)
    assert again.status_code == 200
    assert again.json() == first | {"deployed": False, "changes": NOTHING}
    assert world.snapshot() == before
    register = workspace_entry(ACME)
    assert all(path == register or path.startswith(f"{ACME.prefix}/manifests/") for path in before)


async def test_a_dry_run_tells_what_a_deploy_would_do(world: World) -> None:
    planned = await deployed(world, FLIGHTS | {"dry_run": True})
    assert (planned["deployed"], planned["dry_run"], planned["manifest_id"]) == (False, True, None)
    assert not world.store.objects
    done = await deployed(world, FLIGHTS)
    assert (done["changes"], done["fingerprint"]) == (planned["changes"], planned["fingerprint"])
    other = body("flights", asset("raw", partitions=DAILY, retries=4))
    planned = await deployed(world, other | {"dry_run": True})
    assert planned["changes"] == {
        "added": [],
        "changed": [{"key": "raw", "fields": {"retries": {"from": 3, "to": 4}}}],
        "removed": ["delays"],
        "pools": [],
    }
    assert planned["manifest_id"] == done["manifest_id"]


async def test_manifests_are_read(world: World) -> None:
    assert_refused(await world.client.get(f"{MANIFESTS}/latest"), 404, "NOT_FOUND", "manifest", remedy="deploy FILE")
    first = await deployed(world, FLIGHTS)
    second = await deployed(world, body("mart", asset("report", "delays")))
    latest = (await world.client.get(f"{MANIFESTS}/latest")).json()
    assert latest["manifest_id"] == second["manifest_id"]
    assert latest["previous_manifest_id"] == first["manifest_id"]
    assert [(one["key"], one["location"]) for one in latest["assets"]] == [
        ("delays", "flights"),
        ("raw", "flights"),
        ("report", "mart"),
    ]
    assert (latest["schedules"], latest["sensors"]) == ([], [])
    assert (await world.client.get(f"{MANIFESTS}/{second['manifest_id']}")).json() == latest
    older = (await world.client.get(f"{MANIFESTS}/{first['manifest_id']}")).json()
    assert [one["key"] for one in older["assets"]] == ["delays", "raw"]
    nowhere = await world.client.get(f"{MANIFESTS}/{'0' * 26}")
    assert_refused(nowhere, 404, "NOT_FOUND", "manifest_id", remedy="latest")
    for bad in ("x", "01jhmp8000000000000000000a", "..%2F_index", "_index"):
        answer = await world.client.get(f"{MANIFESTS}/{bad}")
        assert_refused(answer, 400, "INVALID_REQUEST", "manifest_id", remedy="ULID")


async def test_assets_are_listed_in_pages(world: World) -> None:
    empty = (await world.client.get(ASSETS)).json()
    assert empty == {"items": [], "next_cursor": None, "manifest_id": None}
    await deployed(world, body("a", *(asset(f"a{n}") for n in range(5))))
    done = await deployed(world, body("b", asset("b0", "a0", "a1"), asset("b1", "b0")))
    found: list[str] = []
    parameters: dict[str, Any] = {"limit": 3}
    while True:
        page = (await world.client.get(ASSETS, params=parameters)).json()
        assert page["manifest_id"] == done["manifest_id"]
        found += [one["asset"]["key"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
    assert found == ["a0", "a1", "a2", "a3", "a4", "b0", "b1"]
    of_b = (await world.client.get(ASSETS, params={"location": "b"})).json()["items"]
    assert [(one["asset"]["key"], one["dependents"]) for one in of_b] == [("b0", ["b1"]), ("b1", [])]
    other = await world.client.get(ASSETS, params={"cursor": parameters["cursor"], "location": "b"})
    assert_refused(other, 400, "INVALID_REQUEST", "cursor")
    assert_refused(await world.client.get(ASSETS, params={"location": "a:b"}), 400, "INVALID_REQUEST", "location")


async def test_an_asset_is_shown_with_what_it_needs_and_what_needs_it(world: World) -> None:
    window = {"kind": "window", "start_offset": -6}
    monthly = {"kind": "monthly", "start": "2024-01"}
    await deployed(world, FLIGHTS)
    done = await deployed(
        world,
        body(
            "mart",
            asset("report", "raw", "delays", partitions=monthly),
            {"key": "rolling", "partitions": DAILY, "dependencies": [{"asset": "raw", "mapping": window}]},
        ),
    )
    raw = (await world.client.get(f"{ASSETS}/raw")).json()
    assert (raw["asset"]["location"], raw["asset"]["retries"]) == ("flights", 3)
    assert raw["dependents"] == ["delays", "report", "rolling"]
    assert raw["manifest_id"] == done["manifest_id"]
    report = (await world.client.get(f"{ASSETS}/report")).json()
    assert {name: one["kind"] for name, one in report["mappings"].items()} == {"raw": "window", "delays": "all"}
    assert report["asset"]["dependencies"][1]["mapping"] is None
    rolling = (await world.client.get(f"{ASSETS}/rolling")).json()
    assert rolling["mappings"] == {"raw": {"kind": "window", "start_offset": -6, "end_offset": 0}}
    assert_refused(await world.client.get(f"{ASSETS}/rwa"), 404, "NOT_FOUND", "key", remedy="Did you mean raw?")
    assert_refused(await world.client.get(f"{ASSETS}/{'x' * 1_025}"), 400, "INVALID_REQUEST", "key")


BAD: list[tuple[Any, str, str]] = [
    (body("a:b", asset("x")), "location", "holds ':'"),
    ({"assets": []}, "location", "missing"),
    ({"location": "a"}, "assets", "missing"),
    (body("a", asset("x/y")), "assets.0.key", "holds '/'"),
    (body("a", {"dependencies": []}), "assets.0.key", "missing"),
    (body("a", asset("x", retries=101)), "assets.0.retries", "100"),
    (body("a", asset("x", retries="3")), "assets.0.retries", "integer"),
    (body("a", asset("x", retires=3)), "assets.0.retires", "not a field"),
    (body("a", asset("x", location="b")), "assets.0.location", "not a field"),
    (body("a", asset("x", url="ftp://workers.example.com/")), "assets.0.url", "no plain http or https URL"),
    (body("a", asset("x", url="https://workers.example.com/tasks/%2e%2e")), "assets.0.url", "no plain http"),
    (body("a", asset("x", url="https://workers.example.com/tasks", queue="q")), "assets.0", "no meaning beside a url"),
    (
        body(
            "a",
            asset("x"),
            {"key": "y", "url": "https://workers.example.com/tasks", "dependencies": [{"asset": "x", "argument": "x"}]},
        ),
        "assets.1",
        "has no parameters",
    ),
    (
        body(
            "a",
            asset("x", url="https://workers.example.com/tasks"),
            {"key": "y", "dependencies": [{"asset": "x", "argument": "x"}]},
        ),
        "assets[1].dependencies",
        "takes the output of x as x, and an asset that is made over HTTP hands none over",
    ),
    (body("a", asset("x", timeout_ms=0)), "assets.0.timeout_ms", "greater"),
    (body("a", asset("x", timeout_ms=5_000, heartbeat_ms=9_000)), "assets.0", "longer than the timeout"),
    (body("a", asset("x", memory_bytes=512)), "assets.0.memory_bytes", "67108864"),
    (
        body("a", asset("x", memory_bytes=2**29, url="https://workers.example.com/tasks")),
        "assets.0",
        "memory_bytes 536870912 has no meaning beside a url",
    ),
    (
        body("a", asset("x", config={"model": "S", "fields": [{"name": "x" * 190, "type": "y" * 190}] * 150})),
        "assets.0.config",
        "at most 32768 are taken: shorten",
    ),
    (body("a", asset("x", freshness_ms=0)), "assets.0.freshness_ms", "greater"),
    (body("a", asset("x", partitions={"kind": "daily"})), "assets.0.partitions", "have no start"),
    (body("a", asset("x", partitions={"kind": "yearly"})), "assets.0.partitions.kind", "'hourly', 'daily'"),
    (body("a", asset("x", partitions=DAILY | {"step": 2})), "assets.0.partitions.step", "not a field"),
    (body("a", asset("x", tags={"a": "\u0007"})), "assets.0.tags.a", "printed"),
    (body("a", asset("x", tags={str(n): "x" for n in range(51)})), "assets.0.tags", "at most 50"),
    (body("a", asset("x"), asset("x")), "assets[1].key", "both called x"),
    (body("a", asset("x"), tasks=[asset("x")]), "tasks[0].key", "an asset and a task are both called x"),
    (body("a", asset("x"), tasks=[asset("y", "z")]), "tasks[0].dependencies", "'z', and no asset"),
    (body("a", asset("x"), tasks=[asset("y", freshness_ms=5)]), "tasks.0.freshness_ms", "not a field"),
    (body("a", asset("x", "x")), "assets[0].dependencies", "depends on itself"),
    (body("a", asset("x", "y"), asset("y", "z"), asset("z", "x")), "assets[0].dependencies", "x -> y -> z -> x"),
    (body("a", asset("x", "nowhere")), "assets[0].dependencies", "'nowhere', and no asset"),
    (body("a", asset("x"), asset("y", "x", "x")), "assets[1].dependencies", "twice"),
    (
        body("a", asset("x", partitions=DAILY), asset("y", "x", partitions={"kind": "static", "keys": ["eu"]})),
        "assets[1].dependencies",
        "cannot depend on x",
    ),
    (
        body(
            "a",
            asset("x"),
            {"key": "y", "dependencies": [{"asset": "x", "mapping": {"kind": "latest"}}]},
        ),
        "assets[1].dependencies",
        "no latest one",
    ),
    (body("a", *(asset(f"x{n}") for n in range(MAX_ASSETS + 1))), "assets", "at most 5000"),
]


@pytest.mark.parametrize(("sent", "field", "said"), BAD)
async def test_what_cannot_be_deployed_is_named_and_writes_nothing(
    world: World, sent: Any, field: str, said: str
) -> None:
    found = assert_refused(await world.client.post(MANIFESTS, json=sent), 400, "INVALID_REQUEST", field)
    assert said in found["message"], found["message"]
    assert not world.store.objects


async def test_other_code_locations_stand_against_it(world: World) -> None:
    await deployed(world, FLIGHTS)
    await deployed(world, body("mart", asset("report", "delays")))
    before = world.snapshot()
    taken = await world.client.post(MANIFESTS, json=body("other", asset("delays")))
    found = assert_refused(taken, 409, "DEFINITION_CONFLICT", "assets[0].key", value="delays", remedy="flights")
    assert "code location flights" in found["message"]
    gone = await world.client.post(MANIFESTS, json=body("flights", asset("raw")))
    found = assert_refused(gone, 409, "DEFINITION_CONFLICT", "assets", remedy="first deploy mart")
    assert "asset report of code location mart" in found["message"]
    assert world.snapshot() == before


async def test_an_empty_code_location_is_removed(world: World) -> None:
    await deployed(world, FLIGHTS)
    done = await deployed(world, body("flights"))
    assert done["changes"]["removed"] == ["delays", "raw"]
    latest = (await world.client.get(f"{MANIFESTS}/latest")).json()
    assert (latest["assets"], latest["locations"]) == ([], [])


async def test_workspaces_know_nothing_of_each_other(world: World) -> None:
    await deployed(world, FLIGHTS)
    theirs = world.bearer(RIVAL)
    assert (await world.client.get(f"{MANIFESTS}/latest", headers=theirs)).status_code == 404
    assert (await world.client.get(ASSETS, headers=theirs)).json()["items"] == []
    assert (await world.client.get(f"{ASSETS}/raw", headers=theirs)).status_code == 404
    mine = (await world.client.get(f"{MANIFESTS}/latest")).json()
    answer = await world.client.get(f"{MANIFESTS}/{mine['manifest_id']}", headers=theirs)
    assert answer.status_code == 404
    # The same keys, in a code location of the same name, are theirs.
    await deployed(world, body("other", asset("raw")), headers=theirs)
    assert (await world.client.get(f"{ASSETS}/raw", headers=theirs)).json()["asset"]["location"] == "other"
    assert (await world.client.get(f"{ASSETS}/raw")).json()["asset"]["location"] == "flights"
    refused = await world.client.post(MANIFESTS, json=body("x", asset("y", "delays")), headers=theirs)
    assert_refused(refused, 400, "INVALID_REQUEST", "assets[0].dependencies")


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("POST", MANIFESTS, "operate"),
        ("GET", f"{MANIFESTS}/latest", "read"),
        ("GET", f"{MANIFESTS}/{'0' * 26}", "read"),
        ("GET", ASSETS, "read"),
        ("GET", f"{ASSETS}/raw", "read"),
    ],
)
async def test_each_route_needs_its_scope(world: World, method: str, path: str, needed: str) -> None:
    for granted in ("read", "write", "operate"):
        answer = await world.client.request(
            method, path, json=FLIGHTS if method == "POST" else None, headers=world.bearer(scopes=[granted])
        )
        assert (answer.status_code == 403) == (granted != needed), (granted, answer.text)


async def test_deploys_at_once_lose_none(world: World) -> None:
    parts = [body(f"l{n}", asset(f"x{n}"), asset(f"y{n}", f"x{n}")) for n in range(12)]
    answers = await asyncio.gather(*(world.client.post(MANIFESTS, json=one) for one in [*parts, *parts]))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert sum(answer.json()["deployed"] for answer in answers) == 12
    page = (await world.client.get(ASSETS)).json()
    assert len(page["items"]) == 24


async def test_damage_is_named_by_every_route(world: World) -> None:
    await deployed(world, FLIGHTS)
    second = await deployed(world, body("mart", asset("report", "delays")))
    latest = deployed_manifest(second["manifest_id"])
    routes = [f"{MANIFESTS}/latest", ASSETS, f"{ASSETS}/raw"]
    world.store.remove(ObjectPath(ACME.full(latest)))
    for route in routes:
        answer = await fresh_get(world, route)
        found = assert_refused(answer, 409, "STORED_DAMAGED", "stored object", value=latest, remedy="restore")
        assert "is missing" in found["message"]
    refused = await world.client.post(MANIFESTS, json=FLIGHTS)
    assert_refused(refused, 409, "STORED_DAMAGED", "stored object", value=latest)
    world.store.seed(ObjectPath(ACME.full(latest_manifest_index())), b"{}")
    for route in routes:
        assert_refused(
            await fresh_get(world, route), 409, "STORED_DAMAGED", "stored object", value=latest_manifest_index()
        )


async def fresh_get(world: World, route: str) -> httpx.Response:
    app = create_app(replace(world.deps, metrics=fresh()))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://api.test", headers=world.bearer()
    ) as client:
        return await client.get(route)


async def test_the_example_of_the_document_can_be_deployed(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()
    content = document["paths"][MANIFESTS]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert (await world.client.post(MANIFESTS, json=example["value"])).status_code == 201


async def test_a_thousand_assets_are_deployed_and_listed(world: World) -> None:
    many = body("many", *(asset(f"a{n:04}", *(f"a{m:04}" for m in range(max(0, n - 3), n))) for n in range(1_000)))
    assert len(orjson.dumps(many)) < 1_000_000
    assert (await deployed(world, many))["assets"] == 1_000
    page = (await world.client.get(ASSETS, params={"limit": 1_000})).json()
    assert len(page["items"]) == 1_000


async def test_tasks_are_deployed_beside_assets_and_are_none(world: World) -> None:
    tasks = [{"key": "scaled", "dependencies": [{"asset": "raw"}], "retries": 2}, {"key": "tell"}]
    await deployed(world, body("flights", asset("raw"), tasks=tasks))
    done = await deployed(world, body("mart", asset("report", "scaled")))
    latest = (await world.client.get(f"{MANIFESTS}/latest")).json()
    assert (latest["format"], [one["key"] for one in latest["tasks"]]) == (2, ["scaled", "tell"])
    listed = (await world.client.get(ASSETS)).json()
    assert [one["asset"]["key"] for one in listed["items"]] == ["raw", "report"]
    assert listed["items"][0]["dependents"] == ["scaled"]
    report = (await world.client.get(f"{ASSETS}/report")).json()
    assert {name: one["kind"] for name, one in report["mappings"].items()} == {"scaled": "all"}
    for path in (f"{ASSETS}/scaled", f"{ASSETS}/scaled/partitions"):
        found = assert_refused(await world.client.get(path), 404, "NOT_FOUND", "key", remedy="under tasks")
        assert found["message"] == "'scaled' is a task and makes no asset"
    found = assert_refused(await world.client.get(f"{ASSETS}/scald"), 404, "NOT_FOUND", "key")
    assert "Did you mean" not in found["remedy"]
    stale = (await world.client.get(f"{V1}/staleness", params={"select": "*report"})).json()
    assert [one["asset"] for one in stale["items"]] == ["raw", "report"]
    changed = await deployed(world, body("flights", asset("raw"), tasks=tasks[:1]))
    assert changed["tasks"] == NOTHING | {"removed": ["tell"]}
    assert changed["changes"] == NOTHING
    assert changed["manifest_id"] != done["manifest_id"]


REGIONS = {"name": "region", "partitions": {"kind": "static", "keys": ["eu", "us"]}}
BOTH = {"kind": "multi", "dimensions": [{"name": "day", "partitions": DAILY}, REGIONS]}


async def test_partitions_in_two_dimensions_are_deployed_shown_and_counted(world: World) -> None:
    await deployed(world, body("flights", asset("raw", partitions=BOTH), asset("mart", "raw", partitions=DAILY)))
    assert (await world.client.get(f"{MANIFESTS}/latest")).json()["format"] == 2
    raw = (await world.client.get(f"{ASSETS}/raw")).json()["asset"]["partitions"]
    assert [one["name"] for one in raw["dimensions"]] == ["day", "region"]
    assert (await world.client.get(f"{ASSETS}/mart")).json()["mappings"]["raw"]["kind"] == "identity"
    found = (await world.client.get(f"{ASSETS}/raw/partitions", params={"limit": 3})).json()
    assert [one["partition_key"] for one in found["items"]] == ["2024-01-01|eu", "2024-01-01|us", "2024-01-02|eu"]
    more = {"limit": 2, "cursor": found["next_cursor"]}
    assert [
        one["partition_key"]
        for one in (await world.client.get(f"{ASSETS}/raw/partitions", params=more)).json()["items"]
    ] == [
        "2024-01-02|us",
        "2024-01-03|eu",
    ]
    swapped = {"kind": "multi", "dimensions": BOTH["dimensions"][::-1]}
    answer = await world.client.post(MANIFESTS, json=body("flights", asset("raw", partitions=swapped)))
    assert (
        "time is in the second place"
        in assert_refused(answer, 400, "INVALID_REQUEST", "assets.0.partitions")["message"]
    )
