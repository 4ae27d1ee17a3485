"""The demo's pipeline: the flights of a year, month by month, from files to a report; and what a schedule, a sensor and
a backfill make beside it.

It is a pipeline file like any user's, but for three things: functions note what they begin and see, so that the demo
knows from elsewhere than the ledger what ran; every fourth month fails once after it has written; and each task takes
its time, so that kills find something to end.
"""

import os
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyarrow import parquet

from springline.sdk import (
    Context,
    RunRequest,
    SensorContext,
    SensorResult,
    all_partitions,
    asset,
    dep,
    monthly,
    schedule,
    sensor,
)

FOLDER = Path(os.environ.get("SPRINGLINE_DEMO_FOLDER", "."))
"""Where the files of the months lie, and where it is noted what has begun."""
ARRIVING = FOLDER / "arriving"
"""Where files come, one after the other."""
SLOW_S = float(os.environ.get("SPRINGLINE_DEMO_TASK_SECONDS", "0"))
MONTHS = monthly("2013-01", end="2014-01")
PATIENT: dict[str, Any] = {"retries": 3, "retry_delay": "200ms", "heartbeat": "3s"}


def note(file: str, *words: Any) -> None:
    """Add a line to a file, in one write, whatever else is killed."""
    place = os.open(FOLDER / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(place, f"{' '.join(str(word) for word in words)}\n".encode())
    os.close(place)


def begin(context: Context) -> None:
    """Note that an attempt has begun."""
    note("begun.txt", context.run_id, context.task_key, context.attempt)


@asset(partitions=MONTHS, **PATIENT)
def loaded_flights(context: Context) -> int:
    """Take over the file of a month, in two writes that count together."""
    begin(context)
    rows: pa.Table = parquet.read_table(FOLDER / f"{context.partition_key}.parquet")
    table = context.table("loaded_flights")
    table.append(rows.slice(0, rows.num_rows // 2))
    time.sleep(SLOW_S)
    table.append(rows.slice(rows.num_rows // 2))
    if context.attempt == 1 and int(context.partition_key[-2:]) % 4 == 0:
        raise RuntimeError("the first attempt of every fourth month fails, after it has written")
    return int(rows.num_rows)


@asset(partitions=MONTHS, deps=[loaded_flights], **PATIENT)
def departures(context: Context) -> pa.Table:
    """Keep the flights of a month that took off."""
    begin(context)
    month = int(context.partition_key[-2:])
    rows = context.table("loaded_flights").to_arrow(where=f"month = {month}")
    time.sleep(SLOW_S)
    return rows.filter(rows["dep_time"].is_valid()).select(["month", "carrier", "dep_delay"])


@asset(partitions=MONTHS, **PATIENT)
def delays(context: Context, departures: pa.Table) -> int:
    """Tell how late each carrier was in a month, and correct what the table has of it."""
    begin(context)
    counted = (
        "SELECT month, carrier, count(*) AS flights, sum(dep_delay)::BIGINT AS minutes FROM departures GROUP BY ALL"
    )
    found = duckdb.from_arrow(departures).query("departures", counted).to_arrow_table()
    time.sleep(SLOW_S)
    context.table("delays").upsert(found, on=["month", "carrier"])
    return sum(found["flights"].to_pylist())


@asset(partitions=MONTHS, **PATIENT)
def checked_month(context: Context, loaded_flights: int, delays: int) -> int:
    """See that a month has lost no flight on its way."""
    begin(context)
    rows = context.table("loaded_flights").to_arrow(["dep_time"], where=f"month = {int(context.partition_key[-2:])}")
    took_off = rows.num_rows - rows["dep_time"].null_count
    if (rows.num_rows, took_off) != (loaded_flights, delays):
        raise ValueError(f"{loaded_flights} flights were loaded and {rows.num_rows} are there; {took_off} took off")
    return delays


@asset(deps=[dep("checked_month", all_partitions())], **PATIENT)
def report(context: Context) -> list[str]:
    """Name the latest carriers of the year."""
    begin(context)
    by_carrier = (
        "SELECT carrier, sum(minutes) / sum(flights) AS late FROM delays GROUP BY ALL ORDER BY late DESC LIMIT 3"
    )
    year = duckdb.from_arrow(context.table("delays").to_arrow()).query("delays", by_carrier)
    return [f"{carrier} {minutes:.1f} min" for carrier, minutes in year.fetchall()]


@asset(**PATIENT)
def freshness(context: Context) -> None:
    """What the schedule asks for, every few seconds."""
    begin(context)


schedule("every-three-seconds", every="3s", select=[freshness], max_catchup_ticks=100)


@asset(**PATIENT)
def cancellations(context: Context) -> int:
    """Take over a file that has come: the flights of a month that did not take off."""
    begin(context)
    file = context.config["file"]
    note("items.txt", time.monotonic(), context.run_id, file)
    rows: pa.Table = parquet.read_table(ARRIVING / file)
    time.sleep(SLOW_S / 2)
    context.table("cancellations").append(rows)
    note("items.txt", time.monotonic(), context.run_id, file)
    return int(rows.num_rows)


@sensor(every="1s", select=cancellations)
def new_files(context: SensorContext) -> SensorResult:
    """Ask for a run for each file that has come since the last look."""
    cursor = context.cursor or ""
    found = sorted(file.name for file in ARRIVING.glob("*.parquet") if file.name > cursor)
    note("looks.txt", *found)
    if not found:
        return SensorResult(skip_reason="no file has come")
    return SensorResult([RunRequest(file, config={"file": file}) for file in found], cursor=found[-1])


@asset(partitions=MONTHS, **PATIENT)
def routes(context: Context) -> int:
    """Count the flights of a month on each route: a backfill makes it."""
    begin(context)
    month = context.partition_key
    note("items.txt", time.monotonic(), context.run_id, month)
    flights: pa.Table = parquet.read_table(FOLDER / f"{month}.parquet")
    counted = "SELECT month, origin, dest, count(*) AS flights FROM flights GROUP BY ALL"
    found = duckdb.from_arrow(flights).query("flights", counted).to_arrow_table()
    time.sleep(SLOW_S / 2)
    context.table("routes").append(found)
    note("items.txt", time.monotonic(), context.run_id, month)
    return int(found.num_rows)
