"""Paths of objects that concern the store itself, outside every scope.

Scratch objects of the start-up check, the store's identity, and the register of its workspaces.
"""

from __future__ import annotations

import re
from typing import Final

from springline.paths.components import made_by
from springline.paths.scope import InvalidPath, ObjectPath, Scope, segment

_REGISTER: Final = "orchestration/workspaces"
_ENTRY = re.compile(r"orchestration/workspaces/([^/]+)/([^/]+)\.json")


def canary_object(name: str) -> ObjectPath:
    """Return the name of a scratch object; `name` is one segment. It lies outside every scope."""
    return ObjectPath(f"canary/{segment('canary name', name)}")


def store_identity() -> ObjectPath:
    """Return the name of the object with the store's id; it lies outside every scope."""
    return canary_object("store-id.json")


def workspace_entry(scope: Scope) -> ObjectPath:
    """Return the name of the entry of a workspace in the register; it lies outside every scope."""
    return ObjectPath(f"{_REGISTER}/{scope.tenant}/{scope.workspace}.json")


def workspace_entries_prefix() -> ObjectPath:
    """Return the folder of the entries of all workspaces, without a trailing slash."""
    return ObjectPath(_REGISTER)


def parse_workspace_entry(path: str) -> Scope | None:
    """Return the workspace of an entry's path, or None for another path."""
    match = _ENTRY.fullmatch(path)
    if match is None:
        return None
    try:
        scope = Scope(match[1], match[2])
    except InvalidPath:
        return None
    return scope if made_by(path, workspace_entry, scope) else None
