"""Paths of the Iceberg namespace (docs/formats.md#reserved-names)."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from typing import Final

from springline.paths.components import day_folder, full_hash, made_by, parse_day
from springline.paths.scope import ObjectPath, canonical_uuid, segment

_CATALOG: Final = "_catalog"
_POINTER = re.compile(r"_catalog/iceberg_pointers/([^/]+)\.json")
_MARKER = re.compile(r"_catalog/iceberg_idempotency/([^/]+)/[^/]+/([^/]+)\.json")
_RECEIPT = re.compile(r"events/([^/]+)/iceberg/(pending|committed)/([^/]+)\.json")


class ReceiptState(StrEnum):
    """Whether a receipt was written before or after its commit."""

    PENDING = "pending"
    COMMITTED = "committed"


def iceberg_pointer(table_uuid: str) -> ObjectPath:
    """Return the name of a table's pointer; `table_uuid` in lower-case hyphenated form."""
    return ObjectPath(f"{_CATALOG}/iceberg_pointers/{canonical_uuid('table_uuid', table_uuid)}.json")


def parse_iceberg_pointer(path: str) -> str | None:
    """Return the table's UUID in a pointer's path, or None for another path."""
    match = _POINTER.fullmatch(path)
    return match[1] if match is not None and made_by(path, iceberg_pointer, match[1]) else None


def iceberg_idempotency_prefix(table_uuid: str) -> ObjectPath:
    """Return the prefix, with its trailing slash, of a table's idempotency markers."""
    return ObjectPath(f"{_CATALOG}/iceberg_idempotency/{canonical_uuid('table_uuid', table_uuid)}/")


def iceberg_marker(table_uuid: str, key_hash: str) -> ObjectPath:
    """Return the name of an idempotency marker; `key_hash` is a SHA-256 in 64 lower-case hex digits."""
    digest = full_hash("key_hash", key_hash)
    return ObjectPath(f"{iceberg_idempotency_prefix(table_uuid)}{digest[:2]}/{digest}.json")


def parse_iceberg_marker(path: str) -> tuple[str, str] | None:
    """Return table UUID and key hash in a marker's path, or None for another path."""
    match = _MARKER.fullmatch(path)
    if match is None or not made_by(path, iceberg_marker, match[1], match[2]):
        return None
    return match[1], match[2]


def iceberg_transaction(tx_id: str) -> ObjectPath:
    """Return the name of a transaction over several tables."""
    return ObjectPath(f"{_CATALOG}/iceberg_transactions/{segment('tx_id', tx_id)}.json")


def iceberg_receipt(day: date, state: ReceiptState, commit_key: str) -> ObjectPath:
    """Return the name of a commit's receipt in the folder of a UTC day."""
    return ObjectPath(f"events/{day_folder(day)}/iceberg/{state.value}/{segment('commit_key', commit_key)}.json")


def parse_iceberg_receipt(path: str) -> tuple[date, ReceiptState, str] | None:
    """Return day, state and commit key in a receipt's path, or None for another path."""
    match = _RECEIPT.fullmatch(path)
    day = None if match is None else parse_day(match[1])
    if match is None or day is None:
        return None
    state = ReceiptState(match[2])
    return (day, state, match[3]) if made_by(path, iceberg_receipt, day, state, match[3]) else None
