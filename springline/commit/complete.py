"""Completing a reservation: its log file, its markers, and clearing it (docs/protocol.md#commit-rules).

See docs/protocol.md#rule-2, docs/protocol.md#rule-3, docs/protocol.md#rule-4, docs/protocol.md#rule-6.

Writing the log file is the step at which a commit happens. Owner and helper run the same code, and neither needs a
clock, a lease or Temporal's history. The object at the reserved version decides:

    none                        write the staged bytes, create-only
    our bytes                   an earlier attempt wrote it; go on with the markers
    the fill of this request    a helper abandoned it; clear the reservation
    anything else               foreign, never adopted: an append moves behind it, a strict request is released
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from springline import paths
from springline.commit.snapshot import load_snapshot, probe_latest, require_no_gap
from springline.commit.table import CommitTable, Held, Reserved
from springline.delta.conflicts import append_conflict, committed_version
from springline.delta.coordinator import Coordinator, Inflight
from springline.delta.identity import sha256_hex
from springline.delta.markers import (
    Marker,
    MarkerVerdict,
    decode_marker,
    judge_markers,
    marker_is_ours,
    markers_from_log,
    markers_of,
)
from springline.delta.messages import (
    CommitMode,
    CommitStep,
    FinalizeOutcome,
    LogKind,
    LogOutcome,
    MarkerOutcome,
    ReservationRef,
    SettledKind,
    settled_by,
)
from springline.delta.rounds import fill_payload, is_log_of, is_staged_payload, moved, recorded_payload_hash
from springline.errors import InvariantViolated
from springline.storage.resolve import Other, put_once
from springline.storage.together import together

LOGS_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class Settled:
    """A reservation that a helper has completed, abandoned or released."""

    kind: SettledKind
    inflight: Inflight


# The owner's steps.


async def write_log(table: CommitTable, step: CommitStep) -> LogOutcome:
    """Write the log file of a reservation, which commits it, or find out why that is not possible.

    Safe to repeat and to run twice at once, as all steps are.
    """
    reserved = await reserved_of(table, step)
    if reserved is None:
        return LogOutcome(kind=LogKind.SUPERSEDED, version=step.version)
    kind, reserved = await bring_log(table, reserved)
    if kind is LogKind.LOGGED:
        table.remember(reserved)
    else:
        table.reservations.drop(step.commit_id)
    return LogOutcome(kind=kind, version=reserved.inflight.version, coordinator_version=reserved.token)


async def write_marker(table: CommitTable, step: CommitStep) -> MarkerOutcome:
    """Write the idempotency markers of all members; their answers are fixed from then on."""
    reserved = await reserved_of(table, step)
    if reserved is None:
        return MarkerOutcome(kind="superseded")
    inflight = reserved.inflight
    await write_markers(table, inflight)
    return MarkerOutcome(
        kind="written",
        delta_log_path=table.log_path(inflight.version),
        members=len(inflight.keys),
        mode=inflight.mode or CommitMode.STRICT,
    )


async def finalize(table: CommitTable, step: ReservationRef) -> FinalizeOutcome:
    """Clear a reservation whose log and markers are all written, unless another process has done so."""
    throttled = table.throttled
    reserved = await reserved_of(table, step)
    if reserved is not None:
        await _cleared(table, reserved, reserved.inflight.version)
        table.reservations.drop(step.commit_id)
    return FinalizeOutcome(throttled=table.throttled - throttled, paced=table.pace.slow)


async def reserved_of(table: CommitTable, ref: ReservationRef) -> Reserved | None:
    """Return a reservation from memory or from the coordinator; None if the coordinator no longer has it."""
    known = table.reservations.get(ref.commit_id)
    if known is not None and (known.inflight.identity, known.inflight.version) == (ref.identity, ref.version):
        return known
    held = await table.read_coordinator()
    reserved = held.reserved if held else None
    return reserved if reserved is not None and reserved.inflight.identity == ref.identity else None


# A helper's.


async def settle(table: CommitTable, held: Held | None = None) -> list[Settled]:
    """Complete or abandon the table's reservations from stored bytes alone; return what was done, in order.

    `held` is the coordinator if the caller has just read it.
    """
    done: list[Settled] = []
    while True:
        held = held or await table.read_coordinator()
        reserved = held.reserved if held else None
        if reserved is None:
            return done
        kind, reserved = await bring_log(table, reserved)
        if kind is LogKind.LOGGED:
            await write_markers(table, reserved.inflight)
            await _cleared(table, reserved, reserved.inflight.version)
        if kind is not LogKind.SUPERSEDED:
            done.append(Settled(settled_by(kind), reserved.inflight))
        held = None


# The log file.


async def bring_log(table: CommitTable, reserved: Reserved) -> tuple[LogKind, Reserved]:
    """Write the log file of a reservation that this process has read or written before.

    Returns how that ended, and the final reservation.
    """
    while True:
        inflight = reserved.inflight
        markers, staged = await _read_before_writing(table, reserved)
        log_path = table.log_path(inflight.version)
        verdict = judge_markers(inflight, log_path, markers)
        if verdict is MarkerVerdict.VOID:
            return await _ended(table, reserved, LogKind.VOID, latest=inflight.version - 1)
        if verdict is MarkerVerdict.WRITTEN:
            return LogKind.LOGGED, reserved
        there = await _write_or_find(table, inflight, staged)
        if is_log_of(inflight, there, staged):
            table.versions.learn(inflight.version, there)
            return LogKind.LOGGED, _with_hash(reserved, there)
        if there == fill_payload(inflight):
            return await _ended(table, reserved, LogKind.ABANDONED, latest=inflight.version)
        kind, reserved = await _behind_foreign(table, replace(reserved, payload=staged))
        if kind is not None:
            return kind, reserved


async def _read_before_writing(table: CommitTable, reserved: Reserved) -> tuple[list[Marker | None], bytes | None]:
    """Read the members' markers, and the staged bytes unless cached; None if those are gone or changed."""
    inflight = reserved.inflight
    if reserved.payload is not None:
        return await read_markers(table, inflight.keys), reserved.payload
    markers, staged = await together(
        read_markers(table, inflight.keys), table.store.get(paths.relative_path(inflight.staged_path))
    )
    if staged is None or not is_staged_payload(inflight, staged.data, staged.version):
        return markers, None
    return markers, staged.data


