"""Why a partition of an asset is not there, or is stale: who makes it now, who tried last, and what changed.

An asset without partitions is asked about by its key alone.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from springline.backfills.reading import RUN_TABLES as BACKFILL_TABLES
from springline.backfills.reading import KnownBackfill, known_backfill
from springline.control.backfills.deciding import OPEN_STATES
from springline.definitions.backfills import chunk_of
from springline.definitions.ids import meant
from springline.definitions.inputs import with_inputs
from springline.definitions.manifest import DeployedAsset, DeployedNode
from springline.definitions.partitions import Partitions
from springline.errors import Code, refused
from springline.explaining.holds import HOLD_EVENT, is_hold
from springline.explaining.runs import begun_ms, run_row
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
    explain_task,
    lasted,
    unknown,
)
from springline.explaining.waits import TABLES, attempts_of, error_of, read_waits
from springline.ledger.envelope import Event
from springline.ledger.events import BackfillChunkEnded, BackfillChunkPlanned, RunRequested, TaskHeartbeat
from springline.ledger.timestamps import format_ms
from springline.projection.rows import BackfillRow, ChunkRow, OwnChunkRow, PartitionRow, TaskRow
from springline.projection.schema import (
    BACKFILL_CHUNKS,
    FAILED,
    FINISHED_RUN,
    FINISHED_TASK,
    RUNNING,
    SUCCEEDED,
    TASKS,
)
from springline.published.lists import all_of, equals, matching
from springline.published.snapshot import StateSnapshot
from springline.staleness.judging import Materialization, PartitionState, StalenessVerdict
from springline.staleness.reading import TABLES as STALENESS_TABLES
from springline.staleness.reading import AssetStands, PartitionStand

MOST_BACKFILLS: Final = 3
"""Backfills that an answer names, the latest ones."""
_TABLES: Final = tuple(dict.fromkeys((*STALENESS_TABLES, *BACKFILL_TABLES, *TABLES)))


def _asset(evidence: Evidence, question: Question) -> DeployedAsset:
    """Return the asset of a question whose partition there can be, or is on record; raises `Refused`."""
    key, wanted = question.identity, question.partition
    assets = {} if evidence.manifest is None else {one.key: one for one in evidence.manifest.assets}
    if key not in assets:
        if evidence.manifest is not None and key in evidence.manifest.nodes:
            raise refused(
                Code.NOT_FOUND,
                f"{key!r} is a task and makes no asset, so that it has no partition that could be there",
                field="asset",
                value=key,
                remedy="`springline explain task RUN TASK` tells of it in a run.",
            )
        remedy = f"{meant(key, sorted(assets))}`springline asset list` shows the assets that are deployed."
        raise unknown("deployed asset", "asset", key, remedy)
    cut = assets[key].partitions
    if wanted is not None and _former(cut, wanted) is not None and _is_on_record(evidence.rows, key, wanted):
        return assets[key]
    if cut is None and wanted is not None:
        raise unknown("partition", "partition", wanted, "It has none: leave the partition out.", of=f"asset {key}")
    if cut is not None and wanted is None:
        raise refused(
            Code.INVALID_REQUEST,
            f"asset {key} has partitions, and the question names none",
            field="partition",
            remedy=f"Give the key of one; `springline asset show {key}` shows some.",
        )
    problem = None if cut is None or wanted is None else cut.problem_of_key(wanted)
    if wanted is not None and problem is not None:
        remedy = f"It {problem}; `springline asset show {key}` shows some."
        raise unknown("partition", "partition", wanted, remedy, of=f"asset {key}")
    return assets[key]


def _former(cut: Partitions | None, partition: str) -> str | None:
    """Return why a key is none of an asset's partitions as it is deployed; None if it is one."""
    return "is no partition, for it has none" if cut is None else cut.problem_of_key(partition)


def _is_on_record(rows: StateSnapshot, asset: str, partition: str) -> bool:
    """Say whether a partition was ever tried: another definition may have cut the asset then."""
    wanted = all_of([equals(TASKS, "asset_key", [asset]), equals(TASKS, "partition_key", [partition])])
    assert wanted is not None
    return rows["partition_status"].get((asset, partition)) is not None or bool(rows["tasks"].select(wanted))


