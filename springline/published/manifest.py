"""Pointer and manifest: the parts of the published state, the succession of revisions, and which bases to keep.

See docs/formats.md#pointer, docs/formats.md#manifest, docs/formats.md#table-files, docs/formats.md#watermarks,
docs/protocol.md#reading-published, docs/protocol.md#publication.

The reference's fields keep their names, order and meaning. Ours are one object, `springline`, and the artifact
`buckets` of a base or delta; the reference ignores both, and drops them when it publishes. We ignore unknown fields in
the same way. A None or empty optional field is left out; every other field is always written.
Instants are RFC 3339 texts; `springline.ledger.timestamps` turns milliseconds into them.

Checkpoints (docs/protocol.md#state-of-a-set): a late event costs the fold of everything above the newest checkpoint
below it. A few checkpoints must serve events of all ages, so the distances between them grow with their age: refolding
from one costs at most a small multiple of refolding from right below the late event. An event older than the oldest
checkpoint is refolded from the empty state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from springline.checked import WrongChecksum, verify, with_checksum
from springline.errors import InvariantViolated
from springline.paths import orchestration_manifest, orchestration_manifest_id, orchestration_pointer
from springline.projection.digest import TableDigest, own_digest, state_digest
from springline.projection.schema import OWN_TABLES, REFERENCE_TABLES
from springline.published.files import U32, Artifact, RowCounts, Size, TableFile, TablePaths, checksum_of

NO_MANIFEST: Final = "0" * 20
"""The manifest id while nothing has been published."""
EPOCH: Final = "1970-01-01T00:00:00Z"
SCHEMA_VERSION: Final = 2
"""What we write: deletions are recorded in every delta (docs/formats.md#deletions)."""
SPRINGLINE_FORMAT: Final = 1

ManifestId = Annotated[str, Meta(pattern="^[0-9]{20}$")]
Instant = Annotated[
    str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$")
]


class DamagedManifest(InvariantViolated):
    """A pointer or manifest with invalid content. `path` names the object, `why` says what is wrong."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


def _zero() -> int:
    """Return 0: a default that is written explicitly, because the reference writes it."""
    return 0


def _no_manifest() -> str:
    return NO_MANIFEST


class Pointer(Struct, omit_defaults=True, frozen=True, kw_only=True):
    """The one mutable object: which manifest is published (docs/formats.md#pointer).

    `parent_pointer_hash`: `pointer_hash` of the pointer that this one replaced. `manifest_sha256` is ours: that of the
    manifest's bytes in hex, None where it was not known.
    """

    manifest_id: ManifestId = field(default_factory=_no_manifest)
    manifest_path: str
    epoch: Size = field(default_factory=_zero)
    parent_pointer_hash: str | None = None
    updated_at: Instant
    manifest_sha256: str | None = None


class Watermarks(Struct, omit_defaults=True, frozen=True):
    """How far the ledger is folded (docs/formats.md#watermarks): the greatest id so far. Late events may still come
    below it.
    """

    last_committed_event_id: str | None = None
    last_visible_event_id: str | None = None
    events_processed_through: str | None = None
    last_processed_file: str | None = None
    last_processed_at: Instant = field(default_factory=lambda: EPOCH)


class OwnFiles(Struct, omit_defaults=True, frozen=True, kw_only=True):
    """The files of a base or delta for the tables of our own; one without rows has no file.

    `rows`: rows of each file. `deletions` lists `deletion_count` keys of deleted rows, in a delta. `buckets`: those of
    the digest of our tables.
    """

    tables: dict[str, Artifact] = field(default_factory=dict)
    rows: dict[str, U32] = field(default_factory=dict)
    deletions: Artifact | None = None
    deletion_count: U32 = 0
    buckets: Artifact | None = None

    def files(self) -> Iterator[TableFile]:
        """Yield the files of tables, in the schema's order."""
        for name in OWN_TABLES:
            artifact = self.tables.get(name)
            if artifact is not None:
                yield TableFile(name, artifact.path, artifact.sha256, artifact.byte_size)


class BaseSnapshot(Struct, omit_defaults=True, frozen=True):
    """The merged state below the deltas; without `snapshot_id` there is no base. `buckets` and `springline` are
    ours.
    """

    snapshot_id: str | None = None
    published_at: Instant = field(default_factory=lambda: EPOCH)
    tables: TablePaths = field(default_factory=TablePaths)
    delete_channel_version: U32 = field(default_factory=_zero)
    buckets: Artifact | None = None
    springline: OwnFiles | None = None

    def files(self) -> Iterator[TableFile]:
        """Yield the files of all tables."""
        return _files(self)

    def all_buckets(self) -> list[Artifact]:
        """Return the files of digest buckets."""
        return _buckets(self)


class EventRange(Struct, frozen=True):
    """Least and greatest id of a delta's batch, and how many events it had."""

    from_event: str
    to_event: str
    event_count: U32


class Delta(Struct, omit_defaults=True, frozen=True):
    """Rows that changed, and deletions that are applied after them. `buckets` and `springline` are ours."""

    delta_id: str
    created_at: Instant
    event_range: EventRange
    tables: TablePaths
    row_counts: RowCounts
    deletions: Artifact | None = None
    deletion_count: U32 = field(default_factory=_zero)
    buckets: Artifact | None = None
    springline: OwnFiles | None = None

    @property
    def rows(self) -> int:
        """Rows and deletions: what merging this delta costs."""
        own = 0 if self.springline is None else sum(self.springline.rows.values()) + self.springline.deletion_count
        return self.row_counts.total + self.deletion_count + own

    def files(self) -> Iterator[TableFile]:
        """Yield the files of all tables."""
        return _files(self)

    def all_buckets(self) -> list[Artifact]:
        """Return the files of digest buckets."""
        return _buckets(self)

    def all_deletions(self) -> list[Artifact]:
        """Return the files of deleted keys."""
        own = None if self.springline is None else self.springline.deletions
        return [one for one in (self.deletions, own) if one is not None]


def _files(layer: BaseSnapshot | Delta) -> Iterator[TableFile]:
    yield from layer.tables.files()
    if layer.springline is not None:
        yield from layer.springline.files()


def _buckets(layer: BaseSnapshot | Delta) -> list[Artifact]:
    own = None if layer.springline is None else layer.springline.buckets
    return [one for one in (layer.buckets, own) if one is not None]


class L0Limits(Struct, frozen=True):
    """The number, rows and age of deltas from which on they are merged; the defaults are the reference's."""

    max_count: U32 = 10
    max_rows: U32 = 100_000
    max_age_seconds: U32 = 300


class Witness(Struct, frozen=True):
    """One event of the batch that a revision was published for; `checksum_sha256` is over its canonical JSON."""

    path: str
    checksum_sha256: str


class PublicationWitness(Struct, frozen=True):
    """The batch that a revision was published for, sorted by path."""

    events: list[Witness]


class ConfigSection(Struct, omit_defaults=True, frozen=True):
    """The configuration that the state was folded under (`FoldConfig`)."""

    fingerprint: str
    retention_days: U32 | None = None


class DigestSection(Struct, omit_defaults=True, frozen=True):
    """Digest of the reference's tables and of each, in hex; `own` and `own_tables` those of our own.

    A revision of a build that had no tables of its own lacks the latter (docs/protocol.md#own-tables).
    """

    state: str
    tables: dict[str, TableDigest]
    own: str | None = None
    own_tables: dict[str, TableDigest] | None = None

    @classmethod
    def of(cls, tables: Mapping[str, TableDigest], *, has_own: bool = True) -> DigestSection:
        """Return the section for the digests of all tables; `has_own`: the revision holds the tables of our own."""
        theirs = {name: tables[name] for name in REFERENCE_TABLES}
        if not has_own:
            return cls(state_digest(tables), theirs)
        return cls(state_digest(tables), theirs, own_digest(tables), {name: tables[name] for name in OWN_TABLES})

    @property
    def whole(self) -> str:
        """Both digests, as `Digest.whole` returns them."""
        return f"{self.state}:{self.own}"

    @property
    def has_own(self) -> bool:
        """Whether the revision holds the tables of our own."""
        return self.own_tables is not None

    def all_tables(self) -> dict[str, TableDigest]:
        """Return the digests of all tables; those of ours are empty where the revision does not hold them."""
        own = self.own_tables
        return self.tables | (dict.fromkeys(OWN_TABLES, _EMPTY) if own is None else own)


_EMPTY: Final = TableDigest(0, "0" * 32)


class EventsSection(Struct, omit_defaults=True, frozen=True):
    """How many events the state holds, and the index that names them."""

    count: Size
    index: Artifact | None = None


class Checkpoint(Struct, omit_defaults=True, frozen=True):
    """A manifest whose base alone is the state at `watermark`, which is that of the first `events` events."""

    manifest_path: str
    watermark: str | None
    events: Size


class Adopted(Struct, omit_defaults=True, frozen=True):
    """The manifest of the reference that this workspace's state was taken over from."""

    manifest_path: str
    watermark: str | None = None


class ForeignRevisions(Struct, omit_defaults=True, frozen=True):
    """Revisions that the reference published in between, some of whose events are not in the state yet.

    From the manifest `head` backwards to `back_to`, exclusive; None: to the first of all.
    """

    head: str
    back_to: str | None = None


class SpringlineSection(Struct, omit_defaults=True, frozen=True, kw_only=True):
    """Our fields beyond the reference's.

    `rounds_folded`: rounds up to this number are in the state. `checkpoints` from the oldest to the newest. `bridge`:
    the delta of the last round, when a new base holds it too, so that a reader of the state before need not load it.
    """

    format: Size = field(default_factory=lambda: SPRINGLINE_FORMAT)
    config: ConfigSection
    digest: DigestSection
    events: EventsSection
    rounds_folded: Size
    retention_frontier_ms: int | None = None
    checkpoints: list[Checkpoint] = field(default_factory=list)
    bridge: Delta | None = None
    adopted: Adopted | None = None
    foreign: list[ForeignRevisions] = field(default_factory=list)


class Manifest(Struct, omit_defaults=True, frozen=True, kw_only=True):
    """One revision of the published state (docs/formats.md#manifest). A revision of the reference's own has no
    `springline`.
    """

    manifest_id: ManifestId = field(default_factory=_no_manifest)
    epoch: Size = field(default_factory=_zero)
    previous_manifest_path: str | None = None
    schema_version: U32
    revision_ulid: str
    published_at: Instant
    watermarks: Watermarks
    base_snapshot: BaseSnapshot
    l0_deltas: list[Delta]
    l0_count: U32
    l0_limits: L0Limits
    publication_witness: PublicationWitness | None = None
    springline: SpringlineSection | None = None


def encode(document: Pointer | Manifest) -> bytes:
    """Return the bytes of a pointer or manifest: JSON indented by two spaces, the same bytes for equal content.

    Those of ours carry their checksum.
    """
    data = msgspec.json.format(msgspec.json.encode(document), indent=2)
    is_ours = isinstance(document, Pointer) or document.springline is not None
    return with_checksum(data) if is_ours else data


_Document = TypeVar("_Document", bound=Struct)


def _decode(decoder: msgspec.json.Decoder[_Document], data: bytes, path: str) -> _Document:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedManifest(path, str(error)) from error


def _verify(data: bytes, path: str) -> None:
    try:
        verify(data)
    except WrongChecksum as error:
        raise DamagedManifest(path, str(error)) from error


class _Format(Struct):
    format: int


class _Formatted(Struct):
    springline: _Format | None = None


_POINTER: Final = msgspec.json.Decoder(Pointer)
_MANIFEST: Final = msgspec.json.Decoder(Manifest)
_FORMATTED: Final = msgspec.json.Decoder(_Formatted)


def decode_pointer(data: bytes, path: str) -> Pointer:
    """Check and parse the pointer read from `path`. Raises `DamagedManifest`."""
    _verify(data, path)
    return _decode(_POINTER, data, path)


def decode_manifest(data: bytes, path: str) -> Manifest:
    """Parse the manifest read from `path`, ours or the reference's.

    Raises `DamagedManifest` if it is not a manifest, contradicts itself (`l0_count`), declares an unknown version,
    or declares recorded deletions (version 2) and lacks them: without them deleted rows would be read
    (docs/formats.md#deletions).
    """
    _verify(data, path)
    formatted = _decode(_FORMATTED, data, path).springline
    if formatted is not None and formatted.format != SPRINGLINE_FORMAT:
        raise DamagedManifest(path, f"`springline.format` is {formatted.format}, we read {SPRINGLINE_FORMAT}: upgrade")
    manifest = _decode(_MANIFEST, data, path)
    _check(manifest, path)
    return manifest


def _check(manifest: Manifest, path: str) -> None:
    deltas = manifest.l0_deltas
    if manifest.l0_count != len(deltas):
        raise DamagedManifest(path, f"`l0_count` is {manifest.l0_count}, but `l0_deltas` has {len(deltas)}")
    if manifest.springline is not None:
        digest = manifest.springline.digest
        if digest.tables.keys() != REFERENCE_TABLES.keys():
            raise DamagedManifest(path, "`springline.digest.tables` does not have exactly the 17 tables")
        if digest.own_tables is not None and digest.own_tables.keys() != OWN_TABLES.keys():
            raise DamagedManifest(path, "`springline.digest.own_tables` has other tables than ours")
    if not 1 <= manifest.schema_version <= SCHEMA_VERSION:
        raise DamagedManifest(path, f"`schema_version` is {manifest.schema_version}; known are 1 and 2")
    if manifest.schema_version < SCHEMA_VERSION:
        return
    for delta in deltas:
        if delta.deletions is None:
            raise DamagedManifest(path, f"`schema_version` is 2, but delta {delta.delta_id} has no `deletions`")
    base = manifest.base_snapshot
    if base.snapshot_id is not None and base.delete_channel_version == 0:
        raise DamagedManifest(path, f"`schema_version` is 2, but base {base.snapshot_id} has no delete channel")


class InvalidSuccession(InvariantViolated):
    """A revision that must not follow the one given: publishing it would lose a newer one."""


def next_manifest_id(manifest_id: str) -> str:
    """Return the id after `manifest_id`. Raises `InvalidPath` after the greatest."""
    return orchestration_manifest_id(int(manifest_id) + 1)


def pointer_hash(raw: bytes) -> str:
    """Return the `parent_pointer_hash` of a pointer's successor; `raw` is the stored object."""
    return checksum_of(raw)


def published(pointer: Pointer, manifest: Manifest) -> Manifest:
    """Return the manifest as its pointer publishes it: with the greater of both epochs.

    Raises `DamagedManifest` if they name different revisions.
    """
    expected = orchestration_manifest(pointer.manifest_id)
    if pointer.manifest_path != expected:
        why = f"`manifest_path` is {pointer.manifest_path}, but manifest {pointer.manifest_id} is {expected}"
        raise DamagedManifest(orchestration_pointer(), why)
    if manifest.manifest_id != pointer.manifest_id:
        why = f"`manifest_id` is {manifest.manifest_id}, but the pointer has {pointer.manifest_id}"
        raise DamagedManifest(pointer.manifest_path, why)
    return msgspec.structs.replace(manifest, epoch=max(manifest.epoch, pointer.epoch))


def check_pointer_succession(pointer: Pointer, previous: Pointer, previous_raw: bytes) -> None:
    """Check that `pointer` may replace `previous`, whose stored bytes are `previous_raw`.

    Raises `InvalidSuccession` unless the id is greater, the epoch not smaller, and the parent hash that of the bytes.
    """
    _check_order(pointer, previous, "pointer")
    expected = pointer_hash(previous_raw)
    if pointer.parent_pointer_hash != expected:
        raise InvalidSuccession(f"the pointer's parent is {pointer.parent_pointer_hash}, the stored one is {expected}")


def check_manifest_succession(manifest: Manifest, previous: Manifest) -> None:
    """Check that `manifest` may follow `previous`: greater id, no smaller epoch. Raises `InvalidSuccession`."""
    _check_order(manifest, previous, "manifest")


def _check_order(new: Pointer | Manifest, previous: Pointer | Manifest, what: str) -> None:
    if int(new.manifest_id) <= int(previous.manifest_id):
        raise InvalidSuccession(f"the {what}'s id {new.manifest_id} does not lie above {previous.manifest_id}")
    if new.epoch < previous.epoch:
        raise InvalidSuccession(f"the {what}'s epoch {new.epoch} lies below {previous.epoch}")


MOST: Final = 8
NEGLIGIBLE_EVENTS: Final = 10_000
"""Refolding this many events is so quick that it needs no checkpoint."""


def with_checkpoint(kept: Sequence[Checkpoint], new: Checkpoint) -> list[Checkpoint]:
    """Return the checkpoints to keep, oldest first, when a base is written: the new one and at most seven others.

    The first one dropped is the one whose neighbours are closest in proportion to their age.
    """
    checkpoints = [one for one in kept if one.manifest_path != new.manifest_path]
    checkpoints.append(new)
    while len(checkpoints) > MOST:
        ages = [new.events - one.events + NEGLIGIBLE_EVENTS for one in checkpoints]
        ages.insert(0, new.events + NEGLIGIBLE_EVENTS)  # the empty state is the oldest of all
        # ages[i + 1] is the age of checkpoint i, ages[i] and ages[i + 2] those of its neighbours.
        spread = [ages[place] / ages[place + 2] for place in range(len(checkpoints) - 1)]
        del checkpoints[spread.index(min(spread))]
    return checkpoints


def below(checkpoints: Sequence[Checkpoint], event_id: str) -> Checkpoint | None:
    """Return the newest checkpoint below an event with this id, or None for the empty state."""
    older = valid_below(checkpoints, event_id)
    return older[-1] if older else None


def valid_below(checkpoints: Sequence[Checkpoint], event_id: str) -> list[Checkpoint]:
    """Return the checkpoints that are still states of the ledger once it has a late event with this id.

    Every base at or above the id lacks the event. Oldest first, as given.
    """
    return [one for one in checkpoints if one.watermark is None or one.watermark < event_id]
