"""Ready-made sensors: what is new in a table, of an asset, below a prefix, among runs.

Their cursors only grow. Each asks for a run under a key of what is new, so that nothing is asked for twice even if an
operator sets the cursor back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from springline.commit.inspect import latest_version
from springline.commit.registry import Registry
from springline.commit.table import CommitTable
from springline.control.sensors.messages import AskedRun, EvaluationAnswer, SensorView
from springline.definitions.limits import MAX_RUN_REQUESTS
from springline.errors import Refused, SpringlineError
from springline.ledger.identifiers import sensor_run_key
from springline.paths import InvalidPath, ObjectPath, Scope, relative_path, watched_objects
from springline.projection.rows import RunRow, TaskRow
from springline.projection.schema import RUNS, SUCCEEDED, TASKS
from springline.published.lists import above, all_of, equals
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.storage.port import ObjectStore, StoreError
from springline.storage.scoped import ScopedStore

_FROM_NOW: Final = "0"
"""The cursor of events while there is none: below all ids."""
Find = Callable[[ObjectStore, PublishedReader, Scope, SensorView], Coroutine[Any, Any, EvaluationAnswer]]


async def evaluate_ready_made(
    store: ObjectStore, reader: PublishedReader, scope: Scope, view: SensorView
) -> EvaluationAnswer:
    """Return what is new for a ready-made sensor; `store` is the whole store. Raises nothing that comes of it."""
    try:
        async with asyncio.timeout(view.timeout_ms / 1_000):
            return await _FINDS[view.kind](store, reader, scope, view)
    except TimeoutError:
        message = f"it took longer than its timeout, {view.timeout_ms / 1_000:g} s"
        return EvaluationAnswer(error=message, category="TIMEOUT", reason_code="TIMEOUT")
    except StoreError as error:
        return _error(f"the store gave no answer: {error}", "STORE")
    except InvalidPath as error:
        return _error(str(error), "BAD_PREFIX")
    except Refused as error:
        return _error(f"{error.refusal.message}. {error.refusal.remedy}", str(error.refusal.code))
    except SpringlineError as error:
        return _error(str(error), "DAMAGED")


def _error(message: str, reason_code: str) -> EvaluationAnswer:
    return EvaluationAnswer(error=message, category="CONFIGURATION", reason_code=reason_code)


async def _table(store: ObjectStore, reader: PublishedReader, scope: Scope, view: SensorView) -> EvaluationAnswer:
    assert view.table is not None
    scoped = ScopedStore(store, scope)
    entry = await Registry(scoped).entry(view.table)
    latest = await latest_version(CommitTable(scoped, entry.table_id, entry.root))
    seen = _number(view.cursor)
    if latest <= seen:
        return EvaluationAnswer(behind=0)
    config = {"table": view.table, "version": latest}
    # Of a table that was made anew under the name, versions count anew: its id is part of the key.
    return EvaluationAnswer(
        requests=[AskedRun(run_key=f"{entry.table_id}:{latest}", config=config)], cursor=str(latest), behind=0
    )


def _number(cursor: str | None) -> int:
    """Return the version in a cursor; one that an operator has set to something else counts as none."""
    return int(cursor) if cursor is not None and cursor.isascii() and cursor.isdigit() and len(cursor) < 20 else -1


async def _objects(store: ObjectStore, reader: PublishedReader, scope: Scope, view: SensorView) -> EvaluationAnswer:
    assert view.prefix is not None
    prefix = watched_objects(view.prefix)
    after: ObjectPath | None = None if view.cursor is None else relative_path(view.cursor, field="cursor")
    found: list[str] = []
    more = False
    async for info in ScopedStore(store, scope).list(prefix, start_after=after):
        if len(found) == MAX_RUN_REQUESTS:
            more = True
            break
        found.append(info.path)
    return EvaluationAnswer(
        requests=[AskedRun(run_key=path, config={"object": path}) for path in found],
        cursor=found[-1] if found else None,
        more=more,
        behind=None if more else 0,
    )


async def _asset(store: ObjectStore, reader: PublishedReader, scope: Scope, view: SensorView) -> EvaluationAnswer:
    assert view.asset is not None
    asset = view.asset
    snapshot = await reader.snapshot(scope, ("tasks",))
    if view.cursor is None:
        return EvaluationAnswer(cursor=_now(snapshot), behind=0, skip_reason="from now on")
    cursor = view.cursor

    def read() -> list[TaskRow]:
        made = [equals(TASKS, "asset_key", [asset]), equals(TASKS, "state", [SUCCEEDED])]
        where = all_of([*made, above(TASKS, "row_version", cursor)])
        assert where is not None
        rows: Any = snapshot["tasks"].select(where)
        return sorted((TaskRow(*row) for row in rows), key=lambda one: one.row_version)

    rows = await asyncio.to_thread(read)
    return _first(
        rows,
        [
            # When it becomes visible, its row changes, and lies behind the cursor again.
            None
            if row.output_visibility_state == "PENDING"
            else AskedRun(
                run_key=f"{row.partition_key or ''}:{row.run_id}",
                partitions=[] if row.partition_key is None else [row.partition_key],
                config={"asset": asset, "partition": row.partition_key, "run_id": row.run_id},
            )
            for row in rows
        ],
    )


async def _run(store: ObjectStore, reader: PublishedReader, scope: Scope, view: SensorView) -> EvaluationAnswer:
    snapshot = await reader.snapshot(scope, ("runs",))
    if view.cursor is None:
        return EvaluationAnswer(cursor=_now(snapshot), behind=0, skip_reason="from now on")
    cursor, own = view.cursor, sensor_run_key(view.sensor_id, "")

    def read() -> list[RunRow]:
        ends = equals(RUNS, "state", [end.upper() for end in view.ends])
        where = all_of([ends, above(RUNS, "row_version", cursor)])
        assert where is not None
        rows: Any = snapshot["runs"].select(where)
        return sorted((RunRow(*row) for row in rows), key=lambda one: one.row_version)

    rows = await asyncio.to_thread(read)
    return _first(
        rows,
        [
            # A run that a sensor asked for would make it ask for the next one, for ever.
            None
            if (row.run_key or "").startswith(own)
            else AskedRun(run_key=f"{row.run_id}:{row.state}", config={"run_id": row.run_id, "state": row.state})
            for row in rows
        ],
    )


def _first(rows: list[Any], asked: list[AskedRun | None]) -> EvaluationAnswer:
    """Return the first requests, the cursor behind their rows, and whether there are more."""
    requests: list[AskedRun] = []
    cursor: str | None = None
    for place, (row, one) in enumerate(zip(rows, asked, strict=True)):
        if one is not None:
            if len(requests) == MAX_RUN_REQUESTS - 1:
                return EvaluationAnswer(requests=requests, cursor=cursor, more=True, behind=len(rows) - place)
            requests.append(one)
        cursor = row.row_version
    return EvaluationAnswer(requests=requests, cursor=cursor, behind=0)


def _now(snapshot: StateSnapshot) -> str:
    return snapshot.revision.last_visible_event_id or _FROM_NOW


_FINDS: Final[dict[str, Find]] = {"table": _table, "objects": _objects, "asset": _asset, "run": _run}
