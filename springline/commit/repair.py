"""Repairs a table's damaged objects, except its log, on an operator's request: from its log and its claims.

    coordinator        at the log's latest version
    markers in flight  of the keys that the coordinator names: from the log, else they are removed
    registry entry     root and name by the claims that name the table, found by listing them
    claims             of the root and the name in the entry

Every write is create-only or a compare-and-swap of the damaged object, so repairs are safe while commits go on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from springline import paths
from springline.commit.complete import rebuild_coordinator
from springline.commit.registry import (
    DamagedRecord,
    decode_entry,
    decode_record,
    encode_record,
    has_commits,
    is_table_id,
    not_found,
    read_entry,
    read_record,
)
from springline.commit.snapshot import load_snapshot, probe_latest
from springline.commit.table import CommitTable
from springline.delta.coordinator import Inflight, decode_coordinator
from springline.delta.identity import sha256_hex
from springline.delta.markers import Marker, decode_marker, markers_from_log, markers_of
from springline.delta.rounds import is_log_of
from springline.delta.table_request import Claim, TableEntry
from springline.errors import Code, InvariantViolated, refused
from springline.paths import ObjectPath
from springline.storage.port import ObjectStore
from springline.storage.resolve import replace_object
from springline.storage.scoped import ScopedStore
from springline.storage.together import in_batches

M = TypeVar("M", TableEntry, Claim)

LOGS_TOGETHER = 64
RECORDS_TOGETHER = 256


async def replace_coordinator(table: CommitTable) -> bool:
    """Replace a damaged coordinator by one at the log's latest version; False if it can be read.

    Its reservation is lost with it, which is harmless: if the owner still writes its log file, probing finds it, and
    the markers of the newest log file are written first, as for a missing coordinator.
    """
    path = paths.delta_coordinator(table.table_id)
    stored = await table.store.get(path)
    if stored is None:
        return False
    try:
        decode_coordinator(stored.data, path)
    except InvariantViolated:
        rebuilt = await rebuild_coordinator(table)
        return await table.swap(rebuilt.state, stored.version) is not None
    return False


# Markers of the reservation in flight. Every helper reads them, so that a damaged one would stop the table.


async def repair_markers_in_flight(table: CommitTable) -> list[str]:
    """Repair the damaged markers of the reservation in flight; return the objects that were replaced.

    A key has a marker because it is in the log, so the marker can be made from the log: by the key that a log file
    names, or by the request's exact bytes. If the log has neither, the object is removed: nothing of this request was
    committed, and the reservation goes on.
    """
    held = await table.read_coordinator()
    inflight = None if held is None else held.state.inflight
    if inflight is None:
        return []
    repaired = []
    for key in inflight.keys:
        name = paths.delta_marker(table.table_id, key)
        stored = await table.store.get(name)
        is_damaged = is_no_marker(name, key, table.root)
        if stored is None or not is_damaged(stored.data):
            continue
        marker = await _marker_of(table, inflight, key)
        if marker is None:
            done = await table.store.delete(name, if_version=stored.version)
        else:
            done = await replace_object(table.store, name, marker.encode(name), is_damaged)
        if done:
            repaired.append(str(name))
    return repaired


async def _marker_of(table: CommitTable, inflight: Inflight, key: str) -> Marker | None:
    """Return the marker from the log, None if the log has neither the key nor its request's bytes."""
    path = table.log_path(inflight.version)
    log = await table.store.get(path)
    if log is not None and is_log_of(inflight, log.data, None):
        return next(one for one in markers_of(inflight, path, sha256_hex(log.data)) if one.idempotency_key == key)
    payload = next((one.staged_payload_sha256 for one in inflight.members if one.key == key), None)
    last = await probe_latest(table.store, table.root, inflight.version - 1)
    for end in range(last, -1, -LOGS_TOGETHER):
        versions = range(end, max(-1, end - LOGS_TOGETHER), -1)
        logs = await table.store.read_many([table.log_path(version) for version in versions])
        for version, data in zip(versions, logs, strict=True):
            if data is None:
                continue
            found = markers_from_log(version, table.log_path(version), data)
            of_key = next((one for one in found if one.idempotency_key == key), None)
            if of_key is not None:
                return of_key
            if payload is not None and sha256_hex(data) == payload:
                there = Inflight(
                    key, version - 1, version, inflight.staged_path, inflight.staged_version,
                    inflight.started_at_ms, inflight.expires_at_ms, inflight.writer, inflight.mode, payload,
                    tuple(one for one in inflight.members if one.key == key),
                )  # fmt: skip
                return markers_of(there, table.log_path(version), payload)[0]
    return None


