"""What is stale, asked of the HTTP API: for lists of assets, for one asset, and as the selection of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from springline.cli.http import ASSETS, MANIFESTS, STALENESS, Api
from springline.definitions.inputs import with_inputs
from springline.errors import Code, Refused, refused

if TYPE_CHECKING:
    from springline.definitions.manifest import DeployedNode

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
    # A run needs what its parameters take, too, also where that is cut into partitions in another way.
    chosen = with_inputs(_nodes(surface), stale, datetime.now(UTC))
    partitions = sorted({key for keys in chosen.values() for key in keys})
    if len(partitions) > MOST_STALE:
        raise refused(
            Code.INVALID_REQUEST,
            f"{len(partitions)} partitions are stale or are needed by what is, and a run takes {MOST_STALE} at most",
            field="SELECTION",
            value=len(partitions),
            remedy="Select fewer assets, or make them by `springline backfill create SELECTION --stale`.",
        )
    return StaleSelection(sorted(chosen), partitions, sum(len(keys) for keys in stale.values()))


def _stale_keys(surface: Api, key: str) -> list[str | None]:
    found: list[str | None] = []
    for page in surface.pages(key, "partitions", root=ASSETS, params={"stale": "true"}):
        found += [one["partition_key"] for one in page["items"]]
        if len(found) > MOST_STALE:
            break
    return found


def _nodes(surface: Api) -> Mapping[str, DeployedNode]:
    from springline.definitions.manifest import DeployedManifest  # noqa: PLC0415 - only who asks for it waits for it

    found = surface.call("GET", "latest", root=MANIFESTS).body
    # Of a newer API there may be more than is known here.
    return DeployedManifest.model_validate(found, extra="ignore").nodes
