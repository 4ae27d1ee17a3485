"""One table as the protocol's steps see it: its store, its names, and what this process remembers of it.

Everything remembered is either immutable (log files, staged payloads) or checked by a precondition when it is
used (the coordinator's version token), so a stale memory costs a read, never correctness.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from springline import paths
from springline.commit.facts import TableFacts, VersionMemory
from springline.commit.pace import WritePace
from springline.commit.recent import Recent, Shelf
from springline.delta.coordinator import Coordinator, Inflight, decode_coordinator
from springline.delta.payload import Payload
from springline.storage.port import IfAbsent, IfVersion, ObjectStore, Stored, StoreRetry, StoreUnknown

MEMORY_BYTES = 128 * 1024 * 1024
THROTTLE_PAUSES = 80
THROTTLE_PAUSE_S = 0.025


@dataclass(frozen=True, slots=True)
class Held:
    """The coordinator as it was read or written; `token` None means that the object is absent."""

    state: Coordinator
    token: str | None


@dataclass(frozen=True, slots=True)
class Reserved:
    """A reservation this process made or saw, with its log bytes if they are at hand."""

    inflight: Inflight
    token: str | None
    payload: bytes | None


class TableMemory:
    """What a process remembers of the tables it works on: at most `most_bytes`, over all of them.

    Weighed are the bytes that were read or written; as Python objects they take a few times that.
    """

    def __init__(self, most_bytes: int = MEMORY_BYTES) -> None:
        self.reservations: Recent[Reserved] = Recent(entries=10_000, weight=most_bytes // 4)
        self.payloads: Recent[Payload] = Recent(entries=100_000, weight=most_bytes // 2)
        self.versions = VersionMemory(most_bytes // 4)

    @property
    def weight(self) -> int:
        """Bytes remembered."""
        return self.reservations.weight + self.payloads.weight + self.versions.weight


class Table:
    """A table's store (scoped to its workspace), id and root, and the process's memory of it.

    `memory` is shared by the tables of a process, among which `owner` is this one's name; by default it has its own.
    """

    def __init__(
        self,
        store: ObjectStore,
        table_id: str,
        root: str,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        memory: TableMemory | None = None,
        owner: str = "",
    ) -> None:
        memory = TableMemory() if memory is None else memory
        self.store = store
        self.table_id = table_id
        self.root = root
        self.facts = TableFacts(store, root, memory.versions, owner)
        self.reservations = Shelf(memory.reservations, owner)
        self.payloads = Shelf(memory.payloads, owner)
        self.throttled = 0
        """Writes of the coordinator that the store refused because they came too fast."""
        self.pace = WritePace(lambda: asyncio.get_running_loop().time())
        self._pause = pause

    def log_path(self, version: int) -> paths.ObjectPath:
        """Return the path of the log file of `version`."""
        return paths.delta_log(self.root, version)

    async def read_coordinator(self) -> Held | None:
        """Read the coordinator; None if the table has none. Raises `InvariantViolated` if it is damaged."""
        path = paths.delta_coordinator(self.table_id)
        stored = await self.store.get(path)
        if stored is None:
            return None
        return Held(decode_coordinator(stored.data, path), stored.version)

    async def swap(self, state: Coordinator, token: str | None) -> str | None:
        """Compare-and-swap the coordinator; return the new token, or None if that failed or nobody knows.

        After None the caller must read the coordinator again before it decides anything. A throttled write
        (one write per second to one name) certainly did not happen and is repeated here for about 2 s; the
        writes after it wait for their time. However late the write goes out, `token` guards it.
        """
        path = paths.delta_coordinator(self.table_id)
        precondition = IfAbsent() if token is None else IfVersion(token)
        data = state.encode(path)
        if (wait_s := self.pace.wait_s()) > 0:
            await self._pause(wait_s)
        for remaining in range(THROTTLE_PAUSES, -1, -1):
            sent_at = asyncio.get_running_loop().time()
            try:
                result = await self.store.put(path, data, precondition)
            except StoreUnknown:
                return None
            except StoreRetry:
                self.pace.refused()
                if remaining == 0:
                    raise
                self.throttled += 1
                await self._pause(THROTTLE_PAUSE_S)
                continue
            if isinstance(result, Stored):
                self.pace.taken(sent_at)
                return result.version
            return None
        raise AssertionError("unreachable: the last pass returns or raises")

    async def replace(self, inflight: Inflight, token: str | None, state: Coordinator) -> Held | str:
        """Replace the coordinator while it holds `inflight`.

        Returns the new token, or the coordinator as found if it holds that reservation no longer.
        """
        while True:
            new_token = None if token is None else await self.swap(state, token)
            if new_token is not None:
                return new_token
            held = await self.read_coordinator()
            if held is None:
                return Held(Coordinator(-1), None)
            if not holds(held.state, inflight):
                return held
            token = held.token


def holds(state: Coordinator, inflight: Inflight) -> bool:
    """Say whether the coordinator still holds this very reservation, at this version."""
    current = state.inflight
    return current is not None and (current.identity, current.version) == (inflight.identity, inflight.version)


def is_unchanged(held: Held, current: Held | None) -> bool:
    """Say whether nobody has written the coordinator since it was read as `held`; None: it is still absent."""
    return held.token == (None if current is None else current.token)
