"""Which files a base or a delta consists of, as its manifest names them (docs/formats.md#table-files)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct, field

from springline.projection.schema import CATALOG_RUN_INDEX, TABLES

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
        strange = sorted(name for name in tables if name not in TABLES or name == _CATALOG)
        if strange:
            raise ValueError(f"{', '.join(strange)}: no table with one file; the catalog index goes by organisation")
        return cls(catalog_run_index_by_org={org: catalog[org] for org in sorted(catalog)}, **tables)

    def files(self) -> Iterator[TableFile]:
        """Yield all files, by table in the schema's order and by organisation."""
        for name in TABLES:
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
    """Return 0: a default that is written all the same, because the reference does."""
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
        return sum(getattr(self, name) for name in TABLES)
