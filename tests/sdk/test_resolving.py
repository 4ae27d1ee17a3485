"""Names and parameters: which asset each means, and everything that is wrong between assets, at once."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import given

from springline.definitions.graph import topological_order
from springline.sdk import Asset, asset, daily, dep, external, latest, static, window
from springline.sdk.resolving import Pipeline, assets_of, resolve
from tests.definitions.test_graph import Graph, graphs, has_order

orders = external("shop.orders")


@asset
def raw() -> int:
    return 1


@asset(key="mart.delays")
def delays(raw: int) -> int:
    return raw


def edges(pipeline: Pipeline, key: str) -> dict[str, str | None]:
    return {one.asset: one.argument for one in pipeline.assets[key].dependencies}


def said(*assets: Asset[..., Any]) -> list[str]:
    return [f"{one.asset} {one.message}. {one.remedy}" for one in resolve(assets).problems]


def test_a_parameter_names_a_key_a_function_or_what_is_external() -> None:
    @asset(deps=["raw"])
    def report(delays: int, orders: int, limit: int = 3) -> None: ...

    pipeline = resolve([report, delays, raw])
    assert pipeline.problems == []
    assert edges(pipeline, "report") == {"raw": None, "mart.delays": "delays", "shop.orders": "orders"}
    assert edges(pipeline, "mart.delays") == {"raw": "raw"}
    assert pipeline.upstream["report"] == ["raw", "mart.delays"]


def test_a_parameter_may_take_what_deps_names() -> None:
    @asset(deps=[dep(delays, latest()), external("shop.customers"), raw, raw, "raw"])
    def report(delays: int, customers: int) -> None: ...

    made = resolve([report, raw, delays])
    assert edges(made, "report") == {"mart.delays": "delays", "shop.customers": "customers", "raw": None}
    assert [one.mapping for one in made.assets["report"].dependencies] == [latest(), None, None]
    (problem,) = made.problems
    assert "there is no latest one of no partitions" in problem.message


def test_what_is_wrong_between_assets() -> None:
    @asset
    def misspelt(rwa: int, nothing_like_it: int) -> None: ...

    @asset(deps=["mart.dealys"])
    def by_name() -> None: ...

    @asset(deps=[dep(raw, latest()), dep(raw, window())])
    def twice() -> None: ...

    assert said(misspelt, raw) == [
        "misspelt has the parameter rwa, and no asset is called that. Did you mean raw?",
        "misspelt has the parameter nothing_like_it, and no asset is called that. There are raw. A parameter names the "
        "asset whose output it takes, is called context, or has a default; nothing_like_it = "
        "external('nothing_like_it') names an asset of another code location.",
    ]
    assert said(by_name, raw, delays) == [
        "by_name depends on 'mart.dealys', and no asset is called that. Did you mean mart.delays?"
    ]
    (nothing_near,) = said(by_name)
    assert nothing_near.endswith("external('mart.dealys').")
    assert "twice maps raw in two ways. Name it once in deps." in said(twice, raw)


def test_an_asset_that_is_not_part_of_the_pipeline() -> None:
    @asset(deps=[raw])
    def lonely() -> None: ...

    (problem,) = said(lonely)
    assert "raw of test_resolving.py, which is not part of the pipeline" in problem
    assert "external('raw')" in problem


def test_a_parameter_that_may_mean_two() -> None:
    def made(key: str) -> Asset[..., Any]:
        @asset(key=key)
        def rows() -> None: ...

        return rows

    @asset
    def report(rows: int) -> None: ...

    @asset(deps=["b.rows"])
    def clear(rows: int) -> None: ...

    a, b = made("a.rows"), made("b.rows")
    (problem,) = said(a, b, report)
    assert "which may mean a.rows or b.rows" in problem
    assert edges(resolve([a, b, clear]), "clear") == {"b.rows": "rows"}


def test_two_parameters_for_one_asset() -> None:
    @asset(key="raw")
    def rows() -> None: ...

    @asset
    def report(raw: int, rows: int) -> None: ...

    (problem,) = said(rows, report)
    assert "takes raw twice, as raw and rows" in problem


def test_a_key_that_is_there_twice_names_both_places() -> None:
    @asset(key="raw")
    def other() -> None: ...

    (problem,) = resolve([raw, other]).problems
    assert problem.line == other.line
    assert f"the key of the asset at test_resolving.py:{raw.line}" in problem.message
    assert resolve([raw, raw]).problems == []


def test_partitions_that_do_not_belong_together() -> None:
    @asset(partitions=daily("2024-01-01"))
    def days() -> None: ...

    @asset(partitions=static("eu"), deps=[days])
    def regions() -> None: ...

    (problem,) = said(days, regions)
    assert "regions cannot depend on days: nothing says how daily partitions belong to static partitions" in problem


def test_circles_and_all_other_problems_are_told_together_in_the_order_of_lines() -> None:
    @asset(retries=-1)
    def first(third: int) -> None: ...

    @asset
    def second(first: int, nowhere: int) -> None: ...

    @asset
    def third(second: int) -> None: ...

    @asset
    def own(own: int) -> None: ...

    problems = resolve([own, third, second, first]).problems
    assert [one.asset for one in problems] == ["first", "first", "second", "own"]
    assert "by first -> third -> second -> first" in problems[1].message
    assert "no asset is called that" in problems[2].message
    # A parameter never means the asset itself by its function's name, but by its key it does.
    assert "depends on itself" in problems[3].message


@given(graphs(with_circles=True))
def test_a_pipeline_has_an_order_or_a_problem(graph: Graph) -> None:
    def function() -> None: ...

    made = [asset(key=key, deps=needed)(function) for key, needed in graph.items()]
    pipeline = resolve(made)
    circles = [one for one in pipeline.problems if "depends on itself" in one.message]
    assert (not circles) == has_order(graph)
    assert len(circles) == len(pipeline.problems)
    if not circles:
        assert sorted(topological_order(pipeline.upstream)) == sorted(graph)


def test_assets_are_found_in_modules_and_in_what_holds_them() -> None:
    assert assets_of(sys.modules[__name__]) == [raw, delays]
    assert assets_of({"a": [raw, (delays,)], "b": raw}) == [raw, delays]
    assert assets_of(3) == []
