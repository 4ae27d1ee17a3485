"""Files of the state as manifests name them: read with hash and size checked, written once.

See docs/formats.md#table-files, docs/formats.md#state-objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Protocol, TypeVar

from msgspec import Meta, Struct, field

from springline import paths
from springline.errors import InvariantViolated
from springline.paths import ObjectPath, StateLayer
from springline.projection.parquet import decode_table, encode_table
from springline.projection.schema import CATALOG_RUN_INDEX, REFERENCE_TABLES, TABLES, Row
from springline.storage.damage import REBUILD, DamagedObject
from springline.storage.port import IfVersion, ObjectStore, Stored
from springline.storage.resolve import Other, put_once
from springline.storage.threads import in_thread
from springline.storage.together import each

U32 = Annotated[int, Meta(ge=0, le=4_294_967_295)]
Size = Annotated[int, Meta(ge=0)]
Checksum = Annotated[str, Meta(pattern="^(sha256:)?[0-9a-f]{64}$")]
"""`sha256:` and 64 hex digits; the oldest manifests leave the prefix out."""

_CATALOG: Final = CATALOG_RUN_INDEX.name


def checksum_of(data: bytes) -> str:
    """Return what manifests write for the SHA-256 of `data`: `sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Artifact(Struct, frozen=True):
    """A stored object: path within the workspace, checksum of its bytes, size in bytes."""

    path: str
    checksum_sha256: Checksum
    byte_size: Size

    @classmethod
    def of(cls, path: str, data: bytes) -> Artifact:
        """Return the artifact that `data` is under `path`."""
        return cls(path, checksum_of(data), len(data))

    @property
    def sha256(self) -> str:
        """The SHA-256 as 64 hex digits."""
        return self.checksum_sha256.removeprefix("sha256:")


AnyArtifact = Artifact | str
"""An artifact, or the bare path that legacy manifests hold in its place."""


class TableFile(Struct, frozen=True):
    """One file of a base or delta. `sha256` (hex) and `byte_size` are None in legacy manifests.

    `org` is the organisation of a file of the catalog index, None for every other table.
    """

    table: str
    path: str
    sha256: str | None
    byte_size: int | None
    org: str | None = None


class TablePaths(Struct, omit_defaults=True, frozen=True):
    """The files of a base or delta: one per table, and one per organisation for the catalog index."""

    runs: AnyArtifact | None = None
    tasks: AnyArtifact | None = None
    catalog_run_index_by_org: dict[str, AnyArtifact] = {}
    dep_satisfaction: AnyArtifact | None = None
    timers: AnyArtifact | None = None
    dispatch_outbox: AnyArtifact | None = None
    sensor_state: AnyArtifact | None = None
    sensor_evals: AnyArtifact | None = None
    run_key_index: AnyArtifact | None = None
    run_key_conflicts: AnyArtifact | None = None
    partition_status: AnyArtifact | None = None
    idempotency_keys: AnyArtifact | None = None
    schedule_definitions: AnyArtifact | None = None
    schedule_state: AnyArtifact | None = None
    schedule_ticks: AnyArtifact | None = None
    backfills: AnyArtifact | None = None
    backfill_chunks: AnyArtifact | None = None

    @classmethod
    def of(cls, tables: Mapping[str, Artifact], catalog: Mapping[str, Artifact]) -> TablePaths:
        """Return the paths of `tables` by table name and of the `catalog` index by organisation.

        Raises `ValueError` for a name that is no table with one file.
        """
        strange = sorted(name for name in tables if name not in REFERENCE_TABLES or name == _CATALOG)
        if strange:
            raise ValueError(f"{', '.join(strange)}: no table with one file; the catalog index goes by organisation")
        return cls(catalog_run_index_by_org={org: catalog[org] for org in sorted(catalog)}, **tables)

    def files(self) -> Iterator[TableFile]:
        """Yield all files, by table in the schema's order and by organisation."""
        for name in REFERENCE_TABLES:
            if name == _CATALOG:
                for org in sorted(self.catalog_run_index_by_org):
                    yield _file(name, self.catalog_run_index_by_org[org], org)
            else:
                artifact: AnyArtifact | None = getattr(self, name)
                if artifact is not None:
                    yield _file(name, artifact, None)


def _file(table: str, artifact: AnyArtifact, org: str | None) -> TableFile:
    if isinstance(artifact, str):
        return TableFile(table, artifact, None, None, org)
    return TableFile(table, artifact.path, artifact.sha256, artifact.byte_size, org)


def _zero() -> U32:
    """Return 0: a default that is written explicitly, because the reference writes it."""
    return 0


class RowCounts(Struct, frozen=True):
    """Rows per table of a delta."""

    runs: U32 = field(default_factory=_zero)
    tasks: U32 = field(default_factory=_zero)
    catalog_run_index: U32 = field(default_factory=_zero)
    dep_satisfaction: U32 = field(default_factory=_zero)
    timers: U32 = field(default_factory=_zero)
    dispatch_outbox: U32 = field(default_factory=_zero)
    sensor_state: U32 = field(default_factory=_zero)
    sensor_evals: U32 = field(default_factory=_zero)
    run_key_index: U32 = field(default_factory=_zero)
    run_key_conflicts: U32 = field(default_factory=_zero)
    partition_status: U32 = field(default_factory=_zero)
    idempotency_keys: U32 = field(default_factory=_zero)
    schedule_definitions: U32 = field(default_factory=_zero)
    schedule_state: U32 = field(default_factory=_zero)
    schedule_ticks: U32 = field(default_factory=_zero)
    backfills: U32 = field(default_factory=_zero)
    backfill_chunks: U32 = field(default_factory=_zero)

    @property
    def total(self) -> int:
        """Rows of all tables together."""
        return sum(getattr(self, name) for name in REFERENCE_TABLES)


T = TypeVar("T")

ATTEMPTS = 3
"""How often damage is replaced: other writers may replace it at the same time."""
LOOK_FOR_A_WRITER = "find out who writes there: only this system may"
SHORT_HASH = 12
"""Hex digits of the SHA-256 that file names have."""
HASHED_IN_PLACE = 1 << 20
"""Up to so many bytes are hashed on the event loop; more take longer than handing them to a thread."""


class FileRef(Protocol):
    """A file that another object names. Hash (hex) and size in bytes are None where that object lacks them."""

    @property
    def path(self) -> str:
        """Where it is."""

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of its bytes."""

    @property
    def byte_size(self) -> int | None:
        """Its size."""


async def read_file(store: ObjectStore, file: FileRef, decode: Callable[[bytes], T], *, remedy: str = REBUILD) -> T:
    """Read a file, check it, and return what `decode` makes of its bytes, which happens in a thread.

    Raises `DamagedObject` naming the file if it is missing, has another size or hash than recorded, or
    cannot be decoded; and the store's errors.
    """
    try:
        path = paths.relative_path(file.path)
    except paths.InvalidPath as error:
        raise DamagedObject(file.path, f"cannot be the path of a file: {error}", remedy) from error
    stored = await store.get(path)
    if stored is None:
        raise DamagedObject(path, "is missing", remedy)
    data = stored.data

    def work() -> T:
        if file.byte_size is not None and len(data) != file.byte_size:
            raise DamagedObject(path, f"has {len(data)} bytes, not the recorded {file.byte_size}", remedy)
        if file.sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != file.sha256:
            raise DamagedObject(path, f"has the SHA-256 {found}, not the recorded {file.sha256}", remedy)
        try:
            return decode(data)
        except InvariantViolated as error:
            raise DamagedObject(path, f"cannot be read: {error}", remedy) from error

    return await in_thread(work)


async def write_file(store: ObjectStore, data: bytes, name: Callable[[str], ObjectPath]) -> Artifact:
    """Write `data` under the name that `name` makes of its `content_hash12`, unless it is there; return its artifact.

    Other bytes under that name are damage, because the name has the hash of `data`: they are replaced. Safe to
    repeat. Raises `DamagedObject` if other bytes come back again and again, and the store's errors.
    """
    digest = await _sha256(data)
    path = name(digest[:SHORT_HASH])
    for _ in range(ATTEMPTS):
        found = await put_once(store, path, data)
        if not isinstance(found, Other):
            return Artifact(path, f"sha256:{digest}", len(data))
        if isinstance(await store.put(path, data, IfVersion(found.version)), Stored):
            return Artifact(path, f"sha256:{digest}", len(data))
    raise DamagedObject(path, "holds other bytes than its name says, however often it is replaced", LOOK_FOR_A_WRITER)


async def write_each(
    store: ObjectStore, files: Sequence[tuple[bytes | None, Callable[[str], ObjectPath]]]
) -> list[Artifact | None]:
    """Write files at the same time, each as `write_file`; None in the place of one that has no data."""

    async def write(file: tuple[bytes | None, Callable[[str], ObjectPath]]) -> Artifact | None:
        data, name = file
        return None if data is None else await write_file(store, data, name)

    return await each(write, files)


async def _sha256(data: bytes) -> str:
    if len(data) < HASHED_IN_PLACE:
        return hashlib.sha256(data).hexdigest()
    return await in_thread(lambda: hashlib.sha256(data).hexdigest())


_ORG = CATALOG_RUN_INDEX.index("org_id")


@dataclass(frozen=True, slots=True)
class EncodedTable:
    """The bytes of one file of a table; `org` is the organisation of a file of the catalog index."""

    table: str
    org: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class WrittenTable:
    """A file that is in the store."""

    table: str
    org: str | None
    artifact: Artifact


def encode_rows(table: str, rows: Iterable[Row], *, orgs: Collection[str] = ()) -> list[EncodedTable]:
    """Return the files that hold the rows of a table, which may come in any order.

    The organisations `orgs` have a file of the catalog index even if they have no rows.
    """
    if table != CATALOG_RUN_INDEX.name:
        return [EncodedTable(table, None, encode_table(TABLES[table], rows))]
    by_org: dict[str, list[Row]] = {org: [] for org in orgs}
    for row in rows:
        by_org.setdefault(str(row[_ORG]), []).append(row)
    return [EncodedTable(table, org, encode_table(TABLES[table], by_org[org])) for org in sorted(by_org)]


async def write_table(store: ObjectStore, layer: StateLayer, identity: str, encoded: EncodedTable) -> WrittenTable:
    """Write one file of the delta or base `identity`; safe to repeat. Raises as `write_file`."""

    def name(content_hash: str) -> ObjectPath:
        if encoded.org is None:
            return paths.orchestration_table(layer, identity, encoded.table, content_hash)
        return paths.orchestration_run_index(layer, identity, encoded.org, content_hash)

    return WrittenTable(encoded.table, encoded.org, await write_file(store, encoded.data, name))


def paths_of(written: Sequence[WrittenTable]) -> TablePaths:
    """Return the files of the reference's tables as a manifest names them."""
    return TablePaths.of(
        {one.table: one.artifact for one in written if one.org is None and one.table in REFERENCE_TABLES},
        {one.org: one.artifact for one in written if one.org is not None},
    )


async def read_table(store: ObjectStore, file: TableFile) -> list[Row]:
    """Return the rows of one file. Raises `DamagedObject`, and the store's errors."""
    return await read_file(store, file, lambda data: decode_table(TABLES[file.table], data))
