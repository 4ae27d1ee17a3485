"""What the parts of a rebuild leave behind for those that follow: receipts, events by shard, tables by shard."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec
import pyarrow as pa
from msgspec import Struct

from springline.checked import WrongChecksum, verify, with_checksum
from springline.errors import InvariantViolated
from springline.ledger.envelope import Event
from springline.paths import ObjectPath, content_hash12, rebuild_section
from springline.projection.parquet import arrow_columns, encode_arrow, rows_of_arrow, sorted_by_key
from springline.projection.schema import Row, Table
from springline.projection.sharding import Links
from springline.published.files import Artifact, read_file, write_file
from springline.published.index import SegmentRef
from springline.storage.damage import DamagedObject
from springline.storage.offload import in_turn
from springline.storage.parallel import each
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once

T = TypeVar("T", bound=Struct)

WORK_AGAIN = "delete the work folder it lies in and start the rebuild again"


class BadRecord(Struct, frozen=True):
    """An event that is missing or damaged; `reason` is a `RefusalReason`."""

    path: str
    reason: str
    message: str


class Section(Struct, frozen=True):
    """The events of a part that one shard folds."""

    shard: int
    events: int
    stored: Artifact


class PartReceipt(Struct, frozen=True):
    """What a slice or a listed segment came to. `missing` and `damaged` count what is in `bad` and more.

    `known`: how many of its events, good or bad, the ledger had accepted.
    """

    number: int
    events: int
    raw_bytes: int
    missing: int
    damaged: int
    bad: list[BadRecord]
    segment: SegmentRef | None
    sections: list[Section]
    odd: list[str]
    claims: dict[str, str]
    known: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing was missing or damaged: only then it need not be done again."""
        return not self.missing and not self.damaged

    @property
    def links(self) -> Links:
        """What the part tells of runs that cannot be folded apart."""
        return Links(set(self.odd), dict(self.claims))


class ShardTable(Struct, frozen=True):
    """The rows of a table that a shard folded."""

    table: str
    rows: int
    stored: Artifact


class ShardReceipt(Struct, frozen=True):
    """What a shard came to. `digest` is its digest by table and bucket; `outcomes` counts events by outcome.

    `materialized`: (asset, partition) keys of partition rows with the event that materialized them last.
    """

    number: int
    events: int
    duplicates: int
    damaged: int
    bad: list[BadRecord]
    outcomes: dict[str, int]
    tables: list[ShardTable]
    digest: msgspec.Raw
    last_event_id: str | None
    frontier_ms: int | None
    materialized: list[tuple[str, str, str]]


class Split(Struct, frozen=True):
    """How the fold is split: the receipts of all parts, and the odd runs. Gaps were found on the way."""

    shards: int
    events: int
    receipts: list[str]
    odd: list[str]
    gap_count: int
    gaps: list[str]


class _List(Struct, frozen=True):
    """A list of texts: event ids of a slice, or paths of segments."""

    items: list[str]


async def write_list(store: ObjectStore, path: ObjectPath, items: Sequence[str]) -> None:
    """Write a list, create-only. Raises `DamagedObject` if another one is there, and what the store does."""
    found = await put_once(store, path, with_checksum(msgspec.json.encode(_List(list(items))), path))
    if isinstance(found, Other) and _list_in(found.data, path) != list(items):
        raise DamagedObject(path, "holds another list than this rebuild's", WORK_AGAIN)


async def read_list(store: ObjectStore, path: ObjectPath) -> list[str]:
    """Return a list that the plan wrote. Raises `DamagedObject`, and what the store does."""
    stored = await store.get(path)
    if stored is None:
        raise DamagedObject(path, "is gone", WORK_AGAIN)
    return _list_in(stored.data, path)


