"""`lake.backfills`: backfills from Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from springline.api.tokens import make_token
from springline.client import Springline
from springline.errors import Code, Refused
from springline.storage.memory import MemoryStore
from tests.support.definitions import asset
from tests.support.local_api import ACME, SECRET, serving


@pytest.fixture
def lake() -> Iterator[Springline]:
    with serving(MemoryStore(name="lake")) as url, Springline(url, make_token(SECRET, ACME, subject="ada")) as lake:
        body = {"location": "a", "assets": [asset("raw", partitions={"kind": "daily", "start": "2024-01-01"})]}
        lake._api.call("POST", "/api/v1/manifests", body=body)
        yield lake


def test_a_backfill_is_created_halted_and_ended(lake: Springline) -> None:
    made = lake.backfills.create("raw", start="2024-01-01", end="2024-01-25", request_id="r")
    assert (made["state"], made["total_partitions"], made["chunks"]) == ("RUNNING", 25, 3)
    assert lake.backfills.create(["raw"], start="2024-01-01", end="2024-01-25", request_id="r") == made
    name = made["backfill_id"]
    assert lake.backfills.get(name)["progress"]["waiting"] == 25
    assert [one["backfill_id"] for one in lake.backfills.list(state="RUNNING")] == [name]
    assert list(lake.backfills.chunks(name, outcome="failed")) == []
    assert lake.backfills.pause(name)["state"] == "PAUSED"
    assert lake.backfills.wait(name, timeout_s=0)["backfill"]["state"] == "PAUSED"
    assert lake.backfills.resume(name)["state"] == "RUNNING"
    assert lake.backfills.cancel(name)["state"] == "CANCELLED"
    assert lake.backfills.wait(name)["backfill"]["state"] == "CANCELLED"
    with pytest.raises(Refused) as caught:
        lake.backfills.retry_failed(name)
    assert caught.value.refusal.code is Code.EVENT_CONFLICT


def test_partitions_are_said_in_each_way_and_a_dry_run_writes_nothing(lake: Springline) -> None:
    tried = lake.backfills.create("raw", ["2024-01-02", "2024-01-01"], dry_run=True)
    assert (tried["state"], tried["first"]) == ("PLANNED", ["2024-01-01", "2024-01-02"])
    assert lake.backfills.create("raw", match="2024-*-01", dry_run=True, chunk_size=1)["chunks"] == 12
    assert list(lake.backfills.list()) == []
    with pytest.raises(Refused) as caught:
        lake.backfills.create("raw")
    assert caught.value.refusal.field == "partitions"


def test_what_is_stale_is_made_by_a_backfill(lake: Springline) -> None:
    asked: dict[str, Any] = {"start": "2024-01-01", "end": "2024-01-04"}
    tried = lake.backfills.create("raw", **asked, stale=True, reasons=["NEVER_MATERIALIZED"], dry_run=True)
    assert tried["stale"]["assets"] == [{"asset": "raw", "stale": 4, "states": {"NEVER_MATERIALIZED": 4}}]
    made = lake.backfills.create("raw", **asked, stale=True, request_id="s")
    assert (made["total_partitions"], made["assets"], made["stale"]["partitions"]) == (4, ["raw"], 4)
    assert lake.backfills.create("raw", **asked, stale=True, request_id="s") == made
    assert lake.backfills.get(made["backfill_id"])["settings"]["asked_by"] == "ada"
    none = lake.backfills.create("raw", **asked, stale=True, reasons=["CODE_CHANGED"])
    assert (none["backfill_id"], none["state"]) == (None, "NOTHING_STALE")
