"""Folding one shard of a rebuild: its events in id order, from nothing (docs/protocol.md#rebuild)."""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from springline.ledger.envelope import Event
from springline.ledger.events import TaskCompletionRecorded, TaskFinished
from springline.ledger.request import EventOutcome, RefusalReason
from springline.paths import ObjectPath, canonical_ulid_event, rebuild_shard_receipt, rebuild_shard_table
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import EventOutcome as Folded
from springline.projection.fold.loop import fold_event
from springline.projection.schema import PARTITION_STATUS, TABLES
from springline.projection.sharding import CONTROL_SHARD, routed_of, shard_of
from springline.projection.state import State
from springline.published.bases import encode_buckets
from springline.published.files import write_file
from springline.rebuild.parts import (
    BadRecord,
    Chunk,
    KeptEvent,
    PartReceipt,
    ShardReceipt,
    ShardTable,
    Split,
    encode_rows,
    events_of,
    read_receipt,
    read_section,
    write_receipt,
)
from springline.storage.offload import in_turn
from springline.storage.parallel import each
from springline.storage.port import ObjectStore

Report = Callable[[int], None]
"""Called with how many events have been folded."""

BAD_KEPT = 1_000
FOLDED_AT_ONCE = 20_000
"""Events that are folded in one turn, for which others wait."""

_MATERIALIZING = (TaskFinished, TaskCompletionRecorded)
_OUTCOMES = {
    Folded.APPLIED: EventOutcome.APPLIED,
    Folded.REFUSED: EventOutcome.NOT_APPLIED,
    Folded.DUPLICATE: EventOutcome.DUPLICATE,
    Folded.UNKNOWN: EventOutcome.UNKNOWN,
}


@dataclass(slots=True)
class _Shard:
    """A shard as it is folded."""

    state: State
    number: int
    shards: int
    odd: frozenset[str]
    last: KeptEvent | None = None
    events: int = 0
    duplicates: int = 0
    damaged: int = 0
    bad: list[BadRecord] = field(default_factory=list)
    others: Counter[EventOutcome] = field(default_factory=Counter)
    """Of the events that were not applied, by outcome."""
    materialized: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def outcomes(self) -> dict[str, int]:
        """How many events came to what."""
        counts = self.others + Counter({EventOutcome.APPLIED: self.events - self.others.total()})
        return {outcome.value: count for outcome, count in sorted(counts.items())}

    def fold(self, kept: Iterable[KeptEvent]) -> bool:
        """Fold events, ascending by id, that may hold others' events and repetitions; False if there were none."""
        state, odd = self.state, self.odd
        one = None
        for one in kept:
            event = one.event
            if odd and shard_of(routed_of(event), odd, self.shards) != self.number:
                continue
            if event.event_id == state.last_event_id:
                self._repeated(one)
                continue
            self.last = one
            self.events += 1
            outcome = fold_event(state, event)
            if outcome is not Folded.APPLIED:
                self.others[_OUTCOMES[outcome]] += 1
                continue
            data = event.data
            if isinstance(data, _MATERIALIZING):
                self._note_materialization(event, data)
        return one is not None

    def _repeated(self, one: KeptEvent) -> None:
        if one == self.last:
            self.duplicates += 1
            return
        self.damaged += 1
        if len(self.bad) < BAD_KEPT:
            event_id = one.event.event_id
            message = "it is listed in two segments with different bodies"
            self.bad.append(BadRecord(canonical_ulid_event(event_id), RefusalReason.OTHER_BODY.value, message))

    def _note_materialization(self, event: Event, data: TaskFinished | TaskCompletionRecorded) -> None:
        """Remember which event materialized a partition last: rows of shards are merged by it.

        See docs/events.md#fold-partitions.
        """
        partition = data.partition_key
        if partition is None and data.output is not None:
            partition = data.output.delta_partition
        if data.outcome == "succeeded" and data.asset_key is not None and partition is not None:
            self.materialized[data.asset_key, partition] = event.event_id


