"""Loading the published state: base, deltas and deletions, every file checked.

See docs/protocol.md#reading-published, docs/protocol.md#overlay.

For a state of ours, loading reads and checks the files and notes where each row is; a row is decoded when an event
touches it. So loading costs what reading the keys costs, and memory holds compressed files.

A state in memory is brought forward without loading it again. Deltas hold whole rows, and deltas that were merged
are merged into newer ones. So the way from an older revision to a newer one of the same base are the deltas that the
older one does not name, in order. Where a base was written in between, its `bridge` is the delta that led to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from springline import paths
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.layers import AnyLayer, Deletions, Layer
from springline.projection.parquet import DamagedTable
from springline.projection.schema import TABLES, Key, Row
from springline.projection.state import State
from springline.projection.stored import StoredRows
from springline.projection.tables import RowChange
from springline.published.bases import DamagedBuckets, load_digest
from springline.published.deltas import DeltaRows, decode_tombstones, read_deletions, read_delta
from springline.published.files import TableFile, read_file, read_table
from springline.published.head import StoredManifest, read_manifest
from springline.published.manifest import Delta, Manifest, SpringlineSection
from springline.published.overlay import Rows, base_rows, lay_over, lay_over_reference
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.threads import in_thread
from springline.storage.together import READS_TOGETHER, each, together
from springline.ulids import ulid_time_ms

T = TypeVar("T")

_DELTAS_TOGETHER = 4

_Lay = Callable[[Rows, Mapping[str, Iterable[Row]], Mapping[str, Iterable[Key]]], None]

Layers = dict[str, list[AnyLayer]]
"""The layers of each table, oldest first."""


@dataclass(slots=True)
class LoadProgress:
    """Progress of a load: files read, then rows indexed. A thread updates it."""

    files: int = 0
    files_read: int = 0
    rows: int = 0
    rows_done: int = 0

    def __str__(self) -> str:
        if self.files_read < self.files or not self.rows:
            return f"loading the state: {self.files_read} of {self.files} files read"
        return f"loading the state: {self.rows_done:,} of {self.rows:,} rows found, {self.rows_done / self.rows:.0%}"


@dataclass(slots=True)
class KnownFiles:
    """Files by path that are in memory already, so that loading a newer revision reads only what is new."""

    files: dict[str, Layer] = field(default_factory=dict)
    deletions: dict[str, dict[str, list[Key]]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return sum(layer.size for layer in self.files.values())


@dataclass(frozen=True, slots=True)
class LoadedState:
    """A state in memory with its digest, and the files that its rows are in."""

    state: State
    digest: Digest
    known: KnownFiles = field(default_factory=KnownFiles)


async def load_state(
    store: ObjectStore,
    manifest: Manifest,
    config: FoldConfig,
    *,
    concurrency: int = READS_TOGETHER,
    verify: bool = False,
    known: KnownFiles | None = None,
    progress: LoadProgress | None = None,
) -> LoadedState:
    """Return the state that `manifest` publishes, ours or the reference's, ready to be folded on.

    Files are read `concurrency` at a time, except those in `known`; threads do the work. For a manifest of ours, row
    counts are compared with its record, with `verify` also the digest of all rows. Raises
    `DamagedObject` naming the file, or the manifest if its files are sound but do not give the state that it records;
    and the store's errors.
    """
    ours = manifest.springline
    if ours is None:
        return await _adopt(store, manifest, config, concurrency)
    files = KnownFiles()
    layers, digest = await together(
        read_layers(
            store, manifest, known=known, into=files, concurrency=concurrency, progress=progress or LoadProgress()
        ),
        _read_digest(store, manifest, ours),
    )
    state = State(config)
    await _attach(state, layers, progress or LoadProgress())
    state.last_event_id = manifest.watermarks.last_committed_event_id or ""
    state.frontier_ms = ours.retention_frontier_ms
    state.accept()
    await in_thread(lambda: _check(manifest, state, digest, whole=verify))
    return LoadedState(state, digest, files)


async def read_layers(
    store: ObjectStore,
    manifest: Manifest,
    *,
    tables: Collection[str] = tuple(TABLES),
    known: KnownFiles | None = None,
    into: KnownFiles | None = None,
    concurrency: int = READS_TOGETHER,
    progress: LoadProgress | None = None,
) -> Layers:
    """Return the files of `tables` that a manifest of ours names, as layers.

    Files that are in `known` are not read again; all that the layers use are put `into`. Raises `DamagedObject`, and
    the store's errors.
    """
    held, kept = known or KnownFiles(), into or KnownFiles()
    told = progress or LoadProgress()

    async def read(file: TableFile) -> Layer:
        layer = held.files.get(file.path)
        if layer is None:
            layer = await read_file(store, file, lambda data: Layer(TABLES[file.table], data, file.path))
        kept.files[file.path] = layer
        told.files_read += 1
        told.rows += len(layer)
        return layer

    async def read_deletions(number: int) -> dict[str, list[Key]]:
        deleted: dict[str, list[Key]] = {}
        for file in manifest.l0_deltas[number].all_deletions():
            found = held.deletions.get(file.path)
            if found is None:
                found = await read_file(store, file, _sorted_deletions)
            kept.deletions[file.path] = found
            told.files_read += 1
            deleted |= found
        return deleted

    base = [file for file in manifest.base_snapshot.files() if file.table in tables]
    of_deltas = [[one for one in delta.files() if one.table in tables] for delta in manifest.l0_deltas]
    every = [*base, *(file for files in of_deltas for file in files)]
    told.files = len(every) + sum(len(delta.all_deletions()) for delta in manifest.l0_deltas)
    read_files, deletions = await together(
        each(read, every, concurrency=concurrency),
        each(read_deletions, range(len(manifest.l0_deltas)), concurrency=concurrency),
    )
    layers: Layers = {name: [] for name in tables}
    found = iter(read_files)
    for file in base:
        layers[file.table].append(next(found))
    for files, deleted in zip(of_deltas, deletions, strict=True):
        for file in files:
            layers[file.table].append(next(found))
        for name, keys in deleted.items():
            if name in layers:
                layers[name].append(Deletions(TABLES[name], keys))
    return layers


async def read_delta_layers(store: ObjectStore, delta: Delta, *, tables: Collection[str]) -> Layers:
    """Return the files of `tables` of a delta of ours, to be laid over the older layers.

    Raises `DamagedObject`, and the store's errors.
    """
    files = [file for file in delta.files() if file.table in tables]

    read, deleted = await together(
        each(
            lambda file: read_file(store, file, lambda data: Layer(TABLES[file.table], data, file.path)),
            files,
        ),
        read_deletions(store, delta, _sorted_deletions),
    )
    layers: Layers = {name: [] for name in tables}
    for file, layer in zip(files, read, strict=True):
        layers[file.table].append(layer)
    for name, keys in deleted.items():
        if name in layers:
            layers[name].append(Deletions(TABLES[name], keys))
    return layers


def _sorted_deletions(data: bytes) -> dict[str, list[Key]]:
    return {name: sorted(set(keys)) for name, keys in decode_tombstones(data).items()}


async def _attach(state: State, layers: Layers, progress: LoadProgress) -> None:
    """Give an empty state its layers, table by table, so that other tasks run in between."""

    def note(rows: int) -> None:
        progress.rows_done += rows

    stored: dict[str, StoredRows] = {}
    for name, table in TABLES.items():
        stored[name] = await named(lambda table=table, name=name: StoredRows(table, layers[name], note))  # type: ignore[misc]
    await named(lambda: state.attach(stored))


async def named(work: Callable[[], T]) -> T:
    """Run `work` in a thread; damage that it finds in a file is raised as `DamagedObject` with the file's name."""
    try:
        return await in_thread(work)
    except DamagedTable as error:
        raise DamagedObject(error.path, f"cannot be read: {error}") from error


