"""A whole state of the reference's tables in golden form, as a file that two parties can compare
(`state.json.gz`), and how two of them differ.

    {"format": 1, "manifest": {...}, "row_counts": {...}, "table_sha256": {...}, "tables": {name: [row, ...]},
     "tables_sha256": "...", "watermarks": {...}}

Rows are sorted by key, absent values left out; `watermarks` are without wall-clock times. The hashes are over the
canonical JSON of each table and of `tables`.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from springline.ledger.json_text import canonical_json
from springline.projection.golden import golden_form, row_of_golden
from springline.projection.schema import REFERENCE_TABLES, TABLES, Row
from springline.published.manifest import NO_MANIFEST, SCHEMA_VERSION

FORMAT: Final = 1
_GZIP_MAGIC: Final = b"\x1f\x8b"
_PACKING: Final = 6
_ENCODE: Final = msgspec.json.Encoder().encode
UNPUBLISHED: Final = {
    "has_base_snapshot": False,
    "l0_count": 0,
    "manifest_id": NO_MANIFEST,
    "schema_version": SCHEMA_VERSION,
}
"""The manifest fields in the file of a state that was folded and not published."""

RowsOf = Callable[[str], Iterable[Row]]
"""Returns the rows of a table, in any order."""


class InvalidGoldenState(ValueError):
    """Bytes that are not a state in golden form."""


def golden_state(
    rows_of: RowsOf, watermarks: Mapping[str, Any], manifest: Mapping[str, Any] = UNPUBLISHED
) -> dict[str, Any]:
    """Return the state that has these rows, in golden form. Tables are JSON texts (`msgspec.Raw`), ready to be written.

    `manifest`: fields of the manifest that the rows were read from.
    """
    texts = {name: _table(name, rows_of(name)) for name in sorted(REFERENCE_TABLES)}
    whole = b"{%b}" % b",".join(b"%b:%b" % (orjson.dumps(name), text) for name, (text, _) in texts.items())
    return {
        "format": FORMAT,
        "manifest": dict(manifest),
        "row_counts": {name: rows for name, (_, rows) in texts.items()},
        "table_sha256": {name: hashlib.sha256(text).hexdigest() for name, (text, _) in texts.items()},
        "tables": msgspec.Raw(whole),
        "tables_sha256": hashlib.sha256(whole).hexdigest(),
        "watermarks": {name: value for name, value in sorted(watermarks.items()) if value is not None},
    }


def encode_golden(state: Mapping[str, Any], *, compressed: bool) -> bytes:
    """Return the file that holds `state`; the same bytes for the same state."""
    data = _ENCODE(state)
    return gzip.compress(data, _PACKING, mtime=0) if compressed else data


def decode_golden(data: bytes) -> dict[str, Any]:
    """Return the state in a file, its tables as rows; raises `InvalidGoldenState`."""
    try:
        content = orjson.loads(gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise InvalidGoldenState(f"it is no JSON: {error}") from None
    tables = content.get("tables") if isinstance(content, dict) else None
    if not isinstance(tables, dict):
        raise InvalidGoldenState("it has no object `tables`")
    strange = sorted(tables.keys() - REFERENCE_TABLES.keys())
    if strange:
        raise InvalidGoldenState(f"no table is called {', '.join(strange)}")
    for name, rows in tables.items():
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InvalidGoldenState(f"`tables.{name}` is no list of rows")
    found: dict[str, Any] = content
    return found


def stored_rows(state: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Return the rows of all tables of a decoded state as stored values; a table that it leaves out is empty.

    Raises `InvalidGoldenState` if a table's hash differs, `InvalidGoldenRow` for a row that the table cannot have.
    """
    tables, hashes = state["tables"], state.get("table_sha256", {})
    for name, forms in tables.items():
        if name in hashes and hashes[name] != hashlib.sha256(canonical_json(forms)).hexdigest():
            raise InvalidGoldenState(f"`table_sha256.{name}` is not that of the table")
    return {
        name: [row_of_golden(table, form) for form in tables.get(name, ())] for name, table in REFERENCE_TABLES.items()
    }


def _table(name: str, rows: Iterable[Row]) -> tuple[bytes, int]:
    """Return the canonical JSON of a table, and its number of rows."""
    form = golden_form(name)
    in_order = sorted(rows, key=TABLES[name].key_of)
    return b"[%b]" % b",".join([_ENCODE(form(row)) for row in in_order]), len(in_order)


GoldenRows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows in golden form by table; a table that is left out is empty."""


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One difference. `column` is None where only one side has the row, whose values are then in `a` or in `b`."""

    table: str
    key: tuple[str, ...]
    column: str | None
    a: Any
    b: Any

    def as_json(self) -> dict[str, Any]:
        """Return the difference as it is printed: a side that has nothing there is left out."""
        shown: dict[str, Any] = {"table": self.table, "key": dict(zip(TABLES[self.table].key, self.key, strict=True))}
        if self.column is not None:
            shown["column"] = self.column
        else:
            shown["only_in"] = "a" if self.b is None else "b"
        return shown | {side: value for side, value in (("a", self.a), ("b", self.b)) if value is not None}


def differences(a: GoldenRows, b: GoldenRows) -> Iterator[RowDifference]:
    """Yield what differs, in the order of the tables and of their keys.

    A repeated key counts as a row that the other side does not have.
    """
    for name, table in TABLES.items():
        left, left_again = _by_key(table.key, a.get(name, ()))
        right, right_again = _by_key(table.key, b.get(name, ()))
        for key in sorted(left.keys() | right.keys()):
            one, other = left.get(key), right.get(key)
            if one is None or other is None:
                yield RowDifference(name, key, None, one, other)
            else:
                for column in sorted(one.keys() | other.keys()):
                    if one.get(column) != other.get(column):
                        yield RowDifference(name, key, column, one.get(column), other.get(column))
        yield from (RowDifference(name, key, None, row, None) for key, row in left_again)
        yield from (RowDifference(name, key, None, None, row) for key, row in right_again)


_Row = Mapping[str, Any]


def _by_key(
    columns: tuple[str, ...], rows: Sequence[_Row]
) -> tuple[dict[tuple[str, ...], _Row], list[tuple[tuple[str, ...], _Row]]]:
    found: dict[tuple[str, ...], _Row] = {}
    again: list[tuple[tuple[str, ...], _Row]] = []
    for row in rows:
        key = tuple(str(row.get(column, "")) for column in columns)
        if key in found:
            again.append((key, row))
        else:
            found[key] = row
    return found, again
