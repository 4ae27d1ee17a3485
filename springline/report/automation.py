"""What a report says of schedules, sensors and backfills: what was decided, how late, and what waits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from springline.control.schedules.deciding import delay_of, jitter_of
from springline.definitions.durations import duration_text
from springline.definitions.instants import BadTiming
from springline.ledger.identifiers import is_manual_tick
from springline.projection.rows import BackfillRow, OwnChunkRow, OwnSensorRow, ScheduleRow, SensorRow
from springline.projection.schema import (
    BACKFILL_CHUNKS,
    BACKFILLS,
    FINISHED_RUN,
    RUNS,
    SCHEDULE_TICKS,
    SENSOR_EVALS,
    X_CHUNKS,
    X_MESSAGES,
)
from springline.published.lists import between, equals
from springline.published.snapshot import StateSnapshot
from springline.report.facts import (
    BUCKETS,
    GONE,
    BackfillLine,
    EvaluationMark,
    ScheduleLane,
    SensorLane,
    TickMark,
    TimeSpan,
)
from springline.report.runs import first_line, last_made
from springline.schedules.overdue import overdue_since_ms
from springline.schedules.reading import known_schedule
from springline.ulids import MAX_ULID_MS, ulid_time_ms

LATE_MS: Final = 60_000
"""A tick that is decided on later than this after its instant and its jitter is late."""
MOST_LANES: Final = 40
"""Schedules, sensors, backfills that are drawn; those with trouble first."""
MOST_POINTS: Final = 200
"""Points of one backfill's line."""


def read_schedules(snapshot: StateSnapshot, span: TimeSpan, now_ms: int) -> tuple[list[ScheduleLane], int]:
    """Return schedules with their ticks in the time of a report, those with trouble first; how many are left out."""
    lanes: dict[str, ScheduleLane] = {}
    delays: dict[str, int | None] = {}
    for row in snapshot["schedule_definitions"]:
        lane = _lane(snapshot, ScheduleRow(*row), now_ms, delays)  # type: ignore[arg-type]
        if lane is not None:
            lanes[lane.schedule_id] = lane
    names = ("tick_id", "schedule_id", "scheduled_for", "status", "run_id", "row_version")
    marks: dict[str, list[TickMark]] = {}
    within = between(SCHEDULE_TICKS, "scheduled_for", span.since_ms, span.until_ms)
    for tick, schedule_id, scheduled, status, run_id, version in snapshot[SCHEDULE_TICKS.name].values(names, within):
        lane = lanes.setdefault(schedule_id, ScheduleLane(schedule_id, GONE, False))
        kind, said = _status(status)
        decided = ulid_time_ms(version)
        delay_s = 0 if is_manual_tick(schedule_id, tick) else delays.get(schedule_id, 0)
        late = None if decided is None or delay_s is None else max(0, decided - scheduled - delay_s * 1_000)
        lane.counts[kind] += 1
        if kind == "failed":
            lane.last_failure = said
        if kind == "triggered" and late is not None:
            lane.late += late > LATE_MS
            lane.worst_late_ms = max(lane.worst_late_ms, late)
        marks.setdefault(schedule_id, []).append(TickMark(scheduled, kind, late, said, run_id))
    for schedule_id, found in marks.items():
        found.sort(key=lambda one: one.scheduled_ms)
        lanes[schedule_id].marks = _few_ticks(found, span)
    ranked = sorted(lanes.values(), key=_rank_of_schedule)
    return ranked[:MOST_LANES], len(ranked) - len(ranked[:MOST_LANES])


def read_sensors(snapshot: StateSnapshot, span: TimeSpan) -> tuple[list[SensorLane], int]:
    """Return the sensors with their evaluations in the time of a report, failing ones first; how many are left out."""
    lanes: dict[str, SensorLane] = {}
    for row in snapshot["sensor_state"]:
        one = SensorRow(*row)  # type: ignore[arg-type]
        lanes[one.sensor_id] = SensorLane(one.sensor_id, one.status, False, one.last_evaluation_at, one.cursor)
    for row in snapshot["x_sensors"]:
        own = OwnSensorRow(*row)  # type: ignore[arg-type]
        lane = lanes.setdefault(own.sensor_id, SensorLane(own.sensor_id, "ACTIVE", False, None, None))
        lane.paused = own.paused
    for sensor_id, received in snapshot[X_MESSAGES.name].values(("sensor_id", "received_at")):
        lane = lanes.setdefault(sensor_id, SensorLane(sensor_id, "ACTIVE", False, None, None))
        lane.waiting += 1
        lane.oldest_waiting_ms = min(received, lane.oldest_waiting_ms or received)
    names = ("sensor_id", "evaluated_at", "status", "run_requests")
    marks: dict[str, list[EvaluationMark]] = {}
    within = between(SENSOR_EVALS, "evaluated_at", span.since_ms, span.until_ms)
    for sensor_id, at, status, requests in snapshot[SENSOR_EVALS.name].values(names, within):
        kind, said = _status(status)
        count = 0 if requests is None else len(orjson.loads(requests))
        marks.setdefault(sensor_id, []).append(EvaluationMark(at, kind, said, count))
    for sensor_id, found in marks.items():
        lane = lanes.setdefault(sensor_id, SensorLane(sensor_id, "ACTIVE", False, None, None))
        found.sort(key=lambda one: one.at_ms)
        _tell_evaluations(lane, found)
        lane.marks = _few_evaluations(found, span)
    ranked = sorted(lanes.values(), key=lambda one: (one.failing_since_ms is None, not one.waiting, one.sensor_id))
    return ranked[:MOST_LANES], len(ranked) - len(ranked[:MOST_LANES])


