"""Paths of the ledgers: orchestration events and their segments, the flow ledger, the names of the reference's inbox.

Sources: docs/formats.md#event-objects, docs/formats.md#reserved-names and docs/protocol.md#publication for the segments
and the index of accepted events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

from springline.paths.components import (
    MAX_U64,
    canonical_ulid,
    day_folder,
    made_by,
    parse_day,
    short_hash,
    ulid_day,
)
from springline.paths.scope import InvalidPath, ObjectPath, count, segment
from springline.ulids import ulid_time_ms

_EVENTS: Final = "ledger/orchestration"
_SEGMENTS: Final = "ledger/orchestration/segments"
_INDEX: Final = "ledger/orchestration/index"
_MS_PER_DAY: Final = 86_400_000
_STRETCH_BITS: Final = 15
_STRETCH_SYMBOLS: Final = 7
"""This many first symbols of a ULID give its time to within 2**15 milliseconds, about half a minute."""
_MAX_STRETCHES: Final = 65_536
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_FLOW: Final = "ledger/flow"
_INBOX: Final = "_inbox/orchestration"
_RECEIPTS: Final = "receipts/orchestration"

_EVENT = re.compile(r"ledger/orchestration/([0-9]{4}-[0-9]{2}-[0-9]{2})/([^/]+)\.json")
_FLOW_EVENT = re.compile(r"ledger/flow/([^/]+)/([^/]+)/([^/]+)\.json")
_SEGMENT = re.compile(r"ledger/orchestration/segments/v1/([0-9A-Z]+)_([0-9A-Z]+)\.([0-9a-f]+)\.jsonl\.zst")
_INDEX_NAME = re.compile(r"ledger/orchestration/index/v1/(node/)?([0-9A-Z]+)_([0-9A-Z]+)\.([0-9a-f]+)\.json")
_BUNDLE = re.compile(r"_inbox/orchestration/run=([^/]+)/producer=([^/]+)/attempt=([^/]+)/bundle=([^/]+)\.parquet")
_RECEIPT = re.compile(r"receipts/orchestration/run=([^/]+)/producer=([^/]+)/receipt_segment=([^/]+)\.json")
_SHARD_SEGMENT = re.compile(r"ledger/orchestration/segments/shard=([^/]+)/seq=(0|[1-9][0-9]*)-(0|[1-9][0-9]*)\.parquet")


def ledger_prefix() -> ObjectPath:
    """Return the folder of orchestration events, without a trailing slash."""
    return ObjectPath(_EVENTS)


def ledger_day_prefix(day: date) -> ObjectPath:
    """Return the folder of one UTC day's orchestration events, without a trailing slash."""
    return ObjectPath(f"{_EVENTS}/{day_folder(day)}")


def ledger_event(day: date, event_id: str) -> ObjectPath:
    """Return the name of an orchestration event that lies in the folder of `day`."""
    return ObjectPath(f"{ledger_day_prefix(day)}/{segment('event_id', event_id)}.json")


def canonical_ledger_event(event_id: str, timestamp_day: date) -> ObjectPath:
    """Return the one name that an orchestration event may have (docs/formats.md#event-objects).

    Its folder is the UTC day of the ULID's own millisecond; `timestamp_day`, the day of the envelope's
    timestamp, counts only if `event_id` does not decode as a ULID.
    """
    day = ulid_day(segment("event_id", event_id))
    return ledger_event(timestamp_day if day is None else day, event_id)


def canonical_ulid_event(event_id: str) -> ObjectPath:
    """Return the one name of the event whose id is a canonical ULID: as `canonical_ledger_event`, and faster.

    Raises `InvalidPath` for an id that is not a canonical ULID, or whose time lies after the year 9999.
    """
    day = _DAYS.get(canonical_ulid("event_id", event_id)[:_STRETCH_SYMBOLS]) or _day_of(event_id)
    return ObjectPath(f"{day}/{event_id}.json")


def canonical_ulid_events(event_ids: Iterable[str]) -> list[ObjectPath]:
    """Return the names of many events whose ids are canonical ULIDs; raises as `canonical_ulid_event`."""
    return [canonical_ulid_event(event_id) for event_id in event_ids]


