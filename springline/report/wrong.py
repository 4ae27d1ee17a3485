"""What is wrong now in a workspace, from the facts of a report: each thing once, the worst first."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

from springline.control.backfills.repeating import Repeat, last_repeat
from springline.report.automation import LATE_MS
from springline.report.facts import BackfillLine, Report, SensorLane, Severity, Wrong

MOST_GROUPS: Final = 6
"""Ways to fail that are told one by one."""
STALLED_MS: Final = 15 * 60_000
"""A backfill in which nothing was planned and nothing has ended for so long stands still."""
WAITING_MS: Final = 5 * 60_000
"""A message that its sensor has not been evaluated for after so long waits too long."""

BAD, WARN = Severity.BAD, Severity.WARN


def what_is_wrong(report: Report) -> list[Wrong]:
    """Return what is wrong now: what fails or stands still first, then what somebody should look at."""
    found = [
        *_of_the_workspace(report),
        *_of_attempts(report),
        *_of_runs(report),
        *_of_schedules(report),
        *_of_sensors(report),
        *_of_backfills(report),
        *_of_assets(report),
    ]
    return sorted(found, key=lambda one: one.severity is not Severity.BAD)


def span_text(ms: int) -> str:
    """Return a length of time in its two greatest units, such as `2 h 5 min`."""
    seconds = max(0, ms) // 1_000
    if seconds == 0:
        return f"{max(0, ms)} ms"
    for unit, size, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"


def many(count: int, one: str, more: str | None = None) -> str:
    """Return a number of things in words."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def _of_the_workspace(report: Report) -> Iterator[Wrong]:
    if report.held is not None:
        since, by, why = report.held
        said = f"Nothing new is decided or dispatched. Held by {by}" + (f": {why}" if why else "")
        yield Wrong(BAD, "The workspace is held", said, since, "#runs", "springline hold release")
    if report.ledger.behind:
        yield Wrong(
            BAD,
            "The ledger has events that readers do not see yet",
            "The published state is behind what was accepted.",
            report.ledger.published_ms,
            "#ledger",
            "springline doctor",
        )


def _of_attempts(report: Report) -> Iterator[Wrong]:
    silent = [one for one in report.silent if one[1].state == "RUNNING"]
    waiting = [one for one in report.silent if one[1].state == "DISPATCHED"]
    if silent:
        run_id, bar, since = silent[0]
        title = f"{many(len(silent), 'attempt')} {_is(len(silent))} silent: {bar.task_key}{_more(len(silent))}"
        yield Wrong(
            BAD,
            title,
            f"No sign of life for {span_text(report.now_ms - since)}; the worker may be dead or stuck.",
            since,
            _anchor(report, run_id),
            f"springline run show {run_id}",
        )
    if waiting:
        run_id, bar, since = waiting[0]
        title = f"No worker has begun {bar.task_key}{_more(len(waiting))}"
        said = f"It has been ready for {span_text(report.now_ms - since)}: all workers are busy, or none runs."
        yield Wrong(BAD, title, said, since, _anchor(report, run_id), "springline work FILE")


def _of_runs(report: Report) -> Iterator[Wrong]:
    for one in report.failures[:MOST_GROUPS]:
        yield Wrong(
            BAD,
            f"{one.asset} failed" + ("" if one.count == 1 else f" {one.count:,} times"),
            one.said,
            one.first_ms,
            _anchor(report, one.run_id),
            f"springline run rerun {one.run_id} --failed",
        )
    rest = report.failures[MOST_GROUPS:]
    if rest:
        title = f"{many(sum(one.count for one in rest), 'more task')} failed in {many(len(rest), 'other way')}"
        first = min(one.first_ms for one in rest)
        yield Wrong(BAD, title, None, first, "#failures", "springline run list --state FAILED")
    if report.not_planned:
        run_id, reason, at = report.not_planned[0]
        title = f"{many(len(report.not_planned), 'run')} could not be planned: {run_id}{_more(len(report.not_planned))}"
        yield Wrong(BAD, title, f"Reason code {reason}.", at, _anchor(report, run_id), f"springline run show {run_id}")
    if report.not_begun and report.held is None:
        key, at = report.not_begun[0]
        title = f"{many(len(report.not_begun), 'request')} for runs {_has(len(report.not_begun))} no run yet"
        said = f"The oldest is {key}: limits hold it back, or nothing launches."
        yield Wrong(WARN, title, said, at, "#runs", f"springline explain run {shlex.quote(key)}")


def _of_schedules(report: Report) -> Iterator[Wrong]:
    overdue = [one for one in report.schedules if one.overdue_ms > LATE_MS]
    if overdue and report.held is None:
        worst = max(overdue, key=lambda one: one.overdue_ms)
        yield Wrong(
            BAD,
            f"{many(len(overdue), 'schedule')} {_is(len(overdue))} late: {worst.schedule_id}{_more(len(overdue))}",
            f"An instant is due for {span_text(worst.overdue_ms)} and not decided on.",
            report.now_ms - worst.overdue_ms,
            f"#schedule-{slug(worst.schedule_id)}",
            f"springline schedule show {worst.schedule_id}",
        )
    for one in report.schedules:
        anchor = f"#schedule-{slug(one.schedule_id)}"
        command = f"springline schedule history {one.schedule_id}"
        if one.last_failure is not None:
            failed = max(1, one.counts["failed"])
            title = f"Schedule {one.schedule_id}: {many(failed, 'instant')} could not be decided on"
            yield Wrong(BAD, title, one.last_failure, None, anchor, command)
        if one.late:
            title = f"Schedule {one.schedule_id}: {many(one.late, 'tick')} came late"
            yield Wrong(WARN, title, f"The worst by {span_text(one.worst_late_ms)}.", None, anchor, command)


