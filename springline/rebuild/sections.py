"""The events of a part, apart by shard: what a shard reads is what it folds.

A list of bodies as MessagePack, compressed with lz4: this is read once and soon, and costs a tenth of a segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pyarrow as pa

from springline.errors import InvariantViolated
from springline.paths import rebuild_section
from springline.rebuild.receipts import WORK_AGAIN, Section
from springline.sequencer.artifacts import read_file, write_file
from springline.sequencer.offload import in_turn
from springline.sequencer.parallel import each
from springline.storage.port import ObjectStore

CODEC = "lz4"

Events = Sequence[tuple[str, bytes]]
"""Event ids and bodies, ascending by id."""


async def write_sections(store: ObjectStore, work_id: str, part: int, by_shard: Mapping[int, Events]) -> list[Section]:
    """Write the events of part `part` that each shard folds, and return where they are."""

    async def write(shard: int) -> Section:
        events = by_shard[shard]
        data = await in_turn(lambda: compress(msgspec.msgpack.encode([body for _, body in events])))
        artifact = await write_file(store, data, lambda digest: rebuild_section(work_id, part, shard, digest))
        return Section(shard, len(events), artifact)

    return await each(write, sorted(by_shard))


async def read_section(store: ObjectStore, section: Section) -> list[bytes]:
    """Return the bodies of a section's events, ascending by id. Raises `DamagedObject`."""
    return await read_file(store, section.stored, _decode, remedy=WORK_AGAIN)


def _decode(data: bytes) -> list[bytes]:
    try:
        return msgspec.msgpack.decode(decompress(data), type=list[bytes])
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
