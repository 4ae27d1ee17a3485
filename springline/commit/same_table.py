"""Whether a request for a table asks for one that is there already: what makes it safe to send it twice."""

from __future__ import annotations

from springline import paths
from springline.commit.registry import Registry
from springline.delta.create import check_creation, is_version_zero_of
from springline.delta.registry import TableEntry
from springline.delta.roots import roots_of_location
from springline.delta.table_request import AdoptTable, CreateTable
from springline.errors import Code, Refused
from springline.storage.port import ObjectStore


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
