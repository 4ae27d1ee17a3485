"""What a part of a rebuild leaves behind when it is done: create-only records that say what it read and wrote.

Who finds a receipt need not do the part again. A part that is done twice at once, or again after its receipt was lost,
writes the same bytes under the same names: what it reads is immutable, and nothing in it depends on a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from springline.checked import WrongChecksum, verify, with_checksum
from springline.paths import ObjectPath, content_hash12
from springline.projection.sharding import Links
from springline.published.files import Artifact
from springline.published.index import SegmentRef
from springline.storage.damage import DamagedObject
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
