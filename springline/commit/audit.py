"""Checks that a table's coordinator, log and markers agree, and writes missing markers from the log.

Each log file, of any writer, is judged like a payload: a file that fails cannot be opened by some reader. A table whose
log has neither protocol nor metadata is not a Delta table yet, and its files are not judged.

The log is the truth: its versions are committed. It names the keys of our own commits (rounds name their members,
our client's commits have `txnId`), so their markers can be checked and written again. Nothing is listed: versions are
read by name. For a commit that names no key only the version is known. Markers, all of which `deep` lists,
have the hash of their log file, which shows whether it is still the committed one.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Any

from springline import paths
from springline.commit.repair import is_no_marker
from springline.commit.snapshot import (
    checkpoint_at,
    checkpoint_problem,
    keeps_files,
    probe_latest,
    read_last_checkpoint,
)
from springline.commit.table import CommitTable
from springline.delta.checkpoints import parse_last_checkpoint
from springline.delta.compatibility import judge_against_table
from springline.delta.conflicts import committed_version
from springline.delta.coordinator import Coordinator, decode_coordinator
from springline.delta.features import require_supported
from springline.delta.markers import Marker, decode_marker, markers_from_log
from springline.delta.payload import Payload, parse_payload
from springline.errors import InvariantViolated, Refused
from springline.paths import ObjectPath
from springline.storage.port import StoredObject
from springline.storage.resolve import Other, put_once, replace_object
from springline.storage.together import in_batches

VERSIONS_TOGETHER = 64
MARKERS_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """A defect. `repaired`: this call has repaired it."""

    object: str
    problem: str
    remedy: str
    repaired: bool = False


@dataclass(slots=True)
class Audit:
    """What was checked, and the findings.

    `first` and `last` version of the log that were read; `keys` that it names, `answered` by their markers.
    `nameless`: versions whose commit names no key.
    """

    first: int
    last: int
    coordinator: Coordinator | None = None
    keys: int = 0
    answered: int = 0
    nameless: int = 0
    findings: list[AuditFinding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no defect, or all are repaired."""
        return all(one.repaired for one in self.findings)


async def audit(table: CommitTable, *, repair: bool = False, replace: bool = False, deep: bool = False) -> Audit:
    """Check all of a table's protocol objects; with `repair`, write missing markers.

    With `replace` also damaged ones. `deep` lists all markers, too. Safe while commits go on: every write
    is create-only, or replaces a damaged object. A reservation in flight is no finding. Raises the
    store's errors.
    """
    stored = await table.store.get(paths.delta_coordinator(table.table_id))
    state, damage = _coordinator(table, stored)
    first, last = await _extent(table, -1 if state is None else state.latest_version)
    found = Audit(first, last, state, findings=await _checkpoint_findings(table))
    if damage is not None:
        found.findings.append(damage)
    if state is not None and state.latest_version > last:
        missing = f"{table.log_path(last + 1)} and up to version {state.latest_version}"
        remedy = "Restore the log files from a copy: readers miss what was committed there."
        found.findings.append(
            AuditFinding(missing, "the coordinator says that these are committed, and they are gone", remedy)
        )
    judge = None if repair else await _LogJudge.at(table, first)
    checks = _Markers(table, found, repair=repair, replace=replace)
    in_flight = state.inflight if state is not None else None
    skipped = -1 if in_flight is None else in_flight.version
    for start in range(first, last + 1, VERSIONS_TOGETHER):
        versions = range(start, min(last + 1, start + VERSIONS_TOGETHER))
        logs = await table.store.read_many([table.log_path(version) for version in versions])
        for version, log in zip(versions, logs, strict=True):
            if log is None:
                remedy = "Restore the log file from a copy: no reader can go past it."
                found.findings.append(AuditFinding(table.log_path(version), "the log has a gap here", remedy))
                continue
            if judge is not None and (problem := await judge.problem(version, log)) is not None:
                found.findings.append(AuditFinding(table.log_path(version), *problem))
            await checks.of_version(version, log, may_lack=version == skipped)
    if deep:
        await checks.of_listing()
    return found


async def glance(table: CommitTable) -> list[AuditFinding]:
    """Check a table's coordinator, the end of its log and its newest checkpoint, by a few reads.

    Raises the store's errors.
    """
    stored = await table.store.get(paths.delta_coordinator(table.table_id))
    state, damage = _coordinator(table, stored)
    findings = [] if damage is None else [damage]
    if state is not None and state.latest_version >= 0:
        path = table.log_path(state.latest_version)
        if await table.store.head(path) is None:
            remedy = "Restore the log file from a copy: readers miss what was committed there."
            findings.append(AuditFinding(path, "the coordinator says that it is committed, and it is gone", remedy))
    return [*findings, *await _checkpoint_findings(table)]


