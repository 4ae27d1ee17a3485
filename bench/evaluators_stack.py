"""Schedules on the embedded stack: how late runs are asked for, and what workspaces cost in which nothing is due."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from bench.measure import percentile
from springline.api.tokens import make_token
from springline.client import Springline
from springline.client.http import ApiClient
from springline.config import PREFIX
from springline.ledger.timestamps import format_ms
from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from springline.ulids import ulid_time_ms

SCOPE: Final = Scope("bench", "schedules")
ASSET: Final = {"location": "bench", "assets": [{"key": "raw", "dependencies": []}]}
BATCH: Final = 500
"""Definitions that one request appends."""
WAITS_S: Final = 240.0
SETTLES_S: Final = 75.0
"""Until first passes and looks are over."""

Say = Callable[[str], None]


class TooSlow(Exception):
    """What is measured did not come to an end in time."""


@contextmanager
def stack_in(folder: Path, scope: Scope = SCOPE, *, workers: int = 1) -> Iterator[EmbeddedStack]:
    """Run a stack with so many workers of ours in a folder."""
    with EmbeddedStack(folder, scope=scope, workers=workers, say=lambda _line: None) as stack:
        yield stack


def burst(lake: Springline, manifest_id: str, count: int, say: Say) -> tuple[float, float]:
    """Let so many schedules be due in one second; return the p99 of their lateness, and the last one's, in s."""
    due_s = _a_minute_ahead(count)
    line = time.strftime("%M %H %d %m *", time.gmtime(due_s))
    define(lake, manifest_id, [(f"burst{number}", line, {}) for number in range(count)])
    say(f"{count:,} schedules are due at {format_ms(due_s * 1_000)}")
    late = _lateness(lake, "burst", count, due_s)
    return percentile(late, 0.99), max(late)


def spread(lake: Springline, manifest_id: str, count: int, say: Say) -> float:
    """Let so many schedules be due over one minute, by their jitter; return when the last was decided on, in s.

    It is counted from the beginning of that minute: within it all are decided on if this is 60 s and what one takes.
    """
    due_s = _a_minute_ahead(count)
    line = time.strftime("%M %H %d %m *", time.gmtime(due_s))
    define(lake, manifest_id, [(f"spread{number}", line, {"jitter_seconds": 55}) for number in range(count)])
    say(f"{count:,} schedules are due in the minute of {format_ms(due_s * 1_000)}")
    return max(_lateness(lake, "spread", count, due_s))


def idle(lake: Springline, manifest_id: str, seconds: int) -> float:
    """Let one schedule be due each second while nothing else happens; return the p99 of its lateness, in s."""
    define(lake, manifest_id, [("idle", "", {"interval_seconds": 1})])
    time.sleep(seconds)
    lake.schedules.pause("idle")
    found = [one for one in lake.schedules.ticks("idle") if one["status"]["status"] == "triggered"]
    if len(found) < seconds // 2:
        raise TooSlow(f"{len(found)} ticks of a schedule of every second within {seconds} s")
    # The last ones were decided on by the pause, at once.
    return percentile([one["late_ms"] / 1_000 for one in found[:-1]], 0.99)


def idle_cores(stack: EmbeddedStack, workspaces: int, schedules: int, seconds: float, say: Say) -> float:
    """Return how many cores workspaces take in which nothing is due: worker, API and Temporal together."""
    for number in range(workspaces):
        scope = Scope("bench", f"idle{number:03}")
        with Springline(stack.api_url, token_of(stack, scope), deadline_s=120) as lake:
            manifest_id = deployed(stack, scope)
            define(lake, manifest_id, [(f"s{one}", "0 0 1 1 *", {}) for one in range(schedules)])
    say(f"{workspaces} workspaces with {schedules} schedules each; they settle for {SETTLES_S:g} s")
    time.sleep(SETTLES_S)
    processes = _processes()
    before = _cpu_s(processes)
    time.sleep(seconds)
    return (_cpu_s(processes) - before) / seconds


def token_of(stack: EmbeddedStack, scope: Scope) -> str:
    """Return a token of a workspace of the stack."""
    return make_token(stack.child_environment()[f"{PREFIX}JWT_SECRET"], scope, subject="bench")


def deployed(stack: EmbeddedStack, scope: Scope) -> str:
    """Deploy one asset into a workspace; return the id of the manifest."""
    api = ApiClient(stack.api_url, token_of(stack, scope), deadline_s=120)
    try:
        return str(api.call("POST", "/api/v1/manifests", body=ASSET)["manifest_id"])
    finally:
        api.close()


def define(lake: Springline, manifest_id: str, schedules: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
    """Append definitions of schedules as a deploy would: each name with its cron line and what only we know."""
    for begin in range(0, len(schedules), BATCH):
        lake.ledger.append(
            [
                {
                    "type": "schedule_definition_upserted",
                    "schedule_id": name,
                    "cron_expression": line,
                    "timezone": "UTC",
                    "catchup_window_minutes": 60,
                    "max_catchup_ticks": 100,
                    "asset_selection": ["raw"],
                    "enabled": True,
                    "code_version": manifest_id,
                    "springline": {"dialect": "unix", **more},
                }
                for name, line, more in schedules[begin : begin + BATCH]
            ]
        )


def _a_minute_ahead(count: int) -> int:
    """Return a whole minute that leaves time for so many definitions to be recorded."""
    return (int(time.time()) + 30 + count // 250) // 60 * 60 + 60


def _lateness(lake: Springline, prefix: str, count: int, due_s: int) -> list[float]:
    """Return how late each schedule was decided on, in s, when all have been."""
    time.sleep(max(0.0, due_s + 2 - time.time()))
    deadline = time.monotonic() + WAITS_S
    since = format_ms(due_s * 1_000)
    while True:
        found = [one for one in lake.state.ticks(since=since) if one["schedule_id"].startswith(prefix)]
        if len(found) >= count:
            break
        if time.monotonic() > deadline:
            raise TooSlow(f"{len(found):,} of {count:,} schedules are decided on {WAITS_S:g} s after their instant")
        time.sleep(1)
    if len({one["tick_id"] for one in found}) != count or {one["status"]["status"] for one in found} != {"triggered"}:
        raise TooSlow(f"{len(found):,} ticks of {count:,} schedules, and not each of them one that ran")
    decided = [ulid_time_ms(one["row_version"]) or 0 for one in found]
    return [(one - due_s * 1_000) / 1_000 for one in decided]


def _processes() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for one in processes:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
