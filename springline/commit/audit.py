"""Whether a table's coordinator, log and markers agree, and writing the markers that the log calls for.

Each log file is judged as a payload would be, whoever wrote it: what is malformed by that judgement some reader cannot
open. A table whose log has neither protocol nor metadata is no Delta table yet, and its files are not judged.

The log is the truth: what stands in it is committed. It names the keys of our own commits (rounds name their members,
our client's commits carry `txnId`), so their markers can be checked and written anew. Nothing is listed: versions are
read by name. Of a commit that names no key nobody can say more than its version.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from springline import paths
from springline.commit.bootstrap import rebuild_coordinator
from springline.commit.live_files import keeps_files
from springline.commit.snapshot import checkpoint_at, probe_latest, read_last_checkpoint
from springline.commit.table import Table
from springline.delta.coordinator import Coordinator, decode_coordinator
from springline.delta.facts import facts_of_log
from springline.delta.features import require_supported
from springline.delta.fit import judge_fit
from springline.delta.marker import Marker, decode_marker
from springline.delta.payload import Payload, parse_payload
from springline.delta.recovered import markers_from_log
from springline.errors import InvariantViolated, Refused
from springline.storage.port import StoredObject
from springline.storage.resolve import Other, put_once

VERSIONS_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be. `mended`: it is now."""

    object: str
    problem: str
    remedy: str
    mended: bool = False


@dataclass(slots=True)
class Audit:
    """What was looked at and found.

    `first` and `last` version of the log that were read; `keys` that it names, `answered` by their markers.
    `nameless`: versions whose commit names no key.
    """

    first: int
    last: int
    coordinator: Coordinator | None = None
    keys: int = 0
    answered: int = 0
    nameless: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all is as it should be, or is so now."""
        return all(one.mended for one in self.findings)


async def audit(table: Table, *, mend: bool = False) -> Audit:
    """Look at all of a table's protocol objects; with `mend`, write markers that are missing.

    Safe while commits go on: what is written is create-only. A reservation in flight is no finding. Raises what the
    store does.
    """
    stored = await table.store.get(paths.delta_coordinator(table.table_id))
    state, damage = _coordinator(table, stored)
    first, last = await _extent(table, -1 if state is None else state.latest_version)
    found = Audit(first, last, state)
    if damage is not None:
        found.findings.append(damage)
    if state is not None and state.latest_version > last:
        missing = f"{table.log_path(last + 1)} and up to version {state.latest_version}"
        remedy = "Restore the log files from a copy: readers miss what was committed there."
        found.findings.append(
            Finding(missing, "the coordinator says that these are committed, and they are gone", remedy)
        )
    judge = None if mend else await _LogJudge.at(table, first)
    in_flight = state.inflight if state is not None else None
    skipped = -1 if in_flight is None else in_flight.version
    for start in range(first, last + 1, VERSIONS_TOGETHER):
        versions = range(start, min(last + 1, start + VERSIONS_TOGETHER))
        logs = await table.store.read_many([table.log_path(version) for version in versions])
        for version, log in zip(versions, logs, strict=True):
            if log is None:
                remedy = "Restore the log file from a copy: no reader can go past it."
                found.findings.append(Finding(table.log_path(version), "the log has a gap here", remedy))
                continue
            if judge is not None and (problem := await judge.problem(version, log)) is not None:
                found.findings.append(Finding(table.log_path(version), *problem))
            await _check_markers(table, version, log, found, mend=mend, may_lack=version == skipped)
    return found


class _LogJudge:
    """Judges a table's log files one after the other, each against the protocol and metadata before it."""

    def __init__(self, table: Table, protocol: dict[str, Any] | None, metadata: dict[str, Any] | None) -> None:
        self.table = table
        self.protocol = protocol
        self.metadata = metadata

    @classmethod
    async def at(cls, table: Table, first: int) -> _LogJudge:
        """Return a judge for the log from version `first` on, which is 0 or a checkpoint's."""
        known = await checkpoint_at(table.store, table.root, first) if first else None
        return cls(table, *((None, None) if known is None else (known.protocol, known.metadata)))

    async def problem(self, version: int, log: bytes) -> tuple[str, str] | None:
        """Return what is wrong with a version's log file and what to do, None if nothing is."""
        try:
            payload = await asyncio.to_thread(parse_payload, log, complete=False, limit=len(log), own=True)
            await self._fit(version, payload)
        except Refused as error:
            facts = facts_of_log(version, log)
            if facts.protocol is not None or facts.metadata is not None:
                # What follows is judged again from the next good metadata on: one fault is named once.
                self.protocol = self.metadata = None
            refusal = error.refusal
            remedy = "Let an engine that still opens the table repair it, or restore the log to the version before."
            return f"the log file is malformed: {refusal.message.replace('payload line', 'line')}", remedy
        self.protocol = payload.protocol or self.protocol
        self.metadata = payload.metadata or self.metadata
        return None

    async def _fit(self, version: int, payload: Payload) -> None:
        protocol, metadata = payload.protocol or self.protocol, payload.metadata or self.metadata
        if protocol is None and metadata is None:
            return
        if payload.incomplete is not None:
            raise Refused(payload.incomplete)
        if protocol is None:
            return
        if payload.protocol is not None or payload.metadata is not None:
            require_supported(protocol, metadata, field="protocol")
        doubt = await asyncio.to_thread(judge_fit, payload, self.protocol, self.metadata, None)
        if doubt is not None and await keeps_files(self.table.store, self.table.root, version - 1, doubt.removed):
            raise Refused(doubt.refusal)


