"""The events of a part, apart by shard: what a shard reads is what it folds.

A list of events as MessagePack, compressed with lz4: they were read, checked and understood once, and taking that over
costs a quarter of doing it again.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import msgspec
import pyarrow as pa
from msgspec import Struct

from springline.errors import InvariantViolated
from springline.ledger.envelope import Event
from springline.paths import rebuild_section
from springline.rebuild.receipts import WORK_AGAIN, Section
from springline.sequencer.artifacts import read_file, write_file
from springline.sequencer.offload import in_turn
from springline.sequencer.parallel import each
from springline.storage.port import ObjectStore

CODEC = "lz4"


class KeptEvent(Struct, array_like=True, gc=False):
    """An event of a section. By `body_crc` bodies that mean the same, but are not, are told apart."""

    event: Event
    body_crc: int

    @classmethod
    def of(cls, event: Event, body: bytes) -> KeptEvent:
        """Return an event with what is kept of its body."""
        return cls(event, zlib.crc32(body))


async def write_sections(
    store: ObjectStore, work_id: str, part: int, by_shard: Mapping[int, Sequence[KeptEvent]]
) -> list[Section]:
    """Write the events of part `part` that each shard folds, ascending by id, and return where they are."""

    async def write(shard: int) -> Section:
        events = by_shard[shard]
        data = await in_turn(lambda: compress(msgspec.msgpack.encode(events)))
        artifact = await write_file(store, data, lambda digest: rebuild_section(work_id, part, shard, digest))
        return Section(shard, len(events), artifact)

    return await each(write, sorted(by_shard))


async def read_section(store: ObjectStore, section: Section) -> list[KeptEvent]:
    """Return the events of a section, ascending by id. Raises `DamagedObject`."""
    return await read_file(store, section.stored, _decode, remedy=WORK_AGAIN)


_DECODER = msgspec.msgpack.Decoder(list[KeptEvent])


def _decode(data: bytes) -> list[KeptEvent]:
    try:
        return _DECODER.decode(decompress(data))
    except (OSError, msgspec.DecodeError) as error:
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
