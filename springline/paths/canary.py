"""Paths of objects that concern the store itself: scratch objects of the start-up check, and the store's identity."""

from __future__ import annotations

from springline.paths.scope import ObjectPath, segment


def canary_object(name: str) -> ObjectPath:
    """Return the name of a scratch object; `name` is one segment. It lies outside every scope."""
    return ObjectPath(f"canary/{segment('canary name', name)}")


def store_identity() -> ObjectPath:
    """Return the name of the object with the store's id; it lies outside every scope."""
    return canary_object("store-id.json")
