"""`lake.schedules`, and explanations from Python."""

from __future__ import annotations

from typing import Any

import pytest

from springline.client import Springline
from springline.errors import Code, Refused
from tests.client.test_runs import lake as _lake

lake = _lake
HOURLY: dict[str, Any] = {"cron": "0 * * * *", "timezone": "Europe/Oslo"}


def test_a_schedule_is_defined_previewed_paused_resumed_and_triggered(lake: Springline) -> None:
    made = lake.schedules.define("hourly", "names", **HOURLY, overlap="skip")
    assert (made["changed"], made["enabled"]) == (True, True)
    assert lake.schedules.define("hourly", ["names"], **HOURLY, overlap="skip")["changed"] is False
    assert lake.schedules.get("hourly")["settings"]["overlap"] == "skip"
    first, second = lake.schedules.preview("hourly", 2, after="2025-03-30T00:30:00Z")
    assert (first["local"], second["local"]) == ("2025-03-30T03:00:00+02:00", "2025-03-30T04:00:00+02:00")
    assert lake.schedules.pause("hourly")["enabled"] is False
    assert lake.schedules.resume("hourly")["enabled"] is True
    run = lake.schedules.trigger("hourly")
    (tick,) = lake.schedules.ticks("hourly", status="triggered")
    assert tick["run_id"] == run["run_id"]
    assert lake.schedules.trigger("hourly")["run_id"] != run["run_id"]
    named = lake.schedules.trigger("hourly", request_id="by hand")
    assert lake.schedules.trigger("hourly", request_id="by hand")["run_id"] == named["run_id"]
    quarters = lake.schedules.define("hourly", "names", interval_seconds=900)
    assert quarters["changed"] is True


def test_what_ran_and_what_waits_is_explained(lake: Springline) -> None:
    lake.schedules.define("hourly", "names", **HOURLY)
    assert lake.state.explain("schedule", "hourly")["verdict"] == "NOT_DUE"
    run = lake.schedules.trigger("hourly")["run_id"]
    assert lake.state.explain("run", run)["waits_for"]
    found = lake.state.explain("task", run, task="names", since=None)
    assert (found["subject"], found["verdict"]) == ("task", "WAITS")


def test_an_unknown_schedule_is_refused(lake: Springline) -> None:
    for call in (lake.schedules.get, lake.schedules.pause, lake.schedules.trigger, lake.schedules.preview):
        with pytest.raises(Refused) as caught:
            call("none/such")
        assert caught.value.refusal.code is Code.NOT_FOUND
    with pytest.raises(Refused) as wrong:
        lake.schedules.define("hourly", "names", cron="61 * * * *")
    assert wrong.value.refusal.field == "cron"
