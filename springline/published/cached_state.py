"""A workspace's state in the memory of a process: the published state, and at most one batch folded on top of it.

The state of a revision is a function of its manifest, and manifests never change: the state cached for a manifest's
path never becomes invalid, and only a step that starts from that path uses it. The batch on top is undecided until the
next step: if that starts from the batch's own manifest, the batch is accepted; if from another, it is rolled back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import Context
from dataclasses import dataclass, field

from springline.errors import InvariantViolated
from springline.ledger.request import EventOutcome
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.state import State
from springline.published.configuration import check_configuration
from springline.published.deltas import Keys
from springline.published.head import read_manifest
from springline.published.index import PACK_EVENTS, EventsIndex
from springline.published.index_files import read_index
from springline.published.load import KnownFiles, LoadProgress, advance, load_state
from springline.published.manifest import Manifest, SpringlineSection
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore, StoreError

KEYS_KEPT_ROWS = 16_384
"""Keys of larger deltas are not kept in memory: they are merged so rarely that reading them again costs less."""

RELOAD_ROWS = 1_000_000
"""Each row that was read or changed by itself is a Python object, which takes ten times the memory of the files.
Beyond this many rows the state is loaded again from its files: that costs less than the work that touched the rows."""

_ROW_BYTES = 500


@dataclass(frozen=True, slots=True)
class NextRevision:
    """The values that a `CachedState` takes over once a written revision is published."""

    path: str
    manifest: Manifest
    digest: Digest
    index: EventsIndex
    delta_keys: dict[str, Keys]
    rows_changed: int = 0


@dataclass(slots=True)
class OnTop:
    """Events folded on the state, in `fold_seconds`, and undecided yet; `written` once their revision is stored.

    `name`: what the caller that folded them calls them.
    """

    name: str
    outcomes: Counter[EventOutcome]
    fold_seconds: float
    bodies: dict[str, bytes] = field(default_factory=dict)
    written: NextRevision | None = None


@dataclass(slots=True)
class CachedState:
    """The state of the revision at `path`; None: of an empty ledger.

    `manifest` is ours, or the one of the reference that the state is taken over from. `tail`: bytes of events that
    have objects of their own. `delta_keys`: keys that a delta holds, by its id, where they are kept. `known`: the
    files that the state was loaded from. `rows_changed`: by all rounds since. `own_filled`: the tables of our own were
    folded into the state, although its revision lacks them.
    """

    path: str | None
    manifest: Manifest | None
    state: State
    digest: Digest
    index: EventsIndex
    tail: dict[str, bytes] = field(default_factory=dict)
    delta_keys: dict[str, Keys] = field(default_factory=dict)
    on_top: OnTop | None = None
    known: KnownFiles = field(default_factory=KnownFiles)
    rows_changed: int = 0
    own_filled: bool = False

    @property
    def ours(self) -> SpringlineSection | None:
        """What the manifest says beyond the reference's fields; None for an empty or a taken over state."""
        return None if self.manifest is None else self.manifest.springline

    @property
    def lacks_own(self) -> bool:
        """Whether a build that had no tables of its own published this state, which has events."""
        return self.ours is not None and not self.ours.digest.has_own and self.ours.events.count > 0

    @property
    def rounds_folded(self) -> int:
        """The last round that the published state holds."""
        return 0 if self.ours is None else self.ours.rounds_folded

    @property
    def last_event_id(self) -> str | None:
        """The greatest event that the published state holds."""
        return None if self.manifest is None else self.manifest.watermarks.last_committed_event_id

    @property
    def adopted_through(self) -> str | None:
        """The id up to which events are part of what was taken over from the reference, None if nothing was."""
        if self.ours is not None:
            return None if self.ours.adopted is None else self.ours.adopted.watermark
        return self.last_event_id

    def packs_with(self, adding: int) -> bool:
        """Say whether the index packs its tail once so many events are added: then `tail` must be complete."""
        return len(self.index.tail) + adding >= PACK_EVENTS

    def roll_back(self) -> None:
        """Undo the batch on top."""
        self.state.rollback()
        self.on_top = None

    def accept(self) -> None:
        """Make the batch on top, whose revision was written, the published state."""
        on_top = self.on_top
        if on_top is None or on_top.written is None:
            raise ValueError("nothing that was written lies on top")
        revision = on_top.written
        self.state.accept()
        revision.digest.accept()
        self.path, self.manifest = revision.path, revision.manifest
        self.digest, self.index = revision.digest, revision.index
        at_hand = {**self.tail, **on_top.bodies}
        self.tail = {event_id: at_hand[event_id] for event_id, _ in self.index.tail if event_id in at_hand}
        self.delta_keys = revision.delta_keys
        self.rows_changed += revision.rows_changed
        self.on_top = None

    @property
    def size(self) -> int:
        """Bytes of memory that this takes, about."""
        return self.known.size + _ROW_BYTES * max(0, self.rows_changed + self.state.rows_read)

    @property
    def is_large(self) -> bool:
        """Whether so many rows are Python objects that the state should be loaded again."""
        return self.rows_changed + self.state.rows_read > RELOAD_ROWS


