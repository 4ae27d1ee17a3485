"""Parquet files of the tables, written so that the reference reads them and read as the reference writes them.

See docs/formats.md#projection-tables.

Written files are reproducible: rows sorted by key, columns in the schema's order, row groups of one size, fixed
settings. Row groups are small enough that a reader of some rows of a large file need not decode all of it.
Instants are plain 64-bit integers, no timestamp type; strings have 32-bit offsets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Final, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from springline.errors import InvariantViolated
from springline.ledger.events import event_type_of_legacy_key
from springline.ledger.json_text import canonical_json
from springline.projection.schema import ALLOWED, IDEMPOTENCY_KEYS, READ_AS, TABLES, Column, Kind, Row, Table, Value

GROUP_ROWS: Final = 4_096
"""Rows of a row group in the files that we write; the last one may have fewer."""

_METADATA: Final = {b"created_by": b"springline"}
_MOSTLY_DISTINCT: Final = frozenset(
    {
        "attempt_id",
        "chunk_id",
        "cloud_task_id",
        "conflicting_event_id",
        "cursor_after",
        "cursor_before",
        "dispatch_id",
        "eval_id",
        "event_id",
        "execution_lineage_ref",
        "idempotency_key",
        "materialization_id",
        "request_fingerprint",
        "row_version",
        "tick_id",
        "timer_id",
    }
)
"""Columns of text that gain nothing from a dictionary."""

_TYPES: Final = {
    Kind.STR: pa.string(),
    Kind.JSON: pa.string(),
    Kind.U32: pa.uint32(),
    Kind.I64: pa.int64(),
    Kind.MS: pa.int64(),
    Kind.BOOL: pa.bool_(),
}


class DamagedTable(InvariantViolated):
    """A table's file that cannot be read. `column` is None if the error is about the whole file.

    `path` is the file's path, if the reader knows it.
    """

    def __init__(self, table: str, column: str | None, why: str, path: str = "") -> None:
        super().__init__(table, column, why, path)
        self.table = table
        self.column = column
        self.why = why
        self.path = path

    def __str__(self) -> str:
        what = self.table if self.column is None else f"{self.table}.{self.column}"
        return f"{self.path}: {what}: {self.why}" if self.path else f"{what}: {self.why}"


def load_codec() -> None:
    """Import everything that reading and writing files needs.

    Arrow imports pandas with its first array, if it is installed: that takes half a second, for which no event should
    wait.
    """
    decode_table(IDEMPOTENCY_KEYS, encode_table(IDEMPOTENCY_KEYS, []))


@cache
def _schema(table: str) -> pa.Schema:
    fields = [pa.field(column.name, _TYPES[column.kind], column.nullable) for column in TABLES[table].columns]
    return pa.schema(fields, metadata=_METADATA)


@cache
def _repeating(table: str) -> list[str]:
    """Return the columns whose texts repeat themselves."""
    texts = (column.name for column in TABLES[table].columns if column.kind in (Kind.STR, Kind.JSON))
    return [name for name in texts if name not in _MOSTLY_DISTINCT]


def arrow_table(table: Table, rows: Iterable[Row]) -> pa.Table:
    """Return rows as an Arrow table, sorted by key; raises as `arrow_columns`."""
    return arrow_columns(table, sorted(rows, key=table.key_of))


def arrow_columns(table: Table, rows: Sequence[Row]) -> pa.Table:
    """Return rows as an Arrow table, in their order.

    Raises `pyarrow.ArrowException`, `TypeError` or `OverflowError` for a value that its column cannot hold.
    """
    schema = _schema(table.name)
    columns: Iterable[Any] = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def sorted_by_key(table: Table, content: pa.Table) -> pa.Table:
    """Return an Arrow table of ours sorted by key, in the order of `arrow_table`."""
    in_order = content.sort_by([(name, "ascending") for name in table.key]).combine_chunks()
    return in_order.replace_schema_metadata(_schema(table.name).metadata)


def rows_of_arrow(content: pa.Table) -> list[Row]:
    """Return the rows of an Arrow table of ours, in its order."""
    columns = [[value for chunk in column.chunks for value in values_of(chunk)] for column in content.columns]
    return list(zip(*columns, strict=True))


def encode_table(table: Table, rows: Iterable[Row]) -> bytes:
    """Return the file that holds `rows`, in any order: the same bytes for the same rows; raises as `arrow_table`."""
    return encode_arrow(table, arrow_table(table, rows))


def encode_arrow(table: Table, content: pa.Table) -> bytes:
    """Return the file of an Arrow table that is sorted by key, as `encode_table` writes it."""
    return encode_pieces(table, [content])


def encode_pieces(table: Table, pieces: Iterable[pa.Table]) -> bytes:
    """Return the file of Arrow tables that are sorted by key one behind the other, as `encode_table` writes it.

    The bytes do not depend on where one piece ends and the next begins. Raises `pyarrow.ArrowException`.
    """
    schema = _schema(table.name)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, schema, compression="snappy", version="2.6", use_dictionary=_repeating(table.name)
    ) as writer:
        for group in _in_groups(schema, pieces):
            writer.write_table(group, row_group_size=GROUP_ROWS)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _in_groups(schema: pa.Schema, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield rows by row group; one without rows if there are none at all."""
    waiting: list[pa.Table] = []
    rows, any_group = 0, False
    for piece in pieces:
        waiting.append(piece)
        rows += len(piece)
        if rows < GROUP_ROWS:
            continue
        content = pa.concat_tables(waiting)
        whole = rows - rows % GROUP_ROWS
        for start in range(0, whole, GROUP_ROWS):
            any_group = True
            yield content.slice(start, GROUP_ROWS).combine_chunks().replace_schema_metadata(schema.metadata)
        waiting, rows = [content.slice(whole)], rows - whole
    if rows or not any_group:
        content = pa.concat_tables([schema.empty_table(), *waiting])
        yield content.combine_chunks().replace_schema_metadata(schema.metadata)


