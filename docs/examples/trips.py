"""A PyArrow job over partitions: hours of trips, each hour's total, and how it compares with the hours before.

springline materialize trips.py trips --partition 2026-01-31T07
"""

import pyarrow as pa
import pyarrow.compute as pc

from springline.sdk import Context, asset, checks, dep, hourly, window

START = "2026-01-01T00"


@asset(partitions=hourly(start=START), retries=2)
def trips(context: Context) -> pa.Table:
    """The trips of an hour, here made up of its number."""
    begin, _ = context.time_window
    return pa.table({"hour": [begin.hour] * 3, "km": [1.0, 2.5, float(begin.hour)]})


@asset(partitions=hourly(start=START), checks=[checks.row_count(1, 1)])
def hourly_totals(context: Context, trips: pa.Table) -> None:
    """One row an hour, in the hour's part of the table: made again, it replaces that part alone."""
    key = context.partition_key
    total = {"key": [key], "km": [pc.sum(trips["km"]).as_py()], "trips": [trips.num_rows]}
    context.table("hourly_totals", partition_by="key").overwrite(total, where=f"key = '{key}'")


@asset(partitions=hourly(start=START), deps=[dep(hourly_totals, window(start=-2))])
def rolling(context: Context) -> float | None:
    """The mean of this hour and the two before, as far as they are made."""
    rows = context.table("hourly_totals").to_arrow(["key", "km"], where=f"key <= '{context.partition_key}'")
    last = rows.sort_by([("key", "descending")]).slice(0, 3)
    return pc.mean(last["km"]).as_py()
