"""What is to be done about a backfill: which chunks have ended, which are planned next, and whether it is over.

All of it follows from the rows alone. A chunk has its id, its run key and its partitions from its position, so that it
is planned once whoever plans it, and however often (docs/protocol.md#backfills).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from springline.control.runs.planning import (
    BACKFILL_LABEL,
    PRIORITY_LABEL,
    PlanProblem,
    RunOrigin,
    unplanned_run_events,
)
from springline.definitions.backfills import Order, places_of
from springline.ledger.events import (
    BackfillChunkEnded,
    BackfillChunkPlanned,
    BackfillStateChanged,
    Payload,
    RunCancelRequested,
    RunRequested,
)
from springline.ledger.fingerprints import chunk_fingerprint
from springline.ledger.identifiers import backfill_chunk_id, backfill_run_key
from springline.ledger.member import CancelMember, ReasonMember
from springline.ledger.nested import BackfillRef, BackfillState, ManualTrigger, TaskOutcome
from springline.projection.schema import CANCELLED, FAILED, FINISHED_RUN, FINISHED_TASK, SUCCEEDED

EVALUATOR: Final = "springline"
"""Who changes the state of a backfill that has come to its end."""
MOST_PLANNED: Final = 500
"""Chunks that one pass plans; what is left is the next pass's."""
MOST_KEYS: Final = 20_000
"""And their partitions, together."""
RUNNING_BACKFILL: Final = "RUNNING"
OPEN_STATES: Final = frozenset({"PENDING", "RUNNING", "PAUSED"})
"""States of a backfill that is not over."""


class BackfillReason(StrEnum):
    """Why a chunk, a run of one or a backfill ended as it did, for programs."""

    BACKFILL_CANCELLED = "BACKFILL_CANCELLED"
    """The backfill was cancelled, and its runs with it."""
    RUN_CANCELLED = "RUN_CANCELLED"
    """The chunk's run was cancelled by itself."""
    RUN_REMOVED = "RUN_REMOVED"
    """Retention removed the chunk's run before anybody had seen its end."""
    PARTITIONS_NOT_DONE = "PARTITIONS_NOT_DONE"
    """Partitions of the backfill failed, or were skipped."""


@dataclass(frozen=True, slots=True)
class ChunkRun:
    """The run of a chunk, as the rows have it. `states`: of its tasks, by partition; read once the run has ended.

    `reason_code`: why it was cancelled, if it was.
    """

    state: str
    cancel_requested: bool = False
    states: Mapping[str, Sequence[str]] | None = None
    reason_code: str | None = None


@dataclass(frozen=True, slots=True)
class OpenChunk:
    """A chunk that is planned and has not ended. `run_id` None: no run is asked for. `run` None: it has not begun.

    `removed`: its run has been there, and retention has removed it.
    """

    index: int
    keys: tuple[str, ...]
    run_id: str | None
    run: ChunkRun | None = None
    removed: bool = False
    request_event_id: str | None = None


