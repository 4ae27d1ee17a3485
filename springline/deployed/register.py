"""The register of workspaces: in which ones of a store something was deployed, so that runs may be under way there.

It is what brings runs back after Temporal has lost everything: nothing else names all workspaces without a listing of
the whole store (docs/formats.md#workspace-register). Entries are create-only, and are never deleted.
"""

from __future__ import annotations

from springline.deployed.notes import put_note
from springline.paths import Scope, parse_workspace_entry, workspace_entries_prefix, workspace_entry
from springline.storage.port import ObjectStore


async def register(store: ObjectStore, scope: Scope) -> None:
    """Enter a workspace, unless it is there. `store` is the whole store. Raises the store's errors."""
    await put_note(store, workspace_entry(scope), {"tenant": scope.tenant, "workspace": scope.workspace})


async def registered(store: ObjectStore) -> list[Scope]:
    """Return the workspaces that are entered, by name. Their names say it all: no entry is read.

    `store` is the whole store. Raises the store's errors.
    """
    found = [parse_workspace_entry(info.path) async for info in store.list(workspace_entries_prefix())]
    return [scope for scope in found if scope is not None]
