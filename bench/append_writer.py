"""One process of `bench.append`: writes frames as told, by the client or by `deltalake`, and prints a line of JSON.

    python -m bench.append_writer SIDE WORK TARGET [NUMBER]

`SIDE` is `springline` (`TARGET`: a table's name; API and token come from the environment) or `deltalake` (`TARGET`: a
folder). `WORK`: `appends` of 1,000 rows, `NUMBER` of them; `frame`: one of about `NUMBER` GB; `reader`: a stream of
batches of about `NUMBER` GB. It says `ready` and begins when a line comes in, so that processes begin together.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import deltalake
import numpy as np
import orjson
import pyarrow as pa

from springline.client import Springline
from springline.local.processes import peak_memory_bytes

BATCH_ROWS = 100_000
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("at", pa.timestamp("us", "UTC")),
        ("price", pa.float64()),
        ("count", pa.int32()),
        ("city", pa.string()),
        ("note", pa.string()),
    ]
)
_CITIES = np.array(["Oslo", "Lima", "Nairobi", "Osaka", "Quito", "Perth", "Turin", "Lagos"])


def frame(rows: int, *, start: int = 0) -> pa.Table:
    """Return rows like those of an event table: numbers, times, few and many different texts."""
    numbers = np.random.default_rng(start)
    ids = np.arange(start, start + rows)
    notes = np.char.add("note ", numbers.integers(0, 10**9, rows).astype(str))
    columns = [
        pa.array(ids),
        pa.array(ids * 1_000 + 1_700_000_000_000_000, pa.timestamp("us", "UTC")),
        pa.array(numbers.random(rows)),
        pa.array(numbers.integers(0, 1_000, rows).astype(np.int32)),
        pa.array(_CITIES[numbers.integers(0, len(_CITIES), rows)]),
        pa.array(notes),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def partitioned(partitions: int, rows: int) -> pa.Table:
    """Return `rows` rows for each of `partitions` values of the column `part`."""
    table = frame(partitions * rows)
    return table.append_column("part", pa.array(np.arange(partitions * rows) % partitions, pa.int32()))


def large(gigabytes: float) -> pa.Table:
    """Return one frame that takes about so many GB."""
    piece = frame(BATCH_ROWS)
    times = int(gigabytes * 1e9 / piece.nbytes)
    return pa.concat_tables([piece] * times).combine_chunks()


def stream(gigabytes: float) -> Iterator[pa.RecordBatch]:
    """Yield batches of about so many GB in all."""
    piece = frame(BATCH_ROWS).combine_chunks().to_batches()[0]
    for _ in range(int(gigabytes * 1e9 / piece.nbytes)):
        yield piece


def append_of(side: str, target: str) -> tuple[Callable[[Any], object], Callable[[], None]]:
    """Return what appends, and what ends it."""
    if side == "deltalake":
        return lambda data: deltalake.write_deltalake(target, data, mode="append"), lambda: None
    lake = Springline(deadline_s=600)
    return lake.table(target).append, lake.close


def main(arguments: list[str]) -> None:
    """Do the work and print seconds, errors and peak memory."""
    side, work, target, number = arguments[0], arguments[1], arguments[2], float(arguments[3])
    append, close = append_of(side, target)
    before = peak_memory_bytes()
    errors: list[str] = []
    if work == "appends":
        frames: list[Any] = [frame(1_000, start=index) for index in range(int(number))]
    elif work == "frame":
        frames = [large(number)]
        before = peak_memory_bytes()
    else:
        frames = [pa.RecordBatchReader.from_batches(SCHEMA, stream(number))]
    print("ready", flush=True)
    sys.stdin.readline()
    seconds = []
    for one in frames:
        began = time.perf_counter()
        try:
            append(one)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}"[:200])
        seconds.append(time.perf_counter() - began)
    close()
    print(orjson.dumps({"seconds": seconds, "errors": errors, "before": before, "peak": peak_memory_bytes()}).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
