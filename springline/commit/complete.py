"""Writing the log file of a reservation: the step at which a commit happens.

See docs/protocol.md#rule-2, docs/protocol.md#rule-3, docs/protocol.md#rule-4, docs/protocol.md#rule-6.

Owner and helper run the same code. What can be found at the reserved version decides:

    nothing                     write the staged bytes, create-only
    our bytes                   it happened before; go on with the markers
    the fill of this request    somebody abandoned it; clear the reservation
    anything else               foreign, never adopted: an append moves behind it, a strict request is released
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from springline import paths
from springline.commit.snapshot import probe_latest
from springline.commit.table import Held, Table
from springline.delta.conflicts import append_conflict, facts_of_log
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
from springline.delta.request import Mode
from springline.delta.rounds import fill_payload, is_log_of, is_staged_payload, moved, recorded_payload_hash
from springline.errors import InvariantViolated
from springline.storage.resolve import Other, put_once
from springline.storage.together import together


class LogKind(StrEnum):
    """How an attempt to write a reservation's log ended."""

    LOGGED = "logged"
    """The log file is this reservation's; markers come next."""
    VOID = "void"
    """A member already had another version; the reservation is cleared and nothing was written."""
    ABANDONED = "abandoned"
    """The staged payload is gone; the version is filled and the reservation cleared."""
    RELEASED = "released"
    """A foreign file took the version and the request cannot follow it; the reservation is cleared."""
    SUPERSEDED = "superseded"
    """The coordinator holds this reservation no longer: somebody else brought it to its end."""


@dataclass(frozen=True, slots=True)
class LogResult:
    """The end of `write_log`: the reservation as it finally stands, its token, and the log's payload hash."""

    kind: LogKind
    inflight: Inflight
    token: str | None
    payload_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class _Moved:
    inflight: Inflight
    token: str | None


async def write_log(table: Table, inflight: Inflight, token: str | None, payload: bytes | None) -> LogResult:
    """Bring the log file of a reservation into being, or find out why it cannot be.

    `inflight` and `token` are the reservation as it was read or written before this call; `payload` its log
    bytes if they are at hand, else they are read from staging. Safe to repeat and to run twice at once.
    """
    while True:
        markers, staged = await _read_before_writing(table, inflight, payload)
        log_path = table.log_path(inflight.version)
        verdict = judge_markers(inflight, log_path, markers)
        if verdict is MarkerVerdict.VOID:
            return await _clear(table, inflight, token, LogKind.VOID, latest=inflight.version - 1)
        if verdict is MarkerVerdict.WRITTEN:
            return LogResult(LogKind.LOGGED, inflight, token, recorded_payload_hash(inflight))
        there = await _write_or_find(table, inflight, staged)
        if is_log_of(inflight, there, staged):
            table.facts.learn(inflight.version, there)
            return LogResult(LogKind.LOGGED, inflight, token, sha256_hex(there))
        if there == fill_payload(inflight):
            return await _clear(table, inflight, token, LogKind.ABANDONED, latest=inflight.version)
        step = await _behind_foreign(table, inflight, token, staged)
        if isinstance(step, LogResult):
            return step
        inflight, token, payload = step.inflight, step.token, staged


async def _read_before_writing(
    table: Table, inflight: Inflight, payload: bytes | None
) -> tuple[list[Marker | None], bytes | None]:
    """Read the members' markers, and the staged bytes unless they are at hand; None if those are gone or changed."""
    if payload is not None:
        return await read_markers(table, inflight.keys), payload
    markers, staged = await together(
        read_markers(table, inflight.keys), table.store.get(paths.relative_path(inflight.staged_path))
    )
    if staged is None or not is_staged_payload(inflight, staged.data, staged.version):
        return markers, None
    return markers, staged.data


async def _write_or_find(table: Table, inflight: Inflight, staged: bytes | None) -> bytes:
    """Write the log file create-only, or its fill if there is nothing to write; return the bytes that are there."""
    path = table.log_path(inflight.version)
    if staged is None:
        existing = await table.store.get(path)
        if existing is not None:
            return existing.data
    data = fill_payload(inflight) if staged is None else staged
    result = await put_once(table.store, path, data)
    return result.data if isinstance(result, Other) else data


async def _clear(table: Table, inflight: Inflight, token: str | None, kind: LogKind, *, latest: int) -> LogResult:
    end = await table.replace(inflight, token, Coordinator(latest))
    if isinstance(end, Held):
        return LogResult(LogKind.SUPERSEDED, inflight, end.token)
    return LogResult(kind, inflight, end)


async def _behind_foreign(
    table: Table, inflight: Inflight, token: str | None, staged: bytes | None
) -> LogResult | _Moved:
    """Move an append to the first free version, or release a reservation that cannot follow a foreign file.

    Releasing is safe only because the reserved version is occupied: no owner can write its log there later.
    """
    latest = await probe_latest(table.store, table.root, inflight.version)
    named = await answer_named_keys(table, range(inflight.version, latest + 1))
    if named.intersection(inflight.keys):
        # One of these files is a member's commit, which the coordinator did not know any more.
        return await _clear(table, inflight, token, LogKind.VOID, latest=latest)
    if inflight.mode is Mode.APPEND and staged is not None:
        later = await table.facts.since(inflight.version - 1, latest)
        txn_apps = facts_of_log(inflight.version, staged).txn_apps
        if append_conflict(inflight.version - 1, txn_apps, later) is None:
            new = moved(inflight, latest)
            end = await table.replace(inflight, token, Coordinator(latest, new))
            if isinstance(end, str):
                return _Moved(new, end)
            return _follow(inflight, end)
    end = await table.replace(inflight, token, Coordinator(latest))
    if isinstance(end, str):
        return LogResult(LogKind.RELEASED, inflight, end)
    return _follow(inflight, end)


