"""The digest of a state: equal digests mean equal states (docs/formats.md#digest).

    row     BLAKE2b-128 over table name, NUL, canonical JSON of the row in golden form; a number below 2**128
    bucket  sum of its rows modulo 2**128; rows fall into 256 buckets per table by CRC-32 of their key
    table   number of rows, and the sum of its buckets
    state   BLAKE2b-128 over the canonical JSON of `{table: {"rows": n, "sum": hex}}` for the reference's tables
    own     the same for the tables of our own

Sums do not depend on order, so that a digest is kept up to date from changes alone, shards are added up, and buckets
tell where two states differ without reading either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, Protocol
from zlib import crc32

import msgspec
import orjson

from springline.projection.golden import golden_form
from springline.projection.schema import OWN_TABLES, REFERENCE_TABLES, TABLES, Key, Row

BUCKETS: Final = 256
_MASK: Final = (1 << 128) - 1
_SIZE: Final = 16


class TableDigest(msgspec.Struct, frozen=True):
    """Digest of one table: number of rows, and their sum as 32 hex digits."""

    rows: int
    sum: str


class BeforeAndAfter(Protocol):
    """A row as it was and as it is; None is no row."""

    @property
    def before(self) -> Row | None:
        """The row as it was."""

    @property
    def after(self) -> Row | None:
        """The row as it is."""


def bucket_of(key: Key) -> int:
    """Return the bucket, 0 to 255, of the row with this key."""
    return crc32(orjson.dumps(key if type(key) is tuple else (key,))) & 0xFF


class Digest:
    """Digest of a state: per table the number of rows and 256 sums. Starts with that of the empty state."""

    __slots__ = ("_changed", "_rows", "_sums")

    def __init__(self) -> None:
        self._rows = dict.fromkeys(TABLES, 0)
        self._sums = {name: [0] * BUCKETS for name in TABLES}
        self._changed: dict[str, set[int]] = {}

    @classmethod
    def of(cls, rows: Mapping[str, Iterable[Row]]) -> Digest:
        """Return the digest of the state that has these rows, by table; tables that are left out are empty."""
        digest = cls()
        for table, its_rows in rows.items():
            digest.add(table, its_rows)
        digest.accept()
        return digest

    def add(self, table: str, rows: Iterable[Row]) -> None:
        """Count rows in."""
        self._count(table, rows, 1)

    def remove(self, table: str, rows: Iterable[Row]) -> None:
        """Count rows out that were counted in."""
        self._count(table, rows, -1)

    def apply(self, changes: Mapping[str, Iterable[BeforeAndAfter]]) -> None:
        """Bring the digest from the state before `changes`, by table, to the one after them."""
        for table, its_changes in changes.items():
            listed = list(its_changes)
            self._count(table, (change.before for change in listed if change.before is not None), -1)
            self._count(table, (change.after for change in listed if change.after is not None), 1)

    def _count(self, table: str, rows: Iterable[Row], sign: int) -> None:
        form, key_of, sums = golden_form(table), TABLES[table].key_of, self._sums[table]
        begun = hashlib.blake2b(table.encode() + b"\0", digest_size=_SIZE)
        encode, number = msgspec.json.Encoder().encode, int.from_bytes
        changed = self._changed.setdefault(table, set())
        counted = 0
        for row in rows:
            hashed = begun.copy()
            hashed.update(encode(form(row)))
            bucket = bucket_of(key_of(row))
            sums[bucket] = sums[bucket] + sign * number(hashed.digest(), "big") & _MASK
            changed.add(bucket)
            counted += sign
        self._rows[table] += counted

    def merge(self, other: Digest) -> None:
        """Add the digest of other rows, such as another shard's."""
        for table, its_sums in other._sums.items():
            sums = self._sums[table]
            for bucket, value in enumerate(its_sums):
                if value:
                    sums[bucket] = sums[bucket] + value & _MASK
                    self._changed.setdefault(table, set()).add(bucket)
            self._rows[table] += other._rows[table]

    def copy(self) -> Digest:
        """Return an independent digest of the same state."""
        other = Digest()
        other._rows = dict(self._rows)
        other._sums = {table: list(sums) for table, sums in self._sums.items()}
        other._changed = {table: set(buckets) for table, buckets in self._changed.items()}
        return other

    def tables(self) -> dict[str, TableDigest]:
        """Return the digests of all tables, in the schema's order."""
        return {name: TableDigest(self._rows[name], f"{sum(self._sums[name]) & _MASK:032x}") for name in TABLES}

    def state(self) -> str:
        """Return the digest of the reference's tables, 32 hex digits."""
        return state_digest(self.tables())

    def own(self) -> str:
        """Return the digest of the tables of our own, 32 hex digits."""
        return own_digest(self.tables())

    def whole(self) -> str:
        """Return both digests, with a colon between them: equal texts mean equal rows in every table."""
        return f"{self.state()}:{self.own()}"

    def accept(self) -> None:
        """Make the current state the one that `buckets_changed` compares with."""
        self._changed = {}

    def buckets_changed(self) -> dict[str, set[int]]:
        """Return the buckets that were counted into or out of since the last `accept`, by table."""
        return {table: set(buckets) for table, buckets in self._changed.items() if buckets}

    def rows(self, table: str) -> int:
        """Return the number of rows of a table."""
        return self._rows[table]

    def sums(self, table: str) -> list[int]:
        """Return the sums of a table's 256 buckets."""
        return list(self._sums[table])

    def put(self, table: str, rows: int, sums: Mapping[int, int]) -> None:
        """Set the number of rows of a table and the sums of some of its buckets, as they were stored."""
        self._rows[table] = rows
        for bucket, value in sums.items():
            self._sums[table][bucket] = value

    def diff(self, other: Digest) -> dict[str, list[int]]:
        """Return the buckets that differ, ascending, by table; equal tables are left out.

        A table whose numbers of rows differ is named even if all its buckets are equal.
        """
        found: dict[str, list[int]] = {}
        for table in TABLES:
            pairs = zip(self._sums[table], other._sums[table], strict=True)
            buckets = [bucket for bucket, (ours, theirs) in enumerate(pairs) if ours != theirs]
            if buckets or self._rows[table] != other._rows[table]:
                found[table] = buckets
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and not self.diff(other)

    __hash__ = None  # type: ignore[assignment]


def state_digest(tables: Mapping[str, TableDigest]) -> str:
    """Return the digest of the reference's tables from those of all tables, 32 hex digits."""
    return _digest_of(tables, REFERENCE_TABLES)


def own_digest(tables: Mapping[str, TableDigest]) -> str:
    """Return the digest of the tables of our own from those of all tables, 32 hex digits."""
    return _digest_of(tables, OWN_TABLES)


def _digest_of(tables: Mapping[str, TableDigest], names: Iterable[str]) -> str:
    document = {name: {"rows": tables[name].rows, "sum": tables[name].sum} for name in names}
    return hashlib.blake2b(orjson.dumps(document, option=orjson.OPT_SORT_KEYS), digest_size=_SIZE).hexdigest()