def _tasks(rows: StateSnapshot, question: Question) -> list[TaskRow]:
    """Return the tasks that make or made a partition, the latest run's last."""
    wheres = [equals(TASKS, "asset_key", [question.identity])]
    if question.partition is not None:
        wheres.append(equals(TASKS, "partition_key", [question.partition]))
    wanted = all_of(wheres)
    assert wanted is not None
    found = [TaskRow(*cast(Any, row)) for row in rows["tasks"].select(wanted)]
    return sorted(found, key=lambda one: (_begun(rows, one.run_id), one.run_id))


def _begun(rows: StateSnapshot, run_id: str) -> int:
    run = run_row(rows, run_id)
    return 0 if run is None else run.triggered_at


def _open(rows: StateSnapshot, tasks: Sequence[TaskRow]) -> list[TaskRow]:
    """Return the tasks of runs that have not ended that have not either."""
    found = [one for one in tasks if one.state not in FINISHED_TASK]
    runs = {one.run_id: run_row(rows, one.run_id) for one in found}
    return [one for one in found if (run := runs[one.run_id]) is not None and run.state not in FINISHED_RUN]


_MOST_SHOWN: Final = 5
"""Assets, and partitions, that a command names; where there are more, it makes all that is stale."""


def _aim(evidence: Evidence, question: Question) -> Aim:
    rows, now_ms = evidence.rows, question.now_ms
    _asset(evidence, question)
    tasks = _tasks(rows, question)
    last = None if not tasks else run_row(rows, tasks[-1].run_id)
    since_ms = now_ms - A_DAY_MS if last is None else begun_ms(rows, last) - MARGIN_MS
    until_ms = now_ms
    if last is not None and last.completed_at is not None:
        # Nothing of it was begun behind that: what may have been asked for meanwhile is of the last day.
        until_ms = max(last.completed_at + MARGIN_MS, min(now_ms, last.completed_at + A_DAY_MS))
    runs = {one.run_id: one.task_key for one in tasks[-2:]}
    asset, partition = question.identity, question.partition

    def concerns(event: Event) -> bool:
        data: Any = event.data
        if isinstance(data, RunRequested):
            return asset in data.asset_selection and (
                partition is None or partition in (data.partition_selection or ())
            )
        if isinstance(data, BackfillChunkPlanned):
            return partition in data.partition_keys
        if isinstance(data, BackfillChunkEnded):
            return partition in (data.failed or ()) or partition in (data.skipped or ())
        task_key = runs.get(getattr(data, "run_id", None) or "")
        if task_key is not None and not isinstance(data, TaskHeartbeat):
            return getattr(data, "task_key", task_key) == task_key
        return is_hold(event)

    mentions = (asset, *(() if partition is None else (partition,)), *runs, HOLD_EVENT)
    run_id = tasks[-1].run_id if tasks and _open(rows, tasks[-1:]) else None
    return Aim(since_ms, until_ms, mentions, concerns, run_id, tasks)


def _answer(evidence: Evidence, question: Question) -> Account:
    rows, now_ms = evidence.rows, question.now_ms
    asset = _asset(evidence, question)
    assert evidence.manifest is not None
    why = None if question.partition is None else _former(asset.partitions, question.partition)
    if why is not None:
        return _of_a_former_cut(evidence, asset, question, why)
    position = 0 if asset.partitions is None or question.partition is None else asset.partitions.position(
        question.partition
    )  # fmt: skip
    (stand,) = AssetStands(rows, evidence.manifest, now_ms).stands(asset.key, position, position + 1)
    tasks = evidence.tasks
    made = _made_text(stand, now_ms)
    backfills = _of_backfills(rows, asset, question.partition)
    under_way = _open(rows, tasks)
    if under_way:
        return _being_made(evidence, under_way[-1], f"{made}{_stale_text(stand, asset, now_ms)}", backfills, now_ms)
    text = made + _stale_text(stand, asset, now_ms) + _tried_text(rows, stand, tasks, now_ms)
    text += "".join(f" {one}." for one in backfills)
    last = tasks[-1] if tasks else None
    failed = last is not None and last.state == FAILED
    steps = [] if last is None or last.state == SUCCEEDED else [explain_task(last.run_id, last.task_key)]
    state = stand.verdict.state
    code = None if state is PartitionState.CURRENT else state.value
    if stand.verdict.stale:
        steps.append(_make(evidence.manifest.nodes, asset, question.partition, now_ms))
    if state is PartitionState.OPEN and not failed:
        return Account(Verdict.NOT_DUE, text, code, next_steps=steps)
    if failed:
        return Account(Verdict.FAILED, text, code, next_steps=steps)
    if state is PartitionState.CURRENT:
        return Account(Verdict.DONE, text, code, next_steps=steps)
    return Account(Verdict.WAITS, text, code, ["somebody or something that asks for a run of it"], steps)


