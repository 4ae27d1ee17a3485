"""Backfills of what is stale: found once, recorded as keys, asked for again, retried, and until nothing is."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from activities.backfills import BackfillActivities
from springline.backfills.changing import ChangedBackfill, NothingStale
from springline.backfills.requests import fingerprint_of, parsed_backfill
from springline.control.backfills.messages import NOTHING_STALE, BackfillRequestAnswer, BackfillRequestOrder
from springline.errors import Code, Refused
from springline.ledger.member import BackfillMember
from springline.projection.rows import BackfillRow, DefinitionRow
from springline.projection.schema import TABLES
from springline.published.snapshot import StateSnapshot, TableRows
from springline.runs.backfilled import settings_of
from tests.activities.metrics import Metrics
from tests.backfills.place import Place, place_with
from tests.staleness.test_reading import REVISION
from tests.support.definitions import asset
from tests.support.local_api import ACME
from tests.support.local_ledger import now_ms

WEEK = {"kind": "daily", "start": "2024-01-01", "end": "2024-01-08"}
DAYS = [f"2024-01-0{number}" for number in range(1, 8)]


@pytest.fixture
async def place() -> Place:
    return await place_with(
        asset("raw", partitions=WEEK, retries=0),
        asset("clean", "raw", partitions=WEEK),
        asset("hours", partitions={"kind": "hourly", "start": "1001-01-01T00"}),
    )


async def done(place: Place, request_id: str, *keys: str, **asked: Any) -> None:
    """Make partitions of `raw` by a backfill."""
    await place.finish((await place.create(request_id, partitions=list(keys), **asked)).backfill_id)


async def recorded(place: Place, backfill_id: str) -> dict[str, Any]:
    """Return the row of a backfill, with what its member says as `settings`."""
    (own,) = [row for row in await place.rows("x_definitions") if row["definition_id"] == backfill_id]
    return await place.row(backfill_id) | {"settings": msgspec.json.decode(own["settings"])}


async def test_what_is_stale_is_found_once_and_recorded_as_keys(place: Place) -> None:
    await done(place, "first", DAYS[1], DAYS[4])
    place.asker = "ada"
    created = await place.create(stale=True)
    assert (created.total, created.assets) == (5, ("raw",))
    assert created.stale is not None
    assert created.stale.partitions == 5
    row = await recorded(place, created.backfill_id)
    assert msgspec.json.decode(row["partition_selector"]) == {
        "type": "explicit",
        "partition_keys": [DAYS[0], DAYS[2], DAYS[3], DAYS[5], DAYS[6]],
    }
    settings = row["settings"]
    assert (settings["asked_by"], settings["stale_partitions"]) == ("ada", 5)
    assert (settings["stale_revision"], settings["stale_as_of"]) == (created.stale.revision, created.stale.as_of)
    # What becomes current, or stale, afterwards is another matter: the request stands for what it found.
    await done(place, "other", DAYS[0], DAYS[2])
    place.asker = "bob"
    again = await place.create(stale=True)
    assert (again.backfill_id, again.total, again.replayed) == (created.backfill_id, 5, True)
    assert again.stale is not None
    assert (again.stale.revision, again.stale.as_of) == (created.stale.revision, created.stale.as_of)
    with pytest.raises(Refused) as caught:
        await place.create(stale=True, reasons=["CODE_CHANGED"])
    assert (caught.value.refusal.code, caught.value.refusal.field) == (Code.KEY_REUSED, "request_id")
    await place.finish(created.backfill_id)
    assert sum((await place.made()).values()) == 2 + 2 + 5


async def test_one_stretch_is_recorded_as_a_range(place: Place) -> None:
    created = await place.create(stale=True, start=DAYS[2])
    row = await place.row(created.backfill_id)
    assert msgspec.json.decode(row["partition_selector"]) == {"type": "range", "start": DAYS[2], "end": DAYS[6]}


async def test_what_a_selection_needs_is_made_in_order_and_then_nothing_is_stale(place: Place) -> None:
    await done(place, "first", *DAYS, select=["raw", "clean"])
    await done(place, "second", DAYS[3])
    created = await place.create("r", select=["*clean"], stale=True)
    # `raw` is current: it was made again, and `clean` is stale because of that.
    assert (created.total, created.assets) == (1, ("clean",))
    await place.finish(created.backfill_id)
    assert isinstance(await place.asked("r2", select=["*clean"], stale=True), NothingStale)


async def test_both_are_made_in_one_run_where_both_are_stale(place: Place) -> None:
    created = await place.create(select=["raw*"], stale=True, chunk_size=500)
    assert (created.total, created.assets) == (7, ("clean", "raw"))
    await place.finish(created.backfill_id)
    needs = {row["task_key"]: row["deps_total"] for row in await place.rows("tasks")}
    assert (needs[f"clean[{DAYS[0]}]"], needs[f"raw[{DAYS[0]}]"]) == (1, 0)
    assert isinstance(await place.asked("again", select=["raw*"], stale=True), NothingStale)


async def test_what_fails_is_retried_and_stays_stale_until_it_is_made(place: Place) -> None:
    place.failing = {f"raw[{DAYS[5]}]"}
    created = await place.create(stale=True)
    assert (await place.finish(created.backfill_id)).state == "FAILED"
    still = await place.create("r2", stale=True)
    assert (still.total, still.stale and still.stale.partitions) == (1, 1)
    place.failing = set()
    retried = await place.backfills.retry_failed(created.backfill_id, "again", "ada")
    assert (retried.total, retried.stale) == (1, None)
    assert (await place.finish(retried.backfill_id)).state == "SUCCEEDED"
    assert (await recorded(place, retried.backfill_id))["settings"]["asked_by"] == "ada"
    assert isinstance(await place.asked("r3", stale=True), NothingStale)


async def test_a_request_that_finds_nothing_writes_nothing_and_leaves_its_id_free(place: Place) -> None:
    await done(place, "first", *DAYS)
    before = len(place.ledger.requests)
    found = await place.asked("r", stale=True)
    assert isinstance(found, NothingStale)
    assert (found.stale.partitions, len(place.ledger.requests)) == (0, before)
    assert (await place.backfills.planned(parsed_backfill({"select": ["raw"], "stale": True}))).total == 0
    await place.deploy(asset("raw", partitions=WEEK, code_version="2"))
    place.code = "1"
    await done(place, "second", DAYS[0])
    assert isinstance(await place.asked("r", stale=True, reasons=["CODE_CHANGED"]), ChangedBackfill)


@pytest.mark.parametrize(
    ("asked", "field", "says"),
    [
        ({"reasons": ["CODE_CHANGED"], "all": True}, "reasons", "are of what is stale"),
        ({"stale": True, "reasons": ["OPEN"]}, "reasons.0", "NEVER_MATERIALIZED"),
        ({"stale": "yes"}, "stale", "yes"),
        ({"stale": True, "select": ["hours"]}, "start", "would have to be judged"),
        ({"stale": True, "select": ["raw", "hours"], "start": DAYS[0]}, "select", "in different ways"),
        ({"stale": True, "start": "2024-02-30"}, "start", "is no key"),
        ({"stale": True, "all": True, "start": DAYS[0]}, "partitions", "more than one way"),
        ({"stale": True, "select": ["rwa"]}, "select", "names no asset"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    place: Place, asked: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(Refused) as caught:
        await place.create(**asked)
    refusal = caught.value.refusal
    assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, field)
    assert says in refusal.message + str(refusal.value)
    assert refusal.remedy
    assert place.ledger.requests == []


def test_what_a_newer_build_says_of_a_backfill_is_passed_over() -> None:
    said = '{"order":"oldest_first","later":1}'
    of_it = {
        "kind": "backfill",
        "definition_id": "bf",
        "defined_at": 1,
        "first_defined_at": 1,
        "settings": said,
        "row_version": "",
    }
    own = tuple((dict.fromkeys(DefinitionRow.__struct_fields__) | of_it).values())
    fields = dict.fromkeys(BackfillRow.__struct_fields__) | {"backfill_id": "bf", "chunk_size": 1}
    row = BackfillRow(**cast(Any, fields | {"code_version": "01JHMPFQ6G000AQKFF00000004"}))
    definitions = TableRows.of(TABLES["x_definitions"], [own])
    found = settings_of(StateSnapshot(REVISION, {"x_definitions": definitions}), row)
    assert found == BackfillMember(order="oldest_first")


@pytest.mark.parametrize(
    ("asked", "fingerprint"),
    [
        (
            {"start": "2024-01-01", "end": "2024-01-25"},
            "f6406d4f8a54e1dac6dc79a116be2d6b46b56b0c53e971b6600634bae3b1c08a",
        ),
        ({"partitions": ["2024-01-01"]}, "ed5cb3d0c79dde242004c43e4e93e919baa274fe27cca3b8bd71cd5386d553a8"),
    ],
)
def test_requests_that_do_not_say_stale_keep_their_fingerprints(asked: dict[str, Any], fingerprint: str) -> None:
    assert fingerprint_of(parsed_backfill({"select": ["raw"], **asked})) == fingerprint


async def test_who_has_the_temporal_cli_asks_for_the_same(place: Place) -> None:
    activities = BackfillActivities(place.store, place.ledger)

    async def answer(name: str) -> BackfillRequestAnswer:
        order = BackfillRequestOrder(
            tenant=ACME.tenant,
            workspace=ACME.workspace,
            verb="create",
            asked={"select": ["raw"], "stale": True},
            name=name,
            now_ms=now_ms(),
        )
        found: BackfillRequestAnswer = await Metrics().environment().run(activities.request_backfill, order)
        return found

    first = await answer("one")
    assert (first.state, first.total_partitions, first.stale_partitions) == ("RUNNING", 7, 7)
    assert (await recorded(place, first.backfill_id))["settings"]["asked_by"] == "temporal"
    await place.finish(first.backfill_id)
    none = await answer("two")
    assert (none.backfill_id, none.state, none.stale_partitions) == ("", NOTHING_STALE, 0)
