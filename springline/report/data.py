"""What a report says of data: how partitions stand, what tasks have written, and how late the ledger recorded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Final

import orjson

from springline.definitions.manifest import DeployedManifest
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
from springline.projection.schema import X_ATTEMPTS
from springline.published.lists import all_of, between, known
from springline.published.reader import ReaderHead
from springline.published.snapshot import StateSnapshot
from springline.report.facts import (
    BUCKETS,
    AssetStrip,
    CommitMark,
    LagPart,
    LedgerFacts,
    StripCell,
    TableLane,
    TimeSpan,
)
from springline.staleness.reading import AssetStands
from springline.ulids import ulid_time_ms

CELLS: Final = 90
"""Partitions of one strip."""
MOST_ASSETS: Final = 60
MOST_TABLES: Final = 40


def read_assets(
    snapshot: StateSnapshot, manifest: DeployedManifest | None, now_ms: int
) -> tuple[list[AssetStrip], int]:
    """Return strips of the latest partitions of assets, stale ones first; of how many assets there is none."""
    if manifest is None:
        return [], 0
    stands = AssetStands(snapshot, manifest, now_ms)
    keys = sorted(stands.assets)
    strips: list[AssetStrip] = []
    for key in keys[: MOST_ASSETS * 4]:
        total = stands.count(key)
        cells = []
        for one in stands.stands(key, max(0, total - CELLS), total):
            failed = one.row is not None and one.row.last_attempt_outcome == "FAILED"
            made = None if one.made is None else one.made.at_ms
            verdict = one.verdict
            cells.append(StripCell(one.key, verdict.state.value, verdict.since_ms, verdict.upstream, made, failed))
        stale = sum(cell.state not in ("CURRENT", "OPEN") for cell in cells)
        strips.append(AssetStrip(key, total, cells, stale))
    strips.sort(key=lambda one: (one.stale == 0, one.asset))
    shown = strips[:MOST_ASSETS]
    return shown, len(keys) - len(shown)


@dataclass(slots=True)
class _Commits:
    """Versions of one table in one part of the time; `last`: its instant, version, operation, task and run."""

    count: int = 0
    rows: int | None = None
    last: tuple[int, int, str | None, str, str] = (-1, -1, None, "", "")


def read_tables(snapshot: StateSnapshot, span: TimeSpan) -> tuple[list[TableLane], int]:
    """Return the Delta tables that tasks of runs have written in the time of a report; how many are left out."""
    lanes: dict[str, TableLane] = {}
    found: dict[tuple[str, int], _Commits] = {}
    names = ("run_id", "task_key", "ended_at", "tables")
    wrote = all_of([known(X_ATTEMPTS, "tables"), between(X_ATTEMPTS, "ended_at", span.since_ms, span.until_ms)])
    seen: set[tuple[str, int]] = set()
    for run_id, task_key, at, tables in snapshot[X_ATTEMPTS.name].values(names, wrote):
        bucket = span.bucket(at)
        for one in orjson.loads(tables):
            table, version, rows = one.get("table"), one.get("version"), one.get("rows")
            if not isinstance(table, str) or not isinstance(version, int) or (table, version) in seen:
                # An attempt that found its task sealed tells what the one before it has written.
                continue
            seen.add((table, version))
            lane = lanes.get(table)
            if lane is None:
                lane = lanes[table] = TableLane(table)
            lane.commits += 1
            lane.rows += rows or 0
            lane.last_version = max(lane.last_version, version)
            part = found.get((table, bucket))
            if part is None:
                part = found[table, bucket] = _Commits()
            part.count += 1
            if rows is not None:
                part.rows = (part.rows or 0) + rows
            if (at, version) >= part.last[:2]:
                part.last = (at, version, one.get("operation"), task_key, run_id)
    for (table, _), part in sorted(found.items()):
        at, version, operation, task_key, run_id = part.last
        lanes[table].marks.append(CommitMark(at, version, part.rows, operation, task_key, run_id, part.count))
    ranked = sorted(lanes.values(), key=lambda one: (-one.commits, one.table))
    return ranked[:MOST_TABLES], len(ranked) - len(ranked[:MOST_TABLES])


def read_ledger(snapshot: StateSnapshot, head: ReaderHead, span: TimeSpan) -> LedgerFacts:
    """Return where the ledger stands, and how late it recorded the ends of attempts in the time of a report."""
    revision = head.revision
    published = None if revision.published_at is None else parse_timestamp(revision.published_at) // NS_PER_MS
    last = None if revision.last_visible_event_id is None else ulid_time_ms(revision.last_visible_event_id)
    committed = head.watermarks.get("last_committed_event_id")
    behind = committed is not None and committed > (revision.last_visible_event_id or "")
    facts = LedgerFacts(head.events, revision.manifest_id, published, last, behind)
    lags: list[list[int]] = [[] for _ in range(BUCKETS)]
    both = [
        known(X_ATTEMPTS, "true_ended_at"),
        between(X_ATTEMPTS, "ended_at", span.since_ms, span.until_ms),
    ]
    for recorded, ended in snapshot[X_ATTEMPTS.name].values(("ended_at", "true_ended_at"), all_of(both)):
        lags[span.bucket(recorded)].append(max(0, recorded - ended))
    every = [lag for part in lags for lag in part]
    if every:
        facts.median_ms, facts.worst_ms = int(median(every)), max(every)
    facts.parts = [
        LagPart(span.begin_of(number), int(median(part)), max(part), len(part))
        for number, part in enumerate(lags)
        if part
    ]
    return facts


def states_of(strips: list[AssetStrip]) -> Counter[str]:
    """Return how many partitions of strips are in each state."""
    return Counter(cell.state for strip in strips for cell in strip.cells)