def _of_sensors(report: Report) -> Iterator[Wrong]:
    for one in report.sensors:
        yield from _of_sensor(one, report.now_ms)


def _of_sensor(one: SensorLane, now_ms: int) -> Iterator[Wrong]:
    anchor = f"#sensor-{slug(one.sensor_id)}"
    explain = f"springline explain sensor {one.sensor_id}"
    if one.failing_since_ms is not None:
        failures = one.counts["error"]
        title = f"Sensor {one.sensor_id} fails: {many(failures, 'evaluation')}"
        yield Wrong(BAD, title, one.last_said, one.failing_since_ms, anchor, explain)
    elif one.status == "ERROR":
        yield Wrong(BAD, f"Sensor {one.sensor_id} is in error", one.last_said, one.last_ms, anchor, explain)
    if one.waiting and one.oldest_waiting_ms is not None and now_ms - one.oldest_waiting_ms > WAITING_MS:
        title = f"Sensor {one.sensor_id}: {many(one.waiting, 'message')} {'waits' if one.waiting == 1 else 'wait'}"
        said = f"The oldest for {span_text(now_ms - one.oldest_waiting_ms)}" + (
            "; the sensor is paused." if one.paused else "."
        )
        command = f"springline sensor resume {one.sensor_id}" if one.paused else explain
        yield Wrong(WARN if one.paused else BAD, title, said, one.oldest_waiting_ms, anchor, command)


def _of_backfills(report: Report) -> Iterator[Wrong]:
    for one in report.backfills:
        anchor = f"#backfill-{slug(one.backfill_id)}"
        if one.state == "RUNNING" and stalled_ms(one, report.now_ms) > STALLED_MS:
            yield Wrong(
                BAD,
                f"Backfill {one.backfill_id} stands still",
                f"{one.left:,} of {one.total:,} partitions are left; nothing was planned and nothing has ended for "
                f"{span_text(stalled_ms(one, report.now_ms))}.",
                one.last_ms or one.created_ms,
                anchor,
                f"springline explain backfill {one.backfill_id}",
            )
        if one.not_done:
            title = f"Backfill {one.backfill_id}: {many(one.not_done, 'partition')} " + (
                "failed" if one.not_done <= one.failed else "not done"
            )
            since = f"; {one.made_since:,} of those that were not done were made since" if one.made_since else ""
            repeats = "" if one.parent is None else f" It repeats {one.parent}."
            last = _last_repeat(report, one)
            again = "" if last is one else f" {last.backfill_id} repeats it, and is {last.state}."
            said = f"Of {one.selection}: {one.done:,} of {one.total:,} partitions are done{since}.{repeats}{again}"
            # What is repeated already would be made twice by another repeat of the first.
            verb = "retry-failed" if last.state in ("FAILED", "CANCELLED") else "show"
            command = f"springline backfill {verb} {last.backfill_id}"
            yield Wrong(BAD if one.state != "SUCCEEDED" else WARN, title, said, one.not_done_since_ms, anchor, command)
        if one.state == "PAUSED":
            said = f"{one.left:,} of {one.total:,} partitions are left."
            command = f"springline backfill resume {one.backfill_id}"
            yield Wrong(WARN, f"Backfill {one.backfill_id} is paused", said, None, anchor, command)


def _last_repeat(report: Report, one: BackfillLine) -> BackfillLine:
    known = {other.backfill_id: other for other in report.backfills}
    repeats = [Repeat(other.backfill_id, other.parent, other.state, other.created_ms) for other in report.backfills]
    return known[last_repeat(one.backfill_id, repeats)]


def _of_assets(report: Report) -> Iterator[Wrong]:
    stale = [one for one in report.assets if one.stale]
    if stale:
        worst = max(stale, key=lambda one: one.stale)
        title = f"{many(len(stale), 'asset')} {_has(len(stale))} stale partitions"
        said = f"Most has {worst.asset}: {worst.stale:,} of the latest {len(worst.cells):,}."
        yield Wrong(
            WARN, title, said, None, f"#asset-{slug(worst.asset)}", f"springline run start {worst.asset} --stale"
        )


def stalled_ms(one: BackfillLine, now_ms: int) -> int:
    """Return for how long nothing was planned and nothing has ended in a backfill."""
    return now_ms - max(one.created_ms, one.last_ms or 0)


def slug(name: str) -> str:
    """Return a name as part of an anchor: what is no letter or digit as its code, so that two names never meet."""
    return "".join(one if one.isascii() and one.isalnum() else f"-{ord(one):x}-" for one in name)


def _anchor(report: Report, run_id: str) -> str:
    """Return where a run is shown; the section, if it has no bar of its own."""
    return f"#run-{slug(run_id)}" if any(one.run_id == run_id for one in report.runs.bars) else "#runs"


def _more(count: int) -> str:
    return "" if count == 1 else f" and {count - 1:,} more"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _has(count: int) -> str:
    return "has" if count == 1 else "have"
