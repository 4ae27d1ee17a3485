"""Random filters on a column, in the words of each reader, and the rows that they must find."""

from __future__ import annotations

import datetime as dt
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

from tests.client.frames import SCALARS, or_null
from tests.client.readers import duck, folder_of

FILTERED = sorted(set(SCALARS) - {"binary"})
"""The types that readers compare; of binary there is no literal that all of them take."""
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_DUCKDB = {
    "byte": "tinyint", "short": "smallint", "integer": "integer", "long": "bigint", "float": "real",
    "decimal": "decimal(10,2)", "string": "varchar", "timestamp": "timestamptz", "timestamp_ntz": "timestamp",
}  # fmt: skip
_DATAFUSION = {
    "boolean": "Boolean", "byte": "Int8", "short": "Int16", "integer": "Int32", "long": "Int64", "float": "Float32",
    "double": "Float64", "decimal": "Decimal128(10, 2)", "string": "Utf8", "date": "Date32",
    "timestamp": 'Timestamp(Microsecond, Some("UTC"))', "timestamp_ntz": "Timestamp(Microsecond, None)",
}  # fmt: skip


@dataclass(frozen=True)
class Filter:
    """A condition on column `c`, of the Delta type `kind`: `op` with `value`, or `is null` and `is not null`."""

    kind: str
    op: str
    value: Any = None

    @property
    def compares(self) -> bool:
        return self.op in _COMPARED

    @property
    def text(self) -> str:
        """The value as every SQL dialect casts it from text."""
        if isinstance(self.value, dt.datetime):
            return self.value.isoformat(sep=" ")
        return str(self.value).lower() if isinstance(self.value, bool) else str(self.value)

    def finds(self, values: list[Any]) -> list[set[int]]:
        """Return the places of the values that match: one answer, for numbers with NaN or -0.0 each that may be.

        Engines compare those as IEEE does, or with NaN as the greatest, or by bits (then -0.0 is below 0.0).
        """
        keys: list[Callable[[Any], Any]] = [lambda value: value]
        if self.kind in ("float", "double"):
            keys += [lambda one: (math.isnan(one), 0.0 if math.isnan(one) else one), _by_bits]
            # A NaN may get or lose its sign on the way to a file; with it, it is by bits below all numbers.
            keys += [lambda one: (not math.isnan(one), 0.0 if math.isnan(one) else one)]
        answers = []
        for key in keys if self.compares else keys[:1]:
            found = {place for place, value in enumerate(values) if self._matches(value, key)}
            answers += [] if found in answers else [found]
        return answers

    def _matches(self, value: Any, key: Callable[[Any], Any]) -> bool:
        if not self.compares:
            return (value is None) == (self.op == "is null")
        return value is not None and _COMPARED[self.op](key(value), key(self.value))

    # In each reader, the `n` of the rows that it finds.

    def by_delta_rs(self, location: str) -> set[int]:
        where = f"c {self.op}"
        if self.compares:
            literal = self.text.replace("'", "''")
            where += f" arrow_cast('{literal}', '{_DATAFUSION[self.kind]}')"
        query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(location))
        return set(pa.table(query.execute(f"SELECT n FROM t WHERE {where}").read_all())["n"].to_pylist())

    def by_duckdb(self, location: str) -> set[int]:
        typed = f"?::{_DUCKDB.get(self.kind, self.kind)}" if self.compares else ""
        sql = f"SELECT n FROM delta_scan('file://{folder_of(location)}') WHERE c {self.op} {typed}"
        return {row[0] for row in duck().execute(sql, [self.text] if self.compares else []).fetchall()}

    def by_polars(self, location: str) -> set[int]:
        column = pl.col("c")
        if self.compares:
            where: Any = _COMPARED[self.op](column, pl.lit(self.value, dtype=self.polars_type))
        else:
            where = column.is_null() if self.op == "is null" else column.is_not_null()
        return set(pl.scan_delta(location).filter(where).collect()["n"].to_list())

    def by_pyarrow(self, location: str) -> set[int]:
        column = pc.field("c")
        if self.compares:
            where: Any = _COMPARED[self.op](column, self.scalar)
        else:
            where = column.is_null() if self.op == "is null" else ~column.is_null()
        return set(deltalake.DeltaTable(location).to_pyarrow_dataset().to_table(filter=where)["n"].to_pylist())

    def by_spark(self, location: str) -> set[int]:
        from pyspark.sql import functions

        from tests.support.spark import session

        column = functions.col("c")
        if self.compares:
            kind = "decimal(10,2)" if self.kind == "decimal" else self.kind
            where: Any = _COMPARED[self.op](column, functions.lit(self.text).cast(kind))
        else:
            where = column.isNull() if self.op == "is null" else column.isNotNull()
        frame = session().read.format("delta").load(str(folder_of(location))).where(where)
        return {row[0] for row in frame.select("n").collect()}

    @property
    def scalar(self) -> pa.Scalar:
        """The value in the column's own Arrow type."""
        return pa.scalar(self.value, SCALARS[self.kind][0])

    @property
    def polars_type(self) -> Any:
        return pl.Series(pl.from_arrow(pa.array([self.value], SCALARS[self.kind][0]))).dtype


READERS: dict[str, Callable[[Filter, str], set[int]]] = {
    "pyarrow": Filter.by_pyarrow,
    "delta-rs": Filter.by_delta_rs,
    "polars": Filter.by_polars,
    "duckdb": Filter.by_duckdb,
}


def _by_bits(one: float) -> tuple[bool, float, float]:
    return math.isnan(one), 0.0 if math.isnan(one) else one, math.copysign(1, one)


@st.composite
def filtered(draw: st.DrawFn, kind: str, *, partition: bool, filters: int = 4) -> tuple[pa.Table, list[Filter]]:
    """Rows whose column `c` is of the type `kind`, and filters on it: by values in it, beside it and anywhere."""
    arrow, values = SCALARS[kind]
    if partition and kind == "string":
        values = values.filter(bool)
    if partition and kind == "decimal":
        values = values.map(abs)
    drawn = draw(st.lists(or_null(values), min_size=3, max_size=9))
    there = [one for one in drawn if one is not None]
    literals = values if not there else st.sampled_from(there) | values
    if kind in ("float", "double"):
        literals = literals.filter(lambda one: not math.isnan(one))
    comparing = st.builds(lambda op, value: Filter(kind, op, value), st.sampled_from(sorted(_COMPARED)), literals)
    nulls = st.sampled_from([Filter(kind, "is null"), Filter(kind, "is not null")])
    chosen = draw(st.lists(comparing | comparing | comparing | nulls, min_size=filters, max_size=filters))
    rows = pa.table({"n": pa.array(range(len(drawn)), pa.int64()), "c": pa.array(drawn, arrow)})
    return rows, chosen
