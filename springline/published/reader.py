"""Reading the published state: one read of the pointer, then only the files that are not in memory yet.

See docs/protocol.md#publication.

A reader keeps the requested tables of the revision that it saw last, and brings them forward by the deltas of
newer ones. Every answer names its revision; answers of one revision never change.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from springline import paths
from springline.errors import InvariantViolated
from springline.paths import Scope
from springline.projection.digest import Digest, TableDigest, own_digest, state_digest
from springline.projection.layers import Layer
from springline.projection.schema import REFERENCE_TABLES, TABLES
from springline.published.head import PublishedHead, read_head, read_head_of
from springline.published.load import KnownFiles, deltas_between, named, read_delta_layers, read_layers, read_rows
from springline.published.manifest import NO_MANIFEST, Manifest
from springline.published.snapshot import Revision, StateSnapshot, TableRows, nothing
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.storage.threads import in_thread
from springline.storage.together import each

MAX_WORKSPACES = 64
MAX_BYTES = 384 * 1024 * 1024
"""Limit of cached files, all workspaces together; the tables of the current request are always kept."""
MAX_LAYERS = 48
"""A table in more files than this, after many small deltas, is loaded again: by then the deltas have been merged."""

UNPUBLISHED = Revision(NO_MANIFEST, "", None, None)


@dataclass(frozen=True, slots=True)
class ReaderHead:
    """The published revision. `watermarks` are as in the manifest, empty before the first publish."""

    revision: Revision
    events: int = 0
    rounds_folded: int = 0
    watermarks: dict[str, Any] = field(default_factory=dict)
    manifest: Manifest | None = None

    def golden_manifest(self) -> dict[str, Any]:
        """Return the manifest fields of a file in golden form."""
        return {
            "has_base_snapshot": self.manifest is not None and self.manifest.base_snapshot.snapshot_id is not None,
            "l0_count": 0 if self.manifest is None else self.manifest.l0_count,
            "manifest_id": self.revision.manifest_id,
            "schema_version": 0 if self.manifest is None else self.manifest.schema_version,
        }

    def golden_watermarks(self) -> dict[str, Any]:
        """Return the watermarks without wall-clock times."""
        return {name: value for name, value in self.watermarks.items() if name != "last_processed_at"}


@dataclass(frozen=True, slots=True)
class StateDigest:
    """The digest of a revision: of the reference's tables, of our own (None if it does not hold them), and of each."""

    head: ReaderHead
    state: str
    own: str | None
    tables: dict[str, dict[str, Any]]


