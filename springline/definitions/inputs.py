"""Which partitions have to be there so that others get what their parameters take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from springline.definitions.judging import Node
from springline.definitions.mappings import MappingKind, PartitionMapping, effective_mapping, needed_places
from springline.definitions.partitions import FieldProblem, Partitions

MOST_NEEDED: Final = 10_000
"""Partitions of one asset that are listed: no run takes more."""


def needed_of(
    mapping: PartitionMapping, upstream: Partitions, downstream: Partitions | None, key: str | None, now: datetime
) -> list[str]:
    """Return the keys of the upstream partitions that a partition needs by its effective mapping, in order.

    Where that may be many, those whose time has ended; `MOST_NEEDED` and one more at most.
    """
    ended = upstream.ended_by(now)
    across = upstream.across
    if mapping.kind is MappingKind.ALL:
        return [upstream.key_at(at) for at in range(min(ended, MOST_NEEDED + 1))]
    along, wanted = needed_places(mapping, upstream, downstream, key, max(ended // across - 1, 0))
    if along is None:
        along = range(ended // across)
    elif mapping.kind is not MappingKind.IDENTITY:
        along = range(along.start, min(along.stop, ended // across))
    second = range(across) if wanted is None else wanted
    places = (one * across + other for one in along for other in second)
    found: list[str] = []
    for place in places:
        try:
            found.append(upstream.key_at(place))
        except IndexError:
            break
        if len(found) > MOST_NEEDED:
            break
    return found


def with_inputs(
    nodes: Mapping[str, Node], wanted: Mapping[str, Iterable[str | None]], now: datetime
) -> dict[str, list[str]]:
    """Return assets and tasks with those whose outputs they need in a run, each with its partitions; none: it has none.

    Those are what parameters take, and tasks: they keep nothing that was made before. A run makes the partitions that
    it is asked for of all that have them. So partitions are found only for what has none of those that need it, such as
    days for days and regions.
    """
    found = {key: [one for one in keys if one is not None] for key, keys in wanted.items()}
    waiting = list(found)
    while waiting:
        node = nodes.get(waiting.pop(0))
        for edge in () if node is None else node.dependencies:
            above = nodes.get(edge.asset)
            if node is None or above is None or (edge.argument is None and above.asset_key is not None):
                continue
            before = found.get(above.key)
            more = [] if above.partitions is None else _of_its_own(edge.mapping, above.partitions, node, found, now)
            both = list(dict.fromkeys([*(before or ()), *more]))
            if before is None or len(both) > len(before):
                found[above.key] = both
                waiting.append(above.key)
    return found


def _of_its_own(
    declared: PartitionMapping | None,
    upstream: Partitions,
    node: Node,
    found: Mapping[str, list[str]],
    now: datetime,
) -> list[str]:
    asked = found[node.key]
    shared = [key for key in asked if upstream.problem_of_key(key) is None]
    if shared:
        return shared
    mapping = effective_mapping(declared, upstream, node.partitions)
    if isinstance(mapping, FieldProblem):
        return []
    of = asked if node.partitions is not None else [None]
    needed: dict[str, None] = {}
    for key in of:
        needed.update(dict.fromkeys(needed_of(mapping, upstream, node.partitions, key, now)))
        if mapping.kind is MappingKind.ALL or len(needed) > MOST_NEEDED:
            break
    return list(needed)