class _LogJudge:
    """Judges a table's log files one after the other, each against the protocol and metadata before it."""

    def __init__(self, table: CommitTable, protocol: dict[str, Any] | None, metadata: dict[str, Any] | None) -> None:
        self.table = table
        self.protocol = protocol
        self.metadata = metadata

    @classmethod
    async def at(cls, table: CommitTable, first: int) -> _LogJudge:
        """Return a judge for the log from version `first` on, which is 0 or a checkpoint's."""
        known = await checkpoint_at(table.store, table.root, first) if first else None
        return cls(table, *((None, None) if known is None else (known.protocol, known.metadata)))

    async def problem(self, version: int, log: bytes) -> tuple[str, str] | None:
        """Return what is wrong with a version's log file and what to do, None if nothing is."""
        try:
            payload = await asyncio.to_thread(parse_payload, log, complete=False, limit=len(log), own=True)
            await self._fit(version, payload)
        except Refused as error:
            facts = committed_version(version, log)
            if facts.protocol is not None or facts.metadata is not None:
                # Judge later files only from the next good metadata on, so that one fault is named once.
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
        doubt = await asyncio.to_thread(judge_against_table, payload, self.protocol, self.metadata, None)
        if doubt is not None and await keeps_files(self.table.store, self.table.root, version - 1, doubt.removed):
            raise Refused(doubt.refusal)


def _coordinator(table: CommitTable, stored: StoredObject | None) -> tuple[Coordinator | None, AuditFinding | None]:
    path = paths.delta_coordinator(table.table_id)
    remedy = "Run `springline table recover --replace-damaged`: it is made anew of the log."
    if stored is None:
        return None, AuditFinding(path, "the coordinator object is gone", remedy)
    try:
        return decode_coordinator(stored.data, path), None
    except InvariantViolated as error:
        return None, AuditFinding(path, f"the coordinator object cannot be read: {error}", remedy)


async def _extent(table: CommitTable, known: int) -> tuple[int, int]:
    """Return the first version whose log file must exist, and the last whose file does."""
    hint = await read_last_checkpoint(table.store, table.root)
    first = 0
    if hint is not None and await table.store.head(table.log_path(0)) is None:
        first = hint.version  # Versions before a checkpoint may have been cleaned up.
    start = max(first, known)
    if await table.store.head(table.log_path(start)) is None:
        start = await _last_before(table, first, start)
    return first, start if start < first else await probe_latest(table.store, table.root, start)


async def _last_before(table: CommitTable, first: int, above: int) -> int:
    """Return the last existing version below `above`, at least `first` - 1."""
    low, high = first - 1, above
    while high - low > 1:
        middle = (low + high) // 2
        if await table.store.head(table.log_path(middle)) is not None:
            low = middle
        else:
            high = middle
    return low


async def _checkpoint_findings(table: CommitTable) -> list[AuditFinding]:
    """Check that the pointer to the newest checkpoint, and the checkpoint itself, can be read."""
    path = paths.delta_last_checkpoint(table.root)
    stored = await table.store.get(path)
    if stored is None:
        return []
    hint = parse_last_checkpoint(stored.data)
    remedy = "Have an engine write a checkpoint: it is written anew with it. Until then readers read the whole log."
    if hint is None:
        return [AuditFinding(path, "the pointer to the newest checkpoint cannot be read", remedy)]
    problem = await checkpoint_problem(table.store, table.root, hint)
    return [] if problem is None else [AuditFinding(problem[0], f"{problem[1]}, and {path} names it", remedy)]


