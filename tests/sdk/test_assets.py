"""`@asset`: what a declaration holds, and each thing that can be wrong with it, told with its place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Optional

import pytest

import springline.sdk
from springline.sdk import Asset, Context, InvalidRequest, asset, daily, dep, external, latest, static, window
from springline.sdk import Context as Told
from springline.sdk.declaring import OPTIONS, Dep


@asset
def plain() -> int:
    """What it is.

    More about it.
    """
    return 1


def test_a_bare_decorator() -> None:
    assert isinstance(plain, Asset)
    assert (plain.key, plain.description) == ("plain", "What it is.")
    assert plain.file == __file__
    assert plain.line == inspect.getsourcelines(plain.function)[1]
    assert plain() == 1
    assert plain.__name__ == "plain"
    assert str(inspect.signature(plain)) == "() -> 'int'"
    assert plain.problems == []


def test_every_option() -> None:
    @asset(
        key="mart.delays",
        deps=[plain, "raw", external("shop.orders"), dep("other", latest())],
        partitions=daily("2024-01-01"),
        retries=3,
        retry_delay="1m30s",
        timeout="10m",
        heartbeat=timedelta(seconds=30),
        memory="1.5GiB",
        freshness="6h",
        queue="gpu",
        pool="warehouse",
        priority=-5,
        code_version="v2",
        description="How late.",
        tags={"team": "flights"},
        owners=["ada@example.com"],
    )
    async def delays(context: Context, raw: list[int], limit: int = 3) -> float:
        return 1.0

    assert delays.problems == []
    assert (delays.key, delays.retries, delays.timeout_ms, delays.heartbeat_ms) == ("mart.delays", 3, 600_000, 30_000)
    assert (delays.retry_delay_ms, delays.freshness_ms) == (90_000, 6 * 3_600_000)
    assert delays.memory_bytes == 1536 * 1024 * 1024
    assert (delays.queue, delays.pool, delays.priority, delays.code_version) == ("gpu", "warehouse", -5, "v2")
    assert (delays.tags, delays.owners) == ({"team": "flights"}, ["ada@example.com"])
    assert delays.deps[3] == Dep("other", latest())
    assert (delays.arguments, delays.context_argument) == (["raw"], "context")
    assert delays.line == inspect.getsourcelines(delays.function)[1]


def test_the_context_is_known_by_name_or_by_type() -> None:
    @asset
    def by_type(what: Context, x: int) -> None: ...

    @asset
    def by_module(what: springline.sdk.Context) -> None: ...

    @asset
    def by_name(context, x) -> None: ...  # type: ignore[no-untyped-def]

    def evaluated(what: Any) -> None: ...

    @asset
    def by_alias(what: Told) -> None: ...

    @asset
    def perhaps(what: Context | None = None) -> None: ...

    @asset
    def optional(what: Optional[Told]) -> None: ...  # noqa: UP045

    @asset
    def other(what: list[Context]) -> None: ...

    for kind in (Told | None, Optional[Context], Annotated[Context, "told"]):  # noqa: UP045
        evaluated.__annotations__["what"] = kind
        assert asset(evaluated).context_argument == "what"
    evaluated.__annotations__["what"] = Context
    assert {one.context_argument for one in (by_alias, perhaps, optional)} == {"what"}
    assert other.arguments == ["what"]
    assert (by_type.context_argument, by_type.arguments) == ("what", ["x"])
    assert by_module.context_argument == "what"
    assert (by_name.context_argument, by_name.arguments) == ("context", ["x"])
    assert asset(evaluated).context_argument == "what"


def test_options_that_are_not_given_and_none_are_the_same() -> None:
    @asset(key=None, timeout=None, partitions=None, deps=None, retries=None)
    def same() -> None: ...

    assert same.problems == []
    assert (same.key, same.retries, same.deps) == ("same", 0, [])


def function() -> None: ...


def rows(context: Context) -> Any:
    yield 1


async def pages() -> Any:
    yield 1


def starred(*rows: int) -> None: ...


def keywords(**rows: int) -> None: ...


def by_place(rows: int, /) -> None: ...


Options = dict[str, Any]
WRONG: list[tuple[Options, str, str]] = [
    ({"key": "a:b"}, "key 'a:b', which holds ':'", "letters"),
    ({"key": "a/b"}, "holds '/'", "letters"),
    ({"key": ""}, "is empty", "name"),
    ({"key": "x" * 101}, "101 bytes", "shorter"),
    ({"key": 3}, "is a int", "text"),
    ({"key": "context"}, "the name of a function's Context", "another"),
    ({"retries": -1}, "retries -1, which is out of range", "0 to 100"),
    ({"retries": "3"}, "retries '3', which is no whole number", "0 to 100"),
    ({"retries": True}, "no whole number", "0 to 100"),
    ({"timeout": 600}, "does not say its unit", "10m"),
    ({"timeout": "10 minutes"}, "is no duration", "10m"),
    ({"timeout": timedelta(0)}, "not above zero", "10m"),
    ({"retry_delay": 30}, "retry_delay 30, which does not say its unit", "10m"),
    ({"retry_delay": "0s"}, "not above zero", "10m"),
    ({"retry_delay": "31d"}, "longer than 30d, the most", "10m"),
    ({"heartbeat": "10ms"}, "heartbeat '10ms', which is below 1s", "another"),
    ({"memory": 512}, "memory 512, which does not say its unit", "'512MiB'"),
    ({"memory": "512Mi"}, "memory '512Mi', which is no size", "'512MiB'"),
    ({"memory": "1MiB"}, "memory '1MiB', which is below 64MiB, the least", "'512MiB'"),
    ({"memory_limit": "1GiB"}, "unknown option memory_limit", "Did you mean memory?"),
    ({"freshness": "soon"}, "freshness 'soon'", "duration"),
    ({"heartbeat": "2m", "timeout": "1m"}, "longer than the timeout, 1m", "another"),
    ({"queue": "a b"}, "queue 'a b', which holds ' '", "letters"),
    ({"pool": "*"}, "pool '*'", "letters"),
    ({"priority": 1.5}, "no whole number", "-1000 to 1000"),
    ({"priority": 1_001}, "out of range", "-1000 to 1000"),
    ({"code_version": ""}, "is no text", "at most 200"),
    ({"code_version": 2}, "is no text", "at most 200"),
    ({"code_version": "a\nb"}, "cannot be printed", "out"),
    ({"description": "x" * 4_001}, "4001 characters", "4000"),
    ({"description": "\x1b[31m"}, "cannot be printed", "out"),
    ({"tags": ["a"]}, "is no dict", "tags="),
    ({"tags": {"a": 1}}, "is no text", "at most 200"),
    ({"tags": {str(n): "x" for n in range(51)}}, "is no dict", "at most 50"),
    ({"owners": "ada"}, "is no list", "owners="),
    ({"config": {"rows": 3}}, "config {'rows': 3}, which is no Pydantic model", "@asset(config=Settings)"),
    ({"owners": [1]}, "is no text", "at most 200"),
    ({"partitions": daily}, "are no partitions", "without its parentheses"),
    ({"partitions": "daily"}, "are no partitions", "daily(start="),
    ({"partitions": daily("2024-13-01")}, "partitions that cannot be: start '2024-13-01'", "2024-01-31"),
    ({"partitions": static()}, "there are no keys", "static("),
    ({"deps": "raw"}, "deps 'raw', which is no list", "deps=["),
    ({"deps": plain}, "is no list", "deps=["),
    ({"deps": [function]}, "the function function, which is no asset", "@asset above function"),
    ({"deps": [3]}, "holds 3, which is no asset", "deps=["),
    ({"deps": ["a:b"]}, "holds 'a:b', which holds ':'", "letters"),
    ({"deps": [external("a b")]}, "holds 'a b', which holds ' '", "letters"),
    ({"deps": [dep("a", "latest")]}, "maps a by 'latest', which is no mapping", "latest()"),  # type: ignore[arg-type]
    ({"deps": [dep("a", latest)]}, "which is no mapping", "latest()"),  # type: ignore[arg-type]
    ({"deps": [dep("a", window(1, 0))]}, "begins at 1, behind its end 0", "window("),
    ({"deps": [dep("a", window("1"))]}, "is none", "whole numbers"),  # type: ignore[arg-type]
    ({"deps": [str(n) for n in range(1_001)]}, "deps that are 1001", "at most 1000"),
    ({"retry": 3}, "unknown option retry", "Did you mean retries?"),
    ({"max_retries": 3}, "unknown option max_retries", "Did you mean retries?"),
    ({"depends_on": []}, "unknown option depends_on", "Did you mean deps?"),
    ({"cron": "* * * * *"}, "unknown option cron", "There are key, deps,"),
    ({"checks": [len]}, "holds the function len, which is no check", "checks.custom(len)"),
]


@pytest.mark.parametrize(("options", "said", "remedy"), WRONG)
def test_a_wrong_option_is_told_and_does_not_raise(options: Options, said: str, remedy: str) -> None:
    made: Asset[..., Any] = asset(**options)(function)
    (problem,) = made.problems
    assert said in problem.message
    assert remedy in problem.remedy
    assert problem.remedy.endswith((".", "?"))
    assert problem.file == __file__
    assert problem.line is not None
    assert str(problem).startswith(f"{__file__}:{problem.line}: asset {made.key} has ")


def test_every_option_has_a_wrong_value_above() -> None:
    assert {name for options, _, _ in WRONG for name in options} >= set(OPTIONS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (rows, "yields"),
        (pages, "yields"),
        (starred, "parameter *rows, which takes any number"),
        (keywords, "parameter **rows, which takes any number"),
        (by_place, "parameter rows, which cannot be given by name"),
        (lambda: None, "a name that holds '<'"),
        (plain, "declared twice"),
        (min, "no function whose parameters can be read"),
    ],
)
def test_a_function_that_makes_no_asset_is_told(wrong: Callable[..., Any], said: str) -> None:
    made: Asset[..., Any] = asset(wrong)
    assert any(said in one.message for one in made.problems), made.problems


def test_everything_that_is_wrong_is_told_together() -> None:
    made = asset(retries="x", timeout=1, key="a:b", nonsense=1)(rows)  # type: ignore[call-overload]
    assert len(made.problems) == 5


@pytest.mark.parametrize("written", ["raw", 3])
def test_an_option_without_a_name_is_told(written: Any) -> None:
    made = asset(written)(function)
    assert made.key == ("raw" if written == "raw" else "function")
    assert any("an option without a name" in one.message for one in made.problems)


def test_a_docstring_is_no_danger_for_a_terminal() -> None:
    def odd() -> None: ...

    odd.__doc__ = "A \x1b[31mred\x07 one\ud800.\n\nMore."
    description = asset(odd).description
    assert description is not None
    assert description.isprintable()
    assert description.startswith("A  [31mred  one")


def test_a_context_for_a_test_of_one_function() -> None:
    context = Context("a", partition_key="2024-01-31", config={"limit": 3})
    assert (context.partition_key, context.has_partition, context.task_key) == ("2024-01-31", True, "a[2024-01-31]")
    assert context.config["limit"] == 3
    with pytest.raises(TypeError):
        context.config["limit"] = 4  # type: ignore[index]
    with pytest.raises(InvalidRequest, match="time_window"):
        _ = context.time_window
    context.add_metadata(rows=3, files=["a"])
    context.add_metadata(rows=4)
    assert context.metadata == {"rows": 4, "files": ["a"]}
    for bad in (object(), float("nan"), {1, 2}):
        with pytest.raises(InvalidRequest, match="is no JSON"):
            context.add_metadata(bad=bad)
    context.progress(0.5, "half")
    assert context.last_progress == (0.5, "half")
    for number in (-0.1, 1.1, True, "x", float("nan")):
        with pytest.raises(InvalidRequest, match="from 0 to 1"):
            context.progress(number)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="no partitions"):
        _ = Context("a").partition_key
    assert not Context("a").has_partition
    assert Context("a").log.name == "springline.asset.a"


def test_what_a_decorator_has_noted_at_a_function_changes_nothing_of_its_declaration() -> None:
    def work() -> int:
        return 1

    vars(work).update(kind="etl", retries=9, noted="yes")
    made: Any = asset(work)
    assert (made.kind, made.retries, made.noted) == ("asset", 0, "yes")