@dataclass(slots=True)
class _Held:
    """The cache of a workspace: the revision seen last, and some of its tables."""

    pointer_version: str | None = None
    head: ReaderHead = field(default_factory=lambda: ReaderHead(UNPUBLISHED))
    tables: dict[str, TableRows] = field(default_factory=dict)
    files: KnownFiles = field(default_factory=KnownFiles)
    """Files of the previous revision that a load of the current one may use again."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def size(self) -> int:
        """Bytes of cached files."""
        return sum(table.size for table in self.tables.values())

    def known(self) -> KnownFiles:
        """Return the cached files."""
        layers = [layer for table in self.tables.values() for layer in table.layers if isinstance(layer, Layer)]
        return KnownFiles({layer.path: layer for layer in layers if layer.path})


class PublishedReader:
    """Reads the published state of any workspace of `store`.

    At most `max_workspaces` and, beyond the tables of the request, `max_bytes` of files are cached.
    All methods raise `springline.storage.damage.DamagedObject` if the published state cannot be read, and the
    store's errors.
    """

    def __init__(self, store: ObjectStore, *, max_workspaces: int = MAX_WORKSPACES, max_bytes: int = MAX_BYTES) -> None:
        self.counts: Counter[str] = Counter()
        """How reads went: `held` in memory, `advanced` by newer deltas, or `loaded` from files."""
        self._store = store
        self._max_workspaces = max_workspaces
        self._max_bytes = max_bytes
        self._held: OrderedDict[Scope, _Held] = OrderedDict()

    async def snapshot(self, scope: Scope, names: Collection[str]) -> StateSnapshot:
        """Return the tables `names` of the current revision. Costs one read if nothing changed."""
        store = ScopedStore(self._store, scope)
        held = self._held.setdefault(scope, _Held())
        self._held.move_to_end(scope)
        stored = await store.get(paths.orchestration_pointer())
        if stored is None or stored.version != held.pointer_version or not held.tables.keys() >= set(names):
            async with held.turn:
                stored = await store.get(paths.orchestration_pointer())
                if stored is None or stored.version != held.pointer_version:
                    found = await read_head_of(store, stored)
                    await self._move(store, held, found)
                await self._load(store, held, names)
                snapshot = _snapshot(held, names)
            self._forget(held, names)
            return snapshot
        self.counts["held"] += 1
        return _snapshot(held, names)

    async def head(self, scope: Scope) -> ReaderHead:
        """Return the published revision. Costs one read if nothing changed.

        A pointer that has changed is checked against the rounds, which costs two reads beside it and its manifest;
        an unchanged one was checked when it was first read.
        """
        store = ScopedStore(self._store, scope)
        held = self._held.setdefault(scope, _Held())
        self._held.move_to_end(scope)
        known = held.pointer_version
        stored = await store.get(paths.orchestration_pointer())
        if stored is None or stored.version != known:
            async with held.turn:
                if held.pointer_version != known:  # Another call moved it on while this one waited for the lock.
                    stored = await store.get(paths.orchestration_pointer())
                if stored is None or stored.version != held.pointer_version:
                    await self._move(store, held, await read_head_of(store, stored))
                head = held.head
            self._forget(held, ())
            return head
        return held.head

    async def digest(self, scope: Scope) -> StateDigest:
        """Return the digest of the published state."""
        return await _digest_at(ScopedStore(self._store, scope), await self.head(scope))

    async def _move(self, store: ObjectStore, held: _Held, found: PublishedHead | None) -> None:
        """Bring the cached tables to the revision `found`; drop those that cannot be brought forward."""
        known, head = held.head.manifest, head_of(found)
        tables: dict[str, TableRows] = {}
        held.files = held.known()
        if held.tables and known is not None and head.manifest is not None:
            tables = await _advanced(store, known, head.manifest, held.tables) or {}
            self.counts["advanced"] += bool(tables)
        held.head, held.tables = head, tables
        held.pointer_version = None if found is None else found.pointer_version

    async def _load(self, store: ObjectStore, held: _Held, names: Collection[str]) -> None:
        missing = [name for name in names if name not in held.tables]
        if missing:
            self.counts["loaded"] += 1
            held.tables = held.tables | await _loaded(store, held.head.manifest, missing, held.files)
        held.files = KnownFiles()

    def _forget(self, asked: _Held, names: Collection[str]) -> None:
        """Evict the least recently used workspaces, then tables of `asked` that are not among `names`."""
        while len(self._held) > 1 and (len(self._held) > self._max_workspaces or self._size() > self._max_bytes):
            self._held.popitem(last=False)
        if self._size() > self._max_bytes:
            asked.tables = {name: asked.tables[name] for name in names}

    def _size(self) -> int:
        return sum(one.size for one in self._held.values())


def _snapshot(held: _Held, names: Collection[str]) -> StateSnapshot:
    return StateSnapshot(held.head.revision, {name: held.tables[name] for name in names})


async def read_published(store: ObjectStore, names: Collection[str]) -> tuple[ReaderHead, StateSnapshot]:
    """Read tables of the current revision in a workspace's part of a store, once."""
    head = await read_published_head(store)
    return head, StateSnapshot(head.revision, await _loaded(store, head.manifest, names))


