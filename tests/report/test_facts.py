"""Every number of a report against the rows that it is made of, counted here in the plainest way."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from statistics import median
from typing import Any

import orjson
import pytest

from springline.control.schedules.deciding import jitter_of
from springline.projection.schema import TABLES as SCHEMAS
from springline.published.snapshot import StateSnapshot
from springline.report.facts import BUCKETS, Report, RunSpan, Severity, TimeSpan
from springline.report.gathering import TABLES, gather
from springline.report.origins import MOST_ORIGINS, OTHERS, lanes_of, origin_of
from springline.report.wrong import slug, span_text
from springline.schedules.reading import known_schedule
from springline.staleness.reading import AssetStands
from springline.ulids import ulid_time_ms
from tests.support.report_workspace import (
    DAY,
    DEFINITIONS,
    HOUR,
    MINUTE,
    NOW_MS,
    QUIET_DEFINITIONS,
    Told,
    busy_day,
    many_runs,
    quiet_day,
    report_of,
)

SPAN = TimeSpan(NOW_MS - DAY, NOW_MS)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def busy() -> tuple[Report, dict[str, list[Row]]]:
    head, snapshot = busy_day().snapshot()
    return gather(Told().scope, head, snapshot, DEFINITIONS, SPAN, NOW_MS), rows_of(snapshot)


def rows_of(snapshot: StateSnapshot) -> dict[str, list[Row]]:
    return {name: [named(name, row) for row in snapshot[name]] for name in TABLES}


def named(table: str, row: Any) -> Row:
    return {column.name: value for column, value in zip(SCHEMAS[table].columns, row, strict=True)}


Busy = tuple[Report, dict[str, list[Row]]]


def within(rows: list[Row], column: str, span: TimeSpan = SPAN) -> list[Row]:
    return [one for one in rows if one[column] is not None and span.since_ms <= one[column] < span.until_ms]


def test_runs(busy: Busy) -> None:
    report, rows = busy
    there = [
        one
        for one in rows["runs"]
        if one["triggered_at"] < NOW_MS and (one["completed_at"] is None or one["completed_at"] >= SPAN.since_ms)
    ]
    runs = report.runs
    assert runs.total == len(there) > 100
    assert runs.states == Counter(one["state"] for one in there)
    assert {"SUCCEEDED", "FAILED", "RUNNING", "CANCELLED"} == set(runs.states)
    assert sum(runs.buckets, Counter()) == Counter(one["state"] for one in within(there, "triggered_at"))
    ended = within(rows["x_attempts"], "ended_at")
    assert runs.attempts == Counter(one["outcome"] for one in ended)
    assert runs.retries == sum(one["attempt"] > 1 for one in ended)
    assert sum(sum(lane.states.values()) for lane in runs.lanes) == len(there)
    assert sum(found.count for lane in runs.lanes for row in lane.rows for found in row) == len(there)
    assert runs.left_out + len(runs.bars) == len(there)
    told = {one.run_id for one in runs.bars}
    assert {one["run_id"] for one in there if one["state"] != "SUCCEEDED"} <= told


def test_attempts_of_runs(busy: Busy) -> None:
    report, rows = busy
    for run in report.runs.bars:
        ended = [one for one in rows["x_attempts"] if one["run_id"] == run.run_id]
        going_on = [
            one
            for one in rows["tasks"]
            if one["run_id"] == run.run_id and one["state"] in ("RUNNING", "DISPATCHED", "RETRY_WAIT")
        ]
        assert len(run.attempts) + run.attempts_left_out == len(ended) + len(going_on)
        by_name = {(one["task_key"], one["attempt"]): one for one in ended}
        for bar in run.attempts:
            row = by_name.get((bar.task_key, bar.attempt))
            if row is not None:
                assert (bar.state, bar.end_ms) == (row["outcome"], row["true_ended_at"])
    states = Counter(bar.state for run in report.runs.bars for bar in run.attempts)
    assert {"RUNNING", "DISPATCHED", "RETRY_WAIT", "FAILED", "CANCELLED", "SUCCEEDED"} == set(states)


def test_failures_that_were_made_good_are_told_apart(busy: Busy) -> None:
    report, rows = busy
    failed = [one for one in within(rows["tasks"], "completed_at") if one["state"] == "FAILED"]
    made = [one for one in rows["tasks"] if one["state"] == "SUCCEEDED"]

    def good(task: Row) -> bool:
        same = [
            one
            for one in made
            if (one["asset_key"], one["partition_key"]) == (task["asset_key"], task["partition_key"])
        ]
        return any(one["completed_at"] > task["completed_at"] for one in same)

    left = [one for one in failed if not good(one)]
    assert sum(one.count for one in report.failures) == len(left) == 5
    assert report.made_good == len(failed) - len(left)
    (orders,) = [one for one in report.failures if one.asset == "orders"]
    ends = [one["completed_at"] for one in left if one["asset_key"] == "orders"]
    assert (orders.count, orders.first_ms, orders.last_ms) == (3, min(ends), max(ends))


def test_a_failure_that_was_made_since_is_not_wrong_now() -> None:
    told = Told()
    task = ("raw[d]", "raw", "d")
    run = told.begun(NOW_MS - 3 * HOUR, "api:1", [task])
    told.ended(NOW_MS - 3 * HOUR, NOW_MS - 2 * HOUR, run, task, error="boom")
    assert [one.title for one in report_of(told).wrong] == ["raw failed"]
    again = told.begun(NOW_MS - HOUR, "api:2", [task])
    told.ended(NOW_MS - HOUR, NOW_MS - HOUR + 1_000, again, task)
    report = report_of(told)
    assert (report.failures, report.made_good, report.wrong) == ([], 1, [])


def test_ticks(busy: Busy) -> None:
    report, rows = busy
    ticks = within(rows["schedule_ticks"], "scheduled_for")
    lanes = {one.schedule_id: one for one in report.schedules}
    assert set(lanes) == {one["schedule_id"] for one in rows["schedule_definitions"]}
    for schedule_id, lane in lanes.items():
        own = [one for one in ticks if one["schedule_id"] == schedule_id]
        statuses = Counter(orjson.loads(one["status"])["status"] for one in own)
        assert lane.counts == statuses
        assert sum(one.count for one in lane.marks) == len(own)
        late = [
            (ulid_time_ms(one["row_version"]) or 0) - one["scheduled_for"]
            for one in own
            if orjson.loads(one["status"])["status"] == "triggered"
        ]
        assert lane.worst_late_ms == max(late, default=0)
        assert lane.late == sum(one > 60_000 for one in late)
    assert lanes["hourly-weather"].late == 2
    assert lanes["legacy-export"].overdue_ms == 6 * HOUR + 30 * MINUTE
    assert (lanes["experiments"].overdue_ms, lanes["experiments"].next_ms) == (0, None)
    assert lanes["quarter-orders"].counts["skipped"] == 5


def test_sensors(busy: Busy) -> None:
    report, rows = busy
    evaluations = within(rows["sensor_evals"], "evaluated_at")
    for lane in report.sensors:
        own = [one for one in evaluations if one["sensor_id"] == lane.sensor_id]
        assert lane.counts == Counter(orjson.loads(one["status"])["status"] for one in own)
        assert lane.requests == sum(len(orjson.loads(one["run_requests"] or "[]")) for one in own)
        assert sum(one.count for one in lane.marks) == len(own)
        waiting = [one["received_at"] for one in rows["x_messages"] if one["sensor_id"] == lane.sensor_id]
        assert (lane.waiting, lane.oldest_waiting_ms) == (len(waiting), min(waiting, default=None))
        (state,) = [one for one in rows["sensor_state"] if one["sensor_id"] == lane.sensor_id]
        assert lane.last_ms == state["last_evaluation_at"]
    lanes = {one.sensor_id: one for one in report.sensors}
    errors = [one for one in evaluations if orjson.loads(one["status"])["status"] == "error"]
    assert lanes["partner-drops"].failing_since_ms == min(one["evaluated_at"] for one in errors)
    assert lanes["table-orders"].paused


def test_backfills(busy: Busy) -> None:
    report, rows = busy
    assert {one.backfill_id for one in report.backfills} == {one["backfill_id"] for one in rows["backfills"]}
    for line in report.backfills:
        chunks = [one for one in rows["x_chunks"] if one["backfill_id"] == line.backfill_id]
        ended = [one for one in chunks if one["outcome"] is not None]
        assert (line.chunks_planned, line.chunks_ended) == (len(chunks), len(ended))
        assert line.done == sum(one["done"] for one in ended)
        assert line.failed == sum(len(orjson.loads(one["failed"] or "[]")) for one in ended)
        assert line.points[0] == (line.created_ms, line.total)
        assert line.points[-1][1] == line.left == line.total - line.done - line.failed - line.skipped
        assert [left for _, left in line.points] == sorted((left for _, left in line.points), reverse=True)


def test_a_backfill_whose_chunks_ends_are_not_recorded_goes_by_its_runs() -> None:
    told = Told()
    told.backfill(NOW_MS - HOUR, "bf", 4, 2, ["raw"])
    told.chunk(NOW_MS - HOUR, "bf", 0, 2)
    source = {"type": "backfill", "backfill_id": "bf", "chunk_id": "bf:0"}
    told.asked(NOW_MS - HOUR + 1, "backfill:bf:chunk:0", ["raw"], source)
    tasks = [("raw[a]", "raw", "a"), ("raw[b]", "raw", "b")]
    run = told.begun(NOW_MS - HOUR + 2, "backfill:bf:chunk:0", tasks)
    told.ended(NOW_MS - 50 * MINUTE, NOW_MS - 49 * MINUTE, run, tasks[0])
    told.ended(NOW_MS - 50 * MINUTE, NOW_MS - 48 * MINUTE, run, tasks[1], error="no")
    (line,) = report_of(told).backfills
    assert (line.done, line.failed, line.left, line.chunks_ended) == (1, 1, 2, 1)
    assert line.points[-1] == (NOW_MS - 48 * MINUTE + 250, 2)


def test_partitions(busy: Busy) -> None:
    report, _ = busy
    _, snapshot = busy_day().snapshot()
    stands = AssetStands(snapshot, DEFINITIONS, NOW_MS)
    assert {one.asset for one in report.assets} == set(stands.assets)
    for strip in report.assets:
        total = stands.count(strip.asset)
        found = list(stands.stands(strip.asset, max(0, total - 90), total))
        assert [(one.key, one.verdict.state.value) for one in found] == [(one.key, one.state) for one in strip.cells]
        assert strip.stale == sum(one.verdict.stale for one in found)
        assert strip.partitions == total


def test_commits(busy: Busy) -> None:
    report, rows = busy
    wrote = [
        (table["table"], table["version"], table["rows"])
        for one in within(rows["x_attempts"], "ended_at")
        for table in orjson.loads(one["tables"] or "[]")
    ]
    assert {one.table for one in report.tables} == {table for table, _, _ in wrote}
    for lane in report.tables:
        own = [one for one in wrote if one[0] == lane.table]
        assert (lane.commits, lane.rows) == (len(own), sum(rows for _, _, rows in own))
        assert lane.last_version == max(version for _, version, _ in own)
        assert sum(one.count for one in lane.marks) == len(own)


def test_a_write_that_two_attempts_tell_of_counts_once() -> None:
    told = Told()
    task = ("raw", "raw", None)
    run = told.begun(NOW_MS - HOUR, "api:1", [task])
    for attempt in (1, 2):
        begin = NOW_MS - HOUR + attempt * MINUTE
        error = "lost" if attempt == 1 else None
        told.ended(begin, begin + 1_000, run, task, attempt, error=error, again=True, writes=("t", 7, 100))
    (lane,) = report_of(told).tables
    assert (lane.commits, lane.rows) == (1, 100)


def test_ledger_lag(busy: Busy) -> None:
    report, rows = busy
    lags = [
        one["ended_at"] - one["true_ended_at"]
        for one in within(rows["x_attempts"], "ended_at")
        if one["true_ended_at"] is not None
    ]
    ledger = report.ledger
    assert (ledger.median_ms, ledger.worst_ms) == (int(median(lags)), max(lags))
    assert sum(one.count for one in ledger.parts) == len(lags)
    assert max(one.worst_ms for one in ledger.parts) == max(lags) == 9_000
    assert ledger.events == len(busy_day().events)
    assert not ledger.behind


def test_what_is_wrong_now(busy: Busy) -> None:
    report, rows = busy
    titles = [one.title for one in report.wrong]
    assert titles == [
        "1 attempt is silent: delays[2025-04-28]",
        "No worker has begun delays[2025-05-01]",
        "orders failed 3 times",
        "raw_weather failed",
        "delays failed",
        "1 schedule is late: legacy-export",
        "Schedule legacy-export: 2 instants could not be decided on",
        "Sensor partner-drops fails: 5 evaluations",
        "Sensor webhooks: 6 messages wait",
        "Backfill bf_delays_2024: 2 partitions failed",
        "Backfill bf_weather_april stands still",
        "1 request for runs has no run yet",
        "Schedule hourly-weather: 2 ticks came late",
        "5 assets have stale partitions",
    ]
    assert [one.severity for one in report.wrong] == [Severity.BAD] * 11 + [Severity.WARN] * 3
    (silent,) = [one for one in report.silent if one[1].state == "RUNNING"]
    (task,) = [one for one in rows["tasks"] if one["task_key"] == silent[1].task_key and one["run_id"] == silent[0]]
    assert silent[2] == task["started_at"]
    assert NOW_MS - silent[2] > task["heartbeat_timeout_sec"] * 1_000
    runs = {one["run_id"] for one in rows["runs"]}
    lost = [one["run_key"] for one in rows["run_key_index"] if one["run_id"] not in runs]
    assert [key for key, _ in report.not_begun] == lost == ["cli:waits"]


def test_a_held_workspace_says_so_first_and_blames_no_schedule() -> None:
    told = busy_day()
    told.at(
        NOW_MS - 7 * HOUR,
        {"type": "springline_hold_changed", "change_id": "h", "held": True, "changed_by": "ada", "reason": "upgrade"},
    )
    first, *others = report_of(told, DEFINITIONS).wrong
    assert (first.title, first.since_ms) == ("The workspace is held", NOW_MS - 7 * HOUR)
    assert "Held by ada: upgrade" in (first.detail or "")
    assert not any("late: legacy" in one.title or "no run yet" in one.title for one in others)
    told.at(NOW_MS - MINUTE, {"type": "springline_hold_changed", "change_id": "h2", "held": False, "changed_by": "ada"})
    assert report_of(told, DEFINITIONS).held is None


def test_a_run_that_could_not_be_planned() -> None:
    told = Told()
    run = told.begun(NOW_MS - HOUR, "api:1", [])
    told.at(
        NOW_MS - HOUR,
        {
            "type": "run_cancel_requested",
            "run_id": run,
            "requested_by": "sequencer",
            "reason": "no such asset",
            "springline": {"reason_code": "CANNOT_PLAN"},
        },
    )
    report = report_of(told)
    assert report.not_planned == [(run, "CANNOT_PLAN", NOW_MS - HOUR)]
    assert report.wrong[0].title == f"1 run could not be planned: {run}"


def test_a_quiet_day_has_nothing_wrong() -> None:
    report = report_of(quiet_day(), QUIET_DEFINITIONS)
    assert report.wrong == []
    assert report.runs.total == 24


def test_a_range_of_its_own(busy: Busy) -> None:
    _, rows = busy
    span = TimeSpan(NOW_MS - 10 * HOUR, NOW_MS - 4 * HOUR)
    head, snapshot = busy_day().snapshot()
    report = gather(Told().scope, head, snapshot, DEFINITIONS, span, NOW_MS)
    there = [
        one
        for one in rows["runs"]
        if one["triggered_at"] < span.until_ms and (one["completed_at"] is None or one["completed_at"] >= span.since_ms)
    ]
    assert report.runs.total == len(there)
    ticks = within(rows["schedule_ticks"], "scheduled_for", span)
    assert sum(sum(one.counts.values()) for one in report.schedules) == len(ticks)


def test_many_runs_are_counted_and_few_are_drawn() -> None:
    report = report_of(many_runs(600))
    assert report.runs.total == 600
    assert len(report.runs.bars) <= 40
    (lane,) = report.runs.lanes
    assert sum(one.count for row in lane.rows for one in row) == 600
    assert sum(len(row) for row in lane.rows) <= 2 * BUCKETS


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "another system"),
        ("sched:nightly:1736935200", "schedule nightly"),
        ("sched:nightly:manual:1736935200", "schedule nightly"),
        ("backfill:bf-1:chunk:0", "backfill bf-1"),
        ("rerun:abc:def", "reruns"),
        ("cli:0194", "the command line"),
        ("client:0194", "programs"),
        ("sensor:x:1", "sensor x"),
        ("sensor:x:a:b", "sensor x"),
        ("mine:x:1", "run keys mine:..."),
        ("mine", "other run keys"),
    ],
)
def test_who_asked_for_a_run(key: str | None, said: str) -> None:
    assert origin_of(key) == said


def test_many_origins_share_a_lane_and_no_bar_hides_another() -> None:
    origins = {f"schedule s{number}": [RunSpan(NOW_MS - HOUR, NOW_MS, "SUCCEEDED", "r")] for number in range(40)}
    lanes = lanes_of(origins, SPAN, NOW_MS)
    assert len(lanes) == MOST_ORIGINS + 1
    assert (lanes[-1].origin, lanes[-1].states["SUCCEEDED"]) == (OTHERS, 40 - MOST_ORIGINS)
    chance = random.Random(3)
    spans = [
        RunSpan(begin, begin + chance.randrange(HOUR), "SUCCEEDED", str(begin))
        for begin in sorted(chance.randrange(SPAN.since_ms, NOW_MS) for _ in range(60))
    ]
    (lane,) = lanes_of({"x": spans}, SPAN, NOW_MS)
    assert sorted(one.run_id for row in lane.rows for one in row) == sorted(one.run_id for one in spans)
    for row in lane.rows[:-1]:
        assert all(one.last_ms is not None and one.last_ms <= after.first_ms for one, after in itertools.pairwise(row))


def test_names_become_anchors_that_do_not_meet() -> None:
    names = ["a.b", "a-b", "a b", "a-2e-b", 'a"b', "ä", "a--b", ""]
    assert len({slug(name) for name in names}) == len(names)
    assert slug("raw_flights") == "raw-5f-flights"


@pytest.mark.parametrize(
    ("ms", "said"),
    [(0, "0 ms"), (250, "250 ms"), (61_000, "1 min 1 s"), (3 * HOUR, "3 h"), (DAY + HOUR, "1 d 1 h"), (-5, "0 ms")],
)
def test_lengths_of_time(ms: int, said: str) -> None:
    assert span_text(ms) == said


def test_a_wait_for_another_attempt_begins_where_the_last_one_ended(busy: Busy) -> None:
    report, _ = busy
    (run,) = [one for one in report.runs.bars if any(bar.state == "RETRY_WAIT" for bar in one.attempts)]
    (wait,) = [bar for bar in run.attempts if bar.state == "RETRY_WAIT"]
    (failed,) = [bar for bar in run.attempts if bar.task_key == wait.task_key and bar.state == "FAILED"]
    assert (wait.start_ms, wait.attempt) == (failed.end_ms, failed.attempt + 1)


def test_an_instant_in_line_behind_a_run_is_not_late() -> None:
    told = Told()
    told.schedule("q", "0 * * * *", since_ms=NOW_MS - 5 * HOUR, overlap="queue_one")
    due = NOW_MS - NOW_MS % HOUR - 2 * HOUR
    waited = told.tick("q", due - 2 * HOUR, {"status": "triggered"}, asks=True, late_ms=HOUR)
    told.ended(due - HOUR, due, told.begun(due - HOUR, waited, [("a", "a", None)]), ("a", "a", None))
    key = told.tick("q", due, {"status": "triggered"}, asks=True)
    told.begun(due + 1_000, key, [("a", "a", None)])
    report = report_of(told)
    (lane,) = report.schedules
    assert (lane.overdue_ms, lane.late, lane.worst_late_ms) == (0, 0, 0)
    assert not [one.title for one in report.wrong if "late" in one.title]


def test_jitter_is_no_lateness() -> None:
    told = Told()
    told.schedule("nightly", "0 * * * *", since_ms=NOW_MS - 5 * HOUR, jitter_seconds=1_800)
    _, snapshot = told.snapshot()
    known = known_schedule(snapshot, "nightly")
    assert known is not None
    jitter_ms = jitter_of(known.view) * 1_000
    assert jitter_ms > 2 * MINUTE
    due = NOW_MS - NOW_MS % HOUR - HOUR
    told.tick("nightly", due, {"status": "triggered"}, asks=True, late_ms=jitter_ms + 700)
    told.tick("nightly", due - HOUR, {"status": "triggered"}, asks=True, late_ms=jitter_ms + 2 * MINUTE)
    (lane,) = report_of(told).schedules
    assert (lane.late, lane.worst_late_ms) == (1, 2 * MINUTE)


def test_what_a_backfill_did_not_make_is_not_wrong_once_it_was_made() -> None:
    told = Told()
    told.backfill(NOW_MS - 3 * HOUR, "bf", 3, 3, ["mart", "raw"])
    end = {"at": NOW_MS - 2 * HOUR, "outcome": "failed", "done": 1, "failed": ["p00000", "p00001"]}
    told.chunk(NOW_MS - 3 * HOUR, "bf", 0, 3, end)
    told.at(
        NOW_MS - 2 * HOUR + 1,
        {
            "type": "backfill_state_changed",
            **{"backfill_id": "bf", "from_state": "RUNNING", "to_state": "FAILED", "state_version": 2},
        },
    )

    def wrong() -> list[tuple[str, int | None, str | None]]:
        return [(one.title, one.since_ms, one.command) for one in report_of(told).wrong]

    retry = "springline backfill retry-failed bf"
    assert wrong() == [("Backfill bf: 2 partitions failed", NOW_MS - 2 * HOUR, retry)]

    def made(asset: str, key: str) -> None:
        task = (f"{asset}[{key}]", asset, key)
        run = told.begun(NOW_MS - HOUR, f"api:{asset}{key}", [task])
        told.ended(NOW_MS - HOUR, NOW_MS - HOUR + 1_000, run, task)

    made("raw", "p00000")
    assert wrong() == [("Backfill bf: 2 partitions failed", NOW_MS - 2 * HOUR, retry)]
    made("mart", "p00000")
    assert wrong() == [("Backfill bf: 1 partition failed", NOW_MS - 2 * HOUR, retry)]
    made("raw", "p00001")
    made("mart", "p00001")
    assert wrong() == []


def test_what_a_cancelled_backfill_skipped_is_not_wrong() -> None:
    told = Told()
    told.backfill(NOW_MS - 3 * HOUR, "bf", 3, 3, ["raw"])
    end = {"at": NOW_MS - 2 * HOUR, "outcome": "failed", "done": 1, "failed": ["p00000"], "skipped": ["p00001"]}
    told.chunk(NOW_MS - 3 * HOUR, "bf", 0, 3, end)
    moved = {"backfill_id": "bf", "from_state": "RUNNING", "to_state": "CANCELLED", "state_version": 2}
    told.at(NOW_MS - 2 * HOUR - 1, {"type": "backfill_state_changed", **moved})
    for key, title in (("p00001", ["Backfill bf: 1 partition failed"]), ("p00000", [])):
        run = told.begun(NOW_MS - HOUR, f"api:{key}", [(f"raw[{key}]", "raw", key)])
        told.ended(NOW_MS - HOUR, NOW_MS - HOUR + 1_000, run, (f"raw[{key}]", "raw", key))
        assert [one.title for one in report_of(told).wrong] == title


def test_a_backfill_and_what_repeats_it_belong_together() -> None:
    told = Told()

    def failed(name: str, hours_ago: int, parent: str | None = None) -> None:
        told.backfill(NOW_MS - hours_ago * HOUR, name, 1, 1, ["raw"], parent)
        end = {"at": NOW_MS - hours_ago * HOUR + MINUTE, "outcome": "failed", "done": 0, "failed": ["p00000"]}
        told.chunk(NOW_MS - hours_ago * HOUR, name, 0, 1, end)
        moved(name, NOW_MS - hours_ago * HOUR + 2 * MINUTE, "FAILED")

    def moved(name: str, at_ms: int, state: str) -> None:
        change = {"backfill_id": name, "from_state": "RUNNING", "to_state": state, "state_version": 2}
        told.at(at_ms, {"type": "backfill_state_changed", **change})

    def wrong() -> dict[str, tuple[str | None, str | None]]:
        return {one.title.split()[1]: (one.detail, one.command) for one in report_of(told).wrong}

    failed("bf", 5)
    failed("again", 4, "bf")
    first, second = wrong()["bf:"], wrong()["again:"]
    assert (first[0] or "").endswith("again repeats it, and is FAILED.")
    assert (second[0] or "").endswith("It repeats bf.")
    assert first[1] == second[1] == "springline backfill retry-failed again"
    told.backfill(NOW_MS - 5 * MINUTE, "third", 1, 1, ["raw"], "again")
    assert {command for _, command in wrong().values()} == {"springline backfill show third"}
    moved("third", NOW_MS - MINUTE, "CANCELLED")
    assert wrong()["bf:"][1] == "springline backfill retry-failed again"


def test_everything_that_is_wrong_has_a_command(busy: Busy) -> None:
    report, _ = busy
    assert [one.title for one in report.wrong if one.command is None] == []
