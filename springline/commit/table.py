"""One table for the protocol's steps: its store, its names, and this process's cache of it.

Everything in the cache is either immutable (log files, staged payloads) or checked by a precondition when it is
used (the coordinator's version token), so a stale entry costs a read, never correctness.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from springline import paths
from springline.caches import Recent, Shelf
from springline.commit.snapshot import load_snapshot
from springline.delta.compatibility import FileRules
from springline.delta.conflicts import CommittedVersion, committed_version
from springline.delta.coordinator import Coordinator, Inflight, decode_coordinator
from springline.delta.payload import Payload
from springline.errors import Refused
from springline.storage.pace import WritePace
from springline.storage.port import IfAbsent, IfVersion, ObjectStore, Stored, StoreRetry, StoreUnknown
from springline.storage.together import together

MEMORY_BYTES = 128 * 1024 * 1024
THROTTLE_PAUSES = 80
THROTTLE_PAUSE_S = 0.025


@dataclass(frozen=True, slots=True)
class Reserved:
    """A reservation that this process made or read, with its log bytes if they are cached."""

    inflight: Inflight
    token: str | None
    payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The coordinator as last read or written; `token` None means that the object is absent."""

    state: Coordinator
    token: str | None

    @property
    def reserved(self) -> Reserved | None:
        """Return the reservation in flight, None if there is none."""
        inflight = self.state.inflight
        return None if inflight is None else Reserved(inflight, self.token)


