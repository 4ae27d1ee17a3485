"""`lake.runs`: asking for runs from Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from springline.api.tokens import make_token
from springline.client import Springline
from springline.errors import Code, Refused
from springline.storage.memory import MemoryStore
from tests.control.payloads import finished, started
from tests.support.definitions import asset
from tests.support.local_api import ACME, SECRET, serving


@pytest.fixture
def lake() -> Iterator[Springline]:
    with serving(MemoryStore(name="lake")) as url, Springline(url, make_token(SECRET, ACME, subject="ada")) as lake:
        days = {"kind": "daily", "start": "2024-01-01"}
        takes = {"model": "Settings", "fields": [{"name": "rows", "type": "int", "default": "3", "refuses": ["array"]}]}
        body = {"location": "a", "assets": [asset("raw", partitions=days), asset("names", config=takes)]}
        lake._api.call("POST", "/api/v1/manifests", body=body)
        yield lake


def test_a_run_is_started_followed_and_cancelled(lake: Springline) -> None:
    more: dict[str, Any] = {"run_key": "k", "config": {"rows": 3}, "labels": {"team": "x"}, "priority": 3}
    more["max_concurrent_tasks"] = 2
    made = lake.runs.start("*", ["2024-01-01"], **more)
    assert (made["state"], made["tasks"], made["run_key"]) == ("RUNNING", 2, "k")
    assert lake.runs.start(["*"], "2024-01-01", **more) == made
    assert lake.runs.get(made["run_id"])["run"]["labels"] == {
        "team": "x",
        "springline/priority": "3",
        "springline/max_concurrent_tasks": "2",
    }
    assert [one["run_id"] for one in lake.state.runs(label="team=x")] == [made["run_id"]]
    assert lake.runs.cancel(made["run_id"], "wrong day")["state"] == "CANCELLED"
    with pytest.raises(Refused) as caught:
        lake.runs.cancel(made["run_id"])
    assert caught.value.refusal.code is Code.EVENT_CONFLICT


def test_what_an_asset_takes_is_shown_and_a_config_that_does_not_fit_is_refused(lake: Springline) -> None:
    assert lake.assets.get("names")["asset"]["config"]["fields"][0]["default"] == "3"
    assert [(one["asset"]["key"], one["asset"]["config"] is None) for one in lake.assets.list("a")] == [
        ("names", False),
        ("raw", True),
    ]
    with pytest.raises(Refused) as caught:
        lake.run("names", config={"rows": [3]})
    assert (caught.value.refusal.field, caught.value.refusal.value) == ("config.rows", [3])
    with pytest.raises(Refused) as caught:
        lake.assets.get("nams")
    assert caught.value.refusal.code is Code.NOT_FOUND


def test_what_failed_is_made_again(lake: Springline) -> None:
    first = lake.runs.start("names")
    assert lake.runs.start("names")["run_id"] != first["run_id"]
    run = first["run_id"]
    error = {"category": "USER_CODE", "message": "no", "retryable": False}
    lake.ledger.append([started("names", 1, run), finished("failed", "names", 1, run, error=error)])
    again = lake.runs.rerun(run)
    assert again["tasks"] == 1
    assert lake.runs.rerun(run, ["names"])["run_id"] != again["run_id"]
    with pytest.raises(Refused) as caught:
        lake.runs.rerun(run, ["nmes"])
    assert caught.value.refusal.field == "tasks"
    with pytest.raises(Refused) as caught:
        lake.runs.get("run/x")
    assert caught.value.refusal.status == 404
