"""Paths of the scratch objects by which a process checks its store at start-up."""

from __future__ import annotations

from springline.paths.scope import ObjectPath, segment


def canary_object(name: str) -> ObjectPath:
    """Return the name of a scratch object; `name` is one segment. It lies outside every scope."""
    return ObjectPath(f"canary/{segment('canary name', name)}")
