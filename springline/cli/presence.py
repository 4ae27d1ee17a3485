"""Checks that a store has objects of a workspace: a misspelt name must not look like an empty workspace."""

from __future__ import annotations

from difflib import get_close_matches

from springline.errors import Code, Refused, refused
from springline.paths import (
    ObjectPath,
    Scope,
    behind_scope,
    lies_in_a_scope,
    orchestration_pointer,
    scope_of,
    scopes_begin,
)
from springline.storage.port import ObjectStore

MOST_NAMED = 10
"""How many existing workspaces the refusal names; each costs one page of a listing."""


async def check_workspace(store: ObjectStore, scope: Scope) -> None:
    """Raise `Refused` (NOT_FOUND) if `store`, which is the whole one, has no object of the workspace.

    Reads one object if the workspace has a published state; lists names only if it has none.
    """
    if await store.head(scope.full(orchestration_pointer())) is not None:
        return
    for prefix in (scope.prefix, scope.tables):
        async for _ in store.list(ObjectPath(prefix)):
            return
    raise _unknown(scope, await find_workspaces(store, MOST_NAMED + 1))


async def find_workspaces(store: ObjectStore, most: int) -> list[Scope]:
    """Return the first `most` workspaces that have objects, in the order of their names in the bucket."""
    prefix, start = scopes_begin()
    found: list[Scope] = []
    while len(found) < most:
        scope = None
        async for info in store.list(prefix, start_after=start):
            scope = scope_of(info.path)
            if scope is not None or not lies_in_a_scope(info.path):
                break
        if scope is None:
            break
        found.append(scope)
        start = behind_scope(scope)
    return found


def _unknown(scope: Scope, known: list[Scope]) -> Refused:
    names = [f"{one.tenant}/{one.workspace}" for one in known[:MOST_NAMED]]
    asked = f"{scope.tenant}/{scope.workspace}"
    tenants = {one.tenant for one in known}
    if not names:
        remedy = "It holds no workspace at all: see whether --store or SPRINGLINE_STORE_URL names the right one."
    else:
        nearest = get_close_matches(asked, names, 1)
        meant = f"Did you mean {nearest[0]}? " if nearest else ""
        more = ", and more" if len(known) > MOST_NAMED else ""
        remedy = f"{meant}It holds {', '.join(names)}{more}: correct --tenant, --workspace or --store."
    return refused(
        Code.NOT_FOUND,
        f"the store holds nothing of workspace {asked}",
        field="--workspace" if scope.tenant in tenants or not known else "--tenant",
        value=asked,
        remedy=remedy,
    )
