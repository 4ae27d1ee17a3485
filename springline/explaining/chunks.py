"""Why a chunk of a backfill is not planned yet, what its run waits for, and which of its partitions are not done.

A chunk is named by its backfill and its index, from 0.
"""

from __future__ import annotations

import json
from typing import Any, Final, cast

from springline.backfills.reading import counted, known_backfill, progress_of
from springline.backfills.standing import LATE_MS, changed_ms, standing_backfill
from springline.control.backfills.deciding import OPEN_STATES
from springline.errors import Code, refused
from springline.explaining.backfills import (
    BACKFILL_TABLES,
    PAUSED,
    RUNBOOK,
    backfill_row,
    goes_on,
    halted_text,
    missed_text,
    run_of_chunk,
)
from springline.explaining.holds import HOLD_EVENT, held_back, hold_of, is_hold
from springline.explaining.runs import of_request
from springline.explaining.story import (
    A_DAY_MS,
    MARGIN_MS,
    Account,
    Aim,
    Evidence,
    Question,
    Subject,
    Verdict,
    ago,
    lasted,
    unknown,
)
from springline.explaining.telling import MOST_NAMED
from springline.explaining.waits import attempts_of, error_of
from springline.ledger.envelope import Event
from springline.ledger.events import (
    BackfillChunkEnded,
    BackfillChunkPlanned,
    BackfillStateChanged,
    PlanCreated,
    RunCancelRequested,
    RunRequested,
    RunTriggered,
    TaskCompletionRecorded,
    TaskFinished,
)
from springline.ledger.identifiers import backfill_chunk_id, backfill_run_key
from springline.projection.rows import BackfillRow, ChunkRow, OwnChunkRow, RunRow, TaskRow
from springline.projection.schema import CANCELLED, FAILED, FINISHED_RUN, SUCCEEDED
from springline.published.snapshot import StateSnapshot

_ENDS: Final = {SUCCEEDED: Verdict.DONE, FAILED: Verdict.FAILED, CANCELLED: Verdict.CANCELLED}