def _day_of(event_id: str) -> ObjectPath:
    """Return the day's folder of a canonical ULID, and cache it for its half minute if that lies in one day."""
    milliseconds = ulid_time_ms(event_id) or 0
    stretch = milliseconds >> _STRETCH_BITS << _STRETCH_BITS
    day_number = milliseconds // _MS_PER_DAY
    day = _day_prefix(day_number, event_id)
    if stretch // _MS_PER_DAY == (stretch + (1 << _STRETCH_BITS) - 1) // _MS_PER_DAY:
        if len(_DAYS) >= _MAX_STRETCHES:
            _DAYS.clear()
        _DAYS[event_id[:_STRETCH_SYMBOLS]] = day
    return day


_DAYS: Final[dict[str, ObjectPath]] = {}
"""Folders of days by the first symbols of the ids in them."""


@lru_cache(maxsize=4096)
def _day_prefix_of(day_number: int) -> ObjectPath:
    return ledger_day_prefix(date.fromordinal(_EPOCH_ORDINAL + day_number))


def _day_prefix(day_number: int, event_id: str) -> ObjectPath:
    try:
        return _day_prefix_of(day_number)
    except (OverflowError, ValueError):
        raise InvalidPath("event_id", event_id, "use an id whose time lies before the year 10000") from None


def event_id_from_ledger_path(path: str) -> str | None:
    """Return the event id in an orchestration event's path, or None for another path (docs/formats.md#event-objects).

    Checks the shape only, because rebuild manifests of the reference need that: a day like `9999-99-99` passes. See
    `parse_ledger_event` for names that `ledger_event` builds.
    """
    match = _EVENT.fullmatch(path)
    return None if match is None else match[2]


def parse_ledger_event(path: str) -> tuple[date, str] | None:
    """Return day and event id of an orchestration event's path, or None if `ledger_event` cannot build it."""
    match = _EVENT.fullmatch(path)
    day = None if match is None else parse_day(match[1])
    if match is None or day is None:
        return None
    return (day, match[2]) if made_by(path, ledger_event, day, match[2]) else None


def ledger_segments_prefix() -> ObjectPath:
    """Return the folder of segments and packs, without a trailing slash; other kinds of segments lie beside it."""
    return ObjectPath(f"{_SEGMENTS}/v1")


def ledger_segment(first_id: str, last_id: str, content_hash: str) -> ObjectPath:
    """Return the name of an immutable segment of folded events (docs/protocol.md#publication).

    `first_id` and `last_id` are the least and greatest event id inside, both canonical ULIDs; `content_hash` is
    `content_hash12` of its bytes.
    """
    return ObjectPath(f"{ledger_segments_prefix()}/{_id_range(first_id, last_id)}.{short_hash(content_hash)}.jsonl.zst")


def _id_range(first_id: str, last_id: str) -> str:
    canonical_ulid("first_id", first_id)
    canonical_ulid("last_id", last_id)
    if last_id < first_id:
        raise InvalidPath("last_id", last_id, f"give an id that does not lie below the first, {first_id}")
    return f"{first_id}_{last_id}"


@dataclass(frozen=True, slots=True)
class SegmentName:
    """The content of a segment's name: its least and greatest event id, and its content hash."""

    first_id: str
    last_id: str
    content_hash: str


def parse_ledger_segment(path: str) -> SegmentName | None:
    """Return the content of a segment's path, or None for another path."""
    match = _SEGMENT.fullmatch(path)
    if match is None or not made_by(path, ledger_segment, match[1], match[2], match[3]):
        return None
    return SegmentName(match[1], match[2], match[3])


def ledger_index_prefix() -> ObjectPath:
    """Return the folder of index objects and their nodes, without a trailing slash (docs/protocol.md#publication)."""
    return ObjectPath(f"{_INDEX}/v1")


def ledger_index(first_id: str, last_id: str, content_hash: str) -> ObjectPath:
    """Return the name of an immutable index of accepted events (docs/protocol.md#publication).

    `first_id` and `last_id` are the least and greatest event id it covers, `content_hash` is `content_hash12` of
    its bytes.
    """
    return ObjectPath(f"{ledger_index_prefix()}/{_id_range(first_id, last_id)}.{short_hash(content_hash)}.json")


def ledger_index_node(first_id: str, last_id: str, content_hash: str) -> ObjectPath:
    """Return the name of a node, in which an index of accepted events lists older segments; see `ledger_index`."""
    return ObjectPath(f"{ledger_index_prefix()}/node/{_id_range(first_id, last_id)}.{short_hash(content_hash)}.json")


@dataclass(frozen=True, slots=True)
class IndexName:
    """The content of an index object's name; `node`: it is a node below an index."""

    first_id: str
    last_id: str
    content_hash: str
    node: bool