# The registry.


async def registry_problems(store: ScopedStore, table_id: str) -> list[DamagedRecord]:
    """Return what is wrong with a table's entry and its claims; empty for a table that was never registered."""
    path = paths.table_entry(table_id)
    try:
        entry = await read_entry(store, table_id)
    except InvariantViolated as error:
        return [DamagedRecord(path, f"the entry cannot be read: {error}")]
    if entry is None:
        return await _lost_entry(store, table_id)
    problems = []
    for claim_path, value in _claims_of(entry):
        try:
            claim = await read_record(store, claim_path, Claim)
        except InvariantViolated as error:
            problems.append(DamagedRecord(claim_path, f"the claim cannot be read: {error}"))
            continue
        if claim is None:
            problems.append(DamagedRecord(claim_path, f"the claim of {value!r}, which table {table_id} has, is gone"))
        elif claim.table_id != table_id and claim_path == paths.root_claim(entry.root):
            problems.append(
                DamagedRecord(claim_path, f"the root {value!r} is claimed by {claim.table_id}, and {path} has it")
            )
    return problems


async def _lost_entry(store: ScopedStore, table_id: str) -> list[DamagedRecord]:
    """Return the finding of a missing entry, if a claim shows that the table was registered."""
    for root in (paths.new_table_root(table_id, store.scope), paths.default_table_root(table_id)):
        path = paths.root_claim(root)
        if await store.head(path) is not None:
            return [DamagedRecord(paths.table_entry(table_id), f"the entry is gone, and {path} says that it was there")]
    return []


def _claims_of(entry: TableEntry) -> list[tuple[ObjectPath, str]]:
    return [(paths.root_claim(entry.root), entry.root), (paths.name_claim(entry.name), entry.name)]


async def repair_registry(store: ScopedStore, id_or_name: str) -> list[str]:
    """Repair the damaged or missing records of a table in the registry; return the objects that were written.

    By name, its entry must be there if the claim of the name is not. Lists the registry if something is to be repaired.
    Raises `Refused` (TABLE_NOT_FOUND, NOT_FOUND) if no record identifies the table, or its root.
    """
    table_id = id_or_name if is_table_id(id_or_name) else await _id_of_name(store, id_or_name)
    path = paths.table_entry(table_id)
    repaired: list[str] = []
    try:
        entry = await read_entry(store, table_id)
    except InvariantViolated:
        entry = None
    if entry is None:
        entry = await _entry_from_claims(store, table_id)
        if entry is None:
            return []
        if await replace_object(store, path, encode_record(entry, path), _is_no_entry(path, store.scope)):
            repaired.append(str(path))
    for claim_path, value in _claims_of(entry):
        record = encode_record(Claim(table_id=table_id, value=value), claim_path)
        if await replace_object(store, claim_path, record, _is_no_claim(claim_path)):
            repaired.append(str(claim_path))
    return repaired


