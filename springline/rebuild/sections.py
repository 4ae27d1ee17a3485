"""The events of a part, apart by shard: what a shard reads is what it folds.

A section is a list of chunks, each a list of events, as MessagePack compressed with lz4. Events were read, checked and
understood once, and taking that over costs a quarter of doing it again. Chunks are small: their events are made and
let go while they are at hand, and no part or shard ever holds all of its events as objects.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import pyarrow as pa
from msgspec import Struct

from springline.errors import InvariantViolated
from springline.ledger.envelope import Event
from springline.paths import rebuild_section
from springline.published.files import read_file, write_file
from springline.rebuild.receipts import WORK_AGAIN, Section
from springline.storage.offload import in_turn
from springline.storage.parallel import each
from springline.storage.port import ObjectStore

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
