"""One writer process of the demo: appends its share of the flights, one small commit after the other.

    python -m springline.demo.writer WRITER WRITERS ROWS PER_COMMIT PROGRESS_FILE

API and token come from the environment. Each commit leaves a line of JSON in the progress file.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import orjson

from springline.client import Springline
from springline.client.table import new_key
from springline.demo.data import batches_of, flights

TABLE = "flights"


def main(arguments: list[str]) -> None:
    """Append the share named by the arguments."""
    writer, writers, rows, per_commit = (int(text) for text in arguments[:4])
    source = flights(rows)
    with Path(arguments[4]).open("ab", buffering=0) as progress, Springline(deadline_s=180) as lake:
        table = lake.table(TABLE)
        for start, count in batches_of(writer, writers, rows, per_commit):
            key = new_key()
            began = time.monotonic()
            result = table.append(source.slice(start, count), key=key)
            line = {
                "key": key,
                "version": result.version,
                "rows": count,
                "seconds": time.monotonic() - began,
            }
            progress.write(orjson.dumps(line) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
