"""The facts of committed versions, read once and remembered: log files never change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from springline import paths
from springline.commit.snapshot import load_snapshot
from springline.delta.facts import VersionFacts, facts_of_log
from springline.delta.fit import FileRules
from springline.storage.port import ObjectStore
from springline.storage.together import together

REMEMBERED_VERSIONS = 4_096
READS_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class TableState:
    """Protocol and metadata of a table as of one version; None where the log has none (reference tables)."""

    version: int
    protocol: dict[str, Any] | None
    metadata: dict[str, Any] | None


class TableFacts:
    """The versions of one table that this process has read or written."""

    def __init__(self, store: ObjectStore, root: str) -> None:
        self._store = store
        self._root = root
        self._versions: dict[int, VersionFacts] = {}
        self._state: TableState | None = None
        self._rules: tuple[TableState, FileRules] | None = None

    def learn(self, version: int, log: bytes) -> None:
        """Remember a version whose log bytes are known."""
        if len(self._versions) >= REMEMBERED_VERSIONS:
            for known in sorted(self._versions)[: REMEMBERED_VERSIONS // 2]:
                del self._versions[known]
        self._versions[version] = facts_of_log(version, log)

    async def since(self, read_version: int, latest: int) -> list[VersionFacts]:
        """Return the facts of the versions after `read_version` up to `latest`, in order, reading what is new.

        A log file that is gone (log clean-up) is returned as unreadable.
        """
        wanted = range(read_version + 1, latest + 1)
        found = {version: self._versions[version] for version in wanted if version in self._versions}
        missing = [version for version in wanted if version not in found]
        for start in range(0, len(missing), READS_TOGETHER):
            batch = missing[start : start + READS_TOGETHER]
            logs = await together(*(self._store.get(paths.delta_log(self._root, version)) for version in batch))
            for version, log in zip(batch, logs, strict=True):
                if log is None:
                    found[version] = VersionFacts(version, None, None, None, None, frozenset(), readable=False)
                else:
                    self.learn(version, log.data)
                    found[version] = self._versions[version]
        return [found[version] for version in wanted]

    async def state(self, latest: int) -> TableState:
        """Return protocol and metadata as of `latest`, from the nearest checkpoint when this process is cold."""
        state = self._state
        if state is None or state.version > latest:
            snapshot = await load_snapshot(self._store, self._root, at_least=latest)
            state = TableState(max(snapshot.version, latest), snapshot.protocol, snapshot.metadata)
        for facts in await self.since(state.version, latest):
            state = TableState(facts.version, facts.protocol or state.protocol, facts.metadata or state.metadata)
        self._state = state
        return state

    def rules(self, state: TableState) -> FileRules | None:
        """Return what the table in `state` asks of files, made once; None where protocol or metadata are missing.

        Raises `Refused` (`NOT_A_DELTA_TABLE`) if the table's own metadata cannot be read.
        """
        if state.protocol is None or state.metadata is None:
            return None
        known = self._rules
        if known is None or known[0].protocol is not state.protocol or known[0].metadata is not state.metadata:
            known = (state, FileRules(state.protocol, state.metadata))
            self._rules = known
        return known[1]