class TableReader:
    """A file of a table, ours or the reference's, to be read row group by row group.

    Raises `DamagedTable` for bytes that are no such file, and for a column that is missing or of another type.
    """

    def __init__(self, table: Table, data: bytes) -> None:
        self.table = table
        self._source = pa.py_buffer(data)
        try:
            self._metadata = pq.read_metadata(pa.BufferReader(self._source))
            self._schema = self._metadata.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            raise DamagedTable(table.name, None, f"no Parquet file: {error}") from error
        self.columns = [column.name for column in table.columns if _is_there(table, column, self._schema)]
        """Columns that the file has, in the schema's order."""
        self.group_rows = [self._metadata.row_group(n).num_rows for n in range(self._metadata.num_row_groups)]
        """Rows of each row group."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return int(self._source.size)

    @property
    def buffer(self) -> pa.Buffer:
        """The bytes of the file."""
        return self._source

    def read(self, groups: Sequence[int], columns: Collection[str] | None = None, *, plain: bool = False) -> pa.Table:
        """Return row groups, of all columns or of those in `columns`; repeating texts by dictionary unless `plain`.

        For several threads at once. Raises `DamagedTable`.
        """
        wanted = self.columns if columns is None else [name for name in self.columns if name in columns]
        texts = [] if plain else [name for name in _repeating(self.table.name) if name in self._schema.names]
        try:
            source = pa.BufferReader(self._source)
            with pq.ParquetFile(source, metadata=self._metadata, read_dictionary=texts) as file:
                return file.read_row_groups(list(groups), columns=wanted, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise DamagedTable(self.table.name, None, f"no Parquet file: {error}") from error

    def pieces(self, rows: int) -> Iterator[pa.Table]:
        """Yield all rows, at most so many at a time, across row groups; texts plain. Raises `DamagedTable`."""
        try:
            with pq.ParquetFile(pa.BufferReader(self._source), metadata=self._metadata) as file:
                for batch in file.iter_batches(batch_size=rows, columns=self.columns, use_threads=False):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise DamagedTable(self.table.name, None, f"no Parquet file: {error}") from error


def decode_table(table: Table, data: bytes) -> list[Row]:
    """Return the rows of a file, ours or the reference's; of rows with the same key the last one wins.

    As `rows_of`. Raises `DamagedTable` also for bytes that are no such file, and for a column that is missing or of
    another type.
    """
    reader = TableReader(table, data)
    rows = rows_of(table, reader.read(range(len(reader.group_rows))))
    by_key = dict(zip(map(table.key_of, rows), rows, strict=True))
    return rows if len(by_key) == len(rows) else list(by_key.values())


def rows_of(table: Table, content: pa.Table) -> list[Row]:
    """Return the rows of an Arrow table from a `TableReader`, in its order.

    Columns go by name: their order and columns that we do not know do not matter. A column that may be missing is
    then None, a boolean False, and the type of an idempotency key's event is derived from the key. JSON is made
    canonical. Raises `DamagedTable` for an invalid null or an unknown enum text.
    """
    columns = [_values(table, column, content) for column in table.columns]
    if table is IDEMPOTENCY_KEYS:
        _tell_event_types(columns)
    return list(zip(*columns, strict=True))


def arrays_of(table: Table, content: pa.Table) -> list[pa.Array | None]:
    """Return the columns of an Arrow table from a `TableReader`, each in one piece, None for missing ones."""
    names = set(content.schema.names)
    return [content.column(one.name).combine_chunks() if one.name in names else None for one in table.columns]


def rows_among(table: Table, arrays: Sequence[pa.Array | None], start: int, stop: int) -> list[Row]:
    """Return some rows of `arrays_of`, as `rows_of` does: quicker for few of many rows. Raises `DamagedTable`."""
    columns = []
    for column, array in zip(table.columns, arrays, strict=True):
        otherwise = _otherwise(column)
        if array is None:
            columns.append([otherwise] * (stop - start))
            continue
        try:
            values: list[Value] = array.slice(start, stop - start).to_pylist()
        except UnicodeDecodeError as error:
            raise DamagedTable(table.name, column.name, f"a text is no UTF-8: {error}") from error
        if None in values:
            if column.required_to_read and not column.nullable:
                raise DamagedTable(table.name, column.name, f"{values.count(None)} values are missing")
            values = [otherwise if value is None else value for value in values]
        columns.append(_judged(table, column, values))
    if table is IDEMPOTENCY_KEYS:
        _tell_event_types(columns)
    return list(zip(*columns, strict=True))


def rows_at(table: Table, arrays: Sequence[pa.Array | None], places: Sequence[int]) -> list[Row]:
    """Return the rows of `arrays_of` at some places, as `rows_of` does. Raises `DamagedTable`."""
    wanted = pa.array(places, pa.int64())
    columns = zip(table.columns, arrays, strict=True)
    taken = {column.name: array.take(wanted) for column, array in columns if array is not None}
    return rows_of(table, pa.table(taken)) if taken else [(None,) * len(table.columns)] * len(places)


def stored_content(table: Table, content: pa.Table) -> pa.Table:
    """Return a plain Arrow table from one of our own files in today's schema, with missing columns filled."""
    schema = _schema(table.name)
    if content.schema.names == schema.names:
        return content.cast(schema)
    arrays = []
    for column, field in zip(table.columns, schema, strict=True):
        if column.name in content.schema.names:
            arrays.append(content[column.name].cast(field.type))
        else:
            otherwise = pa.scalar(_otherwise(column), field.type)
            arrays.append(pa.chunked_array([pa.repeat(otherwise, len(content))], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _is_there(table: Table, column: Column, schema: pa.Schema) -> bool:
    """Say whether a file has a column; raises `DamagedTable` if a required one is missing, or has another type."""
    places = schema.get_all_field_indices(column.name)
    if not places and not column.required_to_read:
        return False
    if len(places) != 1:
        raise DamagedTable(table.name, column.name, "there are two of them" if places else "the column is missing")
    stored = schema.field(places[0]).type
    if stored != _TYPES[column.kind]:
        raise DamagedTable(table.name, column.name, f"its type is {stored}, not {_TYPES[column.kind]}")
    return True


def _values(table: Table, column: Column, content: pa.Table) -> list[Value]:
    """Return the values of one column, None where it has none; the booleans that may be missing are False."""
    otherwise = _otherwise(column)
    if column.name not in content.schema.names:
        return [otherwise] * len(content)
    chunked = content.column(column.name)
    if chunked.null_count and column.required_to_read and not column.nullable:
        raise DamagedTable(table.name, column.name, f"{chunked.null_count} values are missing")
    try:
        values = [value for chunk in chunked.chunks for value in values_of(chunk)]
    except UnicodeDecodeError as error:
        raise DamagedTable(table.name, column.name, f"a text is no UTF-8: {error}") from error
    if otherwise is not None and chunked.null_count:
        values = [otherwise if value is None else value for value in values]
    return _judged(table, column, values)


def _otherwise(column: Column) -> Value:
    """Return the value of a column that a file lacks."""
    return False if column.kind is Kind.BOOL and not column.required_to_read else None


def _judged(table: Table, column: Column, values: list[Value]) -> list[Value]:
    """Return values in our form: JSON canonical, old enum texts as today's."""
    where = (table.name, column.name)
    if column.kind is Kind.JSON:
        canonical = {text: _canonical(where, text) for text in set(values)}
        return [canonical[text] for text in values]
    allowed = ALLOWED.get(where)
    if allowed is None:
        return values
    strange = set(values) - allowed - {None}
    if not strange:
        return values
    today = READ_AS.get(where, {})
    unknown = sorted(str(text) for text in strange - today.keys())
    if unknown:
        raise DamagedTable(*where, f"unknown text {', '.join(unknown)}")
    return [today.get(value, value) if isinstance(value, str) else value for value in values]


def _canonical(where: tuple[str, str], text: Value) -> Value:
    if not isinstance(text, str):
        return text
    try:
        return canonical_json(orjson.loads(text)).decode()
    except ValueError as error:
        raise DamagedTable(*where, f"no JSON that we write: {error}") from error


def _tell_event_types(columns: list[list[Value]]) -> None:
    """Fill in the event types that the oldest files lack (docs/formats.md#event-keys)."""
    place, keys = IDEMPOTENCY_KEYS.index("event_type"), columns[IDEMPOTENCY_KEYS.index("idempotency_key")]
    if None in columns[place]:
        columns[place] = [
            event_type_of_legacy_key(str(key)) if kind is None else kind
            for kind, key in zip(columns[place], keys, strict=True)
        ]


def values_of(array: pa.Array) -> list[Value]:
    """Return the values of an array of strings (plain or by dictionary), uint32, int64 or booleans; null is None.

    Equal strings of a dictionary are one object. Raises `UnicodeDecodeError` for a string that is not UTF-8.
    """
    if len(array) == 0:
        return []
    if isinstance(array, pa.DictionaryArray):
        return _by_dictionary(array)
    values = _plain_values(array)
    if not array.null_count:
        return values
    present = _numbers(pc.cast(array.is_valid(), pa.uint8()), "B")
    return [value if there else None for value, there in zip(values, present, strict=True)]


def _plain_values(array: pa.Array) -> list[Any]:
    """Return the values; those of nulls are arbitrary."""
    if pa.types.is_string(array.type):
        return _strings(array)
    if pa.types.is_boolean(array.type):
        return list(map(bool, _numbers(pc.cast(array, pa.uint8()), "B")))
    return _numbers(array, "I" if pa.types.is_uint32(array.type) else "q")


def _numbers(array: pa.Array, code: Literal["B", "I", "i", "q"]) -> list[int]:
    numbers: list[int] = (
        memoryview(array.buffers()[1]).cast("B").cast(code)[array.offset : array.offset + len(array)].tolist()
    )
    return numbers


def _strings(array: pa.Array) -> list[str]:
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = memoryview(offsets_buffer).cast("B").cast("i")[array.offset : array.offset + len(array) + 1].tolist()
    first = offsets[0]
    data = b"" if data_buffer is None else data_buffer.slice(first, offsets[-1] - first).to_pybytes()
    if data.isascii():
        text = data.decode("ascii")
        return [text[start - first : end - first] for start, end in pairwise(offsets)]
    return [data[start - first : end - first].decode() for start, end in pairwise(offsets)]


def _by_dictionary(array: pa.DictionaryArray) -> list[Value]:
    if len(array) < len(array.dictionary):
        return values_of(array.dictionary_decode())
    words: list[Value] = [*values_of(array.dictionary), None]
    places = array.indices
    if places.null_count:
        places = pc.fill_null(places, len(words) - 1)
    return [words[place] for place in _numbers(places, "i")]
