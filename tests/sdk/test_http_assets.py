"""`http_asset`: assets that programs of any language make, in files with or without functions."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from springline.definitions.composing import compose
from springline.definitions.manifest import CodeLocation
from springline.sdk import (
    Asset,
    MaterializeFailed,
    NonRetryable,
    asset,
    daily,
    dep,
    external,
    http_asset,
    latest,
    materialize,
)
from springline.sdk.assets import _HTTP_OPTIONS
from springline.sdk.declaring import OPTIONS
from springline.sdk.describing import described
from springline.sdk.loading import examine
from springline.sdk.resolving import resolve

URL = "https://workers.example.com/prices"


@asset(partitions=daily("2024-01-01"))
def raw() -> int:
    return 1


def test_every_option() -> None:
    made = http_asset(
        "mart.prices",
        url=URL,
        deps=[raw, external("shop.orders"), dep("other", latest())],
        partitions=daily("2024-01-01"),
        retries=3,
        retry_delay="5s",
        timeout="10m",
        heartbeat=timedelta(seconds=30),
        priority=2,
        code_version="v2",
        description="What things cost.",
        tags={"team": "sales"},
        owners=["ada@example.com"],
    )
    assert made.problems == []
    assert (made.key, made.url, made.retries, made.timeout_ms) == ("mart.prices", URL, 3, 600_000)
    assert (made.file, made.arguments, made.context_argument) == (__file__, [], None)
    assert set(_HTTP_OPTIONS) == set(OPTIONS) - {"memory", "queue", "pool", "checks", "config"} | {"url"}


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"url": "prices.example.com"}, "url 'prices.example.com', which is no plain", "https://"),
    ({"url": None}, "has no url", "https://"),
    ({"key": "a/b"}, "holds '/'", "letters"),
    ({"queue": "gpu"}, "unknown option queue", "url"),
    ({"memory": "1GiB"}, "unknown option memory", "url"),
    ({"pool": "warehouse"}, "unknown option pool", "url"),
    ({"timeout_seconds": 3}, "unknown option timeout_seconds", "timeout"),
    ({"heartbeat": "20s", "timeout": "10s"}, "longer than the timeout", "another"),
]


@pytest.mark.parametrize(("options", "said", "remedy"), WRONG)
def test_a_wrong_option_is_told_and_does_not_raise(options: dict[str, Any], said: str, remedy: str) -> None:
    made: Asset[..., Any] = http_asset(**{"key": "prices", "url": URL, **options})
    (problem,) = made.problems
    assert said in problem.message
    assert remedy in problem.remedy


def test_its_output_is_nobodys_parameter() -> None:
    prices = http_asset("prices", url=URL)

    @asset
    def report(prices: int) -> None: ...

    @asset(deps=[prices])
    def chart() -> None: ...

    (problem,) = resolve([prices, report, chart]).problems
    assert problem.asset == "report"
    assert (
        "takes the output of prices as prices, and an asset that is made over HTTP hands none over" in problem.message
    )
    assert "deps=['prices']" in problem.remedy


def test_a_file_without_functions_is_deployed(tmp_path: Path) -> None:
    file = tmp_path / "prices.py"
    file.write_text(
        "from springline.sdk import http_asset\n"
        f"raw = http_asset('raw', url='{URL}/raw', retries=2)\n"
        f"http_asset('clean', url='{URL}/clean', deps=[raw])\n"
    )
    document = described(examine(file))
    assert document["problems"] == []
    assert [{name: one[name] for name in one if name != "priority"} for one in document["assets"]] == [
        {"key": "raw", "url": f"{URL}/raw", "retries": 2},
        {"key": "clean", "dependencies": [{"asset": "raw", "mapping": None, "argument": None}], "url": f"{URL}/clean"}
        | {"retries": 0},
    ]
    part = CodeLocation.model_validate({"location": document["location"], "assets": document["assets"]})
    assert compose(None, part).changes.added == ["clean", "raw"]


def test_materialize_says_that_it_cannot_make_it() -> None:
    made = http_asset("prices", url=URL, retries=5)
    with pytest.raises(MaterializeFailed, match="prices is made over HTTP, at https://") as failed:
        materialize([made])
    assert isinstance(failed.value.__cause__, NonRetryable)
    assert failed.value.result["prices"].attempts == 1
