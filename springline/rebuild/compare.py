"""Comparing the published state with a rebuilt one: by digest, and row by row where digests differ.

See docs/protocol.md#rebuild.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import orjson

from springline.paths import rebuild_report
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest, TableDigest, state_digest
from springline.projection.golden import golden_row
from springline.projection.schema import REFERENCE_TABLES, TABLES, Key, Row, Table
from springline.published.cached_state import CachedState
from springline.published.files import read_table
from springline.published.folding import fold_forward, is_late, refold
from springline.published.golden_state import differences
from springline.published.head import read_manifest
from springline.published.index import EventsIndex
from springline.published.index_files import SegmentCache, read_index
from springline.published.load import load_state, read_rows
from springline.published.manifest import NO_MANIFEST, Manifest
from springline.published.revision import Succession
from springline.published.segments import RESTORE_EVENT
from springline.rebuild.assemble import RebuiltBase, manifest_of
from springline.rebuild.later import Later, add_rounds, events_after
from springline.rebuild.messages import Compared, Difference, ReportOrder
from springline.sequencer.accepted import fill_tail
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.resolve import put_once
from springline.storage.threads import in_turn
from springline.storage.together import each

SHOWN = 1_000


async def compare(store: ObjectStore, config: FoldConfig, manifest_path: str | None, rebuilt: RebuiltBase) -> Compared:
    """Return how the state that a manifest publishes differs from a rebuilt one.

    Computes the digest of the published rows themselves, because the manifest's record proves nothing here. First folds
    onto the rebuilt state the events that were accepted after the rebuild's list was made. A state that cannot be read
    is not equal, and `problem` says why.
    """
    digest = state_digest(rebuilt.tables)
    try:
        found = await read_manifest(store, manifest_path) if manifest_path is not None else None
        if found is None:
            return Compared(equal=False, problem="nothing is published", rebuilt_digest=digest)
        rows = await read_rows(store, found.manifest)
        ours = await _Rebuilt.of(store, config, rebuilt, found.manifest)
    except DamagedObject as error:
        return Compared(equal=False, problem=str(error), rebuilt_digest=digest)
    published = await in_turn(lambda: Digest.of({name: rows[name].values() for name in TABLES}))
    section = found.manifest.springline
    named = TABLES if section is not None and section.digest.has_own else REFERENCE_TABLES
    differing = [name for name, one in published.tables().items() if name in named and one != ours.tables[name]]
    answer = Compared(equal=True, published_digest=published.state(), rebuilt_digest=state_digest(ours.tables))
    if not differing:
        return answer
    rebuilt_rows = await ours.rows(store, differing)
    counts, shown = await in_turn(lambda: _differences({name: rows[name] for name in differing}, rebuilt_rows))
    return answer.model_copy(update={"equal": False, "counts": dict(counts), "differences": shown})


_NOT_PUBLISHED = Succession(NO_MANIFEST, False, 0, 0, revision="", delta_id="", snapshot_id="", now_ms=0)
"""For a state that is compared and never published."""


class _Rebuilt:
    """A rebuilt state: in its files, or in memory if later events were folded on top."""

    def __init__(self, base: RebuiltBase, on_top: dict[str, list[Row]] | None, tables: dict[str, TableDigest]) -> None:
        self._base, self._on_top = base, on_top
        self.tables = tables

    @classmethod
    async def of(cls, store: ObjectStore, config: FoldConfig, base: RebuiltBase, published: Manifest) -> _Rebuilt:
        """Return the state of `base` with the later events of the published state."""
        held = await read_index(store, base.index)
        later = await _later(store, config, base, held, published)
        if not later.events:
            return cls(base, None, base.tables)
        manifest = manifest_of(base, config, _NOT_PUBLISHED)
        loaded = await load_state(store, manifest, config)
        warm = CachedState(None, manifest, loaded.state, loaded.digest, held)
        state, events = warm.state, later.ascending()
        if is_late(events, warm):
            await fill_tail(store, warm)
            state = (await refold(store, config, warm, events, cache=SegmentCache())).state
        else:
            await fold_forward(state, events)
        rows = {name: list(state.rows(name)) for name in TABLES}
        return cls(base, rows, (await in_turn(lambda: Digest.of(rows))).tables())

    async def rows(self, store: ObjectStore, tables: Collection[str]) -> dict[str, list[Row]]:
        """Return the rows of some tables."""
        if self._on_top is not None:
            return {name: self._on_top[name] for name in tables}
        return await _rebuilt_rows(store, self._base, tables)


async def _later(
    store: ObjectStore, config: FoldConfig, base: RebuiltBase, held: EventsIndex, published: Manifest
) -> Later:
    """Return the published state's events that were accepted after the base's list was made, late events included."""
    later = await events_after(store, config, published, base.last_event_id)
    if (ours := published.springline) is not None:
        folded = ours.rounds_folded
        await add_rounds(store, later, held, after=base.rounds_folded, folded=folded, through=folded)
    if later.missing:
        raise DamagedObject(later.missing[0], "was accepted, and is nowhere to be had", RESTORE_EVENT)
    return later


async def _rebuilt_rows(store: ObjectStore, rebuilt: RebuiltBase, tables: Collection[str]) -> dict[str, list[Row]]:
    files = [file for file in rebuilt.base.files() if file.table in tables]
    read = await each(lambda file: read_table(store, file), files)
    rows: dict[str, list[Row]] = {name: [] for name in tables}
    for file, its_rows in zip(files, read, strict=True):
        rows[file.table] += its_rows
    return rows


def _differences(
    published: Mapping[str, Mapping[Key, Row]], rebuilt: Mapping[str, Iterable[Row]]
) -> tuple[Counter[str], list[Difference]]:
    counts: Counter[str] = Counter()
    shown: list[Difference] = []
    ours, theirs = {}, {}
    for name, its_rows in published.items():
        ours[name], theirs[name] = _only_different(its_rows, _by_key(TABLES[name], rebuilt[name]))
    for one in differences(_golden(ours), _golden(theirs)):
        counts[one.table] += 1
        if len(shown) < SHOWN:
            shown.append(
                Difference(table=one.table, key=list(one.key), column=one.column, published=one.a, rebuilt=one.b)
            )
    return counts, shown


def _by_key(table: Table, rows: Iterable[Row]) -> dict[Key, Row]:
    """Return rows by their keys."""
    return {table.key_of(row): row for row in rows}


def _only_different(ours: Mapping[Key, Row], theirs: Mapping[Key, Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of either side that the other lacks: most are the same, and comparing tuples is quick."""
    return (
        [row for key, row in ours.items() if theirs.get(key) != row],
        [row for key, row in theirs.items() if ours.get(key) != row],
    )


def _golden(rows: Mapping[str, Iterable[Row]]) -> dict[str, list[dict[str, object]]]:
    return {name: [golden_row(TABLES[name], row) for row in its_rows] for name, its_rows in rows.items()}


async def write_report(store: ObjectStore, order: ReportOrder) -> str:
    """Write the report and return its path; safe to repeat."""
    path = rebuild_report(order.plan.work_id, order.name)
    document = {
        "workspace": order.workspace.model_dump(mode="json"),
        "result": order.result,
        "rows": order.rows,
        "plan": order.plan.model_dump(mode="json"),
        "comparison": order.compared.model_dump(mode="json") if order.compared is not None else None,
        "missing_or_damaged": [one.model_dump(mode="json") for one in order.bad],
        "accepted_and_not_listed": order.gaps,
    }
    await put_once(store, path, orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    return path
