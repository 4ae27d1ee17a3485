"""The way a stranger goes: create, stage, commit, repeat, look."""

from __future__ import annotations

import asyncio

import pytest

from springline.paths import ObjectPath
from tests.api.conftest import TABLES, World, add, ndjson, new_key
from tests.support.local_api import ACME


async def test_create_stage_commit_look(world: World) -> None:
    created = await world.client.post(
        TABLES,
        json={
            "name": "flights",
            "columns": [{"name": "x", "type": "long"}, {"name": "day", "type": "date"}],
            "partition_columns": ["day"],
        },
    )
    assert created.status_code == 201
    table_id = created.json()["table"]["table_id"]
    assert created.headers["Location"] == f"{TABLES}/{table_id}"
    assert created.json()["location"] == f"memory://lake/tables/acme/prod/{table_id}"

    added = add("a.parquet", partition={"day": "2024-12-31"})
    staged = await world.stage("flights", added)
    assert set(staged) == {"staged_path", "staged_version"}
    assert staged["staged_path"].startswith(f"delta/staging/{table_id}/")
    key = new_key()
    answer = await world.commit("flights", staged, key)
    assert answer.status_code == 200
    path = f"/tables/acme/prod/{table_id}/_delta_log/{1:020}.json"
    assert answer.json() == {"version": 1, "delta_log_path": path}
    assert answer.headers["Idempotency-Replayed"] == "false"
    assert world.store.objects[ACME.full(ObjectPath(path))].data == ndjson(added).encode()

    for table in (table_id, "flights"):
        status = (await world.client.get(f"{TABLES}/{table}")).json()
        assert status["table"]["table_id"] == table_id
        assert status["latest_version"] == 1
        assert status["inflight"] is None
        assert [field["name"] for field in status["columns"]["fields"]] == ["x", "day"]
        assert status["partition_columns"] == ["day"]
        assert status["protocol"]["minReaderVersion"] == 1
        fate = (await world.client.get(f"{TABLES}/{table}/commits/{key}")).json()
        assert (fate["fate"], fate["version"], fate["delta_log_path"]) == ("committed", 1, path)


async def test_the_same_key_gets_the_same_answer_for_ever(world: World) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    key = new_key()
    first = await world.commit(table, staged, key)
    world.store.remove(ACME.full(ObjectPath(staged["staged_path"])))
    for _ in range(3):
        again = await world.commit(table, staged, key)
        assert again.json() == first.json()
        assert again.headers["Idempotency-Replayed"] == "true"


