"""Schemas between Arrow and Delta: of existing tables, of new ones, and as an append may widen them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import orjson
import pyarrow as pa
from deltalake import Schema as DeltaSchema

from springline.client.plain import bad_column, bad_type, check_names, plain_type


def arrow_schema(columns: Mapping[str, Any]) -> pa.Schema:
    """Return the Arrow schema of a Delta struct type, as in the API's table status."""
    return pa.schema(DeltaSchema.from_json(orjson.dumps(columns).decode()).to_arrow())


def delta_columns(schema: pa.Schema) -> list[dict[str, Any]]:
    """Return the columns of an Arrow schema in the form that the API takes to create a table.

    Raises `Refused`, naming column and type, for a type that Delta does not have, and for two columns of one name.
    """
    check_names(schema)
    fields = [pa.field(one.name, _delta_type(one.type, one.name), one.nullable) for one in schema]
    parsed = orjson.loads(DeltaSchema.from_arrow(pa.schema(fields)).to_json())
    columns: list[dict[str, Any]] = parsed["fields"]
    return columns


def _delta_type(kind: pa.DataType, path: str) -> pa.DataType:
    """Return the Delta form of an Arrow type, as an Arrow type."""
    return _widened(plain_type(kind, path, nulls=True), path)


def _widened(kind: pa.DataType, path: str) -> pa.DataType:
    types = pa.types
    if types.is_null(kind):
        raise bad_type(path, kind, "Give the column a type; nulls alone have none.")
    if types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if types.is_unsigned_integer(kind):
        return pa.int64() if kind.bit_width >= 32 else pa.int32() if kind.bit_width == 16 else pa.int16()
    if types.is_date64(kind):
        return pa.date32()
    if types.is_list(kind):
        return pa.list_(pa.field("element", _widened(kind.value_type, f"{path}[]"), kind.value_field.nullable))
    if types.is_map(kind):
        item = pa.field("value", _widened(kind.item_type, f"{path}{{value}}"), kind.item_field.nullable)
        return pa.map_(_widened(kind.key_type, f"{path}{{key}}"), item)
    if types.is_struct(kind):
        if kind.num_fields == 0:
            raise bad_type(path, kind, "Give the struct a field, or leave the column out.")
        fields = [kind.field(index) for index in range(kind.num_fields)]
        inner = [pa.field(one.name, _widened(one.type, f"{path}.{one.name}"), one.nullable) for one in fields]
        return pa.struct(inner)
    return kind


def merged_columns(columns: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any] | None:
    """Return the table's struct type with `schema`'s additional columns and struct fields; None if it has none.

    New ones are nullable, and come last. Raises `Refused` for a new column without a type, or of a type that Delta does
    not have, and for one that differs from a column of the table only by case.
    """
    merged = copy.deepcopy(dict(columns))
    return merged if _merge(merged, list(schema), "") else None


def _merge(struct: dict[str, Any], fields: list[pa.Field], path: str) -> bool:
    known = {one["name"]: one for one in struct["fields"]}
    folded = {name.lower(): name for name in known}
    changed = False
    for field in fields:
        inner = path + field.name
        if field.name in known:
            changed |= _merge_type(known[field.name], "type", field.type, inner)
            continue
        if field.name.lower() in folded:
            other = folded[field.name.lower()]
            raise bad_column(inner, f"differs from {other!r} only in case", field.name, f"Rename it to {other!r}.")
        # A new column is null in the existing rows, so no field in it may be required.
        (added,) = delta_columns(pa.schema([pa.field(field.name, _widened(plain_type(field.type, inner), inner))]))
        struct["fields"].append(added)
        changed = True
    return changed


def _merge_type(holder: dict[str, Any], name: str, kind: pa.DataType, path: str) -> bool:
    """Merge two nested types; the casts judge all other types."""
    target = holder[name]
    plain = plain_type(kind, path)
    if not isinstance(target, dict):
        return False
    if target["type"] == "struct" and pa.types.is_struct(plain):
        return _merge(target, [plain.field(index) for index in range(plain.num_fields)], f"{path}.")
    if target["type"] == "array" and pa.types.is_list(plain):
        return _merge_type(target, "elementType", plain.value_type, f"{path}[]")
    if target["type"] == "map" and pa.types.is_map(plain):
        return _merge_type(target, "valueType", plain.item_type, f"{path}{{value}}")
    return False
