"""Graphs and selections against plain models of them: random graphs, every circle found, every order right."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.definitions.graph import circles, downstream_of, reach, topological_order
from springline.definitions.selection import BadSelection, select

Graph = dict[str, list[str]]


@st.composite
def graphs(draw: st.DrawFn, *, with_circles: bool) -> Graph:
    names = draw(st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, min_size=1, max_size=14))
    made: Graph = {}
    for number, name in enumerate(names):
        among = names if with_circles else names[:number]
        made[name] = draw(st.lists(st.sampled_from(among), max_size=4)) if among else []
    keys = draw(st.permutations(names))
    return {key: made[key] for key in keys}


def has_order(graph: Graph) -> bool:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        return False
    return True


@given(graphs(with_circles=True))
def test_circles_are_found_exactly_where_there_is_no_order(graph: Graph) -> None:
    found = circles(graph)
    assert (found == []) == has_order(graph)
    for circle in found:
        assert circle[0] == circle[-1] == min(circle)
        assert len(set(circle)) == len(circle) - 1
        assert all(after in graph[before] for before, after in pairwise(circle))
    # Without one link of each circle there are fewer knots or smaller ones, and in the end none.
    rest = {key: list(needed) for key, needed in graph.items()}
    for _ in range(100):
        broken = circles(rest)
        if not broken:
            break
        for circle in broken:
            rest[circle[0]] = [one for one in rest[circle[0]] if one != circle[1]]
    assert has_order(rest)


@given(graphs(with_circles=False))
def test_an_order_has_everything_once_and_behind_what_it_needs(graph: Graph) -> None:
    order = topological_order(graph)
    assert sorted(order) == sorted(graph)
    place = {key: number for number, key in enumerate(order)}
    for key, needed in graph.items():
        assert all(place[one] < place[key] for one in needed)


def test_an_order_keeps_the_order_of_declaration_where_it_is_free() -> None:
    assert topological_order({"c": [], "b": [], "a": ["b"]}) == ["c", "b", "a"]
    assert topological_order({"a": ["z"], "m": [], "z": []}) == ["m", "z", "a"]
    assert topological_order({"a": ["elsewhere"]}) == ["a"]
    with pytest.raises(ValueError, match="circle"):
        topological_order({"a": ["b"], "b": ["a"], "c": []})


def test_circles_by_name() -> None:
    assert circles({"a": ["a"]}) == [["a", "a"]]
    assert circles({"b": ["a"], "a": ["b"], "d": ["c"], "c": ["d"], "e": ["a"]}) == [["a", "b", "a"], ["c", "d", "c"]]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": ["a"]}) == [["a", "c", "a"]]
    ring = {str(n): [str((n + 1) % 20_000)] for n in range(20_000)}
    (found,) = circles(ring)
    assert len(found) == 20_001


def model_reach(graph: Graph, key: str) -> set[str]:
    found = {key}
    while True:
        more = {one for have in found for one in graph[have]} | found
        if more == found:
            return found
        found = more


@given(graphs(with_circles=True), st.data())
def test_selections_are_what_they_say(graph: Graph, data: st.DataObject) -> None:
    down: Graph = {key: [other for other in graph if key in graph[other]] for key in graph}
    assert {key: sorted(set(one)) for key, one in downstream_of(graph).items()} == {
        key: sorted(one) for key, one in down.items()
    }
    terms, expected = [], set()
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(sorted(graph)))
        before, behind = data.draw(st.booleans()), data.draw(st.booleans())
        terms.append(f"{'*' * before}{key}{'*' * behind}")
        expected |= {key}
        expected |= model_reach(graph, key) if before else set()
        expected |= model_reach(down, key) if behind else set()
    assert select(graph, terms) == select(graph, [", ".join(terms)]) == expected
    assert reach([key], graph) == model_reach(graph, key)
    assert select(graph, ["*"]) == set(graph)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([], "empty"),
        ([" , "], "empty"),
        (["raw_flihgts"], "Did you mean raw_flights?"),
        (["*x"], "There are delays, raw_flights."),
        (["raw_flights", "delay:s"], "names no asset"),
        (["**"], "names no asset"),
        (["raw_flights**"], "names no asset"),
    ],
)
def test_a_selection_that_means_nothing(terms: list[str], said: str) -> None:
    with pytest.raises(BadSelection, match="selection") as raised:
        select({"raw_flights": [], "delays": ["raw_flights"]}, terms)
    assert said in str(raised.value)
