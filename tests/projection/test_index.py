"""The index of events: every accepted id in exactly one place, whatever order ids come in, and objects that grow."""

from __future__ import annotations

import random
from collections.abc import Iterable
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.published.index import (
    NODE_SEGMENTS,
    PACK_EVENTS,
    SEGMENT_BYTES,
    SEGMENT_EVENTS,
    DamagedIndex,
    EventsIndex,
    IndexNode,
    NodeRef,
    SegmentRef,
    TailEntry,
    between,
    decode_index,
    decode_node,
    due_for_node,
    due_for_packing,
    due_for_sealing,
    encode_index,
    in_tail,
    is_full,
    may_hold,
    packed,
    pieces,
    sealed,
    with_events,
    with_node,
)


def event_id(number: int) -> str:
    return f"{number:026}"


def digest_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def entry(number: int) -> TailEntry:
    return (event_id(number), digest_of(event_id(number)))


class Objects:
    """A store of segments and nodes, which holds ids and sizes of events instead of their bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.segments: dict[str, list[str]] = {}
        self.nodes: dict[str, list[SegmentRef]] = {}
        self.events_written = 0
        self.index = EventsIndex()

    def accept(self, numbers: Iterable[int]) -> None:
        """Take events in, and do all that is due, as the sequencer does."""
        index = with_events(self.index, map(entry, numbers))
        if due := due_for_packing(index):
            index = packed(index, due, self._write([one for one, _ in due]))
        if packs := due_for_sealing(index):
            events = sorted(one for pack in packs for one in self.segments[pack.path])
            index = sealed(index, packs, self._write(events))
        while segments := due_for_node(index):
            index = with_node(index, self._node(segments))
        self.index = decode_index(encode_index(index), "index")
        assert self.index == index

    def _write(self, events: list[str]) -> list[SegmentRef]:
        written = []
        for piece in pieces([self.size] * len(events)):
            ids = events[piece.start : piece.stop]
            path = f"segment {len(self.segments)}"
            self.segments[path] = ids
            self.events_written += len(ids)
            raw = self.size * len(ids)
            written.append(SegmentRef(path, ids[0], ids[-1], len(ids), digest_of(path), raw // 3, raw))
        return written

    def _node(self, segments: list[SegmentRef]) -> NodeRef:
        path = f"node {len(self.nodes)}"
        self.nodes[path] = segments
        return NodeRef(
            path,
            min(one.first_id for one in segments),
            max(one.last_id for one in segments),
            sum(one.count for one in segments),
            len(segments),
            digest_of(path),
            1,
        )

    def all_ids(self) -> list[str]:
        refs = [
            *self.index.segments,
            *self.index.packs,
            *(one for node in self.index.nodes for one in self.nodes[node.path]),
        ]
        return sorted([one for ref in refs for one in self.segments[ref.path]] + [one for one, _ in self.index.tail])

    def holds(self, event_ids: list[str]) -> set[str]:
        """Return those of the ids that the index leads to."""
        found = set(in_tail(self.index, event_ids))
        inner = [
            segment
            for node, _ in may_hold(self.index.nodes, event_ids)
            for segment in decode_node(encode_index(IndexNode(self.nodes[node.path])), node.path, node).segments
        ]
        for ref, ids in may_hold([*inner, *self.index.segments, *self.index.packs], event_ids):
            found |= set(self.segments[ref.path]) & set(ids)
        return found


@settings(deadline=None)
@given(
    st.integers(1, 40).flatmap(lambda n: st.permutations(range(n * 60))),
    st.lists(st.integers(1, 700), min_size=1, max_size=12),
    st.sampled_from([600, 200_000]),
)
def test_every_id_is_in_one_place_whatever_order_they_come_in(order: list[int], rounds: list[int], size: int) -> None:
    objects, taken = Objects(size), 0
    for count in rounds:
        objects.accept(order[taken : taken + count])
        taken = min(taken + count, len(order))
        assert objects.index.count == taken
        assert objects.all_ids() == sorted(map(event_id, order[:taken]))
    asked = [event_id(number) for number in range(0, len(order), 7)]
    assert objects.holds(asked) == set(asked) & set(map(event_id, order[:taken]))


def test_a_long_history_keeps_the_index_small_and_its_objects_large() -> None:
    source, objects, taken, largest = random.Random(3), Objects(600), 0, 0
    while taken < 300_000:
        count = source.randint(1, 1_000)
        objects.accept(range(taken, taken + count))
        taken += count
        assert len(objects.index.tail) < PACK_EVENTS
        largest = max(largest, len(encode_index(objects.index)))
    full = [len(ids) * 600 for ids in objects.segments.values()]
    # 4 MiB come before 10,000 events of 600 bytes.
    assert [one.count for one in objects.index.segments] == [SEGMENT_BYTES // 600 + 1] * len(objects.index.segments)
    assert len(objects.index.segments) == taken // (SEGMENT_BYTES // 600 + 1)
    assert objects.events_written <= 2.2 * taken
    assert largest < 60_000
    assert max(full) < SEGMENT_BYTES + 600


def test_segments_beyond_256_go_into_nodes_and_are_still_found() -> None:
    objects = Objects(SEGMENT_BYTES)  # every event is a segment
    for start in range(0, 600, 300):
        objects.accept(range(start, start + 300))
    assert [node.segments for node in objects.index.nodes] == [NODE_SEGMENTS, NODE_SEGMENTS]
    assert len(objects.index.segments) == 600 - 2 * NODE_SEGMENTS
    assert objects.holds([event_id(5), event_id(599), event_id(600)]) == {event_id(5), event_id(599)}


def test_pieces_are_full_but_for_the_last() -> None:
    assert pieces([]) == []
    assert pieces([1, 2]) == [range(2)]
    assert pieces([SEGMENT_BYTES, 1, SEGMENT_BYTES - 1, 5]) == [range(1), range(1, 3), range(3, 4)]
    assert pieces([1] * (2 * SEGMENT_EVENTS + 1)) == [
        range(SEGMENT_EVENTS),
        range(SEGMENT_EVENTS, 2 * SEGMENT_EVENTS),
        range(2 * SEGMENT_EVENTS, 2 * SEGMENT_EVENTS + 1),
    ]
    assert not is_full(SEGMENT_EVENTS - 1, SEGMENT_BYTES - 1)


def test_nothing_is_due_below_the_limits() -> None:
    index = with_events(EventsIndex(), map(entry, range(PACK_EVENTS - 1)))
    assert due_for_packing(index) == []
    more = with_events(index, [entry(PACK_EVENTS)])
    assert len(due_for_packing(more)) == PACK_EVENTS
    assert due_for_sealing(index) == due_for_node(index) == []


def test_the_tail_is_sorted_and_takes_no_id_twice() -> None:
    index = with_events(with_events(EventsIndex(), [entry(5), entry(9)]), [entry(7), entry(1)])
    assert [one for one, _ in index.tail] == [event_id(number) for number in (1, 5, 7, 9)]
    assert in_tail(index, [event_id(7), event_id(8)]) == dict([entry(7)])
    with pytest.raises(ValueError, match=event_id(7)):
        with_events(index, [entry(7)])
    with pytest.raises(ValueError, match=event_id(8)):
        with_events(index, [entry(8), (event_id(8), digest_of("another body"))])


def test_losing_events_on_the_way_into_objects_is_refused() -> None:
    index = with_events(EventsIndex(), map(entry, range(PACK_EVENTS)))
    ref = SegmentRef("p", event_id(0), event_id(254), PACK_EVENTS - 1, digest_of("p"), 1, 1)
    with pytest.raises(ValueError, match="would name 255 events, it has 256"):
        packed(index, due_for_packing(index), [ref])


def ref(first: int, last: int) -> SegmentRef:
    path = f"{first}-{last}"
    return SegmentRef(path, event_id(first), event_id(last), last - first + 1, digest_of(path), 1, 1)


@pytest.mark.parametrize(
    ("after", "through", "paths"),
    [
        (None, None, ["0-9", "5-20", "30-30"]),
        (9, None, ["5-20", "30-30"]),
        (8, None, ["0-9", "5-20", "30-30"]),
        (20, None, ["30-30"]),
        (30, None, []),
        (None, 4, ["0-9"]),
        (None, 5, ["0-9", "5-20"]),
        (9, 29, ["5-20"]),
    ],
)
def test_ranges_between_two_ids(after: int | None, through: int | None, paths: list[str]) -> None:
    bounds = [None if number is None else event_id(number) for number in (after, through)]
    assert [one.path for one in between([ref(0, 9), ref(5, 20), ref(30, 30)], *bounds)] == paths


def test_overlapping_ranges_may_hold_one_id() -> None:
    refs = [ref(0, 9), ref(5, 20), ref(30, 30)]
    asked = [event_id(number) for number in (25, 7, 30, 7, 9)]
    assert [(one.path, ids) for one, ids in may_hold(refs, asked)] == [
        ("0-9", [event_id(7), event_id(9)]),
        ("5-20", [event_id(7), event_id(9)]),
        ("30-30", [event_id(30)]),
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "index: "),
        (b'{"format":2}', "index: `format` is 2; known is 1"),
        (b'{"count":1}', "index: `count` is 1, its parts have 0 events"),
        (b'{"count":1,"tail":[["a","b"]]}', r"\$\.tail"),
    ],
)
def test_an_index_that_is_none_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(DamagedIndex, match=why):
        decode_index(data, "index")


def test_a_node_must_be_the_one_that_is_named() -> None:
    segments = [ref(0, 9), ref(10, 11)]
    named = NodeRef("node", event_id(0), event_id(11), 12, 2, digest_of("n"), 1)
    data = encode_index(IndexNode(segments))
    assert decode_node(data, "node", named).segments == segments
    for other in (msgspec.structs.replace(named, count=13), msgspec.structs.replace(named, segments=1)):
        with pytest.raises(DamagedIndex, match="it is not the node of"):
            decode_node(data, "node", other)
    with pytest.raises(DamagedIndex, match="node: "):
        decode_node(b"{}", "node", named)