def _list_in(data: bytes, path: ObjectPath) -> list[str]:
    try:
        if data.startswith(b"["):
            return msgspec.json.decode(data, type=list[str])  # as older versions wrote it
        verify(data, _List.__struct_fields__, path)
        return msgspec.json.decode(data, type=_List).items
    except (WrongChecksum, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedObject(path, f"is no list: {error}", WORK_AGAIN) from error


async def read_receipt(store: ObjectStore, path: ObjectPath, kind: type[T]) -> T | None:
    """Return the receipt at `path`, None if there is none. Raises `DamagedObject` if it cannot be read."""
    stored = await store.get(path)
    if stored is None:
        return None
    try:
        # A name that holds the hash of the content was made after it, and cannot be in its checksum.
        name = "" if content_hash12(stored.data) in path else path
        verify(stored.data, kind.__struct_fields__, name)
        return msgspec.json.decode(stored.data, type=kind)
    except (WrongChecksum, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedObject(path, f"is no {kind.__name__}: {error}", WORK_AGAIN) from error


def encode_receipt(receipt: Struct, path: str = "") -> bytes:
    """Return the bytes of a receipt, with their checksum; `path` is empty if its name is made of the bytes."""
    return with_checksum(msgspec.json.encode(receipt), path)


async def write_receipt(store: ObjectStore, path: ObjectPath, receipt: T) -> T:
    """Write a receipt, or return the one that was there first."""
    data = encode_receipt(receipt, path)
    if not isinstance(await put_once(store, path, data), Other):
        return receipt
    there = await read_receipt(store, path, type(receipt))
    assert there is not None
    return there


CODEC = "lz4"
CHUNK_EVENTS = 64

Chunk = bytes
"""Some events of a section, which `events_of` makes of it."""


class KeptEvent(Struct, array_like=True, gc=False):
    """An event of a section. By `body_crc` bodies that mean the same, but are not, are told apart."""

    event: Event
    body_crc: int


_encode = msgspec.msgpack.Encoder().encode
_CHUNKS = msgspec.msgpack.Decoder(list[bytes])
_EVENTS = msgspec.msgpack.Decoder(list[KeptEvent])


class SectionWriter:
    """A section as it comes together: events are added ascending by id."""

    def __init__(self) -> None:
        self.events = 0
        self._chunks: list[Chunk] = []
        self._open: list[KeptEvent] = []

    def add(self, event: Event, body: bytes) -> None:
        """Add an event, which was read from `body`."""
        self.events += 1
        self._open.append(KeptEvent(event, zlib.crc32(body)))
        if len(self._open) == CHUNK_EVENTS:
            self._chunks.append(_encode(self._open))
            self._open.clear()

    def close(self) -> bytes:
        """Return the object's bytes; what is added later is not in it."""
        chunks = [*self._chunks, _encode(self._open)] if self._open else self._chunks
        return compress(_encode(chunks))


async def write_sections(
    store: ObjectStore, work_id: str, part: int, by_shard: Mapping[int, SectionWriter]
) -> list[Section]:
    """Write the sections of part `part` by the shard that folds them, and return where they are."""

    async def write(shard: int) -> Section:
        section = by_shard[shard]
        data = await in_turn(section.close)
        artifact = await write_file(store, data, lambda digest: rebuild_section(work_id, part, shard, digest))
        return Section(shard, section.events, artifact)

    return await each(write, sorted(by_shard))


async def read_section(store: ObjectStore, section: Section) -> list[Chunk]:
    """Return the chunks of a section, whose events ascend by id. Raises `DamagedObject`."""
    return await read_file(store, section.stored, decode, remedy=WORK_AGAIN)


def events_of(chunks: Iterable[Chunk]) -> Iterator[KeptEvent]:
    """Yield the events of some chunks."""
    for chunk in chunks:
        yield from _EVENTS.decode(chunk)


def decode(data: bytes) -> list[Chunk]:
    """Return the chunks in a section's bytes. Raises `InvariantViolated` for other bytes."""
    try:
        return _CHUNKS.decode(decompress(data))
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise InvariantViolated(str(error)) from error


def compress(data: bytes) -> bytes:
    """Return `data` as one lz4 frame."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, CODEC) as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def decompress(data: bytes) -> bytes:
    """Return what `compress` was given; raises `OSError` for other bytes."""
    text: bytes = pa.CompressedInputStream(pa.BufferReader(data), CODEC).read()
    return text


_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def encode_rows(table: Table, rows: Sequence[Row]) -> bytes:
    """Return the stream that holds `rows`, in their order; raises as `arrow_columns`."""
    content = arrow_columns(table, rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, content.schema, options=_OPTIONS) as writer:
        writer.write_table(content)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode_rows(data: bytes) -> list[Row]:
    """Return the rows of a stream. Raises `InvariantViolated` for bytes that are none."""
    return rows_of_arrow(_read(data))


def merged(table: Table, streams: list[bytes]) -> bytes:
    """Return the Parquet file that holds the rows of several streams, whose keys differ; `streams` is emptied.

    What is not needed any more is let go on the way: tables may be large. Raises `InvariantViolated` for bytes that
    are no stream.
    """
    content = pa.concat_tables([arrow_columns(table, []), *_all_of(streams)])
    content = sorted_by_key(table, content)
    data = encode_arrow(table, content)
    del content
    pa.default_memory_pool().release_unused()
    return data


def _all_of(streams: list[bytes]) -> Iterator[pa.Table]:
    while streams:
        yield _read(streams.pop())


def _read(data: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(pa.BufferReader(data)) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError) as error:
        raise InvariantViolated(f"no stream of rows: {error}") from error
