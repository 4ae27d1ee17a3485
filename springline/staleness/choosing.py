"""Which partitions of a selection are stale, as a backfill takes them: one list of keys for all of its assets.

A backfill makes each of its partitions of each of its assets, what is upstream first in every run. So the keys are
those of which at least one asset is stale, and the assets those that are stale somewhere, with what has to come along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from springline.definitions.backfills import (
    BadChoice,
    PartitionsAsked,
    Span,
    backfilled_assets,
    bad_selection,
    chosen_partitions,
)
from springline.definitions.graph import downstream_of, reach, upstream_of
from springline.definitions.ids import named
from springline.definitions.manifest import DeployedManifest, DeployedNode
from springline.definitions.partitions import Partitions
from springline.definitions.selection import BadSelection, select_nodes
from springline.staleness.judging import REASONS
from springline.staleness.needs import NeedsOfAssets
from springline.staleness.reading import AssetStands

MOST_JUDGED: Final = 200_000
"""Partitions, counted for each asset, that one choice judges: some seconds of one core."""


@dataclass(slots=True)
class StaleCount:
    """How many of the partitions that were looked at are stale of an asset, and why."""

    asset: str
    stale: int = 0
    states: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class StaleChoice:
    """What a backfill has to make so that nothing of a selection is stale; of nothing stale no assets and no keys.

    `counts`: the selected assets that are stale, what is upstream first.
    """

    assets: tuple[str, ...] = ()
    keys: Span | list[str] = field(default_factory=list)
    counts: tuple[StaleCount, ...] = ()

    @property
    def stale(self) -> int:
        """How many partitions are stale, counted for each asset."""
        return sum(one.stale for one in self.counts)


def chosen_stale(
    stands: AssetStands,
    manifest: DeployedManifest,
    terms: Sequence[str],
    asked: PartitionsAsked,
    reasons: Collection[str] = (),
) -> StaleChoice:
    """Return what is stale of a selection.

    Assets of the selection that are current come along if they depend on one that is made, because they are stale then;
    and assets whose output a parameter takes, because no run could be planned without them.

    Args:
        stands: how partitions stand, at the instant that counts.
        manifest: the definitions that `stands` judges by.
        terms: the selection.
        asked: the partitions that are looked at; saying nothing, all whose time has begun.
        reasons: why a partition is to be stale, of `REASONS`; empty for any reason.

    Raises `BadChoice`: for a selection or partitions that mean nothing, for more than `MOST_JUDGED`, and if what is
    stale is cut into partitions in different ways.
    """
    nodes = manifest.nodes
    try:
        selected = sorted(key for key in select_nodes(nodes, terms) if key in stands.assets)
    except BadSelection as error:
        raise bad_selection(error) from error
    places = _places(stands, selected, asked)
    wanted = set(reasons) or {one.value for one in REASONS}
    counts: list[StaleCount] = []
    stale_places: dict[Partitions, set[int]] = {}
    for key in selected:
        cut = stands.assets[key].partitions
        found = StaleCount(key)
        for span in places[cut]:
            for place, one in zip(span, stands.stands(key, span.start, span.stop), strict=True):
                if one.verdict.stale and one.verdict.state.value in wanted:
                    found.stale += 1
                    found.states[one.verdict.state.value] += 1
                    if cut is not None:
                        stale_places.setdefault(cut, set()).add(place)
        if found.stale:
            counts.append(found)
    if not counts:
        return StaleChoice()
    counts = _upstream_first(nodes, counts)
    of_all = _one_cut(stands, terms, counts)
    alike = [key for key in selected if stands.assets[key].partitions == of_all]
    assets, _ = backfilled_assets(nodes, sorted(_with_what_follows(manifest, alike, [one.asset for one in counts])))
    return StaleChoice(assets, _keys_at(of_all, sorted(stale_places[of_all])), tuple(counts))


def _places(
    stands: AssetStands, selected: Iterable[str], asked: PartitionsAsked
) -> Mapping[Partitions | None, list[range]]:
    """Return the positions that are looked at, by how assets are cut into partitions. Raises `BadChoice`."""
    keys: dict[Partitions | None, list[str]] = {}
    for key in selected:
        keys.setdefault(stands.assets[key].partitions, []).append(key)
    cuts = {cut: assets for cut, assets in keys.items() if cut is not None}
    says_keys = asked not in (PartitionsAsked(), PartitionsAsked(everything=True))
    if says_keys and len(cuts) > 1:
        first, second = [assets[0] for assets in cuts.values()][:2]
        raise BadChoice(
            "select",
            [first, second],
            f"{first} and {second} are cut into partitions in different ways, and keys are those of one of them",
            "Select assets with the same partitions, or leave partitions, start, end and match out.",
        )
    places: dict[Partitions | None, list[range]] = {None: [range(1)]}
    judged = 0
    for cut, assets in cuts.items():
        places[cut] = _places_of(cut, asked, datetime.fromtimestamp(stands.now_ms / 1_000, UTC))
        judged += len(assets) * sum(map(len, places[cut]))
        if judged > MOST_JUDGED:
            raise BadChoice(
                "partitions" if asked.keys is not None else "start",
                asked.start,
                f"{judged} partitions of {named(assets)} would have to be judged, and {MOST_JUDGED} is the most of one "
                f"request",
                "Give start and end that lie nearer together, or fewer assets.",
            )
    return places


def _places_of(cut: Partitions, asked: PartitionsAsked, now: datetime) -> list[range]:
    begun = cut.begun_by(now)
    if asked == PartitionsAsked():
        return [range(begun)]
    found = chosen_partitions(cut, asked, now)
    if isinstance(found, Span):
        return [range(found.first, min(found.behind, begun))] if found.first < begun else []
    static = {key: place for place, key in enumerate(cut.keys)}
    return _spans(place for key in found if (place := static[key] if static else cut.position(key)) < begun)


def _spans(places: Iterable[int]) -> list[range]:
    """Return positions in order as the spans that they are."""
    spans: list[range] = []
    for place in places:
        if spans and spans[-1].stop == place:
            spans[-1] = range(spans[-1].start, place + 1)
        else:
            spans.append(range(place, place + 1))
    return spans


def _keys_at(cut: Partitions, places: Sequence[int]) -> Span | list[str]:
    spans = _spans(places)
    if len(spans) == 1:
        return Span(cut, spans[0].start, spans[0].stop)
    return [cut.key_at(place) for place in places]


def _one_cut(stands: AssetStands, terms: Sequence[str], counts: Sequence[StaleCount]) -> Partitions:
    """Return how all that is stale is cut into partitions; raises `BadChoice` if one backfill cannot make it."""
    steps: list[tuple[Partitions | None, list[StaleCount]]] = []
    for one in counts:
        of_asset = stands.assets[one.asset].partitions
        if not steps or steps[-1][0] != of_asset:
            steps.append((of_asset, []))
        steps[-1][1].append(one)
    first = steps[0][0]
    if first is not None and len(steps) == 1:
        return first
    if len(steps) == 1:
        said = f"{_stale_text(counts)} stale, and without partitions: a backfill goes from partition to partition"
    else:
        said = f"{_stale_text(counts)} stale, and a backfill makes assets with the same partitions"
    each = [_step_text(cut, [one.asset for one in of_it]) for cut, of_it in steps]
    remedy = f"Make them one after the other, what is upstream first: {', then '.join(each)}."
    raise BadChoice("select", list(terms), said, remedy if len(each) > 1 else f"Make them by {each[0]}.")


def _step_text(cut: Partitions | None, assets: Sequence[str]) -> str:
    command = "run start" if cut is None else "backfill create"
    return f"`springline {command} {' '.join(assets)} --stale`"


def _stale_text(counts: Sequence[StaleCount]) -> str:
    names = named([f"{one.asset} ({one.stale})" for one in counts])
    return f"{names} {'is' if len(counts) == 1 else 'are'}"


def _upstream_first(nodes: Mapping[str, DeployedNode], counts: Iterable[StaleCount]) -> list[StaleCount]:
    upstream = upstream_of(nodes)
    # What is downstream of an asset has all above it that the asset has, and the asset.
    return sorted(counts, key=lambda one: (len(reach([one.asset], upstream)), one.asset))


def _with_what_follows(manifest: DeployedManifest, selected: Sequence[str], stale: Collection[str]) -> set[str]:
    """Return assets with those of `selected` that depend on one of them, and all whose outputs parameters take.

    An input that comes along is made again as well, and so is what depends on it.
    """
    needs = NeedsOfAssets(manifest)
    nodes = manifest.nodes
    taken = {
        key: [
            edge.asset
            for edge in node.dependencies
            if edge.asset in nodes and (edge.argument is not None or nodes[edge.asset].asset_key is None)
        ]
        for key, node in nodes.items()
    }
    found, before = set(stale), set[str]()
    while found != before:
        before = found
        made = {key for key in found if nodes[key].asset_key is not None}
        dependents = downstream_of({key: needs.of(key) for key in sorted(made.union(selected))})
        found = reach(found | reach(made, dependents), taken)
    return found
