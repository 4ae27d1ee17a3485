"""Partition values in texts that every reader reads alike, and predicates over them.

Files are split by the values' texts, not by the values. So we choose the text, and never write one that some engine
would misread (a timestamp without a zone, `inf`). Two values share a file only if their texts
are equal. Texts are those of the Delta protocol, "Partition Value Serialization".
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa

from springline.client.engine import check_process
from springline.client.expressions import Planner
from springline.client.partition_rules import partition_refusal, problem_of
from springline.client.plain import bad_column, plain
from springline.errors import Refused


def check_partition_types(schema: pa.Schema, partition_by: Sequence[str]) -> None:
    """Raise `Refused` for a partition column whose values have no text that every reader reads alike."""
    for name in partition_by:
        kind = schema.field(name).type
        if pa.types.is_binary(kind) or pa.types.is_nested(kind):
            raise bad_column(
                name,
                f"partitions the table and is of type {kind}: engines write its values as different texts",
                str(kind),
                "Write this table with the engine that made it, and commit its actions through the API.",
            )


def partition_texts(column: pa.Array, path: str) -> pa.Array:
    """Return the texts of a partition column of the table's type; null stays null.

    Raises `Refused` for a value that a reader would misread (`springline.client.partition_rules`).
    """
    if pa.types.is_null(column.type) or column.null_count == len(column):
        return pa.nulls(len(column), pa.string())
    numbers, values = _distinct(column)
    texts = [None if value is None else _text(value, column.type, path) for value in values]
    return pa.array(texts, pa.string()).take(numbers)


def values_of_files(files: pa.Table, partition_by: Sequence[str]) -> list[dict[str, str | None] | None]:
    """Return for each file, a row of delta-rs's add actions, its partition values as a remove action has them.

    None for a table without partitions, and for a file of another writer with a value that readers read differently.
    """
    found: list[dict[str, str | None] | None] = [{} if partition_by else None for _ in range(files.num_rows)]
    for name in partition_by:
        column = plain(files["partition"].combine_chunks().field(name), name)
        numbers, values = _distinct(column)
        told = [value is None or problem_of(value, column.type, name) is None for value in values]
        texts = [
            _text(value, column.type, name) if good and value is not None else None
            for value, good in zip(values, told, strict=True)
        ]
        for place, number in enumerate(numbers.to_pylist()):
            file = found[place]
            if number is not None and not told[number]:
                found[place] = None
            elif file is not None:
                file[name] = None if number is None else texts[number]
    return found


def _distinct(column: pa.Array) -> tuple[pa.Array, list[Any]]:
    """Return indices and distinct values; floats are compared by their bits, except that all NaN are one value."""
    if pa.types.is_floating(column.type):
        single = pa.types.is_float32(column.type)
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
        values = np.where(np.isnan(values), np.nan, values).astype(np.float32 if single else np.float64)
        bits = pa.array(values.view(np.int32 if single else np.int64), mask=_nulls(column))
        coded = bits.dictionary_encode()
        found = coded.dictionary.to_numpy(zero_copy_only=False)
        return coded.indices, list(found.view(np.float32 if single else np.float64))
    if pa.types.is_timestamp(column.type):
        coded = column.view(pa.int64()).dictionary_encode()
        naive = coded.dictionary.view(pa.timestamp("us"))
        return coded.indices, list(naive.to_pylist())
    coded = column.dictionary_encode()
    return coded.indices, coded.dictionary.to_pylist()


def _nulls(column: pa.Array) -> np.ndarray[Any, Any]:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def _text(value: Any, kind: pa.DataType, path: str) -> str:
    problem = problem_of(value, kind, path)
    if problem is not None:
        raise partition_refusal(path, str(value), problem, field=f"data.{path}")
    types = pa.types
    if types.is_boolean(kind):
        return "true" if value else "false"
    if types.is_floating(kind):
        return "NaN" if np.isnan(value) else _float_text(value)
    if types.is_date32(kind):
        return str(value.isoformat())
    if types.is_timestamp(kind):
        text = value.isoformat(sep=" " if kind.tz is None else "T", timespec="microseconds")
        return str(text if kind.tz is None else f"{text}Z")
    if types.is_decimal(kind):
        return f"{value:f}"
    return str(value)


def _float_text(value: Any) -> str:
    if np.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return str(value)


def matching(where: str, partition_by: Sequence[str], values: pa.Table) -> list[bool]:
    """Say for each row of `values`, which has partition columns, whether the SQL predicate `where` is true.

    The Delta library evaluates the predicate. Raises `Refused` if it is not one, or names other columns.
    """
    numbered = values.append_column(_NUMBER, pa.array(range(values.num_rows), pa.int64()))
    check_process()
    with tempfile.TemporaryDirectory(prefix="springline-where-") as folder:
        deltalake.write_deltalake(folder, numbered.to_reader())
        table = deltalake.DeltaTable(folder)
        try:
            judged = Planner({"target": table}, {"target": values.schema}).predicate(where, field="where")
        except Refused as error:
            told = f"it is no condition over the partition columns {', '.join(partition_by)}"
            raise Refused(
                error.refusal.model_copy(update={"message": f"{error.refusal.message}; {told}", "value": where[:200]})
            ) from error
        # As a column, because the engine treats a filter differently, such as `p NOT IN (1, NULL)`.
        query = f"SELECT {_NUMBER}, {judged.sql} AS {_FITS} FROM target"
        found = pa.table(deltalake.QueryBuilder().register("target", table).execute(query).read_all())
        numbers = {
            number
            for number, fits in zip(*(found[name].to_pylist() for name in (_NUMBER, _FITS)), strict=True)
            if fits is True
        }
    return [index in numbers for index in range(values.num_rows)]


_NUMBER = "__springline_row"
_FITS = "__springline_fits"


class Distinct:
    """The distinct partition values of a stream of rows, as a table of their own."""

    def __init__(self, schema: pa.Schema, partition_by: Sequence[str]) -> None:
        self._names = list(partition_by)
        self._schema = pa.schema([schema.field(name).with_nullable(True) for name in partition_by])
        self._seen: dict[tuple[str | None, ...], dict[str, Any]] = {}

    def add(self, texts: Mapping[str, pa.Array], values: Mapping[str, pa.Array]) -> None:
        """Add the partition columns of a batch: their texts and their values."""
        table = pa.table({**texts, _NUMBER: pa.array(range(len(next(iter(texts.values())))), pa.int64())})
        for group in table.group_by(self._names, use_threads=False).aggregate([(_NUMBER, "min")]).to_pylist():
            key = tuple(group[name] for name in self._names)
            if key not in self._seen:
                index = group[f"{_NUMBER}_min"]
                self._seen[key] = {name: values[name].slice(index, 1) for name in self._names}

    def table(self) -> pa.Table:
        """Return one row for each distinct combination."""
        columns = {
            field.name: pa.chunked_array([one[field.name] for one in self._seen.values()], field.type)
            for field in self._schema
        }
        return pa.table(columns, schema=self._schema)


Watch = Callable[[Mapping[str, pa.Array], Mapping[str, pa.Array]], None]
"""Called with each batch's partition columns, as texts and as values."""