async def test_the_key_may_come_in_the_header_in_the_body_or_in_both(world: World) -> None:
    table = await world.create()
    for number, where in enumerate(("header", "body", "both")):
        key = new_key()
        staged = await world.stage(table, add(f"{where}.parquet"))
        body: dict[str, object] = {"read_version": number, **staged}
        if where != "header":
            body["idempotency_key"] = key
        headers = {} if where == "body" else {"Idempotency-Key": key}
        answer = await world.client.post(f"{TABLES}/{table}/commits", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["version"] == number + 1
        assert (await world.client.get(f"{TABLES}/{table}/commits/{key}")).json()["version"] == number + 1


async def test_a_payload_may_come_with_the_commit(world: World) -> None:
    table = await world.create()
    key = new_key()
    added = ndjson(add("a.parquet"))
    body = {"read_version": 0, "mode": "append", "payload": added, "idempotency_key": key}
    first = await world.client.post(f"{TABLES}/{table}/commits", json=body)
    assert first.status_code == 200, first.text
    assert first.headers["Idempotency-Replayed"] == "false"
    assert world.store.objects[ACME.full(ObjectPath(first.json()["delta_log_path"]))].data == added.encode()
    again = await world.client.post(f"{TABLES}/{table}/commits", json=body)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    staged = await world.stage(table, add("a.parquet"))
    assert (await world.commit(table, staged, key)).json() == first.json()
    other = body | {"payload": ndjson(add("b.parquet"))}
    refusal = await world.client.post(f"{TABLES}/{table}/commits", json=other)
    assert (refusal.status_code, refusal.json()["code"]) == (409, "KEY_REUSED")
    assert (await world.client.get(f"{TABLES}/{table}")).json()["latest_version"] == 1


async def test_strict_is_the_default_mode(world: World) -> None:
    table = await world.create()
    staged = await world.stage(table, add("a.parquet"))
    body = {"read_version": 0, **staged, "idempotency_key": new_key()}
    assert (await world.client.post(f"{TABLES}/{table}/commits", json=body)).status_code == 200
    body["idempotency_key"] = new_key()
    assert (await world.client.post(f"{TABLES}/{table}/commits", json=body)).status_code == 409


@pytest.mark.parametrize("place", [{}, {"location": "warehouse/flights"}])
async def test_creating_and_adopting_may_be_repeated(world: World, place: dict[str, str]) -> None:
    body = {"name": "flights", "columns": [{"name": "x", "type": "long"}], **place}
    first = await world.client.post(TABLES, json=body)
    assert first.status_code == 201
    await world.commit("flights", await world.stage("flights", add("a.parquet")))
    before = world.snapshot()
    again = await world.client.post(TABLES, json=body)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["Location"] == first.headers["Location"]
    if place:
        adopted = await world.client.post(f"{TABLES}/adopt", json={"name": "flights", **place})
        assert (adopted.status_code, adopted.json()) == (200, first.json())
    for change in ({"columns": [{"name": "y", "type": "long"}]}, {"location": "elsewhere"}, {"description": "d"}):
        other = await world.client.post(TABLES, json=body | change)
        assert other.status_code == 409
        assert other.json()["code"] == "NAME_TAKEN"
    assert world.snapshot() == before


async def test_the_same_creation_twice_at_once_makes_one_table(world: World) -> None:
    body = {"name": "flights", "columns": [{"name": "x", "type": "long"}], "location": "warehouse/flights"}
    answers = await asyncio.gather(*(world.client.post(TABLES, json=body) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["table"]["table_id"] for answer in answers}) == 1


async def test_adopting_a_folder_that_another_engine_wrote(world: World) -> None:
    table = await world.create("origin", location="origin")
    log = world.store.objects[ACME.full(ObjectPath(f"/{ACME.tables}/origin/_delta_log/{0:020}.json"))].data
    world.store.seed(ACME.full(ObjectPath(f"elsewhere/flights/_delta_log/{0:020}.json")), log)
    answer = await world.client.post(f"{TABLES}/adopt", json={"name": "flights", "location": "elsewhere/flights"})
    assert answer.status_code == 201
    assert answer.json()["table"]["root"] == "elsewhere/flights"
    assert answer.json()["table"]["table_id"] != table
    staged = await world.stage("flights", add("a.parquet"))
    assert (await world.commit("flights", staged)).json()["version"] == 1


async def test_staging_under_a_key_may_be_repeated(world: World) -> None:
    table = await world.create()
    key = new_key()
    url = f"{TABLES}/{table}/commits/stage"
    body = {"payload": ndjson(add("a.parquet")), "idempotency_key": key}
    first = await world.client.post(url, json=body)
    before = world.snapshot()
    again = await world.client.post(url, json={"payload": body["payload"]}, headers={"Idempotency-Key": key})
    assert first.json() == again.json()
    assert first.json()["staged_path"].endswith(f"/{key}.json")
    assert world.snapshot() == before


async def test_many_writers_at_once_share_batches(world: World) -> None:
    table = await world.create()
    staged = [await world.stage(table, add(f"{number}.parquet")) for number in range(50)]
    answers = await asyncio.gather(*(world.commit(table, one) for one in staged))
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 51))
    assert len(world.sequencer.batches) < 25
