"""Deletions of a delta: keys of rows that are gone, applied after the delta's own rows.

See docs/formats.md#table-files, docs/formats.md#deletions.

    {"schema_version": 1, "runs": ["r1"], "tasks": [["r1", "t1"]], "run_key_conflicts": ["conflict:k1:01J..."], ...}

Lists are sorted, and left out when empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from springline.errors import InvariantViolated
from springline.projection.schema import RUN_KEY_CONFLICTS, TABLES, Key, Table

FORMAT: Final = 1

_CONFLICT: Final = "conflict:"


class DamagedTombstones(InvariantViolated):
    """A file of deletions that is none, or of a version that we do not know: deleted rows would come back."""


def _listed(table: Table) -> Any:
    """Return the type of a table's list of keys."""
    if table is RUN_KEY_CONFLICTS or len(table.key) == 1:
        return list[str]
    return list[tuple[(str,) * len(table.key)]]  # type: ignore[misc]


_Document: Final[Any] = msgspec.defstruct(
    "Tombstones",
    [
        ("schema_version", int),
        *((name, _listed(table), msgspec.field(default_factory=list)) for name, table in TABLES.items()),
    ],
    omit_defaults=True,
    forbid_unknown_fields=True,
)
_DECODER: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(_Document)


def conflict_text(key: Key) -> str:
    """Return the one text that stands for the key of a run-key conflict (docs/formats.md#projection-tables)."""
    return _CONFLICT + ":".join(key if isinstance(key, tuple) else (key,))


def encode_tombstones(deleted: Mapping[str, Iterable[Key]]) -> bytes:
    """Return the file that lists the deleted keys, by table; the same bytes for the same keys in any order."""
    lists: dict[str, list[Key]] = {}
    for name, keys in deleted.items():
        lists[name] = sorted(map(conflict_text, keys) if name == RUN_KEY_CONFLICTS.name else keys)
    return msgspec.json.format(msgspec.json.encode(_Document(schema_version=FORMAT, **lists)), indent=2)


def decode_tombstones(data: bytes) -> dict[str, list[Key]]:
    """Return the deleted keys in a file, by table; tables without any are left out.

    The key of a run-key conflict is split at its last colon, for ids of events have none. Raises `DamagedTombstones`
    for another version, a table that there is not, or anything else that is no such file.
    """
    try:
        document = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedTombstones(f"no list of deletions: {error}") from error
    if document.schema_version != FORMAT:
        raise DamagedTombstones(f"deletions have `schema_version` {document.schema_version}; known is {FORMAT}")
    deleted = {name: list(getattr(document, name)) for name in TABLES if getattr(document, name)}
    if RUN_KEY_CONFLICTS.name in deleted:
        deleted[RUN_KEY_CONFLICTS.name] = [_conflict_key(text) for text in deleted[RUN_KEY_CONFLICTS.name]]
    return deleted


def _conflict_key(text: str) -> Key:
    run_key, colon, event_id = text.removeprefix(_CONFLICT).rpartition(":")
    if not text.startswith(_CONFLICT) or not colon:
        raise DamagedTombstones(f"{text!r} is not the key of a run-key conflict")
    return (run_key, event_id)
