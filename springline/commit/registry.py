"""Looking up tables by id or by name, and their roots.

See docs/formats.md#table-registry, docs/protocol.md#rule-2.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import orjson
from pydantic import ValidationError

from springline import paths
from springline.caches import Recent, Shelf
from springline.checked import WrongChecksum, verify, with_checksum
from springline.delta.coordinator import decode_coordinator
from springline.delta.table_request import Claim, TableEntry
from springline.errors import Code, InvariantViolated, Refused, refused
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.storage.together import together

M = TypeVar("M", TableEntry, Claim)

MEMORY_BYTES = 32 * 1024 * 1024
_ENTRY_BYTES = 200
"""Bytes of an entry in memory beyond its text."""


@dataclass(frozen=True, slots=True)
class DamagedRecord:
    """A damaged object of the registry, and the evidence."""

    object: str
    problem: str


async def read_record(store: ObjectStore, path: paths.ObjectPath, model: type[M]) -> M | None:
    """Read a registry record; None if there is none. Raises `InvariantViolated` if it is damaged."""
    stored = await store.get(path)
    return None if stored is None else decode_record(stored.data, path, model)


def decode_record(data: bytes, path: str, model: type[M]) -> M:
    """Check and parse a registry record read from `path`; raises `InvariantViolated` if it is not one."""
    try:
        verify(data, model.model_fields, path)
        record = model.model_validate_json(data)
        its_paths = _paths_of(record)
    except (WrongChecksum, ValidationError, paths.InvalidPath) as error:
        raise InvariantViolated(f"{path} is not a registry record ({model.__name__}): {error}") from error
    if path not in its_paths:
        raise InvariantViolated(f"{path} is not a registry record ({model.__name__}): it is that of {its_paths[0]}")
    return record


def decode_entry(data: bytes, path: str, scope: paths.Scope) -> TableEntry:
    """Parse a table's entry read from `path`; raises `InvariantViolated` unless it is one of this workspace."""
    entry = decode_record(data, path, TableEntry)
    try:
        scope.full(paths.delta_log(entry.root, 0))
        paths.name_claim(entry.name)
    except paths.InvalidPath as error:
        raise InvariantViolated(f"{path} is not a registry record of this workspace: {error}") from error
    return entry


async def read_entry(store: ScopedStore, table_id: str) -> TableEntry | None:
    """Read a table's entry; None if there is none. Raises `InvariantViolated` if it is damaged."""
    path = paths.table_entry(table_id)
    stored = await store.get(path)
    return None if stored is None else decode_entry(stored.data, path, store.scope)


def encode_record(record: TableEntry | Claim, path: paths.ObjectPath) -> bytes:
    """Return the bytes of a registry record that is stored at `path`, with their checksum."""
    return with_checksum(orjson.dumps(record.model_dump()), path)


def _paths_of(record: TableEntry | Claim) -> list[paths.ObjectPath]:
    """Return the possible paths of a record; a claim does not say whether its value is a name or a root."""
    if isinstance(record, TableEntry):
        return [paths.table_entry(record.table_id)]
    paths.table_id(record.table_id)
    found = []
    for path_of in (paths.name_claim, paths.root_claim):
        with suppress(paths.InvalidPath):
            found.append(path_of(record.value))
    if not found:
        raise paths.InvalidPath("value", record.value, "name a table's root or name")
    return found


