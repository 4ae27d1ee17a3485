"""Reading where a backfill stands: its row, its settings, its chunks and their runs, and how far it is.

A backfill without our settings, or of no deployed manifest, is another system's, and left to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from springline.backfills.requests import StaleJudged
from springline.control.backfills.deciding import OPEN_STATES, BackfillView, ChunkRun, OpenChunk
from springline.control.backfills.messages import BackfillProgress
from springline.definitions.backfills import KEYS_FILTER
from springline.ledger.identifiers import backfill_chunk_id, backfill_run_key
from springline.ledger.member import BackfillMember
from springline.projection.rows import BackfillRow, ChunkRow, OwnRunRow, RunKeyRow, RunRow, TaskRow
from springline.projection.schema import FINISHED_RUN, X_CHUNKS
from springline.published.lists import equals
from springline.published.snapshot import StateSnapshot
from springline.runs.backfilled import TABLES, settings_of
from springline.runs.loading import is_held

RUN_TABLES: Final = (*TABLES, "x_holds", "runs", "run_key_index", "x_run_keys", "x_runs")
"""What is needed of the published state to tell what is to be done about a backfill."""
_MINUTE_MS: Final = 60_000
_COLUMNS: Final = (
    *("chunk_index", "partitions", "planned_at", "outcome", "done", "failed", "skipped", "ended_at", "row_version"),
)


@dataclass(frozen=True, slots=True)
class KnownBackfill:
    """A backfill that is ours, with its settings."""

    row: BackfillRow
    member: BackfillMember

    @property
    def assets(self) -> tuple[str, ...]:
        """The assets that it makes."""
        return tuple(json.loads(self.row.asset_selection))

    @property
    def selector(self) -> Mapping[str, Any]:
        """Its partitions, as its event says them."""
        found: Mapping[str, Any] = json.loads(self.row.partition_selector)
        return found

    @property
    def keys_name(self) -> str | None:
        """The name of the list of its partitions in the store, None if it has none."""
        name = (self.selector.get("filters") or {}).get(KEYS_FILTER)
        return None if name is None else str(name)

    @property
    def stale(self) -> StaleJudged | None:
        """What it was chosen by, None if it is not one of what was stale."""
        said = self.member
        if said.stale_revision is None or said.stale_as_of is None:
            return None
        reasons = tuple(said.stale_reasons or ())
        return StaleJudged(said.stale_revision, said.stale_as_of, said.stale_partitions or 0, reasons)

    @property
    def chunks(self) -> int:
        """How many chunks it has."""
        return -(-self.row.total_partitions // self.row.chunk_size)


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """What the chunks of a backfill come to. Counts are of partitions, those of chunks apart."""

    planned: int = 0
    ended: int = 0
    planned_partitions: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    open: tuple[int, ...] = ()
    oldest_open_ms: int | None = None
    last_minute: int = 0
    last_five: int = 0
    first_ms: int | None = None
    last_version: str | None = None

    @property
    def ended_partitions(self) -> int:
        """Partitions of chunks that have ended."""
        return self.done + self.failed + self.skipped


def known_backfill(snapshot: StateSnapshot, backfill_id: str) -> KnownBackfill | None:
    """Return a backfill, None if there is none or it is another system's."""
    row: Any = snapshot["backfills"].get(backfill_id)
    return None if row is None else _known(snapshot, BackfillRow(*row))


