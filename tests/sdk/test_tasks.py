"""`@task`: what a declaration holds, what can be wrong with it, how it is described, how it runs in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from springline.definitions.manifest import CodeLocation
from springline.sdk import (
    Asset,
    AssetStatus,
    Context,
    InvalidRequest,
    MaterializeResult,
    NonRetryable,
    Task,
    asset,
    asset_sensor,
    daily,
    materialize,
    schedule,
    task,
)
from springline.sdk.declaring import OPTIONS
from springline.sdk.describing import described
from springline.sdk.loading import examine
from springline.sdk.resolving import resolve
from springline.sdk.tasks import TASK_OPTIONS

DAYS = daily("2024-01-01")


def test_a_task_is_declared_as_an_asset_is_and_is_none() -> None:
    @task
    def prepare() -> int:
        """Make ready."""
        return 2

    @task(
        key="tell.all",
        deps=[prepare],
        partitions=DAYS,
        retries=3,
        retry_delay="5s",
        timeout="10m",
        heartbeat="30s",
        memory="256MiB",
        queue="mail",
        pool="smtp",
        priority=4,
        code_version="v2",
        description="Tell them.",
        tags={"team": "flights"},
        owners=["ada@example.com"],
    )
    async def tell(context: Context, raw: list[int]) -> None: ...

    assert (type(prepare), prepare.key, prepare.description, prepare()) == (Task, "prepare", "Make ready.", 2)
    assert not isinstance(prepare, Asset)
    assert (str(prepare), prepare.file) == ("<task prepare>", __file__)
    assert prepare.problems == tell.problems == []
    assert (tell.key, tell.retries, tell.retry_delay_ms, tell.timeout_ms) == ("tell.all", 3, 5_000, 600_000)
    assert tell.memory_bytes == 256 * 1024 * 1024
    assert (tell.heartbeat_ms, tell.queue, tell.pool, tell.priority, tell.code_version) == (
        *(30_000, "mail", "smtp"),
        *(4, "v2"),
    )
    assert (tell.arguments, tell.context_argument) == (["raw"], "context")


def test_a_task_has_every_option_of_an_asset_but_those_about_what_is_made() -> None:
    assert set(OPTIONS) - set(TASK_OPTIONS) == {"freshness", "checks"}


loose: Any = task
"""As people call it who know no types."""

WRONG: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: loose(freshness="1h")(lambda: None), "option freshness, which is one of assets", "the asset behind it"),
    (lambda: loose(checks=[])(lambda: None), "option checks, which is one of assets", "raise in the task"),
    (lambda: loose(max_retries=3)(lambda: None), "unknown option max_retries", "Did you mean retries?"),
    (lambda: loose("name")(lambda: None), "an option without a name", "@task(key='raw_flights')"),
    (lambda: loose(timeout=600)(lambda: None), "does not say its unit", "'10m'"),
    (lambda: loose(asset(lambda: None)), "is declared twice", "@asset or @task once"),
    (lambda: asset(loose(lambda: None)), "is declared twice", "@asset or @task once"),
]


@pytest.mark.parametrize(("declare", "said", "remedy"), WRONG)
def test_what_is_wrong_is_told(declare: Callable[[], Any], said: str, remedy: str) -> None:
    problems = declare().problems
    assert any(said in one.message and remedy in one.remedy for one in problems), problems
    assert {one.file for one in problems} == {__file__}


@task
def prepare() -> int:
    return 2


@asset(deps=[prepare])
def raw() -> list[int]:
    return [1, 2, 3]


@task
def scaled(raw: list[int], prepare: int) -> list[int]:
    return [one * prepare for one in raw]


@asset
def total(scaled: list[int]) -> int:
    return sum(scaled)


@task(deps=[total])
def tell() -> str:
    return "told"


ALL: list[Any] = [prepare, raw, scaled, total, tell]


def statuses(result: MaterializeResult) -> dict[str, tuple[str, str]]:
    return {key: (one.kind, one.status.value) for key, one in result.assets.items()}


def test_tasks_run_between_assets_and_hand_on_what_they_return() -> None:
    result = materialize(ALL)
    assert statuses(result) == {
        "prepare": ("task", "SUCCEEDED"),
        "raw": ("asset", "SUCCEEDED"),
        "scaled": ("task", "SUCCEEDED"),
        "total": ("asset", "SUCCEEDED"),
        "tell": ("task", "SUCCEEDED"),
    }
    assert (result.value(total), result.value(tell)) == (12, "told")


@pytest.mark.parametrize(
    ("select", "made"),
    [
        ("raw", {"prepare", "raw"}),
        ("tell", {"tell"}),
        (["raw", "total"], {"prepare", "raw", "scaled", "total"}),
        ("total*", {"total", "scaled", "prepare", "tell"}),
        ("*scaled", {"prepare", "raw", "scaled"}),
        ("*", {"prepare", "raw", "scaled", "total", "tell"}),
    ],
)
def test_a_task_comes_along_with_what_needs_it(select: Any, made: set[str]) -> None:
    needs_raw = "scaled" in made and "raw" not in made
    assert set(materialize(ALL, select, inputs={raw: [1]} if needs_raw else {}).assets) == made


def test_a_task_that_comes_along_has_needs_of_its_own() -> None:
    with pytest.raises(InvalidRequest, match="scaled takes the output of raw, which is not selected"):
        materialize(ALL, "total")
    assert materialize(ALL, "total", inputs={raw: [5]}).value(total) == 10


def test_a_failed_task_is_tried_again_and_what_needs_it_is_skipped() -> None:
    tries: list[int] = []

    @task(retries=2)
    def flaky(context: Context) -> int:
        tries.append(context.attempt)
        raise (ValueError if context.attempt < 2 else NonRetryable)("no luck")

    @asset(deps=[flaky])
    def behind() -> None: ...

    result = materialize([flaky, behind], raise_on_error=False)
    assert tries == [1, 2]
    assert (result["flaky"].status, result["flaky"].kind) == (AssetStatus.FAILED, "task")
    assert (result["behind"].status, result["behind"].skipped_by) == (AssetStatus.SKIPPED, "flaky")


def test_a_task_has_partitions_and_writes_tables(tmp_path: Path) -> None:
    @task(partitions=DAYS)
    def noted(context: Context) -> str:
        context.table("notes").append([{"day": context.partition_key}])
        return context.task_key

    @asset(partitions=DAYS)
    def made(noted: str) -> str:
        return noted

    result = materialize([noted, made], "made", partition_key="2024-01-31", tables=tmp_path)
    assert result.value(made) == "noted[2024-01-31]"
    assert [one.table for one in result["noted"].writes] == ["notes"]


FILE = """
from springline.sdk import *

