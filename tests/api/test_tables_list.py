"""The list of a workspace's tables and a table's history: pages, filters, damage, other workspaces."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from springline import paths
from springline.keys import idempotency_key
from springline.paths import ObjectPath
from tests.api.conftest import TABLES, World, add, assert_refused, new_key
from tests.support.local_api import ACME, RIVAL


async def listed(world: World, **query: Any) -> list[dict[str, Any]]:
    """Return all items, going from page to page, and check the pages on the way."""
    items: list[dict[str, Any]] = []
    while True:
        answer = await world.client.get(TABLES, params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["items"]) + len(page["damaged"]) <= query.get("limit", 100)
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        query["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
async def test_every_table_is_on_one_page(world: World, limit: int) -> None:
    made = [await world.create(f"t{number}") for number in range(7)]
    found = await listed(world, limit=limit)
    assert {one["table_id"] for one in found} == set(made)
    assert [one["table_id"] for one in found] == sorted(made)
    for one in found:
        status = (await world.client.get(f"{TABLES}/{one['name']}")).json()
        assert status["table"]["table_id"] == one["table_id"]
        assert (status["location"], status["table"]["created_at_ms"]) == (one["location"], one["created_at_ms"])


async def test_names_are_filtered_by_how_they_begin(world: World) -> None:
    for name in ("raw_a", "raw_b", "raw", "mart_raw", "Raw_c"):
        await world.create(name)
    for limit in (1, 100):
        assert {one["name"] for one in await listed(world, name_prefix="raw_", limit=limit)} == {"raw_a", "raw_b"}
    assert await listed(world, name_prefix="nothing") == []


async def test_a_workspace_without_tables_has_an_empty_list_and_sees_no_other(world: World) -> None:
    await world.create("flights")
    answer = await world.client.get(TABLES, headers=world.bearer(RIVAL))
    assert answer.json() == {"items": [], "damaged": [], "next_cursor": None}


async def test_damaged_entries_are_named_and_take_nothing_else_with_them(world: World) -> None:
    made = await world.create("flights")
    other = "01946b1c-0000-7000-8000-0000000000bb"
    good = orjson.loads(world.store.objects[ACME.full(paths.table_entry(made))].data)
    del good["checksum"]
    damage: dict[str, bytes] = {
        f"{other[:-2]}01.json": b"{",
        f"{other[:-2]}02.json": b'{"table_id": 7}',
        f"{other[:-2]}03.json": orjson.dumps(good),
        f"{other[:-2]}04.json": orjson.dumps(good | {"table_id": f"{other[:-2]}04", "root": "../x"}),
        f"{other[:-2]}05.json": orjson.dumps(
            good | {"table_id": f"{other[:-2]}05", "root": f"/{RIVAL.tables}/{other[:-2]}05"}
        ),
        f"{other[:-2]}06.json": orjson.dumps(good | {"table_id": f"{other[:-2]}06", "name": ""}),
        f"{other[:-2]}07.json": b"\xff\xfe",
        "README.txt": b"hello",
        "deeper/x.json": b"{}",
    }
    prefix = paths.table_entries_prefix()
    for name, data in damage.items():
        world.store.seed(ACME.full(ObjectPath(prefix + name)), data)
    found, seen, cursor = [], [], None
    while True:
        page = (await world.client.get(TABLES, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        found += page["items"]
        seen += page["damaged"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [one["name"] for one in found] == ["flights"]
    assert {one["object"] for one in seen} == {prefix + name for name in damage}
    assert all(one["problem"] for one in seen)


async def test_a_table_whose_name_leads_to_another_has_none_in_the_list(world: World) -> None:
    made = await world.create("flights")
    loser = "01946b1c-0000-7000-8000-0000000000bb"
    entry = orjson.loads(world.store.objects[ACME.full(paths.table_entry(made))].data)
    entry |= {"table_id": loser, "root": f"tables/{loser}"}
    del entry["checksum"]
    world.store.seed(ACME.full(paths.table_entry(loser)), orjson.dumps(entry))
    found = {one["table_id"]: one["name"] for one in await listed(world)}
    assert found == {made: "flights", loser: None}
    world.store.seed(ACME.full(paths.name_claim("flights")), b"damaged")
    assert {one["name"] for one in await listed(world)} == {None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"name_prefix": "x" * 201}, "name_prefix"),
        ({"cursor": "../../x"}, "cursor"),
        ({"cursor": "%2e%2e"}, "cursor"),
        ({"cursor": "x" * 5000}, "cursor"),
        ({"nonsense": "1"}, "nonsense"),
    ],
)
async def test_a_list_that_cannot_be_asked_for_is_refused(world: World, query: dict[str, str], field: str) -> None:
    await world.create("flights")
    answer = await world.client.get(TABLES, params=query)
    assert answer.status_code == 400, answer.text
    assert field in answer.json()["field"]


async def test_a_history_tells_of_each_version_newest_first(world: World) -> None:
    table = await world.create("flights")
    keys = []
    for number in range(5):
        key = new_key() if number else idempotency_key("load/1")
        keys.append(key)
        info = {"commitInfo": {"timestamp": 1_000 + number, "operation": "WRITE", "txnId": key}}
        action = add(f"{number}.parquet")
        action["add"]["stats"] = orjson.dumps({"numRecords": number}).decode()
        staged = await world.stage(table, info, action)
        assert (await world.commit(table, staged, key, read_version=number)).status_code == 200
    rows: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 4}
    while True:
        page = (await world.client.get(f"{TABLES}/flights/history", params=query)).json()
        rows += page["items"]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert [row["version"] for row in rows] == [5, 4, 3, 2, 1, 0]
    assert [row["keys"] for row in rows] == [*([key] for key in reversed(keys)), []]
    assert [row["rows_added"] for row in rows[:-1]] == [4, 3, 2, 1, 0]
    assert [row["timestamp_ms"] for row in rows[:-1]] == [1004, 1003, 1002, 1001, 1000]
    assert rows[-1]["operation"] == "CREATE TABLE"


async def test_a_history_survives_clean_up_and_damage_of_the_log(world: World) -> None:
    table = await world.create("flights")
    for number in range(4):
        await world.commit(table, await world.stage(table, add(f"{number}.parquet")), read_version=number)
    root = (await world.client.get(f"{TABLES}/flights")).json()["table"]["root"]
    world.store.seed(ACME.full(paths.delta_log(root, 3)), b"damaged")
    for version in (0, 1):
        world.store.remove(ACME.full(paths.delta_log(root, version)))
    answer = (await world.client.get(f"{TABLES}/{table}/history")).json()
    assert [(row["version"], row["readable"]) for row in answer["items"]] == [(4, True), (3, False), (2, True)]
    assert answer["next_cursor"] is None


async def test_a_history_that_cannot_be_asked_for_is_refused(world: World) -> None:
    await world.create("flights")
    for query, field in (({"cursor": "x"}, "cursor"), ({"cursor": "-1"}, "cursor"), ({"limit": "0"}, "limit")):
        answer = await world.client.get(f"{TABLES}/flights/history", params=query)
        assert answer.status_code == 400
        assert field in answer.json()["field"]
    assert_refused(await world.client.get(f"{TABLES}/nothing/history"), 404, "TABLE_NOT_FOUND", "table")
    answer = await world.client.get(f"{TABLES}/flights/history", headers=world.bearer(RIVAL))
    assert_refused(answer, 404, "TABLE_NOT_FOUND", "table")
    assert (await world.client.get(f"{TABLES}/flights/history", params={"cursor": "0"})).json()["items"] == []
