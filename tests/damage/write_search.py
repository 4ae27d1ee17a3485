"""The search among write sets: seal and staged writes x damage x how many of the writes are committed already.

The real seals and commits work on tables of a folder; the next attempt of the task does what attempts do.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, cast

import pyarrow as pa

from springline.client import Springline
from springline.client.folder import FolderLake
from springline.client.staging import TaskOfWrites
from springline.client.task_tables import TaskTables
from springline.control.runs.messages import AttemptOrder
from springline.paths import ObjectPath, write_seal
from springline.storage.damage import DamagedObject
from springline.storage.local import LocalStore
from springline.work.seals import Seal, read_seal, seal, seal_of
from springline.work.writes import Lake
from tests.damage import damages
from tests.damage.damages import DAMAGES, Damage
from tests.damage.operations import Wrong
from tests.work.conftest import order

KINDS: dict[str, str] = {
    "seal": r"effects/[^/]*/[0-9a-f]{64}\.json",
    "staged write": r"effects/[^/]*/[0-9a-f]{64}/[0-9a-f]{64}",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in KINDS.items()}
WRITES = 3
Ask = Callable[[Any], object]


@cache
def kind_of(path: ObjectPath) -> str:
    """Return the kind of an object."""
    (kind,) = [kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(path)]
    return kind


def asked(attempt: int) -> Ask:
    """Return what the function of the task asks for: each attempt writes other rows."""

    def ask(table: Any) -> None:
        table.append({"id": [10 * attempt, 10 * attempt + 1]})
        table.upsert({"id": [10 * attempt + 1, 10 * attempt + 2]}, on="id")
        table.delete(f"id = {10 * attempt}")

    return ask


def rows_of(attempt: int, done: int = WRITES) -> list[int]:
    """Return the rows after so many of an attempt's writes."""
    first = 10 * attempt
    return [[1], [1, first, first + 1], [1, first, first + 1, first + 2], [1, first + 1, first + 2]][done]


class _OfFolder(Lake):
    """A lake that is a folder."""

    def __init__(self, lake: FolderLake) -> None:
        super().__init__()
        self._folder_lake = lake

    def connected(self) -> Springline:
        return cast("Springline", self._folder_lake)


@dataclass(eq=False)
class WriteSet:
    """A folder with a task that is sealed, of whose writes some are committed."""

    folder: Path
    done: int
    objects: dict[ObjectPath, bytes] = field(default_factory=dict)
    older: dict[ObjectPath, list[bytes]] = field(default_factory=dict)
    mine: list[ObjectPath] = field(default_factory=list)


def _staged(lake: FolderLake, made: AttemptOrder) -> list[dict[str, Any]]:
    tables = TaskTables(lambda: lake, TaskOfWrites(made.scope, made.task_key))
    asked(made.attempt)(tables.table("t"))
    tables.close()
    return [one.plain for one in tables.staged]


async def _sealed(lake: FolderLake, store: LocalStore, made: AttemptOrder) -> Seal:
    writes = _staged(lake, made)
    return await seal(store, seal_of(made, writes, worker_id="w", sealed_at_ms=1, output=False, metadata={}))


def _plain(found: Seal) -> list[dict[str, Any]]:
    return [one.model_dump() for one in found.writes]


async def make(folder: Path, done: int) -> WriteSet:
    """Make a folder in which so many writes of the first attempt are committed; another task is sealed, too."""
    lake, store = FolderLake(folder), LocalStore(folder, fsync=False)
    try:
        lake.create_table("t", pa.schema({"id": pa.int64()})).append({"id": [1]})
        found = await _sealed(lake, store, order("x"))
        await _sealed(lake, store, order("y", attempt=7))
        _OfFolder(lake).commit(_plain(found)[:done], [])
    finally:
        lake.close()
        await store.aclose()
    made = WriteSet(folder, done)
    for path in sorted((folder / "effects").rglob("*")):
        if path.is_file():
            made.objects[ObjectPath(str(path.relative_to(folder)))] = path.read_bytes()
    own = write_seal(order("x").scope, "x")
    made.mine = [path for path in made.objects if path.startswith(own.removesuffix(".json"))]
    return made


@dataclass
class WriteCases:
    """What came of all cases so far; each has a folder of its own below `scratch`."""

    scratch: Path
    counts: Counter[str] = field(default_factory=Counter)

    async def run(self, made: WriteSet, one: Damage) -> None:
        """Have the next attempt find a damaged copy. Raises `Wrong` with everything that is needed to look."""
        folder = self.scratch / str(self.counts.total())
        shutil.copytree(made.folder, folder)
        lake, store = FolderLake(folder), LocalStore(folder, fsync=False)
        file = folder / one.path
        if one.data is None:
            file.unlink()
        else:
            file.write_bytes(one.data)
        try:
            said = await self._next(lake, store, made)
            rows = sorted(lake.table("t").to_arrow()["id"].to_pylist())
            self._judge(made, one, rows, said)
            if said is not None:
                # What is restored is finished as it was sealed.
                file.write_bytes(made.objects[one.path])
                again = await self._next(lake, store, made)
                self._judge(made, one, sorted(lake.table("t").to_arrow()["id"].to_pylist()), again, restored=True)
        except Exception as error:
            raise Wrong(f"{made.done} committed: {one.path} {one.how}: {error!r}; {one.data!r}") from error
        finally:
            lake.close()
            await store.aclose()
            shutil.rmtree(folder)

    async def _next(self, lake: FolderLake, store: LocalStore, made: WriteSet) -> str | None:
        """Make the second attempt: what is sealed is committed, else its own; return why not, if it is final."""
        second = order("x", attempt=2)
        try:
            found = await read_seal(store, second.scope, second.task_key)
            if found is None:
                found = await _sealed(lake, store, second)
        except DamagedObject as error:
            return str(error)
        refusal = _OfFolder(lake).commit(_plain(found), [])
        if refusal is None:
            return None
        if refusal["again"] or refusal["reason_code"] != "seal_damaged":
            raise Wrong(f"it is to be tried again, or for another reason: {refusal}")
        return str(refusal["message"])

    def _judge(self, made: WriteSet, one: Damage, rows: list[int], said: str | None, *, restored: bool = False) -> None:
        if restored:
            if said is not None or rows != rows_of(1):
                raise Wrong(f"when it is restored: {said}, and there are {rows}")
            self.counts["restored"] += 1
            return
        if said is None:
            # Without its seal, and with nothing committed, the task is as it was before it was sealed.
            counts = 2 if one.kind == "seal" and one.how == "removed" else 1
            if rows != rows_of(counts):
                raise Wrong(f"there are {rows}, not {rows_of(counts)}")
            self.counts["right"] += 1
            return
        if one.path not in said or "estore it from" not in said:
            raise Wrong(f"the refusal names another, or no remedy: {said}")
        if rows not in [rows_of(1, done) for done in range(made.done, WRITES + 1)]:
            raise Wrong(f"it is refused, and there are {rows}")
        self.counts["named"] += 1


def cases(made: WriteSet, rnd: Random) -> Iterator[Damage]:
    """Yield every damage of every object of the task."""
    for path in made.mine:
        for how in DAMAGES:
            one = damages.damage(made, path, how, rnd, kind_of=kind_of)
            if one is not None:
                yield one
