"""Creating and adopting tables: a handful of create-only puts that any crash leaves completable.

See docs/formats.md#table-registry.

The order is: root claim, version 0 (create only), registry entry, coordinator, name claim. Reads before the first put
find every reason for a refusal. What a crash, or a lost race, leaves:

- *A root claim without a registry entry* names the id that the table at this root will have. The same workflow
  goes on with it, and so does any later creation or adoption at this root, which takes over the claimed id: a
  dead creation blocks no root.
- *A registry entry without a name claim* is completed by the next request for the same root and name. If another
  table took the name meanwhile (two creators of one name, started around Temporal, at the same instant), the
  loser is refused; its table stays usable under its id, because an entry is never deleted.
- A name is claimed last, so a dead creation blocks no name, and a table found by name is complete.

A table inside another table's folder is refused by reading the claims of all folders above it. A table
*around* existing ones cannot be found without a listing: the caller must avoid that.
"""

from __future__ import annotations

from dataclasses import dataclass

from springline import paths
from springline.commit.registry import Registry, decode_record, encode_record, read_record
from springline.commit.snapshot import Snapshot, load_snapshot
from springline.delta.compatibility import FileRules
from springline.delta.coordinator import Coordinator, decode_coordinator
from springline.delta.create import NewTable, check_creation, is_version_zero_of, version_zero
from springline.delta.features import require_supported
from springline.delta.table_request import (
    AdoptTable,
    Claim,
    CreateTable,
    TableEntry,
    ancestors,
    check_name,
    check_new_root,
    default_owner,
    roots_of_location,
)
from springline.errors import Code, InvariantViolated, Refused, refused
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once
from springline.storage.together import together

__all__ = ["AdoptTable", "CreateTable", "Registry", "adopt_table", "create_table"]


async def create_table(
    store: ObjectStore, scope: paths.Scope, spec: CreateTable, table_id: str, now_ms: int
) -> TableEntry:
    """Create a table and register it; return its registry entry.

    `table_id` (a lower-case UUID) and `now_ms` (milliseconds since 1970, the creation time in version 0) are
    chosen by the caller once and repeated on every retry. The table may get another id than proposed: the one
    a dead creation left at this root, or the one its default location names. Safe to repeat after a crash
    anywhere and to run twice at once. Raises `Refused` (`INVALID_REQUEST`, `INVALID_PATH`,
    `UNSUPPORTED_FEATURE`, `ROOT_TAKEN`, `NAME_TAKEN`).
    """
    new = check_creation(spec)
    root = paths.new_table_root(table_id, scope)
    if spec.location is not None:
        roots = roots_of_location(spec.location, scope, store.url)
        root = await _root_by_name(store, spec.name, roots) or roots[0]
    named = spec.location is not None
    place = _Place(store, scope, spec.name, root, default_owner(root) or table_id, named_by_caller=named)
    await place.look()
    if spec.location is not None and place.entry is None:
        check_new_root(root, spec.location)
    missing = await _version_zero_missing(place, new)
    await place.claim_root()
    if missing:
        await _write_version_zero(place, new, now_ms)
    return await place.register(now_ms, new.configuration, latest_version=0)


async def adopt_table(
    store: ObjectStore, scope: paths.Scope, spec: AdoptTable, table_id: str, now_ms: int
) -> TableEntry:
    """Register the existing Delta table at a location; return its registry entry.

    Arguments, id and safety are those of `create_table`. Raises `Refused` (`INVALID_REQUEST`, `INVALID_PATH`,
    `NOT_A_DELTA_TABLE`, `UNSUPPORTED_FEATURE`, `ROOT_TAKEN`, `NAME_TAKEN`); nothing is written then.
    """
    check_name(spec.name)
    roots = roots_of_location(spec.location, scope, store.url)
    root = await _root_by_name(store, spec.name, roots) or await _root_with_log(store, spec.location, scope, roots)
    place = _Place(store, scope, spec.name, root, default_owner(root) or table_id)
    await place.look()
    snapshot = await _readable_snapshot(store, root, spec.location)
    protocol, metadata = snapshot.protocol, snapshot.metadata
    if protocol is None or metadata is None:
        raise _no_table(spec.location, "its log holds no protocol or no metaData action")
    require_supported(protocol, metadata, field="location")
    # Refuse metadata that later commits could not be judged by: a schema beyond bounds, invalid partition columns.
    FileRules(protocol, metadata)
    await place.claim_root()
    configuration = metadata.get("configuration")
    properties = {str(key): str(value) for key, value in (configuration or {}).items() if value is not None}
    return await place.register(now_ms, properties, latest_version=snapshot.version)


