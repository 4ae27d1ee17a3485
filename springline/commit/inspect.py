"""Looking at a table without changing it: its state, and what became of a key."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from springline import paths
from springline.commit.complete import read_markers
from springline.commit.snapshot import load_snapshot, probe_latest
from springline.commit.table import CommitTable
from springline.delta.checkpoints import parse_last_checkpoint
from springline.delta.conflicts import ABANDONED_OPERATION, committed_version
from springline.delta.coordinator import Coordinator, Inflight
from springline.delta.markers import Marker
from springline.keys import check_key
from springline.storage.together import together


class InflightView(BaseModel):
    """A reservation in the coordinator, as an operator sees it. Times in Unix milliseconds."""

    commit_id: str
    version: int
    mode: str
    keys: list[str]
    staged_path: str
    started_at_ms: int
    log_written: bool
    markers_written: int


class TableView(BaseModel):
    """A table as stored: what the coordinator says and what the log holds."""

    table_id: str
    root: str
    latest_version: int
    coordinator_version: int | None
    """`latest_version` in the coordinator object; behind the log while a commit is in flight or after a rival's."""
    inflight: InflightView | None
    last_checkpoint: int | None
    protocol: dict[str, Any] | None
    metadata: dict[str, Any] | None


class Fate(StrEnum):
    """What became of a key."""

    COMMITTED = "committed"
    IN_FLIGHT = "in_flight"
    UNKNOWN_KEY = "unknown_key"


class KeyView(BaseModel):
    """The definite answer to "what became of key K?"; `meaning` says it in a sentence."""

    idempotency_key: str
    fate: Fate
    meaning: str
    version: int | None = None
    delta_log_path: str | None = None
    mode: str | None = None
    committed_at_ms: int | None = None
    fingerprint: str | None = None
    """What the committed request was, `operation:fingerprint`, if it said so; the same one gets the first answer."""
    marker_path: str
    inflight: InflightView | None = None


async def table_view(table: CommitTable) -> TableView:
    """Read the table's coordinator and log; changes nothing."""
    held = await table.read_coordinator()
    state = held.state if held else Coordinator(-1)
    hint, snapshot = await together(
        table.store.get(paths.delta_last_checkpoint(table.root)),
        load_snapshot(table.store, table.root, at_least=state.latest_version),
    )
    checkpoint = parse_last_checkpoint(hint.data) if hint else None
    return TableView(
        table_id=table.table_id,
        root=table.root,
        latest_version=snapshot.version,
        coordinator_version=state.latest_version if held else None,
        inflight=await _inflight_view(table, state.inflight) if state.inflight else None,
        last_checkpoint=checkpoint.version if checkpoint else None,
        protocol=snapshot.protocol,
        metadata=snapshot.metadata,
    )


async def latest_version(table: CommitTable) -> int:
    """Return the newest version of the table, whoever wrote it: what a client uses as `read_version`."""
    held = await table.read_coordinator()
    return await probe_latest(table.store, table.root, held.state.latest_version if held else -1)


async def key_view(table: CommitTable, key: str) -> KeyView:
    """Say what became of `key`; raises `Refused` if it is no key. The marker decides, then the reservation."""
    check_key(key)
    # The coordinator first: a commit that ends between the two reads then shows up by its marker.
    held = await table.read_coordinator()
    (marker,) = await read_markers(table, [key])
    marker_path = paths.delta_marker(table.table_id, key)
    if marker is not None:
        return await _committed(table, key, marker, marker_path)
    inflight = held.state.inflight if held else None
    if inflight is not None and key in inflight.keys:
        view = await _inflight_view(table, inflight)
        return KeyView(
            idempotency_key=key,
            fate=Fate.IN_FLIGHT,
            meaning=f"Version {inflight.version} is reserved for it; "
            + ("its log file is written, so it is committed." if view.log_written else "its log is not written yet."),
            version=inflight.version,
            delta_log_path=table.log_path(inflight.version),
            mode=view.mode,
            marker_path=marker_path,
            inflight=view,
        )
    return KeyView(
        idempotency_key=key,
        fate=Fate.UNKNOWN_KEY,
        meaning="No commit of this table carries this key: it was never sent, was refused, or still waits its turn. "
        "Sending it (again) is safe.",
        marker_path=marker_path,
    )


async def _committed(table: CommitTable, key: str, marker: Marker, marker_path: str) -> KeyView:
    log = await table.store.get(paths.workspace_path(marker.delta_log_path))
    operation = committed_version(marker.version, log.data).operation if log else None
    suffix = "" if log else " (log clean-up has removed that log file since)"
    if operation == ABANDONED_OPERATION:
        suffix = " (that version is a fill: call an operator)"
    return KeyView(
        idempotency_key=key,
        fate=Fate.COMMITTED,
        meaning=f"Committed as version {marker.version}{suffix}. The same request gets this answer for ever.",
        version=marker.version,
        delta_log_path=marker.delta_log_path,
        mode=marker.mode.value if marker.mode else "strict",
        committed_at_ms=marker.committed_at_ms,
        fingerprint=marker.fingerprint,
        marker_path=marker_path,
    )


async def _inflight_view(table: CommitTable, inflight: Inflight) -> InflightView:
    log, markers = await together(
        table.store.head(table.log_path(inflight.version)), read_markers(table, inflight.keys)
    )
    return InflightView(
        commit_id=inflight.commit_id,
        version=inflight.version,
        mode=inflight.mode.value if inflight.mode else "strict",
        keys=list(inflight.keys),
        staged_path=inflight.staged_path,
        started_at_ms=inflight.started_at_ms,
        log_written=log is not None,
        markers_written=sum(marker is not None for marker in markers),
    )
