"""The events of a part, apart by shard: what a shard reads is what it folds.

A list of bodies as MessagePack, compressed with lz4: this is read once and soon, and costs a tenth of a segment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
import pyarrow as pa

from springline.paths import ObjectPath, rebuild_section
from springline.rebuild.receipts import WORK_AGAIN, Section, StoredPart
from springline.sequencer.damage import DamagedObject
from springline.sequencer.offload import in_thread
from springline.sequencer.parallel import each
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once

CODEC = "lz4"

Events = Sequence[tuple[str, bytes]]
"""Event ids and bodies, ascending by id."""


async def write_sections(store: ObjectStore, work_id: str, part: int, by_shard: Mapping[int, Events]) -> list[Section]:
    """Write the events of part `part` that each shard folds, and return where they are."""

    async def write(shard: int) -> Section:
        events = by_shard[shard]
        data = await in_thread(lambda: compress(msgspec.msgpack.encode([body for _, body in events])))
        digest = hashlib.sha256(data).hexdigest()
        path = rebuild_section(work_id, part, shard, digest[:12])
        if isinstance(await put_once(store, path, data), Other):
            raise DamagedObject(path, "holds other bytes than its name says", WORK_AGAIN)
        return Section(shard, len(events), StoredPart(path, digest, len(data)))

    return await each(write, sorted(by_shard))


async def read_section(store: ObjectStore, section: Section) -> list[bytes]:
    """Return the bodies of a section's events, ascending by id. Raises `DamagedObject`."""
    data = await read_stored(store, section.stored)
    try:
        return await in_thread(lambda: msgspec.msgpack.decode(decompress(data), type=list[bytes]))
    except (OSError, msgspec.DecodeError) as error:
        raise DamagedObject(section.stored.path, f"cannot be read: {error}", WORK_AGAIN) from error


async def read_stored(store: ObjectStore, stored: StoredPart) -> bytes:
    """Return the bytes of an object of the work folder, checked. Raises `DamagedObject`."""
    found = await store.get(ObjectPath(stored.path))
    if found is None:
        raise DamagedObject(stored.path, "is gone", WORK_AGAIN)
    if len(found.data) != stored.byte_size or hashlib.sha256(found.data).hexdigest() != stored.sha256:
        raise DamagedObject(stored.path, "is not what was written", WORK_AGAIN)
    return found.data


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