def read_backfills(snapshot: StateSnapshot, span: TimeSpan) -> tuple[list[BackfillLine], int]:
    """Return the backfills that were under way in the time of a report; how many are left out."""
    lines: list[BackfillLine] = []
    ended_badly: list[tuple[BackfillLine, list[OwnChunkRow]]] = []
    for row in snapshot[BACKFILLS.name]:
        one = BackfillRow(*row)  # type: ignore[arg-type]
        if one.created_at >= span.until_ms:
            continue
        line, chunks = _line(snapshot, one)
        over = one.state in ("SUCCEEDED", "FAILED", "CANCELLED")
        moved = ulid_time_ms(one.row_version) or one.created_at
        if not over or max(moved, line.last_ms or 0) >= span.since_ms:
            lines.append(line)
            if line.failed or line.skipped:
                ended_badly.append((line, chunks))
    _tell_made_since(snapshot, ended_badly)
    lines.sort(key=lambda one: (one.state not in ("RUNNING", "PAUSED", "PENDING"), -one.created_ms, one.backfill_id))
    return lines[:MOST_LANES], len(lines) - len(lines[:MOST_LANES])


def _lane(snapshot: StateSnapshot, row: ScheduleRow, now_ms: int, delays: dict[str, int | None]) -> ScheduleLane | None:
    """Return a schedule's lane, None if it has left its file; note by how much it decides later by its definition."""
    known = known_schedule(snapshot, row.schedule_id)
    if known is None:
        return ScheduleLane(row.schedule_id, f"{row.cron_expression} ({row.timezone}), another system's", row.enabled)
    if known.view.deleted:
        return None
    delays[row.schedule_id] = delay_of(known.view)
    every = known.view.interval_s
    due = f"{row.cron_expression} ({row.timezone})" if every is None else f"every {duration_text(every * 1_000)}"
    lane = ScheduleLane(row.schedule_id, due, row.enabled)
    if not row.enabled:
        return lane
    try:
        timing = known.view.timing()
        due_to = now_ms // 1_000 - jitter_of(known.view)
        upcoming = next(timing.after(max(known.view.evaluated_to, due_to)), None)
    except BadTiming as error:
        lane.last_failure = f"{error.field} {error.message}"
        return lane
    lane.next_ms = None if upcoming is None else upcoming * 1_000
    overdue = overdue_since_ms(snapshot, known.view, now_ms)
    if overdue is not None:
        lane.overdue_ms = now_ms - overdue
    return lane


def _rank_of_schedule(lane: ScheduleLane) -> tuple[bool, bool, bool, str]:
    return lane.overdue_ms <= LATE_MS, not lane.counts["failed"], not lane.late, lane.schedule_id


def _status(text: Any) -> tuple[str, str | None]:
    """Return the status of a tick or an evaluation, and what it says."""
    found = orjson.loads(text) if isinstance(text, str) else text
    said = found.get("reason") or found.get("error") or found.get("message")
    return str(found.get("status")), first_line(said)


_OF_TICKS: Final = {"failed": 0, "skipped": 1, "triggered": 2}


def _few_ticks(marks: list[TickMark], span: TimeSpan) -> list[TickMark]:
    """Return at most one mark for each status and part of the time, if each tick cannot have one."""
    if len(marks) <= BUCKETS:
        return marks
    found: dict[tuple[int, str], TickMark] = {}
    for one in marks:
        key = (span.bucket(one.scheduled_ms), one.status)
        before = found.get(key)
        late = max(one.late_ms or 0, 0 if before is None else before.late_ms or 0)
        count = 1 if before is None else before.count + 1
        found[key] = TickMark(one.scheduled_ms, one.status, late, one.said, one.run_id, count)
    return sorted(found.values(), key=lambda one: (one.scheduled_ms, _OF_TICKS.get(one.status, 3)))


def _few_evaluations(marks: list[EvaluationMark], span: TimeSpan) -> list[EvaluationMark]:
    if len(marks) <= BUCKETS:
        return marks
    found: dict[tuple[int, str], EvaluationMark] = {}
    for one in marks:
        key = (span.bucket(one.at_ms), one.status)
        before = found.get(key)
        requests = one.requests + (0 if before is None else before.requests)
        count = 1 if before is None else before.count + 1
        found[key] = EvaluationMark(one.at_ms, one.status, one.said, requests, count)
    return sorted(found.values(), key=lambda one: one.at_ms)


