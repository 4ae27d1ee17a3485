"""`materialize`: orders, outputs, partitions, retries, timeouts, failures, and calls that cannot be meant."""

from __future__ import annotations

import asyncio
import functools
import re
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.sdk import (
    Asset,
    AssetStatus,
    Context,
    InvalidDefinitions,
    InvalidRequest,
    MaterializeFailed,
    MaterializeResult,
    NonRetryable,
    all_partitions,
    asset,
    daily,
    dep,
    external,
    hourly,
    identity,
    latest,
    materialize,
    monthly,
    static,
    window,
)
from tests.definitions.test_graph import Graph, graphs, model_reach

DAYS = daily("2024-01-01")

orders = external("shop.orders")


@asset
def raw() -> list[int]:
    return [1, 2, 3]


@asset
async def total(raw: list[int]) -> int:
    await asyncio.sleep(0)
    return sum(raw)


@asset(deps=[raw])
def report(total: int) -> str:
    return f"total {total}"


PIPELINE: list[Asset[..., Any]] = [report, total, raw]


def test_outputs_go_to_what_depends_on_them() -> None:
    result = materialize(PIPELINE)
    assert list(result.assets) == ["raw", "total", "report"]
    assert result.success
    assert (result.value(report), result["total"].value) == ("total 6", 6)
    assert all(one.attempts == 1 and one.duration_s >= 0 for one in result.assets.values())
    assert (result.failed, result.skipped) == ([], [])


@pytest.mark.parametrize(
    ("select", "made"),
    [
        ("*", ["raw", "total", "report"]),
        ("*total", ["raw", "total"]),
        ("raw*", ["raw", "total", "report"]),
        (raw, ["raw"]),
        ([raw, "total"], ["raw", "total"]),
        ("raw, total", ["raw", "total"]),
        ("raw total", ["raw", "total"]),
    ],
)
def test_selections(select: Any, made: list[str]) -> None:
    assert list(materialize(PIPELINE, select).assets) == made


def test_a_module_is_given_or_one_asset() -> None:
    assert len(materialize(sys.modules[__name__], "*report").assets) == 3
    assert materialize(raw).value(raw) == [1, 2, 3]
    module = types.ModuleType("empty")
    with pytest.raises(InvalidRequest, match="no assets"):
        materialize(module)


def test_inputs_stand_in_for_what_is_not_selected() -> None:
    @asset
    def joined(raw: list[int], orders: list[int]) -> list[int]:
        return raw + orders

    result = materialize([raw, joined], joined, inputs={raw: [7], orders: [8]})
    assert result.value(joined) == [7, 8]
    assert materialize([raw, joined], inputs={"shop.orders": [8]}).value(joined) == [1, 2, 3, 8]


@given(graphs(with_circles=False), st.data())
@settings(deadline=None)
def test_a_random_graph_is_made_in_order_and_failures_skip_exactly_what_needs_them(
    graph: Graph, data: st.DataObject
) -> None:
    failing = data.draw(st.sets(st.sampled_from(sorted(graph)), max_size=2))
    made: list[str] = []

    def function(key: str) -> Any:
        def make(context: Context) -> str:
            made.append(key)
            if key in failing:
                raise RuntimeError(key)
            return key

        return asset(key=key, deps=graph[key])(make)

    result = materialize([function(key) for key in graph], raise_on_error=False)
    down: Graph = {key: [other for other in graph if key in graph[other]] for key in graph}
    skipped = {one for key in failing for one in model_reach(down, key) if one != key}
    assert set(result.skipped) == skipped
    assert set(result.failed) == failing - skipped
    assert set(made) == set(graph) - skipped
    assert len(made) == len(set(made))
    for place, key in enumerate(made):
        assert all(made.index(one) < place for one in graph[key])
    for key in skipped:
        assert result[key].skipped_by in graph[key]
        assert result[key].attempts == 0


def flaky(failures: int, error: Exception, **options: Any) -> Asset[..., Any]:
    def source(context: Context) -> int:
        context.add_metadata(attempt=context.attempt)
        if context.attempt <= failures:
            raise error
        return context.attempt

    return asset(**options)(source)


