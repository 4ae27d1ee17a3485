"""The facts of committed versions, read once and remembered: log files never change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from springline import paths
from springline.commit.recent import Recent, Shelf
from springline.commit.snapshot import load_snapshot
from springline.delta.facts import VersionFacts, facts_of_log
from springline.delta.fit import FileRules
from springline.errors import Refused
from springline.storage.port import ObjectStore
from springline.storage.together import together

REMEMBERED_VERSIONS = 100_000
_FACTS_BYTES = 400
"""What the facts of a version take that changes nothing: an object, a key, an operation."""
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
    """The facts of versions and the states of tables that a process remembers: at most `most_bytes` of each half."""

    def __init__(self, most_bytes: int) -> None:
        self.versions: Recent[VersionFacts] = Recent(REMEMBERED_VERSIONS, most_bytes // 2)
        self.states: Recent[TableState] = Recent(REMEMBERED_VERSIONS, most_bytes // 2)

    @property
    def weight(self) -> int:
        """Bytes remembered."""
        return self.versions.weight + self.states.weight


class TableFacts:
    """The versions of one table that this process has read or written, kept in `memory` under the table's name."""

    def __init__(self, store: ObjectStore, root: str, memory: VersionMemory, owner: str) -> None:
        self._store = store
        self._root = root
        self._versions = Shelf(memory.versions, owner)
        self._states = Shelf(memory.states, owner)
        self._rules: tuple[TableState, FileRules] | None = None

    def learn(self, version: int, log: bytes) -> VersionFacts:
        """Return and remember the facts of a version whose log bytes are known."""
        facts = facts_of_log(version, log)
        self._versions.put(str(version), facts, weight=_weight(facts, log))
        return facts

    async def since(self, read_version: int, latest: int) -> list[VersionFacts]:
        """Return the facts of the versions after `read_version` up to `latest`, in order, reading what is new.

        A log file that is gone (log clean-up) is returned as unreadable.
        """
        wanted = range(read_version + 1, latest + 1)
        held = {version: self._versions.get(str(version)) for version in wanted}
        found = {version: facts for version, facts in held.items() if facts is not None}
        missing = [version for version in wanted if version not in found]
        for start in range(0, len(missing), READS_TOGETHER):
            batch = missing[start : start + READS_TOGETHER]
            logs = await together(*(self._store.get(paths.delta_log(self._root, version)) for version in batch))
            for version, log in zip(batch, logs, strict=True):
                if log is None:
                    found[version] = VersionFacts(version, None, None, None, None, frozenset(), readable=False)
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
        for facts in await self.since(state.version, latest):
            source = state.source if facts.metadata is None else paths.delta_log(self._root, facts.version)
            metadata = facts.metadata or state.metadata
            state = TableState(facts.version, facts.protocol or state.protocol, metadata, source)
        self._states.put(_STATE, state, weight=len(orjson.dumps([state.protocol, state.metadata])))
        return state

    def rules(self, state: TableState) -> FileRules | None:
        """Return what the table in `state` asks of files, made once; None where protocol or metadata are missing.

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


def _weight(facts: VersionFacts, log: bytes) -> int:
    """Return about how many bytes the facts of a version take: those of its schema and properties, if it has any."""
    kept = len(log) if facts.metadata is not None or facts.protocol is not None else 0
    return _FACTS_BYTES + kept + sum(map(len, facts.txn_apps))
