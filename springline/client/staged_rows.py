"""The rows that a task is about to write to a table, read back from what is staged: nobody sees them yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from springline import paths
from springline.client.engine import Place
from springline.client.loop import Stores
from springline.client.staging import StagedDamaged, StagedWrite, merge_source
from springline.client.writing import PreparedWrite
from springline.storage.port import ObjectStore

_READ_ROWS = 131_072


@dataclass(frozen=True, slots=True)
class StagedPart:
    """One write of a table at `place`: an append or overwrite, a merge that is staged, or a schema of no rows."""

    stores: Stores
    place: Place | None
    source: PreparedWrite | StagedWrite | pa.Schema

    def rows(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Return the schema of its rows, and them, read as they are taken."""
        source = self.source
        if isinstance(source, pa.Schema):
            return source, iter(())
        assert self.place is not None
        if isinstance(source, PreparedWrite):
            return source.target, self._of_files(source)
        found = merge_source(self.stores, self.place, source)
        return found.schema, iter(found.to_batches(_READ_ROWS))

    def _of_files(self, source: PreparedWrite) -> Iterator[pa.RecordBatch]:
        for add in source.files.adds:
            yield from _rows_of_file(self._file(add["path"]), add["partitionValues"], source.target)

    def _file(self, path: str) -> Any:
        assert self.place is not None
        folder = self.place.folder
        if folder is not None:
            # Paths in actions are URLs; in a bucket, where we name the files ourselves, both are the same.
            return folder / unquote(path)
        name = paths.delta_data_file(self.place.root, path)

        async def read(store: ObjectStore) -> bytes | None:
            found = await store.get(name)
            return None if found is None else found.data

        data = self.stores.run(self.place, read)
        if data is None:
            raise StagedDamaged(f"{name}, a file of a write that is under way, is missing: somebody has removed it")
        return pa.BufferReader(data)


@dataclass(frozen=True, slots=True)
class StagedRows:
    """All rows that a task is about to write to one table, in the order of its writes."""

    parts: Sequence[StagedPart]

    def read(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Return the schema of the rows, and them, read as they are taken: a file at a time."""
        found = [one.rows() for one in self.parts]
        schema = pa.unify_schemas([one for one, _ in found], promote_options="permissive")
        return schema, chain.from_iterable(rows for _, rows in found)


def _rows_of_file(file: Any, values: Mapping[str, str | None], target: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a data file with the columns that its table keeps in folders."""
    for batch in pq.ParquetFile(file).iter_batches(_READ_ROWS):
        columns = {name: batch.column(name) for name in batch.schema.names}
        for name, text in values.items():
            # The text of a value is one that Arrow reads as the type of its column (`springline.client.partitions`).
            kind = target.field(name).type
            columns[name] = pa.repeat(pa.scalar(text, pa.string()).cast(kind), len(batch))
        yield pa.record_batch([columns[name] for name in columns], names=list(columns))
