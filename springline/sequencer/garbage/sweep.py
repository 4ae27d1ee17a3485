"""Sweeping: deletes objects that an earlier report marked and that are still garbage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from springline import paths
from springline.paths import ObjectPath
from springline.sequencer.garbage.logs import LoggedRuns, logged_runs
from springline.sequencer.garbage.mark import answer
from springline.sequencer.garbage.pins import find_pinned
from springline.sequencer.garbage.reach import Keep, Reach, find_reach
from springline.sequencer.garbage.report import Kind, Marked, MarkReport, read_report
from springline.sequencer.messages import GarbageOrder, GarbageReport
from springline.sequencer.rounds import RoundEvent, decode_round, encode_round
from springline.storage.damage import DamagedObject
from springline.storage.port import IfVersion, ObjectStore, Stored
from springline.storage.together import each

QUARANTINE_MS = 60 * 60 * 1000
"""How long after it was marked a superseded object stays: a reader may still use its revision."""
NAMELESS_MS = 7 * 24 * 60 * 60 * 1000
"""How long an object stays that no revision names: its writer may be about to publish it."""
_BATCH = 200
_DELETES_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class _Done:
    """What this call did with one object: `gone` or `emptied`, with `freed` bytes."""

    gone: bool = False
    emptied: bool = False
    freed: int = 0


async def sweep_garbage(
    store: ObjectStore,
    order: GarbageOrder,
    *,
    keep_since_ms: int | None = None,
    quarantine_ms: int = QUARANTINE_MS,
    nameless_ms: int = NAMELESS_MS,
) -> GarbageReport:
    """Delete what the report `order.report_id` marked, if it is still garbage, in the version that was marked.

    Nothing is deleted before `quarantine_ms` after the report. Objects that no revision names, and round records, wait
    for `nameless_ms` after they were first marked, and until another revision was published since. Records
    are not deleted: the sweep removes the texts of their events and answers. It reads the pointer again for every
    200 objects. Safe to repeat. Raises `DamagedObject` if there is no such report, or if an object that must
    stay cannot be read, and the store's errors.
    """
    path = paths.orchestration_garbage(order.report_id)
    report = await read_report(store, path)
    if report is None:
        raise DamagedObject(path, "is missing", "mark anew")
    due = [one for one in report.objects if _is_due(one, report, order.now_ms, quarantine_ms, nameless_ms)]
    if not due:
        return answer(path, report).model_copy(update={"kept": len(report.objects)})
    sweep = _Sweep(store, report, Keep(order.keep_revisions, keep_since_ms))
    done = [one for batch in _batches(due) for one in await sweep.delete(batch)]
    touched = sum(one.gone or one.emptied for one in done)
    return GarbageReport(
        report_path=path,
        marked=len(report.objects),
        deleted=sum(one.gone for one in done),
        emptied=sum(one.emptied for one in done),
        deleted_bytes=sum(one.freed for one in done),
        kept=len(report.objects) - touched,
    )


def _is_due(one: Marked, report: MarkReport, now_ms: int, quarantine_ms: int, nameless_ms: int) -> bool:
    wait = quarantine_ms if one.kind is Kind.SUPERSEDED else nameless_ms
    return now_ms - report.created_at_ms >= quarantine_ms and now_ms - one.since_ms >= wait


def _batches(due: Sequence[Marked]) -> Iterator[Sequence[Marked]]:
    for start in range(0, len(due), _BATCH):
        yield due[start : start + _BATCH]


def _is_log(one: Marked) -> bool:
    return paths.parse_log_chunk(one.path) is not None


class _Sweep:
    """One sweep. It finds again what must stay whenever the pointer has moved."""

    def __init__(self, store: ObjectStore, report: MarkReport, keep: Keep) -> None:
        self._store, self._report, self._keep = store, report, keep
        self._version: str | None = None
        self._reach: Reach | None = None
        self._logged: LoggedRuns | None = None
        self._pinned: set[str] | None = None

    async def delete(self, batch: Sequence[Marked]) -> list[_Done]:
        """Delete or empty those objects of `batch` that are still garbage."""
        reach = await self._current()
        if reach is None:
            return [_Done()] * len(batch)
        moved = reach.head.manifest.manifest_id != self._report.manifest_id
        if self._pinned is None and any(one.kind is Kind.NAMELESS for one in batch):
            self._pinned = await find_pinned(self._store)
        kept = reach.kept if self._pinned is None else reach.kept | self._pinned
        if self._logged is None and any(map(_is_log, batch)):
            self._logged = await logged_runs(self._store, reach.head.manifest)
        logged = self._logged

        async def act(one: Marked) -> _Done:
            if one.path in kept or (one.kind is not Kind.SUPERSEDED and not moved):
                return _Done()
            if _is_log(one) and (logged is None or not logged.are_left_by(one.path)):
                return _Done()
            if one.kind is Kind.RECORD:
                return await self._empty(one, reach.rounds_folded)
            gone = await self._store.delete(ObjectPath(one.path), if_version=one.version)
            return _Done(gone=gone, freed=one.size if gone else 0)

        return await each(act, batch, concurrency=_DELETES_TOGETHER)

    async def _current(self) -> Reach | None:
        pointer = await self._store.head(paths.orchestration_pointer())
        version = None if pointer is None else pointer.version
        if self._reach is None or version != self._version:
            self._reach = await find_reach(self._store, self._keep)
            self._version = None if self._reach is None else self._reach.head.pointer_version
            self._logged = None
        return self._reach

    async def _empty(self, one: Marked, folded: int) -> _Done:
        """Remove the texts of events and answers from the record of a folded round; names and ids stay."""
        path = ObjectPath(one.path)
        number = paths.parse_orchestration_round(path)
        stored = await self._store.get(path)
        if number is None or number > folded or stored is None or stored.version != one.version:
            return _Done()
        try:
            record = decode_round(stored.data, number).record
        except DamagedObject:
            return _Done()
        events = [RoundEvent(event.event_id, event.sha256, "") for event in record.events]
        emptied = msgspec.structs.replace(record, events=events, requests=[], foreign_answers=[])
        if emptied == record:
            return _Done()
        data = encode_round(emptied)
        if not isinstance(await self._store.put(path, data, IfVersion(one.version)), Stored):
            return _Done()
        return _Done(emptied=True, freed=len(stored.data) - len(data))