def _of_a_former_cut(evidence: Evidence, asset: DeployedAsset, question: Question, why: str) -> Account:
    """Tell of a partition that an earlier definition of its asset had, and the deployed one has not."""
    rows, now_ms, key = evidence.rows, question.now_ms, cast(str, question.partition)
    found: Any = rows["partition_status"].get((asset.key, key))
    row = None if found is None else PartitionRow(*found)
    made = None if row is None or row.last_materialization_at is None else Materialization(row.last_materialization_at)
    verdict = StalenessVerdict(PartitionState.CURRENT)
    stand = PartitionStand(key, verdict, made, None if row is None else row.last_materialization_run_id, row)
    text = f"As {asset.key} is deployed now, {key!r} {why}. {_made_text(stand, now_ms)}"
    tasks = evidence.tasks
    under_way = _open(rows, tasks)
    if under_way:
        return _being_made(evidence, under_way[-1], text, (), now_ms)
    text += _tried_text(rows, stand, tasks, now_ms)
    steps = [explain_task(tasks[-1].run_id, tasks[-1].task_key)] if tasks else []
    return Account(Verdict.OFF, text, next_steps=[*steps, f"springline asset show {asset.key}"])


def _being_made(evidence: Evidence, task: TaskRow, text: str, backfills: Sequence[str], now_ms: int) -> Account:
    steps = [explain_task(task.run_id, task.task_key)]
    what = f"{text} Run {task.run_id} is to make it: {task.task_key} is {task.state}"
    more = "".join(f" {one}." for one in backfills)
    if task.state == RUNNING:
        since = "" if task.started_at is None else f", attempt {task.attempt}, since {ago(task.started_at, now_ms)}"
        return Account(Verdict.UNDER_WAY, f"{what}{since}.{more}", next_steps=steps)
    wait = read_waits(evidence.rows, task.run_id, evidence.pool_waits, now_ms).of(task)
    return Account(Verdict.WAITS, f"{what}.{more}", waits_for=[wait.text], next_steps=steps)


def _made_text(stand: PartitionStand, now_ms: int) -> str:
    if stand.made is None:
        return "It was never made."
    code = "" if stand.made.code_version is None else f", by code version {stand.made.code_version}"
    run = "" if stand.run_id is None else f" by run {stand.run_id}"
    return f"It was last made at {ago(stand.made.at_ms, now_ms)}{run}{code}."


def _stale_text(stand: PartitionStand, asset: DeployedAsset, now_ms: int) -> str:
    """Say why it is stale, as the rules of docs/protocol.md#staleness have it."""
    said = stand.verdict
    since = "" if said.since_ms is None else f", since {ago(said.since_ms, now_ms)}"
    match said.state:
        case PartitionState.CURRENT:
            return " It is made from what there is now."
        case PartitionState.OPEN:
            return " Its time has not ended: nothing is missing yet."
        case PartitionState.NEVER_MATERIALIZED:
            return "" if said.since_ms is None else f" Its time ended at {ago(said.since_ms, now_ms)}."
        case PartitionState.CODE_CHANGED:
            return f" It is stale: the deployed code version is {asset.code_version}."
        case PartitionState.UPSTREAM_NEVER_MATERIALIZED:
            return f" It is stale: something that it needs of {said.upstream} was never made."
        case PartitionState.UPSTREAM_CHANGED:
            return f" It is stale{since}: {said.upstream} was made again."
        case PartitionState.FRESHNESS_POLICY:
            age = "" if asset.freshness_ms is None else f" of {lasted(asset.freshness_ms)}"
            return f" It is stale{since}: it is older than its freshness{age} allows."
    raise AssertionError(said.state)


def _tried_text(rows: StateSnapshot, stand: PartitionStand, tasks: Sequence[TaskRow], now_ms: int) -> str:
    """Say how the last attempt ended, if that is not the one that made it."""
    last = tasks[-1] if tasks else None
    if last is not None and last.state != SUCCEEDED:
        ended = "" if last.completed_at is None else f" at {ago(last.completed_at, now_ms)}"
        error = error_of(last, attempts_of(rows, last))
        why = "" if error is None else f": {error}"
        return f" {last.task_key} of run {last.run_id} ended {last.state}{ended}, with attempt {last.attempt}{why}."
    row = stand.row
    if last is None and row is not None and row.last_attempt_at is not None and row.last_attempt_outcome != SUCCEEDED:
        when = ago(row.last_attempt_at, now_ms)
        return f" Run {row.last_attempt_run_id} tried it at {when}: {row.last_attempt_outcome}."
    if last is None and stand.made is None:
        return " No run of it is on record."
    return ""


