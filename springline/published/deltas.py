"""Deltas: the rows that a round changed, and the keys of rows that it deleted, as files.

See docs/formats.md#table-files, docs/formats.md#deletions, docs/protocol.md#overlay, docs/protocol.md#publication.

One delta is a file per table that has changed rows, one of deletions, even if there are none, and one of the digest
buckets that changed. Its rows are absolute: laid over the state before, in any number of steps, they give the state
after. Deletions are applied after the delta's own rows:

    {"schema_version": 1, "runs": ["r1"], "tasks": [["r1", "t1"]], "run_key_conflicts": ["conflict:k1:01J..."], ...}

Lists are sorted, and left out when empty. Deleted rows of our own tables are in a file of the same form beside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from springline import paths
from springline.errors import InvariantViolated
from springline.ledger.timestamps import format_ms
from springline.paths import ObjectPath, StateLayer
from springline.projection.digest import Digest, bucket_of
from springline.projection.schema import (
    OWN_TABLES,
    REFERENCE_TABLES,
    RUN_KEY_CONFLICTS,
    TABLES,
    Key,
    Row,
    Table,
)
from springline.projection.state import State
from springline.projection.tables import RowChange
from springline.published.bases import encode_buckets
from springline.published.files import (
    EncodedTable,
    RowCounts,
    WrittenTable,
    encode_rows,
    paths_of,
    read_file,
    read_table,
    write_each,
    write_table,
)
from springline.published.manifest import Delta, EventRange, OwnFiles
from springline.storage.port import ObjectStore
from springline.storage.threads import in_thread
from springline.storage.together import READS_TOGETHER, each, together

T = TypeVar("T")

PUTS_TOGETHER = 16
_DELTAS_TOGETHER = 2

Keys = Mapping[str, Collection[Key]]
"""Keys of rows by table."""


@dataclass(frozen=True, slots=True)
class DeltaRows:
    """The content of a delta: whole rows, and keys of deleted rows, by table."""

    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    deleted: Mapping[str, Sequence[Key]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Rows and deletions: what merging this costs."""
        return sum(map(len, self.rows.values())) + sum(map(len, self.deleted.values()))

    def keys(self) -> dict[str, set[Key]]:
        """Return the keys of all rows that the delta changes or deletes, by table."""
        found: dict[str, set[Key]] = {name: set(keys) for name, keys in self.deleted.items()}
        for name, rows in self.rows.items():
            found.setdefault(name, set()).update(map(TABLES[name].key_of, rows))
        return found


def rows_of_changes(changes: Mapping[str, Iterable[RowChange]]) -> DeltaRows:
    """Return the content of the delta for `State.changes()`."""
    rows: dict[str, list[Row]] = {}
    deleted: dict[str, list[Key]] = {}
    for name, its_changes in changes.items():
        for change in its_changes:
            if change.after is None:
                deleted.setdefault(name, []).append(change.key)
            else:
                rows.setdefault(name, []).append(change.after)
    return DeltaRows(rows, deleted)


def rows_of_keys(state: State, keys: Keys) -> DeltaRows:
    """Return the content of the delta that brings the rows with these keys to what they are in `state`."""
    rows: dict[str, list[Row]] = {}
    deleted: dict[str, list[Key]] = {}
    for name, its_keys in keys.items():
        for key in sorted(its_keys):  # In order, so that each part of a file is read once.
            row = state.row(name, key)
            if row is None:
                deleted.setdefault(name, []).append(key)
            else:
                rows.setdefault(name, []).append(row)
    return DeltaRows(rows, deleted)


async def merged_rows(
    store: ObjectStore,
    state: State,
    deltas: Sequence[Delta],
    changes: Mapping[str, Iterable[RowChange]],
    known: Mapping[str, Keys] | None = None,
) -> DeltaRows:
    """Return the content of one delta that replaces `deltas`, the last ones, and `changes` after them.

    `state` is the state after the changes. `known`: keys of deltas by delta id, where they are cached; the files of
    all others are read. Raises `DamagedObject`, and the store's errors.
    """
    at_hand = {} if known is None else known
    missing = [delta for delta in deltas if delta.delta_id not in at_hand]
    read = await each(lambda delta: read_delta(store, delta), missing, concurrency=_DELTAS_TOGETHER)
    sources: list[Keys] = [rows_of_changes(changes).keys(), *(one.keys() for one in read)]
    sources += [at_hand[delta.delta_id] for delta in deltas if delta.delta_id in at_hand]
    keys: dict[str, set[Key]] = {}
    for source in sources:
        for name, its_keys in source.items():
            keys.setdefault(name, set()).update(its_keys)
    return await in_thread(lambda: rows_of_keys(state, keys))