async def fold_shard(
    store: ObjectStore,
    config: FoldConfig,
    work_id: str,
    split: Split,
    split_hash: str,
    parts: Sequence[PartReceipt],
    number: int,
    report: Report,
) -> tuple[ShardReceipt, bool]:
    """Fold shard `number`; return its receipt, and whether it had been done before.

    `parts`: the receipts of all slices and segments. Raises `DamagedObject` if something in the work folder is not
    what was written.
    """
    path = rebuild_shard_receipt(work_id, split_hash, number)
    done = await read_receipt(store, path, ShardReceipt)
    if done is not None:
        return done, True
    shard = _Shard(State(config), number, split.shards, frozenset(split.odd))
    wanted = sections_of(split, number)
    for group in overlapping(parts):
        sections = [section for part in group for section in part.sections if section.shard in wanted]
        read = await each(lambda section: read_section(store, section), sections)
        kept = _in_order(read)
        while await in_turn(lambda kept=kept: shard.fold(islice(kept, FOLDED_AT_ONCE))):  # type: ignore[misc]
            report(shard.events)
    tables, digest = await _write_tables(store, work_id, split_hash, shard)
    receipt = ShardReceipt(
        number=number,
        events=shard.events,
        duplicates=shard.duplicates,
        damaged=shard.damaged,
        bad=shard.bad,
        outcomes=shard.outcomes,
        tables=tables,
        digest=msgspec.Raw(digest),
        last_event_id=shard.state.last_event_id or None,
        frontier_ms=shard.state.frontier_ms,
        materialized=sorted((*key, event_id) for key, event_id in shard.materialized.items()),
    )
    return await write_receipt(store, path, receipt), False


def sections_of(split: Split, number: int) -> frozenset[int]:
    """Return the shards whose sections shard `number` reads: its own, and shard 0 those of the odd runs."""
    if number != CONTROL_SHARD or split.shards == 1:
        return frozenset({number})
    return frozenset({CONTROL_SHARD, *(zlib.crc32(run.encode()) % split.shards for run in split.odd)})


def overlapping(parts: Sequence[PartReceipt]) -> Iterator[list[PartReceipt]]:
    """Yield parts in groups, ascending: ids of one group lie all below those of the next.

    Slices follow each other; listed segments may overlap, and those that do are read together.
    """
    segments = [(part.segment, part) for part in parts if part.segment is not None]
    ordered = sorted(segments, key=lambda pair: (pair[0].first_id, pair[0].last_id))
    group: list[PartReceipt] = []
    end = ""
    for segment, part in ordered:
        if group and segment.first_id > end:
            yield group
            group = []
        group.append(part)
        end = max(end, segment.last_id)
    if group:
        yield group


def _in_order(sections: Sequence[Sequence[Chunk]]) -> Iterator[KeptEvent]:
    """Yield the events of some sections, ascending by id; equal ids follow each other."""
    return heapq.merge(*map(events_of, sections), key=_id_of)


def _id_of(kept: KeptEvent) -> str:
    return kept.event.event_id


async def _write_tables(
    store: ObjectStore, work_id: str, split_hash: str, shard: _Shard
) -> tuple[list[ShardTable], bytes]:
    """Write the shard's rows; return where they are, and the digest of all but those that are still to be merged."""
    digest = Digest()

    def encode() -> tuple[list[tuple[str, int, bytes]], bytes]:
        encoded: list[tuple[str, int, bytes]] = []
        for name, table in TABLES.items():
            rows = list(shard.state.rows(name))
            if name != PARTITION_STATUS.name:
                digest.add(name, rows)
            if rows:
                encoded.append((name, len(rows), encode_rows(table, rows)))
        return encoded, encode_buckets(digest)

    async def write(one: tuple[str, int, bytes]) -> ShardTable:
        name, count, data = one
        return ShardTable(name, count, await write_file(store, data, _name_of(work_id, split_hash, shard.number, name)))

    encoded, buckets = await in_turn(encode)
    return await each(write, encoded), buckets


def _name_of(work_id: str, split_hash: str, number: int, table: str) -> Callable[[str], ObjectPath]:
    return lambda digest: rebuild_shard_table(work_id, split_hash, number, table, digest)
