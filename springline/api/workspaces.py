"""The stores and registries of the workspaces that this process serves."""

from __future__ import annotations

from dataclasses import dataclass

from springline.caches import Recent
from springline.commit.registry import Registry, RegistryMemory
from springline.commit.table import CommitTable
from springline.delta.table_request import TableEntry
from springline.paths import Scope
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

MAX_REMEMBERED = 1_000
"""Cached workspaces. The cache of their tables is bounded in bytes, over all workspaces (`RegistryMemory`)."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """One workspace: its part of the store and its tables."""

    scope: Scope
    store: ScopedStore
    registry: Registry

    def table(self, entry: TableEntry) -> CommitTable:
        """Return the table in the form that the commit protocol's readers take."""
        return CommitTable(self.store, entry.table_id, entry.root)


class Workspaces:
    """Workspaces of one store by scope; the most recently used ones keep their cache of tables."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._memory = RegistryMemory()
        self._known: Recent[Workspace] = Recent(MAX_REMEMBERED)

    def of(self, scope: Scope) -> Workspace:
        """Return the workspace of `scope`."""
        known = self._known.get(scope)
        if known is None:
            store = ScopedStore(self._store, scope)
            known = Workspace(scope, store, Registry(store, self._memory, scope.prefix))
            self._known.put(scope, known)
        return known
