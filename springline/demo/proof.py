"""The proof at the end of the demo: the table, read by a foreign library, is the source, and each key is in it once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa
from deltalake import DeltaTable

from springline import paths
from springline.demo.data import ROW


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of the comparison. `problems` is empty if the table is right."""

    rows: int
    versions: int
    keys: int
    problems: tuple[str, ...]


def prove(location: str, source: pa.Table, acknowledged: dict[str, int]) -> Proof:
    """Compare the table at `location` with `source` row for row, and its log with the acknowledged keys' versions."""
    problems: list[str] = []
    table = DeltaTable(location)
    read = pa.table(table.to_pyarrow_table()).select(source.column_names).sort_by(ROW)
    if read.num_rows != source.num_rows:
        problems.append(f"the table has {read.num_rows} rows, the source {source.num_rows}")
    elif not read.cast(source.schema).equals(source):
        problems.append("rows differ from the source")
    committed = keys_in_log(Path(location.removeprefix("file://")), table.version())
    problems += [f"version {version} is missing from the log" for version, keys in committed.items() if keys is None]
    seen = Counter(key for keys in committed.values() for key in keys or ())
    problems += [f"key {key} was committed {times} times" for key, times in seen.items() if times != 1]
    where = {key: version for version, keys in committed.items() for key in keys or ()}
    problems += [
        f"key {key} was acknowledged at version {version} and is at {where.get(key)}"
        for key, version in acknowledged.items()
        if where.get(key) != version
    ]
    return Proof(read.num_rows, table.version(), len(seen), tuple(problems))


def keys_in_log(root: Path, latest: int) -> dict[int, list[str] | None]:
    """Return the keys that each version after the first of a local table committed; None for one that is missing."""
    found: dict[int, list[str] | None] = {}
    for version in range(1, latest + 1):
        file = root.parent / paths.delta_log(root.name, version)
        if not file.exists():
            found[version] = None
            continue
        info = orjson.loads(file.read_bytes().split(b"\n", 1)[0]).get("commitInfo", {})
        members = info.get("springline", {}).get("members")
        found[version] = [one["key"] for one in members] if members else [info["txnId"]] if "txnId" in info else []
    return found
