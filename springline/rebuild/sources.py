"""What a rebuild manifest is made of: the index of accepted events, round records, or names from elsewhere.

The index and the records are read by name; only `from_listing` lists, for the case that everything else is lost.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

import orjson

from springline.errors import Code, Refused, refused
from springline.ledger.event_ids import is_canonical
from springline.paths import (
    InvalidPath,
    ObjectPath,
    Scope,
    canonical_ulid_event,
    canonical_ulid_events,
    event_id_from_ledger_path,
    ledger_prefix,
    lies_in_a_scope,
    parse_ledger_segment,
    relative_path,
)
from springline.published.events import events_between
from springline.published.head import read_head
from springline.published.index import EventsIndex
from springline.published.index_files import read_index, read_node
from springline.published.manifest import SpringlineSection
from springline.published.segments import DamagedSegment, decode_segment
from springline.sequencer.accepted import Hole, survey, walk_rounds
from springline.sequencer.rounds import StoredRound
from springline.storage.damage import DamagedObject
from springline.storage.offload import in_thread
from springline.storage.parallel import each
from springline.storage.port import ObjectStore

NAMED = 20
"""How many names that were passed over a summary holds."""


class Source(StrEnum):
    """Where the names came from."""

    INDEX = "index"
    ROUNDS = "rounds"
    INVENTORY = "inventory"
    LISTING = "listing"


@dataclass(slots=True)
class FoundEvents:
    """What is to be listed in a rebuild manifest.

    `events` counts the distinct events of both lists. `as_of_round`: of rounds up to this one all events are listed,
    None if nobody knows. `passed_over` counts names that were not taken, by reason, and
    `examples` holds some of those that look as if they should have been. `notes` are for the operator.
    """

    source: Source
    event_paths: list[ObjectPath] = field(default_factory=list)
    segment_paths: list[ObjectPath] = field(default_factory=list)
    events: int = 0
    as_of_round: int | None = None
    passed_over: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def pass_over(self, name: str, reason: str, *, show: bool = True) -> None:
        """Take note of a name that is not listed."""
        self.passed_over[reason] += 1
        if show and len(self.examples) < NAMED:
            self.examples.append(f"{name}: {reason}")


async def from_index(store: ObjectStore, *, objects: bool = False) -> FoundEvents:
    """Return all events that the published state holds: segments, and the objects of events in no segment yet.

    With `objects` every event by its own object. Raises `Refused` (NOT_FOUND) if nothing is published by us,
    `DamagedObject` if pointer, manifest or index cannot be read.
    """
    head = await read_head(store)
    ours = head.manifest.springline if head is not None else None
    if head is None or ours is None:
        why = "nothing is published" if head is None else "the published state is the reference's, and has no index"
        raise refused(
            Code.NOT_FOUND,
            f"there is no index of accepted events: {why}",
            field="--from-index",
            remedy="Give --from-rounds if the pointer was lost, --from-inventory FILE for names from elsewhere, or "
            "--from-listing to list the bucket.",
        )
    index = await read_index(store, ours.events.index)
    found = FoundEvents(Source.INDEX, events=index.count, as_of_round=ours.rounds_folded)
    if ours.adopted is not None:
        found.notes.append(
            f"the state was taken over from {ours.adopted.manifest_path}: events before that are not in the index; "
            "name them by --from-inventory or --from-listing for a rebuild in mode full"
        )
    if objects:
        async for events in events_between(store, index, None):
            found.event_paths += canonical_ulid_events(event_id for event_id, _ in events)
        return found
    nodes = await each(lambda ref: read_node(store, ref), index.nodes)
    refs = [*(ref for segments in nodes for ref in segments), *index.segments, *index.packs]
    found.segment_paths = sorted(ObjectPath(ref.path) for ref in refs)
    found.event_paths = canonical_ulid_events(event_id for event_id, _ in index.tail)
    return found


async def from_rounds(store: ObjectStore) -> FoundEvents:
    """Return the events of all round records, from the first to the last, read by their numbers.

    These are all events that were ever accepted here, without pointer, manifests or index. These are only looked at
    if a record is missing or damaged, or if they count more events than the records have. Raises `DamagedObject` for
    what cannot be read and nothing else says, and `Refused` (NOT_FOUND) if there is no record with events.
    """
    ours = await _published(store)
    folded, count = (0, 0) if ours is None else (ours.rounds_folded, ours.events.count)
    ids, folded_ids, last, whole = set[str](), set[str](), 0, True
    unfolded: list[StoredRound] = []
    async for some in walk_rounds(store, 0, least=folded):
        for one in some:
            last += 1
            if isinstance(one, Hole):
                whole = False
                continue
            ids.update(event.event_id for event in one.record.events)
            if last <= folded:
                folded_ids.update(event.event_id for event in one.record.events)
            else:
                unfolded = [one] if ours is None else [*unfolded, one]
    found = FoundEvents(Source.ROUNDS, as_of_round=last)
    if not whole or len(folded_ids) < count:
        index = None if ours is None else await _index(store, ours)
        known = (None, None) if ours is None else (folded, count)
        accepted = await survey(store, index, folded=known[0], count=known[1])
        if accepted.holes:
            raise accepted.holes[0].error
        ids = set(accepted.hashes)
        found.notes.append("what the records of rounds do not say was found in the published index")
    for stored in unfolded:
        if not await _is_written(store, stored):
            # Its events are in its record alone. What came after the list is folded on top, from there.
            found.as_of_round = min(last, stored.record.number - 1)
            ids.difference_update(event.event_id for event in stored.record.events)
            break
    if not ids:
        raise refused(
            Code.NOT_FOUND,
            "there is no round record with events",
            field="--from-rounds",
            remedy="Give --from-inventory FILE for names from elsewhere, or --from-listing to list the bucket.",
        )
    found.event_paths, found.events = canonical_ulid_events(sorted(ids)), len(ids)
    found.notes.append("events that were in the workspace before its first round are not among these")
    return found


async def _is_written(store: ObjectStore, stored: StoredRound) -> bool:
    """Say whether the objects of a round's events are all there."""
    events = canonical_ulid_events(event.event_id for event in stored.record.events)
    return None not in await store.read_many(events)


