"""Foreign readers of a table, each giving its rows as Python values in one canonical form."""

from __future__ import annotations

import importlib
import math
import struct
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import deltalake
import duckdb
import polars as pl
import pyarrow as pa

_duck: list[duckdb.DuckDBPyConnection] = []


def duck() -> duckdb.DuckDBPyConnection:
    """A DuckDB with its Delta extension, in UTC."""
    if not _duck:
        importlib.import_module("duckdb_extensions").import_extension("delta")
        connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
        connection.execute("LOAD delta")
        connection.execute("SET TimeZone = 'UTC'")
        _duck.append(connection)
    return _duck[0]


def folder_of(location: str) -> Path:
    return Path(unquote(urlsplit(location).path))


def by_pyarrow(location: str) -> pa.Table:
    return pa.table(deltalake.DeltaTable(location).to_pyarrow_table())


def by_delta_rs(location: str) -> pa.Table:
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(location)).execute("SELECT * FROM t")
    return pa.table(query.read_all())


def by_polars(location: str) -> pa.Table:
    return pl.read_delta(location).to_arrow()


def by_duckdb(location: str) -> pa.Table:
    return duck().execute(f"SELECT * FROM delta_scan('file://{folder_of(location)}')").to_arrow_table()


READERS: dict[str, Callable[[str], pa.Table]] = {
    "pyarrow": by_pyarrow,
    "delta-rs": by_delta_rs,
    "polars": by_polars,
    "duckdb": by_duckdb,
}


def canonical(value: Any, kind: pa.DataType) -> Any:
    """Return a value in a form that compares as the value does: NaN equals itself, -0.0 is not 0.0."""
    if value is None:
        return None
    types = pa.types
    if types.is_floating(kind):
        return "NaN" if math.isnan(value) else struct.pack(">d", value)
    if types.is_decimal(kind):
        return Decimal(value).normalize()
    if types.is_map(kind):
        pairs = [(one["key"], one["value"]) if isinstance(one, dict) else tuple(one) for one in value]
        return tuple((canonical(key, kind.key_type), canonical(item, kind.item_type)) for key, item in pairs)
    if types.is_list(kind):
        return tuple(canonical(one, kind.value_type) for one in value)
    if types.is_struct(kind):
        return tuple(
            (kind.field(i).name, canonical(value[kind.field(i).name], kind.field(i).type))
            for i in range(kind.num_fields)
        )
    if types.is_timestamp(kind):
        return value.isoformat()
    return value


def rows_of(table: pa.Table, schema: pa.Schema) -> list[tuple[Any, ...]]:
    """Return the rows in canonical form, sorted by column `n`."""
    columns = [[canonical(one, field.type) for one in _python(table, field)] for field in schema]
    number = schema.get_field_index("n")
    return sorted(zip(*columns, strict=True), key=lambda row: row[number])


def _python(table: pa.Table, field: pa.Field) -> list[Any]:
    column = table[field.name]
    if pa.types.is_timestamp(field.type) and pa.types.is_timestamp(column.type):
        column = column.cast(field.type)
    return list(column.to_pylist())
