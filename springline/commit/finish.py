"""Finalizing a reservation, and settling whatever a table has in flight without its owner (docs/protocol.md#rule-2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from springline.commit.log import LogKind, write_log
from springline.commit.markers import write_markers
from springline.commit.table import Held, Table
from springline.delta.coordinator import Coordinator, Inflight
from springline.delta.identity import sha256_hex
from springline.errors import InvariantViolated


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
