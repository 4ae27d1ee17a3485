"""Bases: the whole state as files, one per table of the reference even if it is empty, and the digest's buckets.

A table of our own has a file if it has rows; ours have buckets of their own, so that older builds read the rest.

See docs/formats.md#table-files, docs/formats.md#digest. A base has all buckets, a delta
those that it changed:

    {"format":1,"tables":{"runs":{"0":"<32 hex digits>", ...}, ...}}

Values are absolute: a reader starts with the base's values and replaces them by each delta's. A base leaves out sums of
zero, a delta holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from springline import paths
from springline.errors import InvariantViolated
from springline.ledger.timestamps import format_ms
from springline.paths import ObjectPath, StateLayer
from springline.projection.digest import BUCKETS, Digest, TableDigest
from springline.projection.parquet import encode_pieces
from springline.projection.schema import CATALOG_RUN_INDEX, OWN_TABLES, REFERENCE_TABLES, TABLES
from springline.projection.state import State
from springline.published.files import EncodedTable, WrittenTable, paths_of, write_each, write_table
from springline.published.manifest import BaseSnapshot, OwnFiles
from springline.storage.port import ObjectStore
from springline.storage.threads import in_turn
from springline.storage.together import each

PUTS_TOGETHER = 4
"""How many tables' bytes are in memory at a time."""
DELETE_CHANNEL_VERSION = 1
"""The version that a base declares when deletions are recorded from it on (docs/formats.md#deletions)."""


async def write_base(
    store: ObjectStore,
    snapshot_id: str,
    state: State,
    digest: Digest,
    *,
    published_ms: int,
    concurrency: int = PUTS_TOGETHER,
) -> BaseSnapshot:
    """Write the whole of `state`, whose digest is `digest`, and return the base for the manifest.

    One table is encoded at a time, in a thread, while others are being put; the state must stay as it is meanwhile.
    `published_ms` is in milliseconds since 1970. Safe to repeat with the same state. Raises `DamagedObject` if other
    bytes stand at one of the names, and the store's errors.
    """

    async def write(table: str) -> WrittenTable:
        data = await in_turn(lambda: encode_pieces(TABLES[table], state.pieces(table)))
        org = state.config.tenant if table == CATALOG_RUN_INDEX.name else None
        return await write_table(store, StateLayer.BASE, snapshot_id, EncodedTable(table, org, data))

    wanted = [name for name in TABLES if name in REFERENCE_TABLES or digest.rows(name)]
    written = await each(write, wanted, concurrency=concurrency)
    return await base_of(store, snapshot_id, written, digest, published_ms=published_ms)


async def base_of(
    store: ObjectStore, snapshot_id: str, written: Sequence[WrittenTable], digest: Digest, *, published_ms: int
) -> BaseSnapshot:
    """Write the buckets of a base whose tables are written, and return the base for the manifest; as `write_base`."""

    def name_of(content_hash: str) -> ObjectPath:
        return paths.orchestration_buckets(StateLayer.BASE, snapshot_id, content_hash)

    own = [one for one in written if one.table in OWN_TABLES]
    documents = (encode_buckets(digest, REFERENCE_TABLES), encode_buckets(digest, OWN_TABLES) if own else None)
    buckets, own_buckets = await write_each(store, [(data, name_of) for data in documents])
    return BaseSnapshot(
        snapshot_id=snapshot_id,
        published_at=format_ms(published_ms),
        tables=paths_of(written),
        delete_channel_version=DELETE_CHANNEL_VERSION,
        buckets=buckets,
        springline=OwnFiles(
            tables={one.table: one.artifact for one in own},
            rows={one.table: digest.rows(one.table) for one in own},
            buckets=own_buckets,
        ),
    )


FORMAT: Final = 1

_Number = Annotated[str, Meta(pattern="^(0|[1-9][0-9]{0,2})$")]
_Sum = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class DamagedBuckets(InvariantViolated):
    """Stored buckets that cannot be parsed, or that do not add up to the digest in the manifest."""


class _Document(Struct):
    format: int
    tables: dict[str, dict[_Number, _Sum]]


_DECODER: Final = msgspec.json.Decoder(_Document)


def encode_buckets(
    digest: Digest, names: Iterable[str] = tuple(TABLES), only: Mapping[str, set[int]] | None = None
) -> bytes:
    """Return the document of a digest's buckets for some tables: of all that are not zero, or of those in `only`, by
    table.
    """
    tables: dict[str, dict[str, str]] = {}
    for table in names:
        sums = digest.sums(table)
        wanted = (bucket for bucket in range(BUCKETS) if sums[bucket]) if only is None else only.get(table, ())
        values = {str(bucket): f"{sums[bucket]:032x}" for bucket in sorted(wanted)}
        if values:
            tables[table] = values
    return msgspec.json.encode(_Document(FORMAT, tables))


def read_buckets(document: bytes) -> dict[str, dict[int, int]]:
    """Return the sums in a document, by table and bucket. Raises `DamagedBuckets`."""
    try:
        read = _DECODER.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedBuckets(f"no digest buckets: {error}") from error
    if read.format != FORMAT:
        raise DamagedBuckets(f"digest buckets have format {read.format}; known is {FORMAT}")
    tables: dict[str, dict[int, int]] = {}
    for table, sums in read.tables.items():
        if table not in TABLES:
            raise DamagedBuckets(f"digest buckets name a table {table!r} that there is not")
        tables[table] = {int(number): int(value, 16) for number, value in sums.items()}
        if max(tables[table], default=0) >= BUCKETS:
            raise DamagedBuckets(f"digest buckets of {table} go beyond {BUCKETS - 1}")
    return tables


def load_digest(documents: Iterable[bytes], expected: Mapping[str, TableDigest]) -> Digest:
    """Return the digest that the documents of a base and its deltas, in order, describe.

    `expected`: the digests of all tables in the manifest. Raises `DamagedBuckets` if the buckets add up to others.
    """
    digest = Digest()
    for document in documents:
        for table, sums in read_buckets(document).items():
            digest.put(table, 0, sums)
    for table, its_digest in expected.items():
        digest.put(table, its_digest.rows, {})
    digest.accept()
    differing = sorted(table for table, found in digest.tables().items() if found != expected.get(table))
    if differing:
        raise DamagedBuckets(f"the buckets of {', '.join(differing)} do not add up to the manifest's digest")
    return digest
