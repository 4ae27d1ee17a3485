"""Why backfills, their chunks and partitions stand as they do: from what real passes, changes and runs recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from springline.errors import Code, Refused
from springline.explaining.reading import explain
from springline.explaining.story import Explanation, Question, Verdict
from springline.explaining.subjects import SUBJECTS
from springline.published.reader import PublishedReader
from tests.backfills.place import DAILY, Place, place_with
from tests.control.payloads import backfill, hold, started
from tests.support.definitions import asset
from tests.support.local_api import ACME
from tests.support.local_ledger import now_ms

T10: dict[str, Any] = {"start": "2024-01-01", "end": "2024-01-25", "chunk_size": 10, "max_concurrent_runs": 2}
MINUTE = 60_000


@pytest.fixture
async def place() -> Place:
    return await place_with()


async def told(place: Place, subject: str, identity: str, ahead_ms: int = 0, **about: Any) -> Explanation:
    question = replace(Question(identity=identity, now_ms=now_ms() + ahead_ms), **about)
    reader = PublishedReader(place.store)
    return await explain(place.store, reader, place.manifests, ACME, SUBJECTS[subject], question)


async def test_a_backfill_at_its_limit_names_its_chunks_and_runs(place: Place) -> None:
    name = (await place.create(**T10)).backfill_id
    first = await told(place, "backfill", name)
    assert first.verdict is Verdict.UNDER_WAY
    assert "0 of 25 partition(s) are done; 0 of 3 chunk(s) have ended" in first.answer
    assert (first.decisions[0].event, first.decisions[0].who) == ("backfill_created", "a user")
    await place.settled(name)
    asked = await told(place, "backfill", name)
    # Their runs are asked for, and no launcher is there.
    assert asked.verdict in (Verdict.UNDER_WAY, Verdict.OVERDUE)
    assert "2 chunk(s) are open, as many as may be at once (max_concurrent_runs), and 1 wait." in asked.answer
    await place.launch()
    found = await told(place, "backfill", name)
    assert found.verdict is Verdict.UNDER_WAY
    assert [one.partition(":")[0] for one in found.waits_for] == ["chunk 0", "chunk 1"]
    assert {one.split()[2] for one in found.waits_for} == {"run"}
    assert found.next_steps[0] == f"springline explain chunk {name} 0"
    third = await told(place, "chunk", name, chunk=2)
    assert third.verdict is Verdict.WAITS
    assert "It is the next to be planned." in third.answer


async def test_who_asked_is_told_and_for_what_was_stale(place: Place) -> None:
    place.asker = "ada"
    name = (await place.create(stale=True, reasons=["NEVER_MATERIALIZED"], end="2024-01-25")).backfill_id
    (created,) = [one for one in (await told(place, "backfill", name)).decisions if one.event == "backfill_created"]
    assert created.who == "ada"
    assert "of 25 partition(s), for 25 that were stale (NEVER_MATERIALIZED) at revision" in created.what


async def test_a_pause_and_a_hold_are_told_with_who(place: Place) -> None:
    name = (await place.create(**T10)).backfill_id
    await place.settled(name)
    await place.backfills.pause(name, "ann")
    found = await told(place, "backfill", name)
    assert found.verdict is Verdict.OFF
    assert "ann paused it" in found.answer
    assert "2 chunk(s) were planned before, and go on" in found.answer
    assert found.next_steps == [f"springline backfill resume {name}"]
    chunk = await told(place, "chunk", name, chunk=2)
    assert (chunk.verdict, "ann paused it" in chunk.answer) == (Verdict.OFF, True)
    await place.backfills.resume(name, "bob")
    await place.append(hold(changed_by="cyd", reason="moving"))
    for held in (await told(place, "backfill", name), await told(place, "chunk", name, chunk=2)):
        assert held.verdict is Verdict.HELD
        assert "by cyd" in held.answer
        assert held.next_steps == ["springline hold release"]
    assert [one.who for one in held.decisions][-3:] == ["ann", "bob", "cyd"]


async def test_an_evaluator_that_does_not_act_is_overdue(place: Place) -> None:
    name = (await place.create(**T10)).backfill_id
    assert (await told(place, "backfill", name, MINUTE)).verdict is Verdict.UNDER_WAY
    found = await told(place, "backfill", name, 2 * MINUTE)
    assert found.verdict is Verdict.OVERDUE
    assert "Its evaluator has had to plan chunks since" in found.answer
    assert "springline repair run" in found.next_steps
    await place.settled(name)
    await place.run_all()
    ended = await told(place, "backfill", name, 2 * MINUTE)
    assert ended.verdict is Verdict.OVERDUE
    assert "has had to record the end of a chunk" in ended.answer
    chunk = await told(place, "chunk", name, 2 * MINUTE, chunk=0)
    assert (chunk.verdict, "Its end is not recorded yet" in chunk.answer) == (Verdict.OVERDUE, True)


async def test_a_failure_leads_from_the_backfill_to_the_attempt(place: Place) -> None:
    place.failing = {"raw[2024-01-13]"}
    name = (await place.create(**T10)).backfill_id
    await place.finish(name)
    found = await told(place, "backfill", name)
    assert (found.verdict, found.reason_code) == (Verdict.FAILED, "PARTITIONS_NOT_DONE")
    assert "24 of 25 partition(s) are done (1 failed, 0 skipped)" in found.answer
    assert "2024-01-13 failed" in found.answer
    assert found.next_steps == [f"springline explain chunk {name} 1", f"springline backfill retry-failed {name}"]
    chunk = await told(place, "chunk", name, chunk=1)
    assert chunk.verdict is Verdict.FAILED
    assert "10 partition(s), from 2024-01-11 to 2024-01-20, 9 done" in chunk.answer
    assert "raw[2024-01-13] failed in attempt 1: no." in chunk.answer
    assert {"backfill_chunk_planned", "springline_backfill_chunk_ended", "task_finished"} <= {
        one.event for one in chunk.decisions
    }
    good = await told(place, "chunk", name, chunk=0)
    assert (good.verdict, good.next_steps) == (Verdict.DONE, [])
    partition = await told(place, "partition", "raw", partition="2024-01-13")
    assert (partition.verdict, partition.reason_code) == (Verdict.FAILED, "NEVER_MATERIALIZED")
    assert "It was never made." in partition.answer
    assert "ended FAILED" in partition.answer
    assert "with attempt 1: no." in partition.answer
    assert f"Chunk 1 of backfill {name} (FAILED) has it: it ended FAILED" in partition.answer
    assert any("not done: 2024-01-13" in one.what for one in partition.decisions)
    place.failing = set()
    child = await place.backfills.retry_failed(name, "again")
    await place.finish(child.backfill_id)
    assert (await told(place, "backfill", child.backfill_id)).verdict is Verdict.DONE
    made = await told(place, "partition", "raw", partition="2024-01-13")
    assert made.verdict is Verdict.DONE
    assert "It is made from what there is now" in made.answer


async def test_a_cancelled_backfill_names_who_and_what_was_never_planned(place: Place) -> None:
    name = (await place.create(**T10)).backfill_id
    await place.settled(name)
    await place.backfills.cancel(name, "ann")
    found = await told(place, "backfill", name)
    assert (found.verdict, found.reason_code) == (Verdict.CANCELLED, "BACKFILL_CANCELLED")
    assert "ann cancelled it" in found.answer
    assert found.waits_for == ["the end of 2 run(s), which are being cancelled"]
    await place.settled(name)
    over = await told(place, "backfill", name)
    assert over.next_steps == [f"springline backfill retry-failed {name}"]
    never = await told(place, "chunk", name, chunk=2)
    assert (never.verdict, "It was never planned" in never.answer) == (Verdict.CANCELLED, True)
    planned = await told(place, "chunk", name, chunk=0)
    assert (planned.verdict, planned.reason_code) == (Verdict.CANCELLED, "BACKFILL_CANCELLED")


async def test_a_partition_that_is_being_made_names_its_run_and_its_chunk(place: Place) -> None:
    name = (await place.create(**T10)).backfill_id
    before = await told(place, "partition", "raw", partition="2024-01-25")
    assert before.verdict is Verdict.WAITS
    assert f"Chunk 2 of backfill {name} (RUNNING) has it: it is not planned" in before.answer
    await place.settled(name)
    await place.launch()
    (task,) = [one for one in await place.rows("tasks") if one["task_key"] == "raw[2024-01-03]"]
    waits = await told(place, "partition", "raw", partition="2024-01-03")
    assert (waits.verdict, task["run_id"] in waits.answer) == (Verdict.WAITS, True)
    assert f"Chunk 0 of backfill {name} (RUNNING) has it: it is planned and has not ended" in waits.answer
    await place.append(started("raw[2024-01-03]", run=task["run_id"]))
    runs = await told(place, "partition", "raw", partition="2024-01-03")
    assert runs.verdict is Verdict.UNDER_WAY
    assert "raw[2024-01-03] is RUNNING, attempt 1" in runs.answer
    assert any(one.event == "task_started" for one in runs.decisions)


async def test_newest_first_counts_chunks_from_the_end(place: Place) -> None:
    name = (await place.create(**T10, order="newest_first")).backfill_id
    found = await told(place, "partition", "raw", partition="2024-01-01")
    assert f"Chunk 2 of backfill {name}" in found.answer
    await place.settled(name)
    planned = await told(place, "partition", "raw", partition="2024-01-25")
    assert f"Chunk 0 of backfill {name}" in planned.answer


async def test_a_stale_partition_says_because_of_what() -> None:
    raw, whole = asset("raw", partitions=DAILY, code_version="1"), asset("whole")
    place = await place_with(raw, asset("clean", "raw", partitions=DAILY, freshness_ms=60 * MINUTE), whole)
    place.code = "1"
    name = (await place.create("r1", select=["*clean"], start="2024-01-01", end="2024-01-02")).backfill_id
    await place.finish(name)
    assert (await told(place, "partition", "clean", partition="2024-01-01")).verdict is Verdict.DONE
    again = (await place.create("r2", select=["raw"], start="2024-01-01", end="2024-01-01")).backfill_id
    await place.finish(again)
    found = await told(place, "partition", "clean", partition="2024-01-01")
    assert (found.verdict, found.reason_code) == (Verdict.WAITS, "UPSTREAM_CHANGED")
    assert "raw was made again" in found.answer
    assert found.next_steps == ["springline run start clean --partition 2024-01-01"]
    never = await told(place, "partition", "whole")
    assert (never.verdict, never.reason_code, never.identity) == (Verdict.WAITS, "NEVER_MATERIALIZED", "whole")
    assert "No run of it is on record." in never.answer
    open_yet = await told(place, "partition", "raw", partition="2199-12-30")
    assert (open_yet.verdict, open_yet.reason_code) == (Verdict.NOT_DUE, "OPEN")
    await place.deploy({**raw, "code_version": "2"}, whole)
    changed = await told(place, "partition", "raw", partition="2024-01-01")
    assert (changed.verdict, changed.reason_code) == (Verdict.WAITS, "CODE_CHANGED")
    assert "by code version 1. It is stale: the deployed code version is 2." in changed.answer


async def test_a_backfill_of_another_system_is_left_to_it(place: Place) -> None:
    await place.append(backfill("theirs"))
    found = await told(place, "backfill", "theirs")
    assert (found.verdict, "another system's" in found.answer) == (Verdict.OFF, True)
    chunk = await told(place, "chunk", "theirs", chunk=0)
    assert (chunk.verdict, "another system's" in chunk.answer) == (Verdict.OFF, True)


async def test_a_backfill_that_is_repeated_already_names_the_repeat(place: Place) -> None:
    place.failing = {"raw[2024-01-02]"}
    name = (await place.create(start="2024-01-01", end="2024-01-03")).backfill_id
    await place.finish(name)
    assert (await told(place, "backfill", name)).next_steps[-1] == f"springline backfill retry-failed {name}"
    again = (await place.backfills.retry_failed(name, "x")).backfill_id
    found = await told(place, "backfill", name)
    assert f"Backfill {again} repeats what was not done, and is RUNNING." in found.answer
    assert found.next_steps[-1] == f"springline backfill show {again}"
    await place.finish(again)
    assert (await told(place, "backfill", name)).next_steps[-1] == f"springline backfill retry-failed {again}"


async def test_a_partition_that_only_an_earlier_definition_had_is_told_as_that(place: Place) -> None:
    place.failing = {"raw[2024-01-03]"}
    name = (await place.create(start="2024-01-01", end="2024-01-03", chunk_size=1)).backfill_id
    await place.finish(name)
    await place.deploy(asset("raw", partitions={"kind": "weekly", "start": "2024-01-01"}))
    made = await told(place, "partition", "raw", partition="2024-01-02")
    assert made.verdict is Verdict.OFF
    assert "As raw is deployed now, '2024-01-02' is no first day of a week" in made.answer
    assert "It was last made at" in made.answer
    assert made.decisions
    failed = await told(place, "partition", "raw", partition="2024-01-03")
    assert "It was never made. raw[2024-01-03] of run" in failed.answer
    assert not any("run start" in one for one in failed.next_steps)
    with pytest.raises(Refused, match="no partition '2024-01-04'"):
        await told(place, "partition", "raw", partition="2024-01-04")
    await place.deploy(asset("raw"))
    assert (
        "'2024-01-02' is no partition, for it has none"
        in (await told(place, "partition", "raw", partition="2024-01-02")).answer
    )


@pytest.mark.parametrize(
    ("subject", "identity", "about", "code", "field"),
    [
        ("backfill", "bf_none", {}, Code.NOT_FOUND, "backfill_id"),
        ("chunk", "bf_none", {"chunk": 0}, Code.NOT_FOUND, "backfill_id"),
        ("chunk", "theirs", {}, Code.INVALID_REQUEST, "chunk"),
        ("chunk", "theirs", {"chunk": 2}, Code.NOT_FOUND, "chunk"),
        ("partition", "rav", {"partition": "2024-01-01"}, Code.NOT_FOUND, "asset"),
        ("partition", "raw", {"partition": "yesterday"}, Code.NOT_FOUND, "partition"),
        ("partition", "raw", {}, Code.INVALID_REQUEST, "partition"),
        ("partition", "whole", {"partition": "2024-01-01"}, Code.NOT_FOUND, "partition"),
    ],
)
async def test_what_is_not_there_is_refused(
    place: Place, subject: str, identity: str, about: dict[str, Any], code: Code, field: str
) -> None:
    await place.append(backfill("theirs"))
    with pytest.raises(Refused) as raised:
        await told(place, subject, identity, **about)
    assert (raised.value.refusal.code, raised.value.refusal.field) == (code, field)
    assert raised.value.refusal.remedy
