"""Asking for backfills: what is refused and changes nothing, what is repeated, and who is first of two."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from springline.errors import Code, Refused
from tests.backfills.place import DAILY, Place, place_with
from tests.support.definitions import asset

RANGE = {"start": "2024-01-01", "end": "2024-01-04"}


@pytest.fixture
async def place() -> Place:
    return await place_with(
        asset("raw", partitions=DAILY),
        asset("hours", partitions={"kind": "hourly", "start": "1001-01-01T00"}),
        asset("zones", partitions={"kind": "static", "keys": ["eu", "us", "asia"]}),
        asset("future", partitions={"kind": "daily", "start": "9000-01-01"}),
        asset("whole"),
    )


@pytest.mark.parametrize(
    ("asked", "field", "says"),
    [
        ({"partitions": []}, "partitions", "There are no partitions"),
        ({}, "partitions", "Nothing says which partitions"),
        ({"all": True, "start": "2024-01-01"}, "partitions", "more than one way"),
        ({"select": ["hours"], "start": "1001-01-01T00", "end": "9000-01-01T00"}, "end", "is the most of one backfill"),
        ({"select": ["hours"], "all": True}, "start", "is the most of one backfill"),
        ({"partitions": ["2024-01-01", "2023-12-31"]}, "partitions", "'2023-12-31' lies before the first"),
        ({"partitions": ["2024-02-30"]}, "partitions", "'2024-02-30' is no key of daily partitions"),
        ({"start": "eu", "end": "2024-01-01"}, "start", "start 'eu' is no key"),
        ({"start": "2024-01-04", "end": "2024-01-01"}, "end", "lies before start"),
        ({"match": "2024-13-*"}, "match", "none of the"),
        ({"select": ["future"], "all": True}, "start", "no partition is complete yet"),
        ({"select": ["whole"], **RANGE}, "select", "Asset whole has no partitions"),
        ({"select": ["raw", "zones"], **RANGE}, "select", "are cut into partitions in different ways"),
        ({"select": ["rawr"], **RANGE}, "select", "names no asset"),
        ({"select": [], **RANGE}, "select", "The selection is empty"),
        ({**RANGE, "chunk_size": 0}, "chunk_size", "0"),
        ({**RANGE, "chunk_size": 501}, "chunk_size", "501"),
        ({**RANGE, "max_concurrent_runs": 0}, "max_concurrent_runs", "0"),
        ({**RANGE, "priority": 101}, "priority", "101"),
        ({**RANGE, "order": "random"}, "order", "random"),
        ({**RANGE, "chunks": 3}, "chunks", "chunks"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    place: Place, asked: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(Refused) as caught:
        await place.create(**asked)
    refusal = caught.value.refusal
    assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, field)
    assert says.lower() in (refusal.message + str(refusal.value)).lower()
    assert refusal.remedy
    assert await place.rows("backfills") == []
    assert place.ledger.requests == []


async def test_the_same_request_again_is_the_same_backfill_and_another_is_refused(place: Place) -> None:
    first = await place.create(**RANGE)
    again = await place.create(**RANGE)
    assert (again.backfill_id, again.replayed) == (first.backfill_id, True)
    with pytest.raises(Refused) as caught:
        await place.create(**(RANGE | {"end": "2024-01-05"}))
    assert (caught.value.refusal.code, caught.value.refusal.field) == (Code.KEY_REUSED, "request_id")
    assert len(await place.rows("backfills")) == 1


async def test_of_many_requests_at_once_under_one_id_one_is_the_backfill(place: Place) -> None:
    found = await asyncio.gather(
        *(place.create(**RANGE) for _ in range(4)),
        *(place.create(select=["zones"], all=True) for _ in range(4)),
        return_exceptions=True,
    )
    made = {one.backfill_id for one in found if not isinstance(one, BaseException)}
    refusals = [one for one in found if isinstance(one, Refused)]
    assert len(made) == 1
    assert len(refusals) == 4
    assert {one.refusal.code for one in refusals} == {Code.KEY_REUSED}
    assert len(await place.rows("backfills")) == 1


@pytest.mark.parametrize(
    ("asked", "keys"),
    [
        ({"select": ["zones"], "all": True}, ["eu", "us", "asia"]),
        ({"select": ["zones"], "partitions": ["asia", "eu", "asia"]}, ["eu", "asia"]),
        ({"select": ["zones"], "match": "?u"}, ["eu"]),
        ({"select": ["zones"], "start": "us"}, ["us", "asia"]),
        (
            {"start": "2024-01-01", "end": "2024-12-31", "match": "2024-0[1-3]-01"},
            ["2024-01-01", "2024-02-01", "2024-03-01"],
        ),
        ({"start": "2024-01-30", "end": "2024-02-01"}, ["2024-01-30", "2024-01-31", "2024-02-01"]),
    ],
)
async def test_partitions_are_chosen_in_each_way(place: Place, asked: dict[str, Any], keys: list[str]) -> None:
    created = await place.create(chunk_size=100, **asked)
    await place.finish(created.backfill_id)
    made = [task["partition_key"] for task in await place.rows("tasks")]
    assert sorted(made) == sorted(keys)


async def test_verbs_need_a_state_that_fits_and_are_safe_to_repeat(place: Place) -> None:
    created = await place.create(**RANGE)
    backfills, name = place.backfills, created.backfill_id
    with pytest.raises(Refused, match="has not failed: it is RUNNING"):
        await backfills.retry_failed(name, "x")
    assert (await backfills.resume(name, "a")).replayed
    assert not (await backfills.pause(name, "a")).replayed
    assert (await backfills.pause(name, "a")).replayed
    changed = await asyncio.gather(*(place.backfills.resume(name, "a") for _ in range(5)))
    assert sorted(one.replayed for one in changed) == [False, True, True, True, True]
    await backfills.cancel(name, "a")
    assert (await backfills.cancel(name, "a")).replayed
    for verb in (backfills.pause, backfills.resume):
        with pytest.raises(Refused, match="it is CANCELLED"):
            await verb(name, "a")
    with pytest.raises(Refused) as caught:
        await backfills.pause("bf_nobody", "a")
    assert caught.value.refusal.code is Code.NOT_FOUND
    assert (await place.row(name))["state_version"] == 4


async def test_a_retry_is_one_child_for_each_request(place: Place) -> None:
    place.failing = {"raw[2024-01-02]", "raw[2024-01-03]"}
    created = await place.create(chunk_size=2, **RANGE)
    await place.finish(created.backfill_id)
    first = await place.backfills.retry_failed(created.backfill_id, "x")
    again = await place.backfills.retry_failed(created.backfill_id, "x")
    assert (first.backfill_id, first.total, again.replayed) == (again.backfill_id, 2, True)
    other = await place.backfills.retry_failed(created.backfill_id, "y")
    assert other.backfill_id != first.backfill_id
    place.failing = set()
    assert (await place.finish(first.backfill_id)).state == "SUCCEEDED"
    with pytest.raises(Refused, match="has not failed: it is SUCCEEDED"):
        await place.backfills.retry_failed(first.backfill_id, "x")


async def test_a_retry_of_partitions_that_are_no_more_says_which_are_left_and_how_to_make_them(place: Place) -> None:
    place.failing = {"zones[us]", "zones[asia]"}
    created = await place.create(select=["zones"], all=True)
    await place.finish(created.backfill_id)
    await place.deploy(asset("zones", partitions={"kind": "static", "keys": ["eu", "asia"]}))
    with pytest.raises(Refused) as caught:
        await place.backfills.retry_failed(created.backfill_id, "x")
    refusal = caught.value.refusal
    assert (refusal.code, refusal.field, refusal.value) == (
        Code.DEFINITION_CONFLICT,
        "backfill_id",
        created.backfill_id,
    )
    assert "1 of the 2 partitions" in refusal.message
    assert "'us'" in refusal.message
    assert "`springline backfill create zones --partition asia`" in (refusal.remedy or "")


async def test_a_retry_of_an_asset_that_is_no_more_is_refused_as_such(place: Place) -> None:
    place.failing = {"zones[us]"}
    created = await place.create(select=["zones"], all=True)
    await place.finish(created.backfill_id)
    await place.deploy(asset("raw", partitions=DAILY))
    with pytest.raises(Refused) as caught:
        await place.backfills.retry_failed(created.backfill_id, "x")
    refusal = caught.value.refusal
    assert (refusal.code, refusal.field) == (Code.DEFINITION_CONFLICT, "backfill_id")
    assert "zones" in refusal.message
    assert "Deploy" in (refusal.remedy or "")


async def test_a_retry_of_which_no_partition_is_left_offers_none(place: Place) -> None:
    place.failing = {"zones[us]"}
    created = await place.create(select=["zones"], all=True)
    await place.finish(created.backfill_id)
    await place.deploy(asset("zones", partitions={"kind": "static", "keys": ["eu"]}))
    with pytest.raises(Refused) as caught:
        await place.backfills.retry_failed(created.backfill_id, "x")
    assert "create" not in (caught.value.refusal.remedy or "")
