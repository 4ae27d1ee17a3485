"""Sensors and backfills on a pipeline under kills: what is due, what was made of it, and what must be true in the end.

What is due is known from the test itself: files that it puts, messages that it pushes, days that it asks for. What was
made is in what functions have noted and, in the long tests, in Delta tables, to which each task adds a row: whatever
was made twice is there twice. Neither asks the ledger.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from springline.client import Springline
from springline.control.runs.apart import SEALED
from springline.control.runs.ends import ENDED_APART
from springline.demo.automation import ItemNote, most_at_once, notes_in
from springline.errors import Code, Refused
from springline.projection.schema import FINISHED_RUN
from springline.storage.scoped import ScopedStore
from springline.work.seals import read_seal
from tests.server.appends import Stopwatch
from tests.server.run_chaos import BEGIN, RunChaos
from tests.support.rows import SCOPE

ARRIVING = "arriving"
BROKEN = "broken.txt"
ITEMS = "items.txt"
MADE = "made.txt"
LOOKS = "looks.txt"
FIRST = date(2024, 1, 1)
AT_ONCE = 2
"""Runs of one backfill that may be under way at the same time."""

Rows = list[dict[str, Any]]


def flow(*, counters: int, asks_every: int, tables: bool) -> str:
    """Return a pipeline with so many sensors that count, each of which asks for a run at every so many steps.

    Beside them are a sensor of files, one of messages, and an asset of days. Only their cursors keep the counters from
    asking twice: their requests have no run keys. With `tables`, whatever is made is a row of a table, too.
    """
    return (
        BEGIN
        + f"""
from springline.sdk import NonRetryable, RunRequest, SensorResult, daily, sensor

HERE = Path(__file__).parent
BROKEN = HERE / {BROKEN!r}

