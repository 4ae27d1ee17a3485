"""Definitions for tests: assets in the form in which they are deployed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from springline.definitions.manifest import CodeLocation
from springline.ulids import new_ulid

NOW_MS = 1_736_935_200_000


def asset(key: str, *needs: str, **more: Any) -> dict[str, Any]:
    """Return an asset that depends on others, as a deploy sends it."""
    return {"key": key, "dependencies": [{"asset": one} for one in needs], **more}


def part(
    location: str,
    *assets: dict[str, Any],
    pools: dict[str, int] | None = None,
    sensors: Sequence[dict[str, Any]] = (),
    tasks: Sequence[dict[str, Any]] = (),
) -> CodeLocation:
    """Return a code location with these assets, sensors and tasks, and the slots of its pools by name."""
    declared = [{"name": name, "slots": slots} for name, slots in (pools or {}).items()]
    return CodeLocation.model_validate(
        {
            "location": location,
            "assets": list(assets),
            "pools": declared,
            "sensors": list(sensors),
            "tasks": list(tasks),
        }
    )


def ids(first: int = 0) -> Callable[[], str]:
    """Return what makes ULIDs, each a millisecond behind the one before."""
    numbers = itertools.count(first)
    return lambda: new_ulid(None, NOW_MS + next(numbers), 7)
