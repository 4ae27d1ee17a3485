"""Comparing the published state with a rebuilt one: by digest, and row by row where digests differ (design 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from springline.projection.digest import Digest, state_digest
from springline.projection.golden import golden_row
from springline.projection.schema import TABLES, Row
from springline.reading.compare import differences
from springline.rebuild.assemble import RebuiltBase
from springline.rebuild.orders import Compared, Difference
from springline.sequencer.damage import DamagedObject
from springline.sequencer.head import read_manifest
from springline.sequencer.load import read_rows
from springline.sequencer.offload import in_thread
from springline.sequencer.parallel import each
from springline.sequencer.table_files import read_table
from springline.storage.port import ObjectStore

SHOWN = 1_000


async def compare(store: ObjectStore, manifest_path: str | None, rebuilt: RebuiltBase) -> Compared:
    """Say how the state that a manifest publishes differs from a rebuilt one.

    The published rows themselves are digested: what a manifest says of them proves nothing here. A state that cannot
    be read is not equal, and `problem` says why.
    """
    digest = state_digest(rebuilt.tables)
    problem = None
    try:
        found = await read_manifest(store, manifest_path) if manifest_path is not None else None
        if found is None:
            problem = "nothing is published"
        else:
            rows = await read_rows(store, found.manifest)
    except DamagedObject as error:
        problem = str(error)
    if found is None or problem is not None:
        return Compared(equal=False, problem=problem, rebuilt_digest=digest)
    published = await in_thread(lambda: Digest.of({name: rows[name].values() for name in TABLES}))
    differing = [name for name, one in published.tables().items() if one != rebuilt.tables[name]]
    if not differing:
        return Compared(equal=True, published_digest=published.state(), rebuilt_digest=digest)
    ours = await _rebuilt_rows(store, rebuilt, differing)
    counts, shown = await in_thread(lambda: _differences({name: list(rows[name].values()) for name in differing}, ours))
    return Compared(
        equal=False,
        published_digest=published.state(),
        rebuilt_digest=digest,
        counts=dict(counts),
        differences=shown,
    )


async def _rebuilt_rows(store: ObjectStore, rebuilt: RebuiltBase, tables: Collection[str]) -> dict[str, list[Row]]:
    files = [file for file in rebuilt.base.tables.files() if file.table in tables]
    read = await each(lambda file: read_table(store, file), files)
    rows: dict[str, list[Row]] = {name: [] for name in tables}
    for file, its_rows in zip(files, read, strict=True):
        rows[file.table] += its_rows
    return rows


def _differences(
    published: Mapping[str, Iterable[Row]], rebuilt: Mapping[str, Iterable[Row]]
) -> tuple[Counter[str], list[Difference]]:
    counts: Counter[str] = Counter()
    shown: list[Difference] = []
    for one in differences(_golden(published), _golden(rebuilt)):
        counts[one.table] += 1
        if len(shown) < SHOWN:
            shown.append(
                Difference(table=one.table, key=list(one.key), column=one.column, published=one.a, rebuilt=one.b)
            )
    return counts, shown


def _golden(rows: Mapping[str, Iterable[Row]]) -> dict[str, list[dict[str, object]]]:
    return {name: [golden_row(TABLES[name], row) for row in its_rows] for name, its_rows in rows.items()}