async def write_delta(
    store: ObjectStore, delta_id: str, content: DeltaRows, digest: Digest, *, events: EventRange, created_ms: int
) -> Delta:
    """Write the files of a delta, all at the same time, and return its entry for the manifest.

    `digest` is that of the state after the delta; `events` say what the delta comes from, `created_ms` is in
    milliseconds since 1970. Safe to repeat with the same content. Raises `DamagedObject` if other bytes stand at one
    of the names, and the store's errors.
    """
    encoded = await in_thread(lambda: _encode(content, digest))

    def write_tables(encoded: EncodedTable) -> Awaitable[WrittenTable]:
        return write_table(store, StateLayer.L0, delta_id, encoded)

    def deletions_name(content_hash: str) -> ObjectPath:
        return paths.orchestration_deletions(delta_id, content_hash)

    def buckets_name(content_hash: str) -> ObjectPath:
        return paths.orchestration_buckets(StateLayer.L0, delta_id, content_hash)

    written, (deletions, buckets, own_deletions, own_buckets) = await together(
        each(write_tables, encoded.tables, concurrency=PUTS_TOGETHER),
        write_each(
            store,
            [
                (encoded.deletions, deletions_name),
                (encoded.buckets, buckets_name),
                (encoded.own_deletions, deletions_name),
                (encoded.own_buckets, buckets_name),
            ],
        ),
    )
    rows = {name: len(its_rows) for name, its_rows in content.rows.items()}
    own = OwnFiles(
        tables={one.table: one.artifact for one in written if one.table in OWN_TABLES},
        rows=_of(OWN_TABLES, rows),
        deletions=own_deletions,
        deletion_count=sum(map(len, _of(OWN_TABLES, content.deleted).values())),
        buckets=own_buckets,
    )
    return Delta(
        delta_id=delta_id,
        created_at=format_ms(created_ms),
        event_range=events,
        tables=paths_of(written),
        row_counts=RowCounts(**_of(REFERENCE_TABLES, rows)),
        deletions=deletions,
        deletion_count=sum(map(len, _of(REFERENCE_TABLES, content.deleted).values())),
        buckets=buckets,
        springline=own if own_buckets is not None else None,
    )


def _of(tables: Collection[str], values: Mapping[str, T]) -> dict[str, T]:
    """Return the values of some tables."""
    return {name: value for name, value in values.items() if name in tables}


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The files of a delta. Tables of our own have deletions and buckets of their own, if any of their rows changed."""

    tables: list[EncodedTable]
    deletions: bytes
    buckets: bytes
    own_deletions: bytes | None
    own_buckets: bytes | None


def _encode(content: DeltaRows, digest: Digest) -> _Encoded:
    tables = [file for name in TABLES if content.rows.get(name) for file in encode_rows(name, content.rows[name])]
    changed = {name: {bucket_of(key) for key in keys} for name, keys in content.keys().items()}
    own_deleted = _of(OWN_TABLES, content.deleted)
    return _Encoded(
        tables,
        encode_tombstones(_of(REFERENCE_TABLES, content.deleted)),
        encode_buckets(digest, REFERENCE_TABLES, changed),
        encode_tombstones(own_deleted) if any(own_deleted.values()) else None,
        encode_buckets(digest, OWN_TABLES, changed) if changed.keys() & OWN_TABLES.keys() else None,
    )


async def read_delta(
    store: ObjectStore,
    delta: Delta,
    *,
    tables: Collection[str] | None = None,
    concurrency: int = READS_TOGETHER,
) -> DeltaRows:
    """Return the content of a delta, ours or the reference's, for all tables or for those in `tables`.

    A delta of the reference may lack the file of deletions; then it has none. Raises `DamagedObject`, and the
    store's errors.
    """
    files = [file for file in delta.files() if tables is None or file.table in tables]
    read, deleted = await together(
        each(lambda file: read_table(store, file), files, concurrency=concurrency), read_deletions(store, delta)
    )
    rows: dict[str, list[Row]] = {}
    for file, its_rows in zip(files, read, strict=True):
        rows.setdefault(file.table, []).extend(its_rows)
    return DeltaRows(rows, {name: keys for name, keys in deleted.items() if tables is None or name in tables})


async def read_deletions(
    store: ObjectStore, delta: Delta, decode: Callable[[bytes], dict[str, list[Key]]] | None = None
) -> dict[str, list[Key]]:
    """Return the keys of the rows that a delta deletes, by table, as `read_delta`.

    `decode` makes them of a file, in a thread; by default it is `decode_tombstones`.
    """
    deleted: dict[str, list[Key]] = {}
    for file in delta.all_deletions():
        deleted |= await read_file(store, file, decode or decode_tombstones)
    return deleted


FORMAT: Final = 1

_CONFLICT: Final = "conflict:"


class DamagedTombstones(InvariantViolated):
    """A file of deletions that cannot be parsed, or has an unknown version: without it deleted rows would come back."""


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
    """Return the key of a run-key conflict as one text (docs/formats.md#projection-tables)."""
    return _CONFLICT + ":".join(key if isinstance(key, tuple) else (key,))


def encode_tombstones(deleted: Mapping[str, Iterable[Key]]) -> bytes:
    """Return the file that lists the deleted keys, by table; the same bytes for the same keys in any order."""
    lists: dict[str, list[Key]] = {}
    for name, keys in deleted.items():
        lists[name] = sorted(map(conflict_text, keys) if name == RUN_KEY_CONFLICTS.name else keys)
    return msgspec.json.format(msgspec.json.encode(_Document(schema_version=FORMAT, **lists)), indent=2)


def decode_tombstones(data: bytes) -> dict[str, list[Key]]:
    """Return the deleted keys in a file, by table; tables without any are left out.

    The key of a run-key conflict is split at its last colon, because event ids have none. Raises `DamagedTombstones`
    for another version, an unknown table, or anything else that is not such a file.
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
