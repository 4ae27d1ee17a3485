"""Ingestion from files with a watermark: each file of a folder is loaded once, the oldest first.

Rows and watermark are writes of one task, so both count once, whatever dies between them: no file is loaded twice, and
none is passed over. The names of files grow: `orders-0001.csv`, `orders-0002.csv`.

    springline materialize ingestion.py --config '{"folder": "incoming"}'
"""

from pathlib import Path

import pyarrow as pa
from pyarrow import csv
from pydantic import BaseModel

from springline.sdk import Context, asset, checks

WATERMARKS = pa.schema({"source": pa.string(), "last": pa.string()})


class Ingestion(BaseModel):
    """What a run is asked with."""

    folder: Path


@asset(
    config=Ingestion,
    retries=3,
    checks=[checks.not_null("order_id", table="orders"), checks.unique("order_id", table="orders")],
)
def orders(context: Context[Ingestion]) -> None:
    """Orders of all files behind the watermark."""
    marks = context.table("watermarks", schema=WATERMARKS)
    known = {row["source"]: row["last"] for row in marks.to_arrow().to_pylist()}
    waiting = [
        file for file in sorted(context.config.folder.glob("orders-*.csv")) if file.name > known.get("orders", "")
    ]
    context.add_metadata(files=[file.name for file in waiting])
    table = context.table(
        "orders", schema=pa.schema({"order_id": pa.int64(), "amount": pa.float64(), "file": pa.string()})
    )
    for number, file in enumerate(waiting, 1):
        rows = csv.read_csv(file)
        table.append(rows.append_column("file", pa.array([file.name] * rows.num_rows, pa.string())))
        context.progress(number / len(waiting), file.name)
    if waiting:
        marks.upsert({"source": ["orders"], "last": [waiting[-1].name]}, on="source")
