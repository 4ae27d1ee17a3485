"""What a report says of runs: how many, their attempts, what failed, and what gives no sign of life."""

from __future__ import annotations

from typing import Any, Final

from springline.projection.rows import AttemptRow, TaskRow
from springline.projection.schema import FINISHED_RUN, RUN_KEY_INDEX, RUNS, TASKS, X_ATTEMPTS, X_RUNS
from springline.published.lists import all_of, between, equals, known, open_at
from springline.published.snapshot import StateSnapshot
from springline.report.facts import AttemptBar, FailureGroup, RunBar, RunFacts, RunSpan, TimeSpan
from springline.report.origins import lanes_of, origin_of

MOST_RUNS: Final = 40
"""Runs whose attempts are drawn: what goes on, then what did not succeed, then the latest."""
_MOST_FINE: Final = 10
"""Of these, runs that succeeded."""
MOST_ATTEMPTS: Final = 60
"""Attempts of one run that have a bar of their own."""
_SMALL_RUN: Final = 200
"""Tasks of a run that is read whole."""
MOST_NAMED: Final = 50
"""Things of one kind that are told one by one."""
NOT_BEGUN_MS: Final = 60_000
"""An attempt that no worker has begun after this long, or a request without a run, is worth a word."""
_SAID: Final = 300


def read_runs(snapshot: StateSnapshot, span: TimeSpan, now_ms: int) -> RunFacts:
    """Return the runs that were under way in the time of a report, those that matter most with bars."""
    found = RunFacts()
    first: list[tuple[tuple[int, int], tuple[Any, ...]]] = []
    origins: dict[str, list[RunSpan]] = {}
    under_way = all_of(
        [between(RUNS, "triggered_at", None, span.until_ms), open_at(RUNS, "completed_at", span.since_ms)]
    )
    for row in snapshot[RUNS.name].values(_OF_RUNS, under_way):
        (run_id, state, run_key, _, triggered, completed, *_) = row
        origins.setdefault(origin_of(run_key), []).append(RunSpan(triggered, completed, state, run_id))
        found.total += 1
        found.states[state] += 1
        if span.holds(triggered):
            found.buckets[span.bucket(triggered)][state] += 1
        first.append((_rank(state, triggered), row))
    first.sort(key=lambda one: one[0])
    notable = sum(rank[0] < _FINE for rank, _ in first)
    chosen = [row for _, row in first[: min(MOST_RUNS, notable + _MOST_FINE)]]
    found.lanes = lanes_of(origins, span, now_ms)
    found.left_out = found.total - len(chosen)
    found.bars = [_bar(snapshot, row) for row in chosen]
    ended = between(X_ATTEMPTS, "ended_at", span.since_ms, span.until_ms)
    for attempt, outcome in snapshot[X_ATTEMPTS.name].values(("attempt", "outcome"), ended):
        found.attempts[outcome] += 1
        found.retries += attempt > 1
    return found


def read_failures(snapshot: StateSnapshot, span: TimeSpan) -> tuple[list[FailureGroup], int]:
    """Return the failures in the time of a report that were not made good since, alike ones together; how many were.

    A task is made good if the same partition of its asset was made behind it, by whichever run.
    """
    names = ("run_id", "task_key", "asset_key", "partition_key", "completed_at", "error_message")
    ended = [equals(TASKS, "state", ["FAILED"]), between(TASKS, "completed_at", span.since_ms, span.until_ms)]
    failed = [
        ((asset or task_key, partition), run_id, completed, first_line(said) or "no message")
        for run_id, task_key, asset, partition, completed, said in snapshot[TASKS.name].values(names, all_of(ended))
    ]
    made = last_made(snapshot, {key[0] for key, *_ in failed}, span.since_ms)
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    made_good = 0
    for key, run_id, completed, said in failed:
        if made.get(key, 0) > completed:
            made_good += 1
        else:
            groups.setdefault((key[0], said), []).append((completed, run_id))
    found = [
        FailureGroup(asset, said, len(ends), min(ends)[0], max(ends)[0], max(ends)[1])
        for (asset, said), ends in groups.items()
    ]
    return sorted(found, key=lambda one: (-one.last_ms, one.asset, one.said)), made_good


