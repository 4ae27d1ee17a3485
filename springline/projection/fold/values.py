"""Values that rows are made of: JSON columns, times, and the reference to what produced an output."""

from __future__ import annotations

from collections.abc import Sized
from typing import Final

from msgspec import Struct
from msgspec.json import Encoder

from springline.ledger.timestamps import NS_PER_MS, parse_timestamp

_sorted: Final = Encoder(order="sorted")
_as_declared: Final = Encoder()


class _Lineage(Struct, omit_defaults=True, rename="camel", gc=False):
    run_id: str
    task_key: str
    attempt: int
    materialization_id: str | None = None
    delta_table: str | None = None
    delta_version: int | None = None
    delta_partition: str | None = None


def json_text(value: object) -> str:
    """Return a value of an event as canonical JSON text."""
    return _sorted.encode(value).decode()


def json_or_none(value: Sized) -> str | None:
    """Return an object or list of an event as canonical JSON text, None if it is empty."""
    return json_text(value) if value else None


def ms_or_none(timestamp: str | None) -> int | None:
    """Return a timestamp of an event in epoch milliseconds, None for None."""
    return None if timestamp is None else parse_timestamp(timestamp) // NS_PER_MS


def lineage_ref(
    run_id: str,
    task_key: str,
    attempt: int,
    materialization_id: str | None,
    delta_table: str | None,
    delta_version: int | None,
    delta_partition: str | None,
) -> str:
    """Return the reference to the execution that produced an output (docs/formats.md#lineage)."""
    lineage = _Lineage(run_id, task_key, attempt, materialization_id, delta_table, delta_version, delta_partition)
    return _as_declared.encode(lineage).decode()
