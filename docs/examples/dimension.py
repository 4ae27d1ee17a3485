"""A slowly changing dimension (type 2) by polars: who lived where, and since when, by a merge of what has changed.

A customer that moves gets a second row; the first one is closed. A day that is made again changes nothing more, because
a merge of the same rows finds nothing that differs.

    springline materialize dimension.py --partition 2026-01-31
"""

from datetime import date

import polars as pl
import pyarrow as pa

from springline.sdk import Context, asset, checks, daily

SCHEMA = pa.schema(
    {"customer": pa.int64(), "city": pa.string(), "since": pa.date32(), "until": pa.date32(), "current": pa.bool_()}
)
days = daily(start="2026-01-01")


@asset(partitions=days)
def addresses(context: Context) -> pl.DataFrame:
    """The customers of a day as the source knows them; here, the second one moves on the second of January."""
    moved = context.partition_key >= "2026-01-02"
    return pl.DataFrame({"customer": [1, 2], "city": ["Oslo", "Quito" if moved else "Lima"]})


@asset(
    partitions=days,
    checks=[checks.sql("one change a day", "SELECT customer FROM rows GROUP BY customer, current HAVING count(*) > 1")],
)
def customers(context: Context, addresses: pl.DataFrame) -> None:
    """The dimension: each customer's rows follow each other without a gap, and one of them is current."""
    day = date.fromisoformat(context.partition_key)
    table = context.table("customers", schema=SCHEMA)
    current = table.to_polars().filter("current").select("customer", pl.col("city").alias("before"), "since")
    changed = addresses.join(current, on="customer", how="left").filter(
        pl.col("before").is_null() | (pl.col("before") != pl.col("city"))
    )
    closed = changed.filter(pl.col("before").is_not_null()).select(
        "customer", pl.col("before").alias("city"), "since", until=pl.lit(day), current=pl.lit(False)
    )
    opened = changed.select("customer", "city", since=pl.lit(day), until=pl.lit(None, pl.Date), current=pl.lit(True))
    table.upsert(pl.concat([closed, opened]), on=["customer", "since"])
