"""Write sets over the real library, API and commits: an attempt dies, or waits for another, at every step."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import deltalake
import pytest

from springline.api.tokens import make_token
from springline.client import Springline
from springline.client.staging import TaskOfWrites, staged_of
from springline.client.task_tables import TaskTables, commit_writes
from springline.storage.local import LocalStore
from springline.work.frames import Job, Made
from springline.work.process import JobEnd, ProcessEnded, WritesSettled
from tests.support.local_api import ACME, SECRET, serving
from tests.work.test_write_sets import Found, check
from tests.work.write_world import Attempt, Step, World

pytestmark = pytest.mark.proof


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Springline]:
    root = tmp_path_factory.mktemp("lake")
    with (
        serving(LocalStore(root, fsync=False), url=f"file://{root}") as url,
        Springline(url, make_token(SECRET, ACME, subject="tester"), deadline_s=20) as made,
    ):
        yield made


def program(number: int) -> Sequence[Step]:
    """Each attempt writes other rows, in another order, by every operation."""
    rows = (f"a{number}", f"b{number}")
    steps = [
        Step("append", "t1", rows),
        Step("append", "t2", (f"c{number}", f"d{number}")),
        Step("merge", "t2", (f"c{number}x", f"e{number}")),
        Step("delete", "t2", (f"d{number}",)),
    ]
    return steps if number % 2 else [Step("overwrite", "t2", rows), *steps[2:], *steps[:1]]


class RealProcess:
    """A process of attempts, in this one: it stages and commits by the real library."""

    def __init__(self, lake: Springline, world: World, attempt: Attempt) -> None:
        self._lake = lake
        self._world = world
        self._attempt = attempt
        self._tables: TaskTables | None = None

    async def make(self, job: Job, _bodies: Sequence[bytes], **_: Any) -> JobEnd:
        self._attempt.function_began = True
        self._tables = TaskTables(lambda: self._lake, TaskOfWrites(job.scope, job.task_key))
        for number, one in enumerate(self._world.programs(job.attempt), 1):
            if await self._attempt.step(f"before stage {number}") == "end process":
                return JobEnd(None, ended=ProcessEnded(-9))
            ask(self._tables, f"{one.table}-{job.scope}", one)
        if await self._attempt.step("function has returned") == "end process":
            return JobEnd(None, ended=ProcessEnded(-9))
        self._tables.close()
        writes = [one.plain for one in self._tables.staged]
        return JobEnd(Made(job.number, metadata={"attempt": job.attempt}, writes=writes))

    async def settle(self, writes: Sequence[Any], *, ours: bool, printed: Any) -> WritesSettled | ProcessEnded:
        done = []
        for one in staged_of(writes):
            if await self._attempt.step(f"before commit {one.number}") == "end process":
                return ProcessEnded(-9)
            done += [{"version": made.version, "rows": made.rows} for made in commit_writes(self._lake, [one])]
        if self._tables is not None and not ours:
            self._tables.discard()
        if await self._attempt.step("behind commits") == "end process":
            return ProcessEnded(-9)
        return WritesSettled(done, None)


def ask(tables: TaskTables, name: str, step: Step) -> None:
    """Ask for a write as a function does; the first letter of a row is its key."""
    table = tables.table(name, schema={"k": ["x"], "row": ["x"]})
    rows = {"k": [row[0] for row in step.rows], "row": list(step.rows)}
    if step.operation == "append":
        table.append(rows)
    elif step.operation == "overwrite":
        table.overwrite(rows)
    elif step.operation == "delete":
        table.delete(" OR ".join(f"row = '{row}'" for row in step.rows))
    else:
        table.upsert(rows, on="k")


class RealWorld(World):
    """A world whose tables are those of the lake; each has names of its own."""

    def __init__(self, lake: Springline) -> None:
        super().__init__(program, lambda world, attempt: RealProcess(lake, world, attempt))
        self.lake = lake
        self.run_id = f"run_{uuid.uuid4().hex[:12]}"

    def rows(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for name in ("t1", "t2"):
            try:
                location = self.lake.table(f"{name}-{self.run_id}").location
            except Exception as error:
                assert "does not exist" in str(error) or "no table" in str(error), error
                continue
            rows = deltalake.DeltaTable(location.removeprefix("file://")).to_pyarrow_table()["row"].to_pylist()
            if rows:
                found[name] = sorted(rows)
        return found

    def expected(self, number: int) -> dict[str, list[Any]]:
        return {name: sorted(rows) for name, rows in super().expected(number).items()}

    def data_files(self) -> dict[str, set[str]]:
        """Return by table the data files that lie in its folder and no version names."""
        left: dict[str, set[str]] = {}
        for name in ("t1", "t2"):
            folder = Path(self.lake.table(f"{name}-{self.run_id}").location.removeprefix("file://"))
            named = {
                Path(add["path"]).name
                for log in folder.glob("_delta_log/*.json")
                for line in log.read_bytes().splitlines()
                if (add := json.loads(line).get("add")) is not None
            }
            left[name] = {path.name for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts} - named
        return left


async def _steps(lake: Springline) -> int:
    world, attempt = RealWorld(lake), Attempt(1)
    await world.run(attempt)
    check(world)
    assert world.data_files() == {"t1": set(), "t2": set()}
    return len(attempt.steps)


@pytest.mark.parametrize("how", ["die", "end process"])
async def test_exactly_one_attempt_counts_whatever_dies(lake: Springline, how: str) -> None:
    for at in range(await _steps(lake)):
        world = RealWorld(lake)
        await world.run(Attempt(1, {at: how}))
        check(world, over=False)
        await world.run(Attempt(2))
        check(world)


async def test_exactly_one_attempt_counts_however_two_overlap(lake: Springline) -> None:
    for at in range(await _steps(lake)):
        world = RealWorld(lake)
        zombie = Attempt(1, {at: "wait"})
        running = asyncio.create_task(world.run(zombie))
        await zombie.waits.wait()
        await world.run(Attempt(2))
        check(world)
        zombie.goes_on.set()
        await running
        check(world)
        assert world.data_files() == {"t1": set(), "t2": set()}, "whoever loses removes its files"


async def test_a_change_that_a_rival_overtakes_is_computed_again(lake: Springline) -> None:
    for at in range(await _steps(lake)):
        world = RealWorld(lake)
        attempt = Attempt(1, {at: "wait"})
        running = asyncio.create_task(world.run(attempt))
        await attempt.waits.wait()
        for name in ("t1", "t2"):
            table = lake.create_table(f"{name}-{world.run_id}", {"k": ["x"], "row": ["x"]})
            table.append({"k": ["r", "d"], "row": ["rival", "dare"]})
        attempt.goes_on.set()
        ended = await running
        assert ended is not None
        assert ended.outcome == "succeeded", ended.message
        wanted = {name: sorted([*rows, "rival", "dare"]) for name, rows in world.expected(1).items()}
        assert world.rows() == wanted


async def test_a_program_that_forgets_a_write_is_noticed(lake: Springline) -> None:
    world = RealWorld(lake)
    await world.run(Attempt(1))
    lake.table(f"t1-{world.run_id}").delete("k = 'a'")
    with pytest.raises(Found):
        check(world)
