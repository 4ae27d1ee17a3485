"""Selections of assets and tasks, as users write them: `delays`, `*delays`, `raw_flights*`, `*`.

A task leaves nothing that a later run could take as it is. So it is selected with what needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from springline.definitions.graph import Dependent, Upstream, downstream_of, reach, upstream_of
from springline.definitions.ids import meant, named


class BadSelection(ValueError):
    """A term of a selection that means nothing. `term` is that term, `remedy` what to do."""

    def __init__(self, term: str, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.term = term
        self.message = message
        self.remedy = remedy


class Selected(Dependent, Protocol):
    """What selecting has to know of an asset or a task."""

    @property
    def asset_key(self) -> str | None:
        """Its key if it is an asset, None for a task."""


def select_nodes(nodes: Mapping[str, Selected], terms: Iterable[str]) -> set[str]:
    """Return the assets and tasks that `select` selects, with the tasks that they need. Raises `BadSelection`."""
    return with_tasks(nodes, select(upstream_of(nodes), terms))


def with_tasks(nodes: Mapping[str, Selected], chosen: Collection[str]) -> set[str]:
    """Return nodes with the tasks that they need, and those that these need: up to the next assets."""
    to_tasks = {
        key: [one.asset for one in node.dependencies if one.asset in nodes and nodes[one.asset].asset_key is None]
        for key, node in nodes.items()
    }
    return reach(chosen, to_tasks)


def select(upstream: Upstream, terms: Iterable[str]) -> set[str]:
    """Return the assets that at least one of `terms` selects.

    A term is an asset's key; with a star before it, also all that it depends on; with a star behind it, also all that
    depends on it; `*` alone is every asset. One text may hold several terms, separated by commas or blanks.

    Raises `BadSelection` if a term names no asset, and if there is no term at all.
    """
    found: set[str] = set()
    before: set[str] = set()
    behind: set[str] = set()
    single = [one for term in terms for one in term.replace(",", " ").split()]
    if not single:
        raise BadSelection("", "the selection is empty.", "Name an asset, or select all with '*'.")
    for term in single:
        if term == "*":
            found |= set(upstream)
            continue
        key = term.removeprefix("*").removesuffix("*")
        if key not in upstream:
            raise BadSelection(
                term,
                f"the selection {term!r} names no asset.",
                f"{meant(key, upstream)}There are {named(sorted(upstream))}.",
            )
        found.add(key)
        if term.startswith("*"):
            before.add(key)
        if term.endswith("*"):
            behind.add(key)
    # Together: the graph is walked once, and not for each of many terms.
    found |= reach(before, upstream)
    return found | reach(behind, downstream_of(upstream)) if behind else found
