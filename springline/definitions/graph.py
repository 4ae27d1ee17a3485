"""The graph of assets: its order, its circles, what lies up and down the stream.

All functions take `upstream`: for each asset the assets that it depends on. Results are the same for every order of
dependencies, and in time that grows with nodes and edges.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

Upstream = Mapping[str, Collection[str]]


class EdgeTo(Protocol):
    """What making a graph has to know of a dependency."""

    @property
    def asset(self) -> str:
        """The key of the asset or task."""


class Dependent(Protocol):
    """What making a graph has to know of an asset or a task."""

    @property
    def dependencies(self) -> Sequence[EdgeTo]:
        """What it needs."""


def upstream_of(nodes: Mapping[str, Dependent]) -> dict[str, list[str]]:
    """Return for each of `nodes` those of them that it depends on."""
    return {key: [edge.asset for edge in one.dependencies if edge.asset in nodes] for key, one in nodes.items()}


def topological_order(upstream: Upstream) -> list[str]:
    """Return all assets, each behind those that it depends on, and in the order of `upstream` where that is free.

    Dependencies that are not in the graph count as done. Raises `ValueError` if there is a circle.
    """
    rank = {asset: number for number, asset in enumerate(upstream)}
    names = list(upstream)
    down = downstream_of(upstream)
    waits = {asset: len({one for one in upstream[asset] if one in upstream}) for asset in upstream}
    ready = [rank[asset] for asset, count in waits.items() if not count]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        asset = names[heapq.heappop(ready)]
        order.append(asset)
        for one in down[asset]:
            waits[one] -= 1
            if not waits[one]:
                heapq.heappush(ready, rank[one])
    if len(order) != len(names):
        raise ValueError("the graph has a circle")
    return order


def downstream_of(upstream: Upstream) -> dict[str, list[str]]:
    """Return for each asset of the graph those that depend on it, in the order of the graph."""
    down: dict[str, list[str]] = {asset: [] for asset in upstream}
    for asset, needed in upstream.items():
        for one in dict.fromkeys(needed):
            if one in down:
                down[one].append(asset)
    return down


def reach(start: Iterable[str], edges: Upstream) -> set[str]:
    """Return `start` and all that is reached from it along `edges`, within the graph."""
    found = set(start)
    waiting = list(found)
    while waiting:
        for one in edges[waiting.pop()]:
            if one in edges and one not in found:
                found.add(one)
                waiting.append(one)
    return found


def circles(upstream: Upstream) -> list[list[str]]:
    """Return a short circle of each knot of assets that depend on each other, the first asset again at its end.

    In the list each asset depends on the next one. Empty if the graph has an order. A circle begins with its least
    name.
    """
    found = []
    for knot in _knots(upstream):
        inside = set(knot)
        shortest: list[str] | None = None
        for asset in sorted(knot)[:_TRIED]:
            circle = _circle_through(asset, upstream, inside)
            if circle is not None and (shortest is None or len(circle) < len(shortest)):
                shortest = circle
        if shortest is not None:
            ring = shortest[:-1]
            least = ring.index(min(ring))
            found.append([*ring[least:], *ring[:least], ring[least]])
    return sorted(found)


_TRIED = 10
"""Of how many assets of a knot the shortest circle is looked for: in a knot of thousands any short one will do."""


def _circle_through(asset: str, upstream: Upstream, inside: set[str]) -> list[str] | None:
    """Return a shortest way from an asset back to itself, along what it depends on."""
    came: dict[str, str] = {}
    waiting = deque([asset])
    while waiting:
        here = waiting.popleft()
        for one in sorted(upstream[here]):
            if one == asset:
                path = [here]
                while path[-1] != asset:
                    path.append(came[path[-1]])
                return [*reversed(path), asset]
            if one in inside and one not in came:
                came[one] = here
                waiting.append(one)
    return None


def _knots(upstream: Upstream) -> list[list[str]]:
    """Return the sets of assets that all depend on each other, and assets that depend on themselves (Tarjan)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    on_stack: set[str] = set()
    stack: list[str] = []
    knots: list[list[str]] = []
    for root in upstream:
        if root in number:
            continue
        work = [(root, iter(sorted(upstream[root])))]
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while work:
            asset, needed = work[-1]
            for one in needed:
                if one not in upstream:
                    continue
                if one not in number:
                    number[one] = low[one] = len(number)
                    stack.append(one)
                    on_stack.add(one)
                    work.append((one, iter(sorted(upstream[one]))))
                    break
                if one in on_stack:
                    low[asset] = min(low[asset], number[one])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[asset])
                if low[asset] == number[asset]:
                    knot = []
                    while True:
                        one = stack.pop()
                        on_stack.discard(one)
                        knot.append(one)
                        if one == asset:
                            break
                    if len(knot) > 1 or asset in upstream[asset]:
                        knots.append(knot)
    return knots
