"""The rows of a merge: kept for every try, cast only if no value changes, and identified by their fingerprint."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from springline.client.casts import Conversion
from springline.client.fingerprint import Fingerprint
from springline.client.plain import check_names, plain_type
from springline.client.sources import batches, schema_of
from springline.client.writing import plain_pieces
from springline.errors import Refused


class MergeRows:
    """The caller's rows to merge. They stay in memory for the next try of an operation that lost a race."""

    def __init__(self, data: Any) -> None:
        digest = Fingerprint()
        pieces: list[pa.Table] = []
        for batch in batches(data):
            check_names(batch.schema)
            for piece, columns in plain_pieces(batch):
                digest.add(piece.schema.names, columns, piece.num_rows)
                pieces.append(pa.table(columns, names=piece.schema.names))
        self.fingerprint = digest.digest()
        self.table = pa.concat_tables(pieces, promote_options="permissive") if pieces else _without_rows(data)
        self.apart_by: tuple[str, ...] = ()
        """Columns in which no two rows may agree."""
        self._fitted: tuple[pa.Schema, pa.Table] | None = None

    def for_table(self, schema: pa.Schema) -> pa.Table:
        """Return the rows, with the table's columns cast to its types.

        Raises `Refused` if a value would change.
        """
        if self._fitted is None or self._fitted[0] != schema:
            shared = [name for name in self.table.column_names if name in schema.names]
            mine = self.table.select(shared)
            conversion = Conversion(mine.schema, pa.schema([schema.field(name).with_nullable(True) for name in shared]))
            fitted: list[list[pa.Array]] = [[] for _ in shared]
            for batch in mine.to_batches():
                for column, array in zip(fitted, conversion.apply(batch.columns, batch.num_rows), strict=True):
                    column.append(array)
            columns = {name: self.table.column(name) for name in self.table.column_names}
            for name, arrays in zip(shared, fitted, strict=True):
                columns[name] = pa.chunked_array(arrays, schema.field(name).type)
            self._fitted = (schema, pa.table(columns))
        return self._fitted[1]


def _without_rows(data: Any) -> pa.Table:
    """Return a table without rows, with the columns of `data`."""
    try:
        schema = schema_of(data)
    except Refused:
        schema = pa.schema([])
    check_names(schema)
    return pa.schema([(field.name, plain_type(field.type, field.name)) for field in schema]).empty_table()