async def _write_or_find(table: CommitTable, inflight: Inflight, staged: bytes | None) -> bytes:
    """Write the log file create-only, or its fill if the staged bytes are gone; return the stored bytes."""
    path = table.log_path(inflight.version)
    if staged is None:
        existing = await table.store.get(path)
        if existing is not None:
            return existing.data
    data = fill_payload(inflight) if staged is None else staged
    result = await put_once(table.store, path, data)
    return result.data if isinstance(result, Other) else data


def _with_hash(reserved: Reserved, log: bytes) -> Reserved:
    """Return a reservation of the reference, which may lack the hash of its bytes, with the hash of its log file."""
    if recorded_payload_hash(reserved.inflight) is not None:
        return reserved
    return replace(reserved, inflight=replace(reserved.inflight, staged_payload_sha256=sha256_hex(log)))


async def _ended(table: CommitTable, reserved: Reserved, kind: LogKind, *, latest: int) -> tuple[LogKind, Reserved]:
    end = await _cleared(table, reserved, latest)
    if isinstance(end, Held):
        return LogKind.SUPERSEDED, replace(reserved, token=end.token)
    return kind, replace(reserved, token=end)


async def _cleared(table: CommitTable, reserved: Reserved, latest: int) -> Held | str:
    return await table.replace(reserved.inflight, reserved.token, Coordinator(latest))


async def _behind_foreign(table: CommitTable, reserved: Reserved) -> tuple[LogKind | None, Reserved]:
    """Move an append to the first free version, or release a reservation that cannot follow a foreign file.

    Releasing is safe only because the reserved version is taken: no owner can write its log there later. Returns how
    the reservation ended, None if the returned one goes on.
    """
    inflight, staged = reserved.inflight, reserved.payload
    latest = await probe_latest(table.store, table.root, inflight.version)
    named = await answer_named_keys(table, range(inflight.version, latest + 1))
    if named.intersection(inflight.keys):
        # One of these files is a member's commit, which the coordinator no longer knew.
        return await _ended(table, reserved, LogKind.VOID, latest=latest)
    if inflight.mode is CommitMode.APPEND and staged is not None:
        later = await table.versions.read(range(inflight.version, latest + 1))
        txn_apps = committed_version(inflight.version, staged).txn_apps
        if append_conflict(inflight.version - 1, txn_apps, later) is None:
            new = moved(inflight, latest)
            end = await table.replace(inflight, reserved.token, Coordinator(latest, new))
            return (None, Reserved(new, end, staged)) if isinstance(end, str) else _follow(reserved, end)
    end = await _cleared(table, reserved, latest)
    return (LogKind.RELEASED, replace(reserved, token=end)) if isinstance(end, str) else _follow(reserved, end)