@dataclass(slots=True)
class _Place:
    """A name and a root for one table, and what is known of their claims.

    `named_by_caller`: the root comes from a location, so that it may name any id.
    `table_id` is `proposed_id` until `look` or `claim_root` finds that the root already has one.
    """

    store: ObjectStore
    scope: paths.Scope
    name: str
    root: str
    proposed_id: str
    named_by_caller: bool = True
    table_id: str = ""
    entry: TableEntry | None = None

    def __post_init__(self) -> None:
        self.table_id = self.proposed_id

    async def look(self) -> None:
        """Read every claim that could conflict; raises `Refused` if one does. Writes nothing."""
        above = ancestors(self.root)
        named, *claims = await together(
            *(
                read_record(self.store, path, Claim)
                for path in (
                    paths.name_claim(self.name),
                    paths.root_claim(self.root),
                    *(paths.root_claim(folder) for folder in above),
                )
            )
        )
        if named is not None and named.table_id != self.table_id:
            raise self._name_taken(named)
        for claim in claims[1:]:
            if claim is not None:
                raise self._root_taken(f"{claim.value!r}, which contains it, is the root of table {claim.table_id}")
        if claims[0] is not None:
            await self._join(claims[0])
        elif self.named_by_caller and default_owner(self.root) is not None:
            await self._check_id()
        elsewhere = await self.store.linked_elsewhere(paths.delta_log_dir(self.root))
        if elsewhere is not None:
            raise refused(
                Code.INVALID_PATH,
                f"location {self.root!r} lies behind a symbolic link",
                field="location",
                value=self.root,
                remedy="move the table into the workspace, or name the folder where it is if that is in the workspace",
            )

    async def _check_id(self) -> None:
        """Refuse a default location, which names a table by its id, if that table is somewhere else."""
        homes = (paths.new_table_root(self.table_id, self.scope), paths.default_table_root(self.table_id))
        other = homes[1] if self.root == homes[0] else homes[0]
        entry, claim, coordinator = await together(
            read_record(self.store, paths.table_entry(self.table_id), TableEntry),
            read_record(self.store, paths.root_claim(other), Claim),
            self.store.head(paths.delta_coordinator(self.table_id)),
        )
        if entry is not None and entry.root != self.root:
            raise self._root_taken(f"its name is the id of table {entry.name!r}, which lies in {entry.root!r}")
        if claim is not None:
            raise self._root_taken(f"its name is the id of a table that lies in {other!r}")
        if coordinator is None:
            return
        here, there = await together(_holds_log(self.store, self.root), _holds_log(self.store, other))
        if there or (self.root == homes[0] and not here):
            raise self._root_taken(f"its name is the id of a table that is not registered and lies in {other!r}")

    async def claim_root(self) -> None:
        """Claim the root, or join the id that claimed it without registering a table."""
        path = paths.root_claim(self.root)
        put = await put_once(self.store, path, encode_record(Claim(table_id=self.table_id, value=self.root), path))
        if isinstance(put, Other):
            await self._join(decode_record(put.data, path, Claim))

    async def register(self, now_ms: int, properties: dict[str, str], *, latest_version: int) -> TableEntry:
        """Write registry entry, coordinator and name claim; return the entry in force."""
        entry = self.entry or await self._write_entry(now_ms, properties)
        path = paths.delta_coordinator(self.table_id)
        coordinator = await put_once(self.store, path, Coordinator(latest_version).encode(path))
        if isinstance(coordinator, Other):
            decode_coordinator(coordinator.data, path)
        path = paths.name_claim(self.name)
        named = await put_once(self.store, path, encode_record(Claim(table_id=self.table_id, value=self.name), path))
        if isinstance(named, Other):
            claim = decode_record(named.data, path, Claim)
            if claim.table_id != self.table_id:
                raise self._name_taken(claim, registered=True)
        return entry

    async def _write_entry(self, now_ms: int, properties: dict[str, str]) -> TableEntry:
        entry = TableEntry(
            table_id=self.table_id,
            name=self.name,
            root=self.root,
            created_at_ms=now_ms,
            properties=dict(sorted(properties.items())),
        )
        path = paths.table_entry(self.table_id)
        put = await put_once(self.store, path, encode_record(entry, path))
        if not isinstance(put, Other):
            return entry
        existing = decode_record(put.data, path, TableEntry)
        self._check_entry(existing)
        return existing

    async def _join(self, claim: Claim) -> None:
        self.table_id = claim.table_id
        entry = await read_record(self.store, paths.table_entry(claim.table_id), TableEntry)
        if entry is not None:
            self._check_entry(entry)
        self.entry = entry

    def _check_entry(self, entry: TableEntry) -> None:
        if entry.root != self.root:
            raise InvariantViolated(
                f"table {entry.table_id} has claimed the root {self.root!r} but is registered at {entry.root!r}"
            )
        if entry.name != self.name:
            raise self._root_taken(f"it is the root of table {entry.name!r} ({entry.table_id})")

    def _root_taken(self, why: str) -> Refused:
        return root_taken(self.root, why, "choose another location, or use the table that is there")

    def _name_taken(self, claim: Claim, *, registered: bool = False) -> Refused:
        kept = f"; the new table is registered without a name, as {self.table_id}" if registered else ""
        return refused(
            Code.NAME_TAKEN,
            f"the name {self.name!r} belongs to table {claim.table_id}{kept}",
            field="name",
            value=self.name,
            remedy=f"use the id {self.table_id}" if registered else "choose another name, or use the table that has it",
        )