def counted(snapshot: StateSnapshot, backfill_id: str, now_ms: int) -> ChunkCounts:
    """Return what the chunks of a backfill come to; `now_ms` tells which ended lately."""
    of_it = equals(X_CHUNKS, "backfill_id", [backfill_id])
    # Of one backfill, because no id holds a colon.
    found = snapshot["x_chunks"].columns(_COLUMNS, start=f"{backfill_id}:", before=f"{backfill_id};", where=of_it)
    if not found.num_rows:
        return ChunkCounts()
    outcome, ended_at = found.column("outcome"), found.column("ended_at")
    is_open = pc.is_null(outcome)
    failed, skipped = _keys_in(found.column("failed")), _keys_in(found.column("skipped"))
    running = found.filter(is_open)
    indexes = sorted(running.column("chunk_index").to_pylist())
    return ChunkCounts(
        planned=found.num_rows,
        ended=found.num_rows - running.num_rows,
        planned_partitions=_total(found.column("partitions")),
        done=_total(found.column("done")),
        failed=failed,
        skipped=skipped,
        open=tuple(indexes),
        oldest_open_ms=pc.min(running.column("planned_at")).as_py() if running.num_rows else None,
        last_minute=_total(found.filter(_since(ended_at, now_ms - _MINUTE_MS)).column("partitions")),
        last_five=_total(found.filter(_since(ended_at, now_ms - 5 * _MINUTE_MS)).column("partitions")),
        first_ms=pc.min(found.column("planned_at")).as_py(),
        last_version=pc.max(found.column("row_version")).as_py(),
    )


def progress_of(known: KnownBackfill, counts: ChunkCounts, now_ms: int) -> BackfillProgress:
    """Return how far a backfill is. The estimate is by what the last five minutes did, or all since its first chunk."""
    row = known.row
    waiting = max(0, row.total_partitions - counts.planned_partitions)
    running = counts.planned_partitions - counts.ended_partitions
    lasted_ms = 0 if counts.first_ms is None else max(1_000, now_ms - counts.first_ms)
    five = _rate(counts.last_five, min(5 * _MINUTE_MS, lasted_ms))
    left = waiting + running
    over = row.state not in OPEN_STATES
    return BackfillProgress(
        total=row.total_partitions,
        done=counts.done,
        failed=counts.failed,
        skipped=counts.skipped,
        running=running,
        waiting=waiting,
        chunks=known.chunks,
        chunks_planned=counts.planned,
        chunks_ended=counts.ended,
        chunks_running=len(counts.open),
        rate_1m=_rate(counts.last_minute, min(_MINUTE_MS, lasted_ms)),
        rate_5m=five,
        remaining_ms=None if over or not five else left * 1_000_000 // five,
        oldest_running_ms=counts.oldest_open_ms,
        last_event_id=max(filter(None, (row.row_version, counts.last_version))),
    )


def view_of(snapshot: StateSnapshot, known: KnownBackfill, counts: ChunkCounts) -> BackfillView:
    """Return a backfill as it is decided on; the tasks of runs that have ended are not read."""
    row, member = known.row, known.member
    assert row.code_version is not None
    return BackfillView(
        backfill_id=row.backfill_id,
        state=row.state,
        state_version=row.state_version,
        assets=known.assets,
        manifest_id=row.code_version,
        total=row.total_partitions,
        chunk_size=row.chunk_size,
        limit=row.max_concurrent_runs,
        planned=row.planned_chunks,
        open=_open_chunks(snapshot, row.backfill_id, counts.open),
        not_done=counts.failed + counts.skipped,
        order=member.order or "oldest_first",
        priority=member.priority or 0,
        held=is_held(snapshot),
    )


def ended_runs(view: BackfillView) -> list[str]:
    """Return the runs of open chunks that have ended: their tasks are to be read."""
    return [
        chunk.run_id
        for chunk in view.open
        if chunk.run_id is not None and chunk.run is not None and chunk.run.state in FINISHED_RUN
    ]


def states_of(snapshot: StateSnapshot, run_id: str) -> dict[str, list[str]]:
    """Return the states of a run's tasks by partition; of the snapshot the table `tasks` is needed."""
    found: dict[str, list[str]] = {}
    rows: Any = snapshot["tasks"].below((run_id,))
    for task in (TaskRow(*row) for row in rows):
        if task.partition_key is not None:
            found.setdefault(task.partition_key, []).append(task.state)
    return found