async def read_published_head(store: ObjectStore) -> ReaderHead:
    """Return the published revision in a workspace's part of a store."""
    return head_of(await read_head(store))


async def read_digest(store: ObjectStore) -> StateDigest:
    """Return the digest of the published state: as recorded, or computed from the rows if the reference published."""
    return await _digest_at(store, await read_published_head(store))


async def _digest_at(store: ObjectStore, head: ReaderHead) -> StateDigest:
    if head.manifest is not None and head.manifest.springline is not None:
        recorded = head.manifest.springline.digest
        return _digest_of(head, recorded.all_tables(), has_own=recorded.has_own)
    tables = await _loaded(store, head.manifest, TABLES)
    return _digest_of(head, (await in_thread(lambda: Digest.of(tables))).tables(), has_own=False)


def head_of(found: PublishedHead | None) -> ReaderHead:
    """Return the head for readers of a published revision; None: nothing is published."""
    if found is None:
        return ReaderHead(UNPUBLISHED)
    manifest = found.manifest
    marks = manifest.watermarks
    revision = Revision(
        manifest.manifest_id, manifest.revision_ulid, manifest.published_at, marks.last_visible_event_id
    )
    ours = manifest.springline
    return ReaderHead(
        revision,
        0 if ours is None else ours.events.count,
        0 if ours is None else ours.rounds_folded,
        msgspec.to_builtins(marks),
        manifest,
    )


async def _loaded(
    store: ObjectStore, manifest: Manifest | None, names: Iterable[str], known: KnownFiles | None = None
) -> dict[str, TableRows]:
    """Read tables from their files, except files that are `known`."""
    wanted = list(names)
    if manifest is None:
        return nothing(wanted)
    if manifest.springline is None:
        rows = await read_rows(store, manifest, tables=wanted)
        return await in_thread(lambda: {name: TableRows.of(TABLES[name], rows[name].values()) for name in wanted})
    layers = await read_layers(store, manifest, tables=wanted, known=known)
    tables = {name: TableRows(TABLES[name], layers[name]) for name in wanted}
    wrong = await named(lambda: _wrong_counts(manifest, tables))
    if wrong:
        raise InvariantViolated(f"manifest {manifest.manifest_id} records other numbers of rows: {', '.join(wrong)}")
    return tables


async def _advanced(
    store: ObjectStore, known: Manifest, wanted: Manifest, tables: dict[str, TableRows]
) -> dict[str, TableRows] | None:
    """Return the tables of `known` brought forward to `wanted`; None if they have to be loaded."""
    deltas = await deltas_between(store, known, wanted)
    if deltas is None:
        return None
    try:
        contents = await each(lambda delta: read_delta_layers(store, delta, tables=list(tables)), deltas)
    except DamagedObject:
        return None  # The damaged file may be one that `wanted` itself does not name.
    moved = {}
    for name, table in tables.items():
        newer = [layer for content in contents for layer in content[name] if len(layer)]
        moved[name] = table.laid(newer) if newer else table
        if len(moved[name].layers) > MAX_LAYERS:
            return None
    return None if await named(lambda: _wrong_counts(wanted, moved)) else moved


def _wrong_counts(manifest: Manifest, tables: dict[str, TableRows]) -> list[str]:
    """Return the tables whose row count differs from the one that a manifest of ours records."""
    if manifest.springline is None:
        return []
    recorded = manifest.springline.digest.all_tables()
    return [name for name, table in tables.items() if name in recorded and len(table) != recorded[name].rows]


def _digest_of(head: ReaderHead, tables: dict[str, TableDigest], *, has_own: bool) -> StateDigest:
    names = TABLES if has_own else REFERENCE_TABLES
    shown = {name: {"rows": tables[name].rows, "sum": tables[name].sum} for name in names}
    return StateDigest(head, state_digest(tables), own_digest(tables) if has_own else None, shown)