def note(file, *words):
    place = os.open(HERE / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(place, (" ".join(str(word) for word in words) + "\\n").encode())
    os.close(place)

def make(context, table, item, fails=False):
    begin(context)
    note({ITEMS!r}, time.monotonic(), context.run_id, item)
    if {tables}:
        import pyarrow as pa
        context.table(table).append(pa.table({{"item": [item], "run_id": [context.run_id]}}))
    time.sleep(0.5)
    note({ITEMS!r}, time.monotonic(), context.run_id, item)
    if fails:
        raise NonRetryable("it is broken, after it has written")
    note({MADE!r}, table, item, context.run_id)

@made
def beat(context: Context) -> None:
    begin(context)

@made
def taken(context: Context) -> None:
    make(context, "taken", context.config["item"])

@asset(partitions=daily(start="{FIRST}"), heartbeat="3s", retries=8, retry_delay="200ms")
def day(context: Context) -> None:
    key = context.partition_key
    make(context, "days", key, BROKEN.exists() and key in BROKEN.read_text().split())

def counts(sensor_id):
    @sensor(sensor_id=sensor_id, every="1s", select=beat)
    def counter(context):
        number = int(context.cursor or 0) + 1
        note({LOOKS!r}, sensor_id, number)
        asked = [RunRequest(config={{"number": number}})] if number % {asks_every} == 0 else []
        return SensorResult(asked, cursor=str(number))

for place in range({counters}):
    counts(f"counter-{{place}}")

@sensor(every="1s", select=taken)
def files(context):
    found = sorted(file.name for file in (HERE / {ARRIVING!r}).glob("f-*") if file.name > (context.cursor or ""))
    note({LOOKS!r}, "files", len(found))
    asked = [RunRequest(name, config={{"item": name}}) for name in found]
    return SensorResult(asked, cursor=found[-1] if found else None)

@sensor(push=True, select=taken)
def hook(context):
    note({LOOKS!r}, "hook", context.message.message_id)
    return RunRequest(context.message.payload["name"], config={{"item": context.message.payload["name"]}})
"""
    )


def days(first: int, count: int) -> list[str]:
    """Return the keys of so many days from one on."""
    return [str(FIRST + timedelta(days=number)) for number in range(first, first + count)]


class EvaluatorChaos:
    """What was asked of sensors and backfills, and the judgement of it."""

    def __init__(self, chaos: RunChaos, *, asks_every: int, tables: bool) -> None:
        self.chaos = chaos
        self.asks_every = asks_every
        self.tables = tables
        self.items: list[str] = []
        """Files that were put and messages that were pushed, each to be taken once."""
        self.asked: dict[str, list[str]] = {}
        """The days of each backfill."""
        self.cancelled: set[str] = set()
        self.retried: dict[str, str] = {}
        """Backfills of what failed in another, by that one."""
        (chaos.folder / ARRIVING).mkdir()

    # What is due.

    async def put_files(self, count: int, every_s: float) -> None:
        """Put files where a sensor looks, one after the other."""
        for number in range(count):
            self.items.append(f"f-{number:03}")
            (self.chaos.folder / ARRIVING / self.items[-1]).touch()
            await asyncio.sleep(every_s)

    async def push_messages(self, count: int, every_s: float) -> None:
        """Push each message until that is answered, and then once more."""
        for number in range(count):
            name = f"m-{number:03}"
            self.items.append(name)
            for _ in range(2):
                body = {"message_id": name, "payload": {"name": name}}
                await asyncio.to_thread(self.chaos.post, "/api/v1/sensors/hook/messages", body)
            await asyncio.sleep(every_s)

    async def backfill(self, keys: list[str], *, chunk_size: int) -> str:
        """Ask for days, twice under one id; return the backfill's."""
        found = set()
        for _ in range(2):
            answer = await asyncio.to_thread(
                lambda: self.chaos.backfills.create(
                    "day",
                    keys,
                    chunk_size=chunk_size,
                    max_concurrent_runs=AT_ONCE,
                    request_id=f"days-{keys[0]}",
                )
            )
            found.add(str(answer["backfill_id"]))
        (backfill_id,) = found
        self.asked[backfill_id] = keys
        return backfill_id

    async def retry(self, backfill_id: str) -> str:
        """Ask for what failed in a backfill, twice under one id; return the new backfill's."""
        found = set()
        for _ in range(2):
            answer = await asyncio.to_thread(
                lambda: self.chaos.backfills.retry_failed(backfill_id, request_id=f"again-{backfill_id}")
            )
            found.add(str(answer["backfill_id"]))
        (child,) = found
        self.retried[backfill_id] = child
        return child

    async def pause_for(self, backfill_id: str, seconds: float) -> None:
        """Pause a backfill for so long; nothing is planned meanwhile. One that has ended stays as it is."""
        if not await self._changed(self.chaos.backfills.pause, backfill_id):
            return
        while await self._state(backfill_id) == "RUNNING":  # noqa: ASYNC110 - rows, nobody tells
            await asyncio.sleep(0.1)
        planned = await self._chunks(backfill_id)
        await asyncio.sleep(seconds)
        assert await self._chunks(backfill_id) == planned, "a chunk lies behind the pause of its backfill"
        await asyncio.to_thread(self.chaos.backfills.resume, backfill_id)

    async def cancel(self, backfill_id: str) -> None:
        """Cancel a backfill; one that has ended stays as it is."""
        if await self._changed(self.chaos.backfills.cancel, backfill_id):
            self.cancelled.add(backfill_id)

    @staticmethod
    async def _changed(change: Callable[[str], object], backfill_id: str) -> bool:
        try:
            await asyncio.to_thread(change, backfill_id)
        except Refused as error:
            assert error.refusal.code is Code.EVENT_CONFLICT, error
            return False
        return True

    async def _state(self, backfill_id: str) -> str:
        return {row["backfill_id"]: str(row["state"]) for row in await self.chaos.rows("backfills")}[backfill_id]

    async def _chunks(self, backfill_id: str) -> set[int]:
        rows = await self.chaos.rows("x_chunks")
        return {row["chunk_index"] for row in rows if row["backfill_id"] == backfill_id}

    def break_days(self, keys: Iterable[str]) -> None:
        """Have these days fail, without another attempt."""
        (self.chaos.folder / BROKEN).write_text(" ".join(keys))

    # The end.

    async def settled(self, within_s: float) -> float:
        """Wait until nothing is due any more, but for the counters; return after how many seconds that was."""
        watch = Stopwatch()
        while lacking := await self._lacking():
            assert watch.seconds < within_s, f"not settled within {within_s:g} s: {lacking}"
            self.chaos.revive()
            await asyncio.sleep(0.3)
        return watch.seconds

    async def _lacking(self) -> list[str]:
        keys = {row["run_key"] for row in await self.chaos.rows("run_key_index")}
        items = {key.rpartition(":")[2] for key in keys if key.startswith(("sensor:files:", "sensor:hook:"))}
        lacking = [f"no run of {item} was asked for" for item in self.items if item not in items]
        lacking += [f"message {row['message_id']} waits" for row in await self.chaos.rows("x_messages")]
        states = {row["backfill_id"]: row["state"] for row in await self.chaos.rows("backfills")}
        for backfill_id in (*self.asked, *self.retried.values()):
            if states.get(backfill_id) not in FINISHED_RUN:
                lacking.append(f"{backfill_id} is {states.get(backfill_id)}")
        open_chunks = [row["chunk_id"] for row in await self.chaos.rows("x_chunks") if row["outcome"] is None]
        return lacking + [f"chunk {chunk} has not ended" for chunk in open_chunks]

    async def check(self, broken: Iterable[str] = ()) -> str:
        """Check that what was due was made once, and that the ledger says so; return what was judged, in words."""
        notes = notes_in(self._text(ITEMS))
        by: defaultdict[str, set[str]] = defaultdict(set)
        for one in notes:
            by[one.item].add(one.run_id)
        rows = await asyncio.to_thread(self._made)
        # Files and messages: each has one row of one run.
        assert Counter(item for item, _ in rows["taken"]) == Counter(self.items)
        assert {item: by[item] for item in self.items} == {item: {run_id} for item, run_id in rows["taken"]}
        made = Counter(item for item, _ in rows["days"])
        tasks = [row for row in await self.chaos.rows("tasks") if row["asset_key"] == "day"]
        told = await self._told_apart(tasks)
        self._check_days(made, by, tasks, told, set(broken))
        await self._check_chunks(notes, rows["days"], set(broken))
        return await self._check_sensors()

    def _text(self, name: str) -> str:
        place = self.chaos.folder / name
        return place.read_text() if place.exists() else ""

    def _made(self) -> dict[str, list[tuple[str, str]]]:
        """Return what was made, item and run: rows of tables, read by a foreign library, or what was noted."""
        found: dict[str, list[tuple[str, str]]] = {"taken": [], "days": []}
        if not self.tables:
            # An attempt that is lost after it has made something is made again, by the same run.
            for table, item, run_id in {tuple(line.split()) for line in self._text(MADE).splitlines()}:
                found[table].append((item, run_id))
            return found
        stack = self.chaos.cluster.stack
        with Springline(stack.api_url, stack.token()) as lake:
            for name in ("taken", "days"):
                read = pa.table(DeltaTable(lake.table(name).location).to_pyarrow_table())
                found[name] = list(zip(read["item"].to_pylist(), read["run_id"].to_pylist(), strict=True))
        return found

    async def _told_apart(self, tasks: Rows) -> set[str]:
        """Return the days of which a note says that they were made, or sealed, when nobody wanted it any more.

        Whatever is sealed has one, or the end of an attempt that succeeded (docs/protocol.md#write-sets).
        """
        notes = await self.chaos.rows("x_notes")
        apart = {(row["run_id"], row["task_key"]) for row in notes if row["note"] in (ENDED_APART, SEALED)}
        store = ScopedStore(self.chaos.appends.store, SCOPE)
        for row in tasks:
            whose = row["run_id"], row["task_key"]
            if row["state"] == "CANCELLED" and await read_seal(store, *whose) is not None:
                assert whose in apart, f"{whose} is sealed, and the ledger does not say so"
        return {row["partition_key"] for row in tasks if (row["run_id"], row["task_key"]) in apart}

    def _check_days(
        self, made: Counter[str], by: dict[str, set[str]], tasks: Rows, told: set[str], broken: set[str]
    ) -> None:
        """Each day has one row, of a cancelled backfill at most one; and nobody made a day in two runs without need.

        A task that was cancelled before its start was on record may have been made all the same: `told` has it.
        """
        whole = {key for one, keys in self.asked.items() if one not in self.cancelled for key in keys}
        partly = {key for one in self.cancelled for key in self.asked[one]}
        assert set(made) >= whole, f"lost: {sorted(whole - set(made))}"
        assert set(made) <= whole | partly
        assert set(made.values()) == {1}, [day for day, times in made.items() if times != 1]
        for key in whole:
            assert len(by[key]) == (2 if key in broken else 1), (key, by[key])
        for key in partly:
            assert len(by[key]) <= 1, (key, by[key])
        succeeded = {row["partition_key"] for row in tasks if row["state"] == "SUCCEEDED"}
        assert succeeded <= set(made), f"the table lacks {sorted(succeeded - set(made))}"
        untold = set(made) - succeeded - (partly & told)
        assert not untold, f"the ledger does not know that these were made: {sorted(untold)}"

    async def _check_chunks(self, notes: list[ItemNote], made: list[tuple[str, str]], broken: set[str]) -> None:
        """The chunks of each backfill are its days, cut; at most two were under way at once; each has its reason."""
        chunks, ends = await self.chaos.rows("backfill_chunks"), await self.chaos.rows("x_chunks")
        states = {row["backfill_id"]: row["state"] for row in await self.chaos.rows("backfills")}
        runs = {row["run_key"]: row["run_id"] for row in await self.chaos.rows("runs")}
        ended = {row["chunk_id"]: row for row in ends}
        for backfill_id, keys in self.asked.items():
            own = sorted(
                (row for row in chunks if row["backfill_id"] == backfill_id), key=lambda one: one["chunk_index"]
            )
            assert [row["chunk_index"] for row in own] == list(range(len(own)))
            planned = [key for row in own for key in json.loads(row["partition_keys"])]
            whole = backfill_id not in self.cancelled
            assert planned == (keys if whole else keys[: len(planned)])
            known = {(key, runs.get(row["run_key"])) for row in own for key in json.loads(row["partition_keys"])}
            missed = broken & set(keys)
            assert {(key, run_id) for key, run_id in made if key in keys and key not in missed} <= known
            own_runs = {runs.get(row["run_key"]) for row in own}
            assert most_at_once(one for one in notes if one.run_id in own_runs) <= AT_ONCE
            if whole:
                outcomes = {row["chunk_id"]: ended[row["chunk_id"]]["outcome"] for row in own}
                fit = {
                    row["chunk_id"]: "FAILED" if missed & set(json.loads(row["partition_keys"])) else "SUCCEEDED"
                    for row in own
                }
                assert outcomes == fit
                assert states[backfill_id] == ("FAILED" if missed else "SUCCEEDED")
                failed = {key for row in own for key in json.loads(ended[row["chunk_id"]]["failed"] or "[]")}
                assert failed == missed
            else:
                assert states[backfill_id] in ("CANCELLED", "SUCCEEDED")
                unsaid = [row["chunk_id"] for row in own if _is_cut(ended[row["chunk_id"]])]
                assert not unsaid, "a chunk was cancelled, and nobody says why"
        for parent, child in self.retried.items():
            own = [row for row in chunks if row["backfill_id"] == child]
            again = [key for row in own for key in json.loads(row["partition_keys"])]
            assert sorted(again) == sorted(broken & set(self.asked[parent]))
            assert states[child] == "SUCCEEDED"

    async def _check_sensors(self) -> str:
        """Each counter counts on without a gap, each message is answered once, and each failure says what it was."""
        rows = await self.chaos.rows("sensor_evals")
        keys = [row["run_key"] for row in await self.chaos.rows("run_key_index")]
        assert await self.chaos.rows("run_key_conflicts") == []
        looks = Counter(tuple(line.split()) for line in self._text(LOOKS).splitlines())
        counted: defaultdict[str, list[int]] = defaultdict(list)
        statuses: Counter[str] = Counter()
        for row in rows:
            status = json.loads(row["status"])
            statuses[status["status"]] += 1
            assert status["status"] != "error" or status["message"], row
            if row["sensor_id"].startswith("counter-") and status["status"] != "error":
                counted[row["sensor_id"]].append(int(row["cursor_after"]))
        assert "skipped_stale_cursor" not in statuses
        for sensor_id, numbers in counted.items():
            assert sorted(numbers) == list(range(1, len(numbers) + 1)), "a number is missing, or was counted twice"
            assert all(looks[sensor_id, str(number)] for number in numbers), "a number counts, and nobody looked for it"
            asked = sum(key.startswith(f"sensor:{sensor_id}:") for key in keys)
            assert asked == len(numbers) // self.asks_every, (sensor_id, asked, len(numbers))
        answers = Counter(row["trigger_source"] for row in rows if "push" in row["trigger_source"])
        assert set(answers.values()) <= {1}
        print(f"evaluations on record: {dict(statuses)}")
        count = len(self.asked) + len(self.retried)
        return (
            f"{self.chaos.kills.total()} kills, {looks.total()} looks, {len(rows)} evaluations, "
            f"{len(self.items)} items, {count} backfills, {sum(len(keys) for keys in self.asked.values())} days"
        )


def _is_cut(ended: dict[str, Any]) -> bool:
    return ended["outcome"] == "CANCELLED" and not ended["reason_code"]