async def _published(store: ObjectStore) -> SpringlineSection | None:
    """Return what is published by us, None if that cannot be told."""
    try:
        head = await read_head(store)
    except DamagedObject:
        return None
    return None if head is None else head.manifest.springline


async def _index(store: ObjectStore, ours: SpringlineSection) -> EventsIndex | None:
    try:
        return await read_index(store, ours.events.index)
    except DamagedObject:
        return None


async def from_names(
    store: ObjectStore, names: Iterable[str], source: Source, *, segments: bool = False
) -> FoundEvents:
    """Return the events of this workspace among `names`, which are relative to it.

    By default each by its own object; segments are passed over, since they hold the same events. With `segments` they
    are taken and read, and only events that are in none of them by their objects.
    """
    found = FoundEvents(source)
    ids: set[str] = set()
    listed: set[ObjectPath] = set()
    for name in names:
        if parse_ledger_segment(name) is not None:
            listed.add(ObjectPath(name))
            continue
        event_id = event_id_from_ledger_path(name)
        if event_id is None:
            found.pass_over(name, "no event and no segment", show=False)
        elif not is_canonical(event_id):
            found.pass_over(name, "its id is no canonical ULID")
        elif name != _canonical(event_id):
            found.pass_over(name, "it does not lie under the event's one name")
        elif event_id in ids:
            found.passed_over["named twice"] += 1
        else:
            ids.add(event_id)
    if segments:
        held = await _take_segments(store, found, sorted(listed))
        found.events = len(ids | held)
        ids -= held
    else:
        found.events = len(ids)
        found.passed_over["segment, its events are taken by their objects"] += len(listed)
    found.event_paths = canonical_ulid_events(sorted(ids))
    found.passed_over = +found.passed_over
    return found


async def from_listing(store: ObjectStore, *, segments: bool = False) -> FoundEvents:
    """List the ledger of the workspace, which nothing else here does, and return its events as `from_names` does."""
    names = [info.path async for info in store.list(ledger_prefix())]
    return await from_names(store, names, Source.LISTING, segments=segments)