@dataclass(frozen=True, slots=True)
class BackfillView:
    """A backfill as the rows have it.

    `planned`: the index of the next chunk. `open`: chunks without an end. `not_done`: partitions of chunks that have
    ended which failed or were skipped. `limit`: how many chunks may be open at once.
    """

    backfill_id: str
    state: str
    state_version: int
    assets: tuple[str, ...]
    manifest_id: str
    total: int
    chunk_size: int
    limit: int
    planned: int = 0
    open: tuple[OpenChunk, ...] = ()
    not_done: int = 0
    order: Order = "oldest_first"
    priority: int = 0
    held: bool = False

    @property
    def chunks(self) -> int:
        """How many chunks it has."""
        return -(-self.total // self.chunk_size)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do: it has ended, and so have its chunks."""
        return self.state not in OPEN_STATES and not self.open

    def places(self, index: int) -> range:
        """Return the places of the partitions of a chunk."""
        return places_of(index, self.chunk_size, self.total, self.order)


def ended_chunks(view: BackfillView) -> list[BackfillChunkEnded]:
    """Return the ends of the chunks whose runs have ended and which are not recorded as ended."""
    return [end for chunk in view.open if (end := _end_of(view, chunk)) is not None]


def after(view: BackfillView, ends: Sequence[BackfillChunkEnded]) -> BackfillView:
    """Return the view when these ends are recorded."""
    ended = {one.chunk_index for one in ends}
    missed = sum(len(one.failed or ()) + len(one.skipped or ()) for one in ends)
    left = tuple(chunk for chunk in view.open if chunk.index not in ended)
    return replace(view, open=left, not_done=view.not_done + missed)


def chunks_to_plan(view: BackfillView) -> range:
    """Return the indexes of the chunks that are to be planned now."""
    if view.state != RUNNING_BACKFILL or view.held:
        return range(0)
    most = min(MOST_PLANNED, max(1, MOST_KEYS // view.chunk_size), view.limit - len(view.open))
    return range(view.planned, max(view.planned, min(view.chunks, view.planned + most)))


def planned_chunk(view: BackfillView, index: int, keys: Sequence[str]) -> tuple[BackfillChunkPlanned, RunRequested]:
    """Return the events that plan a chunk; `keys` are those of its partitions. They are appended together."""
    chunk = BackfillChunkPlanned(
        backfill_id=view.backfill_id,
        chunk_id=backfill_chunk_id(view.backfill_id, index),
        chunk_index=index,
        partition_keys=list(keys),
        run_key=backfill_run_key(view.backfill_id, index),
        request_fingerprint=chunk_fingerprint(keys),
    )
    return chunk, _request_of(view, index, keys)


def missing_requests(view: BackfillView) -> list[RunRequested]:
    """Return the requests for runs of chunks that another writer has planned without one."""
    if view.state != RUNNING_BACKFILL or view.held:
        return []
    return [_request_of(view, one.index, one.keys) for one in view.open if one.run_id is None]


def cancelled_runs(view: BackfillView) -> list[list[Payload]]:
    """Return the events that end the runs of a cancelled backfill: of each run, to be appended whole."""
    if view.state != CANCELLED:
        return []
    return [events for chunk in view.open if (events := _cancelled(view, chunk))]


def end_of(view: BackfillView) -> BackfillStateChanged | None:
    """Return the event that ends a backfill whose chunks have all ended; None if it goes on."""
    if view.state != RUNNING_BACKFILL or view.planned < view.chunks or view.open:
        return None
    failed = view.not_done > 0
    return state_change(
        view.backfill_id,
        "RUNNING",
        "FAILED" if failed else "SUCCEEDED",
        view.state_version,
        EVALUATOR,
        reason_code=BackfillReason.PARTITIONS_NOT_DONE if failed else None,
    )


def work_due(view: BackfillView) -> str | None:
    """Return what a pass over a backfill would do now, in words, as far as rows without tasks tell; None for nothing.

    A run that has ended is the end of its chunk; all else is told by the decisions themselves.
    """
    if any(one.removed or (one.run is not None and one.run.state in FINISHED_RUN) for one in view.open):
        return "record the end of a chunk, whose run has ended"
    if cancelled_runs(view):
        return "cancel runs"
    if chunks_to_plan(view):
        return "plan chunks"
    if missing_requests(view):
        return "ask for the run of a chunk"
    return None if end_of(view) is None else "end the backfill"


def state_change(
    backfill_id: str,
    from_state: BackfillState,
    to_state: BackfillState,
    state_version: int,
    changed_by: str,
    *,
    reason_code: BackfillReason | None = None,
) -> BackfillStateChanged:
    """Return the event that changes the state of a backfill which is at `state_version`."""
    return BackfillStateChanged(
        backfill_id=backfill_id,
        from_state=from_state,
        to_state=to_state,
        state_version=state_version + 1,
        changed_by=changed_by,
        springline=None if reason_code is None else msgspec.to_builtins(ReasonMember(reason_code=str(reason_code))),
    )


def _request_of(view: BackfillView, index: int, keys: Sequence[str]) -> RunRequested:
    labels = {BACKFILL_LABEL: view.backfill_id}
    if view.priority:
        labels[PRIORITY_LABEL] = str(view.priority)
    return RunRequested(
        run_key=backfill_run_key(view.backfill_id, index),
        request_fingerprint=chunk_fingerprint(keys),
        asset_selection=list(view.assets),
        trigger_source_ref=BackfillRef(view.backfill_id, backfill_chunk_id(view.backfill_id, index)),
        partition_selection=list(keys),
        labels=labels,
        code_version=view.manifest_id,
    )


def _end_of(view: BackfillView, chunk: OpenChunk) -> BackfillChunkEnded | None:
    if chunk.removed:
        return _ended(view, chunk, "failed", chunk.keys, (), BackfillReason.RUN_REMOVED)
    if chunk.run_id is None:
        # Nobody asked for its run in time, and nobody will.
        over = view.state not in OPEN_STATES
        return _ended(view, chunk, "cancelled", (), chunk.keys, BackfillReason.BACKFILL_CANCELLED) if over else None
    run = chunk.run
    if run is None or run.state not in FINISHED_RUN or run.states is None:
        return None
    if not run.states and run.reason_code in PlanProblem.__members__:
        return _ended(view, chunk, "failed", chunk.keys, (), run.reason_code)
    if any(state not in FINISHED_TASK for states in run.states.values() for state in states):
        # The tasks are older rows than the run.
        return None
    failed, skipped = [], []
    for key in chunk.keys:
        states = run.states.get(key, ())
        if FAILED in states:
            failed.append(key)
        elif not states or any(state != SUCCEEDED for state in states):
            skipped.append(key)
    outcome: TaskOutcome = "failed" if failed or skipped else "succeeded"
    reason: str | None = None
    if outcome == "failed" and run.state == CANCELLED:
        outcome = "cancelled"
        reason = run.reason_code or BackfillReason.RUN_CANCELLED
    return _ended(view, chunk, outcome, failed, skipped, reason)


def _ended(
    view: BackfillView,
    chunk: OpenChunk,
    outcome: TaskOutcome,
    failed: Sequence[str],
    skipped: Sequence[str],
    reason_code: str | None,
) -> BackfillChunkEnded:
    return BackfillChunkEnded(
        backfill_id=view.backfill_id,
        chunk_id=backfill_chunk_id(view.backfill_id, chunk.index),
        chunk_index=chunk.index,
        outcome=outcome,
        done=len(chunk.keys) - len(failed) - len(skipped),
        failed=list(failed) or None,
        skipped=list(skipped) or None,
        reason_code=None if reason_code is None else str(reason_code),
    )


def _cancelled(view: BackfillView, chunk: OpenChunk) -> list[Payload]:
    if chunk.run_id is None or chunk.removed:
        return []
    why = f"backfill {view.backfill_id} was cancelled"
    if chunk.run is None:
        origin = RunOrigin(
            run_id=chunk.run_id,
            run_key=backfill_run_key(view.backfill_id, chunk.index),
            trigger=ManualTrigger(user_id=f"backfill {view.backfill_id}"),
            root_assets=view.assets,
            manifest_id=view.manifest_id,
            request_event_id=chunk.request_event_id,
            labels={BACKFILL_LABEL: view.backfill_id},
        )
        return list(unplanned_run_events(origin, BackfillReason.BACKFILL_CANCELLED, why))
    if chunk.run.state in FINISHED_RUN or chunk.run.cancel_requested:
        return []
    member = CancelMember(reason_code=str(BackfillReason.BACKFILL_CANCELLED))
    return [RunCancelRequested(chunk.run_id, EVALUATOR, why, springline=msgspec.to_builtins(member))]