def parse_ledger_index(path: str) -> IndexName | None:
    """Return the content of the path of an index or a node, or None for another path."""
    match = _INDEX_NAME.fullmatch(path)
    if match is None:
        return None
    build = ledger_index if match[1] is None else ledger_index_node
    if not made_by(path, build, match[2], match[3], match[4]):
        return None
    return IndexName(match[2], match[3], match[4], match[1] is not None)


def flow_event(domain: str, day: date, event_id: str) -> ObjectPath:
    """Return the name of a flow execution event; `event_id` is a ULID (docs/formats.md#reserved-names)."""
    canonical_ulid("event_id", event_id)
    return ObjectPath(f"{_FLOW}/{segment('domain', domain)}/{day_folder(day)}/{event_id}.json")


def parse_flow_event(path: str) -> tuple[str, date, str] | None:
    """Return domain, day and event id of a flow event's path, or None for another path."""
    match = _FLOW_EVENT.fullmatch(path)
    day = None if match is None else parse_day(match[2])
    if match is None or day is None:
        return None
    return (match[1], day, match[3]) if made_by(path, flow_event, match[1], day, match[3]) else None


@dataclass(frozen=True, slots=True)
class BundleName:
    """The content of an inbox bundle's name (docs/formats.md#reserved-names); every part is one path segment."""

    run_id: str
    producer_id: str
    attempt_id: str
    bundle_id: str


def inbox_bundle(name: BundleName) -> ObjectPath:
    """Return the name of an L0 inbox bundle."""
    return ObjectPath(
        f"{_INBOX}/run={segment('run_id', name.run_id)}/producer={segment('producer_id', name.producer_id)}"
        f"/attempt={segment('attempt_id', name.attempt_id)}"
        f"/bundle={segment('bundle_id', name.bundle_id)}.parquet"
    )


def parse_inbox_bundle(path: str) -> BundleName | None:
    """Return the content of an inbox bundle's path, or None for another path."""
    match = _BUNDLE.fullmatch(path)
    if match is None:
        return None
    name = BundleName(match[1], match[2], match[3], match[4])
    return name if made_by(path, inbox_bundle, name) else None


def receipt_segment(run_id: str, producer_id: str, receipt_id: str) -> ObjectPath:
    """Return the name of a receipt segment (docs/formats.md#reserved-names)."""
    return ObjectPath(
        f"{_RECEIPTS}/run={segment('run_id', run_id)}/producer={segment('producer_id', producer_id)}"
        f"/receipt_segment={segment('receipt_id', receipt_id)}.json"
    )


def parse_receipt_segment(path: str) -> tuple[str, str, str] | None:
    """Return run, producer and receipt id of a receipt segment's path, or None for another path."""
    match = _RECEIPT.fullmatch(path)
    if match is None or not made_by(path, receipt_segment, match[1], match[2], match[3]):
        return None
    return match[1], match[2], match[3]


def shard_segment(shard_id: str, start_seq: int, end_seq: int) -> ObjectPath:
    """Return the name of an L1 segment with the events `start_seq` to `end_seq` of a shard, unpadded.

    See docs/formats.md#reserved-names.
    """
    start = count("start_seq", start_seq, most=MAX_U64)
    end = count("end_seq", end_seq, least=start, most=MAX_U64)
    return ObjectPath(f"{_SEGMENTS}/shard={segment('shard_id', shard_id)}/seq={start}-{end}.parquet")


def parse_shard_segment(path: str) -> tuple[str, int, int] | None:
    """Return shard, first and last sequence number of an L1 segment's path, or None for another path."""
    match = _SHARD_SEGMENT.fullmatch(path)
    if match is None or len(match[2]) > 20 or len(match[3]) > 20:
        return None
    shard, start, end = match[1], int(match[2]), int(match[3])
    return (shard, start, end) if made_by(path, shard_segment, shard, start, end) else None


def shard_index_head(shard_id: str) -> ObjectPath:
    """Return the name of the object that holds a shard's current index (docs/formats.md#reserved-names)."""
    return ObjectPath(f"{_INDEX}/shard={segment('shard_id', shard_id)}/current.json")


def shard_index_history(shard_id: str, commit_id: str) -> ObjectPath:
    """Return the name of one past index of a shard (docs/formats.md#reserved-names)."""
    return ObjectPath(f"{_INDEX}/shard={segment('shard_id', shard_id)}/history/{segment('commit_id', commit_id)}.json")