def _of_backfills(rows: StateSnapshot, asset: DeployedAsset, partition: str | None) -> list[str]:
    """Say in which chunks of which backfills a partition is: of those that go on, and of the latest others."""
    if asset.partitions is None or partition is None:
        return []
    found = [BackfillRow(*cast(Any, row)) for row in rows["backfills"]]
    of_it = [one for one in found if asset.key in json.loads(one.asset_selection)]
    of_it.sort(key=lambda one: (one.state not in OPEN_STATES, -one.created_at))
    planned = _planned_chunks(rows, partition)
    said = []
    for row in of_it:
        known = known_backfill(rows, row.backfill_id)
        chunk = planned.get(row.backfill_id)
        index = chunk.chunk_index if chunk is not None else _index_of(known, asset.partitions, partition)
        if index is not None:
            said.append(f"Chunk {index} of backfill {row.backfill_id} ({row.state}) has it: {_stands(rows, chunk)}")
        if len(said) == MOST_BACKFILLS:
            break
    return said


def _planned_chunks(rows: StateSnapshot, partition: str) -> dict[str, ChunkRow]:
    """Return the planned chunks that have a partition, by backfill."""
    text = json.dumps(partition, ensure_ascii=False)
    wanted = matching(BACKFILL_CHUNKS, "partition_keys", _literal(text))
    found = [ChunkRow(*cast(Any, row)) for row in rows["backfill_chunks"].select(wanted)]
    return {one.backfill_id: one for one in found if partition in json.loads(one.partition_keys)}


def _literal(text: str) -> str:
    """Return the regular expression (RE2) that matches a text and nothing else."""
    return "".join(one if one.isalnum() else f"\\x{{{ord(one):x}}}" for one in text)


def _stands(rows: StateSnapshot, chunk: ChunkRow | None) -> str:
    if chunk is None:
        return "it is not planned"
    found: Any = rows["x_chunks"].get(chunk.chunk_id)
    own = None if found is None else OwnChunkRow(*found)
    if own is None or own.outcome is None:
        return "it is planned and has not ended" + ("" if chunk.run_id is None else f", run {chunk.run_id}")
    return f"it ended {own.outcome}" + ("" if own.ended_at is None else f" at {format_ms(own.ended_at)}")


def _index_of(known: KnownBackfill | None, cut: Partitions, partition: str) -> int | None:
    """Return which chunk would make a partition that is in none that is planned; None if none would.

    Of a list in the store it is not known before the chunk is planned.
    """
    if known is None or known.row.state not in OPEN_STATES:
        return None
    selector, row = known.selector, known.row
    place = None
    if selector["type"] == "range":
        bounds = (selector["start"], selector["end"])
        if all(cut.problem_of_key(one) is None for one in bounds):
            first, last = (cut.position(one) for one in bounds)
            at = cut.position(partition)
            place = at - first if first <= at <= last else None
    elif selector["type"] == "explicit" and partition in selector["partition_keys"]:
        place = list(selector["partition_keys"]).index(partition)
    if place is None or place >= row.total_partitions:
        return None
    return chunk_of(place, row.chunk_size, row.total_partitions, known.member.order or "oldest_first")


def _make(nodes: Mapping[str, DeployedNode], asset: DeployedAsset, partition: str | None, now_ms: int) -> str:
    """Return the command that makes a partition, with what its parameters take."""
    now = datetime.fromtimestamp(now_ms / 1_000, UTC)
    chosen = with_inputs(nodes, {asset.key: [partition]}, now)
    keys = list(dict.fromkeys(key for of in chosen.values() for key in of))
    if len(chosen) > _MOST_SHOWN or len(keys) > _MOST_SHOWN:
        return f"springline run start {asset.key} --stale"
    # Quoted where a shell would take them apart: the bar of a partition in two dimensions is a pipe.
    return shlex.join(["springline", "run", "start", *chosen, *(part for key in keys for part in ("--partition", key))])


PARTITIONS: Final = Subject("partition", ("partition",), _TABLES, _aim, _answer, by_definitions=True)