def last_made(snapshot: StateSnapshot, assets: set[str], since_ms: int) -> dict[tuple[str, str | None], int]:
    """Return when the partitions of some assets were last made, of those that were made since an instant."""
    made: dict[tuple[str, str | None], int] = {}
    if assets:
        names = ("asset_key", "partition_key", "completed_at")
        wanted = [
            equals(TASKS, "asset_key", assets),
            equals(TASKS, "state", ["SUCCEEDED"]),
            between(TASKS, "completed_at", since_ms, None),
        ]
        for asset, partition, completed in snapshot[TASKS.name].values(names, all_of(wanted)):
            made[asset, partition] = max(completed, made.get((asset, partition), 0))
    return made


def read_silent(snapshot: StateSnapshot, now_ms: int) -> tuple[list[tuple[str, AttemptBar, int]], int]:
    """Return attempts under way that give no sign of life, the longest silent first; how many there are."""
    found: list[tuple[str, AttemptBar, int]] = []
    columns = ("run_id", "task_key", "attempt", "state", "started_at", "last_heartbeat_at", "ready_at")
    waiting = equals(TASKS, "state", ["RUNNING", "DISPATCHED"])
    for row in snapshot[TASKS.name].values((*columns, "heartbeat_timeout_sec"), waiting):
        run_id, task_key, attempt, state, started, beat, ready, timeout_s = row
        seen = max((one for one in (started, beat) if one is not None), default=None) if state == "RUNNING" else ready
        allowed = timeout_s * 1_000 if state == "RUNNING" else NOT_BEGUN_MS
        if seen is not None and now_ms - seen > allowed:
            found.append((run_id, AttemptBar(task_key, attempt, state, started or seen, None), seen))
    found.sort(key=lambda one: (one[2], one[0], one[1].task_key))
    return found[:MOST_NAMED], len(found)


def read_not_begun(snapshot: StateSnapshot, span: TimeSpan, now_ms: int) -> list[tuple[str, int]]:
    """Return what was asked for, in the time of a report, and has no run after a minute: run keys, and when."""
    asked = between(RUN_KEY_INDEX, "created_at", span.since_ms, min(span.until_ms, now_ms - NOT_BEGUN_MS))
    old = list(snapshot[RUN_KEY_INDEX.name].values(("run_key", "run_id", "created_at"), asked))
    if not old:
        return []
    runs = {run_id for (run_id,) in snapshot[RUNS.name].values(("run_id",))}
    return sorted(((key, at) for key, run_id, at in old if run_id not in runs), key=lambda one: (one[1], one[0]))


def read_not_planned(snapshot: StateSnapshot, span: TimeSpan) -> list[tuple[str, str, int]]:
    """Return runs that were cancelled at once for a reason of ours: run, reason code, and when; the last one first."""
    told = snapshot[X_RUNS.name].values(("run_id", "cancel_reason_code"), known(X_RUNS, "cancel_reason_code"))
    reasons: dict[str, str] = {run_id: reason for run_id, reason in told}
    if not reasons:
        return []
    columns = ("run_id", "state", "triggered_at", "tasks_total")
    within = between(RUNS, "triggered_at", span.since_ms, span.until_ms)
    found = [
        (run_id, reasons[run_id], at)
        for run_id, state, at, tasks in snapshot[RUNS.name].values(columns, within)
        if state == "CANCELLED" and not tasks and run_id in reasons
    ]
    return sorted(found, key=lambda one: (-one[2], one[0]))


_OF_RUNS: Final = (
    *("run_id", "state", "run_key", "cancel_requested", "triggered_at", "completed_at"),
    *("tasks_total", "tasks_succeeded", "tasks_failed"),
)


_FINE: Final = 3
"""The rank of a run that succeeded."""


