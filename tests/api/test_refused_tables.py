"""Bad input about tables: each case is refused by name, and writes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from springline.paths import ObjectPath
from tests.api.conftest import TABLES, World, add, assert_refused, ndjson, new_key
from tests.api.refusing import UNKNOWN_ID, goes_on, refused
from tests.support.local_api import ACME


@pytest.mark.parametrize("table", [UNKNOWN_ID, "no-such-table", "..", "%2e%2e%2fx", "a b"])
async def test_unknown_table(world: World, table: str) -> None:
    staged = {"staged_path": f"delta/staging/{UNKNOWN_ID}/x.json", "staged_version": "1"}
    client = world.client
    asked = table.replace("..", "%2e%2e") if table == ".." else table
    for ask in (
        client.get(f"{TABLES}/{asked}"),
        client.get(f"{TABLES}/{asked}/commits/{new_key()}"),
        client.post(f"{TABLES}/{asked}/commits/stage", json={"payload": ndjson(add("a"))}),
        world.commit(asked, staged),
    ):
        answer = await ask
        assert answer.status_code == 404
        assert answer.json()["code"] in ("TABLE_NOT_FOUND", "ROUTE_NOT_FOUND")
    assert not world.store.objects
    await refused(world, client.get(f"{TABLES}/{UNKNOWN_ID}"), 404, "TABLE_NOT_FOUND", "table", value=UNKNOWN_ID)


CREATIONS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"name": "a b"}, 400, "INVALID_REQUEST", "name"),
    ({"name": ""}, 400, "INVALID_REQUEST", "name"),
    ({"name": UNKNOWN_ID}, 400, "INVALID_REQUEST", "name"),
    ({"name": 7}, 400, "INVALID_REQUEST", "name"),
    ({"columns": []}, 400, "INVALID_REQUEST", "columns"),
    ({"columns": "x long"}, 400, "INVALID_REQUEST", "columns"),
    ({"partition_columns": ["nope"]}, 400, "INVALID_REQUEST", "partition_columns"),
    ({"colums": []}, 400, "INVALID_REQUEST", "colums"),
    ({"location": "../elsewhere"}, 400, "INVALID_PATH", "location"),
    ({"location": "a/%2e%2e/b"}, 400, "INVALID_PATH", "location"),
    ({"location": "delta/tables"}, 400, "INVALID_PATH", "location"),
    ({"location": f"warehouse/{'x' * 256}"}, 400, "INVALID_PATH", "location"),
    ({"location": "warehouse/" + "\u00e9" * 128}, 400, "INVALID_PATH", "location"),
    ({"location": "/".join(["x" * 60] * 13)}, 400, "INVALID_PATH", "location"),
    ({"properties": {"delta.enableInCommitTimestamps": "true"}}, 400, "UNSUPPORTED_FEATURE", "properties"),
    ({"properties": {"delta.feature.catalogManaged": "supported"}}, 400, "UNSUPPORTED_FEATURE", "properties"),
    ({"properties": {"delta.enableRowTracking": "true"}}, 400, "UNSUPPORTED_FEATURE", "properties"),
]


@pytest.mark.parametrize(("change", "status", "code", "field"), CREATIONS)
async def test_bad_creation(world: World, change: dict[str, Any], status: int, code: str, field: str) -> None:
    body = {"name": "flights", "columns": [{"name": "x", "type": "long"}]} | change
    await refused(world, world.client.post(TABLES, json=body), status, code, field)
    assert not world.store.objects


async def test_bad_column_type_names_the_column(world: World) -> None:
    body = {"name": "flights", "columns": [{"name": "x", "type": "varchar(7)"}]}
    answer = await refused(world, world.client.post(TABLES, json=body), 400, "INVALID_REQUEST", "columns[0].type")
    assert "varchar(7)" in str(answer["value"])


async def test_name_taken(world: World) -> None:
    await world.create("flights")
    body = {"name": "flights", "columns": [{"name": "y", "type": "long"}]}
    await refused(world, world.client.post(TABLES, json=body), 409, "NAME_TAKEN", "name", remedy="choose another")


async def test_two_tables_on_one_root(world: World) -> None:
    table = await world.create("flights", location="warehouse/flights")
    columns = [{"name": "x", "type": "long"}]
    for location in (
        "warehouse/flights",
        "warehouse/flights/",
        "/tables/acme/prod/warehouse/flights",
        "tables/acme/prod/warehouse/flights",
        "memory://lake/tables/acme/prod/warehouse/flights",
    ):
        body = {"name": "other", "columns": columns, "location": location}
        await refused(world, world.client.post(TABLES, json=body), 409, "ROOT_TAKEN", "location")
        adopt = {"name": "other", "location": location}
        await refused(world, world.client.post(f"{TABLES}/adopt", json=adopt), 409, "ROOT_TAKEN", "location")
    inside = {"name": "other", "columns": columns, "location": "warehouse/flights/inside"}
    await refused(world, world.client.post(TABLES, json=inside), 409, "ROOT_TAKEN", "location")
    await goes_on(world, table)


async def test_adopting_what_is_no_table(world: World) -> None:
    body = {"name": "flights", "location": "nothing/here"}
    await refused(world, world.client.post(f"{TABLES}/adopt", json=body), 400, "NOT_A_DELTA_TABLE", "location")


FEATURE = {
    "protocol": {"minReaderVersion": 3, "minWriterVersion": 7}
    | {"readerFeatures": [], "writerFeatures": ["rowTracking"]}
}


async def test_adopting_a_table_with_a_feature_that_is_not_allowed(world: World) -> None:
    metadata = {
        "metaData": {"id": "x", "format": {"provider": "parquet", "options": {}}, "partitionColumns": []}
        | {"schemaString": '{"type":"struct","fields":[]}', "configuration": {}, "createdTime": 1}
    }
    world.store.seed(ACME.full(ObjectPath(f"elsewhere/_delta_log/{0:020}.json")), ndjson(FEATURE, metadata).encode())
    body = {"name": "flights", "location": "elsewhere"}
    answer = await refused(
        world, world.client.post(f"{TABLES}/adopt", json=body), 400, "UNSUPPORTED_FEATURE", "location"
    )
    assert "rowTracking" in answer["message"]


async def test_committing_to_a_table_that_has_got_a_feature_that_is_not_allowed(world: World) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    world.store.seed(ACME.full(ObjectPath(f"/{ACME.tables}/{table}/_delta_log/{1:020}.json")), ndjson(FEATURE).encode())
    answer = await world.commit(table, staged, read_version=1)
    body = assert_refused(answer, 400, "UNSUPPORTED_FEATURE", answer.json()["field"])
    assert "rowTracking" in body["message"]


async def test_staging_and_committing_a_feature_that_is_not_allowed(world: World) -> None:
    table = await world.create()
    staged = await world.stage(table, FEATURE)
    await refused(
        world, world.commit(table, staged, mode="strict"), 400, "UNSUPPORTED_FEATURE", "payload", remedy="feature"
    )
    await goes_on(world, table)
