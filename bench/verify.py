"""Was it right? A benchmark of a wrong result is worthless: every cell ends with this.

For each table: versions are contiguous, every acknowledged commit is in exactly the version it was told, no
commit is there twice, nothing is there that nobody asked for, and nothing is left in flight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import deltalake
import orjson

from bench.measure import Done
from springline import paths
from springline.delta.coordinator import decode_coordinator
from springline.delta.markers import decode_marker
from springline.delta.table_request import TableEntry
from springline.storage.port import ObjectStore
from springline.storage.together import together

_READS_TOGETHER = 64


class WrongResult(AssertionError):
    """A table does not hold what its writers were told."""


async def verify_table(store: ObjectStore, table: TableEntry, done: Sequence[Done]) -> int:
    """Check a table of one workspace's `store` from its stored bytes; return its number of versions after 0.

    Writers add one file per commit, named after the commit's key. Raises `WrongResult`.
    """
    coordinator_path = paths.delta_coordinator(table.table_id)
    stored = await store.get(coordinator_path)
    if stored is None:
        raise WrongResult(f"{coordinator_path} is missing")
    coordinator = decode_coordinator(stored.data, coordinator_path)
    if coordinator.inflight is not None:
        raise WrongResult(f"{coordinator_path} still holds version {coordinator.inflight.version} in flight")
    found = await _found_keys(store, table, coordinator.latest_version)
    told = {one.key: one.version for one in done}
    if len(told) != len(done):
        raise WrongResult(f"table {table.table_id}: a key was acknowledged twice")
    if found != told:
        raise WrongResult(_difference(table, told, found))
    await _check_markers(store, table, done)
    return coordinator.latest_version


async def _found_keys(store: ObjectStore, table: TableEntry, latest: int) -> dict[str, int]:
    """Return key -> version of everything in the log; raises `WrongResult` on a gap, a stray file or a double."""
    found: dict[str, int] = {}
    for start in range(1, latest + 2, _READS_TOGETHER):
        versions = range(start, min(start + _READS_TOGETHER, latest + 2))
        logs = await together(*(store.get(paths.delta_log(table.root, version)) for version in versions))
        for version, log in zip(versions, logs, strict=True):
            if (log is None) != (version == latest + 1):
                what = "is missing" if log is None else "lies behind the coordinator's latest version"
                raise WrongResult(f"{paths.delta_log(table.root, version)} {what}")
            for action in [] if log is None else map(orjson.loads, log.data.splitlines()):
                if "add" not in action:
                    continue
                key = key_of_file(action["add"]["path"])
                if key in found:
                    raise WrongResult(f"key {key} is in versions {found[key]} and {version}")
                found[key] = version
    return found


async def _check_markers(store: ObjectStore, table: TableEntry, done: Sequence[Done]) -> None:
    for start in range(0, len(done), _READS_TOGETHER):
        some = done[start : start + _READS_TOGETHER]
        names = [paths.delta_marker(table.table_id, one.key) for one in some]
        for one, name, stored in zip(some, names, await together(*map(store.get, names)), strict=True):
            if stored is None or decode_marker(stored.data, name, one.key, root=table.root).version != one.version:
                raise WrongResult(f"{name} does not say version {one.version}, as its writer was told")


def _difference(table: TableEntry, told: dict[str, int], found: dict[str, int]) -> str:
    lost = [key for key in told if key not in found]
    extra = [key for key in found if key not in told]
    moved = [key for key in told if key in found and told[key] != found[key]]
    return (
        f"table {table.table_id}: {len(lost)} of {len(told)} acknowledged commits are lost {lost[:3]}, "
        f"{len(extra)} are there unasked {extra[:3]}, {len(moved)} have another version than was told {moved[:3]}"
    )


def file_of_key(key: str) -> str:
    """Return the name of the one data file that the commit `key` adds."""
    return f"part-{key}.parquet"


def key_of_file(name: str) -> str:
    """Return the key of the commit that added a file."""
    return name.removeprefix("part-").removesuffix(".parquet")


def verify_rows(folder: str, keys: Sequence[str], *, maybe: Sequence[str] = ()) -> int:
    """Read a table with `deltalake` and check that each of `keys` is a row exactly once; return its version.

    `maybe`: keys whose append failed; they may be there, once. Raises `WrongResult`.
    """
    table = deltalake.DeltaTable(folder)
    rows = Counter(table.to_pyarrow_table(columns=["key"])["key"].to_pylist())
    double = [key for key, number in rows.items() if number > 1]
    lost = set(keys) - rows.keys()
    extra = rows.keys() - set(keys) - set(maybe)
    if double or lost or extra:
        raise WrongResult(
            f"{folder}: of {len(keys)} rows {len(lost)} are lost, {len(double)} are double, {len(extra)} are unasked"
        )
    return table.version()