@pytest.mark.parametrize(("failures", "retries", "attempts"), [(0, 3, 1), (2, 3, 3), (3, 3, 4), (4, 3, 4), (1, 0, 1)])
def test_a_failed_attempt_is_followed_by_as_many_as_are_said(failures: int, retries: int, attempts: int) -> None:
    source = flaky(failures, OSError("busy"), retries=retries)
    result = materialize(source, raise_on_error=False)
    found = result[source]
    assert found.attempts == attempts
    assert found.metadata == {"attempt": attempts}
    assert result.success == (failures <= retries)
    if failures > retries:
        with pytest.raises(OSError, match="busy"):
            result.value(source)


def test_what_is_not_to_be_tried_again_is_not() -> None:
    source = flaky(9, NonRetryable("the file is broken"), retries=5)
    assert materialize(source, raise_on_error=False)[source].attempts == 1


def test_a_failure_is_raised_at_the_end_with_everything_that_was_made() -> None:
    @asset
    def broken(raw: list[int]) -> None:
        raise ValueError("no good")

    @asset
    def behind(broken: None) -> None: ...

    with pytest.raises(MaterializeFailed) as raised:
        materialize([broken, behind, raw, total])
    assert isinstance(raised.value.__cause__, ValueError)
    result: MaterializeResult = raised.value.result
    assert result["total"].status is AssetStatus.SUCCEEDED
    assert str(raised.value).splitlines() == [
        "broken failed in attempt 1: ValueError: no good",
        "behind was skipped, because broken has no output",
    ]
    with pytest.raises(KeyError, match="was skipped"):
        result.value(behind)
    with pytest.raises(KeyError, match="not selected"):
        _ = result["nothing"]


@pytest.mark.parametrize("ends", [SystemExit(3), asyncio.CancelledError(), BaseException("odd")])
def test_whatever_ends_a_function_ends_the_attempt_only(ends: BaseException) -> None:
    @asset(retries=1)
    def sync() -> None:
        raise ends

    @asset
    async def with_async() -> None:
        raise ends

    result = materialize([sync, with_async, raw], raise_on_error=False)
    assert result.failed == ["sync", "with_async"]
    assert result["sync"].attempts == 2
    assert type(result["with_async"].error) is type(ends)
    assert result["raw"].status is AssetStatus.SUCCEEDED


def test_ctrl_c_ends_it_all() -> None:
    @asset
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialize([interrupted, raw])


def test_an_async_attempt_is_cancelled_when_its_time_is_over() -> None:
    ended: list[str] = []

    @asset(timeout="30ms", retries=1)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    found = materialize(slow, raise_on_error=False)[slow]
    assert isinstance(found.error, TimeoutError)
    assert str(found.error) == "slow took longer than its timeout, 30ms"
    assert (found.attempts, ended) == (2, ["cancelled"] * 2)


def test_a_timeout_of_the_functions_own_is_its_own() -> None:
    @asset(timeout="1h")
    async def mine() -> None:
        raise TimeoutError("of mine")

    assert str(materialize(mine, raise_on_error=False)[mine].error) == "of mine"


@pytest.mark.parametrize("how", ["sync", "blocking async"])
def test_what_cannot_be_stopped_counts_as_failed_when_it_took_too_long(how: str) -> None:
    def work() -> int:
        deadline = time.perf_counter() + 0.02
        while time.perf_counter() < deadline:
            continue
        return 1

    @asset(timeout="10ms")
    def sync() -> int:
        return work()

    @asset(timeout="10ms")
    async def blocking() -> int:
        return work()

    one: Asset[..., Any] = sync if how == "sync" else blocking
    found = materialize(one, raise_on_error=False)[one]
    assert isinstance(found.error, TimeoutError)
    assert found.value is None


def test_async_functions_share_a_loop_and_others_may_start_one_of_their_own() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    @asset
    async def lock() -> None:
        loops.append(asyncio.get_running_loop())

    @asset
    async def same(lock: None) -> bool:
        return loops == [asyncio.get_running_loop()]

    @asset
    def own(lock: Any) -> int:
        async def inner() -> int:
            return 7

        return asyncio.run(inner())

    result = materialize([lock, same, own])
    assert (result.value(same), result.value(own)) == (True, 7)
    assert loops[0].is_closed()


async def test_it_works_beside_a_running_loop() -> None:
    @asset
    def where() -> str:
        return threading.current_thread().name

    result = materialize([*PIPELINE, where])
    assert result.value(report) == "total 6"
    assert result.value(where) != threading.current_thread().name
    with pytest.raises(MaterializeFailed):
        materialize(flaky(1, OSError()))


