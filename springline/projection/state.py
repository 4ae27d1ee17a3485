"""The projections in memory: the state that the fold changes, with ways to load and export rows.

See docs/protocol.md#state-of-a-set, docs/protocol.md#cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, TypeVar

import pyarrow as pa
from msgspec import Struct

from springline.projection import rows as r
from springline.projection import schema
from springline.projection.config import FoldConfig
from springline.projection.families import Families, RunExpiry
from springline.projection.schema import Key, Row, Table
from springline.projection.stored import StoredRows
from springline.projection.tables import (
    AgingTable,
    Codec,
    GroupedTable,
    RowChange,
    RowTable,
    StoredTable,
    UsedKeyCodec,
)
from springline.projection.views import CatalogTable, EdgesView, RunsView, TasksView

R = TypeVar("R", bound=Struct)

_NO_TASKS: Final[Mapping[str, r.TaskRow]] = MappingProxyType({})


class State:
    """The projection tables of a workspace, the reference's and our own, folded up to `last_event_id`.

    Rows that look-ups return are live: they show later changes, and the caller must not change them.

    Args:
        config: the scope of the events, and the rules of the fold.
    """

    def __init__(self, config: FoldConfig) -> None:
        self.config = config
        self.last_event_id = ""
        """The last folded event; the code that loads rows sets it, and the frontier."""
        self.frontier_ms: int | None = None
        """The time up to which retention has deleted rows, in epoch milliseconds; None before the first event, or
        without retention."""
        self.prunes = config.retention_days is not None
        self.expiry = RunExpiry() if config.retention_days else None
        self.families = Families(self.expiry.note if self.expiry is not None else None)
        self.timers = self._by_run(schema.TIMERS, r.TimerRow)
        self.outbox = self._by_run(schema.DISPATCH_OUTBOX, r.DispatchRow)
        self.sensors = RowTable(Codec(schema.SENSOR_STATE, r.SensorRow))
        evaluations = Codec(schema.SENSOR_EVALS, r.EvaluationRow)
        self.evaluations = (
            AgingTable(evaluations, lambda row: row.evaluated_at, "evaluated_at")
            if self.prunes
            else RowTable(evaluations)
        )
        self.run_keys = self._by_run(schema.RUN_KEY_INDEX, r.RunKeyRow)
        conflicts = Codec(schema.RUN_KEY_CONFLICTS, r.ConflictRow)
        self.conflicts = (
            GroupedTable(conflicts, lambda row: row.run_key, "run_key") if self.expiry else RowTable(conflicts)
        )
        self.partitions = RowTable(Codec(schema.PARTITION_STATUS, r.PartitionRow))
        self.keys = self._used_keys(schema.IDEMPOTENCY_KEYS)
        self.schedules = RowTable(Codec(schema.SCHEDULE_DEFINITIONS, r.ScheduleRow))
        self.schedule_states = RowTable(Codec(schema.SCHEDULE_STATE, r.ScheduleStateRow))
        self.ticks = RowTable(Codec(schema.SCHEDULE_TICKS, r.TickRow))
        self.backfills = RowTable(Codec(schema.BACKFILLS, r.BackfillRow))
        self.chunks = RowTable(Codec(schema.BACKFILL_CHUNKS, r.ChunkRow))
        self.own_runs = self._by_run(schema.X_RUNS, r.OwnRunRow)
        self.attempts = self._by_run(schema.X_ATTEMPTS, r.AttemptRow)
        self.notes = self._by_run(schema.X_NOTES, r.NoteRow)
        self.first_requests = RowTable(Codec(schema.X_RUN_KEYS, r.FirstRequestRow))
        self.definitions = RowTable(Codec(schema.X_DEFINITIONS, r.DefinitionRow))
        self.own_sensors = RowTable(Codec(schema.X_SENSORS, r.OwnSensorRow))
        self.messages = RowTable(Codec(schema.X_MESSAGES, r.MessageRow))
        self.own_chunks = RowTable(Codec(schema.X_CHUNKS, r.OwnChunkRow))
        self.holds = RowTable(Codec(schema.X_HOLDS, r.HoldRow))
        self.own_keys = self._used_keys(schema.X_KEYS)
        self._plain: dict[str, RowTable[Any]] = {
            schema.TIMERS.name: self.timers,
            schema.DISPATCH_OUTBOX.name: self.outbox,
            schema.SENSOR_STATE.name: self.sensors,
            schema.SENSOR_EVALS.name: self.evaluations,
            schema.RUN_KEY_INDEX.name: self.run_keys,
            schema.RUN_KEY_CONFLICTS.name: self.conflicts,
            schema.PARTITION_STATUS.name: self.partitions,
            schema.IDEMPOTENCY_KEYS.name: self.keys,
            schema.SCHEDULE_DEFINITIONS.name: self.schedules,
            schema.SCHEDULE_STATE.name: self.schedule_states,
            schema.SCHEDULE_TICKS.name: self.ticks,
            schema.BACKFILLS.name: self.backfills,
            schema.BACKFILL_CHUNKS.name: self.chunks,
            schema.X_RUNS.name: self.own_runs,
            schema.X_ATTEMPTS.name: self.attempts,
            schema.X_NOTES.name: self.notes,
            schema.X_RUN_KEYS.name: self.first_requests,
            schema.X_DEFINITIONS.name: self.definitions,
            schema.X_SENSORS.name: self.own_sensors,
            schema.X_MESSAGES.name: self.messages,
            schema.X_CHUNKS.name: self.own_chunks,
            schema.X_HOLDS.name: self.holds,
            schema.X_KEYS.name: self.own_keys,
        }
        self._tables: dict[str, StoredTable] = {
            schema.RUNS.name: RunsView(self.families),
            schema.TASKS.name: TasksView(self.families),
            schema.CATALOG_RUN_INDEX.name: CatalogTable(self.families, config.tenant, config.workspace),
            schema.DEP_SATISFACTION.name: EdgesView(self.families),
            **self._plain,
        }
        aging = (self.evaluations, self.keys, self.own_keys)
        self.aging = tuple(table for table in aging if isinstance(table, AgingTable))
        self._stored: dict[str, StoredRows] = {}
        self._tracking = False
        self._accepted: tuple[str, int | None] = ("", None)

    def _by_run(self, table: Table, kind: type[R]) -> RowTable[R]:
        codec = Codec(table, kind)
        return RowTable(codec) if self.expiry is None else GroupedTable(codec, attrgetter("run_id"), "run_id")

    def _used_keys(self, table: Table) -> RowTable[r.UsedKeyRow]:
        codec = UsedKeyCodec(table, self.config.tenant, self.config.workspace)
        return AgingTable(codec, lambda row: row.recorded_at, "recorded_at") if self.prunes else RowTable(codec)

    # Stored rows.

    def rows(self, table: str) -> Iterator[Row]:
        """Yield the rows of a table, in any order."""
        return self._tables[table].export()

    def row(self, table: str, key: Key) -> Row | None:
        """Return the row with a key, or None."""
        return self._tables[table].find(key)

    def count(self, table: str) -> int:
        """Return how many rows a table has. For runs, tasks, edges and catalog rows this counts them one by one."""
        return len(self._tables[table])

    def pieces(self, table: str) -> Iterator[pa.Table]:
        """Yield the rows of a table as Arrow tables, in order of keys."""
        return self._tables[table].pieces()

    @property
    def rows_read(self) -> int:
        """How many stored rows were read into memory one by one, because events touched them."""
        return sum(stored.read for stored in self._stored.values())

    def attach(self, stored: Mapping[str, StoredRows]) -> None:
        """Begin with stored rows of all tables; they are read when events touch them.

        Raises `ValueError` for a state that has rows, `DamagedTable` for stored ones that cannot be read.
        """
        self._stored = dict(stored)
        self.families.attach({name: stored[name] for name in self._tables.keys() - self._plain.keys()})
        for name, table in self._plain.items():
            table.attach(stored[name])
        if self.expiry is not None:
            self.expiry.note_stored(stored[schema.RUNS.name])

    def fetch(self, run_ids: Iterable[str]) -> None:
        """Read the stored rows of runs that will be needed soon: all at once, each part of a file once.

        Raises `DamagedTable`.
        """
        if self.families.over is not None:
            for run_id in sorted(run_ids):
                self.families.over.get(run_id)

    def load_rows(self, table: str, rows: Iterable[Row]) -> None:
        """Load stored rows, each in the place of an older one with its key.

        The tables of a state may come in any order. Of catalog rows only stamp and time are taken; the rest follows
        from runs and tasks. Raises `ValueError` while folded changes are neither accepted nor rolled back.
        """
        self._refuse_with_changes()
        self._tables[table].load(rows)

    def unload(self, table: str, key: Key) -> None:
        """Remove a row, if there is one. Raises `ValueError` as `load_rows`."""
        self._refuse_with_changes()
        self._tables[table].unload(key)

    def _refuse_with_changes(self) -> None:
        if self.families.touched or any(table.touched for table in self._plain.values()):
            raise ValueError("changes are neither accepted nor rolled back: decide on them before loading rows")

    # Changes.

    @property
    def tracking(self) -> bool:
        """Whether before-images are kept. Setting it accepts what was folded so far."""
        return self._tracking

    @tracking.setter
    def tracking(self, on: bool) -> None:
        self._tracking = on
        self.accept()

    def changes(self) -> dict[str, list[RowChange]]:
        """Return the rows that differ from the last accept, by table; raises `ValueError` unless `tracking`."""
        self._refuse_without_tracking()
        found = {name: table.changes() for name, table in self._tables.items()}
        return {name: changes for name, changes in found.items() if changes}

    def accept(self) -> None:
        """Make the current state the one that `changes` compares with and `rollback` goes back to."""
        self._accepted = (self.last_event_id, self.frontier_ms)
        self.families.track(self._tracking)
        for table in self._plain.values():
            table.track(self._tracking)

    def rollback(self) -> None:
        """Go back to the last accept; raises `ValueError` unless `tracking`."""
        self._refuse_without_tracking()
        self.last_event_id, self.frontier_ms = self._accepted
        self.families.rollback()
        for table in self._plain.values():
            table.rollback()

    def _refuse_without_tracking(self) -> None:
        if not self._tracking:
            raise ValueError("no changes are kept: set `tracking` before folding")

    # Look-ups.

    def run(self, run_id: str) -> r.RunRow | None:
        """Return a run's row, or None."""
        family = self.families.of.get(run_id)
        return None if family is None else family.run

    def tasks_of(self, run_id: str) -> Mapping[str, r.TaskRow]:
        """Return the tasks of a run by key; empty if it has none, or is not known."""
        family = self.families.of.get(run_id)
        return _NO_TASKS if family is None else family.tasks

    def task(self, run_id: str, task_key: str) -> r.TaskRow | None:
        """Return a task's row, or None."""
        return self.tasks_of(run_id).get(task_key)

    def sensor(self, sensor_id: str) -> r.SensorRow | None:
        """Return a sensor's state, or None."""
        return self.sensors.rows.get(sensor_id)

    def evaluation(self, eval_id: str) -> r.EvaluationRow | None:
        """Return an evaluation of a sensor, or None."""
        return self.evaluations.rows.get(eval_id)

    def schedule(self, schedule_id: str) -> r.ScheduleRow | None:
        """Return a schedule's definition, or None."""
        return self.schedules.rows.get(schedule_id)

    def tick(self, tick_id: str) -> r.TickRow | None:
        """Return a schedule's tick, or None."""
        return self.ticks.rows.get(tick_id)

    def backfill(self, backfill_id: str) -> r.BackfillRow | None:
        """Return a backfill, or None."""
        return self.backfills.rows.get(backfill_id)

    def chunk(self, chunk_id: str) -> r.ChunkRow | None:
        """Return a backfill's chunk, or None."""
        return self.chunks.rows.get(chunk_id)

    def run_key(self, run_key: str) -> r.RunKeyRow | None:
        """Return the row of a run key, or None."""
        return self.run_keys.rows.get(run_key)

    def timer(self, timer_id: str) -> r.TimerRow | None:
        """Return a timer, or None."""
        return self.timers.rows.get(timer_id)

    @property
    def is_held(self) -> bool:
        """Whether the workspace is held."""
        row = self.holds.rows.get(schema.WORKSPACE_HOLD)
        return row is not None and row.held

    def own_sensor(self, sensor_id: str) -> r.OwnSensorRow | None:
        """Return what operators made of a sensor, or None."""
        return self.own_sensors.rows.get(sensor_id)

    def is_paused(self, sensor_id: str) -> bool:
        """Say whether operators have paused a sensor."""
        row = self.own_sensor(sensor_id)
        return row is not None and row.paused

    def own_chunk(self, chunk_id: str) -> r.OwnChunkRow | None:
        """Return a chunk with its outcome, or None."""
        return self.own_chunks.rows.get(chunk_id)

    def message(self, sensor_id: str, message_id: str) -> r.MessageRow | None:
        """Return a message that waits for its evaluation, or None."""
        return self.messages.rows.get((sensor_id, message_id))

    def note(self, run_id: str, task_key: str, attempt_id: str, note: str) -> r.NoteRow | None:
        """Return a note on an attempt, or None."""
        return self.notes.rows.get((run_id, task_key, attempt_id, note))

    def first_request(self, run_key: str) -> r.FirstRequestRow | None:
        """Return the first request under a run key, which retention never removes, or None."""
        return self.first_requests.rows.get(run_key)

    def definition(self, kind: str, definition_id: str) -> r.DefinitionRow | None:
        """Return the current definition of a schedule with its settings, or None."""
        return self.definitions.rows.get((kind, definition_id))

    def dispatch(self, dispatch_id: str) -> r.DispatchRow | None:
        """Return an attempt to be sent to a worker, or None."""
        return self.outbox.rows.get(dispatch_id)

    def event_with_key(self, idempotency_key: str) -> tuple[str, str] | None:
        """Return id and type of the event that used an idempotency key, or None."""
        used = self.keys.rows.get(idempotency_key) or self.own_keys.rows.get(idempotency_key)
        return None if used is None else (used.event_id, used.event_type)
