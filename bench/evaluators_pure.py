"""Schedules and backfills without a stack: what is decided in a second, and what history adds to a pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from springline.control.backfills.deciding import BackfillView, chunks_to_plan, planned_chunk
from springline.control.schedules.deciding import ScheduleView, decide
from springline.definitions.backfills import Span
from springline.definitions.partitions import PartitionKind, Partitions
from springline.definitions.schedules import ScheduledRun
from springline.ledger.envelope import as_event
from springline.ledger.identifiers import schedule_run_key, tick_id
from springline.projection.rows import DefinitionRow, RunKeyRow, RunRow, ScheduleRow, TickRow
from springline.projection.schema import SCHEDULE, TABLES, Row
from springline.published.reader import UNPUBLISHED
from springline.published.snapshot import StateSnapshot, TableRows
from springline.schedules.evaluating import views_of
from springline.schedules.reading import TABLES as READ
from springline.ulids import new_ulid

NOW_S: Final = 1_760_000_000 // 3_600 * 3_600
SCHEDULES: Final = 200
LIMITED: Final = 10
"""Of these, so many have a limit of runs: their runs are counted in every pass."""
REPEATS: Final = 7
CHUNK: Final = 10
"""Partitions of a chunk, if nobody says."""


def decisions_a_second(schedules: int = 500, instants: int = 100) -> float:
    """Return how many instants one core decides on in a second: a tick and a request for a run each."""
    views = [
        ScheduleView(
            schedule_id=f"s{number}",
            version=new_ulid(None, NOW_S * 1_000, number),
            cron="* * * * *",
            timezone="Europe/Oslo",
            select=("raw",),
            evaluated_to=NOW_S,
            dialect="unix",
            max_catchup_ticks=instants,
            manifest_id=new_ulid(None, NOW_S * 1_000, 1),
        )
        for number in range(schedules)
    ]
    run = ScheduledRun(("raw",), None)

    def plan(terms: Sequence[str], instant: datetime) -> ScheduledRun:
        return run

    due_ms = (NOW_S + 60 * instants) * 1_000
    best = 0.0
    for _ in range(3):
        began = time.process_time()
        decided = sum(len(decide(view, due_ms, plan).events) // 2 for view in views)
        best = max(best, decided / (time.process_time() - began))
    assert decided == schedules * instants, f"{decided} instants were decided on"
    return best


def chunks_a_second(chunks: int = 5_000) -> float:
    """Return how many chunks of a backfill one core decides on in a second: keys, and two events to be appended each.

    So many chunks are decided on in passes, as if all of them might run at once.
    """
    cut = Partitions(PartitionKind.HOURLY, start="1900-01-01T00")
    span = Span(cut, 0, chunks * CHUNK)
    view = BackfillView(
        backfill_id="bf_bench",
        state="RUNNING",
        state_version=1,
        assets=("raw", "clean"),
        manifest_id=new_ulid(None, NOW_S * 1_000, 1),
        total=len(span),
        chunk_size=CHUNK,
        limit=chunks,
    )
    best = 0.0
    for _ in range(3):
        began = time.process_time()
        now, events = view, 0
        while due := chunks_to_plan(now):
            for index in due:
                events += len([as_event(one) for one in planned_chunk(now, index, span.keys(now.places(index)))])
            now = replace(now, planned=due.stop)
        best = max(best, events / 2 / (time.process_time() - began))
        assert events == 2 * chunks, f"{events} events of {chunks} chunks"
    return best


def pass_ms(ticks: int, runs: int) -> float:
    """Return how long a pass takes that finds nothing due, in ms, over rows with so much history.

    The rows are as a warm evaluator holds them when a round has just been published: one file with the history, and one
    small delta on top, whose rows are counted as the reader counts them.
    """
    tables = _tables(ticks, runs)
    delta = next(iter(_ticks(1, first=ticks)))

    def once() -> float:
        began = time.process_time()
        laid = tables | {"schedule_ticks": tables["schedule_ticks"].changed([delta], [])}
        assert len(laid["schedule_ticks"]) == ticks + 1
        views = views_of(StateSnapshot(UNPUBLISHED, laid), NOW_S * 1_000)
        decided = [decide(view, NOW_S * 1_000, _nothing) for view in views]
        took = time.process_time() - began
        assert len(views) == SCHEDULES
        assert not any(one.events for one in decided)
        return 1_000 * took

    once()
    return sorted(once() for _ in range(REPEATS))[REPEATS // 2]


def _nothing(terms: Sequence[str], instant: datetime) -> ScheduledRun:
    raise AssertionError("nothing is due")


def _tables(ticks: int, runs: int) -> dict[str, TableRows]:
    rows: dict[str, Callable[[], Iterator[Row]]] = {
        "schedule_definitions": _definitions,
        "x_definitions": _own_definitions,
        "schedule_ticks": lambda: _ticks(ticks, first=0),
        "runs": lambda: _runs(runs),
        "run_key_index": lambda: _requests(runs),
    }
    return {name: TableRows.of(TABLES[name], rows[name]() if name in rows else ()) for name in READ}


def _id(number: int) -> str:
    return new_ulid(None, NOW_S * 1_000 - 10_000_000 + number, number)


def _as_row(row: Any) -> Row:
    return tuple(getattr(row, name) for name in row.__struct_fields__)


def _definitions() -> Iterator[Row]:
    for number in range(SCHEDULES):
        row = ScheduleRow(
            tenant_id="bench",
            workspace_id="bench",
            schedule_id=f"s{number}",
            cron_expression="0 * * * *",
            timezone="UTC",
            catchup_window_minutes=60,
            asset_selection='["raw"]',
            code_version=_id(0),
            max_catchup_ticks=1,
            enabled=True,
            created_at=NOW_S * 1_000,
            row_version=_id(number),
        )
        yield _as_row(row)


def _own_definitions() -> Iterator[Row]:
    for number in range(SCHEDULES):
        settings = '{"dialect":"unix","overlap":"skip"}' if number < LIMITED else '{"dialect":"unix"}'
        made_ms = NOW_S * 1_000 - 10_000_000
        row = DefinitionRow(
            SCHEDULE, f"s{number}", made_ms, made_ms, _id(0), settings, _id(number), decided_to=NOW_S * 1_000
        )
        yield _as_row(row)


def _ticks(count: int, *, first: int) -> Iterator[Row]:
    for number in range(first, first + count):
        schedule, at = f"s{number % SCHEDULES}", NOW_S - 3_600 * (number // SCHEDULES)
        key = schedule_run_key(schedule, at)
        row = TickRow(
            "bench", "bench", tick_id(schedule, at), schedule, at * 1_000, _id(0), '["raw"]', None,
            '{"status":"triggered"}', key, f"run_{number}", "f", _id(number),
        )  # fmt: skip
        yield _as_row(row)


def _runs(count: int) -> Iterator[Row]:
    begun = RunRow(
        "", "p", "SUCCEEDED", None, False, 1, 1, 1, 0, 0, 0, NOW_S * 1_000, NOW_S * 1_000, None, _id(0), _id(0)
    )
    columns = len(TABLES["runs"].columns)
    for number in range(count):
        schedule, at = f"s{number % SCHEDULES}", NOW_S - 3_600 * (number // SCHEDULES)
        begun.run_id, begun.run_key = f"run_{number}", schedule_run_key(schedule, at)
        yield _as_row(begun)[:columns]


def _requests(count: int) -> Iterator[Row]:
    asked = RunKeyRow("bench", "bench", "", "", "f", _id(0), NOW_S * 1_000, _id(0))
    for number in range(count):
        schedule, at = f"s{number % SCHEDULES}", NOW_S - 3_600 * (number // SCHEDULES)
        yield _as_row(_with(asked, run_key=schedule_run_key(schedule, at), run_id=f"run_{number}"))


def _with(row: RunKeyRow, **changed: Any) -> RunKeyRow:
    values = {name: getattr(row, name) for name in row.__struct_fields__}
    return RunKeyRow(**(values | changed))
