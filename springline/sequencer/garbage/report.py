"""The report from marking to deleting: which object was garbage since when, in which version
(docs/protocol.md#garbage).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import Struct

from springline.checked import WrongChecksum, verify, with_checksum
from springline.paths import ObjectPath, orchestration_garbage
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore

FORMAT = 1
_MARK_AGAIN = "delete the report and mark anew; nothing else depends on it"


class Kind(StrEnum):
    """Why an object is garbage."""

    SUPERSEDED = "superseded"
    """It belonged to a revision that is no longer kept."""
    NAMELESS = "nameless"
    """No known revision names it: a failed attempt left it, or a writer has not published it yet."""
    RECORD = "record"
    """The record of a folded round: other objects have the texts of its events and answers."""


class Marked(Struct, frozen=True, array_like=True):
    """An object that is garbage. `version` is its token, `size` in bytes.

    `since_ms`: when it was first marked in this version, in an unbroken series of reports.
    """

    path: str
    version: str
    size: int
    kind: Kind
    since_ms: int


class MarkReport(Struct, frozen=True, kw_only=True):
    """The garbage found at `created_at_ms`, when `manifest_id` was published.

    `kept` counts the objects that are not garbage. `complete`: no garbage was left for the next report.
    `records_done`: the records of rounds up to this number need not be read again.
    """

    format: int = FORMAT
    report_id: str
    created_at_ms: int
    manifest_id: str
    kept: int
    complete: bool
    records_done: int
    objects: list[Marked]


_decode = msgspec.json.Decoder(MarkReport).decode
_MEMBERS = frozenset(MarkReport.__struct_fields__)


def encode_report(report: MarkReport) -> bytes:
    """Return the report's bytes, with their checksum."""
    return with_checksum(msgspec.json.encode(report))


async def read_report(store: ObjectStore, path: ObjectPath) -> MarkReport | None:
    """Return the report at `path`, None if there is none. Raises `DamagedObject`, and the store's errors."""
    stored = await store.get(path)
    if stored is None:
        return None
    try:
        verify(stored.data, _MEMBERS)
        report = _decode(stored.data)
    except (WrongChecksum, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedObject(path, f"is no garbage report: {error}", _MARK_AGAIN) from error
    if report.format != FORMAT or orchestration_garbage(report.report_id) != path:
        raise DamagedObject(path, f"is report {report.report_id} in format {report.format}", _MARK_AGAIN)
    return report