async def _id_of_name(store: ScopedStore, name: str) -> str:
    """Return the id of the table that has a name: by the claim, else by the entries."""
    try:
        claim = await read_record(store, paths.name_claim(name), Claim)
    except InvariantViolated:
        claim = None
    if claim is not None:
        return claim.table_id
    found = [
        entry.table_id
        for entry in await _records(store, paths.table_entries_prefix(), TableEntry)
        if entry.name == name
    ]
    if len(found) > 1:
        raise refused(
            Code.INVALID_REQUEST,
            f"{len(found)} tables are registered as {name!r}, and {paths.name_claim(name)} does not tell whose it is",
            field="table",
            value=name,
            remedy=f"Name the table that is meant by its id: {', '.join(found[:10])}.",
        )
    if not found:
        raise not_found(name)
    return found[0]


async def _entry_from_claims(store: ScopedStore, table_id: str) -> TableEntry | None:
    """Return the entry of a table by the claims that name it; None if it was never registered."""
    damaged = await store.head(paths.table_entry(table_id)) is not None
    coordinator = paths.delta_coordinator(table_id)
    if not damaged and await store.head(coordinator) is None and not await has_commits(store, table_id):
        return None  # An entry is written before the coordinator: this creation has not reached that step.
    roots = [one.value for one in await _records(store, paths.root_claims_prefix(), Claim) if one.table_id == table_id]
    names = [one.value for one in await _records(store, paths.name_claims_prefix(), Claim) if one.table_id == table_id]
    if not roots and not damaged:
        return None
    root = await _the_root(store, table_id, roots)
    snapshot = await load_snapshot(store, root)
    metadata = snapshot.metadata or {}
    properties = {str(key): str(value) for key, value in (metadata.get("configuration") or {}).items()}
    created = metadata.get("createdTime")
    return TableEntry(
        table_id=table_id,
        name=names[0] if names else f"recovered-{table_id}",
        root=root,
        created_at_ms=created if isinstance(created, int) else 0,
        properties=dict(sorted(properties.items())),
    )


async def _the_root(store: ScopedStore, table_id: str, claimed: list[str]) -> str:
    """Return the one root that has the table's log: of those that it has claimed, else of the default ones."""
    defaults = [paths.new_table_root(table_id, store.scope), paths.default_table_root(table_id)]
    found = [root for root in claimed or defaults if await _holds_log(store, root)]
    if len(found) == 1:
        return found[0]
    said = "no root" if not found else f"{len(found)} roots ({', '.join(found[:3])})"
    raise refused(
        Code.STORED_DAMAGED,
        f"{paths.table_entry(table_id)} is damaged or gone, and {said} with a log can be found for the table",
        field="table",
        value=table_id,
        remedy=f"Restore {paths.table_entry(table_id)}, or the claims under {paths.root_claims_prefix()}, from a copy.",
    )


async def _holds_log(store: ObjectStore, root: str) -> bool:
    names = [paths.delta_log(root, 0), paths.delta_last_checkpoint(root)]
    return any([await store.head(name) is not None for name in names])


async def _records(store: ScopedStore, prefix: ObjectPath, model: type[M]) -> list[M]:
    """Return all readable records of the registry under a prefix."""
    found: list[M] = []
    async for batch in in_batches(store.list(prefix), RECORDS_TOGETHER):
        names = [info.path for info in batch]
        for path, data in zip(names, await store.read_many(names), strict=True):
            with suppress(InvariantViolated):
                if data is not None:
                    found.append(decode_record(data, path, model))
    return found


def _is_no_entry(path: ObjectPath, scope: paths.Scope) -> Callable[[bytes], bool]:
    return lambda data: _is_damaged(lambda: decode_entry(data, path, scope))


def _is_no_claim(path: ObjectPath) -> Callable[[bytes], bool]:
    return lambda data: _is_damaged(lambda: decode_record(data, path, Claim))


def is_no_marker(name: ObjectPath, key: str, root: str) -> Callable[[bytes], bool]:
    """Return a function that says whether bytes read from `name` are not a marker of `key`, of the table at `root`."""
    return lambda data: _is_damaged(lambda: decode_marker(data, name, key, root=root))


def _is_damaged(decode: Callable[[], object]) -> bool:
    try:
        decode()
    except InvariantViolated:
        return True
    return False