def _tell_evaluations(lane: SensorLane, marks: Iterable[EvaluationMark]) -> None:
    for one in marks:
        lane.counts[one.status] += 1
        lane.requests += one.requests
        lane.last_status, lane.last_said = one.status, one.said
        if one.status != "error":
            lane.failing_since_ms = None
        elif lane.failing_since_ms is None:
            lane.failing_since_ms = one.at_ms


def _line(snapshot: StateSnapshot, row: BackfillRow) -> tuple[BackfillLine, list[OwnChunkRow]]:
    """Return a backfill's line, and its chunks."""
    selection = " ".join(orjson.loads(row.asset_selection))
    line = BackfillLine(
        row.backfill_id,
        row.state,
        selection,
        row.total_partitions,
        row.created_at,
        parent=row.parent_backfill_id,
    )
    own: Any = snapshot[X_CHUNKS.name].select(equals(X_CHUNKS, "backfill_id", [row.backfill_id]))
    chunks = [OwnChunkRow(*one) for one in own]
    ends: list[tuple[int, int]] = []
    runs = _ends_of_runs(snapshot, row.backfill_id)
    for chunk in chunks:
        line.chunks_planned += 1
        line.last_ms = max(line.last_ms or 0, chunk.planned_at)
        if chunk.outcome is not None and chunk.ended_at is not None:
            line.chunks_ended += 1
            failed = len(orjson.loads(chunk.failed)) if chunk.failed else 0
            skipped = len(orjson.loads(chunk.skipped)) if chunk.skipped else 0
            line.done += chunk.done or 0
            if chunk.keys_path is not None:
                # The keys are in an object of their own: what is not done came to nothing.
                failed = chunk.partitions - (chunk.done or 0)
            line.failed += failed
            line.skipped += skipped
            ends.append((chunk.ended_at, (chunk.done or 0) + failed + skipped))
        elif chunk.chunk_id in runs:
            # Its run has ended, and the end of the chunk is not recorded: by a build before there were such events.
            ended, succeeded, lost = runs[chunk.chunk_id]
            line.chunks_ended += 1
            line.done += succeeded
            line.failed += lost
            ends.append((ended, succeeded + lost))
    left = row.total_partitions
    line.points = [(row.created_at, left)]
    for at, count in sorted(ends):
        left = max(0, left - count)
        line.points.append((at, left))
        line.last_ms = max(line.last_ms or 0, at)
    if len(line.points) > MOST_POINTS:
        step = -(-len(line.points) // MOST_POINTS)
        line.points = [*line.points[:-1:step], line.points[-1]]
    return line, chunks


def _missed(line: BackfillLine, chunk: OwnChunkRow) -> tuple[str | None, ...]:
    """Return the lists of what a chunk should have made and did not: what a cancelled one skipped it should not."""
    return (chunk.failed, chunk.skipped) if line.state == "FAILED" else (chunk.failed,)


def _tell_made_since(snapshot: StateSnapshot, found: Iterable[tuple[BackfillLine, Iterable[OwnChunkRow]]]) -> None:
    """Count what is not done of each backfill and was made since, of all its assets, by whichever run."""
    bad = [
        (line, chunk, [key for keys in _missed(line, chunk) if keys for key in orjson.loads(keys)])
        for line, chunks in found
        for chunk in chunks
        if chunk.ended_at is not None and (chunk.done or 0) < chunk.partitions
    ]
    if not bad:
        return
    assets = {asset for line, *_ in bad for asset in line.selection.split()}
    made = last_made(snapshot, assets, min(chunk.planned_at for _, chunk, _ in bad))
    for line, chunk, keys in bad:
        good = sum(
            all(made.get((asset, key), 0) > chunk.planned_at for asset in line.selection.split()) for key in keys
        )
        line.made_since += good
        if good < len(keys) or chunk.keys_path is not None:
            line.not_done_since_ms = min(chunk.ended_at or 0, line.not_done_since_ms or MAX_ULID_MS)


def _ends_of_runs(snapshot: StateSnapshot, backfill_id: str) -> dict[str, tuple[int, int, int]]:
    """Return of each chunk whose run has ended: when, and how many of its tasks succeeded, and how many did not."""
    found: dict[str, tuple[int, int, int]] = {}
    names = ("chunk_id", "run_id")
    for chunk_id, run_id in snapshot[BACKFILL_CHUNKS.name].values(
        names, equals(BACKFILL_CHUNKS, "backfill_id", [backfill_id])
    ):
        run: Any = None if run_id is None else snapshot[RUNS.name].get(run_id)
        if run is None:
            continue
        told = {name: run[RUNS.index(name)] for name in ("state", "completed_at", "tasks_total", "tasks_succeeded")}
        if told["state"] in FINISHED_RUN and told["completed_at"] is not None:
            lost = told["tasks_total"] - told["tasks_succeeded"]
            found[chunk_id] = (told["completed_at"], told["tasks_succeeded"], lost)
    return found