def _rank(state: str, triggered: int) -> tuple[int, int]:
    """Return what sorts the runs that matter most to the front: what goes on, what failed, then the latest."""
    if state not in FINISHED_RUN:
        return 0, triggered
    return {"FAILED": 1, "CANCELLED": 2}.get(state, _FINE), -triggered


def _bar(snapshot: StateSnapshot, row: tuple[Any, ...]) -> RunBar:
    run_id, state, run_key, cancel_requested, triggered, completed, total, succeeded, failed = row
    bars, left_out = _attempts(snapshot, run_id, total)
    return RunBar(
        run_id,
        state,
        run_key,
        bool(cancel_requested),
        triggered,
        completed,
        total,
        succeeded,
        failed,
        bars,
        left_out,
    )


def _attempts(snapshot: StateSnapshot, run_id: str, tasks_total: int) -> tuple[list[AttemptBar], int]:
    """Return bars of a run's attempts, and how many have none: of a run with many those that did not succeed first."""
    ended, tasks = snapshot[X_ATTEMPTS.name], snapshot["tasks"]
    if tasks_total <= _SMALL_RUN:
        rows: Any = ended.below((run_id,))
        waiting: Any = tasks.below((run_id,))
    else:
        bad = equals(X_ATTEMPTS, "outcome", ["FAILED", "CANCELLED"])
        rows = ended.page(limit=MOST_ATTEMPTS, prefix=(run_id,), where=bad).rows
        rows = rows or ended.page(limit=MOST_ATTEMPTS, prefix=(run_id,)).rows
        under_way = equals(TASKS, "state", ["RUNNING", "DISPATCHED", "RETRY_WAIT"])
        waiting = tasks.page(limit=MOST_ATTEMPTS, prefix=(run_id,), where=under_way).rows
    bars = [_ended(AttemptRow(*row)) for row in rows]
    last = {bar.task_key: bar.end_ms for bar in bars}
    going_on = (TaskRow(*row) for row in waiting)
    bars += [bar for bar in (_going_on(row, last.get(row.task_key)) for row in going_on) if bar is not None]
    total = len(bars) if tasks_total <= _SMALL_RUN else max(len(bars), tasks_total)
    if len(bars) > MOST_ATTEMPTS:
        told = {bar.task_key for bar in bars if bar.state != "SUCCEEDED"}
        bars.sort(key=lambda bar: (bar.task_key not in told, bar.start_ms, bar.task_key, bar.attempt))
    shown = bars[:MOST_ATTEMPTS]
    return sorted(shown, key=lambda bar: (bar.start_ms, bar.task_key, bar.attempt)), total - len(shown)


def _ended(row: AttemptRow) -> AttemptBar:
    end = row.true_ended_at or row.ended_at
    start = row.true_started_at or row.started_at or end
    said = first_line(row.error_message)
    return AttemptBar(row.task_key, row.attempt, row.outcome, min(start, end), end, row.worker_id, said)


def _going_on(row: TaskRow, ended_ms: int | None) -> AttemptBar | None:
    """Return the bar of a task that goes on, None for none; `ended_ms`: when its last attempt that has ended did."""
    if row.state == "RUNNING":
        start = row.started_at or row.ready_at
        return None if start is None else AttemptBar(row.task_key, row.attempt, row.state, start, None)
    if row.state == "DISPATCHED" and row.ready_at is not None:
        return AttemptBar(row.task_key, row.attempt, row.state, row.ready_at, None)
    if row.state == "RETRY_WAIT" and row.retry_not_before is not None:
        begin = ended_ms or row.last_heartbeat_at or row.started_at or row.retry_not_before
        said = f"waits for attempt {row.attempt + 1}"
        return AttemptBar(row.task_key, row.attempt + 1, row.state, begin, row.retry_not_before, None, said)
    return None


def first_line(text: str | None) -> str | None:
    """Return the first line of a message that says something, cut to what a report has room for."""
    if not text:
        return None
    line = next((one.strip() for one in text.splitlines() if one.strip()), "")
    return line if len(line) <= _SAID else f"{line[:_SAID]}…"
