"""Putting the shards of a rebuild together: one base, its digest, and the index of its events.

See docs/protocol.md#rebuild.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from springline import paths
from springline.paths import StateLayer, canonical_ulid_event
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest, TableDigest
from springline.projection.parquet import encode_table
from springline.projection.schema import CATALOG_RUN_INDEX, PARTITION_STATUS, REFERENCE_TABLES, TABLES, Row
from springline.published import index as events_index
from springline.published.bases import base_of, read_buckets
from springline.published.files import (
    Artifact,
    EncodedTable,
    WrittenTable,
    read_file,
    write_file,
    write_table,
)
from springline.published.index import EventsIndex, IndexNode, NodeRef, SegmentRef
from springline.published.manifest import (
    SCHEMA_VERSION,
    BaseSnapshot,
    ConfigSection,
    DigestSection,
    EventsSection,
    Manifest,
    SpringlineSection,
    Watermarks,
)
from springline.published.merge import limits_for
from springline.published.revision import Succession
from springline.published.segments import read_segment, write_segments
from springline.rebuild.fold import overlapping
from springline.rebuild.messages import AssembleOrder
from springline.rebuild.parts import (
    WORK_AGAIN,
    PartReceipt,
    ShardReceipt,
    decode_rows,
    encode_receipt,
    merged,
    read_receipt,
)
from springline.rebuild.split import read_parts, read_split
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.threads import in_thread, in_turn
from springline.storage.together import each, together

TABLES_TOGETHER = 2
_NOT_STORED = "is gone or is no receipt"


class RebuiltBase(Struct, frozen=True):
    """A rebuilt state that is not published: its files, their row counts and digest, and the events in it."""

    base: BaseSnapshot
    tables: dict[str, TableDigest]
    events: int
    index: Artifact | None
    last_event_id: str | None
    frontier_ms: int | None
    config_fingerprint: str
    rounds_folded: int


async def assemble(
    store: ObjectStore, config: FoldConfig, order: AssembleOrder
) -> tuple[RebuiltBase, Digest, Artifact]:
    """Write the base, its digest buckets and the index; return the rebuilt base, its digest and its description.

    Raises `DamagedObject` if an object in the work folder is not what was written.
    """
    work_id = order.plan.work_id
    split = await read_split(store, work_id, order.split)
    parts = await read_parts(store, split.receipts)
    shards = await each(lambda number: _shard(store, work_id, order.split, number), range(split.shards))
    partitions = await _partitions(store, shards)
    files_of: dict[str, list[Artifact]] = {name: [] for name in TABLES}
    for part in itertools.chain.from_iterable(shard.tables for shard in shards):
        files_of[part.table].append(part.stored)

    async def write(name: str) -> WrittenTable:
        # In parallel threads: nearly all of this is work of Arrow, which releases the GIL.
        if name == PARTITION_STATUS.name:
            data = await in_thread(lambda: encode_table(PARTITION_STATUS, partitions))
        else:
            datas = await each(lambda file: read_file(store, file, bytes, remedy=WORK_AGAIN), files_of[name])
            data = await in_thread(lambda: merged(TABLES[name], datas))
        org = config.tenant if name == CATALOG_RUN_INDEX.name else None
        return await write_table(store, StateLayer.BASE, order.snapshot_id, EncodedTable(name, org, data))

    # The largest first: it takes as long as all others together.
    wanted = [name for name in TABLES if name in REFERENCE_TABLES or files_of[name]]
    largest_first = sorted(wanted, key=lambda name: -sum(file.byte_size for file in files_of[name]))
    digest, written = await together(
        in_turn(lambda: _digest(shards, partitions)), each(write, largest_first, concurrency=TABLES_TOGETHER)
    )
    base = await base_of(store, order.snapshot_id, written, digest, published_ms=order.now_ms)
    index = await _write_index(store, parts, repeated=any(shard.duplicates for shard in shards))
    rebuilt = RebuiltBase(
        base=base,
        tables=digest.tables(),
        events=sum(shard.events for shard in shards),
        index=index,
        last_event_id=max(filter(None, (shard.last_event_id for shard in shards)), default=None),
        frontier_ms=max((one for shard in shards if (one := shard.frontier_ms) is not None), default=None),
        config_fingerprint=config.fingerprint,
        rounds_folded=order.plan.rounds_folded,
    )
    data = encode_receipt(rebuilt)
    description = await write_file(
        store, data, lambda digest: paths.rebuild_base(work_id, f"{order.snapshot_id}.{digest}")
    )
    return rebuilt, digest, description


async def read_base(store: ObjectStore, path: str, sha256: str) -> RebuiltBase:
    """Return the rebuilt base that the description at `path` names. Raises `DamagedObject`."""
    base_path = paths.relative_path(path)
    stored = await store.get(base_path)
    if stored is None:
        raise DamagedObject(path, "is gone", WORK_AGAIN)
    artifact = Artifact.of(path, stored.data)
    if artifact.sha256 != sha256:
        raise DamagedObject(path, "is not what was written", WORK_AGAIN)
    rebuilt = msgspec.json.decode(stored.data, type=RebuiltBase)
    if rebuilt.tables.keys() != TABLES.keys():
        raise DamagedObject(path, "was made by another build, with other tables", WORK_AGAIN)
    return rebuilt


async def _shard(store: ObjectStore, work_id: str, split: str, number: int) -> ShardReceipt:
    path = paths.rebuild_shard_receipt(work_id, split, number)
    receipt = await read_receipt(store, path, ShardReceipt)
    if receipt is None:
        raise DamagedObject(path, _NOT_STORED, WORK_AGAIN)
    return receipt


async def _partitions(store: ObjectStore, shards: Sequence[ShardReceipt]) -> list[Row]:
    """Merge the rows of partitions: each field group is taken from the row with the greater event id.

    See docs/events.md#fold-partitions.
    """
    merged: dict[tuple[str, str], tuple[Row, str]] = {}
    for shard in shards:
        materialized = {(asset, partition): event_id for asset, partition, event_id in shard.materialized}
        for one in shard.tables:
            if one.table != PARTITION_STATUS.name:
                continue
            rows = await read_file(store, one.stored, decode_rows, remedy=WORK_AGAIN)
            for row in rows:
                key = (str(row[_ASSET]), str(row[_PARTITION]))
                new = (row, materialized.get(key, ""))
                known = merged.get(key)
                merged[key] = new if known is None else merge_partition(known, new)
    return [row for row, _ in merged.values()]


_ASSET, _PARTITION = PARTITION_STATUS.index("asset_key"), PARTITION_STATUS.index("partition_key")
_VERSION = PARTITION_STATUS.index("row_version")
_OF_ATTEMPT = frozenset(
    PARTITION_STATUS.index(name)
    for name in ("last_attempt_run_id", "last_attempt_at", "last_attempt_outcome", "row_version")
)


def merge_partition(one: tuple[Row, str], other: tuple[Row, str]) -> tuple[Row, str]:
    """Merge two rows of one partition, each with the event that materialized it last ("" for none)."""
    attempt = max((one[0], other[0]), key=lambda row: str(row[_VERSION]))
    materialization, event_id = max((one, other), key=lambda pair: pair[1])
    row = tuple((attempt if place in _OF_ATTEMPT else materialization)[place] for place in range(len(attempt)))
    return row, event_id


def _digest(shards: Iterable[ShardReceipt], partitions: Sequence[Row]) -> Digest:
    digest = Digest.of({PARTITION_STATUS.name: partitions})
    for shard in shards:
        one = Digest()
        for table, sums in read_buckets(bytes(shard.digest)).items():
            one.put(table, 0, sums)
        for file in shard.tables:
            if file.table != PARTITION_STATUS.name:
                one.put(file.table, file.rows, {})
        digest.merge(one)
    return digest


async def _write_index(store: ObjectStore, parts: Sequence[PartReceipt], *, repeated: bool) -> Artifact | None:
    """Write the index of accepted events over the segments of all parts.

    If two parts have a common event, their events are sealed again without duplicates: an index names an event once.
    """
    refs = [part.segment for part in parts if part.segment is not None]
    if repeated:
        refs = [ref for group in overlapping(parts) for ref in await _reseal(store, group)]
    if not refs:
        return None
    refs.sort(key=lambda ref: (ref.first_id, ref.last_id))
    index = events_index.sealed(EventsIndex(count=sum(ref.count for ref in refs)), [], refs)
    while due := events_index.due_for_node(index):
        index = events_index.with_node(index, await _write_node(store, due))
    first, last = min(ref.first_id for ref in refs), max(ref.last_id for ref in refs)
    data = events_index.encode_index(index)
    return await write_file(store, data, lambda digest: paths.ledger_index(first, last, digest))


async def _write_node(store: ObjectStore, refs: list[SegmentRef]) -> NodeRef:
    first, last = min(ref.first_id for ref in refs), max(ref.last_id for ref in refs)
    data = events_index.encode_index(IndexNode(refs))
    artifact = await write_file(store, data, lambda digest: paths.ledger_index_node(first, last, digest))
    count = sum(ref.count for ref in refs)
    return NodeRef(artifact.path, first, last, count, len(refs), artifact.sha256, artifact.byte_size)


async def _reseal(store: ObjectStore, group: Sequence[PartReceipt]) -> list[SegmentRef]:
    """Seal the events of some parts again, ascending by id, without duplicates; the first part's event wins."""
    sealed = [part.segment for part in group if part.segment is not None]
    read = await each(lambda ref: read_segment(store, ref), sealed)
    events = await in_turn(lambda: sorted({event[0]: event for some in reversed(read) for event in some}.values()))
    return await write_segments(store, events)


def manifest_of(rebuilt: RebuiltBase, config: FoldConfig, succession: Succession) -> Manifest:
    """Return the manifest of a rebuilt base alone, with the id of the manifest that it follows."""
    last = rebuilt.last_event_id
    at = rebuilt.base.published_at
    return Manifest(
        manifest_id=succession.follows,
        epoch=succession.epoch,
        previous_manifest_path=succession.previous_path,
        schema_version=SCHEMA_VERSION,
        revision_ulid=succession.revision,
        published_at=at,
        watermarks=Watermarks() if last is None else Watermarks(last, last, last, canonical_ulid_event(last), at),
        base_snapshot=rebuilt.base,
        l0_deltas=[],
        l0_count=0,
        l0_limits=limits_for(sum(one.rows for one in rebuilt.tables.values())),
        springline=SpringlineSection(
            config=ConfigSection(config.fingerprint, config.retention_days),
            digest=DigestSection.of(rebuilt.tables),
            events=EventsSection(rebuilt.events, rebuilt.index),
            rounds_folded=succession.rounds_folded,
            retention_frontier_ms=rebuilt.frontier_ms,
            foreign=list(succession.foreign),
        ),
    )