def _coordinator(table: Table, stored: StoredObject | None) -> tuple[Coordinator | None, Finding | None]:
    path = paths.delta_coordinator(table.table_id)
    remedy = "Run `springline table recover --replace-damaged`: it is made anew of the log."
    if stored is None:
        return None, Finding(path, "the coordinator object is gone", remedy)
    try:
        return decode_coordinator(stored.data, path), None
    except InvariantViolated as error:
        return None, Finding(path, f"the coordinator object cannot be read: {error}", remedy)


async def _extent(table: Table, known: int) -> tuple[int, int]:
    """Return the first version whose log file must be there, and the last that is."""
    hint = await read_last_checkpoint(table.store, table.root)
    first = 0
    if hint is not None and await table.store.head(table.log_path(0)) is None:
        first = hint.version  # What lies before a checkpoint may have been cleaned up.
    start = max(first, known)
    if await table.store.head(table.log_path(start)) is None:
        start = await _last_before(table, first, start)
    return first, start if start < first else await probe_latest(table.store, table.root, start)


async def _last_before(table: Table, first: int, above: int) -> int:
    """Return the last version below `above` that is there, at least `first` - 1."""
    low, high = first - 1, above
    while high - low > 1:
        middle = (low + high) // 2
        if await table.store.head(table.log_path(middle)) is not None:
            low = middle
        else:
            high = middle
    return low


async def _check_markers(table: Table, version: int, log: bytes, found: Audit, *, mend: bool, may_lack: bool) -> None:
    """Compare the keys that a log file names with their markers."""
    # Version 0 is a table's creation, which is repeated by the table's id and has no marker.
    wanted = markers_from_log(version, table.log_path(version), log) if version else []
    if not wanted:
        found.nameless += 1
        return
    found.keys += len(wanted)
    names = [paths.delta_marker(table.table_id, marker.idempotency_key) for marker in wanted]
    stored = await table.store.read_many(names)
    for name, marker, one in zip(names, wanted, stored, strict=True):
        if one is not None:
            problem = _contradiction(name, marker, one)
            if problem is None:
                found.answered += 1
            else:
                remedy = "Keep the object as it is and call an operator: a key must have one answer for ever."
                found.findings.append(Finding(name, problem, remedy))
        elif mend:
            result = await put_once(table.store, name, marker.encode())
            found.answered += 1
            said = "the marker was missing" if not isinstance(result, Other) else "the marker was being written"
            found.findings.append(Finding(name, said, "Nothing: it is written.", mended=True))
        elif not may_lack:
            remedy = "Run `springline table recover --markers`: it is written anew of the log."
            found.findings.append(Finding(name, f"the marker of key {marker.idempotency_key} is missing", remedy))


def _contradiction(name: str, marker: Marker, data: bytes) -> str | None:
    try:
        there = decode_marker(data, name)
    except InvariantViolated as error:
        return f"the marker cannot be read: {error}"
    if (there.version, there.delta_log_path) != (marker.version, marker.delta_log_path):
        return (
            f"the marker answers key {marker.idempotency_key} with version {there.version}, "
            f"and the log of version {marker.version} holds the same key"
        )
    if there.staged_payload_sha256 not in (None, marker.staged_payload_sha256):
        return f"the marker of key {marker.idempotency_key} names another payload than the log holds"
    if there.fingerprint not in (None, marker.fingerprint):
        return f"the marker of key {marker.idempotency_key} stands for other rows than the log says"
    return None


async def replace_damaged(table: Table) -> bool:
    """Replace a coordinator object that cannot be read by one at the log's latest version; False if it can be read.

    Whatever it had reserved is lost with it, and no harm: its owner's log file, if it comes, is found by probing, and
    the markers of the newest log file are written first, as for one that is gone.
    """
    path = paths.delta_coordinator(table.table_id)
    stored = await table.store.get(path)
    if stored is None or _coordinator(table, stored)[1] is None:
        return False
    rebuilt = await rebuild_coordinator(table)
    return await table.swap(rebuilt.state, stored.version) is not None
