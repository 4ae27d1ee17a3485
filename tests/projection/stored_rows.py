"""Stored rows for tests: strategies for every table, and those of the golden states."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from springline.projection.schema import ALLOWED, TABLES, Column, Kind, Row, Table
from springline.published.golden_state import decode_golden, stored_rows

GOLDEN = Path(__file__).parents[1] / "golden" / "ledgers"
LEDGERS = sorted(path.name for path in GOLDEN.iterdir())
STATES = sorted(path.relative_to(GOLDEN).as_posix() for path in GOLDEN.glob("*/state*.json.gz"))

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
INSTANTS = st.integers(-62_135_596_800_000, 253_402_300_799_999)


def canonical(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _values(table: Table, column: Column) -> st.SearchStrategy[Any]:
    allowed = ALLOWED.get((table.name, column.name))
    kinds: dict[Kind, st.SearchStrategy[Any]] = {
        Kind.STR: TEXT if allowed is None else st.sampled_from(sorted(allowed)),
        Kind.U32: st.integers(0, 2**32 - 1),
        Kind.I64: st.integers(-(2**63), 2**63 - 1),
        Kind.BOOL: st.booleans(),
        Kind.MS: INSTANTS,
        Kind.JSON: DOCUMENTS.filter(lambda value: value is not None).map(canonical),
    }
    values = kinds[column.kind]
    # A boolean that may be missing is read as False where it is null (docs/formats.md#projection-tables).
    nullable = column.nullable and column.kind is not Kind.BOOL
    return st.none() | values if nullable else values


def rows_of(table: Table) -> st.SearchStrategy[Row]:
    return st.tuples(*(_values(table, column) for column in table.columns))


def tables_of_rows(max_size: int = 6) -> st.SearchStrategy[tuple[Table, list[Row]]]:
    """Return a table and rows of it, each with a key of its own."""

    def some(table: Table) -> st.SearchStrategy[tuple[Table, list[Row]]]:
        return st.tuples(st.just(table), st.lists(rows_of(table), unique_by=table.key_of, max_size=max_size))

    return st.sampled_from(list(TABLES.values())).flatmap(some)


def golden_document(state: str) -> dict[str, Any]:
    """Return a golden state as it stands in its file."""
    document: dict[str, Any] = orjson.loads(gzip.decompress((GOLDEN / state).read_bytes()))
    return document


def golden_rows(state: str) -> dict[str, list[Row]]:
    """Return the rows of a golden state, by table."""
    return stored_rows(decode_golden((GOLDEN / state).read_bytes()))


def sample_row(table: Table, number: int = 0, **values: Any) -> Row:
    """Return a row of a table whose texts tell its number; `values` replace those of columns."""
    plain: dict[Kind, Any] = {
        Kind.STR: f"text {number}",
        Kind.U32: number,
        Kind.I64: number,
        Kind.BOOL: True,
        Kind.MS: 1_736_935_200_000 + number,
        Kind.JSON: '{"a":1}',
    }
    row = []
    for column in table.columns:
        allowed = ALLOWED.get((table.name, column.name))
        value = plain[column.kind] if allowed is None else min(allowed)
        row.append(values.pop(column.name, value))
    assert not values, values
    return tuple(row)
