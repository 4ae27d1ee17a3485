"""Why a backfill makes nothing now, what it waits for, which of its partitions are not done, and who halted it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, cast

from springline.backfills.reading import RUN_TABLES, KnownBackfill, counted, known_backfill, progress_of
from springline.backfills.standing import StandingBackfill, changed_ms, standing_backfill
from springline.control.backfills.deciding import BackfillReason, BackfillView, OpenChunk
from springline.control.backfills.messages import BackfillProgress
from springline.control.backfills.repeating import Repeat, last_repeat
from springline.control.backfills.telling import span_text
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
from springline.explaining.telling import MOST_NAMED, few
from springline.ledger.envelope import Event
from springline.ledger.events import (
    BackfillChunkEnded,
    BackfillChunkPlanned,
    BackfillCreated,
    BackfillStateChanged,
    RunRequested,
)
from springline.ledger.identifiers import backfill_run_key
from springline.ledger.timestamps import NS_PER_MS
from springline.projection.rows import BackfillRow, OwnChunkRow, RunKeyRow
from springline.projection.schema import CANCELLED, FAILED, FINISHED_RUN, SUCCEEDED, X_CHUNKS
from springline.published.lists import all_of, equals, known
from springline.published.snapshot import StateSnapshot
from springline.ulids import ulid_time_ms

PAUSED: Final = "PAUSED"
RUNBOOK: Final = "runbooks/backfill-stalled.md says how its evaluator is found and brought back"
BACKFILL_TABLES: Final = (*RUN_TABLES, "tasks")
_DOES: Final = {PAUSED: "paused", CANCELLED: "cancelled"}


def backfill_row(rows: StateSnapshot, backfill_id: str) -> BackfillRow:
    """Return a backfill; raises `Refused` if there is none."""
    row: Any = rows["backfills"].get(backfill_id)
    if row is None:
        raise unknown("backfill", "backfill_id", backfill_id, "`springline backfill list` shows the backfills.")
    return BackfillRow(*row)


def concerns_backfill(event: Event, backfill_id: str) -> bool:
    """Say whether an event creates a backfill, plans or ends a chunk of it, or changes its state."""
    data = event.data
    if isinstance(data, RunRequested):
        return getattr(data.trigger_source_ref, "backfill_id", None) == backfill_id
    kinds = BackfillCreated | BackfillChunkPlanned | BackfillChunkEnded | BackfillStateChanged
    return isinstance(data, kinds) and data.backfill_id == backfill_id


def halted_text(events: Sequence[Event], row: BackfillRow, now_ms: int) -> str:
    """Return who moved a backfill to the state that it is in, and when."""
    for event in reversed(events):
        data = event.data
        if isinstance(data, BackfillStateChanged) and (data.backfill_id, data.to_state) == (row.backfill_id, row.state):
            who = data.changed_by or "somebody"
            at_ms = ulid_time_ms(event.event_id) or event.timestamp_ns // NS_PER_MS
            return f"{who} {_DOES.get(row.state, 'moved')} it, {ago(at_ms, now_ms)}"
    return f"it has been so since {ago(changed_ms(row), now_ms)}"


def run_of_chunk(rows: StateSnapshot, backfill_id: str, index: int) -> RunKeyRow | None:
    """Return the request for the run of a chunk, None if there is none (any more)."""
    found: Any = rows["run_key_index"].get(backfill_run_key(backfill_id, index))
    return None if found is None else RunKeyRow(*found)


def missed_chunks(rows: StateSnapshot, backfill_id: str) -> list[OwnChunkRow]:
    """Return the chunks that have ended and whose partitions are not all done, by index."""
    found: list[OwnChunkRow] = []
    for column in ("failed", "skipped"):
        wanted = all_of([equals(X_CHUNKS, "backfill_id", [backfill_id]), known(X_CHUNKS, column)])
        assert wanted is not None
        found += [OwnChunkRow(*cast(Any, row)) for row in rows["x_chunks"].select(wanted)]
    by_id = {one.chunk_id: one for one in found}
    return sorted(by_id.values(), key=lambda one: one.chunk_index)


def missed_text(chunk: OwnChunkRow) -> str:
    """Return which partitions of a chunk failed, and which were skipped."""
    parts = []
    for keys, word in ((chunk.failed, "failed"), (chunk.skipped, "skipped")):
        names = json.loads(keys or "[]")
        if names:
            parts.append(f"{few(names)} {word}")
    return ", ".join(parts)


def _aim(evidence: Evidence, question: Question) -> Aim:
    row = backfill_row(evidence.rows, question.identity)
    changed = changed_ms(row)
    over = row.state in (SUCCEEDED, FAILED)
    # Of a long one the last day: where it stands is in the rows.
    since_ms = max(row.created_at - MARGIN_MS, changed - A_DAY_MS)
    until_ms = changed + MARGIN_MS if over else question.now_ms

    def concerns(event: Event) -> bool:
        return concerns_backfill(event, row.backfill_id) or is_hold(event)

    return Aim(min(since_ms, until_ms), until_ms, (row.backfill_id, HOLD_EVENT), concerns)


def _answer(evidence: Evidence, question: Question) -> Account:
    rows, now_ms = evidence.rows, question.now_ms
    row = backfill_row(rows, question.identity)
    known_one = known_backfill(rows, row.backfill_id)
    if known_one is None:
        text = f"The backfill is another system's, and nothing here looks after it. It is {row.state}."
        return Account(Verdict.OFF, text)
    counts = counted(rows, row.backfill_id, now_ms)
    far = progress_of(known_one, counts, now_ms)
    text = _far_text(far)
    if row.state in (SUCCEEDED, FAILED):
        return _over(rows, row, text)
    standing = standing_backfill(rows, known_one, now_ms)
    if row.state == CANCELLED:
        return _cancelled(evidence, row, standing, text, now_ms)
    going = f" {len(counts.open)} chunk(s) were planned before, and go on." if counts.open else ""
    if row.state == PAUSED:
        text = f"The backfill is paused: {halted_text(evidence.events, row, now_ms)}.{going} {text}"
        return Account(Verdict.OFF, text, next_steps=[f"springline backfill resume {row.backfill_id}"])
    held = hold_of(rows)
    if held is not None:
        text = f"No chunk is planned: the workspace is held {held.text(now_ms)}.{going} {text}"
        return held_back(text)
    return goes_on(rows, known_one, standing, far, now_ms)


def goes_on(
    rows: StateSnapshot, known_one: KnownBackfill, standing: StandingBackfill, far: BackfillProgress, now_ms: int
) -> Account:
    """Say what a backfill waits for that is RUNNING, and not held."""
    view, text = standing.view, _far_text(far)
    left = view.chunks - view.planned
    if standing.is_overdue(now_ms):
        since = ago(cast(int, standing.due_ms), now_ms)
        text = f"Its evaluator has had to {standing.due} since {since}, and has not. {text}"
        steps = [RUNBOOK, "springline repair run"]
        return Account(Verdict.OVERDUE, text, waits_for=["its evaluator"], next_steps=steps)
    running = [one for one in view.open if one.run is not None and one.run.state not in FINISHED_RUN]
    waiting = [one for one in view.open if one.run is None and one.run_id is not None]
    if left and len(view.open) >= view.limit:
        most = f"{len(view.open)} chunk(s) are open, as many as may be at once (max_concurrent_runs)"
        text = f"{most}, and {left} wait. {text}"
    if far.failed or far.skipped:
        text += f" {_missed(rows, view.backfill_id)}"
    waits = [f"chunk {one.index}: run {one.run_id} is {cast(Any, one.run).state}" for one in running[:MOST_NAMED]]
    accounts = [_of_waiting(rows, view, one, now_ms) for one in waiting[:MOST_NAMED]]
    waits += [f"chunk {one.index}: {account.text}" for one, account in zip(waiting, accounts, strict=False)]
    more = len(running) + len(waiting) - len(waits)
    waits += [f"{more} more chunk(s)"] if more > 0 else []
    steps = [f"springline explain chunk {view.backfill_id} {one.index}" for one in (*running, *waiting)[:MOST_NAMED]]
    if running:
        return Account(Verdict.UNDER_WAY, text, waits_for=waits, next_steps=steps)
    if accounts:
        verdict = accounts[0].verdict
        return Account(verdict, text, accounts[0].reason_code, waits, [*steps, *accounts[0].next_steps])
    return Account(Verdict.UNDER_WAY, f"Its evaluator is told of it. {text}", waits_for=waits)


def _of_waiting(rows: StateSnapshot, view: BackfillView, chunk: OpenChunk, now_ms: int) -> Account:
    return of_request(rows, backfill_run_key(view.backfill_id, chunk.index), now_ms)


def _over(rows: StateSnapshot, row: BackfillRow, text: str) -> Account:
    took = lasted(max(0, changed_ms(row) - row.created_at))
    if row.state == SUCCEEDED:
        return Account(Verdict.DONE, f"It ended {row.state} after {took}. {text}")
    chunks = missed_chunks(rows, row.backfill_id)
    steps = [f"springline explain chunk {row.backfill_id} {one.chunk_index}" for one in chunks[:MOST_NAMED]]
    again, step = _repeated(rows, row)
    return Account(
        Verdict.FAILED,
        f"It ended {row.state} after {took}. {text} {_missed(rows, row.backfill_id)}{again}",
        BackfillReason.PARTITIONS_NOT_DONE,
        next_steps=[*steps, step],
    )


def _repeated(rows: StateSnapshot, row: BackfillRow) -> tuple[str, str]:
    """Return what repeats a backfill already, and what to do next about what is not done of it.

    Another repeat of the same one would make its partitions twice.
    """
    known = {one.backfill_id: one for one in (BackfillRow(*cast(Any, found)) for found in rows["backfills"])}
    repeats = [Repeat(one.backfill_id, one.parent_backfill_id, one.state, one.created_at) for one in known.values()]
    last = known[last_repeat(row.backfill_id, repeats)]
    if last.backfill_id == row.backfill_id:
        return "", f"springline backfill retry-failed {row.backfill_id}"
    verb = "retry-failed" if last.state == FAILED else "show"
    text = f" Backfill {last.backfill_id} repeats what was not done, and is {last.state}."
    return text, f"springline backfill {verb} {last.backfill_id}"


def _cancelled(evidence: Evidence, row: BackfillRow, standing: StandingBackfill, text: str, now_ms: int) -> Account:
    said = f"The backfill is cancelled: {halted_text(evidence.events, row, now_ms)}. {text}"
    code = BackfillReason.BACKFILL_CANCELLED
    if not standing.view.open:
        missed = missed_chunks(evidence.rows, row.backfill_id)
        again, step = _repeated(evidence.rows, row) if missed else ("", None)
        return Account(Verdict.CANCELLED, f"{said}{again}", code, next_steps=[] if step is None else [step])
    waits = [f"the end of {len(standing.view.open)} run(s), which are being cancelled"]
    late = standing.is_overdue(now_ms)
    return Account(
        Verdict.OVERDUE if late else Verdict.CANCELLED,
        said,
        code,
        waits,
        [RUNBOOK, "springline repair run"] if late else [],
    )


def _far_text(far: BackfillProgress) -> str:
    missed = "" if not (far.failed or far.skipped) else f" ({far.failed} failed, {far.skipped} skipped)"
    left = "" if far.remaining_ms is None else f", {span_text(far.remaining_ms)} left at this rate"
    return (
        f"{far.done:,} of {far.total:,} partition(s) are done{missed}; "
        f"{far.chunks_ended} of {far.chunks} chunk(s) have ended{left}."
    )


def _missed(rows: StateSnapshot, backfill_id: str) -> str:
    chunks = missed_chunks(rows, backfill_id)
    said = []
    for one in chunks[:MOST_NAMED]:
        asked = run_of_chunk(rows, backfill_id, one.chunk_index)
        run = "" if asked is None else f" (run {asked.run_id})"
        said.append(f"chunk {one.chunk_index}{run}: {missed_text(one)}")
    more = f"; {len(chunks) - MOST_NAMED} more chunk(s)" if len(chunks) > MOST_NAMED else ""
    return f"Not done: {'; '.join(said)}{more}." if said else ""


BACKFILLS: Final = Subject("backfill", (), BACKFILL_TABLES, _aim, _answer)