def _index(question: Question, row: BackfillRow) -> int:
    if question.chunk is None:
        raise refused(
            Code.INVALID_REQUEST,
            "the question names no chunk",
            field="chunk",
            remedy="Give its index; the first one is 0.",
        )
    chunks = -(-row.total_partitions // row.chunk_size) if row.chunk_size else 0
    if not 0 <= question.chunk < chunks:
        remedy = f"The backfill has {chunks} chunk(s); the first one is 0."
        raise unknown("chunk", "chunk", str(question.chunk), remedy, of=f"backfill {row.backfill_id}")
    return question.chunk


def own_chunk(rows: StateSnapshot, backfill_id: str, index: int) -> OwnChunkRow | None:
    """Return a chunk that is planned, None if it is not."""
    found: Any = rows["x_chunks"].get(backfill_chunk_id(backfill_id, index))
    return None if found is None else OwnChunkRow(*found)


def _aim(evidence: Evidence, question: Question) -> Aim:
    rows = evidence.rows
    row = backfill_row(rows, question.identity)
    index = _index(question, row)
    chunk, asked = own_chunk(rows, row.backfill_id, index), run_of_chunk(rows, row.backfill_id, index)
    run_id = None if asked is None else asked.run_id
    run_key = backfill_run_key(row.backfill_id, index)
    since_ms = changed_ms(row) - A_DAY_MS if chunk is None else chunk.planned_at - MARGIN_MS
    until_ms = question.now_ms if chunk is None or chunk.ended_at is None else chunk.ended_at + MARGIN_MS

    def concerns(event: Event) -> bool:
        data: Any = event.data
        if isinstance(data, BackfillChunkPlanned | BackfillChunkEnded):
            return (data.backfill_id, data.chunk_index) == (row.backfill_id, index)
        if isinstance(data, BackfillStateChanged):
            return data.backfill_id == row.backfill_id
        if isinstance(data, RunRequested):
            return data.run_key == run_key
        if run_id is not None and getattr(data, "run_id", None) == run_id:
            failed = isinstance(data, TaskFinished | TaskCompletionRecorded) and data.outcome != "succeeded"
            return failed or isinstance(data, RunTriggered | PlanCreated | RunCancelRequested)
        return is_hold(event)

    mentions = (row.backfill_id, *(() if run_id is None else (run_id,)), HOLD_EVENT)
    return Aim(since_ms, until_ms, mentions, concerns)


def _answer(evidence: Evidence, question: Question) -> Account:
    rows, now_ms = evidence.rows, question.now_ms
    row = backfill_row(rows, question.identity)
    index = _index(question, row)
    chunk = own_chunk(rows, row.backfill_id, index)
    if chunk is None:
        return _unplanned(evidence, row, index, now_ms)
    steps = [f"springline explain backfill {row.backfill_id}"]
    found: Any = rows["backfill_chunks"].get(chunk.chunk_id)
    keys = [] if found is None else json.loads(ChunkRow(*found).partition_keys)
    what = f"{chunk.partitions} partition(s)" + (f", from {keys[0]} to {keys[-1]}" if len(keys) > 1 else "")
    what = keys[0] if len(keys) == 1 else what
    asked = run_of_chunk(rows, row.backfill_id, index)
    run_id = None if asked is None else asked.run_id
    if chunk.outcome is not None:
        return _ended(rows, chunk, what, run_id, steps)
    account = of_request(rows, chunk.run_key, now_ms)
    text = f"It was planned at {ago(chunk.planned_at, now_ms)}: {what}. {account.text}{_failed_text(rows, run_id)}"
    run_row: Any = None if run_id is None else rows["runs"].get(run_id)
    run = None if run_row is None else RunRow(*run_row)
    if run is not None and run.state in FINISHED_RUN:
        late = run.completed_at is not None and now_ms - run.completed_at >= LATE_MS
        verdict = Verdict.OVERDUE if late else Verdict.UNDER_WAY
        steps = [RUNBOOK, "springline repair run"] if late else steps
        text = f"{text} Its end is not recorded yet."
        return Account(verdict, text, waits_for=["the evaluator of its backfill"], next_steps=steps)
    if asked is None:
        text = f"It was planned at {ago(chunk.planned_at, now_ms)}: {what}. No run of it is on record."
        return Account(Verdict.WAITS, text, waits_for=["the evaluator of its backfill"], next_steps=[RUNBOOK, *steps])
    return Account(account.verdict, text, account.reason_code, account.waits_for, [*account.next_steps, *steps])


def _ended(rows: StateSnapshot, chunk: OwnChunkRow, what: str, run_id: str | None, steps: list[str]) -> Account:
    took = "" if chunk.ended_at is None else f" after {lasted(max(0, chunk.ended_at - chunk.planned_at))}"
    run = "" if run_id is None else f", with run {run_id}"
    text = f"It ended {chunk.outcome}{took}{run}: {what}, {chunk.done or 0} done."
    missed = missed_text(chunk)
    if missed:
        text += f" Not done: {missed}.{_failed_text(rows, run_id)}"
    verdict = _ENDS.get(cast(str, chunk.outcome), Verdict.SKIPPED)
    if verdict is Verdict.DONE:
        return Account(verdict, text, chunk.reason_code)
    run_steps = [] if run_id is None else [f"springline explain run {run_id}"]
    again = f"springline backfill retry-failed {chunk.backfill_id}"
    return Account(verdict, text, chunk.reason_code, next_steps=[*run_steps, *steps, again])


def _failed_text(rows: StateSnapshot, run_id: str | None) -> str:
    """Say which tasks of a run failed, in which attempt and why."""
    if run_id is None:
        return ""
    tasks = [TaskRow(*cast(Any, row)) for row in rows["tasks"].below((run_id,))]
    failed = [one for one in tasks if one.state == FAILED]
    said = []
    for one in failed[:MOST_NAMED]:
        error = error_of(one, attempts_of(rows, one)) or "no more is told"
        said.append(f" {one.task_key} failed in attempt {one.attempt}: {error}.")
    more = f" {len(failed) - MOST_NAMED} more task(s) failed." if len(failed) > MOST_NAMED else ""
    return "".join(said) + more


def _unplanned(evidence: Evidence, row: BackfillRow, index: int, now_ms: int) -> Account:
    rows = evidence.rows
    known = known_backfill(rows, row.backfill_id)
    steps = [f"springline explain backfill {row.backfill_id}"]
    if known is None:
        text = "It is not planned. The backfill is another system's, and nothing here plans its chunks."
        return Account(Verdict.OFF, text)
    before = index - row.planned_chunks
    if row.state not in OPEN_STATES:
        text = f"It was never planned: the backfill is {row.state}; {halted_text(evidence.events, row, now_ms)}."
        return Account(Verdict.CANCELLED, text, next_steps=steps)
    text = f"It is not planned yet: {before} chunk(s) come before it." if before else "It is the next to be planned."
    if row.state == PAUSED:
        text += f" The backfill is paused: {halted_text(evidence.events, row, now_ms)}."
        return Account(Verdict.OFF, text, next_steps=[f"springline backfill resume {row.backfill_id}"])
    held = hold_of(rows)
    if held is not None:
        text += f" The workspace is held {held.text(now_ms)}."
        return held_back(text)
    standing = standing_backfill(rows, known, now_ms)
    far = progress_of(known, counted(rows, row.backfill_id, now_ms), now_ms)
    account = goes_on(rows, known, standing, far, now_ms)
    verdict = Verdict.WAITS if account.verdict is Verdict.UNDER_WAY else account.verdict
    return Account(
        verdict, f"{text} {account.text}", account.reason_code, account.waits_for, [*steps, *account.next_steps]
    )


CHUNKS: Final = Subject("chunk", ("chunk",), (*BACKFILL_TABLES, "x_attempts"), _aim, _answer)