def missed_keys(snapshot: StateSnapshot, backfill_id: str) -> list[str]:
    """Return the partitions of the ended chunks of a backfill that failed or were skipped, in the order of chunks."""
    of_it = equals(X_CHUNKS, "backfill_id", [backfill_id])
    names = ("chunk_index", "failed", "skipped")
    found = snapshot["x_chunks"].columns(names, start=f"{backfill_id}:", before=f"{backfill_id};", where=of_it)
    if not found.num_rows:
        return []
    missed = found.filter(pc.or_(pc.is_valid(found.column("failed")), pc.is_valid(found.column("skipped"))))
    rows = sorted(missed.to_pylist(), key=lambda row: int(row["chunk_index"]))
    return [key for row in rows for name in ("failed", "skipped") for key in orjson.loads(row[name] or "[]")]


def _known(snapshot: StateSnapshot, row: BackfillRow) -> KnownBackfill | None:
    member = settings_of(snapshot, row)
    return None if member is None else KnownBackfill(row, member)


def _open_chunks(snapshot: StateSnapshot, backfill_id: str, indexes: Sequence[int]) -> tuple[OpenChunk, ...]:
    """Return the chunks without an end: there may be a thousand, so that each table is asked once for all."""
    chunks = snapshot["backfill_chunks"].get_all(backfill_chunk_id(backfill_id, index) for index in indexes)
    asked = snapshot["run_key_index"].get_all(backfill_run_key(backfill_id, index) for index in indexes)
    requests = {key: RunKeyRow(*cast(Any, row)) for key, row in asked.items()}
    run_ids = [request.run_id for request in requests.values()]
    runs = {key: RunRow(*cast(Any, row)) for key, row in snapshot["runs"].get_all(run_ids).items()}
    own = {key: OwnRunRow(*cast(Any, row)) for key, row in snapshot["x_runs"].get_all(runs).items()}
    found = []
    for index in indexes:
        chunk = ChunkRow(*cast(Any, chunks[backfill_chunk_id(backfill_id, index)]))
        keys = tuple(json.loads(chunk.partition_keys))
        run_key = backfill_run_key(backfill_id, index)
        request = requests.get(run_key)
        if request is None:
            # A key of the first request without one now: retention has removed run and request.
            removed = snapshot["x_run_keys"].has(run_key)
            found.append(OpenChunk(index, keys, None, removed=removed))
        elif (run := runs.get(request.run_id)) is None:
            found.append(OpenChunk(index, keys, request.run_id, request_event_id=request.row_version))
        else:
            ours = own.get(run.run_id)
            reason = None if ours is None else ours.cancel_reason_code
            found.append(OpenChunk(index, keys, run.run_id, ChunkRun(run.state, run.cancel_requested, None, reason)))
    return tuple(found)


def with_states(view: BackfillView, states: Mapping[str, Mapping[str, Sequence[str]]]) -> BackfillView:
    """Return the view with the states of tasks of runs that have ended, by run and partition."""
    return replace(view, open=tuple(_with_states(chunk, states) for chunk in view.open))


def _with_states(chunk: OpenChunk, states: Mapping[str, Mapping[str, Sequence[str]]]) -> OpenChunk:
    if chunk.run is None or chunk.run_id is None or chunk.run_id not in states:
        return chunk
    return replace(chunk, run=replace(chunk.run, states=states[chunk.run_id]))


def _total(values: pa.ChunkedArray) -> int:
    return int(pc.sum(values).as_py() or 0)


def _since(times: pa.ChunkedArray, ms: int) -> pa.ChunkedArray:
    return pc.fill_null(pc.greater_equal(times, pa.scalar(ms, times.type)), False)


def _keys_in(lists: pa.ChunkedArray) -> int:
    return sum(len(orjson.loads(text)) for text in lists.drop_null().to_pylist())


def _rate(partitions: int, over_ms: int) -> int:
    return partitions * 1_000_000 // over_ms if over_ms else 0