class StateCache:
    """Holds the state of one revision and brings it to another. The caller holds a lock: one step at a time.

    A load goes on if the step that asked for it ends: the next step that asks finds it under way or done.
    """

    def __init__(self, config: FoldConfig) -> None:
        self._config = config
        self._held: CachedState | None = None
        self._loading: asyncio.Task[CachedState] | None = None
        self.progress: LoadProgress | None = None
        """The progress of the load that is under way, None if none is."""

    async def at(self, store: ObjectStore, path: str | None, *, keep: str | None = None) -> CachedState:
        """Return the state of the manifest at `path`; None: of an empty ledger.

        The batch on top is accepted if `path` is its revision, kept if `keep` is its name, and rolled back
        otherwise. The cached state is brought forward if possible, else loaded. Raises `OtherConfiguration`,
        `DamagedObject` and the store's errors; nothing is held then.
        """
        held, self._held = self._held, None
        if held is None and self._loading is not None:
            held = await self._loaded_for_another()
        held = await self._brought(store, held, path, keep)
        if held is None:
            held = await self._load(store, path)
        elif held.is_large and held.on_top is None:
            held = await self._load_anew(store, path, held)
        self._held = held
        return held

    def replace(self, warm: CachedState) -> None:
        """Replace the cached state."""
        self._held = warm

    def drop(self) -> None:
        """Drop the cached state, as after an error in the midst of folding."""
        self._held = None

    @property
    def held(self) -> CachedState | None:
        """The cached state, of any revision."""
        return self._held

    async def _brought(
        self, store: ObjectStore, held: CachedState | None, path: str | None, keep: str | None
    ) -> CachedState | None:
        if held is None:
            return None
        on_top = held.on_top
        if on_top is not None and on_top.written is not None and on_top.written.path == path:
            held.accept()
        if held.path == path:
            if held.on_top is None or held.on_top.name != keep:
                held.roll_back()
            return held
        held.roll_back()
        if path is None or held.manifest is None or held.ours is None:
            return None
        wanted = await self._manifest(store, path)
        changed = await advance(store, held.state, held.digest, held.manifest, wanted)
        if changed is None:
            return None
        index = await read_index(store, None if wanted.springline is None else wanted.springline.events.index)
        tail = {event_id: held.tail[event_id] for event_id, _ in index.tail if event_id in held.tail}
        known = {delta.delta_id for delta in wanted.l0_deltas}
        keys = {delta_id: its_keys for delta_id, its_keys in held.delta_keys.items() if delta_id in known}
        grown = held.rows_changed + changed
        return CachedState(
            path, wanted, held.state, held.digest, index, tail, keys, known=held.known, rows_changed=grown
        )

    async def _loaded_for_another(self) -> CachedState | None:
        """Return the result of the load under way, None if it fails: the caller loads again if it still needs to."""
        try:
            return await self._loaded()
        except (InvariantViolated, StoreError):
            return None

    async def _load_anew(self, store: ObjectStore, path: str | None, held: CachedState) -> CachedState:
        """Return the state of `held` with its rows in files; `held` itself if the published files cannot be read."""
        try:
            return await self._load(store, path, held.known)
        except DamagedObject:
            held.rows_changed = -held.state.rows_read
            return held

    async def _load(self, store: ObjectStore, path: str | None, known: KnownFiles | None = None) -> CachedState:
        # In a context of its own: the load belongs to none of the steps that wait for it.
        self._loading = asyncio.create_task(self._read(store, path, known), context=Context())
        return await self._loaded()

    async def _loaded(self) -> CachedState:
        loading = self._loading
        assert loading is not None
        try:
            return await asyncio.shield(loading)
        finally:
            if loading.done():
                self._loading = None

    async def _read(self, store: ObjectStore, path: str | None, known: KnownFiles | None) -> CachedState:
        if path is None:
            warm = CachedState(None, None, State(self._config), Digest(), EventsIndex())
        else:
            self.progress = LoadProgress()
            try:
                manifest = await self._manifest(store, path)
                loaded = await load_state(store, manifest, self._config, known=known, progress=self.progress)
                ours = manifest.springline
                index = await read_index(store, None if ours is None else ours.events.index)
            finally:
                self.progress = None
            warm = CachedState(path, manifest, loaded.state, loaded.digest, index, known=loaded.known)
        warm.state.tracking = True
        return warm

    async def _manifest(self, store: ObjectStore, path: str) -> Manifest:
        found = await read_manifest(store, path)
        if found is None:
            raise DamagedObject(path, "is missing, and the round is to be folded on it")
        check_configuration(found.manifest, self._config)
        return found.manifest
