"""Whether a store holds anything of a workspace: a misspelt name must not look like an empty one."""

from __future__ import annotations

import re
from difflib import get_close_matches

from springline.errors import Code, Refused, refused
from springline.paths import ObjectPath, Scope, orchestration_pointer
from springline.storage.port import ObjectStore

MOST_NAMED = 10
"""How many workspaces are named to somebody who asked for another; each costs one page of a listing."""

_WORKSPACE = re.compile(r"tenant=([^/]+)/workspace=([^/]+)/")


async def check_workspace(store: ObjectStore, scope: Scope) -> None:
    """Raise `Refused` (NOT_FOUND) if `store`, which is the whole one, holds nothing of the workspace.

    One object is looked at where the workspace has a published state; only where it has none, names are listed.
    """
    if await store.head(scope.full(orchestration_pointer())) is not None:
        return
    for prefix in (scope.prefix, scope.tables):
        async for _ in store.list(ObjectPath(prefix)):
            return
    raise _unknown(scope, await workspaces(store))


async def workspaces(store: ObjectStore, most: int = MOST_NAMED) -> list[tuple[str, str]]:
    """Return the first `most` workspaces of a store, and one more if there are more: tenant and name."""
    found: list[tuple[str, str]] = []
    after = ObjectPath("tenant=")
    while len(found) <= most:
        async for info in store.list(ObjectPath(""), start_after=after):
            named = _WORKSPACE.match(info.path)
            break
        else:
            break
        if named is None:
            break
        found.append((named[1], named[2]))
        # The next name that does not lie below this workspace: 0 comes right after the slash.
        after = ObjectPath(f"{named[0].removesuffix('/')}0")
    return found


def _unknown(scope: Scope, known: list[tuple[str, str]]) -> Refused:
    names = [f"{tenant}/{workspace}" for tenant, workspace in known[:MOST_NAMED]]
    asked = f"{scope.tenant}/{scope.workspace}"
    tenants = {tenant for tenant, _ in known}
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
