"""Passes over schedules and changes of them, at once, again, and on rows that are damaged or strange."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
import uuid_utils

from springline.control.schedules.deciding import ScheduleView
from springline.control.schedules.messages import EvaluatedSchedules
from springline.definitions.manifest import CodeLocation, DeployedManifest, ScheduleDefinition
from springline.deployed.deploying import deploy
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refused
from springline.ledger.identifiers import manual_schedule_run_key, schedule_run_key
from springline.ledger.request import AppendRequest, NewEvent
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.schedules.changing import Changed, ScheduleChange, Schedules, put_definition, switched
from springline.schedules.evaluating import evaluate
from springline.schedules.reading import with_runs
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.support.definitions import asset, ids, part
from tests.support.local_api import ACME
from tests.support.local_ledger import LocalLedger, now_ms

MINUTE = ScheduleDefinition(cron="* * * * *", select=["raw"], max_catchup_ticks=100)


class Place:
    """A workspace with assets, and what works on it. `ahead_ms`: how far the evaluator's clock has gone on."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ledger = LocalLedger(self.store)
        self.reader = PublishedReader(self.store)
        self.manifests = ManifestReader()
        self.ahead_ms = 0
        self.deploys = 0

    async def deploy(self, location: CodeLocation) -> DeployedManifest:
        self.deploys += 1
        await deploy(ScopedStore(self.store, ACME), location, ids(self.deploys))
        return await self.manifest()

    async def manifest(self) -> DeployedManifest:
        found = await self.manifests.latest(ScopedStore(self.store, ACME), ACME)
        assert found is not None
        return found.manifest

    def now_ms(self) -> int:
        return now_ms() + self.ahead_ms

    async def change(self, schedule_id: str, make: Any) -> Changed:
        schedules = Schedules(PublishedReader(self.store), self.ledger, ACME, self.now_ms)
        (changed,) = await schedules.change([ScheduleChange(schedule_id, make)], await self.manifest())
        return changed

    async def define(self, schedule_id: str, definition: ScheduleDefinition) -> Changed:
        return await self.change(
            schedule_id, put_definition(schedule_id, definition, None, (await self.manifest()).manifest_id)
        )

    async def evaluate(self) -> EvaluatedSchedules:
        reader = PublishedReader(self.store)
        return await evaluate(self.store, reader, self.manifests, self.ledger, ACME, self.now_ms())

    async def rows(self, table: str) -> list[dict[str, Any]]:
        snapshot = await self.reader.snapshot(ACME, [table])
        columns = [column.name for column in snapshot[table].table.columns]
        return [dict(zip(columns, row, strict=True)) for row in snapshot[table]]

    async def append(self, *events: dict[str, Any]) -> None:
        request = AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=one) for one in events])
        outcome = await self.ledger.append(ACME, request)
        assert outcome.refusal is None, outcome.refusal


@pytest.fixture
async def place() -> Place:
    place = Place()
    await place.deploy(part("flights", asset("raw")))
    return place


async def test_what_is_due_is_asked_for_and_the_next_look_is_named(place: Place) -> None:
    # Right behind the start of a minute: the next one does not begin while this looks.
    place.ahead_ms = 60_000 - place.now_ms() % 60_000
    await place.define("s", MINUTE)
    first = await place.evaluate()
    assert (first.schedules, first.runs) == (1, 0)
    assert first.next_ms is not None
    assert first.next_ms % 60_000 == 0
    place.ahead_ms += 3 * 60_000
    again = await place.evaluate()
    assert (again.runs, again.skipped) == (3, 0)
    requested = await place.rows("run_key_index")
    assert {row["code_version"] for row in requested} == {(await place.manifest()).manifest_id}
    assert (await place.evaluate()).runs == 0


async def test_passes_and_changes_at_once_decide_once_on_each_instant(place: Place) -> None:
    for name in ("a", "b", "c"):
        await place.define(name, MINUTE)
    place.ahead_ms = 10 * 60_000
    await asyncio.gather(
        *(place.evaluate() for _ in range(3)),
        place.change("a", switched("a", enabled=False)),
        place.define("b", MINUTE.model_copy(update={"overlap": "skip"})),
    )
    await place.evaluate()
    ticks = await place.rows("schedule_ticks")
    for name in ("a", "b", "c"):
        mine = sorted(tick["scheduled_for"] for tick in ticks if tick["schedule_id"] == name)
        assert mine == [mine[0] + 60_000 * number for number in range(len(mine))]
        assert len(mine) in (10, 11)
    requested = [row["run_key"] for row in await place.rows("run_key_index")]
    assert sorted(requested) == sorted({tick["run_key"] for tick in ticks if tick["run_key"] is not None})
    assert await place.rows("run_key_conflicts") == []


async def test_a_bad_row_is_set_aside_once_and_holds_up_nobody(place: Place) -> None:
    await place.define("good", MINUTE)
    manifest_id = (await place.manifest()).manifest_id
    await place.append(
        {
            "type": "schedule_definition_upserted",
            "schedule_id": "bad",
            "cron_expression": "* * * * *",
            "timezone": "Mars/Base",
            "catchup_window_minutes": 0,
            "max_catchup_ticks": 1,
            "asset_selection": ["raw"],
            "enabled": True,
            "code_version": manifest_id,
        }
    )
    place.ahead_ms = 60_000
    found = await place.evaluate()
    assert found.runs == 1
    assert "Mars/Base" in found.aside[0]
    place.ahead_ms = 120_000
    assert (await place.evaluate()).skipped == 0
    notes = [tick for tick in await place.rows("schedule_ticks") if tick["schedule_id"] == "bad"]
    assert len(notes) == 1