async def read_rows(
    store: ObjectStore,
    manifest: Manifest,
    *,
    tables: Collection[str] = tuple(TABLES),
    concurrency: int = READS_TOGETHER,
) -> Rows:
    """Return the rows of `tables` that `manifest` publishes; the other tables are empty.

    Layers are merged by our rules or by the reference's, depending on who published. Raises `DamagedObject`, and the
    store's errors.
    """
    base: dict[str, list[Row]] = {}
    files = [file for file in manifest.base_snapshot.files() if file.table in tables]
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


def lay_on(state: State, delta: DeltaRows) -> None:
    """Apply a delta of ours to `state`: its rows replace older ones, then its deletions remove rows."""
    for name, rows in delta.rows.items():
        state.load_rows(name, rows)
    for name, keys in delta.deleted.items():
        for key in keys:
            state.unload(name, key)


async def _read_digest(store: ObjectStore, manifest: Manifest, ours: SpringlineSection) -> Digest:
    files = manifest.base_snapshot.all_buckets()
    files += [file for delta in manifest.l0_deltas for file in delta.all_buckets()]
    documents = await each(lambda file: read_file(store, file, bytes), files)
    try:
        return load_digest(documents, ours.digest.all_tables())
    except DamagedBuckets as error:
        raise DamagedObject(_path(manifest), f"does not fit its digest buckets: {error}") from error


def _check(manifest: Manifest, state: State, digest: Digest, *, whole: bool) -> None:
    """Raise `DamagedObject` unless the state is the one that our manifest records."""
    counts = {name: (state.count(name), digest.rows(name)) for name in TABLES}
    wrong = [f"{name} has {found} rows, not {due}" for name, (found, due) in counts.items() if found != due]
    if whole and not wrong:
        differing = Digest.of({name: state.rows(name) for name in TABLES}).diff(digest)
        wrong = [f"rows of {name} are others than those that the digest was made of" for name in differing]
    if wrong:
        raise DamagedObject(_path(manifest), f"records another state than its files hold: {', '.join(wrong)}")


