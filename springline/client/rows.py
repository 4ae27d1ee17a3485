"""The rows of a merge: held for every try, cast only where no value changes, and known by a fingerprint."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pyarrow as pa

from springline.client.expressions import plain_type
from springline.client.frames import conform, to_arrow


class MergeRows:
    """What a caller merges. The rows are held in memory: an operation that lost a race is done again with them."""

    def __init__(self, data: Any) -> None:
        self.table = to_arrow(data)
        self._fitted: tuple[pa.Schema, pa.Table] | None = None

    def fingerprint(self) -> str:
        """Return the SHA-256 of the rows, their order included."""
        plain = pa.table(
            {
                name: self.table.column(name).cast(plain_type(self.table.schema.field(name).type))
                for name in self.table.column_names
            }
        )
        rows = plain.take(pa.array(range(plain.num_rows), pa.int64())).combine_chunks().replace_schema_metadata(None)
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        return hashlib.sha256(sink.getvalue()).hexdigest()

    def for_table(self, schema: pa.Schema) -> pa.Table:
        """Return the rows with the columns that the table has in its types.

        Raises `Refused` if a value would change.
        """
        if self._fitted is None or self._fitted[0] != schema:
            shared = [name for name in self.table.column_names if name in schema.names]
            wanted = pa.schema([schema.field(name).with_nullable(True) for name in shared])
            fitted = conform(self.table.select(shared), wanted)
            columns = {name: self.table.column(name) for name in self.table.column_names}
            columns |= {name: fitted.column(name) for name in shared}
            self._fitted = (schema, pa.table(columns))
        return self._fitted[1]