class TableMemory:
    """A process's cache of the tables that it works on: at most `most_bytes`, over all of them.

    Counts the bytes that were read or written; as Python objects they take a few times that.
    """

    def __init__(self, most_bytes: int = MEMORY_BYTES) -> None:
        self.reservations: Recent[Reserved] = Recent(entries=10_000, weight=most_bytes // 4)
        self.payloads: Recent[Payload] = Recent(entries=100_000, weight=most_bytes // 2)
        self.versions = VersionMemory(most_bytes // 4)

    @property
    def weight(self) -> int:
        """Bytes remembered."""
        return self.reservations.weight + self.payloads.weight + self.versions.weight


class CommitTable:
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
        self.versions = TableVersions(store, root, memory.versions, owner)
        self.reservations = Shelf(memory.reservations, owner)
        self.payloads = Shelf(memory.payloads, owner)
        self.throttled = 0
        """Writes of the coordinator that the store refused because they came too fast."""
        self.pace = WritePace(lambda: asyncio.get_running_loop().time())
        self._pause = pause

    def remember(self, reserved: Reserved) -> None:
        """Cache a reservation for the next steps."""
        self.reservations.put(reserved.inflight.commit_id, reserved, weight=len(reserved.payload or b""))

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
        """Compare-and-swap the coordinator; return the new token, or None if that failed or is unclear.

        After None the caller must read the coordinator again before it decides anything. A throttled write
        (one write per second to one name) certainly did not happen and is repeated here for about 2 s; later
        writes wait for their turn. `token` guards the write, however late it goes out.
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

        Returns the new token, or the current coordinator if it no longer holds that reservation.
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
    """Say whether the coordinator still holds exactly this reservation, at this version."""
    current = state.inflight
    return current is not None and (current.identity, current.version) == (inflight.identity, inflight.version)


def is_unchanged(held: Held, current: Held | None) -> bool:
    """Say whether the coordinator is unchanged since it was read as `held`; None: it is still absent."""
    return held.token == (None if current is None else current.token)


REMEMBERED_VERSIONS = 100_000
_FACTS_BYTES = 400
"""Bytes of the facts of a plain version: an object, a key, an operation."""
READS_TOGETHER = 32
_STATE = "state"


@dataclass(frozen=True, slots=True)
class TableState:
    """Protocol and metadata of a table as of one version; None where the log has none (reference tables)."""

    version: int
    protocol: dict[str, Any] | None
    metadata: dict[str, Any] | None
    source: str | None = None
    """The object that `metadata` was read from, if that is known."""


class VersionMemory:
    """A process's cache of the facts of versions and the states of tables: at most `most_bytes` of each half."""

    def __init__(self, most_bytes: int) -> None:
        self.versions: Recent[CommittedVersion] = Recent(REMEMBERED_VERSIONS, most_bytes // 2)
        self.states: Recent[TableState] = Recent(REMEMBERED_VERSIONS, most_bytes // 2)

    @property
    def weight(self) -> int:
        """Bytes remembered."""
        return self.versions.weight + self.states.weight


class TableVersions:
    """The versions of one table that this process has read or written, kept in `memory` under the table's name."""

    def __init__(self, store: ObjectStore, root: str, memory: VersionMemory, owner: str) -> None:
        self._store = store
        self._root = root
        self._versions = Shelf(memory.versions, owner)
        self._states = Shelf(memory.states, owner)
        self._rules: tuple[TableState, FileRules] | None = None

    def learn(self, version: int, log: bytes) -> CommittedVersion:
        """Return and cache the facts of a version whose log bytes are known."""
        facts = committed_version(version, log)
        self._versions.put(str(version), facts, weight=_weight(facts, log))
        return facts

    async def read(self, wanted: range) -> list[CommittedVersion]:
        """Return the facts of some versions, in order; read those that are not cached.

        A log file that is gone (log clean-up) is returned as unreadable.
        """
        held = {version: self._versions.get(str(version)) for version in wanted}
        found = {version: facts for version, facts in held.items() if facts is not None}
        missing = [version for version in wanted if version not in found]
        for start in range(0, len(missing), READS_TOGETHER):
            batch = missing[start : start + READS_TOGETHER]
            logs = await together(*(self._store.get(paths.delta_log(self._root, version)) for version in batch))
            for version, log in zip(batch, logs, strict=True):
                if log is None:
                    found[version] = CommittedVersion(version, None, None, None, None, frozenset(), readable=False)
                else:
                    found[version] = self.learn(version, log.data)
        return [found[version] for version in wanted]

    async def state(self, latest: int) -> TableState:
        """Return protocol and metadata as of `latest`, from the nearest checkpoint when this process is cold."""
        state = self._states.get(_STATE)
        if state is None or state.version > latest:
            snapshot = await load_snapshot(self._store, self._root, at_least=latest)
            version = max(snapshot.version, latest)
            state = TableState(version, snapshot.protocol, snapshot.metadata, snapshot.source)
        for facts in await self.read(range(state.version + 1, latest + 1)):
            source = state.source if facts.metadata is None else paths.delta_log(self._root, facts.version)
            metadata = facts.metadata or state.metadata
            state = TableState(facts.version, facts.protocol or state.protocol, metadata, source)
        self._states.put(_STATE, state, weight=len(orjson.dumps([state.protocol, state.metadata])))
        return state

    def rules(self, state: TableState) -> FileRules | None:
        """Return the rules of the table in `state` for files, made once; None if protocol or metadata is missing.

        Raises `Refused` (`NOT_A_DELTA_TABLE`) if the table's own metadata cannot be read.
        """
        if state.protocol is None or state.metadata is None:
            return None
        known = self._rules
        if known is None or known[0].protocol is not state.protocol or known[0].metadata is not state.metadata:
            known = (state, self._rules_of(state, state.protocol, state.metadata))
            self._rules = known
        return known[1]

    def _rules_of(self, state: TableState, protocol: dict[str, Any], metadata: dict[str, Any]) -> FileRules:
        try:
            return FileRules(protocol, metadata)
        except Refused as error:
            where = paths.delta_log(self._root, state.version)
            message = f"{error.refusal.message}; it was read from {state.source or f'the log up to {where}'}"
            raise Refused(error.refusal.model_copy(update={"message": message})) from error


def _weight(facts: CommittedVersion, log: bytes) -> int:
    """Return about how many bytes the facts of a version take: those of its schema and properties, if it has any."""
    kept = len(log) if facts.metadata is not None or facts.protocol is not None else 0
    return _FACTS_BYTES + kept + sum(map(len, facts.txn_apps))
