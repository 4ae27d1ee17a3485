"""A run in words: what it is making for longest, what it waits for, and why. Asked for now and then, not each step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from springline.control.runs.attempts import Attempt
from springline.control.runs.messages import RunningAttempt
from springline.control.runs.progress import RunProgress
from springline.ledger.timestamps import format_ms
from springline.projection.schema import BLOCKED, READY

MOST_LONGEST: Final = 10
MOST_IN_LINE: Final = 50
"""Attempts that are named because they wait for a slot of a pool."""
MOST_NAMED: Final = 3
"""Tasks that a sentence names; it counts the others."""


def longest_running(progress: RunProgress) -> list[RunningAttempt]:
    """Return the attempts that workers have been making for longest, the longest first."""
    begun = [one for one in progress.running.values() if one.started]
    begun.sort(key=lambda one: (_since_ms(one), one.key))
    return [
        RunningAttempt(task_key=one.key, attempt=one.number, worker_id=one.worker_id, since_ms=_since_ms(one))
        for one in begun[:MOST_LONGEST]
    ]


def waits_for(progress: RunProgress, most_running: int) -> list[str]:
    """Say what a run waits for, and why. `most_running`: attempts of it that are under way at once."""
    counts = progress.counts
    lines = []
    if progress.held:
        lines.append("the workspace is held: nothing begins until the hold ends")
    queues: defaultdict[tuple[str, str | None], list[Attempt]] = defaultdict(list)
    posted: defaultdict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for one in progress.running.values():
        if not one.started and one.remote is not None:
            done = "taken" if one.remote.heard_ms is None else "started"
            posted[progress.asset_of(one.key).url or "", done].append(one)
        elif not one.started and one.order is None:
            asset = progress.asset_of(one.key)
            queues[asset.location, asset.queue].append(one)
    for (location, queue), waiting in sorted(queues.items(), key=lambda one: (one[0][0], one[0][1] or "")):
        since = format_ms(min(one.said_ms for one in waiting))
        place = f"code location {location}" + ("" if queue is None else f", queue {queue}")
        lines.append(f"{_named([one.key for one in waiting])}: no worker of {place} has begun, since {since}")
    for (url, done), waiting in sorted(posted.items(), key=lambda one: one[0]):
        since = format_ms(min(one.said_ms for one in waiting))
        lines.append(f"{_named([one.key for one in waiting])}: the worker at {url} has not {done} it, since {since}")
    lines += progress.waits_for(MOST_IN_LINE)
    retries = progress.retries
    if retries:
        next_ms = min((at_ms for _, at_ms in retries if at_ms is not None), default=None)
        when = "at once" if next_ms is None else f"the first at {format_ms(next_ms)}"
        lines.append(f"{_named([key for key, _ in retries])}: another attempt after a failure, {when}")
    if progress.foreign:
        told = _named(sorted(progress.foreign))
        lines.append(f"{told}: an attempt of another workflow of this run, which is taken over when it stands still")
    ready = counts.get(READY, 0)
    if ready and not progress.held and len(progress.running) >= most_running:
        lines.append(f"{ready} ready task(s): {most_running} attempts are under way, and no more may be")
    if counts.get(BLOCKED) and not progress.running and not retries and not ready and not progress.foreign:
        lines.append(f"{counts[BLOCKED]} blocked task(s): events are being recorded")
    return lines


def _since_ms(one: Attempt) -> int:
    return one.said_ms if one.began_ms is None else one.began_ms


def _named(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:MOST_NAMED])
    return shown if len(keys) <= MOST_NAMED else f"{shown} and {len(keys) - MOST_NAMED:,} more"
