"""Prefixes below which sensors look for objects: places of users, beside what a workspace stores itself."""

from __future__ import annotations

from springline.paths.scope import RESERVED_FOLDERS, InvalidPath, ObjectPath, relative_path


def watched_objects(prefix: str) -> ObjectPath:
    """Return a prefix below which objects are looked for; raises `InvalidPath` for the workspace's own folders."""
    path = relative_path(prefix, field="prefix")
    first = path.split("/", 1)[0]
    if first == "" or first in RESERVED_FOLDERS:
        raise InvalidPath("prefix", prefix, "give a place of your own, such as incoming/")
    return path