class RegistryMemory:
    """A process's cache of the registries of its workspaces: at most `most_bytes`, over all of them."""

    def __init__(self, most_bytes: int = MEMORY_BYTES) -> None:
        self.entries: Recent[TableEntry] = Recent(entries=1_000_000, weight=most_bytes // 2)
        self.ids: Recent[str] = Recent(entries=1_000_000, weight=most_bytes // 4)
        self.roots: Recent[str] = Recent(entries=1_000_000, weight=most_bytes // 4)

    @property
    def weight(self) -> int:
        """Bytes remembered."""
        return self.entries.weight + self.ids.weight + self.roots.weight


class Registry:
    """The tables of one workspace, with a cache.

    Entries and claims never change, so found ones are cached, in `memory` under the workspace's name `owner` if it is
    shared; missing ones are read again, because another process may create them.
    """

    def __init__(self, store: ScopedStore, memory: RegistryMemory | None = None, owner: str = "") -> None:
        memory = RegistryMemory() if memory is None else memory
        self._store = store
        self._by_id = Shelf(memory.entries, owner)
        self._ids = Shelf(memory.ids, owner)
        self._roots = Shelf(memory.roots, owner)

    async def entry(self, id_or_name: str) -> TableEntry:
        """Return the registered table with this id or name.

        Raises `Refused` (`TABLE_NOT_FOUND`) if there is none, `InvariantViolated` if a record is damaged.
        """
        if is_table_id(id_or_name):
            entry = await self._entry_of(id_or_name)
            if entry is None:
                coordinated = await self._store.head(paths.delta_coordinator(id_or_name)) is not None
                raise not_found(id_or_name) if coordinated else await self._absent(id_or_name)
            return entry
        table_id = self._ids.get(id_or_name)
        if table_id is None:
            claim = None
            if id_or_name:
                claim = await read_record(self._store, paths.name_claim(id_or_name), Claim)
            if claim is None:
                raise not_found(id_or_name)
            table_id = claim.table_id
            self._ids.put(id_or_name, table_id, weight=_weight(id_or_name, table_id))
        entry = await self._entry_of(table_id)
        if entry is None:
            path = paths.table_entry(table_id)
            raise InvariantViolated(f"the name {id_or_name!r} is claimed by table {table_id}, and {path} is gone")
        return entry

    async def root_of(self, table_id: str) -> str:
        """Return the root of a table by its id alone.

        A table that has a coordinator but no registry entry (the reference system's, or a half-restored
        bucket) has the default root: the one of new tables if the table has claimed that, else the one of old tables.
        Raises `Refused` (`TABLE_NOT_FOUND`) if it has neither, and `InvariantViolated` if its root must be another.
        """
        entry = self._by_id.get(table_id)
        if entry is not None:
            return entry.root
        root = self._roots.get(table_id)
        if root is not None:
            return root
        if not is_table_id(table_id):
            raise not_found(table_id)
        entry, coordinator = await together(
            self._entry_of(table_id), self._store.get(paths.delta_coordinator(table_id))
        )
        if entry is not None:
            return entry.root
        if coordinator is None:
            raise await self._absent(table_id)
        new = paths.new_table_root(table_id, self._store.scope)
        claim = await read_record(self._store, paths.root_claim(new), Claim)
        root = paths.default_table_root(table_id) if claim is None else new
        await self._check_log(table_id, root, coordinator.data)
        self._roots.put(table_id, root, weight=_weight(table_id, root))
        return root

    async def _check_log(self, table_id: str, root: str, coordinator: bytes) -> None:
        """Check that a table without an entry has its log at the default root: else its entry was lost."""
        try:
            latest = decode_coordinator(coordinator, paths.delta_coordinator(table_id)).latest_version
        except InvariantViolated:
            return  # The code that needs the coordinator reports the damage.
        if latest < 0:
            return
        some = (paths.delta_log(root, latest), paths.delta_log(root, 0), paths.delta_last_checkpoint(root))
        if all(one is None for one in await together(*(self._store.head(name) for name in some))):
            raise InvariantViolated(
                f"{paths.table_entry(table_id)} is gone: the table has {latest + 1} versions, and none of them lies in "
                f"{root!r}, where a table without an entry has its log"
            )

    async def _absent(self, table_id: str) -> Refused | InvariantViolated:
        """Return the error for an id without entry and coordinator: there is no such table, or both are lost."""
        if await has_commits(self._store, table_id):
            return InvariantViolated(
                f"{paths.table_entry(table_id)} is gone: {paths.delta_markers_prefix(table_id)} has markers of the "
                "table's commits. Run `springline table recover --replace-damaged`: it is made anew of claims and log"
            )
        return not_found(table_id)

    async def _entry_of(self, table_id: str) -> TableEntry | None:
        known = self._by_id.get(table_id)
        if known is not None:
            return known
        entry = await read_entry(self._store, table_id)
        if entry is not None:
            self._by_id.put(table_id, entry, weight=_weight(table_id, entry.model_dump_json()))
        return entry


async def has_commits(store: ObjectStore, table_id: str) -> bool:
    """Say whether a table has a marker of a commit: it was registered then, whatever else of it is gone."""
    async for _ in store.list(paths.delta_markers_prefix(table_id)):
        return True
    return False


def _weight(name: str, value: str) -> int:
    return _ENTRY_BYTES + len(name) + len(value)


def is_table_id(text: str) -> bool:
    """Say whether `text` has the form of a table id; names never have it."""
    try:
        paths.table_id(text)
    except paths.InvalidPath:
        return False
    return True


def not_found(id_or_name: str) -> Refused:
    """Return the refusal for a table that is not registered."""
    return refused(
        Code.TABLE_NOT_FOUND,
        f"there is no table {id_or_name!r} in this workspace",
        field="table",
        value=id_or_name,
        remedy="Check the id or name, the tenant and the workspace, or create the table first.",
    )
