"""The index of accepted events: which ids the state holds, and in which objects their bytes are.

See docs/formats.md#events-index.

    tail      ids and hashes of the newest arrivals, whose bytes are in event objects of their own
    packs     small segments, made of the tail when it has 256 events
    segments  full ones, made of packs: 10,000 events or 4 MiB of text
    nodes     objects that list 256 older segments each

Everything is sorted by id inside, but ranges may overlap: late events come into the tail like any other. Each
operation returns a new index and leaves reading and writing objects to the caller.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from springline.errors import InvariantViolated
from springline.published.files import Size

FORMAT: Final = 1
PACK_EVENTS: Final = 256
SEGMENT_EVENTS: Final = 10_000
SEGMENT_BYTES: Final = 4 * 1024 * 1024
NODE_SEGMENTS: Final = 256

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class DamagedIndex(InvariantViolated):
    """An index of events or a node that is none, or that contradicts itself."""


class SegmentRef(Struct, frozen=True):
    """A pack or segment: ids from `first_id` to `last_id`, `count` of them in `raw_bytes` of text.

    `sha256` and `byte_size` are those of the object.
    """

    path: str
    first_id: str
    last_id: str
    count: Size
    sha256: Sha256
    byte_size: Size
    raw_bytes: Size

    @property
    def full(self) -> bool:
        """Whether it is a segment; else it is a pack."""
        return is_full(self.count, self.raw_bytes)


class NodeRef(Struct, frozen=True):
    """A node: `segments` segments with `count` events from `first_id` to `last_id`."""

    path: str
    first_id: str
    last_id: str
    count: Size
    segments: Size
    sha256: Sha256
    byte_size: Size


class IndexNode(Struct, frozen=True):
    """What a node's object holds."""

    segments: list[SegmentRef]
    format: Size = FORMAT


TailEntry = tuple[str, Sha256]
"""Id of an event and SHA-256 of its bytes."""


class EventsIndex(Struct, frozen=True):
    """The index. `count`: all events it knows."""

    format: Size = FORMAT
    count: Size = 0
    nodes: list[NodeRef] = []
    segments: list[SegmentRef] = []
    packs: list[SegmentRef] = []
    tail: list[TailEntry] = []


_D = TypeVar("_D", EventsIndex, IndexNode)
_R = TypeVar("_R", NodeRef, SegmentRef)

_INDEX: Final = msgspec.json.Decoder(EventsIndex)
_NODE: Final = msgspec.json.Decoder(IndexNode)


def encode_index(index: EventsIndex | IndexNode) -> bytes:
    """Return the bytes of an index or node: compact JSON, the same for the same."""
    return msgspec.json.encode(index)


def decode_index(data: bytes, path: str) -> EventsIndex:
    """Parse the index read from `path`. Raises `DamagedIndex`, also if its parts do not add up to its count."""
    index = _decode(_INDEX, data, path)
    if _events_of(index) != index.count:
        raise DamagedIndex(f"{path}: `count` is {index.count}, its parts have {_events_of(index)} events")
    return index


def decode_node(data: bytes, path: str, ref: NodeRef) -> IndexNode:
    """Parse the node read from `path`, which `ref` names. Raises `DamagedIndex`, also if it is not what `ref` says."""
    node = _decode(_NODE, data, path)
    if (len(node.segments), sum(one.count for one in node.segments)) != (ref.segments, ref.count):
        raise DamagedIndex(f"{path}: it is not the node of {ref.segments} segments and {ref.count} events it must be")
    return node


def _decode(decoder: msgspec.json.Decoder[_D], data: bytes, path: str) -> _D:
    try:
        document = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedIndex(f"{path}: {error}") from error
    if document.format != FORMAT:
        raise DamagedIndex(f"{path}: `format` is {document.format}; known is {FORMAT}")
    return document


def with_events(index: EventsIndex, entries: Iterable[TailEntry]) -> EventsIndex:
    """Return the index with newly accepted events in its tail. Raises `ValueError` for an id that is there already."""
    tail = sorted([*index.tail, *entries])
    for (before, _), (event_id, _) in pairwise(tail):
        if before == event_id:
            raise ValueError(f"event {event_id} is in the index's tail already")
    return replace(index, tail=tail, count=index.count + len(tail) - len(index.tail))