def root_taken(root: str, why: str, remedy: str) -> Refused:
    """Return the refusal for a location that belongs to another table."""
    return refused(Code.ROOT_TAKEN, f"location {root!r} is taken: {why}", field="location", value=root, remedy=remedy)


async def _root_by_name(store: ObjectStore, name: str, roots: tuple[str, ...]) -> str | None:
    """Return the one of several roots that the table of this name has, for a repeated request."""
    if len(roots) == 1:
        return None
    claim = await read_record(store, paths.name_claim(name), Claim)
    entry = None if claim is None else await read_record(store, paths.table_entry(claim.table_id), TableEntry)
    return entry.root if entry is not None and entry.root in roots else None


async def _root_with_log(store: ObjectStore, location: str, scope: paths.Scope, roots: tuple[str, ...]) -> str:
    """Return the one of several roots that has a log; the first if none has."""
    if len(roots) == 1:
        return roots[0]
    there = await together(*(_holds_log(store, root) for root in roots))
    if all(there):
        names = [scope.full(paths.workspace_path(root)) for root in roots]
        raise refused(
            Code.INVALID_PATH,
            f"location {location!r} means two Delta tables, {names[0]} and {names[1]}",
            field="location",
            value=location,
            remedy="give the path that is meant in full",
        )
    return roots[there.index(True)] if any(there) else roots[0]


async def _holds_log(store: ObjectStore, root: str) -> bool:
    zero, pointer = await together(store.head(paths.delta_log(root, 0)), store.head(paths.delta_last_checkpoint(root)))
    return zero is not None or pointer is not None


async def _version_zero_missing(place: _Place, new: NewTable) -> bool:
    """Say whether version 0 is still to be written; refuse to create over another Delta table. Reads only.

    Once the table is registered, version 0 was there: if it is gone, log clean-up took it, and writing it again
    would put a commit into the table's past.
    """
    zero, pointer = await together(
        place.store.get(paths.delta_log(place.root, 0)),
        place.store.head(paths.delta_last_checkpoint(place.root)),
    )
    if zero is not None:
        if is_version_zero_of(new, place.table_id, zero.data):
            return False
        raise _holds_another(place.root)
    if place.entry is not None and place.table_id == place.proposed_id:
        return False
    if pointer is not None or place.entry is not None:
        raise _holds_another(place.root)
    return True


async def _write_version_zero(place: _Place, new: NewTable, now_ms: int) -> None:
    put = await put_once(place.store, paths.delta_log(place.root, 0), version_zero(new, place.table_id, now_ms))
    if isinstance(put, Other) and not is_version_zero_of(new, place.table_id, put.data):
        raise _holds_another(place.root)


def _holds_another(root: str) -> Refused:
    return root_taken(root, "it holds a Delta table already", "adopt that table, or choose another location")


async def _readable_snapshot(store: ObjectStore, root: str, location: str) -> Snapshot:
    try:
        snapshot = await load_snapshot(store, root)
    except InvariantViolated as error:
        raise _no_table(location, str(error)) from error
    if snapshot.version < 0:
        raise _no_table(location, "it has neither version 0 nor a _last_checkpoint")
    return snapshot


def _no_table(location: str, why: str) -> Refused:
    return refused(
        Code.NOT_A_DELTA_TABLE,
        f"location {location!r} holds no Delta table that can be adopted: {why}",
        field="location",
        value=location,
        remedy="name the folder that holds the table's log, or create the table",
    )


async def already_created(
    store: ObjectStore, scope: paths.Scope, registry: Registry, spec: CreateTable
) -> TableEntry | None:
    """Return the table that an earlier request with the same `spec` made, or None.

    It has the name and the root asked for, and its version 0 is the one that `spec` gives. A table whose version
    0 log clean-up has removed counts as another one. Raises `Refused` if `spec` is no valid creation.
    """
    new = check_creation(spec)
    entry = await _named(registry, spec.name)
    if entry is None:
        return None
    defaults = (paths.new_table_root(entry.table_id, scope), paths.default_table_root(entry.table_id))
    if entry.root not in (defaults if spec.location is None else roots_of_location(spec.location, scope, store.url)):
        return None
    zero = await store.get(paths.delta_log(entry.root, 0))
    same = zero is not None and is_version_zero_of(new, entry.table_id, zero.data)
    return entry if same else None


async def already_adopted(
    store: ObjectStore, scope: paths.Scope, registry: Registry, spec: AdoptTable
) -> TableEntry | None:
    """Return the table that has the name and a root that `spec` asks for, or None."""
    roots = roots_of_location(spec.location, scope, store.url)
    entry = await _named(registry, spec.name)
    return entry if entry is not None and entry.root in roots else None


async def _named(registry: Registry, name: str) -> TableEntry | None:
    try:
        return await registry.entry(name)
    except Refused as error:
        if error.refusal.code is Code.TABLE_NOT_FOUND:
            return None
        raise
