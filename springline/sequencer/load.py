"""Loading the published state: base, deltas and deletions, every file checked (S 2.5, E 5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from springline import paths
from springline.ledger.event_ids import event_id_ms
from springline.projection.buckets import DamagedBuckets, load_digest
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.manifest import Manifest, Springline
from springline.projection.overlay import Rows, base_rows, lay_over, lay_over_reference
from springline.projection.schema import TABLES, Key, Row
from springline.projection.state import State
from springline.projection.table_paths import TableFile
from springline.sequencer.artifacts import read_file
from springline.sequencer.damage import DamagedObject
from springline.sequencer.deltas import DeltaRows, read_delta
from springline.sequencer.offload import in_thread
from springline.sequencer.parallel import READS_TOGETHER, each
from springline.sequencer.table_files import read_table
from springline.storage.port import ObjectStore
from springline.storage.together import together

_DELTAS_TOGETHER = 4

_Lay = Callable[[Rows, Mapping[str, Iterable[Row]], Mapping[str, Iterable[Key]]], None]


@dataclass(frozen=True, slots=True)
class LoadedState:
    """A state in memory with its digest."""

    state: State
    digest: Digest


async def load_state(
    store: ObjectStore,
    manifest: Manifest,
    config: FoldConfig,
    *,
    concurrency: int = READS_TOGETHER,
    verify: bool = False,
) -> LoadedState:
    """Return the state that `manifest` publishes, ours or the reference's, ready to be folded on.

    Files are read `concurrency` at a time and decoded in threads, one at a time. The numbers of rows are compared
    with those that a manifest of ours records, with `verify` the digest of all rows, too. Raises `DamagedObject`
    naming the file, or the manifest if its files are sound but do not give the state that it records; and what the
    store does.
    """
    ours = manifest.springline
    if ours is None:
        return await _adopt(store, manifest, config, concurrency)
    state, digest = await together(
        _fill(store, manifest, State(config), concurrency), _read_digest(store, manifest, ours)
    )
    state.last_event_id = manifest.watermarks.last_committed_event_id or ""
    state.frontier_ms = ours.retention_frontier_ms
    state.accept()
    await in_thread(lambda: _check(manifest, state, digest, whole=verify))
    return LoadedState(state, digest)


async def read_rows(
    store: ObjectStore,
    manifest: Manifest,
    *,
    tables: Collection[str] = tuple(TABLES),
    concurrency: int = READS_TOGETHER,
) -> Rows:
    """Return the rows that `manifest` publishes, of `tables`; the others are empty.

    Laid over each other by our rules or by the reference's, whoever published. Raises `DamagedObject`, and what the
    store does.
    """
    base: dict[str, list[Row]] = {}
    files = [file for file in manifest.base_snapshot.tables.files() if file.table in tables]
    read, deltas = await together(
        each(lambda file: read_table(store, file), files, concurrency=concurrency),
        each(
            lambda delta: read_delta(store, delta, tables=tables, concurrency=concurrency),
            manifest.l0_deltas,
            concurrency=_DELTAS_TOGETHER,
        ),
    )
    for file, rows in zip(files, read, strict=True):
        base.setdefault(file.table, []).extend(rows)
    lay = lay_over_reference if manifest.springline is None else lay_over
    return await in_thread(lambda: _laid(base, deltas, lay))


def _laid(base: dict[str, list[Row]], deltas: Sequence[DeltaRows], lay: _Lay) -> Rows:
    rows = base_rows(base)
    for delta in deltas:
        lay(rows, delta.rows, delta.deleted)
    return rows


async def _fill(store: ObjectStore, manifest: Manifest, state: State, concurrency: int) -> State:
    """Put base and deltas of a manifest of ours into an empty state."""
    turn = asyncio.Lock()

    async def load_base(file: TableFile) -> None:
        rows = await read_table(store, file)
        async with turn:
            await in_thread(lambda: state.load_rows(file.table, rows))

    _, deltas = await together(
        each(load_base, manifest.base_snapshot.tables.files(), concurrency=concurrency),
        each(
            lambda delta: read_delta(store, delta, concurrency=concurrency),
            manifest.l0_deltas,
            concurrency=_DELTAS_TOGETHER,
        ),
    )

    def load_deltas() -> None:
        for delta in deltas:
            lay_on(state, delta)

    await in_thread(load_deltas)
    return state


def lay_on(state: State, delta: DeltaRows) -> None:
    """Bring `state` from before a delta of ours to after it; the files' rows replace, then deletions remove."""
    for name, rows in delta.rows.items():
        state.load_rows(name, rows)
    for name, keys in delta.deleted.items():
        for key in keys:
            state.unload(name, key)


async def _read_digest(store: ObjectStore, manifest: Manifest, ours: Springline) -> Digest:
    named = [manifest.base_snapshot.buckets, *(delta.buckets for delta in manifest.l0_deltas)]
    files = [file for file in named if file is not None]
    documents = await each(lambda file: read_file(store, file, bytes), files)
    try:
        return load_digest(documents, ours.digest.tables)
    except DamagedBuckets as error:
        raise DamagedObject(_path(manifest), f"does not fit its digest buckets: {error}") from error


def _check(manifest: Manifest, state: State, digest: Digest, *, whole: bool) -> None:
    """Raise `DamagedObject` unless the state is the one that its manifest of ours records."""
    counts = {name: (state.count(name), digest.rows(name)) for name in TABLES}
    wrong = [f"{name} has {found} rows, not {due}" for name, (found, due) in counts.items() if found != due]
    if whole and not wrong:
        differing = Digest.of({name: state.rows(name) for name in TABLES}).diff(digest)
        wrong = [f"rows of {name} are others than those that the digest was made of" for name in differing]
    if wrong:
        raise DamagedObject(_path(manifest), f"records another state than its files hold: {', '.join(wrong)}")


async def _adopt(store: ObjectStore, manifest: Manifest, config: FoldConfig, concurrency: int) -> LoadedState:
    """Load what the reference published, by its own rules (E 5.2); there is nothing to compare it with."""
    rows = await read_rows(store, manifest, concurrency=concurrency)
    last = manifest.watermarks.last_committed_event_id

    def fill() -> LoadedState:
        state = State(config)
        for name in TABLES:
            state.load_rows(name, rows[name].values())
        state.last_event_id = last or ""
        if state.prunes and last is not None:
            state.frontier_ms = event_id_ms(last)
        state.accept()
        return LoadedState(state, Digest.of({name: state.rows(name) for name in TABLES}))

    return await in_thread(fill)


def _path(manifest: Manifest) -> str:
    return paths.orchestration_manifest(manifest.manifest_id)