def due_for_packing(index: EventsIndex) -> list[TailEntry]:
    """Return the tail's events that are to be packed now, in order of ids: all of them or none."""
    return list(index.tail) if len(index.tail) >= PACK_EVENTS else []


def due_for_sealing(index: EventsIndex) -> list[SegmentRef]:
    """Return the packs whose events are to be written as segments now: all of them or none."""
    count, raw = sum(one.count for one in index.packs), sum(one.raw_bytes for one in index.packs)
    return list(index.packs) if is_full(count, raw) else []


def due_for_node(index: EventsIndex) -> list[SegmentRef]:
    """Return the segments that are to be listed in a node of their own now, or none."""
    return list(index.segments[:NODE_SEGMENTS]) if len(index.segments) > NODE_SEGMENTS else []


def is_full(count: int, raw_bytes: int) -> bool:
    """Say whether so many events with so many bytes make a segment."""
    return count >= SEGMENT_EVENTS or raw_bytes >= SEGMENT_BYTES


def pieces(sizes: Sequence[int]) -> list[range]:
    """Cut events into segments and, at the end, a pack if something is left. `sizes`: bytes of each, in order of ids.

    Each range names the places of one piece's events.
    """
    cut: list[range] = []
    start = raw = 0
    for place, size in enumerate(sizes):
        raw += size
        if is_full(place + 1 - start, raw):
            cut.append(range(start, place + 1))
            start, raw = place + 1, 0
    if start < len(sizes):
        cut.append(range(start, len(sizes)))
    return cut


def packed(index: EventsIndex, entries: Iterable[TailEntry], written: Iterable[SegmentRef]) -> EventsIndex:
    """Return the index once `entries` of the tail are in the objects `written`."""
    gone = set(entries)
    tail = [entry for entry in index.tail if entry not in gone]
    return _with_refs(replace(index, tail=tail), written)


def sealed(index: EventsIndex, packs: Iterable[SegmentRef], written: Iterable[SegmentRef]) -> EventsIndex:
    """Return the index once the events of `packs` are in the objects `written`."""
    gone = {one.path for one in packs}
    return _with_refs(replace(index, packs=[one for one in index.packs if one.path not in gone]), written)


def _with_refs(index: EventsIndex, written: Iterable[SegmentRef]) -> EventsIndex:
    refs = list(written)
    after = replace(
        index,
        segments=[*index.segments, *(one for one in refs if one.full)],
        packs=[*index.packs, *(one for one in refs if not one.full)],
    )
    _check_count(after)
    return after


def with_node(index: EventsIndex, node: NodeRef) -> EventsIndex:
    """Return the index once its oldest segments, those that `due_for_node` gave, are in `node`."""
    after = replace(index, nodes=[*index.nodes, node], segments=index.segments[node.segments :])
    _check_count(after)
    return after


def _check_count(index: EventsIndex) -> None:
    if _events_of(index) != index.count:
        raise ValueError(f"the index would name {_events_of(index)} events, it has {index.count}")


def _events_of(index: EventsIndex) -> int:
    refs: list[NodeRef | SegmentRef] = [*index.nodes, *index.segments, *index.packs]
    return sum(one.count for one in refs) + len(index.tail)


def in_tail(index: EventsIndex, event_ids: Iterable[str]) -> dict[str, str]:
    """Return those of `event_ids` that are in the tail, with the SHA-256 of their bytes."""
    tail = dict(index.tail)
    return {event_id: tail[event_id] for event_id in event_ids if event_id in tail}


def may_hold(refs: Iterable[_R], event_ids: Iterable[str]) -> Iterator[tuple[_R, list[str]]]:
    """Yield the nodes, segments or packs in whose range some of the ids are, with those ids in order."""
    ids = sorted(set(event_ids))
    for ref in refs:
        inside = ids[bisect_left(ids, ref.first_id) : bisect_right(ids, ref.last_id)]
        if inside:
            yield ref, inside


def between(refs: Iterable[_R], after: str | None, through: str | None) -> Iterator[_R]:
    """Yield those that may hold ids above `after` and up to `through`; None is no bound."""
    for ref in refs:
        if (after is None or ref.last_id > after) and (through is None or ref.first_id <= through):
            yield ref