async def _adopt(store: ObjectStore, manifest: Manifest, config: FoldConfig, concurrency: int) -> LoadedState:
    """Load what the reference published, by its own rules (docs/protocol.md#overlay); it records nothing to compare
    the result with.
    """
    rows = await read_rows(store, manifest, concurrency=concurrency)
    last = manifest.watermarks.last_committed_event_id

    def fill() -> LoadedState:
        state = State(config)
        for name in TABLES:
            state.load_rows(name, rows[name].values())
        state.last_event_id = last or ""
        if state.prunes and last is not None:
            state.frontier_ms = ulid_time_ms(last)
        state.accept()
        return LoadedState(state, Digest.of({name: state.rows(name) for name in TABLES}))

    return await in_thread(fill)


def _path(manifest: Manifest) -> str:
    return paths.orchestration_manifest(manifest.manifest_id)


MOST_REVISIONS = 16
"""How many revisions to walk back for a base's predecessor; beyond that, loading is as quick."""


async def deltas_between(
    store: ObjectStore, known: Manifest, wanted: Manifest, *, most: int = MOST_REVISIONS
) -> list[Delta] | None:
    """Return the deltas that lead from the state of `known` to that of `wanted`, oldest first.

    None if there is no such chain: the states are of different lineages, configurations or owners, only one of them
    has tables of our own, a base was written without a bridge, or `known` is more than `most` revisions old. Manifests
    in between are read only where a base was written. Raises `DamagedObject`, and the store's errors.
    """
    if known.springline is None or int(wanted.manifest_id) < int(known.manifest_id):
        return None
    chain = await _back_to_base_of(store, known, wanted, most)
    if chain is None:
        return None
    found: list[Delta] = []
    at = known
    for manifest in reversed(chain):
        ours = manifest.springline
        if ours is None or ours.config != known.springline.config:
            return None
        if ours.digest.has_own != known.springline.digest.has_own:
            return None
        seen = {delta.delta_id for delta in at.l0_deltas}
        if _base_of(manifest) != _base_of(at):
            if ours.bridge is None or manifest.l0_deltas:
                return None
            found.append(ours.bridge)
        elif manifest.manifest_id != at.manifest_id:
            found += [delta for delta in manifest.l0_deltas if delta.delta_id not in seen]
        at = manifest
    return found


async def _back_to_base_of(store: ObjectStore, known: Manifest, wanted: Manifest, most: int) -> list[Manifest] | None:
    """Return `wanted` and its predecessors, newest first, up to the first one that has the base of `known`."""
    chain = [wanted]
    while _base_of(chain[-1]) != _base_of(known):
        path = chain[-1].previous_manifest_path
        found = None if path is None or len(chain) > most else await _readable(store, path)
        if found is None or int(found.manifest.manifest_id) < int(known.manifest_id):
            return None
        chain.append(found.manifest)
    oldest = chain[-1]
    same = oldest.manifest_id == known.manifest_id
    return None if same and oldest.revision_ulid != known.revision_ulid else chain


async def _readable(store: ObjectStore, path: str) -> StoredManifest | None:
    """Return a manifest, None if it is gone or damaged: loading the wanted one does without its predecessors."""
    try:
        return await read_manifest(store, path)
    except DamagedObject:
        return None


def _base_of(manifest: Manifest) -> str | None:
    return manifest.base_snapshot.snapshot_id


async def advance(store: ObjectStore, state: State, digest: Digest, known: Manifest, wanted: Manifest) -> int | None:
    """Bring `state` and its `digest` from revision `known` to `wanted`; None if they have to be loaded anew.

    Returns how many rows the deltas in between had. A folded batch must be accepted or rolled back before. After None,
    the caller must drop state and digest; after an error they are unchanged. The digest is computed from the rows
    and compared with the one that `wanted` records, so that a wrong lineage is found. Raises as
    `deltas_between`.
    """
    deltas = await deltas_between(store, known, wanted)
    if deltas is None or wanted.springline is None:
        return None
    ours = wanted.springline
    try:
        contents = await each(lambda delta: read_delta(store, delta), deltas, concurrency=_DELTAS_TOGETHER)
    except DamagedObject:
        return None  # The damaged file may be one that `wanted` itself does not name.

    def work() -> bool:
        for content in contents:
            digest.apply(_changes(state, content))
            lay_on(state, content)
        state.last_event_id = wanted.watermarks.last_committed_event_id or ""
        state.frontier_ms = ours.retention_frontier_ms
        state.accept()
        digest.accept()
        return digest.tables() == ours.digest.all_tables()

    return sum(content.size for content in contents) if await in_thread(work) else None


def _changes(state: State, content: DeltaRows) -> dict[str, list[RowChange]]:
    """Return what laying `content` on `state` changes."""
    changes: dict[str, list[RowChange]] = {}
    for name, rows in content.rows.items():
        key_of = TABLES[name].key_of
        changes[name] = [RowChange(key := key_of(row), state.row(name, key), row) for row in rows]
    for name, keys in content.deleted.items():
        before = ((key, state.row(name, key)) for key in keys)
        changes.setdefault(name, []).extend(RowChange(key, row, None) for key, row in before if row is not None)
    return changes