def _follow(reserved: Reserved, held: Held) -> tuple[LogKind | None, Reserved]:
    """Go on with the same commit at the version to which another process moved it; stop if that has ended it."""
    current = held.reserved
    if current is not None and current.inflight.identity == reserved.inflight.identity:
        return None, replace(current, payload=reserved.payload)
    return LogKind.SUPERSEDED, replace(reserved, token=held.token)


# Markers.


async def read_markers(table: CommitTable, keys: Sequence[str]) -> list[Marker | None]:
    """Read the markers of `keys`, together; None for a key without one."""
    names = [paths.delta_marker(table.table_id, key) for key in keys]
    stored = await together(*(table.store.get(name) for name in names))
    return [
        None if one is None else decode_marker(one.data, name, key, root=table.root)
        for key, name, one in zip(keys, names, stored, strict=True)
    ]


async def write_markers(table: CommitTable, inflight: Inflight) -> None:
    """Write the markers of a reservation whose log file is written, together and create-only.

    Reads the log file if its hash is not known. Raises `InvariantViolated` if a key already has another answer.
    """
    log_path = table.log_path(inflight.version)
    payload_sha256 = recorded_payload_hash(inflight)
    if payload_sha256 is None:
        log = await table.store.get(log_path)
        if log is None:
            raise InvariantViolated(f"{log_path} is missing, but a marker of {inflight.commit_id} points to it")
        payload_sha256 = sha256_hex(log.data)
    for name, wanted, there in await _put_markers(table, markers_of(inflight, log_path, payload_sha256)):
        if there is None:
            continue
        existing = decode_marker(there, name, wanted.idempotency_key, root=table.root)
        if not marker_is_ours(existing, wanted, inflight, payload_sha256):
            raise InvariantViolated(
                f"{name} answers key {wanted.idempotency_key} with version {existing.version}, "
                f"but the log of version {wanted.version} holds the same key"
            )


async def answer_named_keys(table: CommitTable, versions: Sequence[int]) -> set[str]:
    """Write the markers of all keys that the log files of some versions name; return these keys.

    For versions that the coordinator does not know: a writer committed them without the sequencer, or the coordinator
    is lost or an older copy of it was restored. A request that is in the log must not be committed once more.
    """
    keys: set[str] = set()
    for start in range(0, len(versions), LOGS_TOGETHER):
        some = versions[start : start + LOGS_TOGETHER]
        logs = await together(*(table.store.get(table.log_path(version)) for version in some))
        found = [
            marker
            for version, log in zip(some, logs, strict=True)
            if log is not None
            for marker in markers_from_log(version, table.log_path(version), log.data)
        ]
        await _put_markers(table, found)
        keys.update(marker.idempotency_key for marker in found)
    return keys


async def rebuild_coordinator(table: CommitTable) -> Held:
    """Return the state for a missing coordinator, at the log's latest version; the caller writes it create-only.

    At most one commit can have been in flight when the object was lost, so only the newest log file can lack
    its markers. If it names its requests (rounds do, and our client's commits), the markers are written now.
    """
    latest = (await load_snapshot(table.store, table.root)).version
    await require_no_gap(table.store, table.root, latest)
    if latest >= 0:
        await answer_named_keys(table, [latest])
    return Held(Coordinator(latest), None)


async def _put_markers(table: CommitTable, markers: Sequence[Marker]) -> list[tuple[str, Marker, bytes | None]]:
    """Write markers create-only; return each with its name, and the bytes of another one that has the name."""
    names = [paths.delta_marker(table.table_id, marker.idempotency_key) for marker in markers]
    written = await together(
        *(put_once(table.store, name, marker.encode(name)) for name, marker in zip(names, markers, strict=True))
    )
    return [
        (name, marker, result.data if isinstance(result, Other) else None)
        for name, marker, result in zip(names, markers, written, strict=True)
    ]
