"""Why a run has not begun, what it waits for, or how it ended.

A run is named by its id, or by the key that it was asked for under.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from springline.explaining.holds import HOLD_EVENT, held_back, hold_of, is_hold
from springline.explaining.story import (
    MARGIN_MS,
    Account,
    Aim,
    Evidence,
    Question,
    Subject,
    Verdict,
    ago,
    explain_task,
    lasted,
    unknown,
)
from springline.explaining.telling import MOST_NAMED, few
from springline.explaining.waits import TABLES, Waits, read_waits
from springline.ledger.envelope import Event
from springline.ledger.events import RunCancelRequested, RunRequested, TaskHeartbeat
from springline.ledger.member import CancelMember, member_of
from springline.projection.rows import RunKeyRow, RunRow, TaskRow
from springline.projection.schema import (
    BLOCKED,
    CANCELLED,
    DISPATCHED,
    FAILED,
    FINISHED_RUN,
    READY,
    RETRY_WAIT,
    RUNNING,
    SUCCEEDED,
)
from springline.published.snapshot import StateSnapshot
from springline.runs.launching import MAX_ACTIVE_RUNS, active_runs, asked_for
from springline.runs.loading import is_of_a_manifest, own_row
from springline.ulids import ulid_time_ms

LAUNCHED_LATE_MS: Final = 15_000
"""A request that may begin and has no run after so long has nobody who launches it."""
_TABLES: Final = ("runs", "run_key_index", "x_runs", *TABLES)
_BRINGS_BACK: Final = ("springline repair run", "runbooks/run-stuck.md says how a run is brought to go on")


def run_row(rows: StateSnapshot, run_id: str) -> RunRow | None:
    """Return a run, None if there is none; needs the table `runs`."""
    row: Any = rows["runs"].get(run_id)
    return None if row is None else RunRow(*row)


def begun_ms(rows: StateSnapshot, run: RunRow) -> int:
    """Return when a run was asked for, or else when it began."""
    own = own_row(rows, run.run_id)
    requested = None if own is None or own.request_event_id is None else ulid_time_ms(own.request_event_id)
    return run.triggered_at if requested is None else min(requested, run.triggered_at)


def aim_at_run(rows: StateSnapshot, run: RunRow, now_ms: int) -> tuple[int, int]:
    """Return from when to when a run's events were recorded, in ms since 1970."""
    ended = now_ms if run.completed_at is None else run.completed_at + MARGIN_MS
    return begun_ms(rows, run) - MARGIN_MS, ended


def no_run(name: str) -> Exception:
    """Return the refusal of a question for a run that there is not."""
    return unknown(
        "run", "run_id", name, "`springline run list` shows the runs; a key that one was asked for under works, too."
    )


def _aim(evidence: Evidence, question: Question) -> Aim:
    rows = evidence.rows
    request, run = _found(rows, question.identity)
    names = {question.identity} | ({run.run_id} if run is not None else set())
    keys = {one for one in (None if request is None else request.run_key, None if run is None else run.run_key) if one}
    if run is not None:
        since_ms, until_ms = aim_at_run(rows, run, question.now_ms)
    else:
        assert request is not None
        since_ms, until_ms = request.created_at - MARGIN_MS, question.now_ms

    def concerns(event: Event) -> bool:
        data = event.data
        if isinstance(data, RunRequested):
            return data.run_key in keys
        return (getattr(data, "run_id", None) in names and not isinstance(data, TaskHeartbeat)) or is_hold(event)

    mentions = (*names, *keys, HOLD_EVENT)
    return Aim(since_ms, until_ms, mentions, concerns, None if run is None else run.run_id)


def _found(rows: StateSnapshot, name: str) -> tuple[RunKeyRow | None, RunRow | None]:
    """Return request and run of a name that is a run's id or its key; raises `Refused` if there is neither."""
    run = run_row(rows, name)
    row: Any = rows["run_key_index"].get(name if run is None or run.run_key is None else run.run_key)
    request = None if row is None else RunKeyRow(*row)
    if run is None and request is not None:
        run = run_row(rows, request.run_id)
    if run is None and request is None:
        raise no_run(name)
    return request, run


def _answer(evidence: Evidence, question: Question) -> Account:
    rows = evidence.rows
    request, run = _found(rows, question.identity)
    if run is None:
        assert request is not None
        return of_request(rows, request.run_key, question.now_ms)
    if run.state in FINISHED_RUN:
        return _ended(rows, run, evidence.events)
    return _under_way(rows, run, evidence.pool_waits, question.now_ms)