def _follow(inflight: Inflight, held: Held) -> LogResult | _Moved:
    """Go on with the same commit where somebody else moved it to, or leave it to whoever ended it."""
    current = held.state.inflight
    if current is not None and current.identity == inflight.identity:
        return _Moved(current, held.token)
    return LogResult(LogKind.SUPERSEDED, inflight, held.token)


LOGS_TOGETHER = 32


async def read_markers(table: Table, keys: Sequence[str]) -> list[Marker | None]:
    """Read the markers of `keys`, together; None where there is none."""
    names = [paths.delta_marker(table.table_id, key) for key in keys]
    stored = await together(*(table.store.get(name) for name in names))
    return [
        None if one is None else decode_marker(one.data, name, key)
        for key, name, one in zip(keys, names, stored, strict=True)
    ]


async def write_markers(table: Table, inflight: Inflight, payload_sha256: str) -> None:
    """Write the markers of a reservation whose log file is written, together and create-only.

    Safe to repeat and to run twice at once. Raises `InvariantViolated` if a key already has another answer.
    """
    wanted = markers_of(inflight, table.log_path(inflight.version), payload_sha256)
    names = [paths.delta_marker(table.table_id, marker.idempotency_key) for marker in wanted]
    written = await together(
        *(put_once(table.store, name, marker.encode(name)) for name, marker in zip(names, wanted, strict=True))
    )
    for name, marker, result in zip(names, wanted, written, strict=True):
        if isinstance(result, Other):
            existing = decode_marker(result.data, name, marker.idempotency_key)
            if not marker_is_ours(existing, marker, inflight, payload_sha256):
                raise InvariantViolated(
                    f"{name} answers key {marker.idempotency_key} with version {existing.version}, "
                    f"but the log of version {marker.version} holds the same key"
                )


async def answer_named_keys(table: Table, versions: Sequence[int]) -> set[str]:
    """Write the markers of all keys that the log files of some versions name; return these keys.

    For versions that the coordinator did not tell of: somebody committed them past the sequencer, or an older copy of
    the coordinator is back, and a request that is in the log must not be committed once more.
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
        names = [paths.delta_marker(table.table_id, marker.idempotency_key) for marker in found]
        await together(
            *(put_once(table.store, name, marker.encode(name)) for name, marker in zip(names, found, strict=True))
        )
        keys.update(marker.idempotency_key for marker in found)
    return keys


class SettledKind(StrEnum):
    """What became of a reservation that somebody else had left."""

    COMPLETED = "completed"
    ABANDONED = "abandoned"
    RELEASED = "released"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Settled:
    """One reservation brought to its end by a helper."""

    kind: SettledKind
    commit_id: str
    version: int
    keys: tuple[str, ...]


_SETTLED = {
    LogKind.LOGGED: SettledKind.COMPLETED,
    LogKind.ABANDONED: SettledKind.ABANDONED,
    LogKind.RELEASED: SettledKind.RELEASED,
    LogKind.VOID: SettledKind.VOID,
}


async def finalize(table: Table, inflight: Inflight, token: str | None) -> None:
    """Clear a reservation whose log and markers are all written; no harm if somebody else did."""
    await table.replace(inflight, token, Coordinator(inflight.version))


async def finish_markers(table: Table, inflight: Inflight, payload_sha256: str | None) -> None:
    """Write the markers of a logged reservation, reading the log file if its payload hash is not known."""
    if payload_sha256 is None:
        log = await table.store.get(table.log_path(inflight.version))
        if log is None:
            raise InvariantViolated(
                f"{table.log_path(inflight.version)} is missing, but a marker of {inflight.commit_id} points to it"
            )
        payload_sha256 = sha256_hex(log.data)
    await write_markers(table, inflight, payload_sha256)


async def settle(table: Table, held: Held | None = None) -> list[Settled]:
    """Complete or abandon what the table has in flight, from stored bytes alone; return what was done, in order.

    Needs no clock, lease or Temporal history. `held` is the coordinator if the caller has just read it.
    """
    done: list[Settled] = []
    while True:
        held = held or await table.read_coordinator()
        if held is None or held.state.inflight is None:
            return done
        result = await write_log(table, held.state.inflight, held.token, None)
        if result.kind is LogKind.LOGGED:
            await finish_markers(table, result.inflight, result.payload_sha256)
            await finalize(table, result.inflight, result.token)
        if result.kind is not LogKind.SUPERSEDED:
            inflight = result.inflight
            done.append(Settled(_SETTLED[result.kind], inflight.commit_id, inflight.version, inflight.keys))
        held = None