async def _take_segments(store: ObjectStore, found: FoundEvents, listed: list[ObjectPath]) -> set[str]:
    """Take the segments that hold events which no other one holds, larger ones first; return the ids they hold."""

    async def ids_of(path: ObjectPath) -> set[str] | None:
        stored = await store.get(path)
        if stored is None:
            return None
        try:
            return await in_thread(lambda: {event_id for event_id, _ in decode_segment(stored.data)})
        except DamagedSegment:
            return None

    held: set[str] = set()
    read = zip(listed, await each(ids_of, listed), strict=True)
    for path, ids in sorted(read, key=lambda one: (-len(one[1] or ()), one[0])):
        if ids is None:
            found.pass_over(path, "segment that is missing or damaged")
        elif ids <= held:
            found.pass_over(path, "segment whose events are in others", show=False)
        else:
            found.segment_paths.append(path)
            held |= ids
    found.segment_paths.sort()
    return held


def _canonical(event_id: str) -> ObjectPath | None:
    try:
        return canonical_ulid_event(event_id)
    except InvalidPath:
        return None


FIELD = "--from-inventory"
_GZIP_MAGIC = b"\x1f\x8b"
_HEADERS = ("name", "key", "path", "object", "object_name", "objectname")
_LISTS = ("event_paths", "segment_paths", "items", "contents")
_REMEDY = (
    "Give a file of object names: one per line, CSV with a column `name` or `key`, or JSON lines with such a field; "
    "plain or compressed with gzip."
)


def names_of_workspace(data: bytes, scope: Scope) -> tuple[list[str], Counter[str]]:
    """Return the names of the objects of `scope`, relative to it, and how many others there were by reason.

    Raises `Refused` (INVALID_REQUEST) for a file that holds no names.
    """
    others: Counter[str] = Counter()
    found: list[str] = []
    any_name = False
    for name in _names(_unpacked(data)):
        any_name = True
        relative = _relative(name, scope)
        if relative is None:
            others["object of another workspace, or of none"] += 1
        else:
            found.append(relative)
    if not any_name:
        raise _wrong("it holds no names of objects")
    return found, others


def _unpacked(data: bytes) -> str:
    try:
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise _wrong(f"it cannot be unpacked: {error}") from None
    except UnicodeDecodeError as error:
        raise _wrong(f"it is not UTF-8 at byte {error.start}") from None


def _names(text: str) -> Iterator[str]:
    if text.lstrip().startswith(("{", "[", '"')) and (documents := _documents(text)) is not None:
        for document in documents:
            yield from _names_in(document)
        return
    yield from _names_of_rows(csv.reader(text.splitlines()))


def _documents(text: str) -> Iterable[Any] | None:
    """Return the JSON documents of a text, None if it is no JSON."""
    try:
        return [orjson.loads(text)]
    except orjson.JSONDecodeError:
        lines = [line for line in text.splitlines() if line.strip()]
    documents = []
    for number, line in enumerate(lines, 1):
        try:
            documents.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            if number == 1:
                return None  # a CSV file whose cells are quoted begins like JSON
            raise _wrong(f"line {number} is not JSON: {error}") from None
    return documents


def _names_in(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, list):
        for one in document:
            yield from _names_in(one)
    elif isinstance(document, dict):
        fields = {str(name).lower(): value for name, value in document.items()}
        named = next((fields[name] for name in _HEADERS if isinstance(fields.get(name), str)), None)
        if named is not None:
            yield named
            return
        for name in _LISTS:
            yield from _names_in(fields.get(name, []))


def _names_of_rows(rows: Iterable[list[str]]) -> Iterator[str]:
    column: int | None = None
    for number, row in enumerate(row for row in rows if row):
        if number == 0:
            headers = [cell.strip().lower() for cell in row]
            column = next((headers.index(name) for name in _HEADERS if name in headers), None)
            if column is not None:
                continue
        if column is not None:
            if column < len(row):
                yield row[column]
        else:
            # Without a header the name is the one cell that looks like a path; a plain line is one cell.
            yield max((cell.strip() for cell in row), key=lambda cell: cell.count("/"))


def _relative(name: str, scope: Scope) -> str | None:
    """Return a name relative to the workspace, or None if it is not the workspace's."""
    plain = unquote(name) if "%" in name else name
    marker = f"{scope.prefix}/"
    before, found, rest = plain.partition(marker)
    if found and (not before or before.endswith("/")):
        candidate = rest
    elif not plain.startswith("/") and not lies_in_a_scope(plain) and "://" not in plain:
        candidate = plain
    else:
        return None
    try:
        return relative_path(candidate)
    except InvalidPath:
        return None


def _wrong(problem: str) -> Refused:
    return refused(Code.INVALID_REQUEST, f"{FIELD}: {problem}", field=FIELD, remedy=_REMEDY)
