"""A workspace with a day behind it in which much went well and some things did not: for the report, and for eyes.

`python -m tests.support.report_workspace --out FOLDER` writes its report, one of a quiet workspace, one of an empty one
and one with many runs; with `--chromium` also pictures of them, in light and dark, wide and narrow.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from springline.definitions.manifest import DeployedManifest
from springline.ledger.envelope import compose_event, parse_event, payload_from
from springline.ledger.identifiers import dispatch_id, run_id_of_key
from springline.ledger.timestamps import format_ms
from springline.paths import Scope
from springline.projection.config import FoldConfig
from springline.projection.fold.loop import fold_event
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.published.reader import ReaderHead
from springline.published.snapshot import Revision, StateSnapshot, TableRows
from springline.report.facts import Report, TimeSpan
from springline.report.gathering import TABLES as OF_REPORT
from springline.report.gathering import gather
from springline.report.page import page_of
from springline.ulids import new_ulid
from tests.support.definitions import asset

NOW_MS = 1_748_781_000_000
"""A Sunday, 1 June 2025, 12:30 UTC."""
HOUR = 3_600_000
MINUTE = 60_000
DAY = 24 * HOUR
SCOPE = Scope("acme", "prod")
MANIFEST = "01JHMPFQ6G000AQKFF00000004"

Json = dict[str, Any]


class Told:
    """What happened, told in any order, and folded in the order of its times."""

    def __init__(self, scope: Scope = SCOPE) -> None:
        self.config = FoldConfig(scope.tenant, scope.workspace)
        self.scope = scope
        self.events: list[tuple[int, int, Json]] = []

    def at(self, ms: int, *payloads: Json) -> None:
        """Let events happen at an instant."""
        for payload in payloads:
            self.events.append((ms, len(self.events), payload))

    def snapshot(self, now_ms: int = NOW_MS) -> tuple[ReaderHead, StateSnapshot]:
        """Return the published state after all that was told."""
        state = State(self.config)
        state.tracking = True
        last = None
        for number, (ms, _, payload) in enumerate(sorted(self.events, key=lambda one: one[:2])):
            last = new_ulid(last, ms, number)
            body = compose_event(
                payload_from(payload),
                event_id=last,
                timestamp_ms=ms,
                tenant=self.scope.tenant,
                workspace=self.scope.workspace,
            )
            fold_event(state, parse_event(body))
        revision = Revision("00000000000000000042", "r", format_ms(now_ms - 1_200), last)
        tables = {name: TableRows.of(TABLES[name], state.rows(name)) for name in OF_REPORT}
        marks = {"last_committed_event_id": last}
        return ReaderHead(revision, len(self.events), 42, marks), StateSnapshot(revision, tables)

    def run_id(self, run_key: str) -> str:
        return run_id_of_key(self.scope.tenant, self.scope.workspace, run_key, self.config.run_id_secret)

    def asked(self, ms: int, run_key: str, assets: list[str], source: Json | None = None) -> str:
        """Let a run be asked for; return its id."""
        manual = {"type": "manual", "user_id": "ada", "request_id": "q"}
        fields = {"run_key": run_key, "request_fingerprint": "f", "asset_selection": assets, "code_version": MANIFEST}
        self.at(ms, {"type": "run_requested", **fields, "trigger_source_ref": source or manual})
        return self.run_id(run_key)

    def begun(self, ms: int, run_key: str, tasks: Iterable[tuple[str, str, str | None]], *, chain: bool = False) -> str:
        """Let a run begin with tasks: key, asset, partition; in a chain each needs the one before. Return its id."""
        run_id = self.run_id(run_key)
        found = list(tasks)
        self.at(
            ms,
            {
                "type": "run_triggered",
                "run_id": run_id,
                "plan_id": f"plan-{run_id}",
                "trigger": {"type": "manual", "user_id": "ada"},
                "root_assets": sorted({asset for _, asset, _ in found}),
                "run_key": run_key,
                "code_version": MANIFEST,
            },
        )
        if found:
            planned = [
                {
                    "key": key,
                    "depends_on": [found[number - 1][0]] if chain and number else [],
                    "asset_key": asset,
                    "partition_key": partition,
                    "max_attempts": 23,
                    "heartbeat_timeout_sec": 60,
                }
                for number, (key, asset, partition) in enumerate(found)
            ]
            plan = [{name: value for name, value in one.items() if value is not None} for one in planned]
            self.at(ms, {"type": "plan_created", "run_id": run_id, "plan_id": f"plan-{run_id}", "tasks": plan})
        return run_id

    def started(self, ms: int, run_id: str, task: str, attempt: int = 1, *, dispatched_ms: int | None = None) -> None:
        self.dispatched(ms - 400 if dispatched_ms is None else dispatched_ms, run_id, task, attempt)
        self.at(ms, {"type": "task_started", **_attempt(run_id, task, attempt), "worker_id": "w-eu-3"})

    def dispatched(self, ms: int, run_id: str, task: str, attempt: int = 1) -> None:
        self.at(
            ms,
            {
                "type": "dispatch_requested",
                "dispatch_id": dispatch_id(run_id, task, attempt),
                **_attempt(run_id, task, attempt),
            },
        )

    def ended(
        self,
        start_ms: int,
        end_ms: int,
        run_id: str,
        task: tuple[str, str, str | None],
        attempt: int = 1,
        *,
        error: str | None = None,
        again: bool = False,
        lag_ms: int = 250,
        writes: tuple[str, int, int] | None = None,
        outcome: str | None = None,
        version: str | None = None,
    ) -> None:
        """Let an attempt start and end; `writes`: a table, its version, and rows."""
        key, made, partition = task
        self.started(start_ms, run_id, key, attempt)
        member: Json = {"started_at": format_ms(start_ms), "ended_at": format_ms(end_ms)}
        if writes is not None:
            table, number, rows = writes
            member["tables"] = [{"table": table, "version": number, "operation": "append", "rows": rows}]
        end: Json = {
            "type": "task_completion_recorded",
            **_attempt(run_id, key, attempt),
            "worker_id": "w-eu-3",
            "outcome": outcome or ("succeeded" if error is None else "failed"),
            "asset_key": made,
            "springline": member,
        }
        if partition is not None:
            end["partition_key"] = partition
        if version is not None:
            end["code_version"] = version
        if error is not None:
            end["error_message"] = error
            end["error"] = {"category": "USER_CODE", "message": error, "retryable": again}
        self.at(end_ms + lag_ms, end)

    def schedule(self, schedule_id: str, cron: str, *, since_ms: int, enabled: bool = True, **member: Any) -> None:
        self.at(
            since_ms,
            {
                "type": "schedule_definition_upserted",
                "schedule_id": schedule_id,
                "cron_expression": cron,
                "timezone": "UTC",
                "catchup_window_minutes": 1_440,
                "max_catchup_ticks": 10,
                "asset_selection": ["*delays"],
                "enabled": enabled,
                "code_version": MANIFEST,
                "springline": {"dialect": "unix", "location": "flights", **member},
            },
        )

    def tick(self, schedule_id: str, due_ms: int, status: Json, *, late_ms: int = 900, asks: bool = False) -> str:
        """Let an instant be decided on; return its run key."""
        run_key = f"sched:{schedule_id}:{due_ms // 1_000}"
        tick_id = f"{schedule_id}:{due_ms // 1_000}"
        fields: Json = {"run_key": run_key, "request_fingerprint": "f"} if asks else {}
        self.at(
            due_ms + late_ms,
            {
                "type": "schedule_ticked",
                "schedule_id": schedule_id,
                "tick_id": tick_id,
                "definition_version": MANIFEST,
                "scheduled_for": format_ms(due_ms),
                "asset_selection": ["delays"],
                "status": status,
                **fields,
            },
        )
        if asks:
            self.asked(
                due_ms + late_ms,
                run_key,
                ["delays"],
                {"type": "schedule", "schedule_id": schedule_id, "tick_id": tick_id},
            )
        return run_key

    def evaluated(self, ms: int, sensor_id: str, status: Json, requests: int = 0, cursor: str | None = None) -> None:
        fields = {"request_fingerprint": "f", "asset_selection": ["orders"]}
        event: Json = {
            "type": "sensor_evaluated",
            "sensor_id": sensor_id,
            "eval_id": f"{sensor_id}:{ms}",
            "trigger_source": {"source": "poll", "poll_epoch": ms // 1_000},
            "status": status,
            "run_requests": [{"run_key": f"sensor:{sensor_id}:{ms}:{one}", **fields} for one in range(requests)],
        }
        self.at(ms, event | ({} if cursor is None else {"cursor_after": cursor}))

    def backfill(
        self, ms: int, backfill_id: str, total: int, size: int, assets: list[str], parent: str | None = None
    ) -> None:
        self.at(
            ms,
            {
                "type": "backfill_created",
                "backfill_id": backfill_id,
                "client_request_id": f"req-{backfill_id}",
                "asset_selection": assets,
                "partition_selector": {"type": "range", "start": "2025-01-01", "end": "2025-12-31"},
                "total_partitions": total,
                "chunk_size": size,
                "max_concurrent_runs": 2,
                **({} if parent is None else {"parent_backfill_id": parent}),
            },
        )

    def chunk(self, planned_ms: int, backfill_id: str, index: int, size: int, end: Json | None = None) -> None:
        """Let a chunk be planned, and end: `end` has `at`, and what its event says."""
        own = {"backfill_id": backfill_id, "chunk_id": f"{backfill_id}:{index}", "chunk_index": index}
        self.at(
            planned_ms,
            {
                "type": "backfill_chunk_planned",
                **own,
                "partition_keys": [f"p{index * size + one:05}" for one in range(size)],
                "run_key": f"backfill:{backfill_id}:chunk:{index}",
                "request_fingerprint": "f",
            },
        )
        if end is not None:
            said = {name: value for name, value in end.items() if name != "at"}
            self.at(end["at"], {"type": "springline_backfill_chunk_ended", **own, **said})


def _attempt(run_id: str, task: str, attempt: int) -> Json:
    return {"run_id": run_id, "task_key": task, "attempt": attempt, "attempt_id": f"att-{run_id}-{task}-{attempt}"}


def manifest_of(*assets: Json) -> DeployedManifest:
    """Return definitions as they are deployed."""
    return DeployedManifest.model_validate(
        {
            "format": 1,
            "manifest_id": MANIFEST,
            "deployed_at_ms": NOW_MS - 60 * DAY,
            "fingerprint": "0" * 64,
            "locations": [],
            "assets": [{**one, "location": "flights"} for one in assets],
        }
    )


def _day(ms: int) -> str:
    return format_ms(ms)[:10]


DEFINITIONS = manifest_of(
    asset("raw_flights", partitions={"kind": "daily", "start": "2025-03-01"}, code_version="7"),
    asset("raw_weather", partitions={"kind": "hourly", "start": "2025-05-01T00"}),
    asset("delays", "raw_flights", partitions={"kind": "daily", "start": "2025-03-01"}, code_version="3"),
    asset("carriers", partitions={"kind": "static", "keys": ["AA", "DL", "LH", "SK", "UA"]}),
    asset("orders", freshness_ms=6 * HOUR),
    asset("report", "delays"),
)


def busy_day(seed: int = 7) -> Told:
    """Tell a day with failures, retries, late and skipped ticks, sensors in error, and backfills half done."""
    chance = random.Random(seed)
    told = Told()
    since = NOW_MS - 40 * DAY
    for name, cron in (("hourly-weather", "0 * * * *"), ("quarter-orders", "*/15 * * * *"), ("nightly", "0 4 * * *")):
        told.schedule(name, cron, since_ms=since)
    told.schedule("weekly-report", "30 6 * * 1", since_ms=NOW_MS - 3 * DAY)
    told.schedule("legacy-export", "0 */6 * * *", since_ms=since)
    told.schedule("experiments", "*/5 * * * *", since_ms=since, enabled=False)
    _history(told, chance)
    _hourly(told, chance)
    _orders(told, chance)
    _nightly(told)
    _legacy(told)
    _going_on(told)
    _sensors(told, chance)
    _backfills(told, chance)
    return told


def _history(told: Told, chance: random.Random) -> None:
    """Make partitions of the weeks before, with gaps."""
    for ago in range(90, 1, -1):
        at = NOW_MS - ago * DAY
        day = _day(at)
        if day < "2025-03-01" or ago in (12, 33, 34, 35, 61):
            continue
        tasks = [(f"raw_flights[{day}]", "raw_flights", day), (f"delays[{day}]", "delays", day)]
        run = told.begun(at + 26 * HOUR, f"api:history-{ago}", tasks)
        version = "7" if ago < 55 else "6"
        told.ended(at + 26 * HOUR, at + 26 * HOUR + 4 * MINUTE, run, tasks[0], version=version)
        if ago not in (8, 40):
            told.ended(at + 26 * HOUR + 4 * MINUTE, at + 26 * HOUR + 6 * MINUTE, run, tasks[1], version="3")
        else:
            error = "KeyError: 'carrier'"
            told.ended(at + 26 * HOUR + 4 * MINUTE, at + 26 * HOUR + 5 * MINUTE, run, tasks[1], error=error)
    again = _day(NOW_MS - 20 * DAY)
    task = (f"raw_flights[{again}]", "raw_flights", again)
    run = told.begun(NOW_MS - 30 * HOUR, "api:again", [task])
    told.ended(NOW_MS - 30 * HOUR, NOW_MS - 30 * HOUR + 3 * MINUTE, run, task, version="7")
    for key in ("AA", "DL", "LH", "SK"):
        task = (f"carriers[{key}]", "carriers", key)
        run = told.begun(NOW_MS - 9 * DAY, f"api:carriers-{key}", [task])
        told.ended(NOW_MS - 9 * DAY, NOW_MS - 9 * DAY + MINUTE, run, task)
    report = ("report", "report", None)
    run = told.begun(NOW_MS - 32 * HOUR, "api:report-1", [report])
    told.ended(NOW_MS - 32 * HOUR, NOW_MS - 32 * HOUR + 2 * MINUTE, run, report)
    for hours in range(200, 26, -1):
        at = NOW_MS // HOUR * HOUR - hours * HOUR
        key = format_ms(at - HOUR)[:13]
        task = (f"raw_weather[{key}]", "raw_weather", key)
        run = told.begun(at + MINUTE, f"api:weather-{hours}", [task])
        told.ended(at + MINUTE, at + MINUTE + 20_000 + chance.randrange(20_000), run, task)


def _hourly(told: Told, chance: random.Random) -> None:
    for hours in range(26, -1, -1):
        due = NOW_MS // HOUR * HOUR - hours * HOUR
        key = format_ms(due - HOUR)[:13]
        late = {9: 14 * MINUTE, 8: 3 * MINUTE}.get(hours, 600 + chance.randrange(1_500))
        run_key = told.tick("hourly-weather", due, {"status": "triggered"}, late_ms=late, asks=True)
        task = (f"raw_weather[{key}]", "raw_weather", key)
        begin = due + late + 700
        run = told.begun(begin, run_key, [task])
        took = 40_000 + chance.randrange(40_000)
        writes = ("weather", 400 - hours, 9_000 + chance.randrange(500))
        if hours in (5, 6, 17):
            error = "TimeoutError: weather.example.com did not answer within 30 s"
            told.ended(begin + 900, begin + 31_000, run, task, error=error, again=True)
            second = begin + 61_000
            if hours == 6:
                told.ended(second, second + 30_000, run, task, 2, error=error)
                continue
            told.ended(second, second + took, run, task, 2, writes=writes)
        else:
            told.ended(begin + 900, begin + took, run, task, writes=writes, lag_ms=9_000 if hours == 9 else 250)


def _orders(told: Told, chance: random.Random) -> None:
    for quarters in range(97, 0, -1):
        due = NOW_MS // (15 * MINUTE) * 15 * MINUTE - quarters * 15 * MINUTE
        if 40 < quarters < 46:
            told.tick("quarter-orders", due, {"status": "skipped", "reason": "a run of the schedule goes on"})
            continue
        late = 500 + chance.randrange(2_000)
        run_key = told.tick("quarter-orders", due, {"status": "triggered"}, late_ms=late, asks=True)
        task = ("orders", "orders", None)
        run = told.begun(due + late + 800, run_key, [task])
        begin = due + late + 1_500
        took = 75 * MINUTE if quarters == 46 else 60_000 + chance.randrange(180_000)
        if quarters in (3, 2, 1):
            error = "psycopg.OperationalError: connection to server at 10.3.0.7 failed: too many connections"
            for attempt in (1, 2, 3):
                begins = begin + (attempt - 1) * 90_000
                told.ended(begins, begins + 20_000, run, task, attempt, error=error, again=attempt < 3)
        else:
            writes = ("orders", 1_200 - quarters, chance.randrange(3_000))
            told.ended(begin, begin + took, run, task, writes=writes, lag_ms=150 + chance.randrange(400))


def _nightly(told: Told) -> None:
    due = NOW_MS // DAY * DAY + 4 * HOUR
    run_key = told.tick("nightly", due, {"status": "triggered"}, asks=True)
    day = _day(NOW_MS - DAY)
    tasks = [(f"raw_flights[{day}]", "raw_flights", day), (f"delays[{day}]", "delays", day), ("report", "report", None)]
    run = told.begun(due + 1_500, run_key, tasks, chain=True)
    told.ended(due + 2_000, due + 12 * MINUTE, run, tasks[0], version="7", writes=("raw_flights", 93, 61_400))
    error = "ValueError: column dep_delay holds 'NA' in 1,204 rows\n  File flights.py, line 44"
    for attempt in (1, 2):
        begin = due + (12 + attempt * 2) * MINUTE
        told.ended(begin, begin + 70_000, run, tasks[1], attempt, error=error, again=attempt < 2)


def _legacy(told: Told) -> None:
    failed = {"status": "failed", "error": "the selection 'export' names no asset"}
    for hours in (24, 18, 12):
        told.tick("legacy-export", NOW_MS // DAY * DAY + 12 * HOUR - hours * HOUR, failed, late_ms=1_200)
    # The instants at 6:00 and 12:00 of today are due, and nobody has decided on them.


def _going_on(told: Told) -> None:
    days = [_day(NOW_MS - ago * DAY) for ago in range(35, 29, -1)]
    tasks = [(f"delays[{day}]", "delays", day) for day in days]
    run = told.begun(NOW_MS - 26 * MINUTE, "cli:rebuild-delays", tasks)
    told.ended(NOW_MS - 25 * MINUTE, NOW_MS - 19 * MINUTE, run, tasks[0], version="3", writes=("delays", 210, 5_012))
    told.started(NOW_MS - 18 * MINUTE, run, tasks[1][0])
    told.ended(NOW_MS - 18 * MINUTE, NOW_MS - 3 * MINUTE, run, tasks[2], error="MemoryError", again=True)
    told.started(NOW_MS - 40_000, run, tasks[3][0])
    told.dispatched(NOW_MS - 11 * MINUTE, run, tasks[4][0])
    stopped = told.begun(NOW_MS - 7 * HOUR, "cli:carriers", [("carriers[AA]", "carriers", "AA")])
    told.started(NOW_MS - 7 * HOUR + 2_000, stopped, "carriers[AA]")
    told.at(
        NOW_MS - 7 * HOUR + 9 * MINUTE,
        {"type": "run_cancel_requested", "run_id": stopped, "requested_by": "ada", "reason": "wrong file"},
    )
    told.ended(
        NOW_MS - 7 * HOUR + 2_000,
        NOW_MS - 7 * HOUR + 9 * MINUTE + 4_000,
        stopped,
        ("carriers[AA]", "carriers", "AA"),
        outcome="cancelled",
    )
    told.asked(NOW_MS - 6 * MINUTE, "cli:waits", ["carriers"])


def _sensors(told: Told, chance: random.Random) -> None:
    for minutes in range(24 * 60, 0, -20):
        at = NOW_MS - minutes * MINUTE
        if chance.random() < 0.3:
            told.evaluated(at, "new-files", {"status": "triggered"}, 1 + chance.randrange(3), cursor=f"f-{minutes}")
        elif minutes % 60 == 0:
            told.evaluated(at, "new-files", {"status": "no_new_data"})
    for minutes in range(20 * 60, 0, -30):
        at = NOW_MS - minutes * MINUTE + 7_000
        broken = minutes < 170
        error = {"status": "error", "message": "HTTPStatusError: 403 Forbidden for https://partners.example.com/drops"}
        told.evaluated(at, "partner-drops", error if broken else {"status": "no_new_data"})
    for number in range(6):
        told.at(
            NOW_MS - (48 - 7 * number) * MINUTE,
            {"type": "springline_sensor_message", "sensor_id": "webhooks", "message_id": f"m-{number}"},
        )
    for hours in range(22, 1, -2):
        told.evaluated(NOW_MS - hours * HOUR, "webhooks", {"status": "triggered"}, 1)
    change = {"type": "springline_sensor_changed", "sensor_id": "table-orders", "change": "paused"}
    told.evaluated(NOW_MS - 20 * HOUR, "table-orders", {"status": "triggered"}, 2)
    told.at(NOW_MS - 15 * HOUR, {**change, "change_id": "c1", "changed_by": "ada"})


def _backfills(told: Told, chance: random.Random) -> None:
    begin = NOW_MS - 5 * HOUR
    told.backfill(begin, "bf_delays_2024", 366, 12, ["delays"])
    at = begin
    for index in range(19):
        at += 9 * MINUTE + chance.randrange(6 * MINUTE)
        ended: Json = {"at": min(at, NOW_MS - 2 * MINUTE), "outcome": "succeeded", "done": 12}
        if index == 11:
            ended |= {"outcome": "failed", "done": 10, "failed": ["p00140", "p00141"]}
        told.chunk(at - 9 * MINUTE, "bf_delays_2024", index, 12, ended)
    for index in (19, 20):
        told.chunk(NOW_MS - 4 * MINUTE, "bf_delays_2024", index, 12)
    begin = NOW_MS - 20 * HOUR
    told.backfill(begin, "bf_weather_april", 720, 48, ["raw_weather"])
    for index in range(6):
        end = begin + (index + 1) * 22 * MINUTE
        told.chunk(end - 20 * MINUTE, "bf_weather_april", index, 48, {"at": end, "outcome": "succeeded", "done": 48})
    told.chunk(begin + 7 * 22 * MINUTE, "bf_weather_april", 6, 48)


def quiet_day() -> Told:
    """Tell a day on which all went well."""
    told = Told()
    told.schedule("hourly-weather", "0 * * * *", since_ms=NOW_MS - 2 * DAY)
    for hours in range(47, -1, -1):
        due = NOW_MS // HOUR * HOUR - hours * HOUR
        key = format_ms(due - HOUR)[:13]
        run_key = told.tick("hourly-weather", due, {"status": "triggered"}, asks=True)
        task = (f"raw_weather[{key}]", "raw_weather", key)
        run = told.begun(due + 1_000, run_key, [task])
        told.ended(due + 2_000, due + 40_000, run, task, writes=("weather", 60 - hours, 9_000))
    return told


QUIET_DEFINITIONS = manifest_of(
    asset("raw_weather", partitions={"kind": "hourly", "start": format_ms(NOW_MS - 46 * HOUR)[:13]})
)


def report_of(told: Told, manifest: DeployedManifest | None = None, *, hours: int = 24, now_ms: int = NOW_MS) -> Report:
    """Return the report of what was told."""
    head, snapshot = told.snapshot(now_ms)
    return gather(told.scope, head, snapshot, manifest, TimeSpan(now_ms - hours * HOUR, now_ms), now_ms)


def many_runs(count: int) -> Told:
    """Tell a day with so many runs of three tasks, of which some failed and some were tried again."""
    chance = random.Random(count)
    told = Told()
    told.schedule("often", "* * * * *", since_ms=NOW_MS - 2 * DAY)
    for number in range(count):
        at = NOW_MS - DAY + number * DAY // count
        tasks = [(f"step{one}[{number}]", f"step{one}", f"{number}") for one in range(3)]
        run = told.begun(at, f"api:{number}", tasks)
        for place, task in enumerate(tasks):
            begin = at + place * 5_000
            fails = chance.random() < 0.02
            if fails:
                told.ended(
                    begin, begin + 2_000, run, task, error=f"ValueError: bad row {chance.randrange(40)}", again=True
                )
            attempt = 2 if fails else 1
            last = fails and chance.random() < 0.3
            writes = (f"table{place}", number + 1, 100)
            begin += 3_000 * (attempt - 1)
            told.ended(begin, begin + 4_000, run, task, attempt, error="ValueError" if last else None, writes=writes)
    return told


def main() -> None:
    """Write the reports, and pictures of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chromium", help="A Chromium, for pictures.")
    parser.add_argument("--runs", type=int, default=2_000, help="Of the workspace with many.")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    reports = {
        "busy": report_of(busy_day(), DEFINITIONS),
        "quiet": report_of(quiet_day(), QUIET_DEFINITIONS),
        "empty": report_of(Told(), None),
        "many": report_of(many_runs(given.runs), None),
    }
    for name, report in reports.items():
        page = given.out / f"{name}.html"
        page.write_text(page_of(report), "utf-8")
        print(page, page.stat().st_size)
        if given.chromium:
            for width in (1400, 420):
                for dark in (False, True):
                    photograph(
                        given.chromium,
                        page,
                        given.out / f"{name}-{width}-{'dark' if dark else 'light'}.png",
                        width,
                        dark,
                    )


def photograph(chromium: str, page: Path, to: Path, width: int, dark: bool) -> None:
    """Take a picture of a page as it stands in a window of some width."""
    height = 7_000 if width > 800 else 9_000
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(
            [
                chromium,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={home}",
                f"--window-size={width},{height}",
                *(["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]),
                f"--screenshot={to}",
                page.absolute().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )
    print(to)


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.1f} s")