class _Markers:
    """Compares the keys that log files name, and the log files themselves, with the existing markers."""

    def __init__(self, table: CommitTable, found: Audit, *, repair: bool, replace: bool) -> None:
        self.table = table
        self.found = found
        self.repair = repair
        self.replace = replace
        self._hashes: dict[int, bytes] = {}
        self._altered: set[int] = set()

    async def of_version(self, version: int, log: bytes, *, may_lack: bool) -> None:
        """Check the markers of the keys that a log file names."""
        self._hashes[version] = hashlib.sha256(log).digest()
        # Version 0 is a table's creation, which is idempotent by the table's id and has no marker.
        wanted = markers_from_log(version, self.table.log_path(version), log) if version else []
        if not wanted:
            self.found.nameless += 1
            return
        self.found.keys += len(wanted)
        names = [paths.delta_marker(self.table.table_id, marker.idempotency_key) for marker in wanted]
        there = [
            _decoded(name, data, marker.idempotency_key, self.table.root)
            for name, marker, data in zip(names, wanted, await self.table.store.read_many(names), strict=True)
        ]
        for name, one in zip(names, there, strict=True):
            if isinstance(one, Marker) and one.version == version:
                self._check_log(name, one)
        for name, marker, one in zip(names, wanted, there, strict=True):
            await self._check(name, marker, one, may_lack=may_lack)

    async def _check(self, name: ObjectPath, marker: Marker, there: Marker | str | None, *, may_lack: bool) -> None:
        key = marker.idempotency_key
        if isinstance(there, Marker):
            problem = None if marker.version in self._altered else _contradiction(marker, there)
            if problem is None:
                self.found.answered += 1
            else:
                remedy = "Keep the object as it is and call an operator: a key must have one answer for ever."
                self._add(name, problem, remedy)
            return
        # A log file that was altered proves nothing.
        may_mend = self.repair and marker.version not in self._altered
        if there is None and may_mend:
            result = await put_once(self.table.store, name, marker.encode(name))
            self.found.answered += 1
            said = "the marker was missing" if not isinstance(result, Other) else "the marker was being written"
            self._add(name, said, "Nothing: it is written.", repaired=True)
        elif there is not None and may_mend and self.replace:
            is_damaged = is_no_marker(name, key, self.table.root)
            repaired = await replace_object(self.table.store, name, marker.encode(name), is_damaged)
            self.found.answered += 1
            self._add(name, there, "Nothing: it is written anew.", repaired=repaired)
        elif there is not None:
            remedy = "Run `springline table recover --replace-damaged --markers`: it is written anew of the log."
            self._add(name, there, remedy)
        elif not may_lack:
            remedy = "Run `springline table recover --markers`: it is written anew of the log."
            self._add(name, f"the marker of key {key} is missing", remedy)

    async def of_listing(self) -> None:
        """Check for all existing markers whether the log file that each names is the one that was committed."""
        listing = self.table.store.list(paths.delta_markers_prefix(self.table.table_id))
        async for batch in in_batches(listing, MARKERS_TOGETHER):
            await self._of_batch([info.path for info in batch])

    async def _of_batch(self, batch: list[ObjectPath]) -> None:
        named = {one.object for one in self.found.findings}
        for name, data in zip(batch, await self.table.store.read_many(batch), strict=True):
            one = _decoded(name, data, None, self.table.root)
            if one is None or name in named:
                continue
            if isinstance(one, str):
                self._add(name, one, "Restore the object from a copy: no log file names its key.")
            elif paths.delta_marker(self.table.table_id, one.idempotency_key) != name:
                problem = f"the marker is that of another key, {one.idempotency_key}"
                self._add(name, problem, "Restore the object from a copy.")
            else:
                self._check_log(name, one)

    def _check_log(self, name: ObjectPath, marker: Marker) -> None:
        """Check that the log file that a marker names exists, and is the one that was committed."""
        version = marker.version
        path = self.table.log_path(version) if 0 <= version <= paths.MAX_VERSION else None
        if path is None or marker.delta_log_path != path:
            problem = f"the marker names version {version} as {marker.delta_log_path!r}, where no log file of it lies"
            self._add(name, problem, "Keep the object as it is and call an operator.")
            return
        if version in self._altered or version < self.found.first:
            return
        digest = self._hashes.get(version)
        if digest is None:
            if version > self.found.last:
                self._altered.add(version)
                problem = f"the log file is gone, and {name} says that it was committed"
                self._add(path, problem, "Restore the log file from a copy: readers miss what was committed there.")
        elif marker.log_sha256 not in (None, digest.hex()):
            self._altered.add(version)
            problem = f"the log file is not the one that was committed: it has another SHA-256 than {name} says"
            self._add(path, problem, "Restore the log file from a copy: readers see what was not committed.")

    def _add(self, object_: str, problem: str, remedy: str, *, repaired: bool = False) -> None:
        self.found.findings.append(AuditFinding(object_, problem, remedy, repaired))


def _decoded(name: ObjectPath, data: bytes | None, key: str | None, root: str) -> Marker | str | None:
    """Return the marker in `data`, or what is wrong with it; None if there is none."""
    try:
        return None if data is None else decode_marker(data, name, key, root=root)
    except InvariantViolated as error:
        return f"the marker cannot be read: {error}"


def _contradiction(marker: Marker, there: Marker) -> str | None:
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