def of_request(rows: StateSnapshot, run_key: str, now_ms: int) -> Account:
    """Say what became of a request for a run; needs the tables `run_key_index`, `runs`, `x_holds`."""
    row: Any = rows["run_key_index"].get(run_key)
    if row is None:
        return Account(Verdict.NO_RECORD, "The rows have no request under this key: retention has removed it.")
    request = RunKeyRow(*row)
    run = run_row(rows, request.run_id)
    if run is not None:
        verdict = {SUCCEEDED: Verdict.DONE, FAILED: Verdict.FAILED, CANCELLED: Verdict.CANCELLED}
        steps = [f"springline explain run {run.run_id}"]
        took = "" if run.completed_at is None else f" after {lasted(run.completed_at - run.triggered_at)}"
        said = f"Run {run.run_id} is {run.state}{took}."
        return Account(verdict.get(run.state, Verdict.UNDER_WAY), said, next_steps=steps)
    if not is_of_a_manifest(request.code_version):
        text = "The request names no manifest deployed here: it is another system's, and left to it."
        return Account(Verdict.WAITS, text, waits_for=["the system that it is for"])
    asked = f"It was asked for {ago(request.created_at, now_ms)} and has not begun"
    held = hold_of(rows)
    if held is not None:
        return held_back(f"{asked}: the workspace is held {held.text(now_ms)}.")
    active, (waiting, _) = len(active_runs(rows)), asked_for(rows, None)
    before = sum(one.row_version < request.row_version for one in waiting)
    if active >= MAX_ACTIVE_RUNS:
        text = f"{asked}: {active} runs are under way, and {before} request(s) are older than this one."
        return Account(Verdict.WAITS, text, waits_for=["the end of a run of the workspace"])
    if now_ms - request.created_at < LAUNCHED_LATE_MS:
        return Account(Verdict.UNDER_WAY, f"{asked}: its launcher is told of it.")
    text = f"{asked}, though {active} run(s) are under way: nobody launches it. If its launcher has set "
    text += "it aside, for its event or its manifest is damaged, the launcher's status names that object."
    return Account(Verdict.OVERDUE, text, waits_for=["the launcher of the workspace"], next_steps=[*_BRINGS_BACK])


def _ended(rows: StateSnapshot, run: RunRow, events: Sequence[Event]) -> Account:
    took = "" if run.completed_at is None else f" after {lasted(run.completed_at - run.triggered_at)}"
    counts = ", ".join(
        f"{count} {word}"
        for word, count in (
            ("succeeded", run.tasks_succeeded),
            ("failed", run.tasks_failed),
            ("skipped", run.tasks_skipped),
            ("cancelled", run.tasks_cancelled),
        )
        if count
    )
    text = f"It ended {run.state}{took}; of {run.tasks_total} task(s) {counts or 'none was made'}."
    if run.state == SUCCEEDED:
        return Account(Verdict.DONE, text)
    rerun = [f"springline run rerun {run.run_id} --failed"]
    if run.state == CANCELLED:
        own = own_row(rows, run.run_id)
        code = None if own is None else own.cancel_reason_code
        first = next((event.data for event in events if isinstance(event.data, RunCancelRequested)), None)
        if first is not None:
            why = "" if first.reason is None else f": {first.reason.removesuffix('.')}"
            text += f" {first.requested_by} asked for that{why}."
            code = code or getattr(member_of(first, CancelMember), "reason_code", None)
        return Account(Verdict.CANCELLED, text, code, next_steps=rerun if run.tasks_total else [])
    failed = [task for task in _tasks(rows, run.run_id) if task.state == FAILED]
    for task in failed[:MOST_NAMED]:
        text += f" {task.task_key}: {task.error_message or 'failed'}."
    steps = [explain_task(run.run_id, task.task_key) for task in failed[:MOST_NAMED]]
    return Account(Verdict.FAILED, text, next_steps=[*steps, *rerun])


def _under_way(rows: StateSnapshot, run: RunRow, pool_waits: Mapping[str, str], now_ms: int) -> Account:
    tasks = _tasks(rows, run.run_id)
    by_state: defaultdict[str, list[TaskRow]] = defaultdict(list)
    for task in tasks:
        by_state[task.state].append(task)
    done = f"{run.tasks_completed} of {run.tasks_total} task(s) have ended"
    text = f"It began {ago(run.triggered_at, now_ms)}; {done}."
    if run.cancel_requested:
        text += " Its cancellation was asked for: nothing of it begins any more."
    running = by_state[RUNNING]
    if running:
        text += f" {_named(running)} {'is' if len(running) == 1 else 'are'} being made."
    held = hold_of(rows)
    if held is not None:
        text += f" The workspace is held {held.text(now_ms)}."
        if not running:
            return held_back(text)
    waits = read_waits(rows, run.run_id, pool_waits, now_ms)
    said = [_waits_of(state, by_state[state], waits) for state in (DISPATCHED, RETRY_WAIT, READY)]
    waits_for = [line for lines in said for line in lines]
    stuck = by_state[BLOCKED] if not (running or waits_for) else []
    if stuck:
        waits_for.append(f"{_named(stuck)}: events of the run are being recorded, or its workflow is gone")
    if not running and not waits_for:
        late = run.tasks_total in (0, run.tasks_completed)
        what = "its end is being recorded" if late else "its workflow is being told of it"
        return Account(Verdict.UNDER_WAY, f"{text} {what.capitalize()}.", next_steps=[*_BRINGS_BACK])
    verdict = Verdict.UNDER_WAY if running else Verdict.WAITS
    return Account(verdict, text, waits_for=waits_for, next_steps=[*_BRINGS_BACK] if stuck else [])


def _waits_of(state: str, tasks: Sequence[TaskRow], waits: Waits) -> list[str]:
    """Say what tasks of one state wait for, those that wait for the same together."""
    by_text: defaultdict[str, list[TaskRow]] = defaultdict(list)
    for task in tasks:
        by_text[waits.of(task).text].append(task)
    return [f"{_named(same)}: {text}" for text, same in by_text.items()]


def _tasks(rows: StateSnapshot, run_id: str) -> list[TaskRow]:
    return [TaskRow(*cast(Any, row)) for row in rows["tasks"].below((run_id,))]


def _named(tasks: Sequence[TaskRow]) -> str:
    return few([task.task_key for task in tasks])


RUNS: Final = Subject("run", (), _TABLES, _aim, _answer)
