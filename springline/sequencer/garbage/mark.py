"""Marking: finds objects that are garbage and reports them for a later sweep. Lists; deletes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from springline import paths
from springline.paths import ObjectPath, StateLayer
from springline.sequencer.garbage.logs import LoggedRuns, logged_runs
from springline.sequencer.garbage.reach import Keep, Reach, find_reach
from springline.sequencer.garbage.report import Kind, Marked, MarkReport, encode_report, read_report
from springline.sequencer.messages import GarbageOrder, GarbageReport
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectInfo, ObjectStore
from springline.storage.resolve import Other, put_once

MOST_MARKED = 50_000
"""Objects of each kind in one report; the next report goes on with the rest."""
MOST_REVISIONS = 20_000
"""How many superseded revisions one pass reads."""
EMPTY_RECORD_BYTES = 512
"""A round record that has the text of an event is larger."""

_Known = Callable[[str], object]


async def mark_garbage(
    store: ObjectStore,
    order: GarbageOrder,
    *,
    keep_since_ms: int | None = None,
    most: int = MOST_MARKED,
    most_revisions: int = MOST_REVISIONS,
) -> GarbageReport:
    """Find garbage and write the report `order.report_id`; if that report exists, return it.

    Keeps the last `order.keep_revisions` revisions, those published since `keep_since_ms`, the checkpoints, and
    all that these name, and objects whose names are not ours. Marks nothing in a workspace where we have published
    nothing. Raises `DamagedObject` if an object that must stay cannot be read, and the store's errors.
    """
    path = paths.orchestration_garbage(order.report_id)
    report = await read_report(store, path)
    if report is not None:
        return answer(path, report)
    reach = await find_reach(store, Keep(order.keep_revisions, keep_since_ms), most_superseded=most_revisions)
    if reach is None:
        return GarbageReport(report_path=path)
    logged = await logged_runs(store, reach.head.manifest)
    marking = _Marking(reach, logged, await _newest_report(store), order.now_ms, most)
    complete = await marking.run(store)
    report = MarkReport(
        report_id=order.report_id,
        created_at_ms=order.now_ms,
        manifest_id=reach.head.manifest.manifest_id,
        kept=marking.kept,
        complete=complete,
        records_done=marking.records_done,
        objects=marking.objects(),
    )
    if isinstance(await put_once(store, path, encode_report(report)), Other):
        there = await read_report(store, path)
        report = report if there is None else there
    return answer(path, report)


def answer(path: ObjectPath, report: MarkReport) -> GarbageReport:
    """Return a report as the answer of a step that deleted nothing."""
    return GarbageReport(report_path=path, marked=len(report.objects), kept=report.kept)


async def _newest_report(store: ObjectStore) -> MarkReport | None:
    """Return the last report before this one. Damaged ones are skipped: that only makes waiting times begin again."""
    newest: MarkReport | None = None
    async for info in store.list(paths.orchestration_garbage_prefix()):
        if paths.parse_orchestration_garbage(info.path) is None:
            continue
        try:
            report = await read_report(store, info.path)
        except DamagedObject:
            continue
        if report is not None and (newest is None or report.created_at_ms >= newest.created_at_ms):
            newest = report
    return newest


@dataclass(slots=True)
class _Marking:
    """One pass over all objects that may be garbage."""

    reach: Reach
    logged: LoggedRuns
    before: MarkReport | None
    now_ms: int
    most: int
    kept: int = 0
    records_done: int = 0
    _complete: bool = True
    _found: list[Marked] = field(default_factory=list)
    _counts: Counter[Kind] = field(default_factory=Counter)
    _since: dict[tuple[str, str], int] = field(default_factory=dict)
    _records_seen: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.before is not None:
            self._since = {(one.path, one.version): one.since_ms for one in self.before.objects}
            self._records_seen = {one.path: one.version for one in self.before.objects if one.kind is Kind.RECORD}
            self.records_done = self.before.records_done

    async def run(self, store: ObjectStore) -> bool:
        """Mark in all areas; False if there was more garbage than a report may hold."""
        areas: list[tuple[ObjectPath, _Known]] = [
            (paths.orchestration_layer_prefix(StateLayer.L0), paths.parse_orchestration_file),
            (paths.orchestration_layer_prefix(StateLayer.BASE), paths.parse_orchestration_file),
            (paths.ledger_index_prefix(), paths.parse_ledger_index),
            (paths.rebuild_work_prefix(), _is_work),
            (paths.ledger_segments_prefix(), paths.parse_ledger_segment),
            *([] if self.logged.rows is None else [(paths.logs_prefix(), self.logged.are_left_by)]),
            # Manifests come last: as long as they exist, they tell what was superseded with them.
            (paths.orchestration_manifests_prefix(), self._is_past_revision),
            (paths.orchestration_garbage_prefix(), self._is_old_report),
        ]
        for prefix, known in areas:
            async for info in store.list(prefix):
                self._look_at(info, known)
        await self._records(store)
        return self._complete

    def _look_at(self, info: ObjectInfo, known: _Known) -> None:
        if info.path in self.reach.superseded:
            self._mark(info, Kind.SUPERSEDED)
        elif info.path in self.reach.kept or not known(info.path):
            self.kept += 1
        else:
            is_report = paths.parse_orchestration_garbage(info.path) is not None
            self._mark(info, Kind.SUPERSEDED if is_report else Kind.NAMELESS)

    def _mark(self, info: ObjectInfo, kind: Kind) -> None:
        """Add an object to the report; if the report is full, the next one has it."""
        if self._counts[kind] >= self.most:
            self._complete = False
            return
        self._counts[kind] += 1
        since = self._since.get((info.path, info.version), self.now_ms)
        self._found.append(Marked(info.path, info.version, info.size, kind, since))

    def _is_past_revision(self, path: str) -> bool:
        """Say whether a manifest is older than the head: a writer may be about to publish a newer one."""
        manifest_id = paths.parse_orchestration_manifest(path)
        return manifest_id is not None and manifest_id < self.reach.head.manifest.manifest_id

    def _is_old_report(self, path: str) -> bool:
        name = paths.parse_orchestration_garbage(path)
        return name is not None and (self.before is None or name != self.before.report_id)

    async def _records(self, store: ObjectStore) -> None:
        """Mark the records of folded rounds, in order, from the first one that is not emptied yet."""
        unbroken = True
        async for number, info in _rounds(store, self.records_done):
            if number > self.reach.rounds_folded:
                self.kept += 1
            elif info.size <= EMPTY_RECORD_BYTES or self._records_seen.get(info.path, info.version) != info.version:
                # It never had texts, or a sweep has emptied it: only sweeps write to an existing record.
                self.kept += 1
                self.records_done = number if unbroken else self.records_done
            else:
                unbroken = False
                self._mark(info, Kind.RECORD)

    def objects(self) -> list[Marked]:
        """Return the marked objects. All files of a rebuild get the age of the youngest of them."""
        youngest: dict[str, int] = {}
        for one in self._found:
            work_id = paths.rebuild_work_of(one.path)
            if work_id is not None:
                youngest[work_id] = max(one.since_ms, youngest.get(work_id, 0))
        return [
            one if (work_id := paths.rebuild_work_of(one.path)) is None else _seen(one, youngest[work_id])
            for one in self._found
        ]


def _is_work(path: str) -> bool:
    """Say whether a path lies in the work folder of a rebuild; its reports are for people, and stay."""
    return paths.rebuild_work_of(path) is not None and paths.parse_rebuild_report(path) is None


def _seen(one: Marked, since_ms: int) -> Marked:
    return Marked(one.path, one.version, one.size, one.kind, since_ms)


async def _rounds(store: ObjectStore, after: int) -> AsyncIterator[tuple[int, ObjectInfo]]:
    start = paths.orchestration_round(after)
    async for info in store.list(paths.orchestration_rounds_prefix(), start_after=start):
        number = paths.parse_orchestration_round(info.path)
        if number is not None:
            yield number, info
