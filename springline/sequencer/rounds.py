"""Round records: the write-ahead entries of a workspace's ledger (docs/protocol.md#ledger-rounds).

A round's record is created before its first event is put and holds all that finishing the round takes: the exact
text of its events and the answers to its requests. From then on these events belong to the ledger, whoever writes
them out; without a record nothing of the round exists. Rounds are numbered without gaps, so that a successor finds
the unfinished ones by probing forward, and only one sequencer can hold a number.

Records are kept: one that vanished while a sequencer of long ago is still at work could be created a second time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import Struct

from springline.checked import WrongChecksum, verify, with_checksum
from springline.ledger.request import EventOutcome, IngestOutcome, RefusalReason
from springline.paths import orchestration_round
from springline.published.index_files import AcceptedEvent
from springline.sequencer.messages import PendingRound
from springline.sequencer.requests import RequestMarker
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once

FORMAT = 1
MAX_ROUND_BYTES = 32 * 1024 * 1024
"""Text of the events of one foreign round; what goes beyond is left to the next one."""
RESTORE_RECORD = "an operator must restore the record: its events may have been acknowledged"


class RoundEvent(Struct, frozen=True):
    """One event: its id, the SHA-256 (hex) of its body, and the body as it is or will be stored."""

    event_id: str
    sha256: str
    body: str

    @classmethod
    def of(cls, event_id: str, body: bytes) -> RoundEvent:
        """Return the entry of an event. Raises `UnicodeDecodeError` for a body that is no UTF-8."""
        return cls(event_id, hashlib.sha256(body).hexdigest(), body.decode())

    @property
    def data(self) -> bytes:
        """The body's bytes."""
        return self.body.encode()

    @property
    def accepted(self) -> AcceptedEvent:
        """The event as the published state takes it."""
        return AcceptedEvent(self.event_id, self.sha256, self.data)

    @property
    def is_whole(self) -> bool:
        """Whether the body is here: records of rounds that were folded long ago have lost theirs."""
        return hashlib.sha256(self.data).hexdigest() == self.sha256


class ForeignRefusal(Struct, frozen=True, omit_defaults=True):
    """A refused foreign event, as `RefusedEvent` has it."""

    path: str
    reason: RefusalReason
    message: str
    record_path: str | None = None


class ForeignAnswer(Struct, frozen=True, omit_defaults=True):
    """What became of the foreign events of one request, as far as it is known before the fold."""

    accepted: int = 0
    late: int = 0
    known: int = 0
    deferred: list[str] = []
    refused: list[ForeignRefusal] = []
    refused_total: int = 0


class RoundRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that finishing a round takes.

    `order_sha256` names the order that it was made for, `begun_on` the manifest of the state it was judged on (None: of
    an empty ledger). `events` ascend by id. `requests` are the markers of an own
    round; `foreign_answers` the answers of a foreign one, and `closes` the foreign ranges (by their head) that are
    taken in completely with it.
    """

    format: int = FORMAT
    number: int
    writer: str
    order_sha256: str
    begun_on: str | None = None
    kind: Literal["own", "foreign"]
    created_at_ms: int
    events: list[RoundEvent] = []
    requests: list[RequestMarker] = []
    foreign_answers: list[ForeignAnswer] = []
    closes: list[str] = []


@dataclass(frozen=True, slots=True)
class StoredRound:
    """A record with the SHA-256 (hex) of its bytes."""

    record: RoundRecord
    sha256: str

    def accepted(self) -> list[AcceptedEvent]:
        """The round's events as the published state takes them, ascending by id."""
        return [event.accepted for event in self.record.events]

    @property
    def pending(self) -> PendingRound:
        """The round as orders name it."""
        events = self.record.events
        return PendingRound(
            number=self.record.number,
            record_sha256=self.sha256,
            first_event_id=events[0].event_id if events else None,
            last_event_id=events[-1].event_id if events else None,
            events=len(events),
            foreign=self.record.kind == "foreign",
        )


_decode = msgspec.json.Decoder(RoundRecord).decode
_MEMBERS = frozenset(RoundRecord.__struct_fields__)


def encode_round(record: RoundRecord) -> bytes:
    """Return the record's bytes, with their checksum; always the same for the same record."""
    return with_checksum(msgspec.json.encode(record))


def decode_round(data: bytes, number: int) -> StoredRound:
    """Parse the record read for round `number`, once it was checked; raises `DamagedObject`.

    The records of older versions carry no checksum: there the texts of the events are compared with their hashes.
    """
    path = orchestration_round(number)
    try:
        sealed = verify(data, _MEMBERS)
        record = _decode(data)
    except (WrongChecksum, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedObject(path, f"is no round record: {error}", RESTORE_RECORD) from error
    if (record.format, record.number) != (FORMAT, number):
        raise DamagedObject(path, f"is the record of round {record.number} in format {record.format}", RESTORE_RECORD)
    altered = None if sealed else next((one for one in record.events if one.body and not one.is_whole), None)
    if altered is not None:
        why = f"has another text of event {altered.event_id} than the one with its SHA-256 {altered.sha256}"
        raise DamagedObject(path, why, RESTORE_RECORD)
    return StoredRound(record, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Ours:
    """The record stands: this call, or an earlier attempt, wrote it."""

    stored: StoredRound


@dataclass(frozen=True, slots=True)
class Taken:
    """The number belongs to another record."""

    stored: StoredRound


async def create_round(store: ObjectStore, record: RoundRecord) -> Ours | Taken:
    """Create a round's record unless there is one; safe to repeat with the same record.

    Raises what the store does, `StoreUnknown` if the record may still come to stand, and `DamagedObject` if
    something else stands there.
    """
    data = encode_round(record)
    result = await put_once(store, orchestration_round(record.number), data)
    if isinstance(result, Other):
        return Taken(decode_round(result.data, record.number))
    return Ours(StoredRound(record, hashlib.sha256(data).hexdigest()))


async def find_round(store: ObjectStore, number: int) -> StoredRound | None:
    """Read the record of round `number`; None if there is none. Raises `DamagedObject`."""
    stored = await store.get(orchestration_round(number))
    return None if stored is None else decode_round(stored.data, number)


async def read_round(store: ObjectStore, number: int, sha256: str) -> StoredRound:
    """Read the record of round `number`, whose bytes have this SHA-256 (hex). Raises `DamagedObject` if not."""
    found = await find_round(store, number)
    path = orchestration_round(number)
    if found is None:
        raise DamagedObject(path, "is missing", RESTORE_RECORD)
    if found.sha256 != sha256:
        raise DamagedObject(path, f"has the SHA-256 {found.sha256}, not {sha256}", RESTORE_RECORD)
    return found


def answer_of(answer: ForeignAnswer, outcomes: dict[EventOutcome, int]) -> IngestOutcome:
    """Return a foreign answer with what the fold made of its events; visibility is the caller's to say."""
    return IngestOutcome.model_validate({**msgspec.to_builtins(answer), "outcomes": outcomes})
