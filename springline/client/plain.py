"""Arrow arrays in the few forms that Delta's types need: other forms are converted, without changing a value.

Dictionaries, views, run ends, large and fixed-size forms, small decimals and extension types all represent the same
values as a plain array; both the fingerprint and the files are made from that plain array.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from springline.errors import Code, Refused, refused

STRING_BYTES = 2**31 - 1
"""The most bytes in one plain string or binary array; a longer batch has to be cut."""


class TooLarge(Exception):
    """The batch has more text than one plain array can hold: the caller must cut it."""


def element(path: str) -> str:
    """Return the path of a list's elements."""
    return f"{path}[]"


def entry(path: str, part: str) -> str:
    """Return the path of a map's `key` or `value`."""
    return f"{path}{{{part}}}"


def bad_type(path: str, kind: pa.DataType, remedy: str = "Cast it to a type that Delta has.") -> Refused:
    """Return the refusal of a column whose type no Delta table has."""
    return bad_column(path, f"is of type {kind}, which Delta tables do not have", str(kind), remedy)


def bad_column(path: str, problem: str, value: object, remedy: str) -> Refused:
    """Return the refusal of a column of the caller's data."""
    return refused(Code.INVALID_REQUEST, f"column {path!r} {problem}", field=f"data.{path}", value=value, remedy=remedy)


def check_names(fields: Iterator[pa.Field] | pa.Schema, path: str = "") -> None:
    """Raise `Refused` if two columns, or two fields of a struct, have one name; Delta compares without case."""
    seen: dict[str, str] = {}
    for field in fields:
        other = seen.get(field.name.lower())
        if other is not None:
            raise bad_column(
                path + field.name,
                "is there twice" if other == field.name else f"differs from {other!r} only in case",
                field.name,
                "Give every column a name of its own; engines compare them without case.",
            )
        seen[field.name.lower()] = field.name


def plain_type(kind: pa.DataType, path: str, *, nulls: bool = False) -> pa.DataType:
    """Return the plain form of a type; raises `Refused`, naming `path` and type, for one that Delta does not have.

    `nulls`: keep the nullability of fields, for a table's columns. For rows, the actual nulls count.
    """
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type, path, nulls=nulls)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type, path, nulls=nulls)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if is_binary(kind):
        return pa.binary()
    if types.is_map(kind):
        item = plain_type(kind.item_type, entry(path, "value"), nulls=nulls)
        key = plain_type(kind.key_type, entry(path, "key"), nulls=nulls)
        return pa.map_(key, pa.field("value", item, not nulls or kind.item_field.nullable))
    if is_list(kind):
        inner = plain_type(kind.value_type, element(path), nulls=nulls)
        return pa.list_(pa.field("element", inner, not nulls or kind.value_field.nullable))
    if types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        check_names(iter(fields), f"{path}.")
        return pa.struct(
            [
                pa.field(
                    one.name,
                    plain_type(one.type, f"{path}.{one.name}", nulls=nulls),
                    not nulls or one.nullable,
                )
                for one in fields
            ]
        )
    if types.is_decimal(kind) and kind.bit_width <= 128:
        return pa.decimal128(kind.precision, kind.scale)
    if (
        types.is_null(kind)
        or types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_float32(kind)
        or types.is_float64(kind)
        or types.is_date(kind)
        or types.is_timestamp(kind)
    ):
        return kind
    raise bad_type(path, kind)


def is_binary(kind: pa.DataType) -> bool:
    """Say whether a type holds bytes."""
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """Say whether a type holds lists, in any form."""
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def plain(array: pa.Array, path: str) -> pa.Array:
    """Return `array` in plain form; raises `Refused` for a type that Delta does not have, `TooLarge` to have it cut."""
    kind = array.type
    wanted = plain_type(kind, path)
    if kind.equals(wanted) and not pa.types.is_nested(kind):
        return array
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain(array.storage, path)
    if types.is_dictionary(kind):
        values = plain(array.dictionary, path)
        return pc.take(values, array.indices)
    if types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(array), path)
    if types.is_map(kind):
        offsets, entries = parts(array)
        keys = plain(entries.field(0), entry(path, "key"))
        items = plain(entries.field(1), entry(path, "value"))
        return pa.MapArray.from_arrays(offsets, keys, items, type=wanted, mask=_mask(array))
    if is_list(kind):
        offsets, values = parts(array)
        return pa.ListArray.from_arrays(offsets, plain(values, element(path)), type=wanted, mask=_mask(array))
    if types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        children = [plain(child, f"{path}.{field.name}") for child, field in zip(array.flatten(), fields, strict=True)]
        return struct_of(children, list(wanted), array)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        array = array.cast(pa.large_string() if types.is_string_view(kind) else pa.large_binary())
    if (types.is_large_string(array.type) or types.is_large_binary(array.type)) and text_bytes(array) > STRING_BYTES:
        raise TooLarge
    return array.cast(wanted)


def struct_of(children: list[pa.Array], fields: list[pa.Field], array: pa.Array) -> pa.Array:
    """Return the struct of `children` with the nulls of `array`."""
    if not fields:
        return array
    return pa.StructArray.from_arrays(children, fields=fields, mask=_mask(array))


def parts(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return offsets and values of a list or map array, without values that belong to no list.

    Raises `TooLarge` if the values are too many for one plain array.
    """
    kind = array.type
    if pa.types.is_map(kind):
        fields = [pa.field("key", kind.key_type), pa.field("value", kind.item_type)]
        array = array.cast(pa.list_(pa.field("entry", pa.struct(fields))))
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    ends = pc.cumulative_sum(lengths.cast(pa.int64()))
    total = ends[-1].as_py() if len(ends) else 0
    if total > STRING_BYTES:
        raise TooLarge
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])
    return offsets, array.flatten()


def text_bytes(array: pa.Array) -> int:
    """Return how many bytes the texts of a large string or binary array have in all."""
    found = pc.sum(pc.binary_length(array)).as_py()
    return 0 if found is None else int(found)


def _mask(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None


def plain_batch(batch: pa.RecordBatch) -> list[pa.Array]:
    """Return the batch's columns in plain form."""
    return [plain(batch.column(index), name) for index, name in enumerate(batch.schema.names)]