disk = pool("disk", slots=1)

@task(partitions=daily("2024-01-01"), pool="disk", retries=1)
def prepare(): ...

@asset(partitions=daily("2024-01-01"))
def raw(prepare): ...

@task(deps=[raw])
def tell(): ...

nightly = schedule("nightly", "0 4 * * *", select="tell raw")
"""


def test_tasks_are_described_apart_from_assets(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(FILE)
    document = described(examine(file))
    assert document["problems"] == []
    assert (document["keys"], document["task_keys"]) == (["raw"], ["prepare", "tell"])
    part = CodeLocation.model_validate(
        {name: document[name] for name in ("location", "assets", "tasks", "schedules", "pools")}
    )
    prepare_, tell_ = part.tasks
    assert (prepare_.key, prepare_.retries, prepare_.pool, tell_.key) == ("prepare", 1, "disk", "tell")
    assert [one.asset for one in part.assets[0].dependencies] == ["prepare"]


def test_a_file_may_have_tasks_alone(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text("from springline.sdk import task\n\n@task\ndef sweep(): ...\n")
    assert examine(file).problems == []


def test_problems_between_tasks_and_assets_are_told_at_their_place(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(
        "from springline.sdk import *\n\n@asset\ndef a(b): ...\n\n@task\ndef b(a): ...\n"
        "\n@task(key='a')\ndef c(): ...\n"
    )
    told = [str(one) for one in examine(file).problems]
    assert told == [
        f"{file}:3: asset a depends on itself, by a -> b -> a. Take one of these dependencies out: no asset can be "
        "made before itself.",
        f"{file}:9: task a has the key of the asset at flow.py:3. Give each a key of its own.",
    ]


def test_a_schedule_may_select_a_task_and_must_take_what_it_needs() -> None:
    assert resolve(ALL, [schedule("nightly", "0 4 * * *", select="tell")]).problems == []
    (problem,) = resolve(ALL, [schedule("nightly", "0 4 * * *", select="total")]).problems
    assert "the selection has scaled, which takes the output of raw, and not raw" in problem.message


def test_a_sensor_of_an_asset_watches_no_task() -> None:
    one = asset_sensor("watch", asset="tell", select="raw")
    (problem,) = resolve(ALL, [], [one]).problems
    assert problem.message == "sensor watch watches tell, which is a task and is never materialized"
