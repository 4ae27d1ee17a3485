"""What users hold (Arrow, pandas, polars) as an Arrow table of exactly the Delta table's schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import Schema as DeltaSchema

from springline.errors import Code, Refused, refused


def to_arrow(data: Any) -> pa.Table:
    """Return `data` as an Arrow table.

    Takes pyarrow tables, batches and readers, pandas frames, polars frames, and whatever else offers the Arrow
    C stream. Raises `Refused` for anything else.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    if type(data).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(data, preserve_index=False)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    raise refused(
        Code.INVALID_REQUEST,
        f"cannot read data of type {type(data).__name__}",
        field="data",
        value=type(data).__name__,
        remedy="Pass a pyarrow Table, a pandas or polars DataFrame, or an object with __arrow_c_stream__.",
    )


def arrow_schema(columns: Mapping[str, Any]) -> pa.Schema:
    """Return the Arrow schema of a Delta struct type, as the API's table status carries it."""
    return pa.schema(DeltaSchema.from_json(orjson.dumps(columns).decode()).to_arrow())


def delta_columns(schema: pa.Schema) -> list[dict[str, Any]]:
    """Return the columns of an Arrow schema as the API takes them when it creates a table."""
    parsed = orjson.loads(DeltaSchema.from_arrow(_plain(schema)).to_json())
    columns: list[dict[str, Any]] = parsed["fields"]
    return columns


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `table` with the columns and types of `schema`, in its order.

    A nullable column that is missing becomes null; values are cast only if none of them changes. Raises
    `Refused` for unknown columns, missing ones that may not be null, nulls where none may be, lossy casts.
    """
    unknown = [name for name in table.column_names if name not in schema.names]
    if unknown:
        raise _mismatch(unknown[0], "the table has no such column", f"Its columns are {', '.join(schema.names)}.")
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            if not field.nullable:
                raise _mismatch(field.name, "is missing and may not be null", "Add the column.")
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        if not field.nullable and column.null_count:
            raise _mismatch(field.name, f"holds {column.null_count} nulls and may hold none", "Fill or drop them.")
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise _mismatch(field.name, f"does not fit type {field.type}: {error}", "Cast it first.") from error
    return pa.table(columns, schema=schema)


def split(table: pa.Table, by: Sequence[str]) -> Iterator[tuple[dict[str, str | None], pa.Table]]:
    """Yield (partition values as Delta writes them, rows without the partition columns), in a stable order."""
    if not by:
        yield {}, table
        return
    groups = table.select(list(by)).group_by(list(by), use_threads=False).aggregate([]).to_pylist()
    texts = [({name: partition_text(group[name]) for name in by}, group) for group in groups]
    for values, group in sorted(texts, key=lambda one: [(text is None, text or "") for text in one[0].values()]):
        mask = None
        for name in by:
            column = table.column(name)
            wanted = group[name]
            match = (
                pc.is_null(column)
                if wanted is None
                else pc.fill_null(pc.equal(column, pa.scalar(wanted, column.type)), False)
            )
            mask = match if mask is None else pc.and_(mask, match)
        yield values, table.filter(mask).drop_columns(list(by))


def partition_text(value: Any) -> str | None:
    """Return a partition value in Delta's form (protocol, Partition Value Serialization); None for null."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.decode("latin-1")
        case _ if hasattr(value, "isoformat") and hasattr(value, "hour"):
            moment = value.strftime("%Y-%m-%d %H:%M:%S")
            return f"{moment}.{value.microsecond:06}" if value.microsecond else moment
        case _ if hasattr(value, "isoformat"):
            return str(value.isoformat())
        case _:
            return str(value)


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return the schema in types that Delta has: what pandas and polars make wide or dictionary-encoded is undone."""
    return pa.schema([field.with_type(_plain_type(field.type)) for field in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_large_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if pa.types.is_unsigned_integer(kind):
        return pa.int64()
    return kind


def _mismatch(column: str, problem: str, remedy: str) -> Refused:
    return refused(
        Code.INVALID_REQUEST, f"column {column!r} {problem}", field=f"data.{column}", value=column, remedy=remedy
    )