def test_what_a_function_learns_and_tells() -> None:
    seen: list[Context] = []

    @asset(partitions=DAYS)
    def day(context: Context) -> str:
        seen.append(context)
        context.add_metadata(rows=3)
        context.progress(0.25, "a quarter")
        return context.partition_key

    result = materialize(day, partition_key="2024-01-31", config={"limit": 2}, run_id="run-7")
    (context,) = seen
    assert (context.asset, context.attempt, context.run_id) == ("day", 1, "run-7")
    assert (context.config["limit"], context.task_key) == (2, "day[2024-01-31]")
    assert context.time_window == (datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
    found = result[day]
    assert (found.partition_key, found.metadata, found.progress) == ("2024-01-31", {"rows": 3}, (0.25, "a quarter"))
    assert result.run_id == "run-7"
    assert materialize(raw).run_id != materialize(raw).run_id


def test_partitions_come_alone_or_by_key() -> None:
    @asset(partitions=DAYS)
    def day(context: Context) -> str:
        return context.partition_key

    @asset(partitions=DAYS)
    def same(day: str) -> Any:
        return day

    @asset
    def every(day: dict[str, str]) -> Any:
        return day

    @asset(deps=[dep(day, latest())])
    def last(day: str) -> Any:
        return day

    @asset(partitions=DAYS, deps=[dep(day, all_partitions())])
    def asked_for_all(day: dict[str, str]) -> Any:
        return day

    @asset(partitions=DAYS)
    def unpartitioned_above(raw: list[int]) -> Any:
        return raw

    result = materialize([day, same, every, last, asked_for_all, raw, unpartitioned_above], partition_key="2024-01-02")
    assert {key: one.value for key, one in result.assets.items()} == {
        "day": "2024-01-02",
        "same": "2024-01-02",
        "every": {"2024-01-02": "2024-01-02"},
        "last": "2024-01-02",
        "asked_for_all": {"2024-01-02": "2024-01-02"},
        "raw": [1, 2, 3],
        "unpartitioned_above": [1, 2, 3],
    }
    assert result["every"].partition_key is None


def test_a_window_takes_what_lies_in_it_and_waits_for_nothing_else() -> None:
    made: list[str] = []

    @asset(partitions=DAYS)
    def day(context: Context) -> str:
        if context.config.get("fails"):
            raise ValueError("no rows")
        return context.partition_key

    @asset(partitions=DAYS, deps=[dep(day, window(-2, 0))])
    def lately(day: dict[str, str]) -> Any:
        return day

    @asset(partitions=DAYS, deps=[dep(day, window(-1, -1))])
    def change(day: dict[str, str]) -> Any:
        made.append("change")
        return day

    # Of the day before nothing is made here, as in a run of that one day: another day is not taken for it.
    result = materialize([day, lately, change], partition_key="2024-01-02")
    assert (result.value(lately), result.value(change)) == ({"2024-01-02": "2024-01-02"}, {})
    failed = materialize([day, lately, change], partition_key="2024-01-02", config={"fails": 1}, raise_on_error=False)
    assert (failed.failed, failed.skipped, len(made)) == (["day"], ["lately"], 2)


@asset(partitions=DAYS)
def daily_one() -> None: ...


@asset(partitions=hourly("2024-01-01"))
def hourly_one() -> None: ...


@asset(partitions=static("eu", "us"))
def regional() -> None: ...


CALLS: list[tuple[dict[str, Any], str]] = [
    ({"assets": [raw, total], "select": "totl"}, "Did you mean total?"),
    ({"assets": [raw], "select": ""}, "the selection is empty"),
    ({"assets": []}, "there are no assets"),
    ({"assets": [raw, total], "select": "total"}, "total takes the output of raw, which is not selected"),
    ({"assets": [daily_one]}, "daily_one has daily partitions: give the partition_key"),
    ({"assets": [daily_one], "partition_key": "2023-12-31"}, "lies before the first partition"),
    ({"assets": [daily_one], "partition_key": "today"}, "is no key of daily partitions"),
    ({"assets": [daily_one, hourly_one], "partition_key": "2024-01-01"}, r"no key of hourly partitions.*hourly_one"),
    ({"assets": [regional], "partition_key": "uk"}, "is none of the keys"),
    ({"assets": [raw], "partition_key": "2024-01-01"}, "have no partitions: leave it out"),
    ({"assets": [raw, total], "inputs": {"raw": [1]}}, "selected itself"),
    ({"assets": [raw], "inputs": {"rwa": [1]}}, "which nothing depends on"),
]


@pytest.mark.parametrize(("call", "said"), CALLS)
def test_a_call_that_cannot_be_meant_makes_nothing(call: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        materialize(**call)


def test_wrong_assets_make_nothing() -> None:
    ran: list[int] = []

    @asset(retries=-1)
    def wrong() -> None:
        ran.append(1)

    @asset(deps=[dep(wrong, identity())], partitions=monthly("2024-01"))
    def other() -> None: ...

    with pytest.raises(InvalidDefinitions) as raised:
        materialize([wrong, other], partition_key="2024-01")
    assert len(raised.value.problems) == 2
    assert ran == []


def test_a_parameter_takes_what_a_run_would_hand_over() -> None:
    @asset
    def pair() -> tuple[int, list[int]]:
        return (1, [2])

    @asset
    def greedy(pair: list[Any]) -> str:
        pair[1].clear()
        return type(pair).__name__

    @asset(deps=[greedy])
    def modest(pair: list[Any]) -> int:
        return len(pair[1])

    made = materialize([pair, greedy, modest])
    assert (made.value(pair), made.value(greedy), made.value(modest)) == ((1, [2]), "list", 1)


@pytest.mark.parametrize("value", [{1, 2}, {1: "a"}, float("nan"), datetime(2024, 1, 1, tzinfo=UTC)], ids=repr)
def test_an_output_that_a_run_could_not_keep_fails_its_asset(value: Any) -> None:
    @asset(retries=2)
    def up() -> Any:
        return value

    @asset
    def down(up: Any) -> None: ...

    made = materialize([up, down], raise_on_error=False)
    assert (made["up"].attempts, made["down"].status) == (1, AssetStatus.SKIPPED)
    assert "other assets take the output of up, and its output" in str(made["up"].error)
    assert materialize([up]).value(up) is value


def test_more_metadata_than_a_run_takes_fails_its_asset() -> None:
    @asset
    def chatty(context: Context) -> None:
        context.add_metadata(said="x" * 20_000)

    (made,) = materialize([chatty], raise_on_error=False).assets.values()
    assert "takes 20,012 bytes, more than 16,384" in str(made.error)


TOLD: list[tuple[Any, str]] = [
    ("a\udcff.csv", r"not UTF-8.*repr\(\)"),
    ({"a\udcff.csv": 1}, r"not UTF-8.*repr\(\)"),
    ([{"rows": 2**64}], "the number 18446744073709551616, which takes more than 64 bits: give it as a text"),
    (functools.reduce(lambda inner, _: [inner], range(150), cast("Any", 0)), "nested more than 100 deep"),
]


@pytest.mark.parametrize(("value", "said"), TOLD, ids=["text", "key", "number", "deep"])
def test_metadata_that_a_run_cannot_carry_are_refused_where_they_are_told(value: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"metadata told .*{said}"):
        Context().add_metadata(told=value)

    @asset
    def past_it(context: Context) -> None:
        context.metadata["told"] = value

    (made,) = materialize([past_it], raise_on_error=False).assets.values()
    assert re.search(f"the metadata of past_it .*{said}", str(made.error))


def test_a_config_is_each_attempts_own() -> None:
    @asset(retries=1)
    def greedy(context: Context) -> int:
        context.config["days"].clear()
        if context.attempt == 1:
            raise ValueError("again")
        return len(context.config["days"])

    @asset(deps=[greedy])
    def modest(context: Context) -> Any:
        return context.config["days"]

    config = {"days": ["2024-01-31"]}
    assert materialize([greedy, modest], config=config).value(modest) == ["2024-01-31"]
    assert config == {"days": ["2024-01-31"]}


def passes_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def passed(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return passed


def test_a_generator_that_nobody_has_run_is_no_success() -> None:
    ran: list[int] = []

    @asset(retries=2)
    @passes_on
    def rows() -> Iterator[int]:
        ran.append(1)
        yield 1

    @asset
    @passes_on
    async def waits() -> AsyncIterator[int]:
        ran.append(1)
        yield 1

    @asset
    def lazily() -> Any:
        return (ran.remove(one) or one for one in range(3))  # type: ignore[func-returns-value]

    made = materialize([rows, waits, lazily], raise_on_error=False)
    assert (made.failed, ran) == (["rows", "waits", "lazily"], [])
    assert made["rows"].attempts == 1
    assert "the function returned a generator, of which nothing has run: return list(...)" in str(made["rows"].error)
    assert "an async generator" in str(made["waits"].error)
