"""A table's rows as files: one per table, and one per organisation of the catalog index.

See docs/formats.md#state-objects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from springline import paths
from springline.paths import ObjectPath, StateLayer
from springline.projection.parquet import decode_table, encode_table
from springline.projection.schema import CATALOG_RUN_INDEX, TABLES, Row
from springline.projection.table_paths import Artifact, TableFile, TablePaths
from springline.sequencer.artifacts import read_file, write_file
from springline.storage.port import ObjectStore

_ORG = CATALOG_RUN_INDEX.index("org_id")


@dataclass(frozen=True, slots=True)
class EncodedTable:
    """The bytes of one file of a table; `org` is the organisation of a file of the catalog index."""

    table: str
    org: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class WrittenTable:
    """A file that stands in the store."""

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
    """Return the files as a manifest names them."""
    return TablePaths.of(
        {one.table: one.artifact for one in written if one.org is None},
        {one.org: one.artifact for one in written if one.org is not None},
    )


async def read_table(store: ObjectStore, file: TableFile) -> list[Row]:
    """Return the rows of one file. Raises `DamagedObject`, and what the store does."""
    return await read_file(store, file, lambda data: decode_table(TABLES[file.table], data))
