"""Judging assets together: do their dependencies exist, fit and lead nowhere in a circle?

The library judges one pipeline file by these rules, the server a whole workspace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from springline.definitions.graph import circles, upstream_of
from springline.definitions.ids import meant, named
from springline.definitions.mappings import PartitionMapping, effective_mapping, problem_of_unpaired_time
from springline.definitions.partitions import FieldProblem, Partitions


class Edge(Protocol):
    """A dependency."""

    @property
    def asset(self) -> str:
        """The key of the asset that is depended on."""

    @property
    def mapping(self) -> PartitionMapping | None:
        """Which of its partitions are needed; None for what the partitions of both suggest."""

    @property
    def argument(self) -> str | None:
        """The parameter that takes its output, None if none does."""


class Node(Protocol):
    """An asset or a task in the graph."""

    @property
    def key(self) -> str:
        """Its key."""

    @property
    def dependencies(self) -> Sequence[Edge]:
        """What it depends on."""

    @property
    def partitions(self) -> Partitions | None:
        """Its partitions, None if it has none."""

    @property
    def asset_key(self) -> str | None:
        """Its key if it is an asset, None for a task."""

    @property
    def url(self) -> str | None:
        """Where it is made over HTTP, None if workers of its code location make it."""


@dataclass(frozen=True, slots=True)
class DefinitionProblem:
    """What is wrong with an asset. `field` is the part of its definition, `dependency` the other asset if there is one.

    `message` names the value, `remedy` says what to do.
    """

    asset: str
    field: str
    message: str
    remedy: str
    dependency: str | None = None


def kind_of(node: Node) -> str:
    """Return what a node is, for a message."""
    return "task" if node.asset_key is None else "asset"


def judge_graph(nodes: Mapping[str, Node], *, elsewhere: Collection[str] = ()) -> Iterator[DefinitionProblem]:
    """Yield everything that is wrong between assets: unknown dependencies, partitions that do not fit, circles.

    `nodes` by key. Keys `elsewhere` are known without being in the graph, such as those of other code locations: how
    their partitions fit is for whoever sees both.
    """
    for node in nodes.values():
        seen: set[str] = set()
        for edge in node.dependencies:
            if edge.asset in seen:
                yield DefinitionProblem(
                    node.key, "dependencies", f"depends on {edge.asset} twice", "Name it once.", edge.asset
                )
            seen.add(edge.asset)
            upstream = nodes.get(edge.asset)
            if upstream is None:
                if edge.asset not in elsewhere:
                    yield unknown_dependency(node.key, edge.asset, [*nodes, *elsewhere])
                continue
            if edge.argument is not None and upstream.url is not None:
                yield DefinitionProblem(
                    node.key,
                    "dependencies",
                    f"takes the output of {edge.asset} as {edge.argument}, and an asset that is made over HTTP hands "
                    "none over",
                    f"Name it as a dependency only, deps=['{edge.asset}'], and read what it has written.",
                    edge.asset,
                )
            both = (edge.mapping, upstream.partitions, node.partitions)
            mapping = problem_of_unpaired_time(*both) or effective_mapping(*both)
            if isinstance(mapping, FieldProblem):
                said = f"cannot depend on {edge.asset}: {mapping.message}"
                yield DefinitionProblem(node.key, "dependencies", said, mapping.remedy, edge.asset)
    yield from _circles(nodes)


def unknown_dependency(asset: str, dependency: str, known: Collection[str]) -> DefinitionProblem:
    """Return the problem of a dependency that no asset is called."""
    near = meant(dependency, [key for key in known if key != asset])
    more = (
        f"There are {named(sorted(set(known) - {asset}))}. "
        f"An asset of another code location is named by external('{dependency}')."
    )
    return DefinitionProblem(
        asset,
        "dependencies",
        f"depends on {dependency!r}, and no asset is called that",
        near.strip() or more,
        dependency,
    )


def undeclared_pool(pool: str, declared: Collection[str]) -> FieldProblem:
    """Return the problem of an asset whose pool is not declared beside it."""
    near = meant(pool, list(declared))
    return FieldProblem(
        "pool",
        f"names the pool {pool!r}, which is not declared",
        f"{near}Declare it in the pipeline file: pool({pool!r}, slots=3); or take pool={pool!r} out.",
    )


def _circles(nodes: Mapping[str, Node]) -> Iterator[DefinitionProblem]:
    for circle in circles(upstream_of(nodes)):
        path = " -> ".join(circle)
        if len(circle) == 2:
            yield DefinitionProblem(circle[0], "dependencies", "depends on itself", "Remove it.", circle[0])
            continue
        yield DefinitionProblem(
            circle[0],
            "dependencies",
            f"depends on itself, by {path}",
            "Take one of these dependencies out: no asset can be made before itself.",
            circle[1],
        )