async def test_definitions_of_another_system_are_left_to_it(place: Place) -> None:
    await place.append(
        {
            "type": "schedule_definition_upserted",
            "schedule_id": "theirs",
            "cron_expression": "* * * * *",
            "timezone": "UTC",
            "catchup_window_minutes": 60,
            "max_catchup_ticks": 5,
            "asset_selection": ["raw"],
            "enabled": True,
            "code_version": "git-abc",
        }
    )
    place.ahead_ms = 600_000
    assert await place.evaluate() == EvaluatedSchedules()
    assert (await place.define("theirs", MINUTE)).created


async def test_an_asset_that_left_the_manifest_skips_its_instants_with_the_reason(place: Place) -> None:
    await place.define("s", MINUTE)
    await place.deploy(part("flights", asset("other")))
    place.ahead_ms = 120_000
    found = await place.evaluate()
    assert (found.runs, found.skipped) == (0, 2)
    assert "names no asset" in found.aside[0]
    reasons = {tick["status"] for tick in await place.rows("schedule_ticks")}
    assert all("names no asset" in reason for reason in reasons)
    await place.deploy(part("flights", asset("raw")))
    place.ahead_ms = 180_000
    assert (await place.evaluate()).runs == 1


async def test_while_held_nothing_is_decided_and_an_edit_that_owes_is_refused(place: Place) -> None:
    await place.define("s", MINUTE)
    hold = {"type": "springline_hold_changed", "change_id": "c1", "held": True, "changed_by": "ada"}
    await place.append(hold)
    place.ahead_ms = 120_000
    assert (await place.evaluate()).held
    with pytest.raises(Refused) as found:
        await place.change("s", switched("s", enabled=False))
    assert found.value.refusal.code is Code.EVENT_CONFLICT
    await place.append(hold | {"change_id": "c2", "held": False})
    assert (await place.evaluate()).runs == 2


async def test_a_pause_of_a_year_is_a_few_records(place: Place) -> None:
    await place.define("s", MINUTE)
    await place.change("s", switched("s", enabled=False))
    place.ahead_ms = 365 * 86_400_000
    changed = await place.change("s", switched("s", enabled=True))
    assert changed.ticks == 6
    ticks = await place.rows("schedule_ticks")
    assert len(ticks) == 6
    assert all("the schedule was off" in tick["status"] for tick in ticks)
    assert (await place.evaluate()).runs == 0


def with_schedule(cron: str | None) -> CodeLocation:
    declared = [] if cron is None else [{"schedule_id": "s", "cron": cron, "select": ["raw"]}]
    return CodeLocation.model_validate({"location": "flights", "assets": [asset("raw")], "schedules": declared})


@pytest.mark.parametrize(("first", "second"), [("0 1 * * *", "0 2 * * *"), ("0 1 * * *", None), (None, "0 2 * * *")])
async def test_of_two_deploys_the_later_one_counts_however_they_append(
    place: Place, first: str | None, second: str | None
) -> None:
    schedules = Schedules(place.reader, place.ledger, ACME, place.now_ms)
    earlier = await place.deploy(with_schedule(first))
    later = await place.deploy(with_schedule(second))
    assert earlier.manifest_id < later.manifest_id
    for manifest in (earlier, later, earlier):
        await schedules.deployed("flights", manifest)
    rows = await place.rows("schedule_definitions")
    assert [(row["cron_expression"], row["enabled"]) for row in rows] == [(second or first, second is not None)]


async def test_triggering_in_a_held_workspace_is_refused_by_its_schedule(place: Place) -> None:
    await place.define("s", MINUTE)
    await place.append({"type": "springline_hold_changed", "change_id": "c1", "held": True, "changed_by": "ada"})
    with pytest.raises(Refused) as found:
        schedules = Schedules(place.reader, place.ledger, ACME, place.now_ms)
        await schedules.trigger("s", await place.manifest())
    assert (found.value.refusal.code, found.value.refusal.field) == (Code.EVENT_CONFLICT, "schedule_id")


async def test_a_run_that_is_asked_for_and_has_not_begun_counts_as_under_way(place: Place) -> None:
    second = ScheduleDefinition(interval_seconds=1, select=["raw"], max_catchup_ticks=1_000)
    await place.define("s", second)
    place.ahead_ms = 3_000_000
    for _ in range(15):
        await place.evaluate()
    # The clock goes on meanwhile.
    assert len(await place.rows("run_key_index")) >= 1_000
    await place.define("s", second.model_copy(update={"overlap": "skip"}))
    place.ahead_ms += 5_000
    found = await place.evaluate()
    assert found.runs == 0
    assert found.skipped >= 5


class _Runs:
    """Rows of runs and of their keys: those triggered by hand have ended, the one asked for by a tick has not begun."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = sorted(keys)

    def __getitem__(self, table: str) -> _Runs:
        return self

    def select(self, where: object) -> list[object]:
        return []

    def has(self, run_id: str) -> bool:
        return ":manual:" in run_id

    def texts(self, column: str, *, after: str, before: str, most: int) -> list[tuple[str, str]]:
        return [(key, key) for key in self.keys if after < key < before][:most]


def test_a_run_that_waits_counts_however_often_its_schedule_was_triggered_by_hand() -> None:
    now_s = 1_800_000_000
    asked = [schedule_run_key("s", now_s - 3_600)]
    by_hand = [manual_schedule_run_key("s", f"{number:04}") for number in range(1_500)]
    view = ScheduleView("s", "", "0 * * * *", "UTC", ("raw",), evaluated_to=now_s, overlap="skip")
    for keys in (asked, asked + by_hand):
        (counted,) = with_runs(cast(StateSnapshot, _Runs(keys)), [view])
        assert counted.active == 1
