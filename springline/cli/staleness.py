"""What is stale, asked of the HTTP API: for lists of assets, for one asset, and as the selection of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from springline.cli.http import ASSETS, MANIFESTS, STALENESS, Api
from springline.errors import Code, Refused, refused

Json = dict[str, Any]

STRIP: Final = 60
"""Partitions of a strip: the latest."""
MOST_STALE: Final = 10_000
"""Partitions that one run can be asked for (docs/protocol.md#requests-for-runs)."""


@dataclass(frozen=True, slots=True)
class StaleSelection:
    """What a run is asked for so that it makes what is stale: assets, partitions, and how many of them are stale."""

    select: list[str]
    partitions: list[str]
    stale: int

    def told(self, tasks: int | None) -> str:
        """Return for a person how much of the run is stale."""
        said = f"{self.stale} stale of {len(self.select)} assets"
        if tasks is None or tasks <= self.stale:
            return f"the run makes what is stale: {said}"
        return f"the run makes {tasks} tasks for {said}: {tasks - self.stale} are current and are made with them"


def counts_of_assets(surface: Api, keys: Sequence[str]) -> Mapping[str, Json]:
    """Return how the latest partitions of assets stand, by key; of none if the API is too old to know."""
    if not keys:
        return {}
    wanted = set(keys)
    try:
        pages = surface.pages(root=STALENESS, params={})
        return {one["asset"]: one for page in pages for one in page["items"] if one["asset"] in wanted}
    except Refused as error:
        if error.refusal.code is Code.ROUTE_NOT_FOUND:
            return {}
        raise


def latest_partitions(surface: Api, key: str) -> Json | None:
    """Return the latest partitions of an asset, the last one first; None if the API is too old to know."""
    try:
        found = surface.call("GET", key, "partitions", root=ASSETS, params={"latest": "true", "limit": STRIP}).body
    except Refused as error:
        if error.refusal.code is Code.ROUTE_NOT_FOUND:
            return None
        raise
    return {name: found[name] for name in ("partitions", "items", "as_of")}


def stale_selection(surface: Api, terms: Iterable[str]) -> StaleSelection | None:
    """Return what a run has to be asked for so that it makes what is stale of a selection; None if nothing is.

    Raises `Refused` for a selection that means nothing, and for more partitions than a run takes.
    """
    params: dict[str, str | float | list[str]] = {"select": list(terms)}
    stale: dict[str, list[str | None]] = {}
    for page in surface.pages(root=STALENESS, params=params):
        for one in page["items"]:
            # What is beyond those that were counted may be stale, too.
            if one["stale"] or one["counted"] < one["partitions"]:
                keys = _stale_keys(surface, one["asset"])
                if keys:
                    stale[one["asset"]] = keys
    if not stale:
        return None
    partitions = sorted({key for keys in stale.values() for key in keys if key is not None})
    if len(partitions) > MOST_STALE:
        raise refused(
            Code.INVALID_REQUEST,
            f"{len(partitions)} partitions are stale, and a run takes {MOST_STALE} at most",
            field="SELECTION",
            value=len(partitions),
            remedy="Select fewer assets, or make them by `springline backfill create SELECTION --stale`.",
        )
    select = _with_inputs(surface, set(stale))
    return StaleSelection(sorted(select), partitions, sum(len(keys) for keys in stale.values()))


def _stale_keys(surface: Api, key: str) -> list[str | None]:
    found: list[str | None] = []
    for page in surface.pages(key, "partitions", root=ASSETS, params={"stale": "true"}):
        found += [one["partition_key"] for one in page["items"]]
        if len(found) > MOST_STALE:
            break
    return found


def _with_inputs(surface: Api, chosen: set[str]) -> set[str]:
    """Return assets with those whose outputs their parameters, or those of tasks they need, take: a run needs them."""
    manifest = surface.call("GET", "latest", root=MANIFESTS).body
    tasks = {one["key"] for one in manifest.get("tasks", ())}
    taken = {
        one["key"]: [
            edge["asset"] for edge in one["dependencies"] if edge.get("argument") is not None or edge["asset"] in tasks
        ]
        for one in (*manifest["assets"], *manifest.get("tasks", ()))
    }
    waiting = list(chosen)
    while waiting:
        for one in taken.get(waiting.pop(), ()):
            if one not in chosen:
                chosen.add(one)
                waiting.append(one)
    return chosen
